"""Running a build for a person or a script: signals, views, the summary.

In: a `BuildRequest`. Out: an exit code. Touches: signal handlers, stdout, stderr.
"""

from __future__ import annotations

import signal
import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING, Protocol, Self

import anyio

from buildorch import logging_config, pipeline
from buildorch.cli import nobody_reads
from buildorch.errors import EXIT_HANGUP, EXIT_INTERRUPTED, EXIT_TERMINATED, first_own
from buildorch.events import Event, RunFinished
from buildorch.execute import Stop
from buildorch.report.logs import LogView
from buildorch.report.text import report_text

if TYPE_CHECKING:
    from types import TracebackType

    from buildorch.logging_config import LogFormat
    from buildorch.pipeline import BuildRequest
    from buildorch.record import Report

_EXIT_CODES = {
    signal.SIGINT: EXIT_INTERRUPTED,
    signal.SIGTERM: EXIT_TERMINATED,
    signal.SIGHUP: EXIT_HANGUP,
}


class View(Protocol):
    """Something that shows events."""

    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
    def update(self, event: Event) -> None:
        """Show one event."""


def run(request: BuildRequest, *, progress: str, log_format: LogFormat, output_format: str) -> int:
    """Build, show, and say how it went."""
    stop = Stop()
    try:
        report = anyio.run(_run, request, stop, progress, log_format)
    except BaseExceptionGroup as errors:
        raise first_own(errors) from errors
    if report is None:
        # The second signal cut the run off; its record is written, there is nothing left to print.
        return stop.exit_code or EXIT_INTERRUPTED
    try:
        sys.stdout.write(report.to_json() if output_format == "json" else report_text(report) + "\n")
        sys.stdout.flush()
    except BrokenPipeError:
        nobody_reads(sys.stdout)
    return report.exit_code


async def _run(request: BuildRequest, stop: Stop, progress: str, log_format: LogFormat) -> Report | None:
    report = None
    with ExitStack() as views:
        shown = [views.enter_context(view) for view in _views(progress, log_format)]
        logs = LogView(lambda: logging_config.configured_logger(log_format), verbose=log_format == "json")
        async with anyio.create_task_group() as group:
            group.start_soon(_watch_signals, stop, group.cancel_scope)
            async with pipeline.stream(request, stop=stop) as events:
                async for event in events:
                    try:
                        for view in shown:
                            view.update(event)
                        logs.update(event)
                    except BrokenPipeError:
                        nobody_reads(sys.stderr)  # as in `buildorch build-all 2>&1 | head`: the builds go on
                    if isinstance(event, RunFinished):
                        report = event.report
            group.cancel_scope.cancel()
    return report


async def _watch_signals(stop: Stop, scope: anyio.CancelScope) -> None:
    """The first signal ends the run in good order, the second at once."""
    with anyio.open_signal_receiver(*_EXIT_CODES) as signals:
        async for number in signals:
            if stop.requested and stop.exit_code is not None:
                scope.cancel()
                return
            stop.request(exit_code=_EXIT_CODES[number])


def _views(progress: str, log_format: str) -> list[View]:
    if progress == "auto":
        progress = "quiet" if log_format == "json" else "tty" if sys.stderr.isatty() else "plain"
    match progress:
        case "tty":
            from buildorch.report.live import LiveView  # noqa: PLC0415 - loads rich

            return [LiveView()]
        case "plain":
            from buildorch.report.plain import PlainView  # noqa: PLC0415

            return [PlainView(sys.stderr)]
        case "json":
            from buildorch.report.lines import JsonLinesView  # noqa: PLC0415

            return [JsonLinesView(sys.stderr)]
    return []
