"""`buildorch.lock`: which digest each base image is built from, kept beside the services file and committed.

In: the file's text. Out: a `Lock`, or all of its problems at once; and the text back, to the byte. Touches: the one
file, in `read`.

TOML, as it is read by the standard library, can hold a time, and has a table for each image: two branches that add
different images merge, and a moved base is a diff of its own lines. A digest is the same at every honest mirror, so an
image has one digest and not one for each mirror; which registry gave it is kept beside it.
"""

from __future__ import annotations

import re
import tomllib
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Self

from buildorch.bases.base import LOCK_FILE
from buildorch.bases.names import canonical
from buildorch.errors import MalformedDocument, UsageError
from buildorch.oci import parse_digest
from buildorch.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

FILE_NAME = LOCK_FILE
VERSION = 1
_HEAD = """\
# The digest that each base image is built from. Written by `buildorch lock`, renewed by `buildorch lock --update`.
version = 1
"""
_KEYS = ("digest", "registry", "resolved_at")
_HOST = re.compile(r"[A-Za-z0-9.:\[\]_-]+\Z")
_BROKEN = "mend it, or delete it and run `buildorch lock`"


@dataclass(frozen=True, slots=True)
class Entry:
    """What is kept of one base image."""

    digest: str
    """Of the index, or of the manifest where the tag names one platform's image: what the registry gave for the tag."""
    registry: str
    """The host that gave it: a mirror, or the image's own registry."""
    resolved_at: datetime
    """When it was asked, in UTC, to the second."""


@dataclass(frozen=True, slots=True)
class Lock:
    """The lock file's content."""

    bases: Mapping[str, Entry]
    """Canonical reference (`names.canonical`) -> what is kept of it."""

    @classmethod
    def parse(cls, text: str, source: str) -> Self:
        """Read a lock file's text; `source` is its name in messages.

        Raises:
            UsageError: with every problem of the text, one a line.
        """
        try:
            raw = tomllib.loads(text)
        except (tomllib.TOMLDecodeError, RecursionError) as error:
            raise UsageError(f"{source}: it is not TOML: {error}", hint=_BROKEN) from None
        version = raw.get("version")
        if version != VERSION or isinstance(version, bool):
            hint = "use the buildorch that wrote it, or a newer one" if isinstance(version, int) else _BROKEN
            raise UsageError(f"{source}: its version is {version!r}, and this buildorch reads {VERSION}", hint=hint)
        bases = raw.get("bases", {})
        problems = [f"{source}: unknown key {key!r}" for key in raw if key not in {"version", "bases"}]
        found: dict[str, Entry] = {}
        if isinstance(bases, dict):
            for reference, entry in bases.items():
                where = f"{source}:{line}" if (line := _line(text, reference)) else source
                if wrong := [*_name_problems(reference), *_problems(entry)]:
                    problems.extend(f"{where}: {reference}: {fact}" for fact in wrong)
                else:
                    at = entry["resolved_at"].astimezone(UTC).replace(microsecond=0)
                    found[reference] = Entry(entry["digest"], entry["registry"], at)
        else:
            problems.append(f"{source}: bases is not a table")
        if problems:
            raise UsageError("\n".join(problems), hint=_BROKEN)
        return cls(found)

    def text(self) -> str:
        """The file's text: always the same for the same content, the images in order of their names."""
        tables = (
            f'\n[bases."{reference}"]\n'
            f'digest = "{entry.digest}"\n'
            f'registry = "{entry.registry}"\n'
            f"resolved_at = {entry.resolved_at:%Y-%m-%dT%H:%M:%SZ}\n"
            for reference, entry in sorted(self.bases.items())
        )
        return _HEAD + "".join(tables)


def read(path: Path) -> Lock | None:
    """The lock file at `path`; None where there is none.

    Raises:
        UsageError: it cannot be read.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        fact = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise UsageError(f"the lock file {path.name} cannot be read: {fact}", hint=_BROKEN) from None
    return Lock.parse(text, path.name)


def _name_problems(reference: str) -> Iterator[str]:
    try:
        wanted = canonical(reference)
    except UsageError:
        yield "it is not an image reference"
        return
    if "@" in wanted:
        yield "it names a digest itself, so there is nothing to lock"
    elif wanted != reference:
        yield f"its name here is {wanted}"


def _problems(entry: object) -> Iterator[str]:
    if not isinstance(entry, dict):
        yield f"it is {entry!r}, not a table of {', '.join(_KEYS)}"
        return
    fields: dict[str, Any] = entry
    yield from (f"unknown key {key!r} (the keys are: {', '.join(_KEYS)})" for key in fields if key not in _KEYS)
    yield from (f"{key} is missing" for key in _KEYS if key not in fields)
    if "digest" in fields:
        try:
            parse_digest(fields["digest"])
        except MalformedDocument:
            yield f"digest is {fields['digest']!r}, not sha256: and 64 hexadecimal digits"
    host = fields.get("registry", "-")
    if not isinstance(host, str) or not _HOST.match(host):
        yield f"registry is {host!r}, not a host"
    at = fields.get("resolved_at", datetime.now(UTC))
    if not isinstance(at, datetime) or at.tzinfo is None:
        yield f"resolved_at is {str(at)!r}, not a time with a zone such as 2026-11-25T10:00:00Z"


def _line(text: str, reference: str) -> int:
    """The line of an image's table, from 1; 0 where it is written in another way than `Lock.text` writes it."""
    head = re.search(rf"""^\s*\[\s*bases\s*\.\s*["']{re.escape(reference)}["']\s*\]""", text, re.MULTILINE)
    return text.count("\n", 0, head.start() + len(head[0]) - len(head[0].lstrip())) + 1 if head else 0
