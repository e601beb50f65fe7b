"""The view for CI and pipes: a line an event, each with its service's name.

In: events. Out: lines on a stream. Touches: that stream.
"""

from __future__ import annotations

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
    from buildorch.record import ServiceRecord


class PlainView:
    """Writes what happens, as it happens."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._width = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.flush()

    def update(self, event: Event) -> None:
        """Write the event's lines."""
        match event:
            case LeaseAwaited():
                self._line(event.service, f"waiting for {printable(event.holder_text)}")
            case RunStarted():
                self._width = max(map(len, event.services), default=0)
                self._line("", f"{len(event.services)} services, {event.jobs} at once, engine {event.engine.version}")
            case SolveStarted():
                again = f" (attempt {event.attempt})" if event.attempt > 1 else ""
                self._line(event.service, f"building: {event.reason}{again}")
            case StepStarted() | StepLogged() | StepFinished() | StepWarned():
                self._step(event)
            case SolveRetried():
                self._line(event.service, f"trying again in {event.delay_s:.1f}s: {printable(event.failure.message)}")
            case ServiceFinished():
                self._line(event.service, outcome(event.record))
            case _:
                pass

    def _step(self, event: StepStarted | StepLogged | StepFinished | StepWarned) -> None:
        match event:
            case StepStarted() if event.step:
                self._line(event.service, _first_line(event.name))
            case StepLogged():
                for line in event.lines:
                    self._line(event.service, f"  {printable(line)}")
            case StepFinished() if event.step or event.error:
                how = (
                    f"ERROR {event.error}"
                    if event.error
                    else "CACHED"
                    if event.cached
                    else human_seconds(event.duration_s)
                )
                self._line(event.service, f"{_first_line(event.name)}: {_first_line(how)}")
            case StepWarned():
                self._line(event.service, f"warning: {printable(event.message)}")
            case _:
                pass

    def _line(self, service: str, text: str) -> None:
        self._stream.write(f"{service.ljust(self._width)} | {text}\n" if service else f"{text}\n")


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
