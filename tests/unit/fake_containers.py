"""An engine on a socket that starts containers: what each does is told beforehand, as a list of moments.

The answers have the fields that Docker Engine 28.5.2 gives, as far as anything here reads them; `engine/test_smoke.py`
has the same code speak to a real one.
"""

from __future__ import annotations

import json
import struct
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from fakes import _serving, _UnixServer

RUNNING: Mapping[str, Any] = {"Running": True, "Pid": 100, "ExitCode": 0, "OOMKilled": False}


def ended(exit_code: int, **more: Any) -> dict[str, Any]:
    """The state of a container that does not run any more."""
    return {"Running": False, "Pid": 0, "ExitCode": exit_code, "OOMKilled": False, **more}


def probed(status: str, *outputs: str) -> dict[str, Any]:
    """The state of a container that runs and whose HEALTHCHECK was asked."""
    return {**RUNNING, "Health": {"Status": status, "Log": [{"ExitCode": 1, "Output": one} for one in outputs]}}


def frames(*lines: str | bytes, stream: int = 1) -> bytes:
    """A log as the engine sends it: every write of the container in a frame of its own."""
    written = [line.encode() if isinstance(line, str) else line for line in lines]
    return b"".join(struct.pack(">BxxxI", stream, len(one)) + one for one in written)


@dataclass
class FakeContainers:
    """An engine with one image. A list below holds the answers in turn; its last one stays."""

    endpoint: str = ""
    image: str = "app"
    config: dict[str, Any] = field(default_factory=lambda: {"User": "10001", "Healthcheck": None})
    architecture: str = "amd64"
    info: dict[str, Any] = field(default_factory=lambda: {"SecurityOptions": ["name=seccomp,profile=builtin"]})
    states: list[Mapping[str, Any]] = field(default_factory=lambda: [RUNNING])
    network: dict[str, Any] = field(default_factory=dict)
    """`NetworkSettings` of the container."""
    processes: list[list[list[str]] | None] = field(default_factory=lambda: [[["100", "1", "10001"]]])
    """Rows of PID, PPID and UID; None where there is no `ps`."""
    log: bytes = b""
    refuses: dict[str, tuple[int, str | bytes]] = field(default_factory=dict)
    """`create`, `start`, `json`, `top`, `logs` or `DELETE` -> the status and the message it is refused with; bytes are
    the words of a proxy before the engine, as they are."""
    containers: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Name -> what it was made with."""
    created: dict[str, float] = field(default_factory=dict)
    """Name -> when it was made, in seconds since 1970."""
    made: list[dict[str, Any]] = field(default_factory=list)
    """What every container was made with, those that are gone too."""
    asked: list[str] = field(default_factory=list)

    def answer(self, method: str, path: str, query: Mapping[str, list[str]], body: bytes) -> tuple[int, Any]:
        """The status and what is answered: bytes, or what becomes JSON."""
        *_, name, call = ["", *unquote(path).strip("/").split("/")]
        if method == "DELETE":
            name, call = call, "DELETE"
        if refusal := self.refuses.get(call):
            status, said = refusal
            return status, said if isinstance(said, bytes) else {"message": said}
        facts = {
            "/info": self.info,
            "/version": {"Os": "linux", "Arch": "amd64", "ApiVersion": "1.51"},
            f"/images/{self.image}/json": {"Os": "linux", "Architecture": self.architecture, "Config": self.config},
        }
        if found := facts.get(unquote(path)):
            return 200, found
        if path == "/containers/json":
            return 200, self._listed(json.loads(query["filters"][0])["label"])
        if call == "create":
            self.containers[query["name"][0]] = json.loads(body)
            self.made.append(json.loads(body))
            return 201, {"Id": "0123", "Warnings": []}
        return self._of(name, call, query)

    def _of(self, name: str, call: str, query: Mapping[str, list[str]]) -> tuple[int, Any]:
        if name not in self.containers:
            return 404, {"message": f"No such {'image' if name == 'app' else 'container'}: {name}"}
        match call:
            case "start":
                return 204, b""
            case "json":
                return 200, {"State": _next(self.states), "NetworkSettings": self.network}
            case "top":
                rows = _next(self.processes)
                return (
                    (200, {"Titles": ["PID", "PPID", "UID"], "Processes": rows}) if rows else (500, {"message": "ps"})
                )
            case "logs":
                return 200, self.log
            case "DELETE":  # of one that runs it would be 409 without `force`, and volumes would stay without `v`
                assert query == {"force": ["1"], "v": ["1"]}
                del self.containers[name]
                return 204, b""
        raise AssertionError(call)

    def _listed(self, labels: list[str]) -> list[dict[str, Any]]:
        return [
            {"Names": [f"/{name}"], "Created": self.created.get(name, 0), "Labels": made["Labels"]}
            for name, made in self.containers.items()
            if set(labels) <= made["Labels"].keys()
        ]


def _next(answers: list[Any]) -> Any:
    return answers.pop(0) if len(answers) > 1 else answers[0]


class _Handler(BaseHTTPRequestHandler):
    engine: FakeContainers

    def _answer(self) -> None:
        parts = urlsplit(self.path)
        self.engine.asked.append(f"{self.command} {self.path}")
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        status, answer = self.engine.answer(self.command, parts.path, parse_qs(parts.query), body)
        data = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if data:  # after an empty one the caller may be gone already
            self.wfile.write(data)

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def do_DELETE(self) -> None:
        self._answer()

    def log_message(self, *_: Any) -> None:
        """Say nothing."""

    def address_string(self) -> str:
        return "unix"


@contextmanager
def running_containers(*, over_tcp: bool = False) -> Iterator[FakeContainers]:
    """Such an engine until the block ends."""
    engine = FakeContainers()
    handler = type("Handler", (_Handler,), {"engine": engine})
    if over_tcp:
        with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server, _serving(server):
            engine.endpoint = f"tcp://127.0.0.1:{server.server_port}"
            yield engine
        return
    with tempfile.TemporaryDirectory(prefix="fake-") as folder:
        engine.endpoint = f"unix://{folder}/docker.sock"
        with _UnixServer(f"{folder}/docker.sock", handler) as server, _serving(server):
            yield engine
