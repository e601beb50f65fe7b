"""The commands `images` and `resolve`: digests for a deploy.

In: options. Out: text on stdout or in files, notes on stderr, an exit code. Touches: those files, and what
`buildorch.handing_over` touches.
"""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from buildorch.cli.options import FILE, SET, services_typed
from buildorch.errors import EXIT_BUILD_FAILED, EXIT_OK, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from buildorch.handing_over import HandoffRequest, Resolved

STDIN = "-"
STDOUT = Path("-")
MAX_BYTES = 32 * 1024 * 1024
"""Most bytes of one file of Kubernetes YAML."""
OUTPUT = click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write to this file, once all is well; - is stdout.",
)


def handing_over(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that say which records are handed over."""
    for option in (
        SET,
        FILE,
        click.option("--max-age", metavar="DURATION", help="Refuse records of runs that began longer ago: 2h."),
        click.option("--last-good", is_flag=True, help="Where a service's last build is no good, take the last good."),
        click.option("--local", is_flag=True, help="Ask no registry: also images that only an engine has."),
        click.option(
            "--record",
            type=click.Path(path_type=Path, dir_okay=False),
            help="The run whose images to take.  [default: each service's last, from the ledger]",
        ),
    ):
        command = option(command)
    return command


@click.command("images", epilog="Example: buildorch images --format kustomize -o deploy/images/kustomization.yaml")
@click.argument("services", nargs=-1, shell_complete=services_typed)
@handing_over
@OUTPUT
@click.option(
    "--format",
    "output_format",
    type=click.Choice(["text", "env", "dotenv", "github", "json", "yaml", "kustomize", "helm", "skaffold"]),
    default="text",
    help="What the images are written for.",
)
def images(services: tuple[str, ...], output_format: str, output: Path | None, **options: Any) -> None:  # noqa: ANN401
    """Hand the services' images over by digest, once the registry says that it holds them."""
    from buildorch import handing_over as edge  # noqa: PLC0415 - paid by this command alone
    from buildorch.handoff.formats import render  # noqa: PLC0415

    target = _workflow_file() if output_format == "github" and output is None else None
    text = render(list(edge.images(_request(services, **options)).values()), output_format)
    if target is not None:
        _append(target, text)
    elif output is not None and output != STDOUT:
        _write(output, text)
    else:
        click.echo(text, nl=False)


@click.command("resolve", epilog="Example: buildorch resolve deploy/*.yaml | kubectl apply -f -")
@click.argument("files", metavar="FILE...", nargs=-1, required=True)
@click.option("-i", "--in-place", is_flag=True, help="Write each file again, once all is well.")
@click.option("--check", is_flag=True, help="Write nothing; exit with 1 if an image would change.")
@OUTPUT
@handing_over
def resolve(files: tuple[str, ...], *, in_place: bool, check: bool, output: Path | None, **options: Any) -> int:  # noqa: ANN401
    """Put digests in the place of the services' images in Kubernetes YAML; nothing else changes. FILE - is stdin."""
    if in_place + check + (output is not None) > 1:
        raise UsageError("--in-place, --check and --output exclude each other", hint="give one of them")
    if STDIN in files and (in_place or files.count(STDIN) > 1):
        raise UsageError("stdin is read once, and cannot be written", hint="name files, or leave --in-place out")
    from buildorch import handing_over as edge  # noqa: PLC0415
    from buildorch.handoff.kubernetes import joined  # noqa: PLC0415

    resolved = edge.resolve([(name, _read(name)) for name in files], _request((), **options))
    for one in resolved:
        _tell(one, check=check)
    if check:
        return EXIT_BUILD_FAILED if any(one.changes for one in resolved) else EXIT_OK
    if in_place:
        for one in resolved:
            if one.changes:
                _write(Path(one.source), one.text)
    elif output is not None and output != STDOUT:
        _write(output, joined(one.text for one in resolved))
    else:
        # As bytes: the line ends are the file's own, and the terminal's encoding is none of its business.
        sys.stdout.buffer.write(joined(one.text for one in resolved).encode())
        sys.stdout.flush()
    return EXIT_OK


def _request(services: tuple[str, ...], *, max_age: str | None, **options: Any) -> HandoffRequest:  # noqa: ANN401
    from buildorch.handing_over import HandoffRequest  # noqa: PLC0415

    return HandoffRequest(services=services, max_age_s=_seconds(max_age) if max_age else None, **options)


def _seconds(text: str) -> float:
    from buildorch.services.types import parse_duration  # noqa: PLC0415 - loads pydantic, for those who set a limit

    try:
        return parse_duration(text)
    except ValueError as error:
        raise UsageError(f"--max-age {text}: {error}") from None


def _read(name: str) -> str:
    """A file of YAML, with the line ends and the byte order mark that it has."""
    try:
        if name == STDIN:
            data = sys.stdin.buffer.read(MAX_BYTES + 1)
        else:
            with Path(name).open("rb") as file:
                data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise UsageError(f"{name} cannot be read: {error.strerror}", hint="name files of Kubernetes YAML") from None
    if len(data) > MAX_BYTES:
        raise UsageError(f"{name} is larger than {MAX_BYTES // 1024**2} MiB", hint="resolve it in parts")
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise UsageError(f"{name}:{line}: this is not UTF-8 text", hint="is it Kubernetes YAML at all?") from None


def _tell(one: Resolved, *, check: bool) -> None:
    """What became of a file, on stderr: that nothing did is often a mistake in a name."""
    from buildorch.report.text import printable  # noqa: PLC0415

    for change in one.changes if check else ():
        click.echo(printable(f"{one.source}:{change.line}: {change.old} is not {change.new}"), err=True)
    if not one.services:
        fact = "no image of a service stands in it"
    elif one.changes:
        number = len(one.changes)
        fact = f"{number} image{'s' * (number != 1)} {'to resolve' if check else 'resolved'}"
    else:
        fact = f"up to date: {', '.join(one.services)}"
    click.echo(printable(f"{one.source}: {fact}"), err=True)


def _workflow_file() -> Path:
    """Where the outputs of a GitHub workflow's step go."""
    path = os.environ.get("GITHUB_OUTPUT")
    if not path:
        raise UsageError(
            "GITHUB_OUTPUT is not set, so this is no step of a GitHub workflow",
            hint="name a file with --output, or take another --format",
        )
    return Path(path)


def _append(path: Path, text: str) -> None:
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise UsageError(f"GITHUB_OUTPUT={path} cannot be written: {error.strerror}") from None


def _write(path: Path, text: str) -> None:
    """Put a text into a file, all of it or none; a link stays one, and the file keeps its mode."""
    from buildorch import project  # noqa: PLC0415 - a shell that completes a word does not wait for it

    path = path.resolve()
    mode = 0o644
    if path.exists():
        if not path.is_file():
            raise UsageError(f"{path} is no regular file", hint="leave --output out to write to stdout")
        mode = stat.S_IMODE(path.stat().st_mode)
    project.write_atomically(path, text, mode=mode, unwritable=_unwritable)


def _unwritable(path: str, reason: str) -> UsageError:
    return UsageError(f"the file cannot be written to {path}: {reason}", hint="is the folder there, and yours?")
