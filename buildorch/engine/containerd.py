"""What an engine's image store holds, asked of its containerd: for hundreds of images in a few milliseconds.

In: what the engine says of itself, image names, digests. Out: `Stored`. Touches: containerd's socket, the engine's
socket, and two small files of this machine that tell whether both are the same engine's.

The Engine API reads documents for each image it is asked about, about 10 ms of processor time each. containerd answers
from its database: one call for all names, one for all digests. Its socket is root's, so this is a shorter way and never
the only one: `Engine.inspect` answers the same.

Sources: containerd `api/services/images/v1/images.proto`, `api/services/content/v1/content.proto` and
`pkg/filters/parser.go`; moby `daemon/containerd`, which keeps images under their full names.
"""

from __future__ import annotations

import contextlib
import socket
import struct
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from buildorch.engine.grpc import BrokenCall, Channel, RefusedCall, fields, text_field
from buildorch.errors import EngineUnreachable, MalformedDocument
from buildorch.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from buildorch.engine.api import EngineInfo
    from buildorch.oci import ImageReference

LIST_IMAGES = "/containerd.services.images.v1.Images/List"
LIST_CONTENT = "/containerd.services.content.v1.Content/List"
NAMESPACE = "containerd-namespace"
"""The metadata that says whose images and blobs are meant (containerd `pkg/namespaces/grpc.go`)."""
TIMEOUT_S = 5.0
"""Ten thousand times what an answer takes; who waits longer is better served by the Engine API."""
MAX_FILTERS = 400
"""containerd compares each blob with each filter; with more filters than this, all blobs are listed in less time."""
_DAEMON = "dockerd"


@dataclass(frozen=True, slots=True)
class Containerd:
    """An engine's own containerd, on this machine."""

    address: str
    """Its socket."""
    namespace: str


@dataclass(frozen=True, slots=True)
class Stored:
    """What a store holds of what it was asked for."""

    targets: Mapping[str, str]
    """Full image name -> the digest it names; of the names, and of the roots' other names."""
    contents: frozenset[str]
    """The digests whose blobs are there."""


def full_name(reference: ImageReference) -> str:
    """The name containerd has an image under: with the hub's host and `library/`, and with a tag."""
    host, name = reference.registry or "docker.io", reference.repository
    if host in {"docker.io", "index.docker.io"}:
        host, name = "docker.io", name if "/" in name else f"library/{name}"
    return f"{host}/{name}:{reference.tag or 'latest'}"


def containerd_of(info: EngineInfo) -> Containerd | None:
    """The containerd of an engine, where it is on this machine beyond doubt and its socket is there; None elsewhere.

    An engine elsewhere, whose socket is forwarded to this machine, names a path that may be another engine's here. So
    two things must agree: the engine's id stands in its data root on this machine, and its socket is held by dockerd.
    """
    if info.store != "containerd" or not info.identity or not info.endpoint.startswith("unix:"):
        return None
    try:
        if (Path(info.data_root) / "engine-id").read_text(encoding="utf-8").strip() != info.identity:
            return None
        if not _is_dockerds(urlsplit(info.endpoint).path):
            return None
        if not Path(info.containerd).is_socket():
            return None
    except (OSError, ValueError):
        return None
    return Containerd(info.containerd, info.namespace)


def data_root_here(info: EngineInfo) -> Path | None:
    """The engine's data root, where it is a folder of this machine; None elsewhere, as behind a forwarded socket."""
    root = Path(info.data_root)
    try:
        is_here = info.endpoint.startswith("unix:") and _is_dockerds(urlsplit(info.endpoint).path)
        return root if is_here and info.data_root and root.is_dir() else None
    except (OSError, ValueError):
        return None


@contextlib.contextmanager
def connected(path: str) -> Iterator[socket.socket]:
    """A connection to a unix socket that answers within `TIMEOUT_S`, until the block ends.

    Raises:
        OSError: there is none to be had.
    """
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as stream:
        stream.settimeout(TIMEOUT_S)
        stream.connect(path)
        yield stream


def _is_dockerds(path: str) -> bool:
    """Whether a process of this machine that listens as dockerd holds a socket, or process 1 for it (systemd)."""
    if not hasattr(socket, "SO_PEERCRED"):
        return False
    with connected(path) as stream:
        process, _, _ = struct.unpack("3i", stream.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    return process == 1 or Path(f"/proc/{process}/comm").read_text(encoding="utf-8").strip() == _DAEMON


def stored(
    containerd: Containerd, names: Collection[str], *, roots: Collection[str], digests: Collection[str]
) -> Stored:
    """What these full names name, under which names these roots are, and which of these digests' blobs are there.

    Raises:
        EngineUnreachable: containerd cannot be asked, or gives no answer that can be read.
    """
    if not names:  # containerd takes no filter for every image
        return Stored({}, frozenset())
    metadata = {NAMESPACE: containerd.namespace}
    wanted = [f'name=="{name}"' for name in names] + [f'target.digest=="{digest}"' for digest in roots]
    blobs = [f'digest=="{digest}"' for digest in digests] if len(digests) <= MAX_FILTERS else []
    try:
        with connected(containerd.address) as stream:
            channel = Channel(stream)
            images = channel.call(LIST_IMAGES, _filters(wanted), metadata=metadata)
            targets = dict(map(_image, _repeated(images)))
            listed = channel.call(LIST_CONTENT, _filters(blobs), metadata=metadata)
            contents = frozenset(map(_digest, _repeated(listed)))
    except (OSError, RefusedCall, BrokenCall, MalformedDocument) as error:
        raise EngineUnreachable(containerd.address, str(error) or type(error).__name__) from None
    return Stored(targets, contents.intersection(digests))


def _filters(filters: Collection[str]) -> bytes:
    """ListImagesRequest and ListContentRequest{repeated filters = 1}: one that holds is enough; none means all."""
    return b"".join(text_field(1, one) for one in filters)


def _repeated(messages: Iterator[bytes]) -> Iterator[bytes]:
    """ListImagesResponse{repeated images = 1} and ListContentResponse{repeated info = 1}."""
    for message in messages:
        for number, value in fields(message):
            if number == 1 and isinstance(value, bytes):
                yield value


def _image(message: bytes) -> tuple[str, str]:
    """Image{name = 1, target = 3: Descriptor{digest = 2}}: the name, and the digest it names."""
    name, target = _text(message, 1), _bytes(message, 3)
    return name, _text(target, 2)


def _digest(message: bytes) -> str:
    """Info{digest = 1}."""
    return _text(message, 1)


def _text(message: bytes, number: int) -> str:
    try:
        return _bytes(message, number).decode()
    except UnicodeDecodeError:
        raise MalformedDocument("answer of containerd", f"its field {number} is no text") from None


def _bytes(message: bytes, number: int) -> bytes:
    for found, value in fields(message):
        if found == number and isinstance(value, bytes):
            return value
    raise MalformedDocument("answer of containerd", f"it has no field {number}")
