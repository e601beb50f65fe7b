"""Two runs, records or images -> what differs between them: `diff(request) -> Diff`.

In: a services file, and the names of what is compared. Out: `Diff`. Touches: the ledger, record files, and the engine
or the registries that hold the images, for reading.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING

from buildorch import preparing
from buildorch.differences import ImageContents, differences
from buildorch.errors import EXIT_OK, EXIT_POLICY, NoSuchImage, UnknownService, UsageError
from buildorch.finding_images import Found, is_image_name, locate, read
from buildorch.inspection import Question
from buildorch.measure import measure
from buildorch.project import read_bounded
from buildorch.record import service_record_from_json
from buildorch.report.difference import Diff, ServiceDifference
from buildorch.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from buildorch.ledger import Entry, Ledger
    from buildorch.record import PlatformRecord, ServiceRecord
    from buildorch.settle import Images

MOST_BYTES = 64 * 1024 * 1024
"""Of a run record: one of 50 small services has 0.2 MB."""
EVERYTHING = Question(contents=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class DiffRequest:
    """What to compare."""

    file: Path = Path("services.yaml")
    """The services file."""
    names: tuple[str, ...] = ()
    """Nothing: every service's last image with the one before. A service: that one's. A run: its images with those
    before. Two of: a run, a record file, an image."""
    fail_on_growth: float | None = None
    """Per cent by which no image's unpacked size may have grown."""


@dataclass(frozen=True, slots=True)
class _Version:
    """One image of a service, or one that stands alone."""

    reference: str
    digest: str
    """Empty for a name, which may come to name another image."""
    record: ServiceRecord | None = None


_Side = dict[str, _Version]


def diff(request: DiffRequest) -> Diff:
    """Compare images, byte by byte.

    An image that is nowhere any more is compared as far as the ledger remembers it.

    Raises:
        UsageError: a name is none of a service, a run, a record file and an image, or they cannot be compared.
        EngineError: no engine, or an image that stands in no record cannot be read.
        LedgerError: the ledger cannot be read.
    """
    asking = preparing.ask_engine()
    build = preparing.BuildRequest(file=request.file)
    planned = preparing.plan(build)
    with preparing.opened(build, planned, asking) as at_hand:
        before, after = _sides(request.names, at_hand.ledger, [solve.name for solve in planned.plan.solves])
        images = at_hand.images()
        services = {
            name: _compared(before.get(name), after.get(name), images) for name in dict.fromkeys([*after, *before])
        }
    grown = request.fail_on_growth is not None and any(
        difference.growth_percent > request.fail_on_growth
        for service in services.values()
        for difference in service.platforms.values()
    )
    return Diff(project=planned.plan.project, services=services, exit_code=EXIT_POLICY if grown else EXIT_OK)


def _sides(names: tuple[str, ...], ledger: Ledger, services: list[str]) -> tuple[_Side, _Side]:
    match names:
        case ():
            return _with_before((entry for entry in ledger.latest() if entry.service in services), ledger)
        case (name,) if name in services:
            return _with_before(ledger.history(name, limit=1), ledger)
        case (name,) if name.endswith(".json"):
            raise UsageError(f"{name} alone cannot be compared", hint=f"name the older record too: OLDER.json {name}")
        case (name,):
            if not (entries := ledger.of_run(name)):
                raise UnknownService(name, known=services)
            return _with_before(entries, ledger)
        case (one, other):
            return _paired(_side(one, ledger, services), _side(other, ledger, services))
    raise UsageError(f"{len(names)} names cannot be compared", hint="name two, one, or none")


def _with_before(entries: Iterable[Entry], ledger: Ledger) -> tuple[_Side, _Side]:
    """Each record's image, and the one its service had before."""
    before: _Side = {}
    after: _Side = {}
    for entry in entries:
        with_image = entry if entry.record.digest else ledger.before(entry)
        if with_image is None:
            continue
        after |= _versions({entry.service: with_image.record})
        if earlier := ledger.before(with_image):
            before |= _versions({entry.service: earlier.record})
    return before, after


