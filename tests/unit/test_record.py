"""The run record: its JSON, its schema, and what a run exits with."""

from __future__ import annotations

import dataclasses
import json
from functools import cache
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from buildorch.errors import BuildFailed
from buildorch.record import (
    ENGINE_DIED,
    NOT_MOVED,
    RUN_KILLED,
    Budget,
    EngineFacts,
    Failure,
    FailureKind,
    Finding,
    GitFacts,
    Report,
    ServiceRecord,
    Solved,
    Steps,
    run_schema,
    service_record_from_json,
)
from buildorch.report.outcome import exit_code
from buildorch.testing import make_digest, make_engine_facts, make_failure, make_platform, make_record


@cache
def _run() -> Any:
    return Draft202012Validator(run_schema())


FULL = ServiceRecord(
    status="failed",
    reason="first build",
    reference="shop/app:latest",
    references=("shop/app:latest", "shop/app:1"),
    digest=make_digest("image"),
    index_digest=make_digest("index"),
    bases={"python:3.13-slim": make_digest("base")},
    stand_ins=("python:3.13-slim",),
    platforms={"linux/amd64": make_platform()},
    steps=Steps(total=3, cached=1, executed=2),
    started_at="2026-01-31T12:00:00.000Z",
    finished_at="2026-01-31T12:00:01.000Z",
    duration_s=1.0,
    attempts=2,
    warnings=("a check",),
    budget=Budget(max_bytes=9, target_bytes=None, of="unpacked"),
    findings=(Finding(rule="bases", severity="error", message="not allowed", hint="another", line=3),),
    error=Failure(
        kind=FailureKind.STEP_FAILED,
        message="the step exited with 1",
        stage="deps",
        step="[deps 1/1] RUN x",
        dockerfile="Dockerfile",
        line=3,
        log=("\x1b[31mred", "größe"),
    ),
)


def make_report(services: dict[str, ServiceRecord], *, code: int = 0, engine: EngineFacts | None = None) -> Report:
    return Report(
        run_id="r1",
        project="shop",
        started_at="2026-01-31T12:00:00.000Z",
        duration_s=1.25,
        exit_code=code,
        jobs=2,
        git=GitFacts(sha="0" * 40, branch="main", dirty=True) if engine else None,
        engine=engine,
        services=services,
    )


@pytest.mark.parametrize(
    "report",
    [
        make_report({}),
        make_report({"app": make_record()}, engine=make_engine_facts()),
        make_report({"app": FULL, "other": make_record("blocked", error=make_failure(FailureKind.BLOCKED))}, code=1),
    ],
)
def test_a_report_fits_its_published_schema(report: Report):
    _run().validate(json.loads(report.to_json()))


def test_the_schema_refuses_a_report_with_a_field_missing_or_wrong():
    document = json.loads(make_report({"app": FULL}).to_json())

    document["services"]["app"]["status"] = "done"
    assert not _run().is_valid(document)
    del document["services"]
    assert not _run().is_valid(document)


def test_the_schema_knows_every_field_a_record_has():
    definitions = run_schema()["$defs"]

    for kind in (ServiceRecord, Failure, Finding, Budget, Steps):
        assert set(definitions[kind.__name__]["properties"]) == {field.name for field in dataclasses.fields(kind)}


def test_a_report_says_what_it_is_and_ends_with_a_line_end():
    text = make_report({}).to_json()

    assert json.loads(text)["schema"] == "buildorch.run/1"
    assert text.endswith("}\n")


def test_a_service_record_comes_back_from_its_json_as_it_was():
    text = json.dumps(dataclasses.asdict(FULL))

    assert service_record_from_json(text) == FULL


@pytest.mark.parametrize("text", ["{}", "[]", '{"status": "done", "reason": "", "reference": ""}'])
def test_what_is_no_service_record_is_refused(text: str):
    with pytest.raises(ValueError, match=r"not a service's record"):
        service_record_from_json(text)


def test_a_report_of_a_good_run_is_given_back_for_chaining():
    report = make_report({"app": make_record()})

    assert report.ok
    assert report.raise_for_status() is report


def test_a_report_of_a_bad_run_raises_with_the_runs_exit_code_and_the_services():
    broken = make_record("failed", error=make_failure())
    against = dataclasses.replace(make_record(), findings=FULL.findings)
    report = make_report({"good": make_record(), "broken": broken, "against": against}, code=3)

    with pytest.raises(BuildFailed, match="the run r1 exited with 3: broken, against") as caught:
        report.raise_for_status()

    assert (caught.value.exit_code, caught.value.report) == (3, report)
    assert not report.ok


def ended(status: str = "built", *, code: int | None = None, severity: str | None = None) -> ServiceRecord:
    error = None if code is None else dataclasses.replace(make_failure(), exit_code=code)
    findings = () if severity is None else (Finding(rule="size", severity=severity, message="x"),)  # type: ignore[arg-type]
    return dataclasses.replace(make_record(status, error=error), findings=findings)


def withheld(record: ServiceRecord) -> ServiceRecord:
    return dataclasses.replace(record, warnings=(f"{NOT_MOVED}the run ended before it published",))


@pytest.mark.parametrize(
    ("records", "interrupted", "code"),
    [
        ([], None, 0),
        ([ended()], None, 0),
        ([ended(severity="warning")], None, 0),
        ([ended(severity="error")], None, 3),
        ([ended("failed", code=1)], None, 1),
        ([ended("failed", code=4)], None, 4),
        ([ended("failed", code=4), ended("failed", code=1)], None, 1),
        ([ended("failed", code=4), ended("blocked", code=1)], None, 4),
        ([ended("failed", code=1), ended(severity="error")], None, 1),
        ([ended("failed", code=4), ended(severity="error")], None, 4),
        ([ended("blocked", code=1)], None, 1),
        ([ended("cancelled", code=1)], None, 1),
        ([ended(), ended("cancelled", code=1)], 130, 130),
        ([ended("failed", code=1)], 143, 143),
        ([ended()], 130, 130),
        ([withheld(ended())], None, 1),
        ([withheld(ended(severity="error"))], None, 3),
    ],
)
def test_what_a_run_exits_with(records: list[ServiceRecord], interrupted: int | None, code: int):
    assert exit_code(records, interrupted=interrupted) == code


def test_an_image_is_taken_by_its_digest_where_it_can_be_pinned():
    digest = make_digest("image")

    assert Solved(name="shop/app:1", digest=digest, pinned=True).reference == f"shop/app:1@{digest}"
    assert Solved(name="shop/app:1", digest=digest, pinned=False).reference == "shop/app:1"


def test_of_the_warnings_only_buildkits_own_are_build_checks():
    own = (f"{ENGINE_DIED}look", f"{RUN_KILLED}run-1", f"{NOT_MOVED}why")
    made = dataclasses.replace(make_record(), warnings=(*own[:2], "JSONArgsRecommended: x", own[2]))

    assert made.build_checks == ("JSONArgsRecommended: x",)
