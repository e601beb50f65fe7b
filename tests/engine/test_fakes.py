"""`buildorch.testing` against the real thing: the fake solver keeps the promises of the real one."""

from __future__ import annotations

import os
from pathlib import Path

import anyio
import pytest
from sandbox import Sandbox

from buildorch import pipeline
from buildorch.buildx.client import find_buildx
from buildorch.buildx.solver import BuildxSolver
from buildorch.engine import Engine
from buildorch.events import SolveFinished, SolveStarted, StepFinished, StepStarted
from buildorch.execute import execute
from buildorch.record import Failure, FailureKind, Solved
from buildorch.testing import FakeSolver, make_engine_facts, make_failure, make_platform

pytestmark = pytest.mark.engine


@pytest.fixture
def project(sandbox: Sandbox) -> Sandbox:
    sandbox.service("base", "FROM scratch\nCOPY Dockerfile /\n")
    sandbox.service("app", "FROM base\nCOPY Dockerfile /app\n")
    sandbox.service("bad", "FROM scratch\nCOPY missing /\n")
    sandbox.services("services: {base: {}, app: {contexts: {base: service:base}}, bad: {}}\n")
    return sandbox


async def events_of(project: Sandbox, solver) -> list:
    plan = pipeline.plan(pipeline.BuildRequest(file=project.root / "services.yaml")).plan
    async with execute(plan, solver, jobs=2) as stream:
        return [event async for event in stream]


def shape(events: list, service: str) -> list[str]:
    """The kinds of one service's events, repeats and optional ones left out."""
    kinds = [type(event) for event in events if getattr(event, "service", None) == service]
    wanted = (SolveStarted, StepStarted, StepFinished, SolveFinished)
    return [kind.__name__ for kind in dict.fromkeys(kinds) if kind in wanted]


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_fake_and_real_solver_give_streams_of_the_same_shape(project: Sandbox, tmp_path: Path, backend: str):
    real_solver = BuildxSolver(find_buildx(), tmp_path)
    fake_solver = FakeSolver(outcomes={"bad": [make_failure(FailureKind.INPUT_MISSING)]})

    real = anyio.run(events_of, project, real_solver, backend=backend)
    fake = anyio.run(events_of, project, fake_solver, backend=backend)

    for service in ("base", "app", "bad"):
        assert shape(real, service) == shape(fake, service)
    for events in (real, fake):
        ends = {event.service: event for event in events if isinstance(event, SolveFinished)}
        assert isinstance(ends["app"].solved, Solved)
        assert ends["app"].solved.pinned
        assert isinstance(ends["bad"].failure, Failure)
        assert ends["bad"].failure.kind is FailureKind.INPUT_MISSING
        assert ends["app"].attempts == 1


def test_made_facts_have_the_fields_a_real_engine_fills(project: Sandbox):
    real = Engine.at(os.environ["DOCKER_HOST"]).info().facts(find_buildx().version())
    made = make_engine_facts()

    assert {type(getattr(real, name)) for name in real.__slots__} == {
        type(getattr(made, name)) for name in made.__slots__
    }
    assert real.store in {"containerd", "graphdriver"}
    assert real.cpus >= 1


def test_a_made_platform_adds_up_as_a_real_one_does(project: Sandbox):
    report = project.build(services=["base"])
    [real] = report.services["base"].platforms.values()

    for platform in (real, make_platform()):
        assert platform.unpacked_bytes == sum(layer.unpacked_bytes for layer in platform.layers)
        assert platform.compressed_bytes >= sum(layer.compressed_bytes for layer in platform.layers)
