"""What a run leaves in a CI system by itself: GitHub's job summary, and OpenTelemetry spans.

In: a `Report`, and the environment. Out: text at the end of a file, spans at a collector. Touches: the file that
GITHUB_STEP_SUMMARY names, and what `buildorch.telemetry` touches.

What goes wrong here is a warning: the images are built.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from collections.abc import Mapping

    from buildorch.record import Report, ServiceRecord


def wanted(environ: Mapping[str, str]) -> bool:
    """Whether anything is to be left anywhere."""
    return bool(environ.get("GITHUB_STEP_SUMMARY") or _collector(environ))


def leave(report: Report, before: Mapping[str, ServiceRecord]) -> None:
    """Write the summary and send the spans, where the environment asks for them; a failure is told on stderr."""
    told = []
    if path := os.environ.get("GITHUB_STEP_SUMMARY"):
        told.append(_summarise(Path(path), report, before))
    if _collector(os.environ):
        from buildorch import telemetry  # noqa: PLC0415 - OpenTelemetry's SDK takes 200 ms, and is an extra

        told.append(telemetry.export(report, os.environ))
    for problem in filter(None, told):
        from buildorch.report.text import printable  # noqa: PLC0415

        click.echo(f"warning: {printable(problem)}", err=True)


def _collector(environ: Mapping[str, str]) -> str:
    return environ.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") or environ.get("OTEL_EXPORTER_OTLP_ENDPOINT") or ""


def _summarise(path: Path, report: Report, before: Mapping[str, ServiceRecord]) -> str:
    """Append the run's Markdown; what went wrong, or nothing.

    GitHub shows nothing of a step's summary that is larger than its limit: what others wrote there counts too.
    """
    from buildorch.report.markdown import SUMMARY_BYTES, run_markdown  # noqa: PLC0415

    try:
        with path.open("ab") as file:
            text = run_markdown(report, before, at_most=SUMMARY_BYTES - file.tell() - 1)
            if not text:
                return f"no summary was written to {path}: GitHub takes {SUMMARY_BYTES} bytes, and they are used up"
            file.write(b"\n" * bool(file.tell()) + text.encode())
    except OSError as error:
        return f"no summary was written to {path}: {error.strerror}"
    return ""
