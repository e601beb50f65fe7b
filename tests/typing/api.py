"""The public API as a program uses it; mypy checks this file, nothing runs it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, assert_never, assert_type

import buildorch
from buildorch.execute import execute
from buildorch.record import FailureKind, PlatformRecord
from buildorch.testing import FakeSolver, make_failure, make_plan

if TYPE_CHECKING:
    from buildorch.plan import Solve


def build_and_read() -> int:
    report = buildorch.build("services.yaml", services=["backend"], jobs=4, output="push", platforms=("linux/amd64",))
    assert_type(report, buildorch.Report)
    for name, record in report.services.items():
        assert_type(name, str)
        assert_type(record, buildorch.ServiceRecord)
        assert_type(record.digest, str | None)
        assert_type(record.platforms, dict[str, PlatformRecord])
        assert_type(record.findings, tuple[buildorch.Finding, ...])
        if record.error is not None:
            assert_type(record.error, buildorch.Failure)
            assert_type(record.error.kind, FailureKind)
            assert_type(record.error.log, tuple[str, ...])
    assert_type(report.raise_for_status(), buildorch.Report)
    assert_type(report.to_json(), str)
    return report.exit_code


def refuse_what_is_wrong() -> None:
    buildorch.build(output="store")  # type: ignore[arg-type]
    buildorch.build(jobs="4")  # type: ignore[arg-type]
    buildorch.build("services.yaml", ["backend"])  # type: ignore[call-arg]
    buildorch.BuildRequest(Path("services.yaml"))  # type: ignore[call-arg]
    buildorch.nothing  # type: ignore[attr-defined]  # noqa: B018


def say_why_not() -> str:
    try:
        buildorch.build()
    except buildorch.ServicesFileError as error:
        return "\n".join(f"{problem.line}:{problem.column} {problem.message}" for problem in error.problems)
    except (buildorch.UsageError, buildorch.EngineError) as error:
        assert_type(error.exit_code, int)
        return f"{error} ({error.hint})"
    except buildorch.BuildorchError as error:
        return str(error)
    return ""


def plan() -> list[str]:
    found = buildorch.make_plan(buildorch.BuildRequest(file=Path("services.yaml"), services=("backend",)))
    assert_type(found, buildorch.Plan)
    solves: tuple[Solve, ...] = found.solves
    return [reference for solve in solves for reference in solve.references]


def hand_over(report: buildorch.Report) -> list[str]:
    images = buildorch.images(record=report, services=["backend"])
    assert_type(images, dict[str, buildorch.PinnedImage])
    buildorch.images("services.yaml", record="run.json", max_age_s=3600)
    return [f"{name}={pinned.image}" for name, pinned in images.items()]


async def build_from_async_code() -> buildorch.Report:
    return assert_type(await buildorch.build_async(), buildorch.Report)


async def follow() -> buildorch.Report | None:
    stop = buildorch.Stop()
    async with buildorch.stream(buildorch.BuildRequest(), stop=stop) as events:
        async for event in events:
            if isinstance(event, buildorch.ServiceFinished):
                assert_type(event.record, buildorch.ServiceRecord)
                stop.request(exit_code=1)
            if isinstance(event, buildorch.RunFinished):
                return event.report
    return None


def replayed(lines: list[str]) -> buildorch.Report:
    return assert_type(buildorch.replay(lines), buildorch.Report)


def name_of(event: buildorch.Event) -> str:
    """Every kind of event can be told by its name, and the list is whole."""
    match event.event:
        case "lease_awaited" | "run_started" | "run_finished":
            return "run"
        case "solve_started" | "solve_retried" | "solve_finished" | "service_finished":
            return "service"
        case "step_started" | "step_finished" | "step_progress" | "step_logged" | "step_warned":
            return "step"
        case _:
            assert_never(event.event)


async def schedule_without_an_engine() -> list[buildorch.Event]:
    solver = FakeSolver(outcomes={"app": [make_failure(FailureKind.REGISTRY, transient=True)]})
    async with execute(make_plan({"app": ["base"], "base": []}), solver, jobs=2) as events:
        return [event async for event in events]
