"""A run's record in the formats of a check: JUnit with its builds, and SARIF with what is said against its images.

In: a `Report`, and where its Dockerfiles are. Out: text. Touches nothing.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from buildorch.events import stamp
from buildorch.report.findings import Checked, CheckedImage

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from xml.etree.ElementTree import Element

    from buildorch.record import Report, ServiceRecord


def run_checked(report: Report, dockerfiles: Mapping[str, str]) -> Checked:
    """The run as a check of its images; a service without an image is one that was not judged.

    Args:
        report: the run.
        dockerfiles: service -> its Dockerfile's path as code hosts name it; a record holds none.
    """
    images = (_image(name, record, dockerfiles.get(name, "")) for name, record in report.services.items())
    return Checked(
        project=report.project, checked_at=_ended_at(report), exit_code=report.exit_code, images=tuple(images)
    )


def run_sarif(report: Report, dockerfiles: Mapping[str, str]) -> str:
    """SARIF 2.1.0: a result for each finding, and a notification for each service that has no image."""
    from buildorch.report.sarif import checked_sarif  # noqa: PLC0415 - each format is loaded where it is asked for

    return checked_sarif(run_checked(report, dockerfiles))


def run_junit(report: Report, dockerfiles: Mapping[str, str]) -> str:
    """JUnit XML: a suite for each service, its build the first case, then what `check` would write."""
    from buildorch.report import junit  # noqa: PLC0415

    checked = run_checked(report, dockerfiles)
    suites = []
    for image, record in zip(checked.images, report.services.values(), strict=True):
        cases = [*_builds(record), *junit.rule_cases(image)]
        suites.append(junit.suite(checked, image, cases, _properties(record)))
    return junit.document(f"buildorch {report.project}", suites)


def _image(name: str, record: ServiceRecord, dockerfile: str) -> CheckedImage:
    error = record.error
    return CheckedImage(
        name=name,
        service=name,
        reference=record.reference,
        digest=record.digest,
        platforms=record.platforms,
        budget=record.budget,
        dockerfile=dockerfile or (error.dockerfile if error else ""),
        findings=record.findings,
        off=record.rules_off,
        error=error.message if error else "",
        error_hint=error.hint if error else "",
    )


def _ended_at(report: Report) -> str:
    return stamp(datetime.fromisoformat(report.started_at) + timedelta(seconds=report.duration_s))


def _builds(record: ServiceRecord) -> Iterator[Element]:
    """The case of the build, and one of the names where they were not moved.

    What was blocked or cancelled is an error and not a failure: nothing is known of it.
    """
    from buildorch.report import junit  # noqa: PLC0415
    from buildorch.report.text import failure_text  # noqa: PLC0415

    build = junit.case("build")
    build.set("time", f"{record.duration_s:.3f}")
    if failure := record.error:
        ending = "failure" if record.status == "failed" else "error"
        text = failure_text(record.status, failure)
        junit.outcome(build, ending, failure.message, kind=failure.kind, text=text)
    yield build
    if record.withheld:
        publish = junit.case("publish")
        junit.outcome(publish, "failure", record.withheld, kind="not published")
        yield publish


def _properties(record: ServiceRecord) -> dict[str, object]:
    """The record's figures: JUnit has no place of its own for them."""
    sizes = {
        f"{what} {platform}": count
        for platform, facts in record.platforms.items()
        for what, count in (("compressed_bytes", facts.compressed_bytes), ("unpacked_bytes", facts.unpacked_bytes))
    }
    steps = record.steps
    return {
        "status": record.status,
        "reason": record.reason,
        "steps_total": steps.total,
        "steps_cached": steps.cached,
        "steps_executed": steps.executed,
        **sizes,
    }
