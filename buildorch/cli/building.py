"""Building under an event loop, with signals that end it in good order.

In: an opened `Run`. Out: its report. Touches: signal handlers, and what `buildorch.pipeline` does.
"""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, TypeVar

import anyio

from buildorch import pipeline
from buildorch.errors import EXIT_HANGUP, EXIT_INTERRUPTED, EXIT_TERMINATED, first_own
from buildorch.events import RunFinished
from buildorch.execute import Stop

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, Callable
    from contextlib import AbstractAsyncContextManager

    from buildorch.events import Event
    from buildorch.record import Report
    from buildorch.runs import Run

Told = TypeVar("Told")
Result = TypeVar("Result")
_EXIT_CODES = {
    signal.SIGINT: EXIT_INTERRUPTED,
    signal.SIGTERM: EXIT_TERMINATED,
    signal.SIGHUP: EXIT_HANGUP,
}


def build(run: Run, show: Callable[[Event], None], *, fail_fast: bool) -> Report | int:
    """Build and show; the report, or the exit code where a second signal cut the run off and left only its record."""

    def see(event: Event) -> Report | None:
        show(event)
        return event.report if isinstance(event, RunFinished) else None

    return read_out(lambda stop: pipeline.building(run, fail_fast=fail_fast, stop=stop), see)


def read_out(
    opened: Callable[[Stop], AbstractAsyncContextManager[AsyncIterable[Told]]], see: Callable[[Told], Result | None]
) -> Result | int:
    """Read a stream to its end, which signals bring about early.

    Args:
        opened: the stream, which ends in good order once the `Stop` asks for that.
        see: gets everything on it, and gives what it all came to once it has that.

    Returns:
        What it came to, or the exit code where a second signal cut it off before.
    """
    stop = Stop()

    async def read() -> Result | None:
        result = None
        async with anyio.create_task_group() as group:
            group.start_soon(_watch_signals, stop, group.cancel_scope)
            async with opened(stop) as stream:
                async for told in stream:
                    result = see(told) or result
            group.cancel_scope.cancel()
        return result

    try:
        result = anyio.run(read)
    except BaseExceptionGroup as errors:
        raise first_own(errors) from errors
    return result if result is not None else stop.exit_code or EXIT_INTERRUPTED


async def _watch_signals(stop: Stop, scope: anyio.CancelScope) -> None:
    """The first signal ends the run in good order, the second at once."""
    with anyio.open_signal_receiver(*_EXIT_CODES) as signals:
        async for number in signals:
            if stop.requested and stop.exit_code is not None:
                scope.cancel()
                return
            stop.request(exit_code=_EXIT_CODES[number])
