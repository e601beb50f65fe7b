"""Which services of a run are built and which are skipped, and why: `decide_all` over every service at once.

In: a plan's inputs, the ledger's last records, where images are. Out: `Decided` values. Touches: through what it is
given, the engine or registries that hold the images, and the ledger.
"""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime
from functools import cache
from typing import TYPE_CHECKING

from buildorch import fingerprint
from buildorch.bases.names import key
from buildorch.changes import Snapshot, compare, summary
from buildorch.fingerprint import Build, Skip
from buildorch.presence.wanted import wanted
from buildorch.record import NOT_MOVED, Steps
from buildorch.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from buildorch.changes import Change
    from buildorch.fingerprint import Decision, Environment, Fingerprint
    from buildorch.inputs import Inputs
    from buildorch.plan import Solve
    from buildorch.presence import Presence, Wanted
    from buildorch.record import ServiceRecord

    Ask = Callable[[Sequence[Wanted]], Sequence[Presence]]

UNCHANGED = "nothing changed"
_INDEX = {"annotation", "attestations", "flags", "image", "output"}


@dataclass(frozen=True, slots=True)
class Decided:
    """What is to be done for one service."""

    inputs: Inputs
    fingerprint: Fingerprint
    decision: Decision
    changes: tuple[Change, ...] = ()
    """What differs from the last build; empty where nothing does, or there is none to compare with."""
    untagged: tuple[str, ...] = ()
    """Names that a skipped image does not have yet."""
    named: tuple[str, ...] = ()
    """Names that the last image has, where this run wants it."""
    deployed: ServiceRecord | None = None
    """The last image, whose digest stays if the build gives the same image under another; None where there is none, or
    its index would be made otherwise today."""

    @property
    def reason(self) -> str:
        """Why, in one line."""
        return self.decision.reason if isinstance(self.decision, Build) else UNCHANGED


@dataclass(frozen=True, slots=True)
class Past:
    """What earlier runs left."""

    images: Mapping[str, ServiceRecord]
    """Service -> its last record that has an image."""
    known: frozenset[str]
    """Every service that was ever recorded."""
    snapshot: Callable[[str], bytes | None]
    """Service -> what was kept of the inputs of its last image."""


def decide_all(
    inputs: Mapping[str, Inputs],
    past: Past,
    *,
    environment: Environment,
    asked: str,
    presences: Mapping[str, Mapping[str, Presence]],
) -> dict[str, Decided]:
    """Build or skip, for every service of a plan in its order.

    Args:
        inputs: what was read, in dependency order.
        past: what to compare it with.
        environment: what the builds would take from around them.
        asked: why every service is built whatever changed; empty to skip what can be.
        presences: what `presences` found; unknown where it does not have a service.
    """
    prints = {
        name: fingerprint.compute(
            one.solve, one.observed, environment=environment, services=identities(one.solve, past.images)
        )
        for name, one in inputs.items()
    }
    decided: dict[str, Decided] = {}
    for name, one in inputs.items():
        decided[name] = _decide(one, prints[name], past, presences.get(name, {}), asked=asked, before=decided)
    return decided


def presences(
    solves: Iterable[Solve], past: Past, *, in_engine: Ask, in_registries: Ask
) -> dict[str, dict[str, Presence]]:
    """Service -> name of its last image -> whether it is where this run wants it, for all that may be skipped.

    Args:
        solves: what is to be built.
        past: what to look for.
        in_engine: asks the engine which images it has.
        in_registries: asks registries which images they have.
    """
    images: dict[str, list[tuple[str, Wanted]]] = {"engine": [], "registry": [], "nowhere": []}
    for solve in solves:
        last = past.images.get(solve.name)
        if last is not None and last.fingerprint is not None:
            named = dataclasses.replace(last, references=solve.references)
            images[solve.destination].extend((solve.name, image) for image in wanted(named))
    found: dict[str, dict[str, Presence]] = {}
    for place, ask in (("engine", in_engine), ("registry", in_registries)):
        here = images[place]
        answers = ask([image for _, image in here]) if here else ()
        for (name, image), presence in zip(here, answers, strict=True):
            found.setdefault(name, {})[image.reference] = presence
    return found


def identities(solve: Solve, images: Mapping[str, ServiceRecord]) -> dict[str, str]:
    """Service that a solve builds on -> what its image is, whatever it is called: its platforms' manifests."""
    return {service: identity(images[service]) for service in solve.depends_on if service in images}


def identity(record: ServiceRecord) -> str:
    """What an image is, without its attestations: the digests of its platforms' manifests, or configs."""
    platforms = sorted(record.platforms.items())
    return " ".join(f"{name}={one.manifest_digest or one.config_digest}" for name, one in platforms)


