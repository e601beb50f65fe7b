"""What `buildorch compare` found: its value, and that as text, JSON and Markdown.

In: a row a variant. Out: `Comparison`, text, JSON (`buildorch.compare/1`), Markdown for an ADR. Touches nothing.
"""

from __future__ import annotations

import json
import re
from dataclasses import field
from typing import TYPE_CHECKING, Literal

from buildorch.quantities import human_seconds
from buildorch.record import EngineFacts, Failure, Finding, PlatformRecord, Steps, to_plain
from buildorch.report.text import UNKNOWN, bytes_text, failure_text, finding_text, printable, table
from buildorch.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Iterator

HEAD = ("variant", "differs in", "size", "compressed", "cold build", "cached build", "pull", "packages", "findings")
NUMBERS = (2, 3, 4, 5, 6)
"""The columns that are flush right."""
PULLS = 3
"""How often an image is pulled: the shortest time is the one that others on the machine disturbed least."""
_SPECIAL = re.compile(r"([\\`*_\[\]|~#])")


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One variant, built and measured."""

    variant: str
    changes: tuple[str, ...]
    """What differs from the service as it is, as `KEY=VALUE`."""
    error: Failure | None = None
    """Why there is no image, or none that could be measured."""
    platform: str = ""
    """What it was built for; empty where there is no image."""
    image: PlatformRecord | None = None
    bases: dict[str, str] = field(default_factory=dict)
    """Base image -> the digest it was built from."""
    stand_ins: tuple[str, ...] = ()
    """The official images whose stand-ins it was built on."""
    packages: dict[str, int] = field(default_factory=dict)
    """Kind (`deb`, `apk`, `python`, `npm`) -> how many packages of different name or version it holds."""
    findings: tuple[Finding, ...] = ()
    """Errors before warnings."""
    cold_s: float | None = None
    """From the start of `docker buildx build` to the image in the engine, every RUN executed, with empty cache mounts;
    the base images are there already."""
    cold_steps: Steps = Steps()
    cached_s: float | None = None
    """The same again with nothing changed."""
    cached_steps: Steps = Steps()
    pull_s: float | None = None
    """From the first question to the registry until every layer was fetched and unpacked, one after another, and each
    was what its digests say; nothing is written to a disk."""
    pull_note: str = ""
    """Why there is no `pull_s`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """One `buildorch compare`."""

    schema: Literal["buildorch.compare/1"] = "buildorch.compare/1"
    project: str
    service: str
    platform: str
    """Empty where nothing was built."""
    compared_at: str
    """RFC 3339, in UTC."""
    version: str
    """buildorch's."""
    engine: EngineFacts
    registry: str
    """Where images were pulled from; empty for none."""
    rows: tuple[Row, ...]
    """The service as it is first."""
    left: tuple[str, ...] = ()
    """What could not be removed, and why."""
    exit_code: int


def comparison_json(comparison: Comparison) -> str:
    """All of it, as JSON."""
    return json.dumps(to_plain(comparison), indent=2)


def comparison_text(comparison: Comparison) -> str:
    """The table for people, then what failed, what was found, and what the numbers are."""
    head = tuple(word.upper() for word in HEAD)
    rows = [tuple(map(printable, _cells(row, ", ".join(row.changes) or UNKNOWN))) for row in comparison.rows]
    parts = [table(head, rows, right=NUMBERS)]
    parts.extend(failure_text(row.variant, row.error) for row in comparison.rows if row.error)
    parts.extend(finding_text(row.variant, finding) for row in comparison.rows for finding in row.findings)
    parts.extend(f"note: {printable(note)}" for note in _notes(comparison))
    return "\n".join(parts)


def comparison_markdown(comparison: Comparison) -> str:
    """The table and what has to be said of it, to be put into a decision record as it is."""
    marks = ["--:" if at in NUMBERS else "---" for at in range(len(HEAD))]
    lines = [_line(HEAD), _line(marks)]
    for row in comparison.rows:
        differs = "<br>".join(map(_code, row.changes)) or UNKNOWN
        variant, _, *rest = _cells(row, "")
        lines.append(_line([_escaped(variant), differs, *map(_escaped, rest)]))
    said = [f"{row.variant} was not built: {row.error.message}" for row in comparison.rows if row.error]
    said.extend(
        f"{row.variant}: {finding.severity}: {finding.rule}: {finding.message}"
        for row in comparison.rows
        for finding in row.findings
    )
    said.extend(_notes(comparison))
    return "\n".join([*lines, "", *(f"- {_escaped(one)}" for one in said)])


def _cells(row: Row, differs: str) -> tuple[str, ...]:
    if row.error:
        return (row.variant, differs, UNKNOWN, UNKNOWN, "failed", UNKNOWN, UNKNOWN, UNKNOWN, UNKNOWN)
    packages = (f"{count} {kind}" for kind, count in sorted(row.packages.items()))
    return (
        row.variant,
        differs,
        bytes_text(row.image.unpacked_bytes if row.image else None),
        bytes_text(row.image.compressed_bytes if row.image else None),
        _seconds(row.cold_s),
        _seconds(row.cached_s),
        _seconds(row.pull_s),
        ", ".join(packages) or "none",
        _counted(row.findings),
    )


def _counted(findings: tuple[Finding, ...]) -> str:
    counts = {word: sum(one.severity == word for one in findings) for word in ("error", "warning")}
    return ", ".join(f"{count} {word}{'s'[: count > 1]}" for word, count in counts.items() if count) or "none"


def _seconds(seconds: float | None) -> str:
    return UNKNOWN if seconds is None else human_seconds(seconds)


def _notes(comparison: Comparison) -> Iterator[str]:
    """What has to be known to read the numbers."""
    engine = comparison.engine
    yield (
        f"{comparison.service} of {comparison.project}{f', {comparison.platform}' if comparison.platform else ''}, "
        f"compared at {comparison.compared_at} with buildorch {comparison.version}, Docker Engine {engine.version}, "
        f"buildx {engine.buildx}, {engine.cpus} CPUs"
    )
    yield (
        "size is unpacked, compressed is what a pull downloads; a cold build executes every RUN with empty cache "
        "mounts and its base images there, a cached build is the same again; both end with the image in the engine"
    )
    if comparison.registry:
        yield (
            f"pull is the shortest of {PULLS} times: fetched from {comparison.registry} and unpacked, layer after "
            "layer, without being written"
        )
    for why in dict.fromkeys(row.pull_note for row in comparison.rows if row.pull_note):
        yield f"{', '.join(row.variant for row in comparison.rows if row.pull_note == why)}: no pull time: {why}"
    for stand_ins in dict.fromkeys(row.stand_ins for row in comparison.rows if row.stand_ins):
        users = ", ".join(row.variant for row in comparison.rows if row.stand_ins == stand_ins)
        yield f"{users}: built on stand-ins for {', '.join(stand_ins)}, not on the official images"
    yield from (f"left behind: {one}" for one in comparison.left)


def _line(cells: tuple[str, ...] | list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _code(text: str) -> str:
    """A code span; a bar would end the cell even in one, and a backtick the span."""
    shown = " ".join(printable(text).split()).replace("|", "\\|")
    return _escaped(text) if "`" in text else f"`{shown}`"


def _escaped(text: str) -> str:
    """Text that is text in Markdown too: no link, no image, no HTML, no other cell."""
    text = _SPECIAL.sub(r"\\\1", " ".join(printable(text).split()))
    return text.replace("<", "&lt;").replace(">", "&gt;")
