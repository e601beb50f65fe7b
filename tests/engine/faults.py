"""A registry that fails: a proxy in front of the loopback registry that spoils the requests a `Fault` names.

It listens on a port of its own on 127.0.0.1, so that engines and buildorch take it for a registry that they never saw.
What no fault names goes through as it is.
"""

from __future__ import annotations

import http.client
import re
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal

Kind = Literal["ping", "token", "manifest", "blob", "upload", "other"]
Client = Literal["buildorch", "buildkit", ""]
ALWAYS = 1_000_000
HANG_S = 3.0
"""How long a hanging answer hangs, before the connection is cut."""
_TLS_HANDSHAKE = b"\x16"
_HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "content-length", "te", "trailer", "upgrade"}
_KINDS: tuple[tuple[Kind, str], ...] = (
    ("ping", r"^/v2/$"),
    ("token", r"^/token\b"),
    ("manifest", r"/manifests/"),
    ("upload", r"/blobs/uploads/"),
    ("blob", r"/blobs/"),
)


@dataclass(frozen=True)
class Answer:
    """What the registry behind the proxy said."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True)
class Request:
    """One request, as it came."""

    method: str
    path: str
    client: Client

    @property
    def kind(self) -> Kind:
        """What is asked for."""
        path = self.path.partition("?")[0]
        return next((kind for kind, pattern in _KINDS if re.search(pattern, path)), "other")


TOKEN = Answer(200, {"Content-Type": "application/json"}, b'{"token": "secret"}')
Spoil = Callable[["Handler"], None]


@dataclass(frozen=True)
class Fault:
    """What happens to some requests."""

    spoil: Spoil
    method: str = ""
    """A pattern; empty for any."""
    kind: Kind | Literal[""] = ""
    client: Client = ""
    path: str = ""
    """A pattern within the path; empty for any."""
    after: int = 0
    """How many such requests go through first."""
    times: int = ALWAYS
    """How many are spoilt."""

    def fits(self, request: Request) -> bool:
        """Whether this request is one that it names."""
        return (
            bool(re.fullmatch(self.method or ".*", request.method))
            and self.kind in {"", request.kind}
            and self.client in {"", request.client}
            and bool(re.search(self.path, request.path))
        )


def status(code: int, *, body: bytes = b"", **headers: str) -> Spoil:
    """An answer of the proxy's own."""
    return lambda handler: handler.give(
        Answer(code, {name.replace("_", "-"): it for name, it in headers.items()}, body)
    )


def reset(handler: Handler) -> None:
    """The connection is reset before an answer (RST, by SO_LINGER with 0 seconds)."""
    handler.cut()


def close(handler: Handler) -> None:
    """The connection ends without an answer."""
    handler.close_connection = True
    handler.connection.shutdown(socket.SHUT_RDWR)


def hang(handler: Handler) -> None:
    """Nothing is said for a while, and then the connection is reset."""
    time.sleep(HANG_S)
    handler.cut()


def slow(handler: Handler) -> None:
    """The right answer, late and in pieces."""
    time.sleep(0.5)
    handler.give(handler.upstream(), pieces=5)


def garbage(handler: Handler) -> None:
    """Bytes that are no HTTP."""
    handler.wfile.write(b"220 mail.example ESMTP\r\n")
    close(handler)


def lost_answer(handler: Handler) -> None:
    """The registry does what it was asked to, and nobody hears of it."""
    handler.upstream()
    handler.cut()


