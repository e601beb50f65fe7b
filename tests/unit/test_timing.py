"""What a run did when, from its record."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime, timedelta

import pytest
import recorded

from buildorch.record import Report, ServiceRecord, Step
from buildorch.report.timing import chain, timing
from buildorch.testing import make_digest, make_record

BEGAN = datetime(2026, 1, 31, 12, tzinfo=UTC)


def at(seconds: float) -> str:
    return (BEGAN + timedelta(seconds=seconds)).isoformat().replace("+00:00", "Z")


def step(name: str, begin: float, seconds: float, *, cached: bool = False, failed: bool = False) -> Step:
    made = {"is_instruction": name.startswith("["), "cached": cached, "failed": failed}
    return Step(name=name, started_at=at(begin), duration_s=seconds, **made)


def built(begin: float, end: float, *steps: Step, took: float | None = None) -> ServiceRecord:
    record = make_record(digest=make_digest("image"))
    times = {"started_at": at(begin), "finished_at": at(end), "duration_s": end - begin if took is None else took}
    return dataclasses.replace(record, timeline=steps, **times)


def report(duration_s: float = 20.0, **services: ServiceRecord) -> Report:
    facts = {"run_id": "r", "project": "p", "exit_code": 0, "jobs": 2, "git": None, "engine": None}
    return Report(started_at=at(0), duration_s=duration_s, services=services, **facts)


def path(of: Report) -> list[str]:
    return [one.name for one in timing(of).critical]


def test_the_critical_path_goes_back_from_what_ended_last_to_what_it_began_at_the_end_of():
    run = report(base=built(0, 4), app=built(4.1, 9), other=built(0, 6), late=built(9.2, 15))

    assert path(run) == ["base", "app", "late"]


def test_what_ended_long_before_was_not_waited_for():
    assert path(report(early=built(0, 2), late=built(6, 9))) == ["late"]


def test_what_ended_after_it_began_was_not_waited_for():
    assert path(report(one=built(0, 5.5), other=built(5, 9))) == ["other"]


def test_things_that_took_no_time_at_one_moment_end_the_path():
    assert [one.name for one in timing(report(a=built(1, 1), b=built(1, 1))).critical] == ["a"]


def test_a_service_waited_until_its_first_attempt_began():
    [one] = timing(report(app=built(10, 12, took=9))).services

    assert (one.begin_s, one.end_s, one.duration_s) == (3, 12, 9)


def test_what_was_not_built_has_no_time():
    assert timing(report(app=make_record("skipped", digest=make_digest("x")))).services == ()


def test_a_step_is_executed_cached_failed_or_a_transfer():
    steps = (step("load", 0, 1), step("[1/2] RUN", 1, 1, cached=True), step("[2/2] RUN", 2, 1))
    [one] = timing(report(app=built(0, 5, *steps, step("[3/3] RUN", 3, 1, failed=True)))).services

    assert [each.kind for each in one.steps] == ["transfer", "cached", "executed", "failed"]
    assert [each.critical for each in one.steps] == [True] * 4


def test_steps_beside_the_longest_ones_are_not_critical():
    [one] = timing(report(app=built(0, 9, step("[a] RUN", 0, 8), step("[b] RUN", 0, 2), step("end", 8, 1)))).services

    assert [each.name for each in one.steps if each.critical] == ["[a] RUN", "end"]


def test_an_engine_whose_clock_is_another_is_taken_by_its_steps_own_beginnings():
    [one] = timing(report(app=built(1, 9, step("[a] RUN", 3601, 8)))).services

    assert one.steps[0].begin_s == pytest.approx(1)


def test_a_busy_engine_is_not_taken_for_another_clock():
    [one] = timing(report(app=built(1, 9, step("[a] RUN", 4, 5)))).services

    assert one.steps[0].begin_s == pytest.approx(4)


def test_a_duration_that_is_less_than_nothing_is_nothing():
    [one] = timing(report(app=built(1, 9, step("[a] RUN", 1, -5), took=-3))).services

    assert (one.steps[0].duration_s, one.begin_s) == (0, 12)


def test_a_chain_of_nothing_is_nothing():
    assert chain([]) == []


def test_the_recorded_runs_path_is_the_build_that_failed_and_the_one_that_got_its_place():
    done = timing(recorded.report())

    assert [one.name for one in done.critical] == ["worker", "web"]
    assert [one.name for one in done.services] == ["web", "api", "worker"]
