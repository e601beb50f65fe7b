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
import socket
import socketserver
import struct
import tarfile
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

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
) -> Image:
    """An image of one platform, linux/amd64, with gzipped layers; with `index`, an attestation beside it."""
    blobs: dict[str, bytes] = {}

    def put(data: bytes) -> dict[str, Any]:
        blobs[digest_of(data)] = data
        return {"digest": digest_of(data), "size": len(data)}

    tars = [tar_of({"file": data}) for data in layers]
    packed = [put(gzip.compress(tar, mtime=0)) for tar in tars]
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
        attestation = {**put(b"{}"), "platform": {"os": "unknown", "architecture": "unknown"}}
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
    asked: list[str] = field(default_factory=list)

    def blob(self, digest: str) -> bytes | None:
        return next((image.blobs[digest] for image in self.images.values() if digest in image.blobs), None)


class _EngineHandler(BaseHTTPRequestHandler):
    engine: FakeEngine

    def do_GET(self) -> None:
        self.engine.asked.append(self.path)
        if self.path == "/info":
            driver = "io.containerd.snapshotter.v1" if self.engine.store == "containerd" else "overlay2"
            info = {"ServerVersion": "28.0.0", "NCPU": 2, "DriverStatus": [["driver-type", driver]]}
            self._answer(200, self.engine.info if self.engine.info is not None else json.dumps(info).encode())
        elif self.path.startswith("/images/get") and self.engine.images:
            archive = saved_archive(next(iter(self.engine.images.values())))
            self._answer(200, archive, cut=self.engine.cut_saved)
        else:
            self._answer(404, b'{"message": "No such image"}')

    def do_POST(self) -> None:
        self.engine.asked.append(self.path)
        self.wfile.write(b"HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n")
        self.wfile.flush()
        (self.engine.content or _content_store(self.engine))(self.connection)
        self.close_connection = True

    def _answer(self, status: int, body: bytes, *, cut: int | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
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
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()


def _content_store(engine: FakeEngine) -> Callable[[socket.socket], None]:
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
                    if blob is None:
                        status = [("grpc-status", "5"), ("grpc-message", f"content {digest}: not found")]
                    else:
                        pending = [content_message(blob[at : at + 100_000], at) for at in range(0, len(blob), 100_000)]
                        status = [("grpc-status", "0")]
            while started and pending and (room := link.local_flow_control_window(stream_id)) > 0:
                piece = pending[0][: min(room, link.max_outbound_frame_size)]
                pending[0] = pending[0][len(piece) :]
                if not pending[0]:
                    pending.pop(0)
                link.send_data(stream_id, piece)
            if started and not pending:
                link.send_headers(stream_id, status, end_stream=True)
                started = False
            connection.sendall(link.data_to_send())

    return serve


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
    redirect: bool = False
    """Whether blobs are elsewhere."""
    elsewhere: str = "/elsewhere/"
    status: int = 0
    """In place of every answer."""
    cut: bool = False
    """Whether bodies break off in the middle."""
    token_answer: bytes = b'{"token": "secret"}'
    asked: list[tuple[str, str]] = field(default_factory=list)
    """(path, Authorization) of every request."""

    @property
    def challenge(self) -> str:
        if self.login == "basic":
            return 'Basic realm="x"'
        return f'Bearer realm="http://{self.host}/token",service="fake",scope="repository:team/app:pull"'

    def allowed(self, authorization: str) -> bool:
        basic = f"Basic {base64.b64encode(self.account.encode()).decode()}"
        return not self.login or authorization == (basic if self.login == "basic" else "Bearer secret")


class _RegistryHandler(BaseHTTPRequestHandler):
    registry: FakeRegistry

    def do_GET(self) -> None:
        registry, path = self.registry, self.path.partition("?")[0]
        authorization = self.headers.get("Authorization", "")
        registry.asked.append((self.path, authorization))
        if registry.status:
            self._answer(registry.status, b"")
        elif path == "/token":
            self._answer(200, registry.token_answer)
        elif path.startswith("/elsewhere/") or registry.allowed(authorization):
            self._give(path)
        else:
            self._answer(401, b"{}", WWW_Authenticate=registry.challenge)

    def _give(self, path: str) -> None:
        registry, name = self.registry, path.rpartition("/")[2]
        if path.startswith("/v2/team/app/blobs/") and registry.redirect:
            self._answer(307, b"", Location=registry.elsewhere + name)
            return
        if "/manifests/" in path and registry.image and not name.startswith("sha256:"):
            name = registry.image.digest
        blob = registry.image.blobs.get(name) if registry.image else None
        self._answer(404 if blob is None else 200, blob or b"")

    def _answer(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if self.registry.cut else body)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@contextmanager
def running_registry() -> Iterator[FakeRegistry]:
    """A registry until the block ends."""
    registry = FakeRegistry("")
    handler = type("Handler", (_RegistryHandler,), {"registry": registry})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server, _serving(server):
        registry.host = f"127.0.0.1:{server.server_port}"
        yield registry


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
