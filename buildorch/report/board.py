"""What a screen shows of a run, as a fold of events: what each service does, how far it is, what it printed last.

In: events, a clock, and what is known of earlier builds. Out: a `Board`. Touches nothing.

Text from builds is made harmless where it comes in (`printable`).
"""

from __future__ import annotations

import time
from collections import deque
from dataclasses import field
from typing import TYPE_CHECKING

from buildorch import forecast
from buildorch.events import (
    Event,
    LeaseAwaited,
    RunStarted,
    ServiceFinished,
    SolveFinished,
    SolveRetried,
    SolveStarted,
    StepFinished,
    StepLogged,
    StepProgress,
    StepStarted,
)
from buildorch.forecast import Forecast
from buildorch.quantities import human_bytes
from buildorch.report.text import printable
from buildorch.timeline import is_counted
from buildorch.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from buildorch.record import ServiceRecord

LOG_LINES, LOG_WIDTH = 40, 500
"""How much of what a build printed is kept for each service: the last lines, and the begin of each."""
ACTIVE = frozenset({"building", "measuring"})
GROUPS = ("failed", "building", "measuring", "blocked", "waiting", "built", "skipped", "cancelled")
"""The states in the order in which they are shown: what wants attention, what goes on, what comes, what is done."""


@dataclass(slots=True)
class Doing:
    """A vertex that runs now."""

    name: str
    since: float
    moved: dict[str, int] = field(default_factory=dict)
    """Item that is sent to the engine -> bytes."""


@dataclass(slots=True)
class Line:
    """One service's state on the screen."""

    state: str = "waiting"
    """waiting, building, measuring, or the record's status."""
    begun: float | None = None
    took: float | None = None
    doing: dict[str, Doing] = field(default_factory=dict)
    """vertex -> what runs now, oldest first."""
    ended: set[str] = field(default_factory=set)
    """The names of what has ended."""
    stages: dict[str, int] = field(default_factory=dict)
    """Stage -> its steps, FROM left out."""
    seen: set[str] = field(default_factory=set)
    done: set[str] = field(default_factory=set)
    cached: set[str] = field(default_factory=set)
    pulled: dict[str, int] = field(default_factory=dict)
    """Item -> bytes; so `pushed`."""
    pushed: dict[str, int] = field(default_factory=dict)
    log: deque[str] = field(default_factory=lambda: deque(maxlen=LOG_LINES))
    said: str = ""
    """What there is to say in place of a step: a retry, or how it ended."""
    reached: float = 0.0
    """How full its bar was: a stage that begins late takes nothing back."""

    @property
    def step(self) -> str:
        """What to say about it now."""
        if self.said:
            return self.said
        if not self.doing:
            return ""
        last = next(reversed(self.doing.values()))
        sent = sum(last.moved.values())
        return f"{last.name} ({human_bytes(sent)})" if sent else last.name


