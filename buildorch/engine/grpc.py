"""gRPC over one HTTP/2 connection, and the little of protobuf that its messages here need.

In: a connected stream, method names, messages as bytes. Out: the answers' messages as bytes. Touches: that stream.

HTTP/2 is the library h2's, but for frames of data alone (`frames.py`). Messages have a few fields each way, so they are
read and written here: grpcio and protobuf would take longer to import than all the calls of a run take.

Sources: gRPC over HTTP2 (grpc/grpc `doc/PROTOCOL-HTTP2.md`); the encoding guide of protobuf.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from buildorch.engine.frames import LARGEST, Frames, window_update
from buildorch.errors import MalformedDocument

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator, Mapping

    from h2.events import Event

WINDOW = 8 * 1024 * 1024
PIECE = 256 * 1024
_VARINT, _FIXED64, _LENGTH_DELIMITED, _FIXED32 = 0, 1, 2, 5


class RefusedCall(Exception):
    """The server answered, and not with what was asked for: the text is its reason."""


class BrokenCall(Exception):
    """There is no whole answer; `fact` is a clause about the server ("it broke off"), `detail` says more or nothing."""

    def __init__(self, fact: str, detail: object = "") -> None:
        super().__init__(f"{fact}: {detail}" if detail else fact)
        self.fact, self.detail = fact, str(detail)


class Channel:
    """One connection that carries calls one after another; whoever opened the stream closes it."""

    def __init__(self, stream: socket.socket, received: bytes = b"") -> None:
        """`received` is what came over the stream already: the server may speak first."""
        import h2.config  # noqa: PLC0415 - 40 ms, only where an engine's image is asked for
        import h2.connection  # noqa: PLC0415
        from h2.settings import SettingCodes, Settings  # noqa: PLC0415

        self._stream, self._received = stream, received
        self._frames, self._taken = Frames(), 0
        self._link = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True, header_encoding="utf-8"))
        headers = self._link.DEFAULT_MAX_HEADER_LIST_SIZE  # h2's own settings otherwise
        wanted = {SettingCodes.MAX_FRAME_SIZE: LARGEST, SettingCodes.MAX_HEADER_LIST_SIZE: headers}
        self._link.local_settings = Settings(client=True, initial_values=wanted)
        self._link.max_inbound_frame_size = LARGEST
        self._link.initiate_connection()
        self._link.increment_flow_control_window(WINDOW)

    def call(self, method: str, message: bytes, *, metadata: Mapping[str, str] | None = None) -> Iterator[bytes]:
        """The answer's messages, in order; they must be read to their end before the next call.

        Raises:
            RefusedCall: the server gave an error, in place of messages or behind them.
            BrokenCall: the connection ended, or broke HTTP/2, before the answer's end.
            OSError: the stream failed.
        """
        import h2.events  # noqa: PLC0415

        link, stream_id = self._link, self._link.get_next_available_stream_id()
        link.send_headers(stream_id, [*_PSEUDO, (":path", method), *_HEADERS, *(metadata or {}).items()])
        link.increment_flow_control_window(WINDOW, stream_id)
        unsent = struct.pack(">BI", 0, len(message)) + message
        messages = Messages()
        while True:
            unsent = self._send(stream_id, unsent)
            for event in self._receive():
                match event:
                    case memoryview():
                        self._taken += len(event)
                        yield from messages.feed(event)
                    case h2.events.DataReceived():
                        link.acknowledge_received_data(event.flow_controlled_length, stream_id)
                        yield from messages.feed(event.data)
                    case h2.events.ResponseReceived() | h2.events.TrailersReceived():
                        _check({str(key): str(value) for key, value in event.headers})
                        self._frames.stream = stream_id
                    case h2.events.StreamEnded():
                        return
                    case h2.events.StreamReset() | h2.events.ConnectionTerminated():
                        raise BrokenCall("it broke off")
                    case _:
                        pass

    def _send(self, stream_id: int, unsent: bytes) -> bytes:
        """Send what the server leaves room for, and what HTTP/2 has to say; what is left waits for its next word."""
        link = self._link
        while unsent and (room := min(link.local_flow_control_window(stream_id), link.max_outbound_frame_size)) > 0:
            link.send_data(stream_id, unsent[:room], end_stream=len(unsent) <= room)
            unsent = unsent[room:]
        waiting = link.data_to_send()
        if self._taken >= WINDOW // 4:  # h2 knows nothing of these bytes
            waiting += window_update(0, self._taken) + window_update(stream_id, self._taken)
            self._taken = 0
        if waiting:
            self._stream.sendall(waiting)
        return unsent

    def _receive(self) -> list[Event | memoryview]:
        import h2.exceptions  # noqa: PLC0415

        received = self._received or self._stream.recv(PIECE)
        self._received = b""
        if not received:
            raise BrokenCall("it closed the connection")
        found: list[Event | memoryview] = []
        try:
            for frame in self._frames.cut(received):
                found += [frame] if isinstance(frame, memoryview) else self._link.receive_data(frame)
        except (h2.exceptions.ProtocolError, MalformedDocument) as error:
            raise BrokenCall("it broke HTTP/2", error) from None
        return found


_PSEUDO = [(":method", "POST"), (":scheme", "http"), (":authority", "localhost")]
_HEADERS = [("content-type", "application/grpc"), ("te", "trailers")]


def _check(headers: Mapping[str, str]) -> None:
    status = headers.get("grpc-status", "0")
    if headers.get(":status", "200") != "200" or status != "0":
        raise RefusedCall(headers.get("grpc-message") or f"gRPC status {status}")


class Messages:
    """Cuts gRPC's length-prefixed messages out of HTTP/2 data."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes | memoryview) -> Iterator[bytes]:
        """The messages that are whole with this data."""
        self._buffer += data
        while len(self._buffer) >= 5:
            (length,) = struct.unpack_from(">I", self._buffer, 1)
            if len(self._buffer) < 5 + length:
                return
            with memoryview(self._buffer)[5 : 5 + length] as message:
                whole = bytes(message)
            del self._buffer[: 5 + length]
            yield whole


def text_field(number: int, text: str) -> bytes:
    """A string field of a message."""
    data = text.encode()
    return _varint(number << 3 | _LENGTH_DELIMITED) + _varint(len(data)) + data


def fields(message: bytes) -> Iterator[tuple[int, bytes | int]]:
    """Every field of a message, in order: its number, and its bytes or its integer.

    Raises:
        MalformedDocument: it is not a message.
    """
    at = 0
    while at < len(message):
        key, at = _read_varint(message, at)
        kind = key & 7
        if kind == _VARINT:
            value, at = _read_varint(message, at)
            yield key >> 3, value
            continue
        if kind == _LENGTH_DELIMITED:
            size, at = _read_varint(message, at)
        elif kind in {_FIXED64, _FIXED32}:
            size = 8 if kind == _FIXED64 else 4
        else:
            raise MalformedDocument("gRPC message", f"a field is of the unknown type {kind}")
        if at + size > len(message):
            raise MalformedDocument("gRPC message", "a field is cut off")
        yield key >> 3, message[at : at + size]
        at += size


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    number = shift = 0
    while at < len(data) and shift < 70:
        byte = data[at]
        at += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, at
        shift += 7
    raise MalformedDocument("gRPC message", "a message ends in the middle of a number")
