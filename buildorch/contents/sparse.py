"""Sparse files in a tar: where the data that is there belongs.

In: headers, and the stream behind them. Out: runs of data, and the file's logical size. Touches nothing.

Sources: GNU tar manual, "Storing Sparse Files" (the old format, and 0.0, 0.1 and 1.0 in extended headers); Go,
archive/tar, reader.go.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from buildorch.contents.numbers import decimal, number
from buildorch.contents.stream import BLOCK, MAX_SPECIAL, MAX_UNPACKED
from buildorch.errors import MalformedDocument

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from buildorch.contents.stream import Stream

Runs = tuple[tuple[int, int], ...]
"""Offset and length of each, in order; all else is zeros."""
PAIR = (b"GNU.sparse.offset", b"GNU.sparse.numbytes")
MAP = b"GNU.sparse.map"
GNU_MAGIC = b"ustar  \0"
_MOST_BLOCKS = MAX_SPECIAL // BLOCK
_ZEROS = bytes(256 * 1024)
_IN_HEADER, _IN_BLOCK, _PAIR_BYTES = 386, 0, 24


def old_runs(header: bytes, stream: Stream, stored: int) -> tuple[Runs, int]:
    """Those of a header of type S and of the blocks that continue it; then open the data behind them.

    Raises:
        MalformedDocument: they do not fit the file.
    """
    if header[257:265] != GNU_MAGIC:
        raise _unfit()  # star has the same letter for another layout
    found, goes_on = _pairs(header, _IN_HEADER, 4), header[482]
    for _ in range(_MOST_BLOCKS):
        if not goes_on:
            stream.open(stored)
            return _checked(found, number(header[483:495]), stored)
        stream.charge(BLOCK)
        block = stream.block()
        if not block:
            break
        found += _pairs(block, _IN_BLOCK, 21)
        goes_on = block[504]
    raise _unfit()


def is_told(told: Mapping[bytes, bytes]) -> bool:
    """Whether extended headers say that the file is sparse."""
    version = _version(told)
    return version in {(b"0", b"0"), (b"0", b"1"), (b"1", b"0")} or (version == (b"", b"") and bool(told.get(MAP)))


def told_runs(told: Mapping[bytes, bytes], stream: Stream, stored: int) -> tuple[Runs, int]:
    """Those that extended headers tell, or since format 1.0 the first blocks of the data, which is open already.

    Raises:
        MalformedDocument: they do not fit the file.
    """
    said = told.get(b"GNU.sparse.size") or told.get(b"GNU.sparse.realsize")
    size = decimal(said) if said else stored
    if _version(told) == (b"1", b"0"):
        numbers = _first_blocks(stream)
    else:
        numbers = [decimal(word) for word in told[MAP].split(b",")] if told.get(MAP) else []
    if len(numbers) % 2:
        raise _unfit()
    return _checked(list(zip(numbers[::2], numbers[1::2], strict=True)), size, stream.left)


def content(runs: Runs, size: int, stream: Stream) -> Iterator[memoryview | bytes]:
    """The file's content, its holes as zeros."""
    at = 0
    for offset, length in (*runs, (size, 0)):
        while at < offset:
            zeros = _ZEROS[: offset - at]
            at += len(zeros)
            yield zeros
        yield from stream.data(length)
        at += length


def _version(told: Mapping[bytes, bytes]) -> tuple[bytes, bytes]:
    return told.get(b"GNU.sparse.major", b""), told.get(b"GNU.sparse.minor", b"")


def _pairs(block: bytes, begin: int, count: int) -> list[tuple[int, int]]:
    found = []
    for at in range(begin, begin + count * _PAIR_BYTES, _PAIR_BYTES):
        if not block[at]:
            break
        found.append((number(block[at : at + 12]), number(block[at + 12 : at + 24])))
    return found


def _first_blocks(stream: Stream) -> list[int]:
    """The numbers at the begin of the data, one a line, the first of which says how many pairs follow."""
    lines: list[bytes] = [b""]
    for _ in range(_MOST_BLOCKS):
        stream.charge(BLOCK)
        *more, rest = (lines.pop() + b"".join(stream.data(BLOCK))).split(b"\n")
        lines += more
        wanted = 1 + 2 * decimal(lines[0]) if lines else 1
        if len(lines) >= wanted > 0:
            return [decimal(line) for line in lines[1:wanted]]
        lines.append(rest)
    raise _unfit()


def _checked(runs: list[tuple[int, int]], size: int, stored: int) -> tuple[Runs, int]:
    ends = [0, *(offset + length for offset, length in runs)]
    in_order = all(end <= offset and length >= 0 for end, (offset, length) in zip(ends, runs, strict=False))
    if not in_order or not ends[-1] <= size <= MAX_UNPACKED or sum(length for _, length in runs) != stored:
        raise _unfit()
    return tuple(runs), size


def _unfit() -> MalformedDocument:
    return MalformedDocument("layer", "a sparse file of its tar has a map that does not fit it")
