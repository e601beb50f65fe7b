"""The headers of a tar, each with the extended headers before it, as one member.

In: a `Stream`. Out: `Member`s. Touches nothing.

Container runtimes read layers with Go's archive/tar, so where tar's dialects leave a choice, what it does is done here:
what is judged is then what runs. `tarfile` would give other names and sizes (it applies global headers, takes a size
that is no number for 0, and ends a listing without a word at a header that is broken), and before Python 3.11.10 and
3.12.6 one extended header can hold it for hours (CVE-2024-6232).

Sources: POSIX.1-2017, pax, "Extended Description"; Go, archive/tar, reader.go, strconv.go; containerd, archive/tar.go.
"""

from __future__ import annotations

import struct
import zlib
from typing import TYPE_CHECKING, NamedTuple

from buildorch.contents import sparse
from buildorch.contents.numbers import decimal, number, repeated_number
from buildorch.errors import MalformedDocument

if TYPE_CHECKING:
    from collections.abc import Iterator

    from buildorch.contents.layer import Kind
    from buildorch.contents.stream import Stream

MAX_ENTRIES = 2_000_000
MAX_EXTENDED = 16
"""Headers before one entry that are not its own; 4 is the most that is ever needed."""
_FIELDS = struct.Struct("100s8s8s8s12s12x8sc100s8s80x155s12x")
_POSIX_MAGIC = b"ustar\0"
_KINDS: dict[bytes, Kind] = {
    b"1": "hardlink",
    b"2": "symlink",
    b"3": "other",
    b"4": "other",
    b"5": "folder",
    b"6": "other",
}
"""Types that have no data, whatever their header's size says. All others are files to those who do not know them."""


class Member(NamedTuple):
    """One entry as the tar tells of it; its data is what the stream has next."""

    name: bytes
    kind: Kind
    size: int
    """Bytes of a file's content, holes included."""
    mode: int
    uid: int
    gid: int
    target: bytes
    runs: sparse.Runs | None
    """Where the data belongs in a sparse file; None where the data is the content."""
    stored: int
    """Bytes it takes in the tar: its headers, its data and their padding."""


class _Header(NamedTuple):
    """One header block."""

    block: bytes
    type: bytes
    name: bytes
    size: int
    mode: int
    uid: int
    gid: int
    target: bytes


class _Extended:
    """What the headers before an entry say of it."""

    __slots__ = ("count", "name", "records", "target")

    def __init__(self) -> None:
        self.records: dict[bytes, bytes] = {}
        self.name = self.target = b""
        self.count = 0

    def read(self, stream: Stream, header: _Header) -> None:
        """Take one in; of two that say the same, the later holds."""
        self.count += 1
        if self.count > MAX_EXTENDED:
            raise MalformedDocument("layer", "one entry of its tar has too many extended headers")
        data = stream.special(header.size)
        if header.type == b"x":
            self.records = records(data)
        elif header.type == b"L":
            self.name = _text(data)
        else:
            self.target = _text(data)


def members(stream: Stream) -> Iterator[Member]:
    """The entries in order, up to the end of the archive: two blocks of zeros, or no more bytes.

    Raises:
        MalformedDocument: it is no tar, is cut off, or has more entries or longer headers than an honest layer has.
    """
    extended, count, begin = _Extended(), 0, 0
    while (block := stream.block()) and any(block):
        header = _header(block)
        if header.type in {b"x", b"L", b"K"}:
            extended.read(stream, header)
            continue
        count += 1
        if count > MAX_ENTRIES:
            raise MalformedDocument("layer", f"its tar has more than {MAX_ENTRIES} entries, the most that are read")
        if header.type == b"g":
            records(stream.special(header.size))  # container runtimes apply no global header
        else:
            yield _member(header, extended, stream, begin)
        begin = stream.position
        if extended.count:
            extended = _Extended()
    if extended.count:
        raise MalformedDocument("layer", "its tar ends behind an extended header")
    if any(stream.block()):
        raise MalformedDocument("layer", "its tar goes on behind its end")


def _header(block: bytes) -> _Header:
    name, mode, uid, gid, size, checksum, kind, target, magic, prefix = _FIELDS.unpack(block)
    _check(block, checksum)
    if prefix[0] and (above := _prefix(block, magic, prefix)):
        name = above + b"/" + _text(name)
    owner = repeated_number(uid), repeated_number(gid)
    return _Header(block, kind, _text(name), repeated_number(size), repeated_number(mode), *owner, _text(target))