def truncated(handler: Handler) -> None:
    """The body ends in its middle."""
    found = handler.upstream()
    handler.give(Answer(found.status, found.headers, found.body[: len(found.body) // 2]), length=len(found.body))


def corrupted(handler: Handler) -> None:
    """One byte of the body is another."""
    found = handler.upstream()
    middle = len(found.body) // 2
    body = found.body[:middle] + bytes([found.body[middle] ^ 1]) + found.body[middle + 1 :] if found.body else b""
    handler.give(Answer(found.status, found.headers, body))


def longer(handler: Handler) -> None:
    """More bytes are said than come."""
    found = handler.upstream()
    handler.give(found, length=len(found.body) + 100)


def shorter(handler: Handler) -> None:
    """Fewer bytes are said than there are."""
    found = handler.upstream()
    handler.give(Answer(found.status, found.headers, found.body[:-10]))


def other_digest(handler: Handler) -> None:
    """The head of the answer names a digest of something else."""
    found = handler.upstream()
    handler.give(Answer(found.status, {**found.headers, "Docker-Content-Digest": f"sha256:{'0' * 64}"}, found.body))


def other_length(handler: Handler) -> None:
    """The answer to a HEAD tells a length that is not the body's."""
    found = handler.upstream()
    handler.give(found, length=1_000_000)


class Proxy:
    """What was asked, and what is spoilt."""

    def __init__(self, upstream: str) -> None:
        self.upstream = upstream
        self.address = ""
        self.login = False
        """Whether a token is asked for."""
        self.faults: list[Fault] = []
        self.seen: list[Request] = []
        self.spoilt: list[Request] = []
        self._met: dict[int, int] = {}
        self._guard = threading.Lock()

    def meet(self, fault: Fault) -> None:
        """Let only this happen from now on, as if nothing had been asked yet."""
        with self._guard:
            self.faults, self._met, self.spoilt = [fault], {}, []

    def fault_for(self, request: Request) -> Fault | None:
        """The fault whose turn it is."""
        with self._guard:
            self.seen.append(request)
            for at, fault in enumerate(self.faults):
                if fault.fits(request):
                    met = self._met[at] = self._met.get(at, 0) + 1
                    if fault.after < met <= fault.after + fault.times:
                        self.spoilt.append(request)
                        return fault
        return None


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    proxy: Proxy
    sent: bytes = b""

    def handle_one_request(self) -> None:
        """A client that goes away ends its connection, and nothing else."""
        try:
            if self.rfile.peek(1)[:1] == _TLS_HANDSHAKE:
                # As Go's servers say it: an engine then goes over to plain HTTP (containerd, docker.NewHTTPFallback).
                self.wfile.write(b"HTTP/1.0 400 Bad Request\r\n\r\n")
                self.close_connection = True
            else:
                super().handle_one_request()
        except OSError:
            self.close_connection = True

    def any_method(self) -> None:
        """Spoil it, or hand it on."""
        self.sent = self._body()
        agent = self.headers.get("User-Agent", "")
        request = Request(self.command, self.path, "buildkit" if agent else "buildorch")
        if fault := self.proxy.fault_for(request):
            fault.spoil(self)
        elif request.kind == "token":
            self.give(TOKEN)
        elif self.proxy.login and self.headers.get("Authorization") != "Bearer secret":
            realm = f'Bearer realm="http://{self.proxy.address}/token",service="faults",scope="repository:x:pull,push"'
            self.give(Answer(401, {"WWW-Authenticate": realm}, b""))
        else:
            self.give(self.upstream())

    do_GET = do_HEAD = do_PUT = do_POST = do_PATCH = do_DELETE = any_method  # noqa: N815 - http.server's names

    def upstream(self) -> Answer:
        """What the registry says to this request, or who gives tokens for it."""
        if self.path.startswith("/token"):
            return TOKEN
        connection = http.client.HTTPConnection(self.proxy.upstream, timeout=60)
        try:
            headers = {name: value for name, value in self.headers.items() if name.lower() not in _HOP_BY_HOP}
            headers.pop("Authorization", None)
            connection.request(self.command, self.path, self.sent or None, headers)
            response = connection.getresponse()
            body = response.read()
            kept = {name: value for name, value in response.getheaders() if name.lower() not in _HOP_BY_HOP}
            if self.command == "HEAD":
                kept["Content-Length"] = response.getheader("Content-Length") or "0"
            return Answer(response.status, kept, body)
        finally:
            connection.close()

    def give(self, answer: Answer, *, length: int | None = None, pieces: int = 1) -> None:
        """Answer; the connection ends where the length is not the body's."""
        self.send_response_only(answer.status)
        told = answer.headers.get("Content-Length", str(len(answer.body))) if length is None else str(length)
        for name, value in {**answer.headers, "Content-Length": told}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            size = max(len(answer.body) // pieces, 1)
            for start in range(0, len(answer.body), size):
                self.wfile.write(answer.body[start : start + size])
                self.wfile.flush()
                time.sleep(0.1 if pieces > 1 else 0)
            if length is not None and length != len(answer.body):
                close(self)

    def cut(self) -> None:
        """Reset the connection."""
        self.close_connection = True
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        # The files over the socket hold it open.
        self.rfile.close()
        self.connection.close()

    def finish(self) -> None:
        """End what is not ended yet."""
        try:
            super().finish()
        except (OSError, ValueError):
            return

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = b""
        while size := int(self.rfile.readline().split(b";")[0], 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def failing_registry(upstream: str, *faults: Fault, login: bool = False) -> Iterator[Proxy]:
    """A proxy on a port of its own, in front of the registry at `upstream`."""
    proxy = Proxy(upstream)
    proxy.faults, proxy.login = list(faults), login
    server = _Server(("127.0.0.1", 0), type("Bound", (Handler,), {"proxy": proxy}))
    proxy.address = f"127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: connections break here on purpose."""
