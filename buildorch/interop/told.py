"""What one side says and the other cannot: nothing is lost in silence.

In: nothing. Out: `Told`. Touches nothing.
"""

from __future__ import annotations

from buildorch.values import dataclass


@dataclass(frozen=True, slots=True)
class Told:
    """One attribute that is not in the result as it was in the source, by name."""

    where: str
    """The file and the key, as a person would look for it; with line and column where they are known."""
    fact: str
    """Why it is not there, or what stands in its place."""
    lost: bool = True
    """Whether a build can now give something else; otherwise it is a note."""

    def __str__(self) -> str:
        return f"{'lost' if self.lost else 'note'}: {self.where}: {self.fact}"
