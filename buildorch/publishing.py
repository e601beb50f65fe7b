"""Giving an image that was pushed its names: last, once all of it is there and nothing speaks against it.

In: a solve, its record. Out: the record with the names its image has now. Touches: a registry's tags.

BuildKit is given one tag to push under, `plan.STAGING_TAG`: to push by a digest alone is what the docker driver refuses
(docker/buildx `build/opt.go`). So the names that people deploy move here, and only to what was looked at.
"""

from __future__ import annotations

import dataclasses
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from buildorch.errors import EXIT_UNREACHABLE, EngineError, RegistryError
from buildorch.oci import ImageReference
from buildorch.quantities import some_of
from buildorch.record import NOT_MOVED, Failure, FailureKind
from buildorch.registry import Repository
from buildorch.retagging import retag

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from buildorch.engine import Engine
    from buildorch.plan import Solve
    from buildorch.record import ServiceRecord

NAMED_AT_MOST = 3
AT_ONCE = 16
"""How many services are looked at, or named, side by side: what costs is the way there and back."""


def objection(record: ServiceRecord) -> str:
    """What speaks against giving an image its names; empty where nothing does."""
    if record.status not in {"built", "skipped"}:
        return record.status
    broken = dict.fromkeys(finding.rule for finding in record.findings if finding.severity == "error")
    return f"against the policy: {', '.join(broken)}" if broken else ""


def objections(records: Mapping[str, ServiceRecord], names: Iterable[str]) -> str:
    """What speaks against publishing all of these services; empty where nothing does."""
    found = {name: objection(records[name]) if name in records else "not built" for name in names}
    against = tuple(f"{name} is {what}" for name, what in found.items() if what)
    return f"all or none are published, and {some_of(against, at_most=NAMED_AT_MOST)}" if against else ""


def withhold(record: ServiceRecord, why: str, *, names: tuple[str, ...] = ()) -> ServiceRecord:
    """The record of an image that does not get its names.

    Args:
        record: with the names it was to get.
        why: for people.
        names: those it has all the same.
    """
    return dataclasses.replace(record, references=names, warnings=(*record.warnings, NOT_MOVED + why))


def checked(records: Mapping[str, ServiceRecord]) -> dict[str, ServiceRecord]:
    """The records of images that a registry holds whole; of the others with the failure, and not to be skipped later.

    Their indexes, manifests and configs were fetched and hashed when they were measured. Every layer is asked for here,
    since one whose size was known from another repository was not.
    """
    with ThreadPoolExecutor(AT_ONCE) as threads:
        return dict(zip(records, threads.map(_checked, records.values()), strict=True))


def _checked(record: ServiceRecord) -> ServiceRecord:
    repository = Repository.of(ImageReference.parse(record.reference))
    try:
        for digest in {layer.digest for platform in record.platforms.values() for layer in platform.layers}:
            repository.require_blob(digest)
    except RegistryError as error:
        found = _unpublished(record, f"its image is not whole at the registry: {error}", hint=error.hint)
        return dataclasses.replace(found, fingerprint=None)
    return record


def publish(
    solve: Solve, record: ServiceRecord, *, engine: Engine, names: tuple[str, ...] | None = None
) -> ServiceRecord:
    """Let a service's names, or only some, name its image; the record with them, or with the failure."""
    lacking = record.references if names is None else names
    try:
        retag(solve, str(record.digest), lacking, engine=engine)
    except EngineError as error:
        named = tuple(reference for reference in record.references if reference not in lacking)
        message = f"its image is there as {record.digest}, but could not be named {', '.join(lacking)}: {error}"
        return dataclasses.replace(_unpublished(record, message, hint=error.hint), references=named)
    return record


def publish_all(
    solves: Mapping[str, Solve], records: Mapping[str, ServiceRecord], *, engine: Engine
) -> dict[str, ServiceRecord]:
    """`publish` for many services: what fails of one keeps none of the others, as the next run names what is left."""
    with ThreadPoolExecutor(AT_ONCE) as threads:
        return dict(
            zip(
                solves,
                threads.map(lambda solve: publish(solve, records[solve.name], engine=engine), solves.values()),
                strict=True,
            )
        )


def _unpublished(record: ServiceRecord, message: str, *, hint: str) -> ServiceRecord:
    failure = Failure(
        kind=FailureKind.UNPUBLISHED,
        message=message,
        hint=hint or "run it again: what is there already is not built",
        exit_code=EXIT_UNREACHABLE,
    )
    return dataclasses.replace(record, status="failed", references=(), error=failure)
