"""buildx's `--progress=rawjson` -> events.

In: the bytes a build writes to stderr, in chunks of any size. Out: events, and what is known once the build has ended.
Touches nothing, and never raises on what a build prints.

Source: `SolveStatus` in moby/buildkit `client/graph.go`: vertexes, statuses, logs and warnings, each object repeated
as it changes. Lines that are not JSON are for people: warnings and, at the end, the
Dockerfile's excerpt and `ERROR: ...`.
"""

from __future__ import annotations

import base64
import codecs
import io
import json
import re
from collections import deque
from dataclasses import field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

from buildorch.events import Event, StepFinished, StepLogged, StepProgress, StepStarted, StepWarned, stamp
from buildorch.record import Steps
from buildorch.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

Phase = Literal["resolve", "build", "push"]
MAX_LINE = 4 * 1024 * 1024
"""Longest line read, in bytes: BuildKit's own were seen at 98 KB. The rest of a longer one is dropped."""
MAX_LOG_LINE = 16 * 1024
"""Longest log line passed on, in characters; a longer one is cut into pieces of this size."""
TAIL_LINES = 20
_STEP = re.compile(r"\[(?:(?P<stage>[^\]]*) )?(?P<index>\d{1,9})/(?P<total>\d{1,9})\] (?P<instruction>.*)", re.DOTALL)
_FROM = re.compile(r"FROM (?:docker\.io/)?(?:library/)?(?P<name>[^@\s]+)@(?P<digest>sha256:[0-9a-f]{64})")
_CACHE_IMPORT = "importing cache manifest from "
_EXCERPT = re.compile(r"(?P<file>\S.*):(?P<line>\d{1,9})\Z")


def _decoder() -> io.IncrementalNewlineDecoder:
    """Bytes -> text, whatever the place they are cut at: in a character, or between CR and LF.

    A carriage return alone rewrites a line on a terminal: every state of a progress bar is a line here.
    """
    return io.IncrementalNewlineDecoder(codecs.getincrementaldecoder("utf-8")("replace"), translate=True)


@dataclass(slots=True)
class Vertex:
    """What has been said of one vertex so far."""

    digest: str
    name: str = ""
    stage: str = ""
    index: int = 0
    total: int = 0
    instruction: str = ""
    group: str = ""
    cached: bool = False
    error: str = ""
    started: set[str] = field(default_factory=set)
    finished: set[str] = field(default_factory=set)
    partial: str = ""
    decoder: io.IncrementalNewlineDecoder = field(default_factory=_decoder)
    tail: deque[str] = field(default_factory=lambda: deque(maxlen=TAIL_LINES))

    @property
    def is_step(self) -> bool:
        """Whether it is a Dockerfile instruction."""
        return self.total > 0

    @property
    def is_from(self) -> bool:
        """Whether it only takes a base image, which says nothing about the cache."""
        return self.instruction.startswith("FROM ")


