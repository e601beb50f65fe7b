"""The command `lock`: the plan's base images, the lock file beside the services file, and what to say of both.

In: the services file's path and options. Out: text or JSON, and the exit code. Touches: the Dockerfiles, the engine for
its mirrors, registries, and the lock file.
"""

from __future__ import annotations

import json
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any

import click

from buildorch import preparing, project
from buildorch.bases import FILE_NAME, Lock, Renewal, Unresolved, end_of_life, renew, resolve_bases
from buildorch.bases.lockfile import read
from buildorch.bases.named import named
from buildorch.bases.names import key
from buildorch.errors import (
    EXIT_BUILD_FAILED,
    EXIT_OK,
    EngineError,
    RegistryError,
    UsageError,
    did_you_mean,
)
from buildorch.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from buildorch.plan import Plan

DEADLINE_S = 30.0
"""How long all registries together may take, in seconds: nobody waits for a build here, so more than there."""


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What is said of one run of the command."""

    renewal: Renewal
    services: Mapping[str, Sequence[str]]
    """Image -> the services that name it, those with a digest of their own too."""
    warnings: tuple[str, ...]
    check: bool


def run(file: Path, references: Sequence[str], *, update: bool, check: bool, output_format: str) -> int:
    """Write the lock file, or with `check` only judge it.

    Raises:
        UsageError: the request, the services file, a Dockerfile or the lock file cannot be used.
        RegistryError: an image that should be in the file was found nowhere; the rest is written.
    """
    if references and not update:
        raise UsageError(
            f"{', '.join(references)} would be ignored: images are named to update them",
            hint=f"buildorch lock --update {' '.join(references)}",
        )
    if check and update:
        raise UsageError("--check writes nothing, and --update does", hint="give one of them")
    planned = preparing.plan(preparing.BuildRequest(file=file))
    services = _services(planned.plan)
    names = tuple(name for name in services if "@" not in name)
    path = planned.project.root / FILE_NAME
    old = read(path) or Lock({})
    chosen = _chosen(references, names) if update else ()
    mirrors, warnings = _mirrors()
    today = _today(old, names, chosen=chosen, mirrors=mirrors, check=check)
    now = datetime.now(UTC).replace(microsecond=0)
    renewal = renew(old, names, today=today, update=chosen, now=now)
    outcome = _Outcome(renewal, services, (*warnings, *_warnings(renewal, services, now.date(), old)), check)
    if not check and (renewal.lock != old or not path.exists()):
        project.write_atomically(path, renewal.lock.text(), unwritable=_unwritable)
    click.echo(json.dumps(_plain(outcome), indent=2) if output_format == "json" else _text(outcome, old))
    if check:
        return EXIT_OK if renewal.is_current else EXIT_BUILD_FAILED
    if renewal.missing:
        facts = "; ".join(f"{name}: {reason}" for name, reason in renewal.missing.items())
        raise RegistryError(f"no digest for {facts}", hint="run `buildorch lock` again when the registry has it")
    return EXIT_OK


def _services(plan: Plan) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for solve in plan.solves:
        for name in dict.fromkeys(map(key, named(solve))):
            found.setdefault(name, []).append(solve.name)
    return dict(sorted(found.items()))


def _chosen(references: Sequence[str], names: Sequence[str]) -> tuple[str, ...]:
    """The images to update: all where none is named."""
    chosen = tuple(map(key, references)) or tuple(names)
    for name in chosen:
        if name not in names:
            hint = did_you_mean(name, names) or f"the base images are: {', '.join(names) or 'none'}"
            raise UsageError(f"no Dockerfile names the image {name!r}", hint=hint)
    return chosen


def _mirrors() -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The engine's mirrors of Docker Hub, and a warning where no engine answers: the hub itself is asked then."""
    from buildorch.buildx import client  # noqa: PLC0415
    from buildorch.engine import Engine  # noqa: PLC0415

    try:
        return Engine.at(client.find_endpoint()).info().mirrors, ()
    except EngineError as error:
        return (), (f"mirrors are not asked: {error}",)


