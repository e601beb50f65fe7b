"""What one layer holds, read from its uncompressed tar in one pass.

In: the bytes of the tar, in pieces. Out: `LayerContents`. Touches nothing: the bytes come from an iterator.

A layer is foreign data: what its tar may cost is bounded (`stream.py`, `headers.py` and the limits here), and nothing
is kept of a file but its digest, unless it is one of the small ones that tell of users and packages.
"""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING

from buildorch.contents import packages, paths, sparse
from buildorch.contents.columns import entries_of
from buildorch.contents.headers import members
from buildorch.contents.layer import LayerContents, Package
from buildorch.contents.stream import MAX_UNPACKED, Stream
from buildorch.errors import MalformedDocument

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from buildorch.contents.columns import Row
    from buildorch.contents.headers import Member

MAX_PARSED = 16 * 1024 * 1024
"""Bytes of a file that is read for users or packages; what a larger one tells is not known."""
MAX_TEXT = 512 * 1024 * 1024
"""Characters of all paths, link targets, and names and versions of packages."""
_HEAD = 4096
_MODE, _OWNER = 0o7777, 0xFFFFFFFF
"""What chmod(2) and chown(2) take of a number."""
_PRIVATE_KEY = re.compile(rb"^(?:\xef\xbb\xbf)?-----BEGIN [A-Z0-9 ]{0,32}PRIVATE KEY-----", re.MULTILINE).search
"""RFC 7468, and the older forms of OpenSSL and OpenSSH; `openssl pkcs12` and `openssl ec -text` write lines before."""
_PUTTY_KEY = b"PuTTY-User-Key-File-"


def read(pieces: Iterator[bytes]) -> LayerContents:
    """Read a layer's uncompressed tar; `pieces` are its bytes in order, and are read to their end.

    Raises:
        MalformedDocument: it is no tar, is cut off, leads out of its root, or is larger than what is read.
    """
    stream, found = Stream(pieces), _Found()
    for member in members(stream):
        found.add(member, stream)
    stream.drain()
    told = sorted({package for some in found.packages.values() for package in some})
    entries = entries_of([*zip(*found.rows, strict=True)])
    return LayerContents(stream.size, entries, found.users, tuple(told))


class _Found:
    """What the members so far came to."""

    __slots__ = ("content_bytes", "packages", "rows", "text", "users")

    def __init__(self) -> None:
        self.rows: list[Row] = []
        self.users: Mapping[str, int] | None = None
        self.packages: dict[str, tuple[Package, ...]] = {}
        """By the path that tells of them, so that of two entries of one path the last holds."""
        self.content_bytes = self.text = 0

    def add(self, member: Member, stream: Stream) -> None:
        """Take in one member, and its data."""
        change = paths.change(paths.below_root(member.name), member.kind)
        if change is None:
            return
        kind, path = change
        if kind in {"whiteout", "opaque"}:
            self._weigh(len(path))
            self.rows.append((path, kind, 0, 0, 0, 0, "", "", False, member.stored))
            return
        self.packages.pop(path, None)
        if path == packages.USERS:
            self.users = None
        target, digest, is_private_key = "", "", False
        if kind == "file":
            digest, is_private_key = self._file(path, member, stream)
        elif kind in {"symlink", "hardlink"}:
            target = paths.text_of(member.target)
            if kind == "hardlink":
                self._linked(path, paths.below_root(member.target))
        self._weigh(len(path) + len(target))
        owner = member.uid & _OWNER, member.gid & _OWNER
        mode, stored = member.mode & _MODE, member.stored
        self.rows.append((path, kind, member.size, mode, *owner, target, digest, is_private_key, stored))

    def _file(self, path: str, member: Member, stream: Stream) -> tuple[str, bool]:
        """The digest of a file's content, and whether it is a private key."""
        self.content_bytes += member.size
        if self.content_bytes > MAX_UNPACKED:
            raise MalformedDocument("layer", f"its files hold more than {MAX_UNPACKED} B, the most that is read")
        parser = packages.parser_of(path)
        is_parsed = member.size <= MAX_PARSED and (parser is not None or path == packages.USERS)
        digest, begin = _content(member, stream, keep=max(member.size, _HEAD) if is_parsed else _HEAD)
        if is_parsed and parser:
            self._tell(path, parser(begin, path))
        elif is_parsed:
            self.users = packages.users(begin)
        return digest, _is_private_key(begin)

    def _linked(self, path: str, source: str) -> None:
        """A hard link tells what the file does: uv and pnpm install by linking from their caches."""
        if (told := self.packages.get(source)) and packages.parser_of(path):
            self._tell(path, tuple(Package(one.kind, one.name, one.version, path) for one in told))

    def _tell(self, path: str, told: tuple[Package, ...]) -> None:
        for one in told:
            self._weigh(len(one.name) + len(one.version))
        if told:
            self.packages[path] = told

    def _weigh(self, characters: int) -> None:
        self.text += characters
        if self.text > MAX_TEXT:
            raise MalformedDocument("layer", f"its names are longer than {MAX_TEXT} characters, the most that are read")


def _content(member: Member, stream: Stream, *, keep: int) -> tuple[str, bytes]:
    """The digest of a file's content, and its first bytes."""
    parts = iter(stream.data() if member.runs is None else sparse.content(member.runs, member.size, stream))
    first = next(parts, b"")  # and mostly the only one
    digest, begin, room = hashlib.sha256(first), [first[:keep]], keep - len(first)
    for part in parts:
        digest.update(part)
        if room > 0:
            begin.append(part[:room])
            room -= len(part)
    return digest.hexdigest(), b"".join(begin)


def _is_private_key(begin: bytes) -> bool:
    if begin.startswith(_PUTTY_KEY):
        return True
    return b"-----BEGIN " in begin and _PRIVATE_KEY(begin, 0, _HEAD) is not None
