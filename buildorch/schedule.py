"""What to start first: `by_urgency(solves, expected_s) -> the same solves, the most urgent first`.

In: solves, and how long each is expected to take. Out: them in another order. Touches nothing.

List scheduling by critical path: a service is as urgent as the longest chain of expected work that begins with it, so
what much rests on starts before what nothing waits for (Graham, "Bounds on Multiprocessing Timing Anomalies", 1969).
"""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from buildorch.plan import Solve

UNKNOWN_S = 30.0
"""What a service is expected to take where none of them was ever built."""
LEAST_S = 0.001
"""Work above nothing, so that a service always stands after what it builds on."""


def by_urgency(solves: Sequence[Solve], expected_s: Mapping[str, float]) -> tuple[Solve, ...]:
    """The solves, those that most work waits for first; equally urgent ones keep their order.

    Args:
        solves: in dependency order.
        expected_s: service -> seconds; a service without an entry is expected to take what the others take.
    """
    usual = statistics.median(expected_s.values()) if expected_s else UNKNOWN_S
    waiting_s = dict.fromkeys((solve.name for solve in solves), 0.0)
    chain_s: dict[str, float] = {}
    for solve in reversed(solves):
        chain_s[solve.name] = max(expected_s.get(solve.name, usual), LEAST_S) + waiting_s[solve.name]
        for base in solve.depends_on:
            if base in waiting_s:
                waiting_s[base] = max(waiting_s[base], chain_s[solve.name])
    return tuple(sorted(solves, key=lambda solve: -chain_s[solve.name]))
