"""A run's record -> what was done when: waiting, building, steps, and the chain that the run's length comes from.

In: a `Report`. Out: `Timing`, in seconds from the run's start. Touches nothing.

All of it comes from the record's own times; what was begun because something else ended is told from these alone.
"""

from __future__ import annotations

import dataclasses
from datetime import datetime
from statistics import median
from typing import TYPE_CHECKING, Literal, Protocol, TypeVar

from buildorch.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Sequence

    from buildorch.record import Report, ServiceRecord, Step

Kind = Literal["executed", "cached", "failed", "transfer"]
"""Of a step: `transfer` is what is no instruction, such as a transfer, an export or a push."""
AT_ONCE_S = 1.0
"""Within this time of another's end, what begins began because of it."""
SKEWED_S = 5.0
"""Beyond this, an engine's clock is taken to be another than this machine's; steps begin a moment after their solve."""


class Spanned(Protocol):
    """Something with a beginning and an end."""

    @property
    def begin_s(self) -> float:
        """Seconds from the run's start."""

    @property
    def end_s(self) -> float:
        """The same."""


_Some = TypeVar("_Some", bound=Spanned)


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """One step of a service's last attempt."""

    name: str
    kind: Kind
    is_instruction: bool
    begin_s: float
    end_s: float
    critical: bool = False

    @property
    def duration_s(self) -> float:
        """How long it took."""
        return self.end_s - self.begin_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """One service that was built, or tried to be: all of its attempts."""

    name: str
    status: str
    begin_s: float
    """When its first attempt began: how long it waited."""
    end_s: float
    steps: tuple[Done, ...]
    critical: bool = False

    @property
    def duration_s(self) -> float:
        """How long its attempts took together."""
        return self.end_s - self.begin_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """One run."""

    began_at: float
    """Seconds since the epoch, by the clock of the machine that buildorch ran on."""
    duration_s: float
    services: tuple[Built, ...]
    """In the record's order; those that nothing was begun for are left out."""

    @property
    def critical(self) -> tuple[Built, ...]:
        """The services that the run's length comes from, the first one first."""
        return tuple(sorted((one for one in self.services if one.critical), key=lambda one: one.begin_s))


def timing(report: Report) -> Timing:
    """What was done when, and the critical path: what ended last, before it that at whose end it began, and so on."""
    began = moment(report.started_at)
    skew = _skew_s(report)
    built = [_built(name, one, began, skew) for name, one in report.services.items() if one.started_at]
    path = {id(one) for one in chain(built)}
    services = tuple(_on_path(one) if id(one) in path else one for one in built)
    length = max([report.duration_s, *(one.end_s for one in built)])
    return Timing(began_at=began, duration_s=length, services=services)


def moment(text: str) -> float:
    """A time of a record in seconds since the epoch."""
    return datetime.fromisoformat(text).timestamp()


def chain(spans: Sequence[_Some]) -> list[_Some]:
    """What ended last, before it what it began at the end of, and so on back to the first; the first one first."""
    found: list[_Some] = []
    last = max(spans, key=lambda one: (one.end_s, one.begin_s), default=None)
    while last is not None:
        found.append(last)
        last = _before(last, spans)
    return found[::-1]


def _before(one: _Some, spans: Sequence[_Some]) -> _Some | None:
    """The last to end of those that `one` can have waited for."""
    ended = [
        other
        for other in spans
        if -AT_ONCE_S <= other.end_s - one.begin_s <= 0 and (other.end_s, other.begin_s) < (one.end_s, one.begin_s)
    ]
    return max(ended, key=lambda other: (other.end_s, other.begin_s), default=None)


def _built(name: str, record: ServiceRecord, began: float, skew: float) -> Built:
    end = moment(record.finished_at or record.started_at or "") - began
    return Built(
        name=name,
        status=record.status,
        begin_s=max(0.0, end - record.duration_s),
        end_s=max(0.0, end),
        steps=tuple(_done(step, began + skew) for step in record.timeline),
    )


def _done(step: Step, began: float) -> Done:
    begin = max(0.0, moment(step.started_at) - began)
    kind: Kind = (
        "failed" if step.failed else "cached" if step.cached else "executed" if step.is_instruction else "transfer"
    )
    end = begin + max(0.0, step.duration_s)
    return Done(name=step.name, kind=kind, is_instruction=step.is_instruction, begin_s=begin, end_s=end)


def _on_path(one: Built) -> Built:
    path = {id(step) for step in chain(one.steps)}
    steps = tuple(dataclasses.replace(step, critical=id(step) in path) for step in one.steps)
    return dataclasses.replace(one, steps=steps, critical=True)


def _skew_s(report: Report) -> float:
    """How far the engine's clock is ahead of this machine's; 0 where it is not told apart from a busy engine."""
    first = [
        min(moment(step.started_at) for step in one.timeline) - moment(one.started_at)
        for one in report.services.values()
        if one.timeline and one.started_at
    ]
    found = median(first) if first else 0.0
    return found if abs(found) > SKEWED_S else 0.0
