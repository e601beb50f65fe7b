"""Blobs of the engine's content store, by digest.

In: digests. Out: bytes. Touches: the engine's socket.

dockerd serves BuildKit's gRPC at `POST /grpc` with `Upgrade: h2c`, and BuildKit serves containerd's content store there
(moby/buildkit `control/control.go`, Controller.Register; containerd `api/services/content/v1/content.proto`). So a
manifest of 2 KB costs 2 KB, where `docker save` sends the whole image.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from buildorch.engine.grpc import BrokenCall, Channel, RefusedCall, fields, text_field
from buildorch.errors import EngineUnreachable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from buildorch.engine.api import Engine

READ = "/containerd.services.content.v1.Content/Read"
_DATA_FIELD = 2


def read_blob(engine: Engine, digest: str) -> Iterator[bytes]:
    """The blob's bytes, in order, over a connection of its own.

    That the store has a blob does not say that an image is there: BuildKit serves its history's blobs beside the
    engine's (moby/buildkit `control/control.go`, `WithFallbackNS`). `buildorch.engine.containerd` tells them apart.

    Raises:
        EngineUnreachable: the engine goes away, or does not have the blob.
    """
    stream, rest = engine.upgrade("/grpc", "h2c")
    try:
        for message in Channel(stream, rest).call(READ, text_field(1, digest)):  # ReadContentRequest{digest = 1}
            yield _data(message)
    except RefusedCall as error:
        raise EngineUnreachable(engine.endpoint, f"it does not give {digest}: {error}") from None
    except BrokenCall as error:
        detail = f": {error.detail}" if error.detail else ""
        raise EngineUnreachable(engine.endpoint, f"{error.fact} while sending {digest}{detail}") from None
    except OSError as error:
        raise EngineUnreachable(engine.endpoint, f"reading {digest}: {error}") from None
    finally:
        stream.close()


def _data(message: bytes) -> bytes:
    """ReadContentResponse{offset = 1, data = 2}: the data.

    Raises:
        MalformedDocument: it is not such a message.
    """
    for number, value in fields(message):
        if number == _DATA_FIELD and isinstance(value, bytes):
            return value
    return b""
