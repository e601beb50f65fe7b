"""What `buildorch diff` found: its value, and that as text and JSON.

In: `ImageDifference` values. Out: `Diff`, text, JSON (`buildorch.diff/1`). Touches nothing.
"""

from __future__ import annotations

import json
from dataclasses import field
from typing import TYPE_CHECKING, Literal

from buildorch.differences import ImageDifference
from buildorch.quantities import human_bytes, signed_bytes
from buildorch.record import to_plain
from buildorch.report.text import printable, short_digest
from buildorch.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

SHOWN = 20
"""Most files, and most packages, that the text names; the JSON has all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceDifference:
    """What differs between two images of one service."""

    kind: Literal["added", "removed", "changed", "same"]
    before: str | None
    """The image's name, `name:tag`; null where there is none."""
    before_digest: str | None
    after: str | None
    after_digest: str | None
    platforms: dict[str, ImageDifference] = field(default_factory=dict)
    """Platforms that both have, where the images are not the same."""
    only_one_has: tuple[str, ...] = ()
    """Platforms that only one of them has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Diff:
    """One `buildorch diff`."""

    schema: Literal["buildorch.diff/1"] = "buildorch.diff/1"
    project: str
    services: dict[str, ServiceDifference]
    """Service, or the second image's name, -> what differs."""
    exit_code: int


def diff_json(diff: Diff) -> str:
    """All of it, as JSON."""
    return json.dumps(to_plain(diff), indent=2)


def diff_text(diff: Diff) -> str:
    """All of it for people, the largest changes of each kind."""
    return "\n".join(line for name, service in diff.services.items() for line in _service(name, service)) or "no images"


def _service(name: str, service: ServiceDifference) -> Iterator[str]:
    name = printable(name)
    if service.kind != "changed":
        digest = short_digest(service.after_digest or service.before_digest)
        yield f"{name}: {service.kind}: {printable(service.after or service.before or '')} {digest}"
        return
    yield f"{name}: {short_digest(service.before_digest)} -> {short_digest(service.after_digest)}"
    for platform in service.only_one_has:
        yield f"  {printable(platform)}: only one of them has it"
    for platform, difference in service.platforms.items():
        yield from _platform(printable(platform), difference)


def _platform(platform: str, one: ImageDifference) -> Iterator[str]:
    yield f"  {platform}: unpacked {_change(one.before_unpacked_bytes, one.after_unpacked_bytes)}"
    if one.before_compressed_bytes is not None and one.after_compressed_bytes is not None:
        yield f"  {platform}: compressed {_change(one.before_compressed_bytes, one.after_compressed_bytes)}"
    rows = [(_change(each.before_bytes, each.after_bytes), each.instruction) for each in one.instructions]
    yield from _part(
        "by instruction", [f"{change}  {' '.join(printable(text).split())[:100]}" for change, text in rows]
    )
    if one.files is None:
        yield "    which files changed is not known: an image cannot be read, and its layers are not remembered here"
    else:
        marks = {"added": "+", "removed": "-", "changed": "~"}
        files = [
            f"{marks[each.kind]} {_change(each.before_bytes, each.after_bytes)}  /{printable(each.path)}"
            for each in one.files
        ]
        yield from _part("files", files)
        unattributed = one.growth_bytes - one.attributed_bytes
        growth, ends = signed_bytes(one.growth_bytes), signed_bytes(unattributed)
        yield f"    growth {growth}, {ends} of it in the ends of the layers' tars"
    packages = [
        f"{each.package_kind} {printable(each.name)}: {_versions(each.before)} -> {_versions(each.after)}"
        for each in one.packages or ()
    ]
    yield from _part("packages", packages)
    config = [f"{printable(each.name)}: {_shown(each.before)} -> {_shown(each.after)}" for each in one.config or ()]
    yield from _part("config", config)


def _part(what: str, lines: Sequence[str]) -> Iterator[str]:
    if lines:
        yield f"    {what}:"
        yield from (f"      {line}" for line in lines[:SHOWN])
    if len(lines) > SHOWN:
        yield f"      and {len(lines) - SHOWN} more (--format json has all)"


def _change(before: int | None, after: int | None) -> str:
    if before is None or after is None:
        return f"{signed_bytes((after or 0) - (before or 0))} ({'new' if before is None else 'gone'})"
    return f"{human_bytes(before)} -> {human_bytes(after)} ({signed_bytes(after - before)})"


def _versions(versions: Sequence[str]) -> str:
    return ", ".join(map(printable, versions)) or "none"


def _shown(value: str | None) -> str:
    return "none" if value is None else printable(value)
