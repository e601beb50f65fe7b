"""What is started first, and how near that comes to a list schedule."""

from __future__ import annotations

import dataclasses
import heapq
import os
import random
from collections.abc import Mapping, Sequence
from pathlib import Path

import anyio
import pytest
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from buildorch.execute import execute
from buildorch.ledger import Ledger
from buildorch.plan import Plan, Solve
from buildorch.record import Step
from buildorch.schedule import by_urgency
from buildorch.testing import FakeSolver, make_plan, make_record

SEED = 20261127
GRAPHS = 200 if os.environ.get("BUILDORCH_SOAK") else 6


def order(graph: Mapping[str, Sequence[str]], expected_s: Mapping[str, float]) -> list[str]:
    return [solve.name for solve in by_urgency(make_plan(graph).solves, expected_s)]


def test_what_most_work_waits_for_is_first():
    graph: dict[str, list[str]] = {"long": [], "short": [], "base": [], "app": ["base"]}

    assert order(graph, {"long": 50, "short": 5, "base": 10, "app": 45}) == ["base", "long", "app", "short"]


def test_equally_urgent_services_keep_their_order():
    assert order({"d": [], "b": [], "c": []}, {}) == ["d", "b", "c"]


def test_a_service_that_was_never_built_is_taken_for_one_like_the_others():
    graph: dict[str, list[str]] = {"quick": [], "new": [], "slow": []}

    assert order(graph, {"quick": 1, "slow": 9, "other": 5}) == ["slow", "new", "quick"]


def test_a_service_whose_builds_took_no_time_stands_after_its_base():
    assert order({"app": ["base"], "base": []}, {"app": 0.0, "base": 0.0}) == ["base", "app"]


@pytest.mark.proof
@given(
    edges=st.lists(st.sets(st.integers(0, 11), max_size=3), min_size=1, max_size=12),
    seconds=st.lists(st.floats(0, 1000), min_size=12, max_size=12),
)
def test_in_any_graph_a_service_stands_after_all_it_builds_on(edges: list[set[int]], seconds: list[float]):
    graph = {f"s{at}": [f"s{base}" for base in bases if base < at] for at, bases in enumerate(edges)}

    ordered = order(graph, {f"s{at}": one for at, one in enumerate(seconds)})

    assert sorted(ordered) == sorted(graph)
    assert all(ordered.index(base) < ordered.index(name) for name, bases in graph.items() for base in bases)


def random_graph(rng: random.Random) -> dict[str, list[str]]:
    """Up to 500 services: some in layers, as base images are, some alone."""
    names = [f"s{at:03}" for at in range(rng.randint(2, 500))]
    rng.shuffle(names)
    density = rng.choice([0.0, 0.5, 1.0, 2.0])
    return {
        name: rng.sample(names[:at], min(at, round(rng.expovariate(1 / density)) if density else 0))
        for at, name in enumerate(names)
    }


def list_schedule(graph: Mapping[str, Sequence[str]], seconds: Mapping[str, float], jobs: int) -> float:
    """The makespan of the textbook's list schedule by bottom level: whenever a machine is free, the most urgent ready one."""
    dependants: dict[str, list[str]] = {name: [] for name in graph}
    for name, bases in graph.items():
        for base in bases:
            dependants[base].append(name)
    level: dict[str, float] = {}
    for name in reversed(list(graph)):
        level[name] = seconds[name] + max((level[one] for one in dependants[name]), default=0.0)
    missing = {name: len(bases) for name, bases in graph.items()}
    ready = [(-level[name], name) for name, count in missing.items() if not count]
    heapq.heapify(ready)
    running: list[tuple[float, str]] = []
    now = 0.0
    while ready or running:
        while ready and len(running) < jobs:
            _, name = heapq.heappop(ready)
            heapq.heappush(running, (now + seconds[name], name))
        now, done = heapq.heappop(running)
        for one in dependants[done]:
            missing[one] -= 1
            if not missing[one]:
                heapq.heappush(ready, (-level[one], one))
    return now


def solves_of(graph: Mapping[str, Sequence[str]]) -> tuple[Solve, ...]:
    """As `make_plan`, without a services file: one of 500 services takes longer to read than to schedule."""
    [model] = make_plan({"model": []}).solves
    return tuple(
        dataclasses.replace(model, name=name, bases={base: base for base in bases}) for name, bases in graph.items()
    )


def on_builders(plan: Plan, builders: Mapping[str, str], limits: Mapping[str, int]) -> Plan:
    """The plan with each service on a builder; the empty name is the builder in use."""
    solves = (dataclasses.replace(solve, builder=builders[solve.name] or None) for solve in plan.solves)
    return Plan(plan.project, tuple(solves), limits)


