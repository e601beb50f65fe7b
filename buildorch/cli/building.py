"""Building under an event loop, with signals that end it in good order.

In: an opened `Run`. Out: its report. Touches: signal handlers, and what `buildorch.pipeline` does.
"""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import anyio

from buildorch import pipeline
from buildorch.errors import EXIT_HANGUP, EXIT_INTERRUPTED, EXIT_TERMINATED, first_own
from buildorch.events import RunFinished
from buildorch.execute import Stop

if TYPE_CHECKING:
    from collections.abc import Callable

    from buildorch.events import Event
    from buildorch.record import Report
    from buildorch.runs import Run

_EXIT_CODES = {
    signal.SIGINT: EXIT_INTERRUPTED,
    signal.SIGTERM: EXIT_TERMINATED,
    signal.SIGHUP: EXIT_HANGUP,
}


def build(run: Run, show: Callable[[Event], None], *, fail_fast: bool) -> Report | int:
    """Build and show; the report, or the exit code where a second signal cut the run off and left only its record."""
    stop = Stop()
    try:
        report = anyio.run(_build, run, show, fail_fast, stop)
    except BaseExceptionGroup as errors:
        raise first_own(errors) from errors
    return report if report is not None else stop.exit_code or EXIT_INTERRUPTED


async def _build(run: Run, show: Callable[[Event], None], fail_fast: bool, stop: Stop) -> Report | None:  # noqa: FBT001
    report = None
    async with anyio.create_task_group() as group:
        group.start_soon(watch_signals, stop, group.cancel_scope)
        async with pipeline.building(run, fail_fast=fail_fast, stop=stop) as events:
            async for event in events:
                show(event)
                if isinstance(event, RunFinished):
                    report = event.report
        group.cancel_scope.cancel()
    return report


async def watch_signals(stop: Stop, scope: anyio.CancelScope) -> None:
    """The first signal ends the run in good order, the second at once."""
    with anyio.open_signal_receiver(*_EXIT_CODES) as signals:
        async for number in signals:
            if stop.requested and stop.exit_code is not None:
                scope.cancel()
                return
            stop.request(exit_code=_EXIT_CODES[number])
