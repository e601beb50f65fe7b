"""A trial start: one container of an image, without privileges, watched until it is well or given up.

In: an image of the engine's store and a `Smoke`. Out: `Trial`. Touches: the engine, connections to the container, and
that one container, which is gone at the end; and those that killed runs left behind.

The container has no capabilities and gains none, and no network but where a port is to be looked at. Its HEALTHCHECK
is the image's own, asked sooner and more often: Docker asks for the first time after a whole interval, which is 30 s
unless the image says otherwise (moby `daemon/health.go`).
"""

from __future__ import annotations

import json
import secrets
import time
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, urlencode

from buildorch.engine.api import mapping_in, message_of
from buildorch.engine.container_api import LAST_LINES, Container, Seen, good, last_lines
from buildorch.engine.listening import listens
from buildorch.engine.trial import Outcome, Trial
from buildorch.errors import MalformedDocument
from buildorch.oci import load_json
from buildorch.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from buildorch.engine.api import Engine
    from buildorch.services.model import Smoke

PAUSE_S = 0.2
"""Between two looks at a container."""
STEADY_S = 5.0
"""How long one with neither a HEALTHCHECK nor a port must run."""
ABANDONED_S = 3600.0
"""How long after a trial's own timeout its container is taken for one that a killed run left."""
MEMORY_BYTES = 1 << 30
MOST_PROCESSES = 512
LABEL = "io.buildorch.trial"
"""On every trial's container: its timeout in seconds."""
PREFIX = "buildorch-trial-"
"""Begins the name of every trial's container. The label alone is no leave to remove one: an image may bring it."""
NO_PROBE: Final[Mapping[str, Any]] = {"Test": ["NONE"]}
_SECOND = 1_000_000_000  # the API counts nanoseconds


def try_start(
    engine: Engine, image: str, smoke: Smoke, *, platform: str = "", is_stopped: Callable[[], bool] = lambda: False
) -> Trial:
    """Start the image once without privileges, and wait until it is well.

    With `smoke.port` it is well when that port takes connections, and its HEALTHCHECK is not asked; else when its
    HEALTHCHECK passes; where it has neither, when it still runs after `STEADY_S`, or after a timeout that is shorter.

    Args:
        engine: the engine whose store has the image.
        image: a reference or a digest.
        smoke: what it must do.
        platform: the image's, such as `linux/amd64`; default: what the engine says.
        is_stopped: asked while waiting; a trial that is stopped is `not_tried`.

    Raises:
        EngineUnreachable: the engine does not answer.
        EngineError: it cannot make a container, loses it, or cannot remove it. That it does not have the image, or
            cannot start what the image names, is no error but a Trial that `ended`.
    """
    remove_leftovers(engine)
    status, body = engine.call("GET", f"/images/{quote(image, safe='/:@')}/json")
    if status == 404:
        return Trial("ended", log=last_lines(message_of(body)))
    said = load_json(good(engine, "tell of an image", status, body), "image of the engine")
    place = _Place.of(engine)
    if why := place.obstacle(smoke, platform or f"{said.get('Os')}/{said.get('Architecture')}"):
        return Trial("not_tried", log=(why,))
    probe = _probe(mapping_in(mapping_in(said, "Config"), "Healthcheck"), smoke)
    container = Container(engine, f"{PREFIX}{secrets.token_hex(8)}")
    try:
        if refusal := container.make(_settings(image, smoke, probe)):
            return Trial("ended", log=last_lines(refusal))
        return _Watch(container, place, smoke, probe is not NO_PROBE).trial(is_stopped)
    finally:
        container.remove()


def remove_leftovers(engine: Engine) -> None:
    """Remove the containers of trials whose run was killed, an hour after they should have been over.

    Raises:
        EngineError: the engine does not answer, or does not list its containers.
    """
    query = urlencode({"all": 1, "filters": json.dumps({"label": [LABEL]})})
    for name, over in _trials(good(engine, "list its containers", *engine.call("GET", f"/containers/json?{query}"))):
        if name.startswith(PREFIX) and over + ABANDONED_S < time.time():
            engine.call("DELETE", f"/containers/{name}?force=1&v=1")  # another run may be quicker, which is as good


def _trials(body: bytes) -> Iterator[tuple[str, float]]:
    """Each container's name, and when its trial was over at the latest, in seconds since 1970."""
    try:
        for one in json.loads(body):
            name = (one["Names"] or [""])[0]  # one that is being removed has none
            yield str(name).removeprefix("/"), float(one["Created"]) + _seconds(one["Labels"][LABEL])
    except (KeyError, TypeError, ValueError) as error:
        raise MalformedDocument("list of containers", f"{type(error).__name__}: {error}") from None


def _seconds(label: object) -> float:
    try:
        return float(str(label))
    except ValueError:  # an image's own, on a container that is none of a trial
        return 0.0


