"""Layer tars for tests: whole ones by `tarfile`, and broken ones block by block."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator

BLOCK = 512
END = bytes(2 * BLOCK)


def member(name: str, content: bytes = b"", *, kind: bytes = tarfile.REGTYPE, **fields: object) -> bytes:
    """One entry: its headers as GNU tar writes them, its content and the padding."""
    info = tarfile.TarInfo(name)
    info.type, info.size = kind, len(content)
    for field, value in fields.items():
        setattr(info, field, value)
    return info.tobuf(tarfile.GNU_FORMAT, "utf-8", "surrogateescape") + padded(content)


def folder(name: str, **fields: object) -> bytes:
    return member(name, kind=tarfile.DIRTYPE, **fields)


def symlink(name: str, target: str) -> bytes:
    return member(name, kind=tarfile.SYMTYPE, linkname=target)


def hardlink(name: str, target: str) -> bytes:
    return member(name, kind=tarfile.LNKTYPE, linkname=target)


def extended(*records: tuple[bytes, bytes], kind: bytes = b"x") -> bytes:
    """A PAX header before the entry that follows, or a global one."""
    return member("pax", b"".join(record(*one) for one in records), kind=kind)


def record(key: bytes, value: bytes) -> bytes:
    rest = b" " + key + b"=" + value + b"\n"
    length = len(rest)
    while len(b"%d" % length) + len(rest) != length:
        length = len(b"%d" % length) + len(rest)
    return b"%d" % length + rest


def patched(data: bytes, at: int, field: bytes, *, block: int = 0) -> bytes:
    """The same with other bytes in one of its headers, whose checksum is made to fit."""
    begin = block * BLOCK
    header = bytearray(data[begin : begin + BLOCK])
    header[at : at + len(field)] = field
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return data[:begin] + bytes(header) + data[begin + BLOCK :]


def padded(content: bytes) -> bytes:
    return content + bytes(-len(content) % BLOCK)


def in_pieces(data: bytes, size: int = 1 << 20) -> Iterator[bytes]:
    return (data[at : at + size] for at in range(0, len(data), size))


def by_tarfile(data: bytes) -> list[tuple[tarfile.TarInfo, bytes]]:
    """What `tarfile` reads, to compare with."""
    with tarfile.open(fileobj=io.BytesIO(data), encoding="utf-8", errors="surrogateescape") as archive:
        return [(one, archive.extractfile(one).read() if one.isreg() else b"") for one in archive]  # type: ignore[union-attr]
