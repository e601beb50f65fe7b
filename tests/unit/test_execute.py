"""The scheduler over a solver that builds nothing."""

from __future__ import annotations

import random
from collections.abc import Callable

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from buildorch import execute as execute_module
from buildorch.events import Event, SolveFinished, SolveRetried, SolveStarted, StepStarted
from buildorch.execute import Stop, execute
from buildorch.plan import Plan
from buildorch.record import Failure, FailureKind, Solved
from buildorch.testing import FakeSolver, make_digest, make_failure, make_plan

pytestmark = pytest.mark.anyio

TRANSIENT = make_failure(FailureKind.REGISTRY, transient=True)
BROKEN = make_failure()
BUILT = Solved(name="test/app:latest", digest=make_digest("image"), pinned=True)


@pytest.fixture(autouse=True)
def quick_retries(monkeypatch: pytest.MonkeyPatch):
    """A retry waits up to a second; here, a hundredth of one."""
    monkeypatch.setattr(execute_module, "RETRY_DELAY_S", 0.01)


async def run(
    plan: Plan, solver: FakeSolver, *, jobs: int = 2, fail_fast: bool = False, stop: Stop | None = None
) -> list[Event]:
    async with execute(plan, solver, jobs=jobs, fail_fast=fail_fast, stop=stop) as events:
        return [event async for event in events]


def ends(events: list[Event]) -> dict[str, SolveFinished]:
    finished = [event for event in events if isinstance(event, SolveFinished)]
    assert len({event.service for event in finished}) == len(finished), "a service ended twice"
    return {event.service: event for event in finished}


def kinds(events: list[Event]) -> dict[str, str]:
    """service -> `built` or the kind of its failure."""
    return {name: event.failure.kind if event.failure else "built" for name, event in ends(events).items()}


async def test_every_service_is_built_once_and_its_bases_before_it():
    solver = FakeSolver(seconds={"base": 0.02, "lib": 0.01})

    events = await run(make_plan({"app": ["lib"], "lib": ["base"], "base": [], "other": []}), solver, jobs=4)

    assert kinds(events) == dict.fromkeys(["base", "lib", "app", "other"], "built")
    assert solver.started.index("base") < solver.started.index("lib") < solver.started.index("app")
    assert sorted(solver.started) == ["app", "base", "lib", "other"]


@pytest.mark.parametrize("jobs", [1, 2, 3])
async def test_no_more_than_the_wanted_number_of_solves_run_at_once(jobs: int):
    names = [f"s{at}" for at in range(8)]
    solver = FakeSolver(seconds=dict.fromkeys(names, 0.005))

    await run(make_plan({name: [] for name in names}), solver, jobs=jobs)

    assert solver.most_running == jobs


async def test_services_that_do_not_build_on_each_other_start_in_the_plans_order():
    names = ["d", "b", "a", "c"]
    solver = FakeSolver()

    await run(make_plan({name: [] for name in names}), solver, jobs=1)

    assert solver.started == names


async def test_a_blocked_service_is_told_at_once_though_no_place_is_free():
    solver = FakeSolver(outcomes={"bad": [BROKEN]}, seconds={"slow": 0.02})

    events = await run(make_plan({"bad": [], "slow": [], "app": ["bad"]}), solver, jobs=1)

    assert [event.service for event in events if isinstance(event, SolveFinished)] == ["bad", "app", "slow"]


async def test_less_than_one_solve_at_once_is_refused():
    with pytest.raises(ValueError, match="0 solves at once are not possible"):
        await run(make_plan({"app": []}), FakeSolver(), jobs=0)


async def test_a_service_that_waits_for_its_base_takes_nobodys_place():
    solver = FakeSolver(seconds={"base": 0.02, "other": 0.001})

    await run(make_plan({"base": [], "app": ["base"], "other": []}), solver, jobs=2)

    assert sorted(solver.started[:2]) == ["base", "other"]
    assert solver.most_running == 2


async def test_what_builds_on_a_failed_service_is_blocked_and_names_it_and_the_rest_goes_on():
    solver = FakeSolver(outcomes={"base": [BROKEN]})

    events = await run(make_plan({"base": [], "lib": ["base"], "app": ["lib"], "other": []}), solver)

    assert kinds(events) == {"base": "step_failed", "lib": "blocked", "app": "blocked", "other": "built"}
    lib = ends(events)["lib"]
    assert lib.failure is not None
    assert lib.failure.message == "it builds on base, which has no image"
    assert (lib.started_at, lib.attempts) == (None, 0)
    assert sorted(solver.started) == ["base", "other"]