class Progress:
    """Reads one build's stderr: `feed` gives events, the properties tell what is known so far."""

    def __init__(self, service: str) -> None:
        self.service = service
        self.vertexes: dict[str, Vertex] = {}
        self.bases: dict[str, str] = {}
        """Base image as named, without docker.io/library/ -> the digest it resolved to."""
        self.warnings: dict[str, None] = {}
        self.human: deque[str] = deque(maxlen=200)
        """Lines that are not JSON, the last 200."""
        self.phase: Phase = "resolve"
        """What it does: until its first step or the unpacking of a base it resolves and pulls; at last it may push."""
        self.news = 0
        """Grows with everything that was not said before; a bar that is drawn again is no news."""
        self._amounts: dict[tuple[str, str], int] = {}
        self._buffer = bytearray()
        self._dropping = False

    def feed(self, chunk: bytes) -> list[Event]:
        """The events in the lines that `chunk` completes."""
        events: list[Event] = []
        for piece in chunk.splitlines(keepends=True) if b"\n" in chunk else (chunk,):
            whole = piece.endswith(b"\n")
            if not self._dropping:
                self._buffer += piece
                if len(self._buffer) > MAX_LINE:
                    self._buffer.clear()
                    self._dropping = True
                    self.human.append(f"a line of more than {MAX_LINE} bytes was left out")
            if whole:
                if not self._dropping:
                    events.extend(self._line(bytes(self._buffer)))
                self._buffer.clear()
                self._dropping = False
        return events

    def close(self) -> list[Event]:
        """The events that were still waiting for the end of their line."""
        events = list(self._line(bytes(self._buffer))) if self._buffer else []
        self._buffer.clear()
        for vertex in self.vertexes.values():
            events.extend(self._flush(vertex))
        return events

    @property
    def steps(self) -> Steps:
        """How many of the Dockerfile's steps were seen, cached and executed; a COPY --link counts once."""
        groups: dict[str, list[Vertex]] = {}
        for vertex in self.vertexes.values():
            if vertex.is_step and not vertex.is_from:
                groups.setdefault(vertex.group or vertex.digest, []).append(vertex)
        done = [group for group in groups.values() if all(vertex.finished for vertex in group)]
        cached = sum(all(vertex.cached for vertex in group) for group in done)
        return Steps(total=len(groups), cached=cached, executed=len(done) - cached)

    @property
    def failed(self) -> Vertex | None:
        """The vertex that the build failed for: the one whose error buildx says last, where it says one.

        Not one that was cancelled because another failed, and never an import of cache, which a build does without.
        """
        broken = [
            vertex for vertex in self.vertexes.values() if vertex.error and not vertex.name.startswith(_CACHE_IMPORT)
        ]
        message = self.message
        named = [vertex for vertex in broken if vertex.error in message]
        own = [vertex for vertex in broken if "context canceled" not in vertex.error]
        return next(iter(named or own or broken), None)

    @property
    def message(self) -> str:
        """What buildx said last: the text behind `ERROR: `, or the last lines that are for people."""
        lines = list(self.human)
        for at in range(len(lines) - 1, -1, -1):
            if lines[at].startswith("ERROR: "):
                return "\n".join([lines[at].removeprefix("ERROR: "), *lines[at + 1 :]]).strip()
        return "\n".join(lines[-5:]).strip()

    @property
    def excerpt(self) -> tuple[str, int] | None:
        """The Dockerfile's name and the line that buildx shows for the failure."""
        lines = list(self.human)
        for at in range(len(lines) - 1, 0, -1):
            match = _EXCERPT.match(lines[at - 1])
            if match and set(lines[at]) == {"-"}:
                return match["file"], int(match["line"])
        return None

    def _line(self, line: bytes) -> Iterator[Event]:
        text = line.decode("utf-8", "replace").rstrip("\r\n")
        if not text.startswith("{"):
            if text.strip():
                self.human.append(text[:MAX_LOG_LINE])
            return
        try:
            status = json.loads(text)
        except (ValueError, RecursionError):
            self.human.append(text[:MAX_LOG_LINE])
            return
        for raw in _objects(status, "vertexes"):
            yield from self._vertex(raw)
        for raw in _objects(status, "statuses"):
            yield from self._status(raw)
        for raw in _objects(status, "logs"):
            yield from self._log(raw)
        for raw in _objects(status, "warnings"):
            yield from self._warning(raw)

    def _known(self, digest: object) -> Vertex:
        key = str(digest)
        if key not in self.vertexes:
            self.vertexes[key] = Vertex(key)
        return self.vertexes[key]

    def _vertex(self, raw: dict[str, Any]) -> Iterator[Event]:
        vertex = self._known(raw.get("digest"))
        group = raw.get("progressGroup")
        if isinstance(group, dict) and group.get("name"):
            vertex.group = str(group.get("id"))
            self._name(vertex, str(group["name"]))
        elif raw.get("name"):
            self._name(vertex, str(raw["name"]))
        vertex.cached = vertex.cached or bool(raw.get("cached"))
        started, completed = str(raw.get("started") or ""), str(raw.get("completed") or "")
        if started and started not in vertex.started:
            vertex.started.add(started)
            self.news += 1
            self._enter(vertex)
            yield StepStarted(
                service=self.service,
                vertex=vertex.digest,
                name=vertex.name,
                step=vertex.is_step,
                index=vertex.index,
                total=vertex.total,
            )
        if raw.get("error"):
            vertex.error = str(raw["error"])
        if completed and started not in vertex.finished:
            vertex.finished.add(started)
            self.news += 1
            yield from self._flush(vertex)
            yield StepFinished(
                service=self.service,
                vertex=vertex.digest,
                name=vertex.name,
                step=vertex.is_step,
                cached=vertex.cached,
                started_at=_moment(started),
                duration_s=_seconds(started, completed),
                error=vertex.error,
            )

    def _enter(self, vertex: Vertex) -> None:
        """A vertex starts: where that begins a phase, note it."""
        if vertex.name.startswith("pushing "):  # the graphdriver store's push is a vertex of its own
            self.phase = "push"
        elif self.phase == "resolve" and vertex.is_step and not vertex.is_from:
            self.phase = "build"

    def _name(self, vertex: Vertex, name: str) -> None:
        if vertex.name == name:
            return
        vertex.name = name
        if step := _STEP.match(name):
            vertex.stage, vertex.instruction = step["stage"] or "", step["instruction"]
            vertex.index, vertex.total = int(step["index"]), int(step["total"])
        if base := _FROM.search(name):
            self.bases[base["name"]] = base["digest"]

    def _status(self, raw: dict[str, Any]) -> Iterator[Event]:
        current, total = raw.get("current"), raw.get("total")
        item = str(raw.get("id", ""))[:MAX_LOG_LINE]
        self._note(str(raw.get("vertex")), item, current if isinstance(current, int) else 0)
        if isinstance(current, int) and current > 0:
            yield StepProgress(
                service=self.service,
                vertex=str(raw.get("vertex")),
                item=item,
                current=current,
                total=total if isinstance(total, int) else 0,
            )

    def _note(self, vertex: str, item: str, current: int) -> None:
        """An item's state: news if it changed, and the begin of a phase if it is unpacked or pushed."""
        if self._amounts.get((vertex, item)) != current:
            self._amounts[vertex, item] = current
            self.news += 1
        if item.startswith("pushing "):
            self.phase = "push"
        elif item.startswith("extracting ") and self.phase == "resolve":
            self.phase = "build"

    def _log(self, raw: dict[str, Any]) -> Iterator[Event]:
        vertex = self._known(raw.get("vertex"))
        self.news += 1
        lines = (vertex.partial + vertex.decoder.decode(_unbase64(raw.get("data")))).split("\n")
        vertex.partial = lines.pop()
        while len(vertex.partial) > MAX_LOG_LINE:
            lines.append(vertex.partial[:MAX_LOG_LINE])
            vertex.partial = vertex.partial[MAX_LOG_LINE:]
        yield from self._logged(vertex, lines)

    def _flush(self, vertex: Vertex) -> Iterator[Event]:
        rest = (vertex.partial + vertex.decoder.decode(b"", final=True)).removesuffix("\n")
        vertex.partial, vertex.decoder = "", _decoder()
        if rest:
            yield from self._logged(vertex, rest.split("\n"))

    def _logged(self, vertex: Vertex, lines: Iterable[str]) -> Iterator[Event]:
        pieces = tuple(
            line[start : start + MAX_LOG_LINE] for line in lines for start in range(0, max(len(line), 1), MAX_LOG_LINE)
        )
        if pieces:
            vertex.tail.extend(pieces)
            yield StepLogged(service=self.service, vertex=vertex.digest, name=vertex.name, lines=pieces)

    def _warning(self, raw: dict[str, Any]) -> Iterator[Event]:
        message = _unbase64(raw.get("short")).decode("utf-8", "replace")
        if not message or message in self.warnings:
            return
        self.warnings[message] = None
        ranges = raw.get("range")
        line = None
        if isinstance(ranges, list) and ranges and isinstance(ranges[0], dict):
            start = ranges[0].get("start")
            line = start.get("line") if isinstance(start, dict) else None
        yield StepWarned(
            service=self.service,
            message=message,
            line=line if isinstance(line, int) else None,
            url=str(raw.get("url") or ""),
        )


def _objects(status: object, key: str) -> Iterator[dict[str, Any]]:
    entries = status.get(key) if isinstance(status, dict) else None
    if isinstance(entries, list):
        yield from (entry for entry in entries if isinstance(entry, dict))


def _unbase64(data: object) -> bytes:
    if not isinstance(data, str):
        return b""
    try:
        return base64.b64decode(data)
    except ValueError:
        return b""


def _moment(time: str) -> str:
    """BuildKit's time as all times of a record are, in UTC to the millisecond; empty where it is none."""
    try:
        at = datetime.fromisoformat(time).astimezone(UTC)
    except (OverflowError, ValueError):
        return ""
    return "" if at.year == 1 else stamp(at)  # Go's zero time


def _seconds(started: str, completed: str) -> float:
    if started.startswith("0001-"):
        return 0.0  # Go's zero time: it never started
    try:
        span = datetime.fromisoformat(completed) - datetime.fromisoformat(started)
    except (ValueError, TypeError):
        return 0.0
    return max(span.total_seconds(), 0.0)
