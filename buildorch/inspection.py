"""Reading what a build left: the documents of an image, and the unpacked size of each of its layers.

In: a digest, and where its bytes are: the engine's content store, its graphdriver store, or a registry.
Out: `ImageDocuments`, for `buildorch.measure`. Touches: the engine's socket or the registry, and the layer sizes the
ledger remembers: the unpacked size is a property of a layer's diff_id, so each layer is unpacked once, ever.
"""

from __future__ import annotations

import hashlib
import threading
from functools import partial
from itertools import chain
from typing import IO, TYPE_CHECKING, Protocol, cast

from buildorch.engine import Engine, read_blob, read_saved
from buildorch.errors import MalformedDocument
from buildorch.measure import ImageDocuments, PlatformDocuments
from buildorch.oci import (
    Descriptor,
    ImageConfig,
    ImageIndex,
    ImageManifest,
    ImageReference,
    checked_document,
    is_index,
    load_json,
)
from buildorch.registry import Repository, retried

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, MutableMapping

PIECE = 1024 * 1024
"""Most bytes unpacked at a time: a layer of zeros unpacks to a thousand times its size."""
_GZIP_MAGIC, _ZSTD_MAGIC = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"


class Source(Protocol):
    """Where an image's bytes are."""

    def document(self, digest: str) -> bytes:
        """An index, manifest or config, whole."""

    def blob(self, digest: str) -> Iterator[bytes]:
        """A layer, in pieces."""


