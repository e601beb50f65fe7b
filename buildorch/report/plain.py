"""The view for CI and pipes: a line an event, each with its service's name.

In: events. Out: lines on a stream. Touches: that stream.

On GitHub and GitLab a service's steps and logs are held back until it has finished, and then stand in a fold of their
own: builds run at once, and folds cannot. What failed is not folded.
"""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING, Self, TextIO

from buildorch.events import (
    Event,
    LeaseAwaited,
    RunStarted,
    ServiceFinished,
    SolveRetried,
    SolveStarted,
    StepFinished,
    StepLogged,
    StepStarted,
    StepWarned,
)
from buildorch.quantities import human_bytes, human_seconds
from buildorch.report.text import printable

if TYPE_CHECKING:
    from collections.abc import Callable

    from buildorch.record import ServiceRecord
    from buildorch.report.folds import Folds

HELD_CHARACTERS = 1_000_000
"""How much of a service's text is held back for its fold: the end of it."""


class PlainView:
    """Writes what happens, as it happens; with folds a service's steps and logs once it has finished."""

    def __init__(self, stream: TextIO, *, folds: Folds | None = None, clock: Callable[[], float] = time.time) -> None:
        self._stream, self._folds, self._clock = stream, folds, clock
        self._width = 0
        self._held: dict[str, _Held] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for held in self._held.values():  # of services that have no end: the run was cut off
            self._stream.writelines(held.lines())
        self._stream.flush()

    def update(self, event: Event) -> None:
        """Write the event's lines."""
        match event:
            case LeaseAwaited():
                self._line(event.service, f"waiting for {printable(event.holder_text)}")
            case RunStarted():
                self._width = max(map(len, event.services), default=0)
                self._line(
                    "",
                    f"{len(event.services)} services, {event.jobs} at once, engine {printable(event.engine.version)}",
                )
            case SolveStarted():
                again = f" (attempt {event.attempt})" if event.attempt > 1 else ""
                self._line(event.service, f"building: {printable(event.reason)}{again}")
                if self._folds:
                    self._held.setdefault(event.service, _Held(self._clock()))
            case StepStarted() | StepLogged() | StepFinished() | StepWarned():
                self._step(event)
            case SolveRetried():
                self._line(event.service, f"trying again in {event.delay_s:.1f}s: {printable(event.failure.message)}")
            case ServiceFinished():
                self._finished(event.service, event.record)
            case _:
                pass

    def _step(self, event: StepStarted | StepLogged | StepFinished | StepWarned) -> None:
        match event:
            case StepStarted() if event.step:
                self._detail(event.service, _first_line(event.name))
            case StepLogged():
                for line in event.lines:
                    self._detail(event.service, f"  {printable(line)}")
            case StepFinished() if event.step or event.error:
                how = (
                    f"ERROR {event.error}"
                    if event.error
                    else "CACHED"
                    if event.cached
                    else human_seconds(event.duration_s)
                )
                self._detail(event.service, f"{_first_line(event.name)}: {_first_line(how)}")
            case StepWarned():
                self._detail(event.service, f"warning: {printable(event.message)}")
            case _:
                pass

    def _finished(self, service: str, record: ServiceRecord) -> None:
        """How a service ended, and what was held back of it: in a fold, unless it failed."""
        held = self._held.pop(service, None)
        if held and self._folds:
            failed = record.status == "failed"
            if not failed:
                self._stream.write(self._folds.begin(service, record.status, since=held.since))
            self._stream.writelines(held.lines())
            if not failed:
                self._stream.write(self._folds.end(service, now=self._clock()))
        self._line(service, outcome(record))

    def _detail(self, service: str, text: str) -> None:
        """A line that may be folded."""
        if held := self._held.get(service):
            held.add(self._whole(service, text))
        else:
            self._line(service, text)

    def _line(self, service: str, text: str) -> None:
        self._stream.write(self._whole(service, text))
        if self._folds:
            self._stream.flush()

    def _whole(self, service: str, text: str) -> str:
        line = f"{service.ljust(self._width)} | {text}" if service else text
        return f"{self._folds.harmless(line) if self._folds else line}\n"


class _Held:
    """Lines of a service that wait for its end."""

    def __init__(self, since: float) -> None:
        self.since = since
        self._lines: deque[str] = deque()
        self._characters = self._dropped = 0

    def add(self, line: str) -> None:
        """Hold one more; the first ones go where there are too many."""
        self._lines.append(line)
        self._characters += len(line)
        while self._characters > HELD_CHARACTERS and len(self._lines) > 1:
            self._characters -= len(self._lines.popleft())
            self._dropped += 1

    def lines(self) -> list[str]:
        """What is held, and how much is not."""
        return [*([f"({self._dropped} earlier lines are left out)\n"] if self._dropped else []), *self._lines]


def outcome(record: ServiceRecord) -> str:
    """One line on how a service ended."""
    if record.error:
        return f"{record.status}: {printable(record.error.message)}"
    if record.status == "skipped":
        return f"skipped, {record.reason}: {record.reference} {record.digest}"
    sizes = ", ".join(human_bytes(facts.unpacked_bytes) for facts in record.platforms.values())
    said = [record.status, f"in {human_seconds(record.duration_s)}"]
    if record.digest:
        said.append(f"{record.reference} {record.digest}")
    return " ".join([*said, f"({sizes} unpacked)" if sizes else ""]).rstrip()


def _first_line(text: str) -> str:
    lines = text.splitlines()
    return printable(lines[0] + (" ..." if len(lines) > 1 else "")) if lines else ""
