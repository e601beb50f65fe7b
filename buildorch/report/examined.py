"""What `buildorch doctor` saw, for people and programs.

In: an `Examination`. Out: text, or what JSON is made of. Touches nothing.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from buildorch.report.text import printable

if TYPE_CHECKING:
    from buildorch.doctor import Examination


def examination_text(examination: Examination) -> str:
    """A line a check: how it is, what was looked at, what was seen, what to do."""
    width = max((len(check.name) for check in examination.checks), default=0)
    lines = []
    for check in examination.checks:
        told = f"{check.status:<8} {printable(check.name):<{width}}  {printable(check.fact)}"
        lines.append(told + (f"; hint: {printable(check.advice)}" if check.advice else ""))
    return "\n".join(lines)


def examination_document(examination: Examination) -> dict[str, Any]:
    """The same for programs."""
    return {
        "schema": examination.schema,
        "checked_at": examination.checked_at,
        "exit_code": examination.exit_code,
        "checks": [asdict(check) for check in examination.checks],
    }
