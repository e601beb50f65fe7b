"""The Engine API's calls for one container: make, start, look at, remove.

In: an engine and a container's name. Out: what the engine says of it, as frozen values and lines. Touches: the engine,
and the container of that name.

Sources: Docker Engine API v1.44 and later, `ContainerCreate`, `ContainerInspect`, `ContainerTop`, `ContainerLogs`,
`ContainerAttach` for the frames of a log; what each call answers was seen on Docker Engine 28.5.2.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlencode

from buildorch.engine.api import mapping_in, message_of
from buildorch.errors import EngineError, MalformedDocument
from buildorch.oci import load_json
from buildorch.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from buildorch.engine.api import Engine

BEGIN_S = 300.0
"""How long the engine may take to make, start or remove one: an image of many GB may have to be unpacked first."""
LAST_LINES = 20
PROBE_LINES = 3
LINE_CHARACTERS = 500


@dataclass(frozen=True, slots=True)
class Seen:
    """A container at one moment."""

    is_running: bool
    exit_code: int
    health: str
    """`starting`, `healthy` or `unhealthy`; empty where it has no HEALTHCHECK."""
    probe_log: tuple[str, ...]
    """The last lines its HEALTHCHECK printed when it was last asked, `PROBE_LINES` at most."""
    process: int
    """The number of its first process on the engine's machine; 0 where it does not run."""
    is_out_of_memory: bool
    networks: tuple[tuple[str, str], ...]
    """Its address and its bridge's own, in each network."""
    published: tuple[tuple[str, int], ...]
    """Host and port that lead to it, of every port that is published."""

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Self:
        """Read the answer of `ContainerInspect`.

        Raises:
            MalformedDocument: it does not say whether the container runs, or what it says is of another type.
        """
        state, network = mapping_in(raw, "State"), mapping_in(raw, "NetworkSettings")
        joined = mapping_in(network, "Networks").values()
        try:
            probes = mapping_in(state, "Health").get("Log") or [{}]
            ports = [one for found in mapping_in(network, "Ports").values() for one in found or ()]
            return cls(
                is_running=state["Running"] is True,
                exit_code=int(state.get("ExitCode") or 0),
                health=str(mapping_in(state, "Health").get("Status") or ""),
                probe_log=last_lines(str(probes[-1].get("Output") or ""))[-PROBE_LINES:],
                process=int(state.get("Pid") or 0),
                is_out_of_memory=state.get("OOMKilled") is True,
                networks=tuple((str(one["IPAddress"]), str(one["Gateway"])) for one in joined if one.get("Gateway")),
                published=tuple((str(one["HostIp"]), int(one["HostPort"])) for one in ports),
            )
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise MalformedDocument("container of the engine", f"{type(error).__name__}: {error}") from None


@dataclass(frozen=True, slots=True)
class Container:
    """One container, known by a name that was chosen before it was made, so that it can be removed in any case."""

    engine: Engine
    name: str

    def make(self, settings: Mapping[str, Any]) -> str:
        """Why the image does not allow it; empty where it is made.

        Raises:
            EngineError: the engine does not answer, or cannot make one of any image.
        """
        path = f"/containers/create?name={self.name}"
        status, body = self.engine.call("POST", path, settings, timeout_s=BEGIN_S)
        if status in {400, 404}:
            return message_of(body)
        good(self.engine, "make a container", status, body)
        return ""

    def start(self) -> str:
        """Why it does not start; empty where it does: a program that is not there is told with 400, a user with 500.

        Raises:
            EngineUnreachable: the engine does not answer.
        """
        status, body = self.engine.call("POST", f"/containers/{self.name}/start", timeout_s=BEGIN_S)
        return "" if status < 400 else message_of(body)

    def seen(self) -> Seen:
        """What it is doing.

        Raises:
            EngineError: the engine does not answer, or has lost it.
        """
        body = good(self.engine, f"tell of {self.name}", *self.engine.call("GET", f"/containers/{self.name}/json"))
        return Seen.from_json(load_json(body, "container of the engine"))

    def uids(self, first: int) -> frozenset[int]:
        """The users of the process `first` and of all that came from it; none where the engine cannot list them.

        A HEALTHCHECK does not come from it: it is started from outside, and belongs to root for a moment.

        Raises:
            EngineError: the engine does not answer.
        """
        query = urlencode({"ps_args": "-eo pid,ppid,uid"})
        status, body = self.engine.call("GET", f"/containers/{self.name}/top?{query}")
        # There may be no `ps` on the engine's machine, a proxy that forbids it, or no process any more.
        if status != 200:
            return frozenset()
        return _users(load_json(body, "list of processes").get("Processes"), first)

    def log(self) -> tuple[str, ...]:
        """The last lines it printed; none where the engine does not give them.

        Those of stdout and of stderr stand as the engine read them, which reads each through a pipe of its own.

        Raises:
            EngineUnreachable: the engine does not answer.
        """
        query = urlencode({"stdout": 1, "stderr": 1, "tail": LAST_LINES})
        status, body = self.engine.call("GET", f"/containers/{self.name}/logs?{query}")
        return last_lines(b"".join(_payloads(body)).decode("utf-8", "replace")) if status == 200 else ()

    def remove(self) -> None:
        """Kill and remove it with its volumes; one that is not there is removed.

        Raises:
            EngineError: the engine does not answer, or refuses.
        """
        status, body = self.engine.call("DELETE", f"/containers/{self.name}?force=1&v=1", timeout_s=BEGIN_S)
        if status != 404:
            good(self.engine, f"remove the container {self.name}", status, body)


def good(engine: Engine, what: str, status: int, body: bytes) -> bytes:
    """The body of an answer that refuses nothing.

    Raises:
        EngineError: it refuses to do `what`.
    """
    if status >= 400:
        raise EngineError(f"the Docker engine at {engine.endpoint} does not {what}: {message_of(body)}")
    return body


def last_lines(text: str) -> tuple[str, ...]:
    """The last 20 lines, each cut after 500 characters; control characters are still in them."""
    lines = text.removesuffix("\n").split("\n")[-LAST_LINES:] if text else []
    return tuple(line.removesuffix("\r")[:LINE_CHARACTERS] for line in lines)


def _users(rows: object, first: int) -> frozenset[int]:
    """The users of a process and of its descendants, from rows of PID, PPID and UID."""
    try:
        found = {int(pid): (int(parent), int(uid)) for pid, parent, uid in rows or ()}  # type: ignore[attr-defined]
    except (TypeError, ValueError):
        return frozenset()
    family = {first}
    while grown := {pid for pid, (parent, _) in found.items() if parent in family} - family:
        family |= grown
    return frozenset(found[pid][1] for pid in family if pid in found)


def _payloads(stream: bytes) -> Iterator[bytes]:
    """What is in the frames of a log: which stream, three zeros, the length, the bytes."""
    at = 0
    while at + 8 <= len(stream):
        (length,) = struct.unpack_from(">I", stream, at + 4)
        yield stream[at + 8 : at + 8 + length]
        at += 8 + length
