"""The Docker Engine API, the few calls buildorch needs.

In: an endpoint. Out: facts of the engine and of images, saved images. Touches: the engine's socket, its images' names
in `tag` and `untag`, and what the caller of `call` asks for.

Source: Docker Engine API v1.44 and later, https://docs.docker.com/reference/api/engine/.
"""

from __future__ import annotations

import http.client
import json
import os
import socket
import ssl
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self
from urllib.parse import quote, urlencode, urlsplit

from buildorch.errors import EngineError, EngineUnreachable, MalformedDocument
from buildorch.oci import load_json
from buildorch.record import EngineFacts
from buildorch.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

TIMEOUT_S = 30.0
CHUNK = 256 * 1024
_IN_CONTAINERD = ["driver-type", "io.containerd.snapshotter.v1"]
"""What `DriverStatus` holds where images are in containerd's store (moby `daemon/containerd`, `LayerStoreStatus`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineInfo:
    """What `GET /info` says, as far as buildorch needs it: it takes the engine 10 to 20 ms, so it is asked once."""

    endpoint: str
    version: str
    store: Literal["containerd", "graphdriver"]
    cpus: int
    platform: str
    """What it builds for where nobody says, in its own words: `linux/x86_64`."""
    mirrors: tuple[str, ...]
    """The URLs it asks before Docker Hub, in order."""
    identity: str
    """The engine's own id, which it also keeps in the file `engine-id` of its data root."""
    data_root: str
    """A path on the engine's machine."""
    containerd: str
    """The socket of its containerd, a path on the engine's machine; empty before API 1.46."""
    namespace: str
    """The containerd namespace of its images."""
    time: str = ""
    """Its clock when it answered, RFC 3339."""

    def facts(self, buildx_version: str) -> EngineFacts:
        """The part that is recorded."""
        return EngineFacts(
            version=self.version, buildx=buildx_version, store=self.store, endpoint=self.endpoint, cpus=self.cpus
        )


@dataclass(frozen=True, slots=True)
class InspectedImage:
    """What the engine says of one image."""

    digest: str
    """What its name resolves to: an index or a manifest; on the graphdriver store the config."""
    available: Mapping[str, bool] | None
    """Manifest digest -> whether all of that platform is there; None on the graphdriver store and before API 1.48."""

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Self:
        """Read `ImageInspect` of the Engine API.

        Raises:
            MalformedDocument: it has no id, or its manifests are no manifests.
        """
        digest, manifests = raw.get("Id"), raw.get("Manifests")
        if not isinstance(digest, str) or not isinstance(manifests, list | None):
            raise MalformedDocument("image of the engine", "it has no id, or its manifests are no list")
        if manifests is None:
            return cls(digest, None)
        if not all(isinstance(one, dict) for one in manifests):
            raise MalformedDocument("image of the engine", "one of its manifests is not a JSON object")
        return cls(
            digest,
            {str(mapping_in(one, "Descriptor").get("digest")): one.get("Available") is True for one in manifests},
        )


