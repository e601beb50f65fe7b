"""Each service's record and the one before it -> what changed between them.

In: a `Report`, and the records before it. Out: `Since` values. Touches nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from buildorch.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Mapping

    from buildorch.record import Report, ServiceRecord

Kind = Literal["new", "changed", "same", "no image"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Growth:
    """One platform's unpacked size, in bytes; null where there was or is no image for it."""

    platform: str
    before_bytes: int | None
    after_bytes: int | None

    @property
    def delta_bytes(self) -> int:
        """How much larger it became; negative where it shrank."""
        return (self.after_bytes or 0) - (self.before_bytes or 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Since:
    """One service, since its last image."""

    service: str
    kind: Kind
    reason: str
    """Why it was built, or why it was not."""
    before_digest: str | None
    after_digest: str | None
    growth: tuple[Growth, ...] = ()
    """Of an image that is new or another one."""
    before_s: float | None = None
    """How long the build before took, where both were built."""
    after_s: float | None = None


def since(report: Report, before: Mapping[str, ServiceRecord]) -> tuple[Since, ...]:
    """What changed for each service of the run.

    Args:
        report: the run.
        before: service -> its last record with an image before the run; those without one are left out.
    """
    return tuple(_since(name, record, before.get(name)) for name, record in report.services.items())


def _since(name: str, record: ServiceRecord, before: ServiceRecord | None) -> Since:
    kind = _kind(record, before)
    timed = before is not None and before.status == record.status == "built"
    return Since(
        service=name,
        kind=kind,
        reason=record.reason,
        before_digest=before.digest if before else None,
        after_digest=record.digest,
        growth=_growth(record, before) if kind in {"new", "changed"} else (),
        before_s=before.duration_s if timed and before else None,
        after_s=record.duration_s if timed else None,
    )


def _kind(record: ServiceRecord, before: ServiceRecord | None) -> Kind:
    if record.digest is None:
        return "no image"
    if before is None or before.digest is None:
        return "new"
    return "same" if before.digest == record.digest else "changed"


def _growth(record: ServiceRecord, before: ServiceRecord | None) -> tuple[Growth, ...]:
    old = before.platforms if before else {}
    return tuple(
        Growth(
            platform=platform,
            before_bytes=old[platform].unpacked_bytes if platform in old else None,
            after_bytes=record.platforms[platform].unpacked_bytes if platform in record.platforms else None,
        )
        for platform in dict.fromkeys([*record.platforms, *old])
    )
