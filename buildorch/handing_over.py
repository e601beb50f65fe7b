"""Which images a deploy is given: `images(request)`; and Kubernetes YAML with these in it: `resolve(texts, request)`.

In: a services file or a run record, YAML. Out: pinned images that nothing speaks against, YAML. Touches: the ledger or
the record's file, and the registries, which are asked whether they hold each digest.
"""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from buildorch import project
from buildorch.errors import EXIT_BUILD_FAILED, EXIT_UNREACHABLE, LedgerError, UnknownService, UsageError
from buildorch.handoff.kubernetes import find_images, rewrite
from buildorch.handoff.pinned import Candidate, PinnedImage, Refusal, objection, pin, refused, too_old
from buildorch.handoff.spellings import Spellings
from buildorch.oci import ImageReference
from buildorch.presence import Wanted, in_registries
from buildorch.presence.wanted import wanted
from buildorch.record import Report
from buildorch.services import Override, image_name
from buildorch.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from buildorch.handoff.kubernetes import Change
    from buildorch.ledger import Entry, Ledger

LOOKED_BACK = 100
"""How many of a service's records are looked through for its last good one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HandoffRequest:
    """What to hand over."""

    file: Path = Path("services.yaml")
    """The services file; not read where a record is given."""
    services: tuple[str, ...] = ()
    """These; by default every one that has an image."""
    record: Path | Report | None = None
    """The run whose images are handed over; by default each service's last, from the ledger."""
    local: bool = False
    """Whether no registry is asked: images that only an engine has are handed over too."""
    last_good: bool = False
    """Whether a service whose last build is no good hands over the last image that was."""
    max_age_s: float | None = None
    """How long ago the run that built the images, or proved them unchanged, may have begun, in seconds."""
    overrides: tuple[str, ...] = ()
    """`SERVICE.KEY=VALUE`, over the services file."""


def images(request: HandoffRequest) -> dict[str, PinnedImage]:
    """The images of the services that were asked for.

    Raises:
        UsageError: the services file or the record cannot be used, or has no such service.
        LedgerError: there is no ledger, or it cannot be read.
        HandoffRefused: something speaks against one of them; then none is handed over.
    """
    known = candidates(request)
    for name in request.services:
        if name not in known:
            raise UnknownService(name, known=known)
    return hand_over({name: known[name] for name in request.services or _with_images(known)}, request)


@dataclass(frozen=True, slots=True)
class Resolved:
    """One text with digests in the places of its images."""

    source: str
    text: str
    changes: tuple[Change, ...]
    services: tuple[str, ...]
    """Whose images stand in it."""


def resolve(texts: Sequence[tuple[str, str]], request: HandoffRequest) -> list[Resolved]:
    """Kubernetes YAML in which every image of a service is its pinned one; whoever else's images stay as they are.

    Args:
        texts: what errors call each text, and the text.
        request: which records count. Only services whose images stand in a text are handed over.

    Raises:
        UsageError: a text is not YAML, or names an image that two services share; or as `images`.
        LedgerError, HandoffRefused: as `images`.
    """
    known = candidates(request)
    spellings = Spellings({name: one.repository for name, one in known.items()})
    found = [find_images(text, source, words=spellings.words()) for source, text in texts]
    meant = {image.text: name for one in found for image in one if (name := spellings.service(image.text))}
    pinned = hand_over({name: known[name] for name in dict.fromkeys(meant.values())}, request)
    pins = {text: pinned[name].image for text, name in meant.items()}
    resolved = []
    for (source, text), one in zip(texts, found, strict=True):
        new, changes = rewrite(text, one, pins)
        services = dict.fromkeys(meant[image.text] for image in one if image.text in meant)
        resolved.append(Resolved(source, new, tuple(changes), tuple(services)))
    return resolved


def candidates(request: HandoffRequest) -> dict[str, Candidate]:
    """Every service that there is, with its repository and its record.

    Raises:
        UsageError, LedgerError: as `images`.
    """
    if request.record is None:
        return _of_ledger(request)
    if request.last_good or request.overrides:
        raise UsageError(
            "a run's record has its own services, and no earlier one", hint="leave --last-good and --set out"
        )
    run = _of_run(request.record)
    return {
        name: Candidate(name, ImageReference.parse(record.reference).name, record, run.started_at)
        for name, record in run.services.items()
    }


