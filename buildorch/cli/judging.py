"""The commands `check` and `diff`: what is said of images that are there.

In: options. Out: text on stdout, an exit code. Touches: stdout, and what `buildorch.checking` and `buildorch.diffing`
touch.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import click

from buildorch.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from buildorch.report.findings import Checked

_PERCENT = re.compile(r"(\d+(?:\.\d+)?)\s*%?\Z")


def check(
    *,
    names: tuple[str, ...],
    platforms: tuple[str, ...],
    overrides: tuple[str, ...],
    allow_policies: bool,
    file: Path,
    output_format: str,
) -> int:
    """Judge, and write what was found."""
    from buildorch import checking  # noqa: PLC0415 - each command loads its own

    request = checking.CheckRequest(
        file=file, names=names, platforms=platforms, overrides=overrides, allow_policies=allow_policies
    )
    checked = checking.check(request)
    click.echo(_writer(output_format)(checked))
    return checked.exit_code


def _writer(output_format: str) -> Callable[[Checked], str]:
    """Each format is loaded where it is asked for."""
    match output_format:
        case "sarif":
            from buildorch.report.sarif import checked_sarif  # noqa: PLC0415

            return checked_sarif
        case "junit":
            from buildorch.report.junit import checked_junit  # noqa: PLC0415

            return checked_junit
        case "github":
            from buildorch.report.github import checked_github  # noqa: PLC0415

            return checked_github
    from buildorch.report import checked  # noqa: PLC0415

    return checked.checked_json if output_format == "json" else checked.checked_text


def diff(names: tuple[str, ...], *, file: Path, fail_on_growth: str | None, output_format: str) -> int:
    """Compare, and write what differs."""
    from buildorch import diffing  # noqa: PLC0415
    from buildorch.report.difference import diff_json, diff_text  # noqa: PLC0415

    request = diffing.DiffRequest(file=file, names=names, fail_on_growth=_percent(fail_on_growth))
    found = diffing.diff(request)
    click.echo(diff_json(found) if output_format == "json" else diff_text(found))
    return found.exit_code


def _percent(text: str | None) -> float | None:
    if text is None:
        return None
    match = _PERCENT.match(text.strip())
    if not match:
        raise UsageError(f"{text!r} is no growth", hint="give it in per cent, such as --fail-on-growth 5%")
    return float(match[1])