@dataclass(frozen=True, slots=True)
class Engine:
    """One Docker engine; every call opens a connection of its own, so threads may share this."""

    endpoint: str
    """`unix:///path`, `tcp://host:port` or `http(s)://host:port`."""
    tls: ssl.SSLContext | None = None

    @classmethod
    def at(cls, endpoint: str, environ: Mapping[str, str] = os.environ) -> Engine:
        """The engine at an endpoint, with TLS as DOCKER_TLS_VERIFY and DOCKER_CERT_PATH say."""
        if not environ.get("DOCKER_TLS_VERIFY") or endpoint.startswith("unix:"):
            return cls(endpoint)
        folder = Path(environ.get("DOCKER_CERT_PATH") or Path(environ.get("HOME", "/")) / ".docker")
        try:
            context = ssl.create_default_context(cafile=str(folder / "ca.pem"))
            context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
        except OSError as error:
            raise EngineUnreachable(endpoint, f"its TLS files in {folder} cannot be read: {error}") from None
        return cls(endpoint, context)

    def is_frozen(self, *, timeout_s: float) -> bool:
        """Whether it leaves a ping without an answer for `timeout_s` seconds; one that refuses is gone, not frozen."""
        connection = self._connect()
        connection.timeout = timeout_s
        try:
            connection.request("GET", "/_ping", headers={"Host": "docker"})
            connection.getresponse()
        except (TimeoutError, BlockingIOError):  # the latter where so many wait that its queue is full
            return True
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()
        return False

    def info(self, *, timeout_s: float = TIMEOUT_S) -> EngineInfo:
        """What the engine says of itself.

        Raises:
            EngineUnreachable: it does not answer within `timeout_s` seconds.
        """
        said = self._json("/info", timeout_s=timeout_s)
        containerd, cpus = mapping_in(said, "Containerd"), said.get("NCPU")
        mirrors = _list_in(mapping_in(said, "RegistryConfig"), "Mirrors")
        return EngineInfo(
            endpoint=self.endpoint,
            version=_text_in(said, "ServerVersion"),
            store="containerd" if _IN_CONTAINERD in _list_in(said, "DriverStatus") else "graphdriver",
            cpus=cpus if type(cpus) is int and cpus > 0 else 1,
            platform=f"{_text_in(said, 'OSType')}/{_text_in(said, 'Architecture')}",
            mirrors=tuple(one for one in mirrors if isinstance(one, str)),
            identity=_text_in(said, "ID"),
            data_root=_text_in(said, "DockerRootDir"),
            containerd=_text_in(containerd, "Address"),
            namespace=_text_in(mapping_in(containerd, "Namespaces"), "Containers"),
            time=_text_in(said, "SystemTime"),
        )

    def inspect(self, references: Iterable[str]) -> Iterator[InspectedImage | None]:
        """What the engine says of each image in turn, over one connection; None for one it does not have.

        On the containerd store one answer takes it about 10 ms of processor time, however it is asked.

        Raises:
            EngineUnreachable: it does not answer, or not with yes or no.
            MalformedDocument: an answer is not an image.
        """
        connection = self._connect()
        try:
            for reference in references:
                path = f"/images/{quote(reference, safe='/:@')}/json?manifests=1"
                response = self._ask(connection, path)
                try:
                    body = response.read()
                except (OSError, http.client.HTTPException) as error:
                    raise EngineUnreachable(self.endpoint, f"it broke off on {reference}: {error}") from None
                if response.status not in {200, 404}:
                    raise EngineUnreachable(self.endpoint, f"{path} gave {response.status}: {message_of(body)}")
                yield None if response.status == 404 else InspectedImage.from_json(load_json(body, f"answer to {path}"))
        finally:
            connection.close()

    def tag(self, source: str, name: str, *, tag: str) -> None:
        """Let `name:tag` name the image that `source` names, a reference or a digest; the image's digest stays.

        Raises:
            EngineUnreachable: the engine does not answer.
            EngineError: it does not have the image, or refuses.
        """
        path = f"/images/{quote(source, safe='/:@')}/tag?{urlencode({'repo': name, 'tag': tag})}"
        self._order(path, method="POST", expected=201, what=f"name {source} {name}:{tag}")

    def untag(self, reference: str) -> None:
        """Take a name off its image; an image without any name left goes with it.

        Raises:
            EngineUnreachable: the engine does not answer.
            EngineError: it has no such name, or refuses.
        """
        path = f"/images/{quote(reference, safe='/:@')}?noprune=true"
        self._order(path, method="DELETE", expected=200, what=f"take the name {reference} off its image")

    def saved(self, reference: str) -> Iterator[bytes]:
        """The image as `docker save` writes it: the bytes of a tar.

        Raises:
            EngineUnreachable: the engine does not answer, or does not have the image.
        """
        connection = self._connect()
        response = None
        try:
            response = self._ask(connection, f"/images/get?names={quote(reference, safe='')}")
            if response.status != 200:
                raise EngineUnreachable(
                    self.endpoint, f"it does not give the image {reference}: {message_of(response.read())}"
                )
            while chunk := response.read(CHUNK):
                yield chunk
        except (OSError, http.client.HTTPException) as error:
            raise EngineUnreachable(self.endpoint, f"it broke off while sending {reference}: {error}") from None
        finally:
            if response is not None:
                response.close()
            connection.close()

    def call(
        self, method: str, path: str, body: Mapping[str, Any] | None = None, *, timeout_s: float = TIMEOUT_S
    ) -> tuple[int, bytes]:
        """The status and the body of the answer to one call, whatever it says; `body` is sent as JSON.

        Raises:
            EngineUnreachable: the engine does not answer within `timeout_s` seconds, or breaks off.
        """
        connection = self._connect()
        connection.timeout = timeout_s
        try:
            response = self._ask(connection, path, method=method, body=body)
            return response.status, response.read()
        except (OSError, http.client.HTTPException) as error:
            raise EngineUnreachable(self.endpoint, str(error) or type(error).__name__) from None
        finally:
            connection.close()

    def upgrade(self, path: str, protocol: str) -> tuple[socket.socket, bytes]:
        """A connection that speaks another protocol after HTTP's upgrade, and what came behind the answer's head.

        Raises:
            EngineUnreachable: the engine does not answer, or not with 101.
        """
        connection = self._connect()
        try:
            connection.connect()
            stream = connection.sock
            stream.sendall(
                f"POST {path} HTTP/1.1\r\nHost: docker\r\nConnection: Upgrade\r\nUpgrade: {protocol}\r\n\r\n".encode()
            )
            head = b""
            while b"\r\n\r\n" not in head and (received := stream.recv(4096)) and len(head) < 64 * 1024:
                head += received
        except OSError as error:
            connection.close()
            raise EngineUnreachable(self.endpoint, _reason(error)) from None
        status, _, rest = head.partition(b"\r\n\r\n")
        if not status.startswith(b"HTTP/1.1 101"):
            stream.close()
            raise EngineUnreachable(self.endpoint, f"it does not speak {protocol} on {path}")
        return stream, rest

    def _order(self, path: str, *, method: str, expected: int, what: str) -> None:
        connection = self._connect()
        try:
            response = self._ask(connection, path, method=method)
            body = response.read()
        except (OSError, http.client.HTTPException) as error:
            raise EngineUnreachable(self.endpoint, f"it broke off when told to {what}: {error}") from None
        finally:
            connection.close()
        if response.status != expected:
            raise EngineError(f"the Docker engine at {self.endpoint} does not {what}: {message_of(body)}")

    def _json(self, path: str, *, timeout_s: float) -> dict[str, Any]:
        status, body = self.call("GET", path, timeout_s=timeout_s)
        if status != 200:
            raise EngineUnreachable(self.endpoint, f"{path} gave {status}: {message_of(body)}")
        try:
            loaded = json.loads(body)
        except ValueError:
            loaded = None
        if not isinstance(loaded, dict):
            raise MalformedDocument(f"answer to {path}", "it is not a JSON object")
        return loaded

    def _ask(
        self,
        connection: http.client.HTTPConnection,
        path: str,
        *,
        method: str = "GET",
        body: Mapping[str, Any] | None = None,
    ) -> http.client.HTTPResponse:
        said, kind = (None, {}) if body is None else (json.dumps(body), {"Content-Type": "application/json"})
        try:
            connection.request(method, path, said, headers={"Host": "docker", **kind})
            return connection.getresponse()
        except TimeoutError:
            raise EngineUnreachable(self.endpoint, f"it gave no answer within {connection.timeout:.0f} s") from None
        except (OSError, http.client.HTTPException) as error:
            raise EngineUnreachable(self.endpoint, _reason(error)) from None

    def _connect(self) -> http.client.HTTPConnection:
        parts = urlsplit(self.endpoint)
        if parts.scheme == "unix":
            return _UnixConnection(parts.path or "/")
        if parts.scheme in {"tcp", "http", "https"} and parts.hostname:
            port = parts.port or (2376 if self.tls else 2375)
            if self.tls or parts.scheme == "https":
                return http.client.HTTPSConnection(parts.hostname, port, timeout=TIMEOUT_S, context=self.tls)
            return http.client.HTTPConnection(parts.hostname, port, timeout=TIMEOUT_S)
        raise EngineUnreachable(self.endpoint, "buildorch speaks to unix:// and tcp:// endpoints")


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("docker", timeout=TIMEOUT_S)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def mapping_in(fields: object, key: str) -> Mapping[str, Any]:
    """The object under a key; empty where there is none, as in the answer of an older engine."""
    found = fields.get(key) if isinstance(fields, dict) else None
    return found if isinstance(found, dict) else {}


def _text_in(fields: Mapping[str, Any], key: str) -> str:
    found = fields.get(key)
    return found if isinstance(found, str) else ""


def _list_in(fields: Mapping[str, Any], key: str) -> list[Any]:
    found = fields.get(key)
    return found if isinstance(found, list) else []


def _reason(error: Exception) -> str:
    match error:
        case FileNotFoundError():
            return "there is no such socket"
        case ConnectionRefusedError():
            return "nothing listens there"
        case PermissionError():
            return "this user may not use the socket (is it in the docker group?)"
        case TimeoutError():
            return f"it gave no answer within {TIMEOUT_S:.0f} s"
    return str(error) or type(error).__name__


def message_of(body: bytes) -> str:
    """Why the engine refuses, in its own words."""
    try:
        return str(json.loads(body)["message"])
    except (ValueError, KeyError, TypeError):
        return body[:200].decode("utf-8", "replace")
