"""What a services file asks of this machine, and questions to the disk and the clocks.

In: a services file's path, folders. Out: facts. Touches: the services file and its Dockerfiles, `statvfs`.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from buildorch import preparing, registry
from buildorch.bases.named import named
from buildorch.doctor.judging import Clock, Space, ahead_s
from buildorch.errors import UsageError
from buildorch.oci import ImageReference
from buildorch.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Iterable

    from buildorch.plan import Solve


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What the services of a file want of the machine."""

    services: int = 0
    builders: dict[str, tuple[str, ...]]
    """Builder that services name -> those services."""
    platforms: dict[str, dict[str, tuple[str, ...]]]
    """Builder, empty for the one in use -> platform -> the services that want it."""
    pushed: dict[str, tuple[str, ...]]
    """Registry -> the services whose images have its name."""
    pulled: dict[str, tuple[str, ...]]
    """Registry -> the base images that come from it."""
    several: tuple[str, ...]
    """The services of several platforms."""


@dataclass(frozen=True, slots=True)
class Greeted:
    """A registry's answer, its clock beside ours, and whether docker has a login for it."""

    greeting: registry.Greeting
    clock: Clock | None
    has_login: bool


def wanted_by(file: Path) -> Wanted:
    """What a services file asks of this machine.

    Raises:
        UsageError: it cannot be used.
    """
    solves = preparing.plan(preparing.BuildRequest(file=file)).plan.solves
    names = {solve.builder or "" for solve in solves}
    bases = [base for solve in solves for base in _bases(solve)]
    return Wanted(
        services=len(solves),
        builders=_grouped((solve.builder, solve.name) for solve in solves if solve.builder),
        platforms={name: _platforms(solves, name) for name in sorted(names)},
        pushed=_grouped((host, solve.name) for solve in solves for host in _hosts(solve.references) if host),
        pulled=_grouped((host or registry.HUB, base) for base in bases for host in _hosts([base])),
        several=tuple(solve.name for solve in solves if len(solve.platforms) > 1),
    )


def greet(host: str, *, scheme: str, timeout_s: float) -> Greeted:
    """Ask a registry how it is.

    Raises:
        RegistryError: it cannot be reached.
    """
    asked = datetime.now(UTC)
    greeting = registry.greet(host, scheme=scheme, timeout_s=timeout_s)
    answered = datetime.now(UTC)
    clock = None
    if greeting.date:
        clock = Clock(host, ahead_s(greeting.date, asked=asked, answered=answered, grain_s=1.0))
    return Greeted(greeting, clock, greeting.wants_login and registry.has_login(host))


def mirror_of(url: str) -> tuple[str, str]:
    """Host and scheme of an engine's mirror; empty where its URL is none."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "", ""
    return parts.netloc.rpartition("@")[2], parts.scheme


def space_of(folder: Path) -> Space | None:
    """What the file system of a folder has left, or of the nearest one above it; None where it does not say."""
    there = next((one for one in (folder, *folder.parents) if one.is_dir()), None)
    try:
        found = os.statvfs(there or "/")
    except OSError:
        return None
    return Space(str(folder), found.f_bavail * found.f_frsize, found.f_favail, found.f_files)


def _platforms(solves: Iterable[Solve], builder: str) -> dict[str, tuple[str, ...]]:
    return _grouped(
        (one, solve.name) for solve in solves if (solve.builder or "") == builder for one in solve.platforms
    )


def _grouped(pairs: Iterable[tuple[str, str]]) -> dict[str, tuple[str, ...]]:
    groups: dict[str, dict[str, None]] = {}
    for key, value in pairs:
        groups.setdefault(key, {})[value] = None
    return {key: tuple(values) for key, values in groups.items()}


def _hosts(references: Iterable[str]) -> set[str]:
    """The registries in names; empty for Docker Hub, and nothing for what is no name."""
    found: set[str] = set()
    for reference in references:
        try:
            host = ImageReference.parse(reference).registry or ""
        except UsageError:
            continue
        found.add("" if host in {"docker.io", "index.docker.io"} else host)
    return found


def _bases(solve: Solve) -> tuple[str, ...]:
    try:
        return named(solve)
    except UsageError:
        return ()
