"""The bytes of a tar, read forward only.

In: an iterator of bytes. Out: blocks, and the data behind a header, without a copy. Touches nothing: the bytes come
from the iterator, whose own errors pass through unchanged.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from buildorch.errors import MalformedDocument

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

BLOCK = 512
"""What headers and data are padded to (POSIX.1-2017, pax, "ustar Interchange Format")."""
MAX_UNPACKED = 64 * 1024**3
"""Bytes of one layer's tar; and of its files' contents, since a hole takes no room in a tar."""
MAX_SPECIAL = 1024 * 1024
"""Bytes of one extended header, long name or sparse map: what Go's archive/tar takes, so that nothing larger runs."""
MAX_SPECIALS = 1024**3
"""Bytes of all of them: reading their many small records takes far longer than hashing as much."""


class Stream:
    """A tar's bytes in order: `block`, then `open` and `data` for what stands behind a header."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._piece, self._at = b"", 0
        self._left = self._padding = self._specials = 0
        self.size = 0
        """Bytes of all pieces so far."""

    def block(self) -> bytes:
        """The next block, behind what is left of the data before it; nothing at the end.

        Raises:
            MalformedDocument: the archive ends in the middle of a block, or of the data before it.
        """
        if self._left or self._padding:
            self._close()
        found = self._piece[self._at : self._at + BLOCK]
        self._at += len(found)
        if len(found) < BLOCK:
            found += b"".join(self._views(BLOCK - len(found)))
            if 0 < len(found) < BLOCK:
                raise _cut_off()
        return found

    def open(self, size: int) -> None:
        """Say how many bytes of data stand behind the block that was read last."""
        self._left, self._padding = size, -size % BLOCK

    @property
    def position(self) -> int:
        """How many bytes were read so far, what was opened and is not read yet among them."""
        return self.size - len(self._piece) + self._at + self._left + self._padding

    @property
    def left(self) -> int:
        """How much of the opened data has not been read."""
        return self._left

    def data(self, size: int | None = None) -> Iterable[memoryview]:
        """The next `size` bytes of the opened data, or all that is left of it.

        Raises:
            MalformedDocument: the archive ends before, or so much is not left.
        """
        size = self._left if size is None else size
        if size > self._left:
            raise MalformedDocument("layer", "its tar has less data than a header says")
        begin, end = self._at, self._at + size
        if end > len(self._piece):
            return self._pieced(size)
        self._at = end
        self._left -= size
        return (memoryview(self._piece)[begin:end],) if size else ()

    def _pieced(self, size: int) -> Iterator[memoryview]:
        """Data that does not lie in one piece."""
        for view in self._views(size):
            self._left -= len(view)
            size -= len(view)
            yield view
        if size:
            raise _cut_off()

    def special(self, size: int) -> bytes:
        """The whole data behind a header that is no entry's own.

        Raises:
            MalformedDocument: there is more of it than an honest layer has.
        """
        self.charge(size)
        self.open(size)
        return b"".join(self.data())

    def charge(self, size: int) -> None:
        """Count bytes that say how to read others.

        Raises:
            MalformedDocument: there are more of them than an honest layer has.
        """
        self._specials += size
        if not 0 <= size <= MAX_SPECIAL or self._specials > MAX_SPECIALS:
            raise MalformedDocument("layer", "its tar has longer extended headers than an honest one needs")

    def drain(self) -> None:
        """Read to the end of the pieces."""
        while self._more():
            pass

    def _close(self) -> None:
        """Pass over what is left of the data, and its padding, where an archive may end: nothing is missing then."""
        if self._left:
            for _ in self.data():
                pass
        self._at += self._padding
        behind = self._at - len(self._piece)
        if behind > 0:
            for _ in self._views(behind):
                pass
        self._padding = 0

    def _views(self, size: int) -> Iterator[memoryview]:
        """The next `size` bytes, or what there is of them."""
        while size:
            view = memoryview(self._piece)[self._at : self._at + size]
            if view:
                self._at += len(view)
                size -= len(view)
                yield view
            elif not self._more():
                return

    def _more(self) -> bool:
        piece = next(self._pieces, None)
        if piece is None:
            return False
        self._piece, self._at = piece, 0
        self.size += len(piece)
        if self.size > MAX_UNPACKED:
            raise MalformedDocument("layer", f"its tar is larger than {MAX_UNPACKED} B, the most that is read")
        return True


def _cut_off() -> MalformedDocument:
    return MalformedDocument("layer", "its tar is cut off")
