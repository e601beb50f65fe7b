"""Running a build for a person or a script: views and the summary.

In: a `BuildRequest`. Out: an exit code. Touches: stdout, stderr, what `summarising` touches; reads TERM, and what CI
systems set. An event loop is started only for a build.
"""

from __future__ import annotations

import os
import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING, Protocol, Self

from buildorch import logging_config, runs
from buildorch.cli import nobody_reads, summarising
from buildorch.events import Event, RunFinished, now
from buildorch.report.logs import LogView
from buildorch.report.text import report_text

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from buildorch.logging_config import LogFormat
    from buildorch.preparing import BuildRequest
    from buildorch.record import Report
    from buildorch.runs import Run


DUMB = ("dumb", "unknown", "")
"""Values of TERM on which nothing can be drawn again; without TERM nothing is known to work either."""


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
    with runs.opened(request) as opened, ExitStack() as shown:
        show = _shown([shown.enter_context(view) for view in _views(opened, progress, log_format)], log_format)
        report = _run(opened, show, fail_fast=request.fail_fast)
        before = opened.at_hand.past.images
    if not isinstance(report, int) and summarising.wanted(os.environ):
        summarising.leave(report, before)
    if isinstance(report, int):
        return report  # its record is written, there is nothing left to print
    try:
        sys.stdout.write(report.to_json() if output_format == "json" else summary(report))
        sys.stdout.flush()
    except BrokenPipeError:
        nobody_reads(sys.stdout)
    return report.exit_code


def summary(report: Report) -> str:
    """The table and what is below it; it quotes logs, which tell a CI system nothing."""
    from buildorch.report.folds import folds  # noqa: PLC0415 - here and for the plain view

    on_ci = folds(os.environ)
    lines = report_text(report).split("\n")
    return "".join(f"{on_ci.harmless(line) if on_ci else line}\n" for line in lines)


def _run(opened: Run, show: Callable[[Event], None], *, fail_fast: bool) -> Report | int:
    if opened.leased or not opened.is_judged:
        from buildorch.cli.building import build  # noqa: PLC0415 - an event loop is for those who build or name

        return build(opened, show, fail_fast=fail_fast)
    opened.begin()
    show(opened.started())
    for event in opened.skip():
        show(event)
    report = opened.close()
    show(RunFinished(at=now(), report=report))
    return report


def _shown(views: list[View], log_format: LogFormat) -> Callable[[Event], None]:
    """Shows one event in every view and in the log."""
    logs = LogView(lambda: logging_config.configured_logger(log_format), verbose=log_format == "json")

    def show(event: Event) -> None:
        try:
            for view in views:
                view.update(event)
            logs.update(event)
        except BrokenPipeError:
            nobody_reads(sys.stderr)  # as in `buildorch build-all 2>&1 | head`: the builds go on

    return show


def kind(progress: str, log_format: str, *, terminal: str | None) -> str:
    """Which view `--progress` means: nothing is drawn over where that cannot be done.

    Args:
        progress: as given.
        log_format: as given.
        terminal: what kind of terminal stderr is, as TERM says; None where it is none.
    """
    if progress == "auto":
        progress = "quiet" if log_format == "json" else "tty"
    return "plain" if progress == "tty" and (terminal is None or terminal.lower() in DUMB) else progress


def _views(opened: Run, progress: str, log_format: str) -> list[View]:
    terminal = os.environ.get("TERM", "") if sys.stderr.isatty() else None
    match kind(progress, log_format, terminal=terminal):
        case "tty":
            from buildorch.cli import keyboard  # noqa: PLC0415 - what only a terminal needs
            from buildorch.report.live import LiveView  # noqa: PLC0415

            return [LiveView(opened.forecast, keys=keyboard.keys())]
        case "plain":
            from buildorch.report.folds import folds  # noqa: PLC0415
            from buildorch.report.plain import PlainView  # noqa: PLC0415

            return [PlainView(sys.stderr, folds=folds(os.environ))]
        case "json":
            from buildorch.report.lines import JsonLinesView  # noqa: PLC0415

            return [JsonLinesView(sys.stderr)]
    return []
