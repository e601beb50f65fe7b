"""The view for a terminal: a line a service, redrawn in place.

In: events. Out: a picture on stderr. Touches: the terminal, through rich, which is loaded only here.
"""

from __future__ import annotations

import time
from dataclasses import field
from typing import TYPE_CHECKING, Any, Self

from buildorch.events import (
    Event,
    LeaseAwaited,
    RunStarted,
    ServiceFinished,
    SolveFinished,
    SolveRetried,
    SolveStarted,
    StepFinished,
    StepProgress,
    StepStarted,
)
from buildorch.quantities import human_bytes, human_seconds
from buildorch.report.plain import outcome
from buildorch.report.text import printable
from buildorch.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Callable

REFRESH_PER_S = 8


@dataclass(slots=True)
class Line:
    """One service's state on the screen."""

    state: str = "waiting"
    """waiting, building, measuring, or the record's status."""
    begun: float = 0.0
    took: float | None = None
    current: dict[str, str] = field(default_factory=dict)
    """vertex -> name, of what runs now, oldest first."""
    seen: set[str] = field(default_factory=set)
    done: set[str] = field(default_factory=set)
    cached: set[str] = field(default_factory=set)
    moved: dict[str, int] = field(default_factory=dict)
    ended: str = ""

    @property
    def doing(self) -> str:
        """What to say about it now."""
        if self.ended:
            return self.ended
        return next(reversed(self.current.values()), "")


class Board:
    """What the screen shows, as a fold of events: no terminal is touched here."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self.begun = clock()
        self.jobs = 0
        self.awaited = ""
        """What the run waits for before it begins."""
        self.lines: dict[str, Line] = {}

    def update(self, event: Event) -> None:
        """Fold one event."""
        match event:
            case LeaseAwaited():
                self.awaited = f"{event.service}: waiting for {printable(event.holder_text)}"
            case RunStarted():
                self.jobs, self.awaited = event.jobs, ""
                self.lines = {name: Line() for name in event.services}
            case SolveStarted():
                self.lines[event.service] = Line(state="building", begun=self._clock())
            case StepStarted():
                line = self.lines[event.service]
                line.current[event.vertex] = printable(event.name.splitlines()[0] if event.name else "")
                if _counts(event):
                    line.seen.add(event.vertex)
            case StepFinished():
                self._finished(self.lines[event.service], event)
            case StepProgress():
                # A transfer's item is named by its digest or path; counts of other things have no unit to show.
                if event.item.startswith(("sha256:", "transferring", "pushing", "extracting")):
                    self.lines[event.service].moved[event.item] = event.current
            case SolveRetried() | SolveFinished() | ServiceFinished():
                self._ended(self.lines[event.service], event)
            case _:
                pass

    def _finished(self, line: Line, event: StepFinished) -> None:
        line.current.pop(event.vertex, None)
        if _counts(event):
            line.done.add(event.vertex)
            if event.cached:
                line.cached.add(event.vertex)

    def _ended(self, line: Line, event: SolveRetried | SolveFinished | ServiceFinished) -> None:
        match event:
            case SolveRetried():
                line.current = {"": f"trying again: {printable(event.failure.message)}"}
            case SolveFinished():
                line.state, line.took = "measuring", event.duration_s
                line.current = {"": "measuring the image"}
            case ServiceFinished():
                line.state, line.ended = event.record.status, outcome(event.record)

    def headline(self) -> str:
        """The whole run in one line."""
        if self.awaited:
            return f"{human_seconds(self._clock() - self.begun)}  {self.awaited}"
        states = [line.state for line in self.lines.values()]
        said = ", ".join(
            f"{states.count(state)} {state}"
            for state in (
                "waiting",
                "building",
                "measuring",
                "built",
                "skipped",
                "failed",
                "blocked",
                "cancelled",
            )
            if state in states
        )
        return f"{human_seconds(self._clock() - self.begun)}  {said}  (at most {self.jobs} at once)"

    def rows(self, limit: int) -> list[tuple[str, str, str, str, str, str]]:
        """(service, state, steps, bytes, time, doing), the busiest first where there is no room for all."""
        order = {"building": 0, "measuring": 0, "failed": 1, "blocked": 2, "waiting": 3}
        names = list(self.lines)
        if len(names) > limit:
            names = sorted(names, key=lambda name: order.get(self.lines[name].state, 4))[: max(limit - 1, 0)]
        rows = [self._row(name, self.lines[name]) for name in names]
        if len(names) < len(self.lines):
            rows.append((f"... and {len(self.lines) - len(names)} more", "", "", "", "", ""))
        return rows

    def _row(self, name: str, line: Line) -> tuple[str, str, str, str, str, str]:
        steps = f"{len(line.done)}/{len(line.seen)}" if line.seen else ""
        if line.cached:
            steps += f" ({len(line.cached)} cached)"
        moved = sum(line.moved.values())
        took = line.took if line.took is not None else self._clock() - line.begun
        return (
            name,
            line.state,
            steps,
            human_bytes(moved) if moved else "",
            "" if line.state == "waiting" else human_seconds(took),
            line.doing,
        )


def _counts(event: StepStarted | StepFinished) -> bool:
    """Whether it is a step of the record's `steps`: FROM only takes an image."""
    return event.step and "] FROM " not in event.name


class LiveView:
    """Draws a `Board` on the terminal and leaves its last picture there."""

    def __init__(self) -> None:
        from rich.console import Console  # noqa: PLC0415 - 40 ms, only on a terminal
        from rich.live import Live  # noqa: PLC0415

        self._board = Board()
        self._console = Console(stderr=True)
        self._live = Live(
            console=self._console,
            refresh_per_second=REFRESH_PER_S,
            get_renderable=self._picture,
            transient=True,
        )

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def update(self, event: Event) -> None:
        """Fold the event; the picture is drawn at its own pace."""
        self._board.update(event)

    def _picture(self) -> Any:  # noqa: ANN401 - a rich renderable
        from rich.table import Table  # noqa: PLC0415
        from rich.text import Text  # noqa: PLC0415

        styles = {
            "building": "cyan",
            "measuring": "cyan",
            "built": "green",
            "failed": "red",
            "blocked": "yellow",
        }
        table = Table.grid(padding=(0, 2), expand=True)
        for justify in ("left", "left", "right", "right", "right"):
            table.add_column(justify=justify, no_wrap=True)
        table.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
        for row in self._board.rows(max(self._console.size.height - 3, 1)):
            style = styles.get(row[1], "")
            table.add_row(*(Text(cell, style=style if at == 1 else "") for at, cell in enumerate(row)))
        whole = Table.grid(expand=True)
        whole.add_row(table)
        whole.add_row(Text(self._board.headline(), style="bold", no_wrap=True, overflow="ellipsis"))
        return whole
