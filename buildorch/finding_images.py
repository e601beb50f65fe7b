"""An image that was built some time, or by somebody else -> its documents, from wherever it is now.

In: a name and a digest. Out: `ImageDocuments`. Touches: the engine's socket, and the registry of the name where the
engine does not have the image.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from buildorch.errors import EngineError, NoSuchImage, NoSuchPlatform
from buildorch.inspection import SIZES_ALONE, EngineSource, RegistrySource, read_image, read_saved_image
from buildorch.oci import ImageReference
from buildorch.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from buildorch.engine import InspectedImage
    from buildorch.inspection import Question
    from buildorch.measure import ImageDocuments
    from buildorch.oci import Descriptor, ImageConfig
    from buildorch.settle import Images


@dataclass(frozen=True, slots=True)
class Found:
    """Where an image is."""

    name: str
    """As it was asked for."""
    digest: str
    inspected: InspectedImage | None
    """What the engine says of it; None where it is in a registry only."""


def is_image_name(text: str) -> bool:
    """Whether a text can only be meant for an image: a mistyped service or run is no image of Docker Hub."""
    return any(mark in text for mark in "/:@")


def locate(name: str, images: Images, *, digest: str = "") -> Found:
    """Where an image is: in the engine, else in the registry of its name.

    Args:
        name: `[registry/]repository[:tag][@digest]`.
        images: the engine.
        digest: what must be there, whatever the name means now; by default what the name means.

    Raises:
        UsageError: the name is no image reference.
        NoSuchImage: it is nowhere.
    """
    reference = ImageReference.parse(name)
    wanted = digest or reference.digest
    [inspected] = images.engine.inspect([wanted or name])
    if inspected:
        return Found(name, inspected.digest, inspected)
    try:
        if not wanted:
            wanted = RegistrySource(name).resolve(reference.tag or "latest")
        else:
            RegistrySource(name).manifest(wanted)
    except EngineError as error:
        raise NoSuchImage(
            f"the image {name}{f' ({digest})' if digest else ''} is not in the engine, and not in a registry: {error}",
            hint="build or pull it, or name it with its registry and digest",
        ) from None
    return Found(name, wanted, None)


def read(
    found: Found,
    images: Images,
    ask: Callable[[ImageConfig], Question] = lambda _: SIZES_ALONE,
    *,
    platforms: Collection[str] = (),
) -> ImageDocuments:
    """The documents of an image that was located; of an index in the engine, of what was pulled of it.

    Args:
        found: where it is.
        images: the engine, and what is known of layers.
        ask: what is asked of layers besides their sizes.
        platforms: the only ones to be read; all that are there by default.

    Raises:
        EngineError: it cannot be read.
        NoSuchPlatform: it has none of a platform.
    """
    listed: list[str] = []
    if found.inspected and images.store == "graphdriver":
        documents = read_saved_image(images.engine, found.digest, ask)
    else:
        source = EngineSource(images.engine, images.containerd) if found.inspected else RegistrySource(found.name)
        available = found.inspected.available if found.inspected else None
        wanted = partial(_is_wanted, available=available, platforms=platforms, listed=listed)
        documents = read_image(source, found.digest, images.layers, ask, wanted=wanted)
    there = [str(one.config.platform) for one in documents.platforms]
    for platform in platforms:
        if not any(_matches(one, platform) for one in there):
            known = ", ".join(listed or there) or "none"
            raise NoSuchPlatform(f"the image {found.name} has nothing for {platform}", hint=f"it is there for: {known}")
    if not there:
        raise EngineError(f"the image {found.name} has no manifest that can be read", hint="pull it again")
    return documents


def _is_wanted(one: Descriptor, available: object, platforms: Collection[str], listed: list[str]) -> bool:
    """Whether a manifest is asked for and there; an index need not say what its manifests are for."""
    listed.append(str(one.platform or "a platform it does not name"))
    if isinstance(available, dict) and not available.get(one.digest, False):
        return False
    return not platforms or one.platform is None or any(_matches(str(one.platform), each) for each in platforms)


def _matches(platform: str, wanted: str) -> bool:
    """Whether a platform is the wanted one; without a variant any variant is."""
    return platform == wanted or (wanted.count("/") == 1 and platform.startswith(f"{wanted}/"))
