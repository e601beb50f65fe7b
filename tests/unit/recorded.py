"""A run that really was, as it wrote itself: its record, its events, and the ledger it ended in.

Five services on a private engine: one skipped, two built (one over its budget), one that failed with hostile words in its
log, one that builds on it; five runs before it. Of the older records the timelines were taken out.
"""

from __future__ import annotations

import json
from pathlib import Path

from buildorch.ledger import Entry
from buildorch.record import Report, service_record_from_json
from buildorch.replaying import report_from_json

FOLDER = Path(__file__).parent / "data" / "run"


def record_text() -> str:
    return (FOLDER / "run.json").read_text("utf-8")


def events_text() -> str:
    return (FOLDER / "events.ndjson").read_text("utf-8")


def report() -> Report:
    return report_from_json(record_text())


def history() -> dict[str, list[Entry]]:
    """Service -> its entries, the newest first, as `Ledger.history` gives them."""
    began: dict[str, str] = {}
    found: dict[str, list[Entry]] = {}
    for line in (FOLDER / "ledger.ndjson").read_text("utf-8").splitlines():
        row = json.loads(line)
        if row["kind"] == "run":
            began[row["run_id"]] = row["started_at"]
            continue
        record = service_record_from_json(json.dumps(row["record"]))
        entry = Entry(row["sequence"], row["run_id"], began[row["run_id"]], row["service"], record)
        found.setdefault(row["service"], []).insert(0, entry)
    return found
