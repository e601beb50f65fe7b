"""Blobs of the engine's content store, by digest.

In: digests. Out: bytes. Touches: the engine's socket, and its containerd's where that is on this machine.

dockerd serves BuildKit's gRPC at `POST /grpc` with `Upgrade: h2c`, and BuildKit serves containerd's content store there
(moby/buildkit `control/control.go`, Controller.Register; containerd `api/services/content/v1/content.proto`). So a
manifest of 2 KB costs 2 KB, where `docker save` sends the whole image.

A blob passes through two processes so, each of which takes it apart and puts it together again. Where the engine's own
containerd may be asked, a large one costs the engine a sixth of that, and a small one a third.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from buildorch.engine.api import TIMEOUT_S
from buildorch.engine.containerd import NAMESPACE, connected
from buildorch.engine.grpc import BrokenCall, Channel, RefusedCall, fields, text_field
from buildorch.errors import EngineUnreachable, MalformedDocument

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Mapping

    from buildorch.engine.api import Engine
    from buildorch.engine.containerd import Containerd

READ = "/containerd.services.content.v1.Content/Read"
_DATA_FIELD = 2


def read_blob(engine: Engine, digest: str, containerd: Containerd | None = None) -> Iterator[bytes]:
    """The blob's bytes, in order, over a connection of its own.

    That the store has a blob does not say that an image is there: BuildKit serves its history's blobs beside the
    engine's (moby/buildkit `control/control.go`, `WithFallbackNS`). `buildorch.engine.containerd` tells them apart.

    Args:
        engine: whose store it is.
        digest: the blob's.
        containerd: the engine's own, where that may be asked: the shorter way, and never the only one, since its
            socket is root's. One that breaks off after its first bytes is told.

    Raises:
        EngineUnreachable: the engine goes away, or does not have the blob.
    """
    if containerd is not None:
        with contextlib.closing(_from_containerd(containerd, digest)) as messages:
            begin = _first(messages)
            if begin is not None:
                with _told(engine, digest):
                    yield begin
                    yield from messages
                return
    stream, rest = engine.upgrade("/grpc", "h2c")
    with _told(engine, digest), contextlib.closing(stream):
        yield from _read(Channel(stream, rest), digest)


def _first(messages: Iterator[bytes]) -> bytes | None:
    """None where containerd gives nothing: then the engine itself is asked, whose word it is."""
    try:
        return next(messages, b"")
    except (OSError, RefusedCall, BrokenCall, MalformedDocument):
        return None


def _from_containerd(containerd: Containerd, digest: str) -> Generator[bytes]:
    with connected(containerd.address) as stream:
        for message in _read(Channel(stream), digest, {NAMESPACE: containerd.namespace}):
            yield message
            stream.settimeout(TIMEOUT_S)  # it answers: from here on it may take as long as the engine itself


def _read(channel: Channel, digest: str, metadata: Mapping[str, str] | None = None) -> Iterator[bytes]:
    for message in channel.call(READ, text_field(1, digest), metadata=metadata):  # ReadContentRequest{digest = 1}
        yield _data(message)


@contextlib.contextmanager
def _told(engine: Engine, digest: str) -> Iterator[None]:
    """Say what went wrong, and while reading what."""
    try:
        yield
    except RefusedCall as error:
        raise EngineUnreachable(engine.endpoint, f"it does not give {digest}: {error}") from None
    except BrokenCall as error:
        detail = f": {error.detail}" if error.detail else ""
        raise EngineUnreachable(engine.endpoint, f"{error.fact} while sending {digest}{detail}") from None
    except OSError as error:
        raise EngineUnreachable(engine.endpoint, f"reading {digest}: {error}") from None


def _data(message: bytes) -> bytes:
    """ReadContentResponse{offset = 1, data = 2}: the data.

    Raises:
        MalformedDocument: it is not such a message.
    """
    for number, value in fields(message):
        if number == _DATA_FIELD and isinstance(value, bytes):
            return value
    return b""
