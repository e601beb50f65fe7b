"""What each service's solve did when: its steps with their times, as a fold of events.

In: events. Out: `Step`s, and how many of them count. Touches nothing.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from buildorch.events import Event, SolveStarted, StepFinished
from buildorch.record import Step, Steps

if TYPE_CHECKING:
    from collections.abc import Iterable

MOST_STEPS = 1000
"""Of one service: a Dockerfile has a few dozen, and a record is read whole."""

is_counted = re.compile(r"\[(?:[^\]]* )?\d+/\d+\] (?!FROM )").match
"""Whether the vertex of this name is one of a record's `steps`: FROM only takes an image."""


class Timelines:
    """The steps of every service's last attempt, in the order in which they ended."""

    def __init__(self) -> None:
        self._steps: dict[str, list[Step]] = {}

    def update(self, event: Event) -> None:
        """Fold one event."""
        match event:
            case SolveStarted():
                self._steps[event.service] = []
            case StepFinished() if event.started_at:
                steps = self._steps.setdefault(event.service, [])
                if len(steps) < MOST_STEPS:
                    steps.append(_step(event))
            case _:
                pass

    def of(self, service: str) -> tuple[Step, ...]:
        """A service's steps up to now, the earliest first."""
        return tuple(sorted(self._steps.get(service, ()), key=lambda step: step.started_at))


def ended(timeline: Iterable[Step]) -> Steps:
    """The counted steps that came to an end, the failed one too: all that is known of a build that did not.

    The vertexes of one `COPY --link` have one name, and count once.
    """
    cached: dict[str, bool] = {}
    for step in timeline:
        if step.is_instruction and is_counted(step.name):
            cached[step.name] = cached.get(step.name, True) and step.cached
    hits = sum(cached.values())
    return Steps(total=len(cached), cached=hits, executed=len(cached) - hits)


def _step(event: StepFinished) -> Step:
    return Step(
        name=event.name,
        is_instruction=event.step,
        started_at=event.started_at,
        duration_s=round(event.duration_s, 3),
        cached=event.cached,
        failed=bool(event.error),
    )
