"""What a base image has its builds do besides what their Dockerfile says: `OnBuild` of its config.

In: a base and its digest. Out: instructions. Touches: the registry that has the image.

Source: `onBuild` in moby/buildkit `frontend/dockerfile/dockerfile2llb/convert.go`; ONBUILD in the Dockerfile reference.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from buildorch.bases.resolve import repositories
from buildorch.errors import EngineError
from buildorch.oci import ImageIndex, ImageManifest, ImageReference, checked_document, is_index, load_json

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from buildorch.bases.base import Base
    from buildorch.registry import Repository


def onbuild(
    base: Base, platforms: Sequence[str], *, mirrors: Sequence[str], environ: Mapping[str, str] = os.environ
) -> tuple[str, ...] | None:
    """The triggers of a base image for some platforms, or for all of its own; None where it cannot be read.

    A digest's answer never changes: it may be remembered for ever.
    """
    image = ImageReference.parse(base.reference)
    for repository in repositories(image, mirrors, environ):
        try:
            found = [_triggers(config) for config in _configs(repository, base.digest, platforms)]
        except EngineError:
            continue  # the next place may have it; that none has is an answer too
        return tuple(dict.fromkeys(trigger for triggers in found for trigger in triggers))
    return None


def _configs(repository: Repository, digest: str, platforms: Sequence[str]) -> Iterator[dict[str, Any]]:
    raw = load_json(checked_document([repository.manifest(digest)], digest), "image manifest or index")
    if not is_index(raw):
        manifest = ImageManifest.from_json(raw)
        config = manifest.config.digest
        yield load_json(checked_document(repository.blob(config), config), "config")
        return
    for one in ImageIndex.from_json(raw).manifests:
        if not platforms or str(one.platform) in platforms:
            yield from _configs(repository, one.digest, ())


def _triggers(config: Mapping[str, Any]) -> tuple[str, ...]:
    inner = config.get("config")
    found = inner.get("OnBuild") if isinstance(inner, dict) else None
    return tuple(map(str, found)) if isinstance(found, list) else ()
