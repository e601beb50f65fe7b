"""`buildorch compare`: variants of one service beside each other.

In: options. Out: text, JSON or Markdown on stdout, an exit code. Touches: stdout, stderr, signal handlers, and what
`buildorch.comparing` touches.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from buildorch.cli.options import ALLOW_POLICIES, FILE, SET, formats, services_typed

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from buildorch.comparing import Bench
    from buildorch.events import Event
    from buildorch.report.comparison import Comparison


@click.command(
    "compare", epilog="Example: buildorch compare backend --variant alpine:base=python:3.13-alpine --format markdown"
)
@click.argument("service", shell_complete=services_typed)
@click.option(
    "--variant",
    "variants",
    multiple=True,
    metavar="NAME:KEY=VALUE[,KEY=VALUE]...",
    help="What to compare with the service as it is; may be repeated. Keys: base, base.REF, target, args.NAME, "
    "compression, compression-level.",
)
@click.option(
    "--pull", default="", show_default=False, metavar="REGISTRY", help="Push there, for the time that a pull takes."
)
@click.option("--platform", default="", show_default=False, help="Build for this platform.")
@click.option("--builder", help="The buildx builder to use.")
@click.option("--progress", type=click.Choice(["plain", "quiet"]), default="plain", help="What stderr shows meanwhile.")
@ALLOW_POLICIES
@SET
@formats("markdown")
@FILE
def compare(
    service: str,
    variants: tuple[str, ...],
    *,
    file: Path,
    progress: str,
    output_format: str,
    **options: Any,  # noqa: ANN401 - click's options
) -> int:
    """Build variants of one service in isolation and compare sizes, build and pull times, packages and findings."""
    from buildorch import comparing  # noqa: PLC0415 - each command loads its own

    request = comparing.CompareRequest(service=service, variants=comparing.parse_all(variants), file=file, **options)
    with comparing.opened(request) as bench:
        comparison = _compared(bench, shows=progress == "plain")
    if isinstance(comparison, int):
        return comparison
    click.echo(_writer(output_format)(comparison))
    return comparison.exit_code


def _writer(output_format: str) -> Callable[[Comparison], str]:
    from buildorch.report import comparison  # noqa: PLC0415

    match output_format:
        case "markdown":
            return comparison.comparison_markdown
        case "json":
            return comparison.comparison_json
    return comparison.comparison_text


def _compared(bench: Bench, *, shows: bool) -> Comparison | int:
    """The comparison; or the exit code where a second signal cut it off."""
    from buildorch import comparing  # noqa: PLC0415 - after the services file and the variants were found to be good
    from buildorch.cli.building import read_out  # noqa: PLC0415
    from buildorch.report.comparison import Comparison  # noqa: PLC0415
    from buildorch.report.plain import PlainView  # noqa: PLC0415

    view = PlainView(sys.stderr)

    def see(told: Event | Comparison) -> Comparison | None:
        if isinstance(told, Comparison):
            return told
        if shows:
            view.update(told)
        return None

    return read_out(lambda stop: comparing.stream(bench, stop=stop), see)