def _check(block: bytes, checksum: bytes) -> None:
    """Compare the sum of all bytes, the sum's own field taken for blanks; old tars add signed bytes."""
    total = _sum(block) - sum(block[148:156]) + 8 * ord(" ")
    if (said := repeated_number(checksum)) != total:
        high = sum(byte > 127 for byte in block) - sum(byte > 127 for byte in block[148:156])
        if said != total - 256 * high:
            raise MalformedDocument("layer", "a header of its tar is not what its checksum says")


def _sum(block: bytes) -> int:
    """Adler-32 has a sum of bytes in it (RFC 1950), from 1 and modulo 65521, which no 512 bytes of ASCII reach."""
    return (zlib.adler32(block) & 0xFFFF) - 1 if block.isascii() else sum(block)


def _prefix(block: bytes, magic: bytes, prefix: bytes) -> bytes:
    """What stands before a long name, in the formats that have such a field."""
    if magic.startswith(_POSIX_MAGIC):
        return _text(prefix[:131] if block.endswith(b"tar\0") else prefix)
    if magic == sparse.GNU_MAGIC and not _are_times(prefix) and (text := _text(prefix)).isascii():
        return text  # Go before 1.8 wrote such headers: https://go.dev/issue/12594
    return b""


def _are_times(prefix: bytes) -> bool:
    try:
        number(prefix[:12])
        number(prefix[12:24])
    except MalformedDocument:
        return False
    return True


def _member(header: _Header, extended: _Extended, stream: Stream, begin: int) -> Member:
    """The entry of a header; `begin` is where the first of its headers stands."""
    name, size, uid, gid, target = header.name, header.size, header.uid, header.gid, header.target
    told = extended.records
    if told:
        name, target = told.get(b"path") or name, told.get(b"linkpath") or target
        size = decimal(said) if (said := told.get(b"size")) else size
        uid = decimal(said) if (said := told.get(b"uid")) else uid
        gid = decimal(said) if (said := told.get(b"gid")) else gid
    name, target = extended.name or name, extended.target or target
    kind = _kind(header.type, name)
    if kind != "file":
        return Member(name, kind, 0, header.mode, uid, gid, target, None, stream.position - begin)
    if size < 0:
        raise MalformedDocument("layer", "a file of its tar has a size below 0")
    runs = None
    if header.type == b"S":
        runs, size = sparse.old_runs(header.block, stream, size)
    else:
        stream.open(size)
        if told and sparse.is_told(told):
            name = told.get(b"GNU.sparse.name") or name
            runs, size = sparse.told_runs(told, stream, size)
    return Member(name, kind, size, header.mode, uid, gid, target, runs, stream.position - begin)


def _kind(letter: bytes, name: bytes) -> Kind:
    if letter == b"\0" and name.endswith(b"/"):
        return "folder"  # as tars before POSIX say it
    return _KINDS.get(letter, "file")


def records(data: bytes) -> dict[bytes, bytes]:
    """The records of an extended header: `LENGTH KEY=VALUE`, each with a line end that its length counts.

    The pairs of GNU's sparse format 0.0, which repeats a key for every one, become the one list of its format 0.1.

    Raises:
        MalformedDocument: it is anything else.
    """
    found: dict[bytes, bytes] = {}
    pairs: list[bytes] = []
    at = 0
    while at < len(data):
        space = data.find(b" ", at, at + 20)
        length = data[at:space] if space > 0 else b""
        end = at + int(length) if length.isdigit() else 0
        key, equals, value = data[space + 1 : end - 1].partition(b"=")
        if not space < end <= len(data) or data[end - 1 : end] != b"\n" or not key or not equals:
            raise MalformedDocument("layer", "an extended header of its tar is none")
        if key in sparse.PAIR:
            if key != sparse.PAIR[len(pairs) % 2] or b"," in value:
                raise MalformedDocument("layer", "an extended header of its tar has a sparse map that is none")
            pairs.append(value)
        else:
            found[key] = value
        at = end
    if pairs:
        found[sparse.MAP] = b",".join(pairs)
    return found


def _text(field: bytes) -> bytes:
    return field.partition(b"\0")[0]