def _today(
    old: Lock, names: Sequence[str], *, chosen: Sequence[str], mirrors: Sequence[str], check: bool
) -> dict[str, Any]:
    """What registries say of each image; of one that goes into the file, by the manifest itself."""
    kept = [name for name in names if name in old.bases and name not in chosen]
    fresh = [name for name in names if name not in kept]
    found = resolve_bases(kept, lock=None, mirrors=mirrors)
    if check:
        return {**found, **{name: Unresolved(name, f"it is not in {FILE_NAME}") for name in fresh}}
    return {**found, **resolve_bases(fresh, lock=None, mirrors=mirrors, verify=True, deadline_s=DEADLINE_S)}


def _unwritable(path: str, reason: str) -> UsageError:
    return UsageError(f"the lock file cannot be written to {path}: {reason}", hint="is the folder yours?")


def _warnings(renewal: Renewal, services: Mapping[str, Sequence[str]], today: date, old: Lock) -> Iterator[str]:
    for name, base in renewal.moved.items():
        entry = old.bases[name]
        yield (
            f"{name} has moved since {entry.resolved_at:%Y-%m-%d}: it was {_short(entry.digest)} at {entry.registry}, "
            f"and is {_short(base.digest)} at {base.registry}; `buildorch lock --update {name}` takes it"
        )
    for name, reason in renewal.unknown.items():
        yield f"nobody says whether {name} has moved: {reason}"
    for name, users in services.items():
        if ended := end_of_life(name, today):
            yield f"{name} is past its end of life since {ended}: nobody mends it ({', '.join(users)})"


def _text(outcome: _Outcome, old: Lock) -> str:
    renewal = outcome.renewal
    width = max(map(len, (*renewal.lock.bases, *renewal.removed, *renewal.missing)), default=0)
    rows = []
    for name in sorted({*renewal.lock.bases, *renewal.removed, *renewal.missing}):
        word = _word(name, outcome)
        if name in renewal.lock.bases:
            entry = renewal.lock.bases[name]
            before = f"{_short(old.bases[name].digest)} -> " if word == "updated" else ""
            fact = f"{before}{_short(entry.digest)}  {entry.registry}"
        else:
            fact = renewal.missing.get(name, "no Dockerfile names it")
        rows.append(f"{word:<8} {name:<{width}}  {fact}")
    rows += [f"warning: {warning}" for warning in outcome.warnings]
    if outcome.check and not renewal.is_current:
        return "\n".join([*rows, f"{FILE_NAME} does not fit the Dockerfiles: run `buildorch lock`"])
    number = len(renewal.lock.bases)
    same = renewal.lock == old
    rows.append(f"{FILE_NAME} {'is up to date' if same else 'written'}: {number} base image{'s' * (number != 1)}")
    return "\n".join(rows)


def _word(name: str, outcome: _Outcome) -> str:
    renewal, gone = outcome.renewal, "unused" if outcome.check else "removed"
    words = {"missing": renewal.missing, "added": renewal.added, "updated": renewal.updated, gone: renewal.removed}
    return next((word for word, holding in words.items() if name in holding), "kept")


def _plain(outcome: _Outcome) -> dict[str, Any]:
    renewal = outcome.renewal
    return {
        "schema": "buildorch.lock/1",
        "up_to_date": renewal.is_current if outcome.check else not renewal.missing,
        "bases": {
            name: {
                "change": _word(name, outcome),
                "digest": entry.digest,
                "registry": entry.registry,
                "resolved_at": f"{entry.resolved_at:%Y-%m-%dT%H:%M:%SZ}",
                "moved_to": renewal.moved[name].digest if name in renewal.moved else None,
                "services": list(outcome.services[name]),
            }
            for name, entry in sorted(renewal.lock.bases.items())
        },
        "missing": dict(renewal.missing),
        "removed": list(renewal.removed),
        "warnings": list(outcome.warnings),
    }


def _short(digest: str) -> str:
    """As the run's table shows a digest: enough to compare by eye."""
    return digest[:19]
