"""The command `builders`: what there is to build with, and which runs build now.

In: a services file's path. Out: a table or JSON on stdout. Touches: a buildx process; the leases, for reading.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from buildorch.cli.options import FILE, FORMAT, dumps, ledger_path

if TYPE_CHECKING:
    from pathlib import Path

PATIENCE_S = 30.0
"""For buildx, which asks every node how it is."""


@click.command("builders", epilog="Example: buildorch builders --format json")
@FILE
@FORMAT
def builders(file: Path, output_format: str) -> None:
    """List the buildx builders with their nodes and platforms, and the runs that build now."""
    from buildorch import leases  # noqa: PLC0415 - each command loads its own
    from buildorch.buildx import builders as known  # noqa: PLC0415
    from buildorch.buildx import client  # noqa: PLC0415
    from buildorch.report.builders import builders_document, builders_text  # noqa: PLC0415

    found = known.builders(client.find_buildx(), timeout_s=PATIENCE_S)
    building = leases.held(ledger_path(file).parent / leases.FOLDER)
    if output_format == "json":
        click.echo(dumps(builders_document(found, building)))
    else:
        click.echo(builders_text(found, building))