async def test_fail_fast_cancels_what_runs_and_starts_nothing_more():
    solver = FakeSolver(outcomes={"bad": [BROKEN]}, seconds={"bad": 0.01, "slow": 30})

    events = await run(make_plan({"bad": [], "slow": [], "next": []}), solver, fail_fast=True)

    assert kinds(events) == {"bad": "step_failed", "slow": "cancelled", "next": "cancelled"}
    assert solver.cancelled == ["slow"]
    assert "next" not in solver.started


async def test_without_fail_fast_the_others_are_built_to_their_end():
    solver = FakeSolver(outcomes={"bad": [BROKEN]}, seconds={"slow": 0.02})

    events = await run(make_plan({"bad": [], "slow": [], "next": []}), solver)

    assert kinds(events) == {"bad": "step_failed", "slow": "built", "next": "built"}


async def test_a_transient_failure_is_tried_again_and_told():
    solver = FakeSolver(outcomes={"app": [TRANSIENT, BUILT]})

    events = await run(make_plan({"app": []}), solver)

    [retried] = [event for event in events if isinstance(event, SolveRetried)]
    assert (retried.attempt, retried.failure) == (1, TRANSIENT)
    assert [event.attempt for event in events if isinstance(event, SolveStarted)] == [1, 2]
    assert (ends(events)["app"].attempts, kinds(events)["app"]) == (2, "built")


@pytest.mark.parametrize(("retries", "attempts"), [(0, 1), (1, 2), (3, 4)])
async def test_a_failure_that_stays_is_tried_again_as_often_as_was_said_and_not_more(retries: int, attempts: int):
    solver = FakeSolver(outcomes={"app": [TRANSIENT]})

    events = await run(make_plan({"app": []}, keys=f"retries: {retries}"), solver)

    assert len(solver.started) == attempts
    assert ends(events)["app"].attempts == attempts
    assert ends(events)["app"].failure == TRANSIENT


async def test_an_engines_race_is_tried_once_more_and_then_without_cache_import():
    race = make_failure(FailureKind.ENGINE_RACE, transient=True)
    imports: list[bool] = []

    class Racing(FakeSolver):
        async def solve(self, solve, bases, events):
            imports.append(solve.cache_import)
            return await super().solve(solve, bases, events)

    events = await run(make_plan({"app": []}), Racing(outcomes={"app": [race]}))

    assert imports == [True, True, False]
    assert ends(events)["app"].attempts == 3


async def test_a_race_is_not_tried_again_where_no_retries_are_wanted():
    solver = FakeSolver(outcomes={"app": [make_failure(FailureKind.ENGINE_RACE, transient=True)]})

    await run(make_plan({"app": []}, keys="retries: 0"), solver)

    assert len(solver.started) == 1


async def test_files_that_change_during_two_builds_are_not_waited_for():
    changed = make_failure(FailureKind.CONTEXT_CHANGED, transient=True)

    events = await run(make_plan({"app": []}, keys="retries: 5"), FakeSolver(outcomes={"app": [changed]}))

    assert ends(events)["app"].attempts == 2


