"""What stands in for the world outside: images made of bytes, an engine on a socket, a registry, and buildx.

They speak the real protocols (the Engine API over HTTP, gRPC over h2c, the distribution API), so that the code under
test is run as it is.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
import re
import select
import socket
import socketserver
import ssl
import struct
import tarfile
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Literal
from urllib.parse import unquote, urlsplit

import h2.config
import h2.connection
import h2.events

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"


def digest_of(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def tar_of(files: Mapping[str, bytes]) -> bytes:
    """A tar with these files."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return out.getvalue()


@dataclass
class Image:
    """An image as a store holds it: blobs by digest, and the digest that its name resolves to."""

    blobs: dict[str, bytes]
    digest: str
    manifest_digest: str
    config_digest: str
    layers: list[bytes]
    """The uncompressed tars, lowest first."""

    @property
    def unpacked_bytes(self) -> int:
        return sum(map(len, self.layers))

    @property
    def compressed_bytes(self) -> int:
        manifest = json.loads(self.blobs[self.manifest_digest])
        blobs = sum(layer["size"] for layer in manifest["layers"])
        return len(self.blobs[self.manifest_digest]) + manifest["config"]["size"] + blobs


def make_image(
    *,
    layers: Iterable[bytes] = (b"one layer",),
    index: bool = False,
    user: str = "1000",
    labels: Mapping[str, str] = {},
    attested: str = "",
    tars: Sequence[bytes] = (),
    pack: Callable[[bytes], bytes] = lambda tar: gzip.compress(tar, mtime=0),
) -> Image:
    """An image of one platform, linux/amd64; with `index`, an attestation beside it.

    Each of `layers` is the one file of a layer; `tars` are whole layers, in their place.
    """
    blobs: dict[str, bytes] = {}

    def put(data: bytes) -> dict[str, Any]:
        blobs[digest_of(data)] = data
        return {"digest": digest_of(data), "size": len(data)}

    tars = tars or [tar_of({"file": data}) for data in layers]
    packed = [put(pack(tar)) for tar in tars]
    config = {
        "os": "linux",
        "architecture": "amd64",
        "config": {"User": user, "Labels": dict(labels)},
        "rootfs": {"type": "layers", "diff_ids": [digest_of(tar) for tar in tars]},
        "history": [{"created_by": f"COPY {at} / # buildkit"} for at in range(len(tars))],
    }
    config_entry = put(json.dumps(config).encode())
    manifest = put(json.dumps({"mediaType": MANIFEST, "config": config_entry, "layers": packed}).encode())
    root = manifest
    if index:
        platform = {"os": "linux", "architecture": "amd64"}
        attestation = {
            **put(json.dumps({"at": attested}).encode()),
            "platform": {"os": "unknown", "architecture": "unknown"},
        }
        entries = [{**manifest, "mediaType": MANIFEST, "platform": platform}, attestation]
        root = put(json.dumps({"mediaType": INDEX, "manifests": entries}).encode())
    return Image(blobs, root["digest"], manifest["digest"], config_entry["digest"], tars)


def saved_archive(image: Image, name: str = "test/app:latest") -> bytes:
    """The image as `docker save` writes it from a graphdriver store."""
    names = [f"blobs/sha256/{digest_of(tar)[7:]}" for tar in image.layers]
    config_name = f"blobs/sha256/{image.config_digest[7:]}"
    manifest = [{"Config": config_name, "RepoTags": [name], "Layers": names}]
    return tar_of(
        {
            **dict(zip(names, image.layers, strict=True)),
            config_name: image.blobs[image.config_digest],
            "manifest.json": json.dumps(manifest).encode(),
        }
    )


@dataclass
class FakeEngine:
    """A Docker engine on a unix socket: /info, /images/get, and BuildKit's content store behind /grpc."""

    endpoint: str
    images: dict[str, Image] = field(default_factory=dict)
    """Reference -> image; every blob of every image is in the content store."""
    store: str = "containerd"
    info: bytes | None = None
    """In place of the answer to /info."""
    content: Callable[[socket.socket], None] | None = None
    """In place of the content store: speaks on the upgraded connection."""
    cut_saved: int | None = None
    """Break off after so many bytes of a saved image."""
    containerd: FakeContainerd | None = None
    """What /info names as its containerd."""
    says_platforms: bool = True
    """Whether it knows `manifests=1` (API 1.48)."""
    unavailable: set[str] = field(default_factory=set)
    """Digests of manifests whose platform is not whole."""
    status: int = 0
    """In place of the answers to questions for images."""
    cache: bytes = b'{"BuildCache": null}'
    """The answer to what its build cache holds."""
    asked: list[str] = field(default_factory=list)

    def blob(self, digest: str) -> bytes | None:
        return next((image.blobs[digest] for image in self.images.values() if digest in image.blobs), None)

    def named(self, reference: str) -> Image | None:
        """The image of a name or a digest."""
        ids = {
            image.digest if self.store == "containerd" else image.config_digest: image for image in self.images.values()
        }
        return self.images.get(reference) or ids.get(reference)


