"""Letting names name an image that is at its destination already, by its digest.

In: a solve, a digest, names. Out: nothing. Touches: tags, in the engine or in a registry.
"""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING

from buildorch.oci import ImageReference

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from buildorch.engine import Engine
    from buildorch.plan import Solve


def retag(
    solve: Solve,
    digest: str,
    references: Iterable[str],
    *,
    engine: Engine,
    moved: Callable[[str], object] = lambda _: None,
) -> None:
    """Let each of a service's names name `digest`; nothing is built or copied. `moved` is told of each that does.

    Raises:
        EngineError: the engine or the registry cannot be asked, refuses, or does not have the image.
    """
    images = {reference: ImageReference.parse(reference) for reference in references}
    if solve.destination == "engine":
        for reference, image in images.items():
            engine.tag(digest, image.name, tag=image.tag)
            moved(reference)
        return
    from buildorch.registry import Repository  # noqa: PLC0415 - only where a registry is written to

    for name, group in groupby(images, key=lambda reference: images[reference].name):  # one, for one service
        repository = Repository.of(ImageReference.parse(name))
        manifest = repository.manifest(digest)
        for reference in group:
            repository.put_manifest(images[reference].tag, manifest)
            moved(reference)