class EngineSource:
    """The containerd image store of an engine."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def document(self, digest: str) -> bytes:
        """An index, manifest or config."""
        return checked_document(self.blob(digest), digest)

    def blob(self, digest: str) -> Iterator[bytes]:
        """A layer."""
        return read_blob(self._engine, digest)


class RegistrySource:
    """One repository of a registry."""

    def __init__(self, reference: str) -> None:
        self._repository = Repository.of(ImageReference.parse(reference))

    def document(self, digest: str) -> bytes:
        """An index or manifest, or a config, which registries keep as a blob."""
        return self._repository.document(digest)

    def manifest(self, digest: str) -> bytes:
        """An index or manifest."""
        return self._repository.manifest(digest)

    def resolve(self, tag: str) -> str:
        """The digest a tag points at."""
        return f"sha256:{hashlib.sha256(self._repository.manifest(tag)).hexdigest()}"

    def blob(self, digest: str) -> Iterator[bytes]:
        """A layer."""
        return self._repository.blob(digest)


class LayerSizes:
    """diff_id -> unpacked bytes, remembered; threads that need the same unknown layer unpack it once."""

    def __init__(self, known: MutableMapping[str, int]) -> None:
        self._known = known
        self._guard = threading.Lock()
        self._busy: dict[str, threading.Lock] = {}

    def get(self, diff_id: str, unpack: Callable[[], int]) -> int:
        """The size, from memory or by unpacking."""
        with self._guard:
            turn = self._busy.setdefault(diff_id, threading.Lock())
        with turn:
            size = self._known.get(diff_id)
            if size is None:
                size = self._known[diff_id] = unpack()
            return size


def read_image(source: EngineSource | RegistrySource, digest: str, sizes: LayerSizes) -> ImageDocuments:
    """The documents of the image at `digest`.

    Raises:
        EngineError: the source cannot be reached, or what it holds is malformed.
    """
    read = source.manifest if isinstance(source, RegistrySource) else source.document
    root = read(digest)
    raw = load_json(root, "image manifest or index")
    if not is_index(raw):
        descriptor = Descriptor(str(raw.get("mediaType", "")), digest, len(root))
        return ImageDocuments(digest, None, (_platform(source, root, descriptor, sizes),))
    index = ImageIndex.from_json(raw)
    platforms = tuple(_platform(source, read(one.digest), one, sizes) for one in index.manifests)
    return ImageDocuments(digest, digest, platforms)


def read_saved_image(engine: Engine, reference: str) -> ImageDocuments:
    """The documents of an image on the graphdriver store, which keeps no manifest.

    Raises:
        EngineError: the engine cannot be reached or does not have the image.
    """
    saved = read_saved(engine.saved(reference))
    platform = PlatformDocuments(None, None, saved.config, saved.config_digest, saved.unpacked_bytes)
    return ImageDocuments(saved.config_digest, None, (platform,))


def _platform(source: Source, raw: bytes, descriptor: Descriptor, sizes: LayerSizes) -> PlatformDocuments:
    manifest = ImageManifest.from_json(load_json(raw, "image manifest"))
    config = ImageConfig.from_json(load_json(source.document(manifest.config.digest), "image config"))
    if len(config.diff_ids) != len(manifest.layers):
        raise MalformedDocument("image", f"{descriptor.digest} and its config name different numbers of layers")
    unpacked = tuple(
        sizes.get(diff_id, partial(_measured, source, layer, diff_id))
        for layer, diff_id in zip(manifest.layers, config.diff_ids, strict=True)
    )
    return PlatformDocuments(manifest, descriptor, config, manifest.config.digest, unpacked)


def _measured(source: Source, layer: Descriptor, diff_id: str) -> int:
    return retried(lambda: unpacked_size(source.blob(layer.digest), layer, diff_id))


def unpacked_size(chunks: Iterator[bytes], layer: Descriptor, diff_id: str) -> int:
    """The bytes of a layer's uncompressed tar, which must hash to its diff_id.

    Raises:
        MalformedDocument: the blob is cut off, or is not what its config says.
        RegistryError: it is not what was asked for, or broke off.
    """
    state, size = hashlib.sha256(), 0
    try:
        for piece in _unpack(chunks):
            state.update(piece)
            size += len(piece)
    except (ValueError, EOFError) as error:
        for _ in chunks:
            pass  # a registry's blob that is not its digest's says so at its end, and is fetched again
        raise MalformedDocument("layer", f"{layer.digest} cannot be unpacked: {error}") from None
    if f"sha256:{state.hexdigest()}" != diff_id:
        raise MalformedDocument("layer", f"{layer.digest} does not unpack to {diff_id}")
    return size


def _unpack(chunks: Iterator[bytes]) -> Iterator[bytes]:
    first = next(chunks, b"")
    while len(first) < 4 and (more := next(chunks, b"")):
        first += more
    if first.startswith(_GZIP_MAGIC):
        yield from _gunzip(first, chunks)
    elif first.startswith(_ZSTD_MAGIC):
        yield from _unzstd(first, chunks)
    else:
        yield first
        yield from chunks


def _gunzip(first: bytes, chunks: Iterator[bytes]) -> Iterator[bytes]:
    """gzip, of one member or of several, as estargz writes them (RFC 1952, section 2.2)."""
    from isal import igzip_lib, isal_zlib  # noqa: PLC0415 - only where an unknown layer is unpacked; faster than zlib

    member, piece = isal_zlib.decompressobj(wbits=31), b""
    rest = first
    try:
        # A whole piece may leave more behind in the member, even where no byte of the input is left.
        while rest or (len(piece) == PIECE and not member.eof) or (rest := next(chunks, b"")):
            if member.eof:
                member = isal_zlib.decompressobj(wbits=31)
            piece = member.decompress(rest, PIECE)
            yield piece
            rest = member.unused_data if member.eof else member.unconsumed_tail
    except igzip_lib.error as error:  # type: ignore[misc]  # isal's stub declares an instance
        raise ValueError(str(error)) from None
    if not member.eof:
        raise EOFError("it ends too early")


def _unzstd(first: bytes, chunks: Iterator[bytes]) -> Iterator[bytes]:
    import zstandard  # noqa: PLC0415 - few images have zstd layers

    source = _Reader(chain([first], chunks))
    reader = zstandard.ZstdDecompressor().stream_reader(cast("IO[bytes]", source), read_across_frames=True)
    try:
        while piece := reader.read(PIECE):
            yield piece
    except zstandard.ZstdError as error:
        raise ValueError(str(error)) from None


class _Reader:
    """The `read` that zstandard asks for, over an iterator: it takes what it gets, whatever size it asked for."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks

    def read(self, _size: int) -> bytes:
        return next(self._chunks, b"")
