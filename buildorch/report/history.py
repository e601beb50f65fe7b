"""A service's records over time: as a table with sparklines, and as CSV.

In: ledger entries, the newest first. Out: text. Touches nothing.
"""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING

from buildorch.quantities import human_bytes, human_seconds
from buildorch.report.text import entries_text

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from buildorch.ledger import Entry

BARS = "▁▂▃▄▅▆▇█"
_COLUMNS = (
    *("sequence", "run_id", "started_at", "status", "reason", "platform", "digest", "manifest_digest", "config_digest"),
    *("compressed_bytes", "unpacked_bytes", "steps_total", "steps_cached", "duration_s", "reference"),
)


def sparkline(values: Sequence[float]) -> str:
    """One bar a value, from the least to the greatest; all in the middle where they are equal."""
    if not values:
        return ""
    low, high = min(values), max(values)
    if low == high:
        return BARS[3] * len(values)
    return "".join(BARS[round((value - low) / (high - low) * (len(BARS) - 1))] for value in values)


def history_text(entries: Sequence[Entry]) -> str:
    """The table, and below it a line for each platform's size and one for how long builds took, oldest first."""
    lines = [entries_text(entries, with_service=False)]
    oldest_first = list(reversed(entries))
    platforms = dict.fromkeys(name for entry in oldest_first for name in entry.record.platforms)
    for platform in platforms:
        sizes = [
            entry.record.platforms[platform].unpacked_bytes
            for entry in oldest_first
            if platform in entry.record.platforms
        ]
        lines.append(_trend(f"unpacked {platform}", sizes, human_bytes))
    built = [entry.record.duration_s for entry in oldest_first if entry.record.status == "built"]
    if built:
        lines.append(_trend("duration of builds", built, human_seconds))
    return "\n".join(lines)


def _trend(what: str, values: Sequence[float], shown: Callable[[int], str] | Callable[[float], str]) -> str:
    first, last = shown(values[0]), shown(values[-1])  # type: ignore[arg-type]  # sizes are whole numbers
    return f"{what}: {sparkline(values)} {first} -> {last}"


def history_csv(entries: Sequence[Entry]) -> str:
    """A row for each platform of each record, and one for a record without an image; a head line above."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for entry in entries:
        record = entry.record
        for platform, facts in record.platforms.items() or [("", None)]:
            writer.writerow(
                [
                    *(entry.sequence, entry.run_id, entry.started_at, record.status, record.reason, platform),
                    record.digest,
                    *((facts.manifest_digest, facts.config_digest) if facts else ("", "")),
                    *((facts.compressed_bytes, facts.unpacked_bytes) if facts else ("", "")),
                    *(record.steps.total, record.steps.cached, record.duration_s, record.reference),
                ]
            )
    return text.getvalue()