class _EngineHandler(BaseHTTPRequestHandler):
    engine: FakeEngine

    def do_GET(self) -> None:
        self.engine.asked.append(self.path)
        if self.path == "/info":
            driver = "io.containerd.snapshotter.v1" if self.engine.store == "containerd" else "overlay2"
            info = {"ServerVersion": "28.0.0", "NCPU": 2, "DriverStatus": [["driver-type", driver]]}
            if containerd := self.engine.containerd:
                info |= {"ID": "the-id", "DockerRootDir": str(Path(containerd.address).parent)}
                info |= {"Containerd": {"Address": containerd.address, "Namespaces": {"Containers": "moby"}}}
            self._answer(200, self.engine.info if self.engine.info is not None else json.dumps(info).encode())
        elif self.path.partition("?")[0].removeprefix("/v1.44") == "/system/df":
            self._answer(200, self.engine.cache)
        elif self.path.startswith("/images/get") and self.engine.images:
            archive = saved_archive(next(iter(self.engine.images.values())))
            self._answer(200, archive, cut=self.engine.cut_saved)
        elif self.engine.status:
            self._answer(self.engine.status, b'{"message": "not now"}')
        elif found := self.engine.named(self.path.removeprefix("/images/").partition("/json")[0]):
            self._answer(200, json.dumps(self._inspected(found)).encode())
        else:
            self._answer(404, b'{"message": "No such image"}')

    def _inspected(self, image: Image) -> dict[str, Any]:
        if self.engine.store != "containerd":
            return {"Id": image.config_digest}
        if not self.engine.says_platforms:
            return {"Id": image.digest}
        available = image.manifest_digest not in self.engine.unavailable
        manifest = {"Descriptor": {"digest": image.manifest_digest}, "Available": available, "Kind": "image"}
        return {"Id": image.digest, "Manifests": [manifest]}

    def do_POST(self) -> None:
        self.engine.asked.append(self.path)
        if tagged := re.fullmatch(r"/images/(.+)/tag\?repo=(.+)&tag=(.+)", unquote(self.path)):
            image = self.engine.named(tagged[1])
            if image:
                self.engine.images[f"{tagged[2]}:{tagged[3]}"] = image
            self._answer(201 if image else 404, b"" if image else b'{"message": "No such image"}')
            return
        self.wfile.write(b"HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n")
        self.wfile.flush()
        (self.engine.content or content_store(self.engine))(self.connection)
        self.close_connection = True

    def do_DELETE(self) -> None:
        self.engine.asked.append(f"DELETE {self.path}")
        name = unquote(self.path).removeprefix("/images/").partition("?")[0]
        found = self.engine.images.pop(name, None)
        self._answer(200 if found else 404, b"[]" if found else b'{"message": "No such image"}')

    def _answer(self, status: int, body: bytes, *, cut: int | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if body:  # after an empty one the caller may be gone already
            self.wfile.write(body[:cut])

    def log_message(self, *_: Any) -> None:
        """Say nothing."""

    def address_string(self) -> str:
        return "unix"


class _UnixServer(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True
    request_queue_size = 64


@contextmanager
def running_engine() -> Iterator[FakeEngine]:
    """An engine until the block ends."""
    with tempfile.TemporaryDirectory(prefix="fake-") as folder:
        engine = FakeEngine(f"unix://{folder}/docker.sock")
        handler = type("Handler", (_EngineHandler,), {"engine": engine})
        with _UnixServer(f"{folder}/docker.sock", handler) as server, _serving(server):
            yield engine


@contextmanager
def _serving(server: socketserver.BaseServer) -> Iterator[None]:
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.002}, daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()


def content_store(engine: FakeEngine) -> Callable[[socket.socket], None]:
    """containerd's Content.Read over gRPC: the blob in messages of at most 100 kB, then the trailers."""

    def serve(connection: socket.socket) -> None:
        link = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False, header_encoding="utf-8"))
        link.initiate_connection()
        connection.sendall(link.data_to_send())
        pending: list[bytes] = []
        status: list[tuple[str, str]] = []
        started = False
        stream_id = 0
        while received := connection.recv(65536):
            for event in link.receive_data(received):
                if isinstance(event, h2.events.DataReceived):
                    stream_id = event.stream_id
                    digest = event.data[7:].decode()
                    blob = engine.blob(digest)
                    link.send_headers(stream_id, [(":status", "200"), ("content-type", "application/grpc")])
                    started = True
                    pending, status = _content(blob, digest)
            while started and pending and (room := link.local_flow_control_window(stream_id)) > 0:
                piece = pending[0][: min(room, link.max_outbound_frame_size)]
                pending[0] = pending[0][len(piece) :]
                if not pending[0]:
                    pending.pop(0)
                link.send_data(stream_id, piece)
            if started and not pending:
                link.send_headers(stream_id, status, end_stream=True)
                started = False
            with suppress(BrokenPipeError):  # the caller has what it wanted, and is gone
                connection.sendall(link.data_to_send())

    return serve


