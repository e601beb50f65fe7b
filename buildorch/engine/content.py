"""Blobs of the engine's content store, by digest.

In: digests. Out: bytes. Touches: the engine's socket.

dockerd serves BuildKit's gRPC at `POST /grpc` with `Upgrade: h2c`, and BuildKit serves containerd's content store there
(moby/buildkit `control/control.go`, Controller.Register; containerd `api/services/content/v1/content.proto`). So a
manifest of 2 KB costs 2 KB, where `docker save` sends the whole image. One method of one service is used, with two
scalar fields each way: the messages are read and written here, HTTP/2 is the library h2's.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from buildorch.engine.api import CHUNK
from buildorch.errors import EngineUnreachable, MalformedDocument

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator

    from buildorch.engine.api import Engine

READ = "/containerd.services.content.v1.Content/Read"
WINDOW = 8 * 1024 * 1024
_LENGTH_DELIMITED, _VARINT = 2, 0
_DATA_FIELD = 2


def read_blob(engine: Engine, digest: str) -> Iterator[bytes]:
    """The blob's bytes, in order, over a connection of its own.

    Raises:
        EngineUnreachable: the engine goes away, or does not have the blob.
    """
    stream, rest = engine.upgrade("/grpc", "h2c")
    try:
        yield from _read(engine, stream, rest, digest)
    except OSError as error:
        raise EngineUnreachable(engine.endpoint, f"reading {digest}: {error}") from None
    finally:
        stream.close()


def _read(engine: Engine, stream: socket.socket, received: bytes, digest: str) -> Iterator[bytes]:
    import h2.config  # noqa: PLC0415 - 40 ms, only where an engine's image is read
    import h2.connection  # noqa: PLC0415
    import h2.events  # noqa: PLC0415
    import h2.exceptions  # noqa: PLC0415

    link = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True, header_encoding="utf-8"))
    link.initiate_connection()
    link.increment_flow_control_window(WINDOW)
    stream_id = link.get_next_available_stream_id()
    link.send_headers(stream_id, _HEADERS)
    link.increment_flow_control_window(WINDOW, stream_id)
    link.send_data(stream_id, _request(digest), end_stream=True)
    stream.sendall(link.data_to_send())
    messages = _Messages()
    while True:
        try:
            events = link.receive_data(received)
        except h2.exceptions.ProtocolError as error:
            raise EngineUnreachable(engine.endpoint, f"it broke HTTP/2 while sending {digest}: {error}") from None
        for event in events:
            match event:
                case h2.events.DataReceived():
                    link.acknowledge_received_data(event.flow_controlled_length, stream_id)
                    yield from map(_data, messages.feed(event.data))
                case h2.events.ResponseReceived() | h2.events.TrailersReceived():
                    _check(engine, digest, {str(key): str(value) for key, value in event.headers})
                case h2.events.StreamEnded():
                    return
                case h2.events.StreamReset() | h2.events.ConnectionTerminated():
                    raise EngineUnreachable(engine.endpoint, f"it broke off while sending {digest}")
                case _:
                    pass
        if reply := link.data_to_send():
            stream.sendall(reply)
        received = stream.recv(CHUNK)
        if not received:
            raise EngineUnreachable(engine.endpoint, f"it closed the connection while sending {digest}")


def _check(engine: Engine, digest: str, headers: dict[str, str]) -> None:
    status = headers.get("grpc-status", "0")
    if headers.get(":status", "200") != "200" or status != "0":
        fact = headers.get("grpc-message") or f"gRPC status {status}"
        raise EngineUnreachable(engine.endpoint, f"it does not give {digest}: {fact}")


_HEADERS = [
    (":method", "POST"),
    (":scheme", "http"),
    (":path", READ),
    (":authority", "docker"),
    ("content-type", "application/grpc"),
    ("te", "trailers"),
]


def _request(digest: str) -> bytes:
    """ReadContentRequest{digest = 1}, framed as gRPC frames it."""
    text = digest.encode()
    message = bytes([1 << 3 | _LENGTH_DELIMITED]) + _varint(len(text)) + text
    return struct.pack(">BI", 0, len(message)) + message


class _Messages:
    """Cuts gRPC's length-prefixed messages out of HTTP/2 data."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[bytes]:
        self._buffer += data
        while len(self._buffer) >= 5:
            (length,) = struct.unpack_from(">I", self._buffer, 1)
            if len(self._buffer) < 5 + length:
                return
            yield bytes(self._buffer[5 : 5 + length])
            del self._buffer[: 5 + length]


def _data(message: bytes) -> bytes:
    """ReadContentResponse{offset = 1, data = 2}: the data.

    Raises:
        MalformedDocument: it is not such a message.
    """
    at = 0
    try:
        while at < len(message):
            key, at = _read_varint(message, at)
            value, at = _read_varint(message, at)
            if key & 7 == _VARINT:
                continue
            if key >> 3 == _DATA_FIELD:
                return message[at : at + value]
            at += value
    except IndexError:
        raise MalformedDocument("answer of the content store", "a message ends in the middle of a number") from None
    return b""


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    number = shift = 0
    while True:
        byte = data[at]
        at += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, at
        shift += 7
