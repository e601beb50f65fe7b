"""`cache_mounts`: what package managers download is kept between builds, and two builds do not write it at once.

In: a `Subject`. Out: a finding for each RUN that downloads without a cache mount, and for each mount of apt's or dpkg's
folders that several builds may write at once; a warning where services mount one cache with different sharing.
Touches nothing.

Sources: the Dockerfile reference, "RUN --mount=type=cache", whose example for apt has `sharing=locked`, "as it needs
exclusive access to its data"; BuildKit's `solver/llbsolver/mounts`: each mount takes the cache by its own sharing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from buildorch.policy.unread import unread
from buildorch.record import Finding

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from buildorch.dockerfile import Dockerfile, Mount, Run
    from buildorch.policy.subject import Subject
    from buildorch.services.types import Level

_ARCHIVES, _LISTS = "/var/cache/apt", "/var/lib/apt"
_EXCLUSIVE = (_ARCHIVES, _LISTS, "/var/lib/dpkg")


def rule(subject: Subject) -> Iterator[Finding]:
    """Judge each RUN, and its caches beside those of the plan's other services."""
    severity, dockerfile = subject.spec.policy.cache_mounts, subject.dockerfile
    if dockerfile is None:
        if severity is not None:
            yield unread("cache_mounts", "cache mounts", key="cache_mounts")
        return
    if severity is not None:
        for run in dockerfile.runs:
            yield from _downloads(run, severity)
            yield from _unlocked(run, severity)
    yield from _differing(dockerfile, subject.mounts_elsewhere)


def sharings(dockerfile: Dockerfile) -> dict[str, str]:
    """Cache mount id -> the sharing that it is first mounted with; without those that variables hide."""
    return {name: sharing for name, (sharing, _) in _first_mounts(dockerfile).items()}


def _downloads(run: Run, severity: Level) -> Iterator[Finding]:
    for program, places in _lacking(run).items():
        mounts = " ".join(f"--mount=type=cache,target={place}{_locked(place)}" for place in places)
        yield Finding(
            rule="cache_mounts",
            severity=severity,
            message=f"line {run.line} of the Dockerfile runs {program} without a cache mount at "
            f"{' and '.join(places)}: it downloads everything again each time",
            hint=f"write RUN {mounts} ...",
            line=run.line,
        )


def _lacking(run: Run) -> dict[str, dict[str, None]]:
    """Package manager -> where it has no cache mount. But for apt, any cache mount is taken to be for all of a RUN."""
    from buildorch.dockerfile.shell import programs  # noqa: PLC0415 - only where the rule is on
    from buildorch.policy.managers import downloading  # noqa: PLC0415

    caches = [mount for mount in run.mounts if mount.kind in {"cache", None}]
    lacking: dict[str, dict[str, None]] = {}
    for words in programs(run.command):
        if found := downloading(words):
            program, command, manager = found
            is_apt = manager.place == _ARCHIVES
            place = _LISTS if is_apt and command == "update" else manager.place
            if not any(_overlap(mount, place) for mount in caches) if is_apt else not caches:
                lacking.setdefault(program, {})[place] = None
    return lacking


def _unlocked(run: Run, severity: Level) -> Iterator[Finding]:
    for mount in run.mounts:
        if mount.sharing == "shared" and mount.target and any(_overlap(mount, place) for place in _EXCLUSIVE):
            yield Finding(
                rule="cache_mounts",
                severity=severity,
                message=f"line {run.line} of the Dockerfile mounts {mount.target} with sharing=shared, "
                "so several builds may write it at once, and apt and dpkg need it alone",
                hint="add sharing=locked to the mount",
                line=run.line,
            )


def _differing(dockerfile: Dockerfile, elsewhere: Mapping[str, Mapping[str, str]]) -> Iterator[Finding]:
    for name, (sharing, line) in _first_mounts(dockerfile).items():
        for service, other in elsewhere.get(name, {}).items():
            if other != sharing:
                yield Finding(
                    rule="cache_mounts",
                    severity="warning",
                    message=f"line {line} of the Dockerfile mounts the cache {name} with sharing={sharing}, and the "
                    f"service {service} mounts it with sharing={other}",
                    hint="mount it alike in both, or give each its own id: a lock keeps out only who asks for it too",
                    line=line,
                )


def _first_mounts(dockerfile: Dockerfile) -> dict[str, tuple[str, int]]:
    """Cache mount id -> the sharing and the line it is first mounted with."""
    found: dict[str, tuple[str, int]] = {}
    for run in dockerfile.runs:
        for mount in run.mounts:
            if mount.kind == "cache" and mount.id and mount.sharing:
                found.setdefault(mount.id, (mount.sharing, run.line))
    return found


def _overlap(mount: Mount, place: str) -> bool:
    """Whether a mount is at a place, above or below it; also where it is not known where the mount is."""
    if mount.target is None:
        return True
    target = "/" + mount.target.strip("/")
    return f"{target}/".startswith(f"{place}/") or f"{place}/".startswith(f"{target}/")


def _locked(place: str) -> str:
    return ",sharing=locked" if place in _EXCLUSIVE else ""
