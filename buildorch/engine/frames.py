"""HTTP/2 as a server sends it, cut into frames: what the plain DATA frames of one stream hold, and all others whole.

In: received bytes. Out: data without a copy, and whole frames, which are h2's to read. Touches nothing.

h2 writes every frame's bytes out in hex, for a log that is off (h2/connection.py, `_receive_frame`), and copies them.
That was more than half of what fetching a layer costs. Only frames that say nothing but data are taken here.

Source: RFC 9113, sections 4.1 (frames), 6.1 (DATA) and 6.9 (WINDOW_UPDATE).
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from buildorch.errors import MalformedDocument

if TYPE_CHECKING:
    from collections.abc import Iterator

LARGEST = 128 * 1024
"""Most bytes of a frame that the server may send: to take HTTP/2's own 16 KiB apart costs half as much again."""
_HEAD = struct.Struct(">HBBBI")
_DATA, _WINDOW_UPDATE = 0, 8


class Frames:
    """Cuts what is received, wherever it was cut on its way."""

    def __init__(self) -> None:
        self.stream = 0
        """The stream whose DATA frames are taken; 0 for none."""
        self._begin = b""
        self._left = 0

    def cut(self, received: bytes) -> Iterator[memoryview | bytes]:
        """Data of the stream as a memoryview; every other frame, and DATA that ends a stream or is padded, as bytes.

        Raises:
            MalformedDocument: a frame is larger than it may be.
        """
        view, at, self._begin = memoryview(self._begin + received), 0, b""
        while at < len(view):
            if self._left:
                data = view[at : at + self._left]
                self._left -= len(data)
                at += len(data)
                yield data
                continue
            end = at + _HEAD.size
            if end > len(view):
                break
            high, low, kind, flags, stream = _HEAD.unpack_from(view, at)
            size = high << 8 | low
            if size > LARGEST:
                raise MalformedDocument("HTTP/2 frame", f"it has {size} bytes, where {LARGEST} are the most")
            if kind == _DATA and not flags and stream == self.stream != 0:
                self._left, at = size, end
            elif end + size > len(view):
                break
            else:
                yield bytes(view[at : end + size])
                at = end + size
        self._begin = bytes(view[at:])


def window_update(stream: int, size: int) -> bytes:
    """The frame that lets the server send so many bytes more on a stream; stream 0 is the connection."""
    return _HEAD.pack(0, 4, _WINDOW_UPDATE, 0, stream) + struct.pack(">I", size)
