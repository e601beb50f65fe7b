"""A run's record -> the figures that every report of it shows: counted once, so that all of them agree.

In: a `Report`. Out: `Figures`. Touches nothing.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from buildorch.record import Steps
from buildorch.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Mapping

    from buildorch.record import Budget, Finding, Layer, PlatformRecord, Report, ServiceRecord, Severity


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageFigures:
    """One platform of one service's image; a service without an image has one of these too."""

    service: str
    platform: str
    """Empty where there is no image."""
    record: ServiceRecord
    facts: PlatformRecord | None

    @property
    def compressed_bytes(self) -> int | None:
        """What a pull downloads; None where it is not known."""
        return self.facts.compressed_bytes if self.facts else None

    @property
    def unpacked_bytes(self) -> int | None:
        """The sum of its layers' tars; None where there is no image."""
        return self.facts.unpacked_bytes if self.facts else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """One run, counted."""

    images: tuple[ImageFigures, ...]
    statuses: Mapping[str, int]
    """Status -> how many services, in the record's order."""
    errors: int
    warnings: int
    """Findings of that severity."""
    steps: Steps
    """Of all services together."""
    unpacked_bytes: int
    """Of all images together, each distinct layer once: what they take on one machine."""
    compressed_bytes: int | None
    """The same of the layers' blobs; None where one's size is not known."""

    @property
    def counted(self) -> str:
        """`2 built, 1 failed`; empty where the run had no service."""
        return ", ".join(f"{count} {status}" for status, count in self.statuses.items())


def figures(report: Report) -> Figures:
    """Count."""
    records = report.services.values()
    severities = Counter(finding.severity for record in records for finding in record.findings)
    compressed = {layer.digest: layer.compressed_bytes for layer in _layers(report)}
    sizes = [size for size in compressed.values() if size is not None]
    return Figures(
        images=tuple(image for name, record in report.services.items() for image in _images(name, record)),
        statuses=dict(Counter(record.status for record in records)),
        errors=severities["error"],
        warnings=severities["warning"],
        steps=_steps([record.steps for record in records]),
        unpacked_bytes=sum({layer.diff_id or layer.digest: layer.unpacked_bytes for layer in _layers(report)}.values()),
        compressed_bytes=sum(sizes) if len(sizes) == len(compressed) else None,
    )


def budget_bytes(budget: Budget | None) -> int | None:
    """The size an image may have: the max, or the target where there is no max."""
    return (budget.max_bytes or budget.target_bytes) if budget else None


def judged_bytes(facts: PlatformRecord, budget: Budget) -> int | None:
    """The size that the budget is about."""
    return facts.unpacked_bytes if budget.of == "unpacked" else facts.compressed_bytes


def all_findings(report: Report, severity: Severity | None = None) -> list[tuple[str, Finding]]:
    """Service and finding, errors first; all, or those of one severity."""
    found = [
        (name, finding)
        for name, record in report.services.items()
        for finding in record.findings
        if severity in {None, finding.severity}
    ]
    return sorted(found, key=lambda one: one[1].severity != "error")


def _images(name: str, record: ServiceRecord) -> list[ImageFigures]:
    known: dict[str, PlatformRecord | None] = {**record.platforms} or {"": None}
    return [
        ImageFigures(service=name, platform=platform, record=record, facts=facts) for platform, facts in known.items()
    ]


def _layers(report: Report) -> list[Layer]:
    platforms = (facts for record in report.services.values() for facts in record.platforms.values())
    return [layer for facts in platforms for layer in facts.layers]


def _steps(steps: list[Steps]) -> Steps:
    return Steps(
        total=sum(one.total for one in steps),
        cached=sum(one.cached for one in steps),
        executed=sum(one.executed for one in steps),
    )
