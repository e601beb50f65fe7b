"""The Docker Engine API, the few calls buildorch needs.

In: an endpoint. Out: `EngineFacts`, image facts, saved images. Touches: the engine's socket.

Source: Docker Engine API v1.44 and later, https://docs.docker.com/reference/api/engine/.
"""

from __future__ import annotations

import http.client
import json
import os
import socket
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

from buildorch.errors import EngineUnreachable, MalformedDocument
from buildorch.record import EngineFacts

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

TIMEOUT_S = 30.0
CHUNK = 256 * 1024


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

    def facts(self, buildx_version: str) -> EngineFacts:
        """What the engine says of itself.

        Raises:
            EngineUnreachable: it does not answer.
        """
        info = self._json("/info")
        driver = [value for key, value in info.get("DriverStatus") or () if key == "driver-type"]
        return EngineFacts(
            version=str(info.get("ServerVersion", "")),
            buildx=buildx_version,
            store="containerd" if "io.containerd.snapshotter.v1" in driver else "graphdriver",
            endpoint=self.endpoint,
            cpus=int(info.get("NCPU") or 1),
        )

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
                    self.endpoint, f"it does not give the image {reference}: {_message(response.read())}"
                )
            while chunk := response.read(CHUNK):
                yield chunk
        except (OSError, http.client.HTTPException) as error:
            raise EngineUnreachable(self.endpoint, f"it broke off while sending {reference}: {error}") from None
        finally:
            if response is not None:
                response.close()
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

    def _json(self, path: str) -> dict[str, Any]:
        connection = self._connect()
        try:
            response = self._ask(connection, path)
            body = response.read()
        except (OSError, http.client.HTTPException) as error:
            raise EngineUnreachable(self.endpoint, str(error) or type(error).__name__) from None
        finally:
            connection.close()
        if response.status != 200:
            raise EngineUnreachable(self.endpoint, f"{path} gave {response.status}: {_message(body)}")
        try:
            loaded = json.loads(body)
        except ValueError:
            loaded = None
        if not isinstance(loaded, dict):
            raise MalformedDocument(f"answer to {path}", "it is not a JSON object")
        return loaded

    def _ask(self, connection: http.client.HTTPConnection, path: str) -> http.client.HTTPResponse:
        try:
            connection.request("GET", path, headers={"Host": "docker"})
            return connection.getresponse()
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


def _message(body: bytes) -> str:
    try:
        return str(json.loads(body)["message"])
    except (ValueError, KeyError, TypeError):
        return body[:200].decode("utf-8", "replace")