@dataclass
class FakeContainerd:
    """containerd's image and content services on a unix socket: their two List methods, and Content.Read."""

    address: str
    images: dict[str, str] = field(default_factory=dict)
    """Full name -> digest."""
    contents: set[str] = field(default_factory=set)
    blobs: dict[str, bytes] = field(default_factory=dict)
    """What it gives of them."""
    broken: Callable[[socket.socket], None] | None = None
    """In place of everything: speaks on the connection."""
    asked: list[tuple[str, str, list[str]]] = field(default_factory=list)
    """(method, namespace, filters) of every call."""

    def hold(self, name: str, image: Image) -> None:
        """Have an image whole, under a full name."""
        self.images[name] = image.digest
        self.contents |= set(image.blobs)

    def answer(self, method: str, filters: list[str]) -> bytes:
        """The answer's message, framed."""
        if method.endswith("Images/List"):
            found = [
                _length_delimited(1, name.encode()) + _length_delimited(3, _length_delimited(2, digest.encode()))
                for name, digest in self.images.items()
                if not filters or {f'name=="{name}"', f'target.digest=="{digest}"'} & set(filters)
            ]
        else:
            kept = [digest for digest in sorted(self.contents) if not filters or f'digest=="{digest}"' in filters]
            found = [_length_delimited(1, digest.encode()) + b"\x10\x05" for digest in kept]
        message = b"".join(_length_delimited(1, one) for one in found)
        return struct.pack(">BI", 0, len(message)) + message

    def serve(self, connection: socket.socket) -> None:
        """Speak gRPC until the caller goes."""
        link = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False, header_encoding="utf-8"))
        link.initiate_connection()
        headers: dict[int, dict[str, str]] = {}
        bodies: dict[int, bytes] = {}
        while True:
            connection.sendall(link.data_to_send())
            if not (received := connection.recv(65536)):
                return
            for event in link.receive_data(received):
                if isinstance(event, h2.events.RequestReceived):
                    headers[event.stream_id] = {str(name): str(value) for name, value in event.headers}
                elif isinstance(event, h2.events.DataReceived):
                    bodies[event.stream_id] = bodies.get(event.stream_id, b"") + event.data
                    link.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                elif isinstance(event, h2.events.StreamEnded):
                    method = headers[event.stream_id][":path"]
                    namespace = headers[event.stream_id]["containerd-namespace"]
                    filters = re.findall(r'[a-z.]+=="[^"]+"', bodies[event.stream_id].decode("latin-1"))
                    self.asked.append((method.rpartition(".")[2], namespace, filters))
                    link.send_headers(event.stream_id, [(":status", "200"), ("content-type", "application/grpc")])
                    answer, status = self.answer(method, filters), [("grpc-status", "0")]
                    if method.endswith("Content/Read"):
                        digest = bodies[event.stream_id][7:].decode()
                        messages, status = _content(self.blobs.get(digest), digest)
                        answer = b"".join(messages)
                    for at in range(0, len(answer), 16_000):
                        link.send_data(event.stream_id, answer[at : at + 16_000])
                    link.send_headers(event.stream_id, status, end_stream=True)


