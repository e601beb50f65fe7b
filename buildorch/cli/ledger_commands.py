"""`buildorch ledger`: whether the ledger is as it was written, saving what is, and all of it for other programs.

In: a ledger's path. Out: text or JSON on stdout, an exit code. Touches: the ledger, and a new one beside it.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from buildorch.cli.options import dumps
from buildorch.errors import EXIT_BUILD_FAILED, EXIT_OK
from buildorch.ledger import verification

if TYPE_CHECKING:
    from pathlib import Path

NAMED_AT_MOST = 50


def verify(path: Path, *, repair: bool, output_format: str) -> int:
    """Say what is damaged, and mend it where that was asked for; 1 where something is damaged and stays so."""
    found = verification.verify(path)
    repaired = verification.repair(path) if repair and found.damages else None
    if output_format == "json":
        saved = (
            {"runs": repaired.runs, "records": repaired.records, "damaged_file": str(repaired.damaged)}
            if repaired
            else None
        )
        click.echo(dumps({**asdict(found), "repaired": saved}))
    else:
        click.echo(_text(path, found, repaired))
    return EXIT_BUILD_FAILED if found.damages and not repaired else EXIT_OK


def export(path: Path) -> None:
    """Print every run and record."""
    for line in verification.lines(path):
        click.echo(line)


def _text(path: Path, found: verification.Verified, repaired: verification.Repaired | None) -> str:
    if not found.damages:
        return f"{path}: {found.records} records of {found.runs} runs, all as they were written"
    lines = [f"{path}: damaged", *(f"  {one}" for one in found.damages[:NAMED_AT_MOST])]
    if len(found.damages) > NAMED_AT_MOST:
        lines.append(f"  and {len(found.damages) - NAMED_AT_MOST} more")
    if repaired is None:
        return "\n".join(
            [*lines, "  hint: `buildorch ledger verify --repair` saves the rest; what is lost is built again"]
        )
    lines.append(f"saved {repaired.records} records of {repaired.runs} runs; the damaged ledger is {repaired.damaged}")
    return "\n".join(lines)
