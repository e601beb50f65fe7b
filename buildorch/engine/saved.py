"""An image of the graphdriver store, as `docker save` writes it.

In: the bytes of a tar. Out: `SavedImage`. Touches nothing: the bytes come from an iterator.

That store keeps neither blobs nor manifests: a saved layer is the uncompressed tar, made again from tar-split, so its
size in the archive is the layer's unpacked size to the byte (moby `image/tarexport/save.go`).
"""

from __future__ import annotations

import io
import json
import tarfile
from functools import partial
from typing import TYPE_CHECKING, TypeVar, cast

from buildorch.errors import MalformedDocument
from buildorch.oci import ImageConfig, load_json
from buildorch.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MAX_DOCUMENT = 16 * 1024 * 1024
CHUNK = 256 * 1024
Taken = TypeVar("Taken")


@dataclass(frozen=True, slots=True)
class SavedImage:
    """An image without a manifest: its config, and the unpacked size of each layer, lowest first."""

    config_digest: str
    config: ImageConfig
    unpacked_bytes: tuple[int, ...]
    layers: tuple[str, ...]
    """The names of the layers' tars in the archive."""


def read_saved(chunks: Iterator[bytes]) -> SavedImage:
    """Read the archive once, keeping only its small documents and the sizes of its members.

    Raises:
        MalformedDocument: it is not an archive of one image.
    """
    sizes: dict[str, int] = {}
    links: dict[str, str] = {}
    documents: dict[str, bytes] = {}

    def look(archive: tarfile.TarFile, member: tarfile.TarInfo) -> None:
        if member.issym() or member.islnk():
            links[member.name] = member.linkname
        sizes[member.name] = member.size
        if member.isfile() and member.size < MAX_DOCUMENT and (file := archive.extractfile(member)):
            head = file.read(1)
            if head in {b"{", b"["}:
                documents[member.name] = head + file.read()

    _visit(chunks, look)
    try:
        [entry] = json.loads(documents["manifest.json"])
        config_name, layers = str(entry["Config"]), [_target(str(name), links) for name in entry["Layers"]]
        raw = documents[config_name]
        unpacked = tuple(sizes[name] for name in layers)
    except (KeyError, ValueError, TypeError):
        raise MalformedDocument("saved image", "its manifest.json does not describe one image") from None
    hexadecimal = config_name.rsplit("/", 1)[-1].removesuffix(".json")
    config = ImageConfig.from_json(load_json(raw, "image config"))
    return SavedImage(f"sha256:{hexadecimal}", config, unpacked, tuple(layers))


def read_saved_layers(
    chunks: Iterator[bytes], saved: SavedImage, take: Callable[[Iterator[bytes]], Taken]
) -> tuple[Taken, ...]:
    """Read the same archive again, for what is in its layers.

    Args:
        chunks: the archive.
        saved: what the first reading gave.
        take: gets the pieces of a layer's tar, and gives what is to be kept of it.

    Raises:
        MalformedDocument: it is not the archive that was read before.
    """
    taken: dict[str, Taken] = {}

    def look(archive: tarfile.TarFile, member: tarfile.TarInfo) -> None:
        if member.name in saved.layers and member.isfile() and (file := archive.extractfile(member)):
            taken[member.name] = take(iter(partial(file.read, CHUNK), b""))

    _visit(chunks, look)
    if missing := [name for name in saved.layers if name not in taken]:
        raise MalformedDocument("saved image", f"{missing[0]!r} is not in it a second time")
    return tuple(taken[name] for name in saved.layers)


def _visit(chunks: Iterator[bytes], look: Callable[[tarfile.TarFile, tarfile.TarInfo], None]) -> None:
    """Look at every member, while the archive stands at it."""
    try:
        with tarfile.open(
            fileobj=cast("io.BufferedReader", io.BufferedReader(_Chunks(chunks), CHUNK)), mode="r|"
        ) as archive:
            for member in archive:
                look(archive, member)
    except tarfile.TarError as error:
        raise MalformedDocument("saved image", str(error)) from None


def _target(name: str, links: dict[str, str]) -> str:
    """Where a layer's bytes are: older engines save a repeated layer as a link to the first."""
    seen: set[str] = set()
    while name in links and name not in seen:
        seen.add(name)
        link = links[name]
        name = link.split("../")[-1] if link.startswith("../") else link
    return name


class _Chunks(io.RawIOBase):
    """A file over an iterator of bytes."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks, self._left = chunks, b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object) -> int:
        view = memoryview(cast("bytearray", buffer))
        while not self._left:
            try:
                self._left = next(self._chunks)
            except StopIteration:
                return 0
        count = min(len(view), len(self._left))
        view[:count] = self._left[:count]
        self._left = self._left[count:]
        return count
