"""The versions that buildorch is known to work with, and since when that is known.

In: a version. Out: a check. Touches nothing.
"""

from __future__ import annotations

from typing import Final

from buildorch.buildx.builders import version_of
from buildorch.doctor.check import Check
from buildorch.values import dataclass

AS_OF: Final = "2026-11"
"""When this table was last held against real programs."""


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of one program."""

    name: str
    least: tuple[int, int]
    """The first version that has what buildorch asks of it."""
    tested: tuple[int, int]
    """The last that its tests ran with."""
    install: str
    """How a newer one is had."""


ENGINE: Final = Known(
    "engine",
    (25, 0),  # the first with version 1.44 of the API
    (28, 5),
    "install a newer Docker Engine",
)
BUILDX: Final = Known(
    "buildx",
    (0, 17),  # docs/dependencies.md
    (0, 29),
    "install a newer buildx plugin: the package docker-buildx or docker-buildx-plugin",
)


def judge_version(known: Known, version: str, *, where: str = "") -> Check:
    """Whether a version is old, or newer than what was tested; `where` is put behind it."""
    numbers, shown = version_of(version), f"{version}{where}"
    least, tested = (".".join(map(str, one)) for one in (known.least, known.tested))
    if not numbers:
        return Check(
            known.name, "warning", f"its version {version!r} is no number{where}", f"{least} or later is needed"
        )
    if numbers < known.least:
        return Check(known.name, "error", f"{shown} is too old: {least} or later is needed", known.install)
    newer = f", newer than the last that was tested ({tested}, {AS_OF})" if numbers[:2] > known.tested else ""
    return Check(known.name, "ok", f"{shown}{newer}")