def _side(name: str, ledger: Ledger, services: list[str]) -> _Side:
    """What a name stands for: a run, a record file, or an image."""
    if entries := ledger.of_run(name):
        return _versions({entry.service: entry.record for entry in entries})
    if name.endswith(".json"):
        return _versions(_record_file(Path(name)))
    if not is_image_name(name):
        raise UnknownService(name, known=services)
    return {"": _Version(name, "")}


def _paired(before: _Side, after: _Side) -> tuple[_Side, _Side]:
    """Two images are compared whatever they are called, an image and a run not at all."""
    if ("" in before) != ("" in after):
        raise UsageError("a run and an image cannot be compared", hint="name two runs, two record files, or two images")
    if "" not in after:
        return before, after
    name = after[""].reference
    return {name: before[""]}, {name: after[""]}


def _record_file(path: Path) -> dict[str, ServiceRecord]:
    data = read_bounded(path, most_bytes=MOST_BYTES, hint="name a run record")
    try:
        services = json.loads(data)["services"]
        return {name: service_record_from_json(json.dumps(record)) for name, record in services.items()}
    except KeyError as error:
        raise UsageError(f"{path} is not a run record: it has no {error}", hint="`--record FILE` writes one") from None
    except (AttributeError, TypeError, ValueError, RecursionError) as error:
        raise UsageError(f"{path} is not a run record: {error}", hint="`--record FILE` writes one") from None


def _versions(records: Mapping[str, ServiceRecord]) -> _Side:
    return {
        name: _Version(record.reference, record.digest, record) for name, record in records.items() if record.digest
    }


def _compared(before: _Version | None, after: _Version | None, images: Images) -> ServiceDifference:
    told = ServiceDifference(
        kind="added" if before is None else "removed" if after is None else "changed",
        before=before.reference if before else None,
        before_digest=before.digest if before else None,
        after=after.reference if after else None,
        after_digest=after.digest if after else None,
    )
    if before is None or after is None:
        return told
    if before.digest and before.digest == after.digest:
        return dataclasses.replace(told, kind="same")
    one, other = _found(before, images), _found(after, images)
    told = dataclasses.replace(
        told,
        before_digest=one.digest if one else before.digest,
        after_digest=other.digest if other else after.digest,
    )
    if told.before_digest == told.after_digest:
        return dataclasses.replace(told, kind="same")
    old, new = _contents(before, one, images), _contents(after, other, images)
    platforms = {name: differences(old[name], new[name]) for name in new if name in old}
    return dataclasses.replace(told, platforms=platforms, only_one_has=tuple(sorted({*old} ^ {*new})))


def _found(version: _Version, images: Images) -> Found | None:
    """Where an image is; None where it is nowhere any more.

    Raises:
        EngineError: it is nowhere, and in no record either.
    """
    try:
        return locate(version.reference, images, digest=version.digest)
    except NoSuchImage:
        if version.record is None:
            raise
        return None


def _contents(version: _Version, found: Found | None, images: Images) -> dict[str, ImageContents]:
    """Platform -> what the image is: read where it is, else as it is remembered.

    Raises:
        EngineError: it cannot be read.
    """
    if found is None:
        known = version.record.platforms if version.record else {}
        return {name: _remembered(facts, images) for name, facts in known.items()}
    documents = read(found, images, lambda _: EVERYTHING)
    facts = measure(documents).platforms
    return {
        name: ImageContents(facts[name], one.config, one.contents)
        for name, one in zip(facts, documents.platforms, strict=True)
    }


def _remembered(facts: PlatformRecord, images: Images) -> ImageContents:
    """An image that is nowhere any more, as far as its layers are remembered."""
    layers = [images.layers.recall(layer.diff_id) for layer in facts.layers]
    known = tuple(layer for layer in layers if layer is not None)
    return ImageContents(facts, layers=known if len(known) == len(layers) else None)
