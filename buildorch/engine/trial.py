"""How a trial start went, as a frozen value: what `buildorch.engine.containers` gives and the rule `smoke` reads.

In: nothing. Out: `Trial`. Touches nothing.
"""

from __future__ import annotations

from typing import Literal

from buildorch.values import dataclass

Outcome = Literal["well", "unwell", "ended", "no_port", "not_tried"]


@dataclass(frozen=True, slots=True)
class Trial:
    """How a trial start of one platform's image went."""

    outcome: Outcome
    """`ended`: before it was well; `no_port`: nothing took connections in time; `not_tried`: it cannot be tried with
    this engine, such as an image of another platform, and the log's only line says why."""
    seconds: float = 0.0
    """How long it took until it was well, or until it was given up."""
    uids: tuple[int, ...] = ()
    """The numbers of the users its processes ran as, sorted; empty where the engine does not tell."""
    exit_code: int | None = None
    """Of one that ended; None where it was never started."""
    log: tuple[str, ...] = ()
    """The last lines it printed, 20 at most, or why the engine did not start it."""
