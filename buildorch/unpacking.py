"""A layer's blob -> its uncompressed tar, in pieces, which must be what the image's config says.

In: the bytes of a blob, compressed with gzip, zstd or not at all. Out: the bytes of the tar. Touches nothing: the bytes
come from an iterator.
"""

from __future__ import annotations

import hashlib
from itertools import chain
from typing import IO, TYPE_CHECKING, cast

from buildorch.contents.stream import MAX_UNPACKED
from buildorch.errors import MalformedDocument

if TYPE_CHECKING:
    from collections.abc import Iterator

    from buildorch.oci import Descriptor

PIECE = 1024 * 1024
"""Most bytes unpacked at a time: a layer of zeros unpacks to a thousand times its size."""
_GZIP_MAGIC, _ZSTD_MAGIC = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"


def unpacked(chunks: Iterator[bytes], layer: Descriptor) -> Iterator[bytes]:
    """The pieces of a layer's uncompressed tar, whatever they are: only `verified` says that they are the layer's.

    Raises:
        MalformedDocument: the blob is cut off, or is not packed as it says.
        RegistryError: it is not what was asked for, or broke off.
    """
    try:
        yield from _unpack(chunks)
    except (ValueError, EOFError) as error:
        drain(chunks)
        raise MalformedDocument("layer", f"{layer.digest} cannot be unpacked: {error}") from None


def verified(pieces: Iterator[bytes], layer: Descriptor, diff_id: str) -> Iterator[bytes]:
    """The same pieces; whoever takes all of them knows that they hash to the layer's diff_id.

    Apart from `unpacked`, so that one thread can unpack while another hashes: each is a second of C for a gigabyte.

    Raises:
        MalformedDocument: they are too large, or not what the image's config says.
    """
    state, size = hashlib.sha256(), 0
    for piece in pieces:
        state.update(piece)
        size += len(piece)
        if size > MAX_UNPACKED:
            raise MalformedDocument("layer", f"{layer.digest} unpacks to more than {MAX_UNPACKED} bytes")
        yield piece
    if f"sha256:{state.hexdigest()}" != diff_id:
        raise MalformedDocument("layer", f"{layer.digest} does not unpack to {diff_id}")


def drain(chunks: Iterator[bytes]) -> None:
    """Take what is left: a registry's blob that is not its digest's says so at its end, and is fetched again."""
    for _ in chunks:
        pass


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
    from zlib_ng import zlib_ng  # noqa: PLC0415 - only where an unknown layer is unpacked; faster than zlib

    member, piece = zlib_ng.decompressobj(wbits=31), b""
    rest = first
    try:
        # A whole piece may leave more behind in the member, even where no byte of the input is left.
        while rest or (len(piece) == PIECE and not member.eof) or (rest := next(chunks, b"")):
            if member.eof:
                member = zlib_ng.decompressobj(wbits=31)
            piece = member.decompress(rest, PIECE)
            yield piece
            rest = member.unused_data if member.eof else member.unconsumed_tail
    except zlib_ng.error as error:  # type: ignore[misc]  # its stub declares an instance
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