@dataclass(frozen=True, slots=True)
class _Place:
    """Where the engine's containers run, as seen from here."""

    endpoint: str
    platform: str
    has_bridges_here: bool
    """Whether a container's address may be taken for one on this machine: not where a virtual machine or rootlesskit
    lies between, whose containers may have the addresses of this machine's own ones."""
    tells_users: bool
    """Whether users have the same numbers outside of a container as inside."""

    @classmethod
    def of(cls, engine: Engine) -> _Place:
        version, info = (
            load_json(good(engine, f"answer {path}", *engine.call("GET", path)), f"answer to {path}")
            for path in ("/version", "/info")
        )
        options = {str(option).partition(",")[0] for option in info.get("SecurityOptions") or ()}
        return cls(
            engine.endpoint,
            f"{version.get('Os')}/{version.get('Arch')}",
            "name=rootless" not in options and info.get("OperatingSystem") != "Docker Desktop",
            "name=userns" not in options,
        )

    def obstacle(self, smoke: Smoke, platform: str) -> str:
        """Why an image cannot be tried here; empty where it can."""
        if "/".join(platform.split("/")[:2]) != self.platform:
            return f"the image is for {platform}, and the engine runs {self.platform}"
        if smoke.port is not None and not self.endpoint.startswith("unix:"):
            return f"the port cannot be looked at: it is on another machine, the engine's at {self.endpoint}"
        return ""


@dataclass(frozen=True, slots=True)
class _Watch:
    """A container that is made, and what is waited for."""

    container: Container
    place: _Place
    smoke: Smoke
    is_probed: bool
    """Whether its HEALTHCHECK is asked."""

    def trial(self, is_stopped: Callable[[], bool]) -> Trial:
        """Start it and wait."""
        begin = time.monotonic()
        refusal, seen = self.container.start(), self.container.seen()
        if refusal:
            passed = time.monotonic() - begin
            return Trial("ended", passed, exit_code=seen.exit_code or None, log=last_lines(refusal))
        uids = self._uids(seen)
        while not (outcome := self._outcome(seen, passed := time.monotonic() - begin)):
            if is_stopped():
                return Trial("not_tried", passed, log=("the run was stopped",))
            time.sleep(PAUSE_S)
            seen = self.container.seen()
        if outcome == "not_tried":
            return Trial(
                outcome, passed, log=("the port cannot be looked at: no way leads from here to the container",)
            )
        uids |= self._uids(seen)
        exit_code = None if seen.is_running else seen.exit_code
        return Trial(outcome, passed, tuple(sorted(uids)), exit_code, self._log(seen, outcome))

    def _outcome(self, seen: Seen, passed: float) -> Outcome | None:
        """How it went, so many seconds after the start; None while that is open."""
        over = passed >= self.smoke.timeout
        if not seen.is_running:
            return "ended"
        if self.smoke.port is not None:
            networks = seen.networks if self.place.has_bridges_here else ()
            answer = listens(self.smoke.port, networks=networks, published=seen.published)
            return "well" if answer else None if not over else "not_tried" if answer is None else "no_port"
        if not self.is_probed:
            return "well" if over or passed >= STEADY_S else None
        if seen.health == "healthy":
            return "well"
        return "unwell" if over or seen.health == "unhealthy" else None

    def _uids(self, seen: Seen) -> frozenset[int]:
        return self.container.uids(seen.process) if seen.is_running and self.place.tells_users else frozenset()

    def _log(self, seen: Seen, outcome: Outcome) -> tuple[str, ...]:
        """What it printed, and what the engine knows beside that of why it is not well."""
        killed = [f"killed: a trial may use {MEMORY_BYTES} B of memory"] if seen.is_out_of_memory else []
        probe = [f"HEALTHCHECK: {line}" for line in seen.probe_log] if outcome == "unwell" else []
        return (*self.container.log(), *killed, *probe)[-LAST_LINES:]


def _probe(own: Mapping[str, Any], smoke: Smoke) -> Mapping[str, Any]:
    """The image's own HEALTHCHECK, asked at once and often; its failures count when the time is over."""
    if smoke.port is not None or (own.get("Test") or ["NONE"])[0] == "NONE":
        return NO_PROBE
    return {
        **own,
        "StartPeriod": round(smoke.timeout * _SECOND),
        "StartInterval": _SECOND // 2,
        "Interval": _SECOND,  # what counts before API 1.44
    }


def _settings(image: str, smoke: Smoke, probe: Mapping[str, Any]) -> Mapping[str, Any]:
    """The body of `ContainerCreate`."""
    port = f"{smoke.port}/tcp"
    return {
        "Image": image,
        "Labels": {LABEL: str(smoke.timeout)},
        "Healthcheck": probe,
        "ExposedPorts": {} if smoke.port is None else {port: {}},
        "HostConfig": {
            "CapDrop": ["ALL"],
            "SecurityOpt": ["no-new-privileges"],
            "PidsLimit": MOST_PROCESSES,
            "Memory": MEMORY_BYTES,
            "ReadonlyRootfs": smoke.read_only,
            "Tmpfs": {"/tmp": ""} if smoke.read_only else {},  # noqa: S108 - the container's
            "NetworkMode": "none" if smoke.port is None else "bridge",
            # Any port that is free, for this machine alone.
            "PortBindings": {} if smoke.port is None else {port: [{"HostIp": "127.0.0.1", "HostPort": ""}]},
            # A driver that can be read from whatever the engine's own is, and bounded: a trial may print without end.
            "LogConfig": {"Type": "json-file", "Config": {"max-size": "1m", "max-file": "2"}},
        },
    }
