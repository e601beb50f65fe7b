"""The command `init`.

In: options. Out: what was written, on stdout. Touches: stdout, stderr, and what `buildorch.scaffold.writing` touches.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from buildorch.cli.options import FILE


@click.command("init", epilog="Example: buildorch init services/backend --dry-run")
@click.argument("folders", metavar="[FOLDER]...", nargs=-1, type=click.Path(path_type=Path))
@click.option("--python-base", default="python:3.13-slim", help="What FastAPI images start from.")
@click.option("--node-base", default="node:20-alpine", help="What Next.js images start from.")
@click.option("--force", is_flag=True, help="Write over a Dockerfile and .dockerignore that are there.")
@click.option("--dry-run", is_flag=True, help="Print what would be written, and write nothing.")
@FILE
def init(folders: tuple[Path, ...], *, dry_run: bool, **options: Any) -> None:  # noqa: ANN401 - click's options
    """Write a Dockerfile, a .dockerignore and a services file entry for FastAPI and Next.js projects."""
    from buildorch.report.text import printable  # noqa: PLC0415 - each command loads its own
    from buildorch.scaffold import writing  # noqa: PLC0415

    written = writing.init(writing.InitRequest(folders=folders, dry_run=dry_run, **options))
    here = Path.cwd().resolve()
    for path, text in written.texts.items():
        shown = path.relative_to(here) if path.is_relative_to(here) else path
        if dry_run:
            click.echo(f"--- {printable(str(shown))}\n{text}")
        else:
            click.echo(f"wrote {printable(str(shown))}")
    for name, found in written.services.items():
        for note in found.notes:
            click.echo(f"note: {name}: {printable(note)}", err=True)
    if not dry_run:
        click.echo("next: buildorch build-all")
