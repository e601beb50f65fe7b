"""What a run's services were before it: the records of the ledger that are older than the run's own.

In: a `Report`, and ledger entries. Out: records. Touches nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from buildorch.ledger import Entry
    from buildorch.record import Report, ServiceRecord


def before_run(report: Report, history: Mapping[str, Sequence[Entry]]) -> dict[str, ServiceRecord]:
    """Service -> its last record with an image before the run; those that had none are left out.

    Args:
        report: the run.
        history: service -> its records, the newest first.
    """
    found: dict[str, ServiceRecord] = {}
    for name in report.services:
        with_image = [one.record for one in earlier(report, history.get(name, ())) if one.record.digest]
        if with_image:
            found[name] = with_image[0]
    return found


def earlier(report: Report, entries: Sequence[Entry]) -> Sequence[Entry]:
    """The entries before the run's own; where that is none of them, those of runs that began before it."""
    for at, entry in enumerate(entries):
        if entry.run_id == report.run_id:
            return entries[at + 1 :]
    return [entry for entry in entries if entry.started_at < report.started_at]
