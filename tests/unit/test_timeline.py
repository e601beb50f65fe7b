from __future__ import annotations

from pathlib import Path

import pytest

from buildorch.buildx.progress import Progress
from buildorch.events import SolveStarted, StepFinished
from buildorch.record import Step, Steps
from buildorch.timeline import MOST_STEPS, Timelines, ended

DATA = Path(__file__).parent / "data"

AT = "2026-01-31T12:00:0%d.000Z"


def finished(second: int = 0, *, service: str = "app", **more: object) -> StepFinished:
    said = {
        "vertex": "v",
        "name": "[1/2] RUN x",
        "step": True,
        "cached": False,
        "started_at": AT % second,
        "duration_s": 1.0,
    }
    return StepFinished(**{**said, "service": service, **more})  # type: ignore[arg-type]


def timeline(*events: object, service: str = "app") -> tuple[Step, ...]:
    timelines = Timelines()
    for event in events:
        timelines.update(event)  # type: ignore[arg-type]
    return timelines.of(service)


def test_a_step_that_ended_is_told_with_its_times():
    [step] = timeline(finished(3, duration_s=1.23456, cached=True, error="no"))

    assert step == Step(
        name="[1/2] RUN x", is_instruction=True, started_at=AT % 3, duration_s=1.235, cached=True, failed=True
    )


def test_the_earliest_stands_first_whichever_ended_first():
    assert [step.started_at for step in timeline(finished(2), finished(1))] == [AT % 1, AT % 2]


def test_each_service_has_its_own():
    assert timeline(finished(service="other")) == ()


def test_another_attempt_begins_anew():
    again = SolveStarted(at=AT % 5, service="app", attempt=2, reason="")

    assert [step.started_at for step in timeline(finished(1), again, finished(6))] == [AT % 6]


def test_what_never_started_is_left_out():
    assert timeline(finished(started_at="")) == ()


def test_a_build_of_endless_steps_leaves_a_record_of_bounded_size():
    assert len(timeline(*[finished()] * (MOST_STEPS + 1))) == MOST_STEPS


@pytest.mark.parametrize("name", ["executed", "cached", "copy_link"])
def test_the_steps_of_a_build_that_came_to_its_end_are_counted_as_its_progress_counts_them(name: str):
    progress = Progress("app")
    events = progress.feed((DATA / f"{name}.rawjson").read_bytes()) + progress.close()

    assert ended(timeline(*events)) == progress.steps != Steps()


def test_of_a_build_that_failed_the_steps_that_ended_are_counted():
    failed = Progress("app").feed((DATA / "failed_step.rawjson").read_bytes())

    assert ended(timeline(*failed)) == Steps(total=2, cached=0, executed=2)


def test_a_step_counts_as_cached_if_all_of_it_is():
    linked = [finished(name="[2/3] COPY --link a b", cached=cached) for cached in (True, False, True)]

    assert ended(timeline(*linked, finished(cached=True))) == Steps(total=2, cached=1, executed=1)