class Board:
    """What the screen shows: no terminal is touched here."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self.begun = clock()
        self.project = ""
        self.jobs = 0
        self.awaited = ""
        """What the run waits for before it begins."""
        self.lines: dict[str, Line] = {}
        self.failed = ""
        """The service that failed last."""
        self.forecast = Forecast()
        self._usual_s: float | None = None
        self._weights: dict[str, dict[str, float]] = {}
        self._totals: dict[str, int] = {}

    def expect(self, expected: Forecast) -> None:
        """Know from here on what earlier builds took."""
        self.forecast, self._usual_s = expected, expected.usual_s()
        self._weights = {name: _by_first_line(steps) for name, steps in expected.steps_s.items()}
        self._totals = {name: sum(map(bool, map(is_counted, steps))) for name, steps in self._weights.items()}

    @property
    def is_building(self) -> bool:
        """Whether a build has begun and the run goes on."""
        return any(line.state in ACTIVE for line in self.lines.values())

    def update(self, event: Event) -> None:
        """Fold one event."""
        match event:
            case LeaseAwaited():
                self.awaited = f"{event.service}: waiting for {printable(event.holder_text)}"
            case RunStarted():
                self.project, self.jobs, self.awaited = event.project, event.jobs, ""
                self.lines = {name: Line() for name in event.services}
            case SolveStarted():
                before = self.lines[event.service]
                begun = before.begun if before.state == "building" else self.clock()
                self.lines[event.service] = Line(state="building", begun=begun)
            case StepStarted() | StepProgress() | StepLogged() | StepFinished():
                self._step(self.lines[event.service], event)
            case SolveRetried() | SolveFinished() | ServiceFinished():
                self._ended(self.lines[event.service], event)
            case _:
                pass

    def _step(self, line: Line, event: StepStarted | StepProgress | StepLogged | StepFinished) -> None:
        match event:
            case StepStarted():
                line.said = ""
                line.doing[event.vertex] = Doing(_first_line(event.name), self.clock())
                if _counts(event):
                    line.seen.add(event.vertex)
                    line.stages[_stage(event.name)] = event.total - 1
            case StepProgress():
                _move(line, event)
            case StepLogged():
                line.log.extend(_harmless(text) for text in event.lines[-LOG_LINES:])
            case StepFinished():
                line.doing.pop(event.vertex, None)
                line.ended.add(_first_line(event.name))
                if _counts(event):
                    line.done.add(event.vertex)
                    if event.cached:
                        line.cached.add(event.vertex)

    def _ended(self, line: Line, event: SolveRetried | SolveFinished | ServiceFinished) -> None:
        match event:
            case SolveRetried():
                line.doing.clear()
                line.said = f"trying again: {printable(event.failure.message)}"
            case SolveFinished():
                line.state, line.took = "measuring", event.duration_s
                line.doing.clear()
                line.said = "measuring the image"
            case ServiceFinished():
                line.state, line.said = event.record.status, _came_out(event.record)
                line.doing.clear()
                if event.record.status == "failed":
                    self.failed = event.service
                    if event.record.error and event.record.error.log:
                        line.log.clear()
                        line.log.extend(map(_harmless, event.record.error.log))

    def filled(self, name: str) -> float:
        """How full a service's bar is, 0 to 1: by its steps' weights, else their number; never less than before."""
        line = self.lines[name]
        if line.state not in ACTIVE:
            return 1.0 if line.state == "built" else line.reached
        now = self.clock()
        running = {doing.name: now - doing.since for doing in line.doing.values()}
        part = forecast.fraction(self._weights.get(name, {}), line.ended, running)
        if part is None:
            total = self.total(name)
            part = len(line.done) / total if total else 0.0
        line.reached = max(line.reached, min(part, 0.99))
        return line.reached

    def total(self, name: str) -> int:
        """How many steps a service's build has, as far as is known: of its last build, else of its stages.

        Stages may share a step, which is done once.
        """
        line = self.lines[name]
        known = self._totals.get(name) or sum(line.stages.values())
        return len(line.seen) if line.state == "measuring" else max(known, len(line.seen))

    def took_s(self, name: str) -> float:
        """For how long a service was or is being built."""
        line = self.lines[name]
        if line.took is not None:
            return line.took
        return self.clock() - line.begun if line.begun is not None and line.state in ACTIVE else 0.0

    def left_s(self) -> dict[str, float]:
        """Service that is still to be built -> the seconds it takes by what is known; none where nothing is."""
        if self._usual_s is None:
            return {}
        return {
            name: forecast.left_s(
                self.forecast.expected_s.get(name, self._usual_s), self.took_s(name), self.filled(name)
            )
            for name, line in self.lines.items()
            if line.state in {"waiting", "building"} and name in self.forecast.depends_on
        }

    def critical(self, left_s: dict[str, float]) -> frozenset[str]:
        """The services that the run's end waits for."""
        return frozenset(forecast.critical_path(left_s, self.forecast.depends_on))

    def run_left_s(self, left_s: dict[str, float], critical: frozenset[str]) -> float | None:
        """What the run still takes at least; None where nothing is known."""
        return forecast.run_left_s(left_s, critical, jobs=self.jobs) if left_s else None

    def grouped(self) -> dict[str, list[str]]:
        """State -> its services in the plan's order; the states in the order of `GROUPS`, none that is empty."""
        found: dict[str, list[str]] = {state: [] for state in GROUPS}
        for name, line in self.lines.items():
            found[line.state].append(name)
        return {state: names for state, names in found.items() if names}


def _came_out(record: ServiceRecord) -> str:
    """What a service came to, beside its state."""
    if record.error:
        return printable(record.error.message)
    if record.status == "skipped":
        return printable(record.reason)
    sizes = ", ".join(human_bytes(facts.unpacked_bytes) for facts in record.platforms.values())
    return f"{f'{sizes} unpacked, ' if sizes else ''}{printable(record.reference)}"


def _by_first_line(steps: Mapping[str, float | None]) -> dict[str, float]:
    """Step as it is shown -> what it weighs."""
    found: dict[str, float] = {}
    for name, seconds in steps.items():
        weight = forecast.NEW_STEP_S if seconds is None else seconds
        found[_first_line(name)] = found.get(_first_line(name), 0.0) + weight
    return found


def _move(line: Line, event: StepProgress) -> None:
    """Note the bytes of an item: a layer that is pulled or pushed, or what is sent to the engine."""
    if event.item.startswith("sha256:"):
        line.pulled[event.item] = event.current
    elif event.item.startswith("pushing "):
        line.pushed[event.item] = event.current
    elif event.item.startswith("transferring") and event.vertex in line.doing:
        line.doing[event.vertex].moved[event.item] = event.current


def _counts(event: StepStarted | StepFinished) -> bool:
    return event.step and is_counted(event.name) is not None


def _stage(name: str) -> str:
    """`[deps 2/4] RUN x` -> `deps`."""
    return name.partition("]")[0].rpartition(" ")[0]


def _first_line(text: str) -> str:
    return printable(text.partition("\n")[0][:LOG_WIDTH]).replace("\t", " ")


def _harmless(text: str) -> str:
    return printable(text[:LOG_WIDTH].expandtabs())