def makespan(plan: Plan, solver: FakeSolver, jobs: int) -> float:
    """How long the scheduler takes by a clock that only runs while everybody waits."""

    async def run() -> float:
        begun = anyio.current_time()
        async with execute(plan, solver, jobs=jobs) as events:
            async for _ in events:
                pass
        return anyio.current_time() - begun

    clock = trio.testing.MockClock(autojump_threshold=0)
    return anyio.run(run, backend="trio", backend_options={"clock": clock})


@pytest.mark.proof
def test_the_makespan_is_that_of_a_list_schedule_on_random_graphs():
    rng = random.Random(SEED)
    worst = 0.0
    for _ in range(GRAPHS):
        graph = random_graph(rng)
        seconds = {name: rng.choice([0.1, 1, 5, 20, 60]) * rng.uniform(0.5, 2) for name in graph}
        jobs = rng.choice([1, 2, 4, 16])
        ordered = Plan("test", by_urgency(solves_of(graph), seconds))

        solver = FakeSolver(seconds=seconds)
        worst = max(worst, makespan(ordered, solver, jobs) / list_schedule(graph, seconds, jobs))
        assert solver.most_running <= jobs

    print(f"seed {SEED}, {GRAPHS} graphs: at worst {worst:.3f} of the list schedule's makespan")
    assert worst <= 1.10


@pytest.mark.proof
@settings(max_examples=30)
@given(
    builders=st.lists(st.sampled_from(["big", "small", ""]), min_size=1, max_size=20),
    jobs=st.integers(1, 6),
    limits=st.fixed_dictionaries({"big": st.integers(1, 4), "small": st.integers(1, 2)}),
)
def test_no_builder_has_more_than_its_limit_and_all_are_built(builders: list[str], jobs: int, limits: dict[str, int]):
    running: dict[str, int] = dict.fromkeys(("big", "small", ""), 0)
    most = dict(running)

    class Counting(FakeSolver):
        async def solve(self, solve, bases, events):
            builder = solve.builder or ""
            running[builder] += 1
            most[builder] = max(most[builder], running[builder])
            try:
                return await super().solve(solve, bases, events)
            finally:
                running[builder] -= 1

    graph: dict[str, list[str]] = {f"s{at}": [] for at in range(len(builders))}
    solver = Counting(seconds=dict.fromkeys(graph, 1.0))

    makespan(on_builders(make_plan(graph), dict(zip(graph, builders, strict=True)), limits), solver, jobs)

    assert sorted(solver.started) == sorted(graph)
    assert solver.most_running <= jobs
    assert all(most[name] <= limits[name] for name in limits)


def test_a_place_that_a_full_builder_cannot_use_goes_to_another():
    graph: dict[str, list[str]] = {"a": [], "b": [], "c": []}
    plan = on_builders(make_plan(graph), {"a": "small", "b": "small", "c": ""}, {"small": 1})

    assert makespan(plan, FakeSolver(seconds=dict.fromkeys(graph, 10.0)), 2) == pytest.approx(20)


def test_a_service_is_expected_to_take_what_its_longest_of_the_last_builds_took(tmp_path: Path):
    took = {"app": [900.0, 3.0, 40.0, 2.0, 2.0, 2.0], "web": [7.0]}
    with Ledger(tmp_path / "ledger.db") as ledger:
        for service, durations in took.items():
            for at, seconds in enumerate(durations):
                run_id = f"{service}-{at}"
                ledger.begin(run_id, project="test", started_at="2026-01-31T12:00:00Z")
                ledger.commit(run_id, service, dataclasses.replace(make_record(), duration_s=seconds))
        ledger.begin("last", project="test", started_at="2026-01-31T12:00:00Z")
        ledger.commit("last", "web", dataclasses.replace(make_record("failed"), duration_s=5000.0))

        assert ledger.durations(["app", "web", "new"]) == {"app": 40.0, "web": 7.0}


def test_a_step_is_expected_to_take_what_it_took_at_most_when_it_was_executed_if_the_last_build_has_it(tmp_path: Path):
    builds = [{"a": 30.0, "gone": 5.0, "b": 0.0}, {"a": 0.0, "new": 2.5, "b": 0.0}]
    with Ledger(tmp_path / "ledger.db") as ledger:
        for at, steps in enumerate(builds):
            timeline = tuple(
                Step(name=name, is_instruction=True, started_at="", duration_s=took, cached=took == 0, failed=False)
                for name, took in steps.items()
            )
            ledger.begin(f"r{at}", project="test", started_at="2026-01-31T12:00:00Z")
            ledger.commit(f"r{at}", "app", dataclasses.replace(make_record(), timeline=timeline * (at + 1)))
        ledger.begin("older", project="test", started_at="2026-01-31T12:00:00Z")
        ledger.commit("older", "web", make_record())

        known = ledger.step_durations(["app", "web", "never"])

    assert known == {"app": {"a": 30.0, "new": 5.0, "b": None}}