async def test_a_registry_that_limits_is_left_alone_for_longer(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(execute_module, "RATE_LIMIT_DELAY_S", 0.04)
    limited = make_failure(FailureKind.RATE_LIMITED, transient=True)

    events = await run(
        make_plan({"a": [], "b": []}), FakeSolver(outcomes={"a": [limited, BUILT], "b": [TRANSIENT, BUILT]})
    )

    delays = {event.service: event.delay_s for event in events if isinstance(event, SolveRetried)}
    assert delays["a"] >= 0.02
    assert delays["b"] <= 0.01


async def test_a_retrys_delay_leaves_the_programs_own_random_numbers_alone():
    before = random.getstate()

    events = await run(make_plan({"app": []}), FakeSolver(outcomes={"app": [TRANSIENT, BUILT]}))

    assert any(isinstance(event, SolveRetried) for event in events)
    assert random.getstate() == before


async def test_nothing_more_is_started_on_a_frozen_engine():
    frozen = make_failure(FailureKind.ENGINE_FROZEN)
    solver = FakeSolver(outcomes={"first": [frozen]})

    events = await run(make_plan({"first": [], "next": [], "last": []}), solver, jobs=1)

    assert kinds(events) == dict.fromkeys(["first", "next", "last"], "engine_frozen")
    assert solver.started == ["first"]


async def test_a_failure_that_will_come_again_is_not_tried_again():
    solver = FakeSolver(outcomes={"app": [BROKEN, BUILT]})

    events = await run(make_plan({"app": []}, keys="retries: 5"), solver)

    assert (len(solver.started), kinds(events)["app"]) == (1, "step_failed")


async def test_a_solve_over_its_timeout_is_stopped_and_says_so():
    solver = FakeSolver(seconds={"app": 30})

    events = await run(make_plan({"app": []}, keys="timeout: 0.03"), solver)

    failure = ends(events)["app"].failure
    assert failure is not None
    assert (failure.kind, failure.message) == (
        FailureKind.TIMED_OUT,
        "it was not built within its timeout of 0.03 s",
    )
    assert solver.cancelled == ["app"]


async def test_the_timeout_covers_all_attempts_of_a_service():
    solver = FakeSolver(outcomes={"app": [TRANSIENT]}, seconds={"app": 0.02})

    events = await run(make_plan({"app": []}, keys="timeout: 0.1, retries: 10"), solver)

    assert kinds(events)["app"] == "timed_out"
    assert 1 < len(solver.started) < 10


@pytest.mark.proof
async def test_waiting_for_a_place_does_not_count_against_the_timeout():
    names = [f"s{at}" for at in range(4)]
    solver = FakeSolver(seconds=dict.fromkeys(names, 0.05))

    events = await run(make_plan({name: [] for name in names}, keys="timeout: 0.15"), solver, jobs=1)

    assert set(kinds(events).values()) == {"built"}


async def test_a_stop_in_the_middle_cancels_what_runs_and_starts_nothing_more():
    solver = FakeSolver(seconds={"slow": 30})
    stop = Stop()
    events: list[Event] = []

    async with execute(make_plan({"quick": [], "slow": [], "next": ["slow"]}), solver, jobs=2, stop=stop) as stream:
        async for event in stream:
            events.append(event)
            if isinstance(event, SolveFinished) and event.service == "quick":
                stop.request(exit_code=130)

    assert kinds(events) == {"quick": "built", "slow": "cancelled", "next": "blocked"}
    assert solver.cancelled == ["slow"]
    assert stop.exit_code == 130


async def test_a_stop_before_the_start_builds_nothing():
    solver = FakeSolver()
    stop = Stop()
    stop.request()

    events = await run(make_plan({"a": [], "b": []}), solver, stop=stop)

    assert kinds(events) == {"a": "cancelled", "b": "cancelled"}
    assert solver.started == []


async def test_a_stop_ends_the_wait_for_a_retry(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(execute_module, "RETRY_DELAY_S", 60)
    solver = FakeSolver(outcomes={"app": [TRANSIENT]})
    stop = Stop()
    events: list[Event] = []

    with anyio.fail_after(5):
        async with execute(make_plan({"app": []}), solver, jobs=1, stop=stop) as stream:
            async for event in stream:
                events.append(event)
                if isinstance(event, SolveRetried):
                    stop.request()

    assert kinds(events) == {"app": "cancelled"}


async def test_a_failure_that_comes_after_a_stop_is_a_cancellation():
    class Stubborn(FakeSolver):
        async def solve(self, _solve, _bases, _events):
            stop.request()
            return BROKEN

    stop = Stop()

    events = await run(make_plan({"app": []}), Stubborn(), stop=stop)

    assert kinds(events) == {"app": "cancelled"}


async def test_an_image_that_was_ready_when_the_stop_came_is_kept():
    class Ready(FakeSolver):
        async def solve(self, _solve, _bases, _events):
            stop.request()
            return BUILT

    stop = Stop()

    events = await run(make_plan({"app": []}), Ready(), stop=stop)

    assert kinds(events) == {"app": "built"}


async def test_leaving_the_block_early_cancels_everything_that_runs():
    solver = FakeSolver(seconds={"a": 30, "b": 30})

    async with execute(make_plan({"a": [], "b": [], "c": []}), solver, jobs=2) as events:
        async for event in events:
            if isinstance(event, StepStarted) and solver.running == 2:
                break

    assert sorted(solver.cancelled) == ["a", "b"]
    assert solver.running == 0


async def test_an_error_in_the_block_cancels_everything_and_comes_out():
    solver = FakeSolver(seconds={"a": 30})

    async def read_badly() -> None:
        async with execute(make_plan({"a": []}), solver, jobs=1) as events:
            async for _ in events:
                raise LookupError("the reader's own")

    with pytest.raises(BaseExceptionGroup) as caught:
        await read_badly()

    assert caught.group_contains(LookupError, match="the reader's own")
    assert solver.cancelled == ["a"]


async def test_a_slow_reader_holds_the_builds_up_and_loses_nothing(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(execute_module, "BUFFER", 1)
    names = [f"s{at}" for at in range(10)]
    seen: list[Event] = []

    async with execute(make_plan({name: [] for name in names}), FakeSolver(), jobs=10) as events:
        async for event in events:
            await anyio.sleep(0.001)
            seen.append(event)

    assert len(seen) == 4 * len(names)


async def test_a_service_learns_what_its_bases_were_built_to():
    given_bases: dict[str, str | None] = {}

    class Watching(FakeSolver):
        async def solve(self, solve, bases, events):
            given_bases.update({base: bases[base].digest for base in solve.depends_on})
            return await super().solve(solve, bases, events)

    await run(make_plan({"base": [], "app": ["base"]}), Watching())

    assert given_bases == {"base": make_digest("image of base")}


async def test_a_service_outside_the_plan_whose_image_is_there_is_built_on_and_not_built():
    plan = make_plan({"base": [], "lib": ["base"], "app": ["lib", "base"]})
    skipped = Solved(name="test/base:latest", digest=make_digest("of base"), pinned=True)
    given_bases: dict[str, str | None] = {}

    class Watching(FakeSolver):
        async def solve(self, solve, bases, events):
            given_bases.update({f"{solve.name} on {base}": bases[base].digest for base in solve.depends_on})
            return await super().solve(solve, bases, events)

    solver = Watching()
    builds = Plan(plan.project, tuple(solve for solve in plan.solves if solve.name != "base"))

    async with execute(builds, solver, jobs=2, solved={"base": skipped}) as stream:
        events = [event async for event in stream]

    assert kinds(events) == {"lib": "built", "app": "built"}
    assert solver.started == ["lib", "app"]
    assert given_bases == {
        "lib on base": make_digest("of base"),
        "app on base": make_digest("of base"),
        "app on lib": make_digest("image of lib"),
    }


async def test_what_was_given_as_solved_is_left_as_it_is():
    given_solved = {"base": BUILT}

    async with execute(make_plan({"app": []}), FakeSolver(), jobs=1, solved=given_solved) as events:
        _ = [event async for event in events]

    assert given_solved == {"base": BUILT}


async def test_an_empty_plan_ends_at_once():
    async with execute(Plan("test", ()), FakeSolver(), jobs=1, solved={"base": BUILT}) as events:
        assert [event async for event in events] == []


async def test_the_reason_for_a_build_stands_in_its_first_event():
    plan = make_plan({"app": []})

    async with execute(plan, FakeSolver(), jobs=1, reasons={"app": "first build"}) as events:
        started = [event async for event in events if isinstance(event, SolveStarted)]

    assert [event.reason for event in started] == ["first build"]


def test_the_first_exit_code_asked_for_counts():
    stop = Stop()

    stop.request()
    stop.request(exit_code=130)
    stop.request(exit_code=143)

    assert (stop.requested, stop.exit_code) == (True, 130)


_GRAPHS = st.integers(1, 7).flatmap(
    lambda count: st.tuples(
        st.tuples(*[st.sets(st.integers(0, at - 1), max_size=3) if at else st.just(set()) for at in range(count)]),
        st.sets(st.integers(0, count - 1), max_size=2),
    )
)


def _checked(graph: dict[str, list[str]], failing: set[str], jobs: int, *, fail_fast: bool) -> Callable[[], object]:
    async def run_and_check() -> None:
        solver = FakeSolver(
            outcomes={name: [BROKEN] for name in failing},
            seconds={name: 0.0005 * (at % 3) for at, name in enumerate(graph)},
        )
        plan = make_plan(graph)

        events = await run(plan, solver, jobs=jobs, fail_fast=fail_fast)

        found = kinds(events)
        assert found.keys() == graph.keys()
        assert solver.most_running <= jobs
        assert len(set(solver.started)) == len(solver.started)
        at = {("end", e.service): n for n, e in enumerate(events) if isinstance(e, SolveFinished)}
        at |= {("start", e.service): n for n, e in enumerate(events) if isinstance(e, SolveStarted)}
        for name, bases in graph.items():
            if found[name] == "built":
                assert name not in failing
                assert all(found[base] == "built" for base in bases)
            if name in solver.started:
                assert all(at["end", base] < at["start", name] for base in bases)
            if not fail_fast:
                lost = any(found[base] != "built" for base in bases)
                assert found[name] == ("blocked" if lost else "step_failed" if name in failing else "built")
        if failing and fail_fast:
            assert "step_failed" in found.values()

    return run_and_check


@pytest.mark.proof
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@settings(max_examples=25)
@given(drawn=_GRAPHS, jobs=st.integers(1, 4), fail_fast=st.booleans())
def test_in_any_graph_with_any_failures_order_limit_and_blame_hold(
    backend: str, *, drawn: tuple[tuple[set[int], ...], set[int]], jobs: int, fail_fast: bool
):
    edges, failing = drawn
    graph = {f"s{at}": [f"s{base}" for base in bases] for at, bases in enumerate(edges)}

    anyio.run(_checked(graph, {f"s{at}" for at in failing}, jobs, fail_fast=fail_fast), backend=backend)


def test_a_failure_is_a_value_that_can_be_compared():
    assert Failure(kind=FailureKind.BLOCKED, message="x") == Failure(kind=FailureKind.BLOCKED, message="x")
