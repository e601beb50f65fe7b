"""The commands `cache show` and `cache prune`: what a builder's cache holds, and less of it.

In: a builder, limits. Out: tables or JSON on stdout. Touches: through `buildorch.caching`, the builder's cache.
"""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeVar

import click

from buildorch.cli.options import FILE, FORMAT, dumps
from buildorch.errors import EXIT_OK, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from buildorch.build_cache import Cached

    Mounts = Mapping[str, Sequence[str]]

Limit = TypeVar("Limit", int, float)
BUILDER = click.option("--builder", help="The buildx builder whose cache is meant.  [default: the one in use]")


@click.group("cache", epilog="Example: buildorch cache show")
def cache() -> None:
    """Show what a builder's cache and its cache mounts hold, and prune it."""


@cache.command("show", epilog="Example: buildorch cache show --format json")
@BUILDER
@FILE
@FORMAT
def show(builder: str | None, file: Path, output_format: str) -> None:
    """Show what a builder's cache holds in bytes, by kind and by cache mount, with the services that mount it."""
    from buildorch import caching  # noqa: PLC0415 - each command loads its own
    from buildorch.report import cached  # noqa: PLC0415

    held, used_by = caching.holding(caching.chosen_builder(builder)), _used_by(file)
    if output_format == "json":
        click.echo(dumps(cached.holding_document(held, used_by)))
    else:
        click.echo(cached.holding_text(held, used_by))


@cache.command("prune", epilog="Example: buildorch cache prune --keep-size 10GB --older-than 7d --dry-run")
@click.option("--keep-size", metavar="SIZE", help="Stop once the cache is no larger: 10GB, 500MiB.")
@click.option("--older-than", metavar="AGE", help="Take only what was not used for so long: 7d, 12h, 1d12h.")
@click.option("--dry-run", is_flag=True, help="Take nothing; show what would go.")
@click.option("--yes", is_flag=True, help="Do not ask; needed where stdin is no terminal.")
@BUILDER
@FILE
@FORMAT
def prune(
    *, keep_size: str | None, older_than: str | None, dry_run: bool, yes: bool, builder: str | None, file: Path,
    output_format: str,
) -> int:  # fmt: skip
    """Take from a builder's cache what no build has now, and show first what would go."""
    from buildorch import caching  # noqa: PLC0415
    from buildorch.build_cache import would_go  # noqa: PLC0415
    from buildorch.report import cached  # noqa: PLC0415

    limits = _limits(keep_size, older_than)
    name, used_by = caching.chosen_builder(builder), _used_by(file)
    going = would_go(caching.holding(name).records, now=datetime.now(UTC), **limits)
    text = cached.going_text(going, builder=name, used_by=used_by)
    # What is asked about is shown first; JSON is for stdout alone.
    click.echo(text, err=output_format == "json")
    freed = None
    if going and not dry_run and _confirmed(going, yes=yes):
        freed = caching.prune(name, **limits)
    if output_format == "json":
        click.echo(dumps(cached.going_document(going, builder=name, freed=freed)))
    elif freed is not None:
        from buildorch.quantities import human_bytes  # noqa: PLC0415

        click.echo(f"freed {human_bytes(freed)}")
    return EXIT_OK


def _limits(keep_size: str | None, older_than: str | None) -> dict[str, Any]:
    """`would_go`'s and `prune`'s own words; at least one, so that nobody prunes everything by leaving words out."""
    from buildorch.services.types import parse_size  # noqa: PLC0415

    if keep_size is None and older_than is None:
        raise UsageError(
            "it is not said what may go",
            hint="name --keep-size or --older-than; --keep-size 0 takes all that no build has now",
        )
    return {
        "keep_bytes": _parsed(parse_size, "--keep-size", keep_size),
        "older_than_s": _parsed(_parse_age, "--older-than", older_than),
    }


def _parse_age(text: str) -> float:
    """Days before what a duration of the services file may be."""
    from buildorch.services.types import parse_duration  # noqa: PLC0415

    days, is_days, rest = text.strip().partition("d")
    if not is_days:
        return parse_duration(text)
    if not days.isdecimal() or len(days) > 5:
        raise ValueError("an age such as 7d, 12h or 1d12h was expected")
    return int(days) * 86400 + (parse_duration(rest) if rest else 0)


def _parsed(parse: Callable[[str], Limit], option: str, text: str | None) -> Limit | None:
    if text is None:
        return None
    try:
        return parse(text)
    except ValueError as error:
        raise UsageError(f"{option} {text!r}: {error}") from None


def _confirmed(going: Sequence[Cached], *, yes: bool) -> bool:
    if yes:
        return True
    if not sys.stdin.isatty():
        raise UsageError(
            "nothing was taken: there is no terminal to ask on", hint="say --yes to prune, or --dry-run to look only"
        )
    return click.confirm(f"take {len(going)} records?", err=True)


def _used_by(file: Path) -> Mounts:
    """Which services mount what; a services file that cannot be used is told, and the cache shown without it."""
    from buildorch import caching  # noqa: PLC0415
    from buildorch.report.text import printable  # noqa: PLC0415

    try:
        return caching.mounts_of_services(file)
    except UsageError as error:
        click.echo(f"note: which services mount what is not known: {printable(str(error))}", err=True)
        return {}
