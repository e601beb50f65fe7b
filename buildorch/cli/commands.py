"""The commands: parse, call the library, choose the exit code.

In: arguments. Out: data on stdout, progress and logs on stderr. Touches: nothing but those streams itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from buildorch import __version__
from buildorch.cli.elsewhere import App
from buildorch.cli.options import (
    ALLOW_POLICIES,
    FILE,
    FORMAT,
    SET,
    building,
    dumps,
    formats,
    ledger_path,
    open_ledger,
    selecting,
    services_typed,
)
from buildorch.errors import UnknownService

if TYPE_CHECKING:
    from pathlib import Path

    from buildorch.logging_config import LogFormat

CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100, "show_default": True}


@click.group(cls=App, context_settings=CONTEXT, epilog="Example: buildorch build-all -j 4")
@click.version_option(__version__, prog_name="buildorch")
def app() -> None:
    """Build many container images with BuildKit at once, measure them, and record what came out."""


@app.command("build-all", epilog="Example: buildorch build-all -j 4 --push")
@building
def build_all(**options: Any) -> int:  # noqa: ANN401 - click's options
    """Build every service of the services file."""
    return _build((), **options)


@app.command("build", epilog="Example: buildorch build backend --set 'backend.args.VERSION=1.2'")
@click.argument("services", nargs=-1, required=True, shell_complete=services_typed)
@building
def build(services: tuple[str, ...], **options: Any) -> int:  # noqa: ANN401
    """Build the named services and what they build on."""
    return _build(services, **options)


def _build(
    services: tuple[str, ...],
    *,
    progress: str,
    log_format: LogFormat,
    output_format: str,
    **options: Any,  # noqa: ANN401
) -> int:
    from buildorch.cli.running import run  # noqa: PLC0415 - a build's imports are a build's to pay

    request = _request(services, **options)
    return run(request, progress=progress, log_format=log_format, output_format=output_format)


def _request(services: tuple[str, ...], **options: Any) -> Any:  # noqa: ANN401 - a BuildRequest, imported below
    from buildorch.preparing import BuildRequest  # noqa: PLC0415

    return BuildRequest(services=services, **options)


@app.command("plan", epilog="Example: buildorch plan --format json")
@click.argument("services", nargs=-1, shell_complete=services_typed)
@selecting
@FORMAT
def plan_command(services: tuple[str, ...], output_format: str, **options: Any) -> None:  # noqa: ANN401
    """Show what would be built, in which order, and why; builds nothing, and needs no engine for the order."""
    from buildorch.cli.planning import show_plan  # noqa: PLC0415

    show_plan(_request(services, **options), output_format=output_format)


@app.command("explain", epilog="Example: buildorch explain backend")
@click.argument("services", nargs=-1, required=True, shell_complete=services_typed)
@selecting
@FORMAT
def explain(services: tuple[str, ...], output_format: str, **options: Any) -> None:  # noqa: ANN401
    """Name every input of a service that is not what it was when its image was built."""
    from buildorch.cli.planning import show_changes  # noqa: PLC0415

    show_changes(_request(services, **options), output_format=output_format)


@app.command("show", epilog="Example: buildorch show --format json")
@FILE
@FORMAT
def show(file: Path, output_format: str) -> None:
    """Show the last record of every service."""
    with open_ledger(file) as ledger:
        _entries(ledger.latest(), output_format)


@app.command("history", epilog="Example: buildorch history backend --limit 50")
@click.argument("service", shell_complete=services_typed)
@click.option("-n", "--limit", type=click.IntRange(min=1), default=20, help="How many records, the newest first.")
@formats("csv")
@FILE
def history(service: str, limit: int, file: Path, output_format: str) -> None:
    """Show the digests, sizes and durations of one service over time."""
    from buildorch.report.history import history_csv, history_text  # noqa: PLC0415

    with open_ledger(file) as ledger:
        known = ledger.services()
        if service not in known:
            raise UnknownService(service, known=known)
        entries = ledger.history(service, limit=limit)
    if output_format == "json":
        _entries(entries, output_format)
    else:
        click.echo(history_csv(entries) if output_format == "csv" else history_text(entries), nl=output_format != "csv")


@app.command("check", epilog="Example: buildorch check backend registry.example/shop/base@sha256:...")
@click.argument("names", metavar="[SERVICE|IMAGE]...", nargs=-1, shell_complete=services_typed)
@click.option("--platform", "platforms", multiple=True, help="Judge this platform alone; may be repeated.")
@ALLOW_POLICIES
@SET
@formats("sarif", "junit", "github")
@FILE
def check(output_format: str, **options: Any) -> int:  # noqa: ANN401
    """Judge images by the services file's rules as they stand: the last one of each service, or any image."""
    from buildorch.cli import judging  # noqa: PLC0415

    return judging.check(output_format=output_format, **options)


