"""The command `doctor`: whether this machine is fit to build, a line a check.

In: a services file's path. Out: lines or JSON on stdout, an exit code. Touches: what `buildorch.doctor` does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from buildorch.cli.options import FILE, FORMAT, dumps

if TYPE_CHECKING:
    from pathlib import Path


@click.command("doctor", epilog="Example: buildorch doctor --format json")
@FILE
@FORMAT
def doctor(file: Path, output_format: str) -> int:
    """Look at engine, buildx, disks, clocks, registries, logins, platforms and the cache, and say what to do."""
    from buildorch.doctor import examine  # noqa: PLC0415 - each command loads its own
    from buildorch.report import examined  # noqa: PLC0415

    found = examine(file)
    if output_format == "json":
        click.echo(dumps(examined.examination_document(found)))
    else:
        click.echo(examined.examination_text(found))
    return found.exit_code
