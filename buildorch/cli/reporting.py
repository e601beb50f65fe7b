"""The command `report`: a run's record as a page, Markdown, JUnit, SARIF, a trace or OpenTelemetry spans.

In: a run's name, a file, or nothing for the last run. Out: files, or text on stdout. Touches: the ledger and the record
beside the services file, for reading; the files that are named.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from buildorch.cli.options import FILE, ledger_path
from buildorch.errors import UnknownRun, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from buildorch.ledger import Entry, Ledger
    from buildorch.record import Report

    History = Mapping[str, list[Entry]]

STDOUT = Path("-")


def _written(option: str, what: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    help_text = f"Write {what}; - is stdout."
    return click.option(option, type=click.Path(path_type=Path, allow_dash=True), metavar="FILE", help=help_text)


@click.command("report", epilog="Example: buildorch report --html report.html --junit junit.xml")
@click.argument("source", metavar="[RUN|FILE]", required=False)
@_written("--html", "a page that loads nothing")
@_written("--markdown", "Markdown")
@_written("--junit", "JUnit XML, a suite a service")
@_written("--sarif", "the findings as SARIF 2.1.0")
@_written("--trace", "a trace for Perfetto")
@_written("--json", "the run record")
@click.option("-n", "--limit", type=click.IntRange(min=1), default=30, help="How many runs the history goes back.")
@FILE
def report(source: str | None, limit: int, file: Path, **wanted: Path | None) -> None:
    """Report on a run: the last one, one of the ledger's, or what a record or an event stream in a file holds."""
    chosen = {name: path for name, path in wanted.items() if path}
    if sum(path == STDOUT for path in chosen.values()) > 1:
        raise UsageError("two reports cannot both go to stdout", hint="name a file for one of them")
    run, history = _read(source, file, limit)
    texts = {name: _text(name, run, history, file) for name in chosen}
    if not texts:
        from buildorch.report.text import report_text  # noqa: PLC0415

        click.echo(report_text(run))
    for name, text in texts.items():
        _write(chosen[name], text)


def _read(source: str | None, file: Path, limit: int) -> tuple[Report, History | None]:
    """The run, and what the ledger knows of its services; None without a ledger."""
    from buildorch.ledger import Ledger  # noqa: PLC0415 - each command loads its own
    from buildorch.replaying import read_report  # noqa: PLC0415

    given = Path(source) if source else None
    path = ledger_path(file)
    if given and given.is_file():
        run = read_report(_contents(given), str(given))
        if not path.exists():
            return run, None
        with Ledger(path) as ledger:
            return run, _history(run, ledger, limit)
    if not path.exists():
        raise UnknownRun(source, where=str(path))
    with Ledger(path) as ledger:
        run = _recorded(source, ledger)
        return run, _history(run, ledger, limit)


def _recorded(run_id: str | None, ledger: Ledger) -> Report:
    """A run of the ledger; where the run record beside it is that run's, with all that this says of it."""
    from buildorch.record import Report  # noqa: PLC0415
    from buildorch.replaying import report_from_json  # noqa: PLC0415

    ended = ledger.ended_run(run_id)
    if ended is None:
        raise UnknownRun(run_id, where=str(ledger.path))
    beside = ledger.path.with_name("run.json")
    if beside.is_file():
        try:
            found = report_from_json(_contents(beside), str(beside))
        except UsageError:
            pass  # the ledger is what counts; the file is anybody's to write
        else:
            if found.run_id == ended.run_id:
                return found
    services = {entry.service: entry.record for entry in ledger.of_run(ended.run_id)}
    return Report(
        run_id=ended.run_id,
        project=ended.project,
        started_at=ended.started_at,
        duration_s=ended.duration_s,
        exit_code=ended.exit_code,
        jobs=0,
        git=None,
        engine=None,
        services=services,
    )


def _history(run: Report, ledger: Ledger, limit: int) -> History:
    """Service -> its records, the newest first: that of the run, and those of so many runs before it."""
    return {name: ledger.history(name, limit=limit + 1, until=run.started_at) for name in run.services}


def _text(name: str, run: Report, history: History | None, file: Path) -> str:
    """Each format is loaded where it is asked for."""
    match name:
        case "html":
            from buildorch.report.html import run_html  # noqa: PLC0415

            return run_html(run, history)
        case "markdown":
            from buildorch.report.markdown import run_markdown  # noqa: PLC0415
            from buildorch.report.past import before_run  # noqa: PLC0415

            return run_markdown(run, None if history is None else before_run(run, history))
        case "trace":
            from buildorch.report.trace import run_trace  # noqa: PLC0415

            return run_trace(run)
        case "json":
            return run.to_json()
    from buildorch.report import run_checked  # noqa: PLC0415

    write = run_checked.run_sarif if name == "sarif" else run_checked.run_junit
    return write(run, _dockerfiles(file))


def _dockerfiles(file: Path) -> dict[str, str]:
    """Where the Dockerfiles of the services are now: a record holds no path; none where the file cannot be read."""
    from buildorch import preparing  # noqa: PLC0415
    from buildorch.checking import shown_path  # noqa: PLC0415

    try:
        planned = preparing.plan(preparing.BuildRequest(file=file))
    except UsageError:
        return {}
    return {solve.name: shown_path(solve) for solve in planned.plan.solves}


def _contents(path: Path) -> str:
    from buildorch.project import read_bounded  # noqa: PLC0415
    from buildorch.replaying import MOST_BYTES  # noqa: PLC0415

    return read_bounded(path, most_bytes=MOST_BYTES, hint="name a run record").decode("utf-8", "replace")


def _write(path: Path, text: str) -> None:
    from buildorch import project  # noqa: PLC0415

    if path == STDOUT:
        click.echo(text, nl=not text.endswith("\n"))
    else:
        project.write_atomically(path, text, unwritable=_unwritable)


def _unwritable(path: str, reason: str) -> UsageError:
    return UsageError(f"the report cannot be written to {path}: {reason}", hint="name another file")
