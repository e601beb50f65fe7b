"""OCI documents and layer sizes -> what an image is and weighs: `measure(documents) -> ImageFacts`.

In: parsed documents. Out: `ImageFacts`. Touches nothing; `buildorch.inspection` reads the documents.

compressed = config + layer blobs + manifest of one platform: what a pull downloads.
unpacked = the sum of the uncompressed layer tars. Neither is `docker image inspect .Size` (docs/explanation/sizes.md).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from buildorch.errors import MalformedDocument
from buildorch.oci import Descriptor, ImageConfig, ImageManifest
from buildorch.record import Layer, PlatformRecord
from buildorch.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Mapping

    from buildorch.contents import LayerContents

STAND_IN_LABEL = "io.buildorch.stand-in"
"""Label of a base image that stands in for an official one; images built from it inherit it."""


@dataclass(frozen=True, slots=True)
class PlatformDocuments:
    """One platform's documents; `manifest` is None on a store that keeps none."""

    manifest: ImageManifest | None
    manifest_descriptor: Descriptor | None
    config: ImageConfig
    config_digest: str
    unpacked_bytes: tuple[int, ...]
    """One size a layer, lowest first."""
    contents: tuple[LayerContents, ...] | None = None
    """What each layer holds, where it was asked."""
    leaked: tuple[frozenset[str], ...] = ()
    """The ids of the build secrets that were found in each layer, where it was asked."""


@dataclass(frozen=True, slots=True)
class ImageDocuments:
    """Everything measured of one image."""

    digest: str
    """What the reference resolves to."""
    index_digest: str | None
    platforms: tuple[PlatformDocuments, ...]


@dataclass(frozen=True, slots=True)
class ImageFacts:
    """Digests, sizes and what matters of the configs, per platform."""

    digest: str
    index_digest: str | None
    platforms: Mapping[str, PlatformRecord]
    """In the order of the documents."""
    stand_ins: tuple[str, ...]


def measure(documents: ImageDocuments) -> ImageFacts:
    """The image's facts.

    Raises:
        MalformedDocument: manifest, config and layers do not fit together.
    """
    return ImageFacts(
        digest=documents.digest,
        index_digest=documents.index_digest,
        platforms={name: _platform(one) for name, one in zip(_names(documents), documents.platforms, strict=True)},
        stand_ins=tuple(sorted({ref for one in documents.platforms if (ref := one.config.labels.get(STAND_IN_LABEL))})),
    )


def _names(documents: ImageDocuments) -> tuple[str, ...]:
    """The name of each platform, in order; of two alike, as of two versions of an OS, the second has `#2`."""
    found: list[str] = []
    for one in documents.platforms:
        name = str(one.config.platform)
        again = sum(other.partition(" #")[0] == name for other in found)
        found.append(f"{name} #{again + 1}" if again else name)
    return tuple(found)


def _platform(documents: PlatformDocuments) -> PlatformRecord:
    config, manifest, descriptor = documents.config, documents.manifest, documents.manifest_descriptor
    blobs = manifest.layers if manifest else ()
    if len(config.diff_ids) != len(documents.unpacked_bytes) or (manifest and len(blobs) != len(config.diff_ids)):
        raise MalformedDocument("image", "its manifest and its config name different numbers of layers")
    layers = tuple(
        Layer(
            digest=blobs[at].digest if manifest else diff_id,
            diff_id=diff_id,
            compressed_bytes=blobs[at].size if manifest else None,
            unpacked_bytes=documents.unpacked_bytes[at],
            created_by=config.created_by[at],
        )
        for at, diff_id in enumerate(config.diff_ids)
    )
    compressed = None
    if manifest and descriptor:
        compressed = descriptor.size + manifest.config.size + sum(blob.size for blob in blobs)
    return PlatformRecord(
        manifest_digest=descriptor.digest if descriptor else None,
        config_digest=documents.config_digest,
        compressed_bytes=compressed,
        unpacked_bytes=sum(documents.unpacked_bytes),
        user=config.user,
        layers=layers,
    )