def skipped(decided: Decided, record: ServiceRecord) -> ServiceRecord:
    """The record of a service that was not built: the image's own facts, and what the rules said of it."""
    solve = decided.inputs.solve
    return dataclasses.replace(
        record,
        status="skipped",
        reason=decided.reason,
        reference=solve.references[0],
        references=solve.references,
        unchanged=True,
        steps=Steps(),
        timeline=(),
        started_at=None,
        finished_at=None,
        duration_s=0.0,
        attempts=0,
        # That an image was not published is said of the run that did not.
        warnings=tuple(text for text in record.warnings if not text.startswith(NOT_MOVED)),
        error=None,
    )


def made_from(one: Inputs, records: Mapping[str, ServiceRecord], *, environment: Environment) -> Fingerprint:
    """The fingerprint of what was built.

    Args:
        one: what it was built from.
        records: what came out of the services it builds on.
        environment: what the build took from around it.
    """
    services = identities(one.solve, records)
    return fingerprint.compute(one.solve, one.observed, environment=environment, services=services)


def is_proven(one: Inputs, record: ServiceRecord) -> bool:
    """Whether a build's image is proven to be made from its inputs: there is one, and nothing about them is unknown."""
    if record.digest is None or one.observed.unproven:
        return False
    return all(_taken(one.solve, record, reference, digest) for reference, digest in one.observed.bases.items())


def _taken(solve: Solve, record: ServiceRecord, reference: str, digest: str) -> bool:
    """Whether the build took a base image with the digest that was looked at: it was held to it, or says so itself.

    An image is not held to a digest where a stage has its name (`buildorch.bases.pins`).
    """
    contexts = (value for value in solve.contexts.values() if isinstance(value, str))
    held = any(digest in text for text in (reference, solve.frontend, *solve.pins.values(), *contexts))
    seen = {key(name): found for name, found in record.bases.items()}.get(key(reference))
    return held if seen is None else seen == digest


def _decide(
    one: Inputs,
    now: Fingerprint,
    past: Past,
    presences: Mapping[str, Presence],
    *,
    asked: str,
    before: Mapping[str, Decided],
) -> Decided:
    name = one.solve.name
    last = past.images.get(name)
    snapshot = cache(lambda: _snapshot(past, name))  # read only where something is to be compared, and once
    changes: tuple[Change, ...] = ()
    if last is not None and last.fingerprint not in {None, now.digest} and (kept := snapshot()):
        changes = compare(kept, one.snapshot(now))
    decision = fingerprint.decide(
        now,
        last,
        never="the last build gave no image" if name in past.known else "first build",
        asked=asked,
        unproven=one.observed.unproven,
        building=[base for base in one.solve.depends_on if isinstance(before[base].decision, Build)],
        changes=summary(changes) or "what the last build read is not known",
        gone=_gone(presences),
        expired=_expired(one.solve, last),
    )
    untagged = tuple(reference for reference, found in presences.items() if found.state == "untagged")
    named = tuple(reference for reference, found in presences.items() if found.state == "present")
    if isinstance(decision, Skip):
        return Decided(one, now, decision, changes, untagged, named)
    return Decided(one, now, decision, changes, named=named, deployed=_deployed(now, last, snapshot))


def _gone(presences: Mapping[str, Presence]) -> str:
    """Why an image is not, or not surely, there under each of its names."""
    if not presences:
        return "its image was not looked for"
    return next((found.reason for found in presences.values() if found.state in {"gone", "unknown"}), "")


def _snapshot(past: Past, service: str) -> Snapshot | None:
    """What the last image was made from; None where nothing was kept, or it cannot be read."""
    data = past.snapshot(service)
    try:
        return Snapshot.from_bytes(data) if data else None
    except ValueError:
        return None


def _deployed(
    now: Fingerprint, last: ServiceRecord | None, snapshot: Callable[[], Snapshot | None]
) -> ServiceRecord | None:
    """The last record, if an image with its manifests may keep its index: the index's own settings are the same."""
    if last is None or last.index_digest is None:
        return None  # without an index, the same image has the same digest
    before = snapshot()
    return last if before and _of_the_index(before.inputs) == _of_the_index(now.inputs) else None


def _of_the_index(inputs: Mapping[str, str]) -> dict[str, str]:
    """The inputs that an index can show where its manifests do not."""
    return {name: value for name, value in inputs.items() if name.partition(" ")[0] in _INDEX}


def _expired(solve: Solve, last: ServiceRecord | None) -> str:
    """Why the last image is too old for `max_age`; empty where it is not, or there is no such limit."""
    limit = solve.spec.max_age
    if limit is None or last is None or last.built_at is None:
        return ""
    age = (datetime.now(UTC) - datetime.fromisoformat(last.built_at)).total_seconds()
    return f"older than max_age: built {last.built_at}" if not 0 <= age < limit else ""