@app.command("diff", epilog="Example: buildorch diff backend --fail-on-growth 5%")
@click.argument("names", metavar="[SERVICE|RUN|FILE|IMAGE]...", nargs=-1, shell_complete=services_typed)
@click.option("--fail-on-growth", metavar="PERCENT", help="Exit with 3 if an image's unpacked size grew by more.")
@FILE
@FORMAT
def diff(names: tuple[str, ...], fail_on_growth: str | None, file: Path, output_format: str) -> int:
    """Say what differs between two images of a service, two runs, two records or two images, to the byte."""
    from buildorch.cli import judging  # noqa: PLC0415

    return judging.diff(names, file=file, fail_on_growth=fail_on_growth, output_format=output_format)


@app.command("lock", epilog="Example: buildorch lock --update python:3.13-slim")
@click.argument("references", metavar="[REF]...", nargs=-1)
@click.option("--update", is_flag=True, help="Resolve again: the named images, or all.")
@click.option("--check", is_flag=True, help="Write nothing; exit with 1 if the file does not fit the Dockerfiles.")
@FILE
@FORMAT
def lock(references: tuple[str, ...], file: Path, output_format: str, **options: bool) -> int:
    """Write buildorch.lock: the digest that each base image is built from."""
    from buildorch.cli import locking  # noqa: PLC0415 - only a lock asks registries

    return locking.run(file, references, output_format=output_format, **options)


@app.group("ledger", epilog="Example: buildorch ledger verify")
def ledger_group() -> None:
    """Verify, repair and export the ledger of all runs."""


@ledger_group.command("verify", epilog="Example: buildorch ledger verify --repair")
@click.option("--repair", is_flag=True, help="Save all that is as it was written; the damaged file stays beside it.")
@FILE
@FORMAT
def ledger_verify(*, repair: bool, file: Path, output_format: str) -> int:
    """Look at every row of the ledger; exit with 1 if one is not as it was written."""
    from buildorch.cli import ledger_commands  # noqa: PLC0415

    return ledger_commands.verify(ledger_path(file), repair=repair, output_format=output_format)


@ledger_group.command("export", epilog="Example: buildorch ledger export | jq 'select(.kind == \"record\").service'")
@FILE
def ledger_export(file: Path) -> None:
    """Print every run and its records, oldest first, one JSON object a line."""
    from buildorch.cli import ledger_commands  # noqa: PLC0415

    ledger_commands.export(ledger_path(file))


@app.command("schema", epilog="Example: buildorch schema > services.schema.json")
@click.argument("which", type=click.Choice(["services", "run", "events", "check"]), default="services")
def schema(which: str) -> None:
    """Print the JSON Schema of the services file, the run record, the event stream or a check."""
    from buildorch import events, record, services  # noqa: PLC0415
    from buildorch.report import findings  # noqa: PLC0415

    schemas = {
        "services": services.json_schema,
        "run": record.run_schema,
        "events": events.events_schema,
        "check": findings.check_schema,
    }
    click.echo(dumps(schemas[which]()))


def _entries(entries: list[Any], output_format: str) -> None:
    from buildorch.record import to_plain  # noqa: PLC0415
    from buildorch.report.text import entries_text  # noqa: PLC0415

    if output_format == "json":
        click.echo(dumps([to_plain(entry) for entry in entries]))
    else:
        click.echo(entries_text(entries, with_service=True))
