"""Giving an image that was pushed its names: last, once all of it is there and nothing speaks against it.

In: a solve, its record. Out: the record with the names its image has now. Touches: a registry's tags.

BuildKit is given one tag to push under, `services.STAGING_TAG`: to push by a digest alone is what the docker driver
refuses (docker/buildx `build/opt.go`). So the names that people deploy move here, and only to what was looked at.
"""

from __future__ import annotations

import dataclasses
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

from buildorch.buildx.failures import failure
from buildorch.errors import EngineError, RegistryError
from buildorch.oci import ImageReference
from buildorch.quantities import some_of
from buildorch.record import NOT_MOVED, FailureKind
from buildorch.registry import Repository
from buildorch.retagging import retag

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from buildorch.engine import Engine
    from buildorch.plan import Solve
    from buildorch.record import ServiceRecord

AT_ONCE = 16
"""How many layers are asked for, or services named, side by side: what costs is the way there and back."""


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
    return f"all or none are published, and {some_of(against)}" if against else ""


def withhold(solve: Solve, record: ServiceRecord, why: str) -> ServiceRecord:
    """The record of an image that does not get the names it lacks; itself where it lacks none."""
    if record.references == solve.references:
        return record
    return dataclasses.replace(record, warnings=(*record.warnings, NOT_MOVED + why))


def checked(records: Mapping[str, ServiceRecord]) -> dict[str, ServiceRecord]:
    """The records of images that a registry holds whole; of the others with the failure.

    Their indexes, manifests and configs were fetched and hashed when they were measured. Every layer is asked for here,
    since one whose size was known from another repository was not.
    """
    given_up: dict[str, RegistryError] = {}
    with ThreadPoolExecutor(AT_ONCE) as threads:
        asked = {
            name: [threads.submit(_ask, repository, digest, given_up) for digest in sorted(_layers(record))]
            for name, record in records.items()
            for repository in (Repository.of(ImageReference.parse(record.reference)),)
        }
        return {name: _judged(records[name], answers) for name, answers in asked.items()}


def _layers(record: ServiceRecord) -> set[str]:
    return {layer.digest for platform in record.platforms.values() for layer in platform.layers}


def _ask(repository: Repository, digest: str, given_up: dict[str, RegistryError]) -> None:
    """Whether a layer is there; a registry that did not answer once is asked no more: one wait, not hundreds."""
    if error := given_up.get(repository.host):
        raise error
    try:
        repository.require_blob(digest)
    except RegistryError as error:
        if not error.missing:
            given_up[repository.host] = error
        raise


def _judged(record: ServiceRecord, answers: Iterable[Future[None]]) -> ServiceRecord:
    errors: list[RegistryError] = []
    for answer in answers:
        try:
            answer.result()
        except RegistryError as error:
            errors.append(error)
    if not errors:
        return record
    if missing := next((error for error in errors if error.missing), None):
        message = f"its image is not whole at the registry: {missing}"
        # It is to be pushed again, so it may not be skipped.
        hint = "run it again: it is built and pushed once more"
        return dataclasses.replace(unpublished(record, message, hint=hint), fingerprint=None)
    return unpublished(record, f"its image could not be looked at: {errors[0]}", hint=errors[0].hint)


def publish(solve: Solve, record: ServiceRecord, lacking: tuple[str, ...], *, engine: Engine) -> ServiceRecord:
    """Let the names that an image lacks name it; the record with those it has, and with the failure if there is one."""
    moved: list[str] = []
    try:
        retag(solve, str(record.digest), lacking, engine=engine, moved=moved.append)
    except EngineError as error:
        had = {*record.references, *moved}
        record = dataclasses.replace(record, references=tuple(one for one in solve.references if one in had))
        left = ", ".join(one for one in lacking if one not in moved)
        message = f"its image is there as {record.digest}, but could not be named {left}: {error}"
        return unpublished(record, message, hint=error.hint)
    return dataclasses.replace(record, references=solve.references)


def publish_all(
    waiting: Mapping[str, tuple[Solve, ServiceRecord, tuple[str, ...]]], *, engine: Engine
) -> dict[str, ServiceRecord]:
    """`publish` for many services: what fails of one keeps none of the others, as the next run names what is left."""
    with ThreadPoolExecutor(AT_ONCE) as threads:
        published = threads.map(lambda one: publish(*one, engine=engine), waiting.values())
        return dict(zip(waiting, published, strict=True))


def unpublished(record: ServiceRecord, message: str, *, hint: str = "") -> ServiceRecord:
    """The record of an image that was pushed and could not be published."""
    error = failure(FailureKind.UNPUBLISHED, message)
    return dataclasses.replace(record, status="failed", error=dataclasses.replace(error, hint=hint or error.hint))
