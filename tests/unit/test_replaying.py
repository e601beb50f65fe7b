"""A run's record, read again: from its own text, and from its events."""

from __future__ import annotations

import json

import pytest
import recorded
from jsonschema import Draft202012Validator

import buildorch
from buildorch.errors import UsageError
from buildorch.events import events_schema
from buildorch.replaying import read_report, replay, report_from_json

LINES = recorded.events_text().splitlines()


def changed(**more: object) -> str:
    return json.dumps({**json.loads(recorded.record_text()), **more})


def test_the_events_of_a_run_give_its_record_to_the_byte():
    assert buildorch.replay(LINES).to_json() == recorded.record_text()


@pytest.mark.proof
def test_every_line_of_a_run_fits_the_published_schema():
    schema = Draft202012Validator(events_schema())

    assert [error.message for line in LINES for error in schema.iter_errors(json.loads(line))] == []


def test_a_record_read_again_is_the_same_to_the_byte():
    assert report_from_json(recorded.record_text()).to_json() == recorded.record_text()


@pytest.mark.parametrize("text", [recorded.record_text(), recorded.events_text()], ids=["record", "events"])
def test_a_file_may_hold_either(text: str):
    assert read_report(text, "f") == recorded.report()


def test_what_else_went_to_stderr_is_passed_over():
    assert replay(["warning: something else", *LINES, "", "{not ours}"]) == recorded.report()


def test_a_service_that_the_runs_end_came_before_is_taken_from_its_last_event():
    without = [line for line in LINES if not ('"service_finished"' in line and '"service":"mailer"' in line)]

    assert len(without) == len(LINES) - 1
    assert replay(without) == recorded.report()


def other_end() -> list[str]:
    last = json.loads(LINES[-1])
    last["report"]["services"]["api"]["duration_s"] = 0.5
    return [*LINES[:-1], json.dumps(last, separators=(",", ":"))]


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ([], "begin after the run does"),
        (LINES[:-1], "end before the run does"),
        (LINES[1:], "begin after the run does"),
        ([*LINES, *LINES], "several runs"),
        ([*LINES[:3], LINES[3][:-1], *LINES[4:]], "line 4 is not an event"),
        (['{"event":"run_gone"}'], "line 1 is not an event"),
        (other_end(), "does not fit those before it"),
    ],
)
def test_events_that_are_not_one_whole_run_are_told(lines: list[str], said: str):
    with pytest.raises(UsageError, match=said):
        replay(lines)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "Expecting value"),
        ("[]", "should be an object|dictionary|instance"),
        ("{", "Expecting"),
        ("[" * 100_000, "nested too deeply"),
        (changed(schema="buildorch.run/2"), "schema: "),
        (changed(started_at="yesterday"), "Invalid isoformat"),
        (changed(started_at="2026-01-01T00:00:00"), "no offset"),
        (changed(exit_code="3"), "exit_code: "),
        (changed(duration_s=float("nan")), "NaN"),
        (changed(duration_s=float("inf")), "Infinity"),
        (changed(duration_s="@").replace('"@"', "1e999"), "1e999"),
        (changed(jobs=10**30), "too large"),
        (changed(services={"api": {"status": "fine"}}), "services.api.status: "),
    ],
)
def test_a_text_that_is_no_record_is_told_with_its_first_fault(text: str, said: str):
    with pytest.raises(UsageError, match=f"f is not a run record: .*(?:{said})"):
        read_report(text, "f")
