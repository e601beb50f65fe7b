"""A build that cannot come to its end is ended, and one that can is left alone; by a clock that only runs while all wait."""

from __future__ import annotations

import itertools
import json
from collections.abc import Awaitable, Callable, Iterable

import anyio
import pytest
import trio.testing

from buildorch.buildx.deadlines import ANSWER_S, SILENCE_S, STALLED_S, Heard, overdue, until_hopeless
from buildorch.buildx.progress import Progress
from buildorch.record import Failure, FailureKind
from buildorch.services import Timeouts

NO_LIMITS = Timeouts()


def in_virtual_time(run: Callable[[], Awaitable[object]]) -> None:
    clock = trio.testing.MockClock(autojump_threshold=0)
    anyio.run(run, backend="trio", backend_options={"clock": clock})


def vertex(name: str, *, at: int = 1, completed: bool = False) -> bytes:
    stamps = {"started": f"2026-01-01T00:00:{at:02}Z"}
    if completed:
        stamps["completed"] = f"2026-01-01T00:00:{at + 1:02}Z"
    return json.dumps({"vertexes": [{"digest": f"sha256:{name}", "name": name, **stamps}]}).encode() + b"\n"


def status(item: str, current: int = 0) -> bytes:
    return json.dumps({"statuses": [{"id": item, "vertex": "sha256:v", "current": current}]}).encode() + b"\n"


@pytest.mark.parametrize(
    ("printed", "phase"),
    [
        ([], "resolve"),
        ([vertex("[internal] load metadata for docker.io/library/python:3.13-slim")], "resolve"),
        ([vertex("[1/2] FROM docker.io/library/python:3.13-slim"), status("sha256:layer", 5)], "resolve"),
        ([status("extracting sha256:layer")], "build"),
        ([vertex("[2/2] RUN make")], "build"),
        ([vertex("[2/2] RUN make"), vertex("exporting to image"), status("exporting layers")], "build"),
        ([vertex("[2/2] RUN make"), status("pushing layers")], "push"),
        ([vertex("[2/2] RUN make"), vertex("pushing shop/app with docker")], "push"),
        ([status("pushing layers"), vertex("[2/2] RUN make")], "push"),
    ],
)
def test_a_build_resolves_then_builds_then_pushes(printed: list[bytes], phase: str):
    progress = Progress("app")

    for line in printed:
        progress.feed(line)

    assert progress.phase == phase


def test_a_bar_that_is_drawn_again_is_no_news():
    progress = Progress("app")
    progress.feed(status("sha256:layer", 5))
    before = progress.news

    progress.feed(status("sha256:layer", 5))
    assert progress.news == before

    progress.feed(status("sha256:layer", 6))
    assert progress.news > before


@pytest.mark.parametrize("phase", ["resolve", "build", "push"])
def test_a_phase_over_its_own_limit_is_ended_and_no_other(phase):
    limits = Timeouts.model_validate({phase: 10})

    failure = overdue(phase, limits, phase_s=10.0, quiet_s=0.0)

    assert failure is not None
    assert failure.kind is FailureKind.TIMED_OUT
    assert f"`timeouts: {phase}` of 10 s" in failure.message
    assert failure.transient == (phase != "build")
    assert overdue(phase, limits, phase_s=9.9, quiet_s=0.0) is None
    assert all(
        overdue(other, limits, phase_s=99.0, quiet_s=0.0) is None for other in {"resolve", "build", "push"} - {phase}
    )


@pytest.mark.parametrize(("phase", "ended"), [("resolve", True), ("build", False), ("push", True)])
def test_a_registry_that_moves_nothing_is_given_up_and_a_silent_step_is_not(phase, *, ended: bool):
    failure = overdue(phase, NO_LIMITS, phase_s=9999.0, quiet_s=STALLED_S)

    assert (failure is not None) == ended
    if failure:
        assert (failure.kind, failure.transient, failure.exit_code) == (FailureKind.REGISTRY, True, 4)


async def after(seconds: float, answers: Iterable[bool], *, lines: int = 0) -> Failure | None:
    """What becomes, within so many seconds, of a build in a step that prints a line a second, `lines` times.

    `answers` are what the engine gives to its pings: True for none.
    """
    progress, heard = Progress("app"), Heard()
    progress.feed(vertex("[2/2] RUN make"))
    found: list[Failure] = []
    asked = iter(answers)

    async def is_frozen() -> bool:
        return next(asked)

    async def watch() -> None:
        found.append(await until_hopeless(progress, heard, NO_LIMITS, is_frozen))

    with anyio.move_on_after(seconds):
        async with anyio.create_task_group() as group:
            group.start_soon(watch)
            for _ in range(lines):
                await anyio.sleep(1)
                heard.hear(progress.news)
    return found[0] if found else None


@pytest.mark.proof
def test_a_step_that_is_silent_for_hours_goes_on_while_the_engine_answers():
    async def run() -> None:
        assert await after(3 * 3600.0, itertools.cycle([False])) is None

    in_virtual_time(run)


def test_an_engine_that_answers_no_ping_is_frozen():
    async def run() -> None:
        failure = await after(60.0, itertools.cycle([True]))

        assert failure is not None
        assert (failure.kind, failure.exit_code, failure.transient) == (FailureKind.ENGINE_FROZEN, 4, False)
        assert "said nothing for 5 s" in failure.message

    in_virtual_time(run)


@pytest.mark.proof
def test_an_engine_that_was_late_once_is_not_frozen():
    async def run() -> None:
        assert await after(600.0, itertools.cycle([True, False])) is None

    in_virtual_time(run)


def test_an_engine_is_not_asked_while_the_build_talks():
    async def run() -> None:
        assert await after(100.0, (), lines=100) is None  # it would find no answer

    in_virtual_time(run)


def test_a_frozen_engine_is_told_within_half_a_minute():
    assert SILENCE_S + 2 * ANSWER_S < 25
