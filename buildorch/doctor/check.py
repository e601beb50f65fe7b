"""What was looked at and how it is, as frozen values.

In: nothing. Out: `Check`, `Examination`. Touches nothing.
"""

from __future__ import annotations

from typing import Literal

from buildorch.errors import EXIT_OK, EXIT_UNREACHABLE
from buildorch.values import dataclass

Status = Literal["ok", "warning", "error"]


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at."""

    name: str
    status: Status
    """`error` where builds fail, `warning` where they may or are slower than they must be."""
    fact: str
    """What was seen."""
    advice: str = ""
    """The next step; empty where there is none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Examination:
    """Everything that was looked at."""

    schema: Literal["buildorch.doctor/1"] = "buildorch.doctor/1"
    checked_at: str
    """RFC 3339, in UTC."""
    checks: tuple[Check, ...]

    @property
    def exit_code(self) -> int:
        """0 where nothing is an error, else 4."""
        return EXIT_UNREACHABLE if any(check.status == "error" for check in self.checks) else EXIT_OK
