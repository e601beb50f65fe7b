"""What `buildorch check` found: the value that each of its formats is written from.

In: images' records, findings, and what could not be judged. Out: `Checked`, and its JSON Schema. Touches nothing.

The formats: `checked` (text and JSON), `sarif`, `junit` and `github`, each loaded where it is asked for.
`docs/schemas/check.schema.json` is `check_schema()`.
"""

from __future__ import annotations

from dataclasses import field
from typing import Any, Literal

from buildorch.record import Budget, Finding, PlatformRecord, Severity, schema_of
from buildorch.values import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedImage:
    """One image and what the rules say against it."""

    name: str
    """The service's name, or the reference of an image that buildorch did not build."""
    service: str | None = None
    """Null for an image that buildorch did not build."""
    reference: str
    """The image's name, `name:tag`."""
    digest: str | None = None
    """What was judged: the digest of the index, or of the only manifest; null where the image could not be judged."""
    platforms: dict[str, PlatformRecord] = field(default_factory=dict)
    """Platform -> its image."""
    budget: Budget | None = None
    dockerfile: str = ""
    """The Dockerfile's path, relative to the repository, or to the project where that is in none; empty without one."""
    findings: tuple[Finding, ...] = ()
    """Errors before warnings."""
    off: dict[str, str] = field(default_factory=dict)
    """Rule -> the reason it is not asked."""
    error: str = ""
    """Why the image could not be judged; empty where it was."""
    error_hint: str = ""
    """The next step after that error."""

    def count(self, severity: Severity) -> int:
        """How many findings are of this severity."""
        return sum(finding.severity == severity for finding in self.findings)


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """One `buildorch check`."""

    schema: Literal["buildorch.check/1"] = "buildorch.check/1"
    project: str
    checked_at: str
    """RFC 3339, in UTC."""
    exit_code: int
    images: tuple[CheckedImage, ...]


def check_schema() -> dict[str, Any]:
    """The JSON Schema of a check, draft 2020-12."""
    return schema_of(Checked, title="buildorch check")
