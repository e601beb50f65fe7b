"""Quantities for people: bytes in decimal units, as registries and the services file count, durations, lists cut short.

In: numbers and names. Out: text. Touches nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


def human_bytes(count: int) -> str:
    """`123456789` -> `123.5 MB`; below 1,000 in bytes."""
    if count < 1000:
        return f"{count} B"
    size = float(count)
    for unit in ("kB", "MB", "GB", "TB"):
        size /= 1000
        if size < 999.95 or unit == "TB":
            break
    return f"{size:.1f} {unit}"


def signed_bytes(count: int) -> str:
    """A difference of sizes for people."""
    return f"{'-' if count < 0 else '+'}{human_bytes(abs(count))}"


def human_seconds(seconds: float) -> str:
    """`3.25` -> `3.2s`, `75` -> `1m15s`, `4000` -> `1h06m`."""
    if seconds < 60:
        return f"{seconds:.1f}s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes:02}m" if hours else f"{minutes}m{rest:02}s"


def some_of(subjects: Sequence[object], *, at_most: int = 3) -> str:
    """`a, b, c and 4 more`: the first ones, and how many are left."""
    shown = ", ".join(str(subject) for subject in subjects[:at_most])
    more = len(subjects) - at_most
    return f"{shown} and {more} more" if more > 0 else shown
