"""Options that several commands have, the JSON that one of them asks for, and the ledger they mean.

In: nothing. Out: click's decorators, text. Touches: nothing but the ledger that is asked for.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from buildorch.errors import LedgerError

if TYPE_CHECKING:
    from collections.abc import Callable

FILE = click.option(
    "-f",
    "--file",
    type=click.Path(path_type=Path),
    default=Path("services.yaml"),
    envvar="BUILDORCH_FILE",
    help="The services file.  [env: BUILDORCH_FILE]",
)


def services_typed(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """The names of services that a shell may complete a word to."""
    from buildorch.cli.completion import services  # noqa: PLC0415 - only where a shell asks

    return services(context, parameter, incomplete)


def formats(*more: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """The option for how stdout is written."""
    choices = ["text", "json", *more]
    help_text = "How stdout is written."
    return click.option("--format", "output_format", type=click.Choice(choices), default="text", help=help_text)


FORMAT = formats()


SET = click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="SERVICE.KEY=VALUE",
    help="Override one key; SERVICE may be a glob.",
)
ALLOW_POLICIES = click.option(
    "--allow-policies", is_flag=True, help="Ask the services file's own policies: they are programs."
)
FORCE = click.option("--force", is_flag=True, help="Build also what did not change.")
FROZEN = click.option("--frozen", is_flag=True, help="Take base images from buildorch.lock alone.")


def selecting(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that say what a plan holds."""
    for option in (
        FROZEN,
        FORCE,
        click.option("--no-cache", is_flag=True, help="Execute every step again."),
        click.option("--platform", "platforms", multiple=True, help="Build for this platform; may be repeated."),
        click.option("--builder", help="The buildx builder to use."),
        click.option("--push", "output", flag_value="push", help="Push the images to their registries."),
        click.option(
            "--load",
            "output",
            flag_value="load",
            default=True,
            help="Load the images into the engine (the default).",
        ),
        SET,
        FILE,
    ):
        command = option(command)
    return command


def building(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options of a build."""
    for option in (
        click.option(
            "--log-format",
            type=click.Choice(["text", "json"]),
            default="text",
            envvar="BUILDORCH_LOG_FORMAT",
            help="Log entries on stderr; json turns progress off.  [env: BUILDORCH_LOG_FORMAT]",
        ),
        FORMAT,
        click.option(
            "--progress",
            type=click.Choice(["auto", "plain", "tty", "quiet", "json"]),
            default="auto",
            envvar="BUILDORCH_PROGRESS",
            help="What stderr shows meanwhile; auto is tty on a terminal, else plain.  [env: BUILDORCH_PROGRESS]",
        ),
        click.option(
            "--record",
            type=click.Path(path_type=Path),
            help="Where the run record goes.  [default: .buildorch/run.json]",
        ),
        click.option(
            "--fail-fast/--keep-going",
            default=False,
            help="Cancel the rest at the first failure.",
        ),
        click.option(
            "--publish",
            type=click.Choice(["each", "all-or-none"]),
            default="each",
            help="When pushed images get their names: each once it is good, or all once all are.",
        ),
        ALLOW_POLICIES,
        click.option(
            "--wait/--no-wait",
            default=True,
            help="Wait for a run that builds the same, or exit with 75.",
        ),
        click.option(
            "-j",
            "--jobs",
            type=int,
            envvar="BUILDORCH_JOBS",
            help="How many builds run at once.  [env: BUILDORCH_JOBS; default: the engine's CPUs]",
        ),
    ):
        command = option(command)
    return selecting(command)


def dumps(value: object) -> str:
    """What `--format json` prints."""
    return json.dumps(value, indent=2, ensure_ascii=False)


def open_ledger(file: Path) -> Any:  # noqa: ANN401 - a Ledger, imported below
    """The ledger beside a services file.

    Raises:
        LedgerError: there is none yet.
    """
    from buildorch.ledger import Ledger  # noqa: PLC0415

    path = ledger_path(file)
    if not path.exists():
        raise LedgerError(
            f"there is no ledger at {path}", hint="build something first, or name the services file with -f"
        )
    return Ledger(path)


def ledger_path(file: Path) -> Path:
    """Where the ledger beside a services file is."""
    from buildorch.context.listing import STATE_FOLDER  # noqa: PLC0415
    from buildorch.ledger import FILE_NAME  # noqa: PLC0415

    return file.resolve().parent / STATE_FOLDER / FILE_NAME
