"""Whether a build that goes on can still come to its end: `until_hopeless(...) -> Failure`.

In: a build's progress, its limits, and a way to ask the engine. Out: why it must be ended, once that is so. Touches:
the engine, for the answer to a ping.

BuildKit has no deadline of its own: it waits for a registry that hangs and the docker client for an engine that was
stopped, both without limit. A step may be silent for hours, so its silence says nothing; then only the engine's answer
does. While bases are resolved or images pushed, bytes move: a time in which none did says that the registry hangs.
"""

from __future__ import annotations

from dataclasses import field
from typing import TYPE_CHECKING

import anyio

from buildorch.buildx.failures import failure
from buildorch.record import Failure, FailureKind
from buildorch.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from buildorch.buildx.progress import Phase, Progress
    from buildorch.services import Timeouts

TICK_S = 0.25
SILENCE_S = 5.0
"""How long a build says nothing before the engine is asked whether it lives."""
ANSWER_S = 4.0
"""How long the engine may take for that answer; a living one takes a millisecond, under load some tens."""
STALLED_S = 30.0
"""How long nothing may move while a registry is talked to."""
_WORDS = {"resolve": "its base images were resolved", "build": "it was built", "push": "it was pushed"}


@dataclass(slots=True)
class Heard:
    """When a build last printed anything, and when something new; by anyio's clock."""

    said_at: float = field(default_factory=anyio.current_time)
    news_at: float = field(default_factory=anyio.current_time)
    news: int = 0

    def hear(self, news: int) -> None:
        """Note that something was printed.

        Args:
            news: `Progress.news` after it.
        """
        self.said_at = anyio.current_time()
        if news != self.news:
            self.news, self.news_at = news, self.said_at


async def until_hopeless(
    progress: Progress, heard: Heard, limits: Timeouts, is_frozen: Callable[[], Awaitable[bool]]
) -> Failure:
    """Return once the build must be ended, with the reason; as long as there is hope, never.

    Args:
        progress: what the build tells.
        heard: when it told anything; kept up to date by whoever reads it.
        limits: the service's `timeouts`.
        is_frozen: whether the engine takes a question and gives no answer, within ANSWER_S.
    """
    phase, since = progress.phase, anyio.current_time()
    asked_at = heard.said_at
    while True:
        await anyio.sleep(TICK_S)
        now = anyio.current_time()
        if progress.phase != phase:
            phase, since = progress.phase, now
        if late := overdue(phase, limits, phase_s=now - since, quiet_s=now - heard.news_at):
            return late
        if now - max(heard.said_at, asked_at) >= SILENCE_S:
            asked_at = now
            # Asked twice: one answer may be late.
            if await is_frozen() and await is_frozen():
                return frozen(anyio.current_time() - heard.said_at)


def overdue(phase: Phase, limits: Timeouts, *, phase_s: float, quiet_s: float) -> Failure | None:
    """Why a build must be ended that has been in a phase for so long, and told nothing new for so long."""
    limit: float | None = getattr(limits, phase)
    if limit is not None and phase_s >= limit:
        return Failure(
            kind=FailureKind.TIMED_OUT,
            message=f"it took longer than its `timeouts: {phase}` of {limit:g} s while {_WORDS[phase]}",
            hint=f"raise `timeouts: {phase}` in the services file, or find out what it waits for",
            transient=phase != "build",
        )
    if phase != "build" and quiet_s >= STALLED_S:
        message = f"the registry hangs: nothing moved for {quiet_s:.0f} s while {_WORDS[phase]}"
        return failure(FailureKind.REGISTRY, message)
    return None


def frozen(silent_s: float) -> Failure:
    """The failure of a build whose engine was silent for so long, and gives no answer."""
    message = f"the engine is frozen: the build said nothing for {silent_s:.0f} s, and the engine does not answer"
    return failure(FailureKind.ENGINE_FROZEN, message)
