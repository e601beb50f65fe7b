"""Letting names name an image that is at its destination already, by its digest.

In: a solve, a digest, names. Out: nothing. Touches: tags, in the engine or in a registry.
"""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING

from buildorch.oci import ImageReference

if TYPE_CHECKING:
    from collections.abc import Iterable

    from buildorch.engine import Engine
    from buildorch.plan import Solve


def retag(solve: Solve, digest: str, references: Iterable[str], *, engine: Engine) -> None:
    """Let each of a service's names name `digest`; nothing is built or copied.

    Raises:
        EngineError: the engine or the registry cannot be asked, refuses, or does not have the image.
    """
    images = [ImageReference.parse(reference) for reference in references]
    if solve.destination == "engine":
        for image in images:
            engine.tag(digest, image.name, tag=image.tag)
        return
    from buildorch.registry import Repository  # noqa: PLC0415 - only where a registry is written to

    for name, group in groupby(images, key=lambda image: image.name):  # all tags of one service have one name
        repository = Repository.of(ImageReference.parse(name))
        manifest = repository.manifest(digest)
        for image in group:
            repository.put_manifest(image.tag, manifest)