def _content(blob: bytes | None, digest: str) -> tuple[list[bytes], list[tuple[str, str]]]:
    """Content.Read's messages, framed, of at most 100 kB, and how the answer ends."""
    if blob is None:
        return [], [("grpc-status", "5"), ("grpc-message", f"content {digest}: not found")]
    return [content_message(blob[at : at + 100_000], at) for at in range(0, len(blob), 100_000)], [("grpc-status", "0")]


@contextmanager
def running_containerd() -> Iterator[FakeContainerd]:
    """A containerd until the block ends, beside the `engine-id` of an engine that is called `the-id`."""
    with tempfile.TemporaryDirectory(prefix="fake-") as folder:
        (Path(folder) / "engine-id").write_text("the-id")
        containerd = FakeContainerd(f"{folder}/containerd.sock")

        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                with suppress(ConnectionError):  # whoever asks goes without a word
                    (containerd.broken or containerd.serve)(self.request)

        with _UnixServer(containerd.address, Handler) as server, _serving(server):
            yield containerd


def _length_delimited(number: int, data: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(data)) + data


def content_message(data: bytes, offset: int) -> bytes:
    """ReadContentResponse{offset, data}, framed as gRPC frames it."""
    message = (b"\x08" + varint(offset) if offset else b"") + b"\x12" + varint(len(data)) + data
    return struct.pack(">BI", 0, len(message)) + message


def varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


@dataclass
class FakeRegistry:
    """A registry on loopback that holds one image under every tag."""

    host: str
    image: Image | None = None
    login: str = ""
    """`token` or `basic`: what it asks for."""
    account: str = "user:password"
    scoped: bool = False
    """Whether a token is for reading or for writing, and the wrong one is answered with 403."""
    redirect: bool = False
    """Whether blobs are elsewhere."""
    elsewhere: str = "/elsewhere/"
    status: int = 0
    """In place of every answer."""
    cut: bool = False
    """Whether bodies break off in the middle."""
    first: list[int | Literal["cut", "reset", "spoilt"]] = field(default_factory=list)
    """What becomes of the first requests, one each: a status, a body that breaks off or is another, or no answer."""
    retry_after: str = ""
    """What a status in `first` comes with."""
    token_answer: bytes = b'{"token": "secret"}'
    media_type: str = MANIFEST
    """The Content-Type of manifests."""
    said: str | None = None
    """In place of the digest of a manifest in its answer's head; empty for none."""
    tags: dict[str, str] | None = None
    """Tag -> digest; where it is None, every tag names the image."""
    refuses: str = ""
    """A part of the paths that it answers with 403."""
    head_status: int = 0
    """In place of every answer to a HEAD."""
    keeps: bool = False
    """Whether connections are kept."""
    connections: int = 0
    silent_s: float = 0.0
    """How long it keeps quiet before each answer."""
    asked: list[tuple[str, str]] = field(default_factory=list)
    """(path, Authorization) of every request."""
    methods: list[str] = field(default_factory=list)
    """GET or HEAD, of every request."""
    headers: set[str] = field(default_factory=set)
    """The names of all headers that came, in small letters."""
    token_server: str = ""
    """Where it sends for tokens; empty for itself."""

    @property
    def challenge(self) -> str:
        if self.login == "basic":
            return 'Basic realm="x"'
        realm = self.token_server or f"http://{self.host}"
        return f'Bearer realm="{realm}/token",service="fake",scope="repository:team/app:pull"'

    def for_writing(self) -> str:
        return self.challenge.replace(":pull", ":pull,push")

    def allowed(self, authorization: str) -> bool:
        if self.scoped and authorization == "Bearer writes":
            return True
        basic = f"Basic {base64.b64encode(self.account.encode()).decode()}"
        return not self.login or authorization == (basic if self.login == "basic" else "Bearer secret")


