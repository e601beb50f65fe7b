"""What one side says and the other cannot: nothing is lost in silence.

In: nothing. Out: `Told`, and lines for people. Touches nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from buildorch.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Iterable


@dataclass(frozen=True, slots=True)
class Told:
    """One attribute that is not in the result as it was in the source, by name."""

    where: str
    """The file and the key, as a person would look for it; with line and column where they are known."""
    fact: str
    """Why it is not there, or what stands in its place."""
    lost: bool = True
    """Whether a build can now give something else; otherwise it is a note."""


def lines(told: Iterable[Told]) -> list[str]:
    """One line a fact, with every place that it holds for; what is lost first."""
    places: dict[tuple[bool, str], dict[str, None]] = {}
    for one in told:
        places.setdefault((not one.lost, one.fact), {})[one.where] = None
    return [
        f"{'note' if note else 'lost'}: {', '.join(where)}: {fact}"
        for (note, fact), where in sorted(places.items(), key=lambda each: each[0][0])
    ]
