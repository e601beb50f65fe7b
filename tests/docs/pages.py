"""The documentation's pages as data: their fenced blocks, sections and tables."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
REFERENCE = DOCS / "reference"
PAGES = [*(ROOT / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md")), *sorted(DOCS.rglob("*.md"))]

_FENCE = re.compile(
    r'^```(?P<language>\w+)(?: title="(?P<title>[^"]+)")?\n(?P<body>.*?)^```$', re.DOTALL | re.MULTILINE
)
_CODE = re.compile(r"`([^`]+)`")


@dataclass(frozen=True)
class Block:
    """One fenced block of a page."""

    place: str
    """The page and the line, as people write it."""
    language: str
    title: str
    body: str


def blocks_of(page: Path) -> Iterator[Block]:
    """A page's fenced blocks, in order."""
    text = page.read_text()
    for match in _FENCE.finditer(text):
        line = text.count("\n", 0, match.start()) + 1
        yield Block(f"{page.relative_to(ROOT)}:{line}", match["language"], match["title"] or "", match["body"])


def prose(page: Path) -> str:
    """A page without its fenced blocks."""
    return _FENCE.sub("", page.read_text())


def section(page: Path, heading: str) -> str:
    """The prose under `## heading`, up to the next heading of that level."""
    parts = re.split(r"^## +(.+)$", prose(page), flags=re.MULTILINE)
    found = dict(zip(parts[1::2], parts[2::2], strict=True))
    assert heading in found, f"{page.name} has no section {heading!r}"
    return found[heading]


def code_spans(text: str) -> list[str]:
    """What stands between backticks."""
    return _CODE.findall(text)


def table(text: str) -> dict[str, str]:
    """Every code span in the first column of the tables in `text` -> its row."""
    rows = [line for line in text.splitlines() if line.startswith("| `")]
    return {span: row for row in rows for span in code_spans(row.split(" | ", 1)[0])}
