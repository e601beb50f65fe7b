"""What a run is expected to take, by what its services took before: how far builds are, what the end waits for.

In: seconds of earlier builds, and how far this one is. Out: fractions, seconds, names. Touches nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import TYPE_CHECKING

from buildorch.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Iterable

NEW_STEP_S = 1.0
"""What a step weighs that no earlier build had, or had only from the cache."""
LEAST_PART = 0.05
"""A build that has come less far says nothing yet of its pace."""
ALMOST = 0.95
"""How much of a step's weight is reached while it still runs, however long it takes: only its end is the end."""


@dataclass(frozen=True, slots=True)
class Forecast:
    """What is known of services before they are built; a service that was never built is in no mapping of seconds."""

    expected_s: Mapping[str, float] = field(default_factory=dict)
    """Service -> seconds, the longest of its last builds."""
    steps_s: Mapping[str, Mapping[str, float | None]] = field(default_factory=dict)
    """Service -> step as BuildKit prints it -> seconds it took at most; None where it was never seen executed."""
    depends_on: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Service that is built -> the services it builds on."""

    def usual_s(self) -> float | None:
        """What a service is expected to take that was never built: what the others take; None where none was."""
        import statistics  # noqa: PLC0415 - 5 ms, where something is drawn

        return statistics.median(self.expected_s.values()) if self.expected_s else None


def fraction(weights: Mapping[str, float], done: Iterable[str], running_s: Mapping[str, float]) -> float | None:
    """How much of a build's weight is behind it, 0 to 1; None where nothing is known of its steps.

    Args:
        weights: step -> seconds, of earlier builds.
        done: the steps that have ended, cached ones too: they need no more time.
        running_s: step that runs -> for how many seconds.
    """
    ended = set(done)
    new = {*ended, *running_s}.difference(weights)
    whole = sum(weights.values()) + NEW_STEP_S * len(new)
    if not weights or whole <= 0:
        return None
    behind = sum(weights.get(name, NEW_STEP_S) for name in ended)
    for name, seconds in running_s.items():
        if name not in ended:
            weight = weights.get(name, NEW_STEP_S)
            behind += min(seconds, ALMOST * weight)
    return min(behind / whole, 1.0)


def left_s(expected_s: float, took_s: float, part: float) -> float:
    """What a build still takes: what is left of the expected; beyond that what is left at the pace it goes."""
    if took_s <= expected_s:
        return expected_s * (1 - part)
    return took_s * (1 - part) / max(part, LEAST_PART)


def critical_path(left_s: Mapping[str, float], depends_on: Mapping[str, Iterable[str]]) -> tuple[str, ...]:
    """The chain of services that most work is left on, the one all others of it build on first.

    Args:
        left_s: service that is not done, in dependency order -> the seconds it still takes.
        depends_on: service -> what it builds on; what is done is no part of a chain.
    """
    chain_s: dict[str, float] = {}
    before: dict[str, str] = {}
    for name, seconds in left_s.items():
        chain_s[name] = seconds
        bases = [base for base in depends_on.get(name, ()) if base in chain_s]
        if bases:
            before[name] = max(bases, key=chain_s.__getitem__)
            chain_s[name] += chain_s[before[name]]
    if not chain_s:
        return ()
    path = [max(chain_s, key=chain_s.__getitem__)]
    while path[-1] in before:
        path.append(before[path[-1]])
    return tuple(reversed(path))


def run_left_s(left_s: Mapping[str, float], path: Iterable[str], *, jobs: int) -> float:
    """What a run still takes at least: its longest chain, or all of its work spread over `jobs` (Graham, 1969)."""
    return max(sum(left_s[name] for name in path), sum(left_s.values()) / max(jobs, 1))
