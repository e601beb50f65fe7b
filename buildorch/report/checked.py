"""A check for people, and as plain data.

In: a `Checked`. Out: text, or JSON (`buildorch.check/1`). Touches nothing.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from buildorch.quantities import human_bytes
from buildorch.record import encodable, to_plain
from buildorch.report.text import UNKNOWN, budget_text, finding_text, printable, short_digest, table

if TYPE_CHECKING:
    from collections.abc import Iterator

    from buildorch.report.findings import Checked, CheckedImage


def checked_text(checked: Checked) -> str:
    """A table of images, then what is wrong, then the rules that are off, then how many findings there are."""
    kind = "SERVICE" if all(image.service for image in checked.images) else "IMAGE"
    head = (kind, "PLATFORM", "DIGEST", "UNPACKED", "BUDGET", "ERRORS", "WARNINGS")
    rows = [row for image in checked.images for row in _rows(image)]
    parts = [table(head, rows, right=(3, 5, 6))]
    for image in checked.images:
        parts.extend(_not_judged(image))
        parts.extend(finding_text(image.name, finding) for finding in image.findings)
    for image in checked.images:
        parts.extend(_off(image))
    parts.append(_last_line(checked))
    return "\n".join(parts)


def checked_json(checked: Checked) -> str:
    """The check's data, in ASCII; the schema is docs/schemas/check.schema.json."""
    return json.dumps(_encodable(to_plain(checked)), indent=2)


def _encodable(value: Any) -> Any:  # noqa: ANN401 - plain data
    """The same data, each text encodable: many readers refuse a lone surrogate."""
    if isinstance(value, str):
        return encodable(value)
    if isinstance(value, dict):
        return {_encodable(key): _encodable(one) for key, one in value.items()}
    return [_encodable(one) for one in value] if isinstance(value, (list, tuple)) else value


def _rows(image: CheckedImage) -> Iterator[tuple[str, ...]]:
    name, digest = printable(image.name), short_digest(image.digest)
    # What is found is found against an image, not against a platform: it is counted once, in the first row.
    counts = (UNKNOWN, UNKNOWN) if image.error else (str(image.count("error")), str(image.count("warning")))
    if not image.platforms:
        yield (name, UNKNOWN, digest, UNKNOWN, UNKNOWN, *counts)
    for platform, facts in image.platforms.items():
        size, left = human_bytes(facts.unpacked_bytes), budget_text(facts, image.budget)
        yield (name, printable(platform), digest, size, left, *counts)
        counts = ("", "")


def _not_judged(image: CheckedImage) -> Iterator[str]:
    if image.error:
        yield f"error: {printable(image.name)}: {printable(image.error)}"
        if image.error_hint:
            yield f"  hint: {printable(image.error_hint)}"


def _off(image: CheckedImage) -> Iterator[str]:
    for rule, reason in image.off.items():
        yield f"off: {printable(image.name)}: {printable(rule)}: {printable(reason)}"


def _last_line(checked: Checked) -> str:
    errors = sum(image.count("error") for image in checked.images)
    warnings = sum(image.count("warning") for image in checked.images)
    unjudged = sum(bool(image.error) for image in checked.images)
    judged = _counted(len(checked.images) - unjudged, "image")
    said = f"{judged} judged: {_counted(errors, 'error')}, {_counted(warnings, 'warning')}"
    return f"{said}; {_counted(unjudged, 'image')} not judged" if unjudged else said


def _counted(count: int, word: str) -> str:
    return f"{count} {word}" if count == 1 else f"{count} {word}s"