def hand_over(chosen: Mapping[str, Candidate], request: HandoffRequest) -> dict[str, PinnedImage]:
    """The candidates' images, once records and registries have nothing against them.

    Raises:
        HandoffRefused: something speaks against one of them.
    """
    refusals = [found for one in chosen.values() if (found := _objection(one, request))]
    against = {refusal.service for refusal in refusals}
    pinned = {name: pin(one) for name, one in chosen.items() if name not in against}
    if not request.local:
        refusals += _not_held([chosen[name] for name in pinned])
    if refusals:
        raise refused(refusals)
    return pinned


def _objection(candidate: Candidate, request: HandoffRequest) -> Refusal | None:
    found = objection(candidate)
    if found is None and request.max_age_s is not None:
        return too_old(candidate, now=datetime.now(UTC), max_age_s=request.max_age_s)
    return found


def _with_images(known: Mapping[str, Candidate]) -> list[str]:
    """All but those whose good builds leave none, as their `outputs` say."""
    return [
        name
        for name, one in known.items()
        if one.record is None or one.record.digest or one.record.error or one.record.status not in {"built", "skipped"}
    ]


def _not_held(chosen: list[Candidate]) -> Iterator[Refusal]:
    """What registries have against candidates: they do not hold an image, or do not answer."""
    asked = [_wanted(one) for one in chosen]
    for one, image, found in zip(chosen, asked, in_registries(asked), strict=True):
        name = f"{one.repository}@{image.digest}"
        if found.state == "gone":
            fact = f"its registry does not hold {name}: {found.reason}"
            yield Refusal(one.service, fact, "push it, or pass --local for what only an engine has", EXIT_BUILD_FAILED)
        elif found.state == "unknown":
            fact = f"whether its registry holds {name} cannot be told: {found.reason}"
            yield Refusal(one.service, fact, "try again, or pass --local to ask no registry", EXIT_UNREACHABLE)


def _wanted(one: Candidate) -> Wanted:
    """The image under its first name alone: a deploy goes by the digest."""
    if one.record is None:
        raise AssertionError  # nothing was built of it, which speaks against it
    return dataclasses.replace(wanted(one.record)[0], reference=one.record.reference)


def _of_ledger(request: HandoffRequest) -> dict[str, Candidate]:
    found = project.read(request.file, overrides=[Override.parse(text) for text in request.overrides], memory=True)
    repositories = {name: image_name(found.file.project, name, found.file.merged(name)) for name in found.file.services}
    from buildorch.ledger import FILE_NAME, Ledger  # noqa: PLC0415 - SQLite is for those who have no record at hand

    path = found.state / FILE_NAME
    if not path.exists():
        raise LedgerError(
            f"there is no ledger at {path}", hint="build something first, or name a record: --record FILE"
        )
    with Ledger(path) as ledger:
        latest = {entry.service: entry for entry in ledger.latest()}
        return {
            name: _candidate(name, repository, latest.get(name), ledger if request.last_good else None)
            for name, repository in repositories.items()
        }


def _candidate(name: str, repository: str, last: Entry | None, ledger: Ledger | None) -> Candidate:
    """The last record as a candidate; with a ledger, the last good one, where there is one."""
    if last is None:
        return Candidate(name, repository)
    found = Candidate(name, repository, last.record, last.started_at)
    if ledger is None or objection(found) is None:
        return found
    earlier = (
        Candidate(name, repository, entry.record, entry.started_at) for entry in ledger.history(name, limit=LOOKED_BACK)
    )
    return next((one for one in earlier if objection(one) is None), found)


def _of_run(record: Path | Report) -> Report:
    """A run's record, as it is or out of its file.

    Raises:
        UsageError: the file cannot be read, is too large, or holds no record.
    """
    if isinstance(record, Report):
        return record
    from buildorch.replaying import MOST_BYTES, read_report  # noqa: PLC0415 - loads pydantic, for those who have a file

    data = project.read_bounded(record, most_bytes=MOST_BYTES, hint="name a run record")
    return read_report(data.decode("utf-8", "replace"), str(record))
