"""When a registry is asked again, and how long that is waited for.

In: a question, as a function, and what a registry says of its moment. Out: the answer. Touches the clock.
"""

from __future__ import annotations

import itertools
import time
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, TypeVar

from buildorch.errors import RegistryError
from buildorch.jitter import jittered

if TYPE_CHECKING:
    from collections.abc import Callable

Answer = TypeVar("Answer")

TIMEOUT_S = 30.0
PATIENCE_S = 60.0
"""How long a question may be asked again: twice `TIMEOUT_S`, so that a registry that hangs once is asked once more."""
PASSING = frozenset({408, 429, 500, 502, 503, 504})
"""Statuses that say nothing of what was asked for, only of the moment."""
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.2, 5.0


def retried(ask: Callable[[], Answer], *, within_s: float | None = None) -> Answer:
    """What `ask` gives, which is called again as long as a registry fails for the moment.

    Args:
        ask: asks a registry; it may be called any number of times.
        within_s: how long from now it may be called again, in seconds, by default `PATIENCE_S`. Where Retry-After is
            later than that, it is not.

    Raises:
        RegistryError: `ask`'s last.
    """
    end = time.monotonic() + (PATIENCE_S if within_s is None else within_s)
    for attempt in itertools.count():
        try:
            return ask()
        except RegistryError as error:
            pause = pause_s(attempt, error.after_s)
            if not error.transient or time.monotonic() + pause > end:
                raise
        time.sleep(pause)
    raise AssertionError  # there is no end to the counting


def pause_s(attempt: int, after_s: float) -> float:
    """How long to wait before the next try, in seconds, after `attempt` others: longer each time, and never the same.

    A registry that asks to be left alone is, for `after_s`.
    """
    return after_s + jittered(min(FIRST_PAUSE_S * 2.0**attempt, LONGEST_PAUSE_S))


def retry_after_s(header: str) -> float:
    """The seconds that a Retry-After asks for, which are told, or are those up to a date (RFC 9110, section 10.2.3)."""
    if header.strip().isdecimal():
        return float(header)
    date = date_of(header)
    return max((date - datetime.now(UTC)).total_seconds(), 0.0) if date else 0.0


def date_of(header: str) -> datetime | None:
    """The moment that a header names; None for none."""
    try:
        date = parsedate_to_datetime(header)
    except (TypeError, ValueError):
        return None
    return date.replace(tzinfo=date.tzinfo or UTC)
