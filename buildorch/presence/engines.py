"""Asking an engine for many images at once.

In: wanted images, an engine and what it says of itself. Out: a `Presence` for each, in order. Touches: the engine's
socket, and its containerd's where that is on this machine and may be opened.

Measured for 50 images of 300 blobs, on two processors: containerd 31 ms, the Engine API 430 ms.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from buildorch.engine import Containerd, Engine, EngineInfo, InspectedImage, containerd_of, full_name, stored
from buildorch.errors import EngineError
from buildorch.oci import ImageReference
from buildorch.presence.wanted import Held, Presence, Wanted, judge, unknown

if TYPE_CHECKING:
    from collections.abc import Sequence

PLACE = "the engine's store"
AT_ONCE = 8
"""More at once make the engine no faster: its processors are what they wait for."""


def in_engine(images: Sequence[Wanted], engine: Engine, *, info: EngineInfo) -> tuple[Presence, ...]:
    """Whether each image is in the engine's store under its name. Blocks: call it in a thread.

    Absence is an answer and never an error; where the engine cannot be asked, the answers are `unknown`.
    """
    if containerd := containerd_of(info):
        try:
            return _by_containerd(images, containerd)
        except EngineError:
            pass  # a socket that may not be opened is no fault: the engine itself answers the same, slower
    from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415 - loads logging, 5 ms; containerd needs no threads

    slices = [images[first::AT_ONCE] for first in range(min(AT_ONCE, len(images)))]
    answers: list[Presence] = [Presence("unknown")] * len(images)
    with ThreadPoolExecutor(AT_ONCE) as threads:
        for first, answered in enumerate(threads.map(lambda part: _by_api(part, engine, info), slices)):
            answers[first::AT_ONCE] = answered
    return tuple(answers)


def _by_containerd(images: Sequence[Wanted], containerd: Containerd) -> tuple[Presence, ...]:
    """All of them in two calls.

    Raises:
        EngineUnreachable: containerd cannot be asked.
    """
    names = [full_name(ImageReference.parse(image.reference)) for image in images]
    digests = frozenset[str]().union(*(image.contents for image in images))
    found = stored(containerd, frozenset(names), roots={image.digest for image in images}, digests=digests)
    roots = frozenset(found.targets.values())
    return tuple(
        judge(image, Held(PLACE, found.targets.get(name), image.digest in roots, found.contents))
        for image, name in zip(images, names, strict=True)
    )


def _by_api(images: Sequence[Wanted], engine: Engine, info: EngineInfo) -> list[Presence]:
    """One after another over one connection; those whose name does not name them are asked for by digest too."""
    try:
        named = list(engine.inspect(image.reference for image in images))
        moved = [image.digest for image, found in zip(images, named, strict=True) if not _is(found, image)]
        by_digest = dict(zip(moved, engine.inspect(moved), strict=True))
    except EngineError as error:
        return [unknown(image, str(error)) for image in images]
    return [_told(image, found, by_digest.get(image.digest), info) for image, found in zip(images, named, strict=True)]


def _told(image: Wanted, named: InspectedImage | None, by_digest: InspectedImage | None, info: EngineInfo) -> Presence:
    found = named if _is(named, image) else by_digest
    reachable = found is not None and _is(found, image)
    contents: frozenset[str] = frozenset()
    if found is not None and reachable:
        available = found.available
        if available is not None:
            whole = (part.digests for part in image.parts if part.manifest and available.get(part.manifest))
            contents = frozenset({image.digest}).union(*whole)
        elif info.store == "graphdriver":
            contents = frozenset({image.digest})  # the config: this store has an image whole or not at all
        else:
            return unknown(image, f"engine {info.version} does not say which platforms are complete (28.0 does)")
    return judge(image, Held(PLACE, named.digest if named else None, reachable, contents))


def _is(found: InspectedImage | None, image: Wanted) -> bool:
    return found is not None and found.digest == image.digest
