"""A check as workflow commands: the annotations that GitHub Actions shows beside a change.

In: a `Checked`. Out: text, one command a line; empty where nothing was found. Touches nothing.

Sources: GitHub, "Workflow commands for GitHub Actions"; actions/runner `ActionCommand.cs`, which ends a command's
properties at the next `::` and takes a line that begins so for a command, whatever printed it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from buildorch.report.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from buildorch.record import Severity
    from buildorch.report.findings import Checked, CheckedImage

_IN_MESSAGES = str.maketrans({"%": "%25", "\r": "%0D", "\n": "%0A"})
_IN_PROPERTIES = str.maketrans({"%": "%25", "\r": "%0D", "\n": "%0A", ":": "%3A", ",": "%2C"})


def checked_github(checked: Checked) -> str:
    """An error or a warning for each finding, and an error for each image that could not be judged."""
    return "\n".join(line for image in checked.images for line in _commands(image))


def _commands(image: CheckedImage) -> Iterator[str]:
    if image.error:
        yield _command("error", image, "not judged", message=image.error, hint=image.error_hint)
    for found in image.findings:
        yield _command(found.severity, image, found.rule, message=found.message, hint=found.hint, line=found.line)


def _command(
    severity: Severity, image: CheckedImage, title: str, *, message: str, hint: str, line: int | None = None
) -> str:
    properties = {"title": f"buildorch: {title}"}
    if image.dockerfile:
        properties = {"file": image.dockerfile, **({"line": str(line)} if line else {}), **properties}
    said = ",".join(f"{key}={printable(value).translate(_IN_PROPERTIES)}" for key, value in properties.items())
    text = printable(f"{image.name}: {message}") + (f"\nhint: {printable(hint)}" if hint else "")
    return f"::{severity} {said}::{text.translate(_IN_MESSAGES)}"