class _RegistryHandler(BaseHTTPRequestHandler):
    registry: FakeRegistry

    def setup(self) -> None:
        super().setup()
        self.registry.connections += 1
        self.protocol_version = "HTTP/1.1" if self.registry.keeps else "HTTP/1.0"
        self.fault: int | str = 0

    def _fails_first(self) -> bool:
        """Whether this request ends as one of the first ones do."""
        self.fault = self.registry.first.pop(0) if self.registry.first else 0
        if isinstance(self.fault, int) and self.fault:
            self._answer(
                self.fault, b"", **({"Retry_After": self.registry.retry_after} if self.registry.retry_after else {})
            )
        elif self.fault == "reset":
            self.close_connection = True
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.rfile.close()
            self.connection.close()
        return self.fault not in {0, "cut", "spoilt"}

    def do_GET(self) -> None:
        registry, path = self.registry, self.path.partition("?")[0]
        authorization = self.headers.get("Authorization", "")
        registry.asked.append((self.path, authorization))
        registry.methods.append(self.command)
        registry.headers |= {name.lower() for name in self.headers}
        time.sleep(registry.silent_s)
        if self._fails_first():
            return
        if registry.head_status and self.command == "HEAD":
            self._answer(registry.head_status, b"")
        elif registry.refuses and registry.refuses in path:
            self._answer(403, b"")
        elif registry.status:
            self._answer(registry.status, b"")
        elif path == "/token":
            writes = registry.scoped and "push" in self.path
            self._answer(200, b'{"token": "writes"}' if writes else registry.token_answer)
        elif path.startswith("/elsewhere/") or registry.allowed(authorization):
            self._give(path)
        else:
            self._answer(401, b"{}", WWW_Authenticate=registry.challenge)

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_PUT(self) -> None:
        registry, tag = self.registry, self.path.rpartition("/")[2]
        data, authorization = (
            self.rfile.read(int(self.headers["Content-Length"])),
            self.headers.get("Authorization", ""),
        )
        registry.asked.append((self.path, authorization))
        registry.methods.append(self.command)
        if self._fails_first():
            return
        if registry.refuses and registry.refuses in self.path:
            self._answer(403, b"")
            return
        if registry.scoped and authorization != "Bearer writes":
            self._answer(403 if authorization else 401, b"", WWW_Authenticate=registry.for_writing())
            return
        if registry.status or not registry.allowed(authorization) or not registry.image:
            self._answer(registry.status or 401, b"", WWW_Authenticate=registry.challenge)
            return
        registry.image.blobs[digest_of(data)] = data
        registry.tags = {**(registry.tags or {}), tag: digest_of(data)}
        registry.media_type = self.headers["Content-Type"]
        self._answer(201, b"")

    def do_DELETE(self) -> None:
        registry, digest, authorization = (
            self.registry,
            self.path.rpartition("/")[2],
            self.headers.get("Authorization", ""),
        )
        registry.methods.append(self.command)
        if registry.scoped and authorization != "Bearer writes":
            self._answer(403 if authorization else 401, b"", WWW_Authenticate=registry.for_writing())
        elif registry.status or digest not in (registry.tags or {}).values():
            self._answer(registry.status or 404, b"")
        else:
            registry.tags = {tag: named for tag, named in (registry.tags or {}).items() if named != digest}
            self._answer(202, b"")

    def _give(self, path: str) -> None:
        registry, name = self.registry, path.rpartition("/")[2]
        if path == "/v2/":
            self._answer(200, b"{}")
            return
        if path.startswith("/v2/team/app/blobs/") and registry.redirect:
            self._answer(307, b"", Location=registry.elsewhere + name)
            return
        if "/manifests/" in path and registry.image and not name.startswith("sha256:"):
            name = registry.image.digest if registry.tags is None else registry.tags.get(name, "")
        blob = registry.image.blobs.get(name) if registry.image else None
        headers = {}
        if blob is not None and "/manifests/" in path:
            headers["Content-Type"] = registry.media_type
            if said := name if registry.said is None else registry.said:
                headers["Docker_Content_Digest"] = said
        self._answer(404 if blob is None else 200, blob or b"", **headers)

    def _answer(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            middle = len(body) // 2
            if self.registry.cut or self.fault == "cut":
                body = body[:middle]
            elif self.fault == "spoilt" and body:
                body = body[:middle] + bytes([body[middle] ^ 1]) + body[middle + 1 :]
            self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@contextmanager
def running_registry(certificate: Path | None = None) -> Iterator[FakeRegistry]:
    """A registry until the block ends; behind TLS with a certificate, whose file has its key too."""
    registry = FakeRegistry("")
    handler = type("Handler", (_RegistryHandler,), {"registry": registry})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            server.socket = context.wrap_socket(server.socket, server_side=True)
        with _serving(server):
            registry.host = f"127.0.0.1:{server.server_port}"
            yield registry


@dataclass
class FakeProxy:
    """An HTTP proxy on loopback: CONNECT, and whole URLs."""

    address: str
    routes: dict[str, str] = field(default_factory=dict)
    """The host and port that it is asked for -> those of the server that it asks; it reaches no other."""
    login: str = ""
    """`user:password` that it wants."""
    first: list[int] = field(default_factory=list)
    """The statuses that the first requests are refused with."""
    heads: list[str] = field(default_factory=list)
    """Every head that came, whole."""
    answer: bytes = b""
    """In place of every answer."""
    drips_s: float = 0.0
    """How long it takes for each byte of that."""

    @property
    def asked(self) -> list[str]:
        """Method and target of every request."""
        return [head.rpartition(" HTTP/")[0] for head in (head.partition("\r\n")[0] for head in self.heads)]

    def refusal(self, head: str) -> int:
        if self.first:
            return self.first.pop(0)
        basic = f"Proxy-Authorization: Basic {base64.b64encode(self.login.encode()).decode()}\r\n"
        return 407 if self.login and basic not in head else 0


class _ProxyHandler(socketserver.BaseRequestHandler):
    """One request a connection."""

    proxy: FakeProxy

    def handle(self) -> None:
        with suppress(OSError), self.request:
            head = b""
            while not head.endswith(b"\r\n\r\n"):
                if not (byte := self.request.recv(1)):
                    return
                head += byte
            self._answer(head.decode())

    def _answer(self, head: str) -> None:
        self.proxy.heads.append(head)
        method, target, _ = head.split(" ", 2)
        parts = urlsplit(target if method != "CONNECT" else f"//{target}")
        where = self.proxy.routes.get(parts.netloc, "")
        if self.proxy.answer:
            for byte in self.proxy.answer if self.proxy.drips_s else ():
                self.request.sendall(bytes([byte]))
                time.sleep(self.proxy.drips_s)
            self.request.sendall(self.proxy.answer)
        elif status := self.proxy.refusal(head) or (0 if where else 502):
            self.request.sendall(f"HTTP/1.1 {status} No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode())
        else:
            host, _, port = where.rpartition(":")
            with socket.create_connection((host, int(port))) as server:
                if method == "CONNECT":
                    self.request.sendall(b"HTTP/1.1 200 Connection established\r\nProxy-Agent: fake\r\n\r\n")
                else:
                    kept = [line for line in head.split("\r\n")[1:-2] if not line.startswith("Proxy-")]
                    path = target.partition(parts.netloc)[2]
                    lines = [f"{method} {path} HTTP/1.1", *kept, "Connection: close", "", ""]
                    server.sendall("\r\n".join(lines).encode())
                _splice(self.request, server)


def _splice(one: socket.socket, other: socket.socket) -> None:
    """Each gets what the other says, until one of them has nothing more to say."""
    sockets = {one: other, other: one}
    while True:
        for ready in select.select(list(sockets), [], [], 10.0)[0]:
            if not (data := ready.recv(65536)):
                return
            sockets[ready].sendall(data)


@contextmanager
def running_proxy(routes: Mapping[str, str]) -> Iterator[FakeProxy]:
    """A proxy until the block ends."""
    proxy = FakeProxy("", dict(routes))
    handler = type("Handler", (_ProxyHandler,), {"proxy": proxy})
    with _Threading(("127.0.0.1", 0), handler) as server, _serving(server):
        proxy.address = f"127.0.0.1:{server.server_address[1]}"
        yield proxy


class _Threading(socketserver.ThreadingTCPServer):
    daemon_threads = True


_PLUGIN = """\
#!/bin/sh
# Stands in for docker-buildx: replays a recorded build, and does what `behave.sh` in the context says.
if [ "$1" = version ]; then echo "github.com/docker/buildx v0.29.1 fake"; exit 0; fi
for word in "$@"; do
  case "$word" in --metadata-file=*) metadata=${word#--metadata-file=} ;; esac
  context=$word
done
printf '%s\\n' "$@" > "$context/argv.txt"
replay=RECORDED
digest=DIGEST
[ -f "$context/behave.sh" ] && . "$context/behave.sh"
cat "$replay" >&2
printf '{"containerimage.digest": "%s"}' "$digest" > "$metadata"
"""


def install_buildx(config: Path, *, replay: Path, digest: str = "") -> Path:
    """A docker configuration folder whose buildx plugin replays a recorded build and names this digest."""
    plugin = config / "cli-plugins" / "docker-buildx"
    plugin.parent.mkdir(parents=True, exist_ok=True)
    plugin.write_text(_PLUGIN.replace("RECORDED", str(replay)).replace("DIGEST", digest))
    plugin.chmod(0o755)
    return plugin
