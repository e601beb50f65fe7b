"""The solver with a buildx that replays recorded builds: a real process, its group, its end."""

from __future__ import annotations

import dataclasses
import math
import os
import time
from collections.abc import Callable
from pathlib import Path

import anyio
import pytest
from fakes import install_buildx

from buildorch.buildx import deadlines
from buildorch.buildx import solver as solver_module
from buildorch.buildx.client import Buildx
from buildorch.buildx.solver import BuildxSolver
from buildorch.events import Event
from buildorch.plan import Selection, Solve, resolve
from buildorch.record import Failure, FailureKind, Solved, Steps
from buildorch.services import parse
from buildorch.testing import make_digest

pytestmark = pytest.mark.anyio

DATA = Path(__file__).with_name("data")
DIGEST = make_digest("image")


@pytest.fixture
def solve(tmp_path: Path) -> Solve:
    (tmp_path / "services" / "app").mkdir(parents=True)
    (tmp_path / "services" / "app" / "Dockerfile").write_text("FROM scratch\n")
    file = parse("version: 1\nproject: shop\nservices: {app: {contexts: {b: service:base}}, base: }", "services.yaml")
    return resolve(file, Selection(), root=tmp_path).solves[-1]


@pytest.fixture
def solver(tmp_path: Path) -> BuildxSolver:
    plugin = install_buildx(tmp_path / "docker", replay=DATA / "executed.rawjson", digest=DIGEST)
    folder = tmp_path / "run"
    folder.mkdir()
    return BuildxSolver(Buildx((str(plugin),)), folder)


def behave(solve: Solve, script: str) -> Path:
    """What the build does in place of replaying; gives the folder it does it in."""
    assert isinstance(solve.context, Path)
    (solve.context / "behave.sh").write_text(script)
    return solve.context


async def solved(solver: BuildxSolver, solve: Solve) -> tuple[Solved | Failure, list[Event]]:
    base = Solved(name="shop/base:latest", digest=make_digest("base"), pinned=True)
    send, receive = anyio.create_memory_object_stream[Event](math.inf)
    async with send, receive:
        outcome = await solver.solve(solve, {"base": base}, send)
        return outcome, [receive.receive_nowait() for _ in range(receive.statistics().current_buffer_used)]


async def test_a_build_that_succeeds_gives_its_digest_bases_steps_and_checks(solver: BuildxSolver, solve: Solve):
    outcome, events = await solved(solver, solve)

    assert isinstance(outcome, Solved)
    assert (outcome.name, outcome.digest, outcome.pinned) == ("shop/app:latest", DIGEST, True)
    assert outcome.steps == Steps(total=4, cached=0, executed=4)
    assert list(outcome.bases) == ["python:3.13-slim", "b"]
    assert outcome.bases["b"] == make_digest("base")
    assert len(outcome.warnings) == 1
    assert {event.event for event in events} == {
        "step_started",
        "step_finished",
        "step_progress",
        "step_logged",
        "step_warned",
    }


async def test_the_process_gets_its_arguments_with_an_alias_and_the_bases_image(solver: BuildxSolver, solve: Solve):
    assert isinstance(solve.context, Path)

    await solved(solver, solve)

    argv = (solve.context / "argv.txt").read_text().splitlines()
    assert argv[:2] == ["build", "--progress=rawjson"]
    assert f"--build-context=b=docker-image://shop/base:latest@{make_digest('base')}" in argv
    assert argv[-2] == "--"
    assert Path(argv[-1]).parent == solver.folder
    assert Path(argv[-1]).name.startswith("app-")


@pytest.mark.parametrize(("at_once", "own", "threads"), [(1, {}, "unset"), (2, {}, "1"), (2, {"GOMAXPROCS": "7"}, "7")])
async def test_where_as_many_builds_run_as_there_are_cpus_each_client_has_one_unless_the_user_says_otherwise(
    solver: BuildxSolver, solve: Solve, monkeypatch: pytest.MonkeyPatch, at_once: int, own: dict[str, str], threads: str
):
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    folder = behave(solve, 'echo "${GOMAXPROCS:-unset} $GOGC" > "$CONTEXT/runtime.txt"; exit 1')
    environ = {"PATH": os.environ["PATH"], "CONTEXT": str(folder)} | own

    await solved(dataclasses.replace(solver, at_once=at_once, environ=environ), solve)

    assert (folder / "runtime.txt").read_text() == f"{threads} off\n"


async def test_a_build_that_fails_is_told_by_what_it_printed(solver: BuildxSolver, solve: Solve):
    behave(solve, f"cat {DATA / 'failed_step.rawjson'} >&2; exit 1")

    outcome, _ = await solved(solver, solve)

    assert isinstance(outcome, Failure)
    assert (outcome.kind, outcome.line) == (FailureKind.STEP_FAILED, 3)


@pytest.mark.parametrize("script", ["exit 0", 'echo rubbish > "$metadata"; exit 0', 'echo "[]" > "$metadata"; exit 0'])
async def test_a_build_that_exits_with_0_but_says_nothing_of_an_image_has_failed(
    solver: BuildxSolver, solve: Solve, script: str
):
    behave(solve, script)

    outcome, _ = await solved(solver, solve)

    assert isinstance(outcome, Failure)
    assert outcome.message == "docker buildx build exited with 0 but wrote no metadata"


async def test_an_earlier_attempts_metadata_does_not_count(solver: BuildxSolver, solve: Solve):
    await solved(solver, solve)
    behave(solve, "exit 0")

    outcome, _ = await solved(solver, solve)

    assert isinstance(outcome, Failure)


@pytest.mark.parametrize(
    ("metadata", "digest", "pinned"),
    [
        ('{"containerimage.digest": "sha256:a", "containerimage.config.digest": "sha256:b"}', "sha256:a", True),
        ('{"containerimage.digest": "sha256:a", "containerimage.config.digest": "sha256:a"}', "sha256:a", False),
        ("{}", None, False),
    ],
    ids=["containerd", "graphdriver", "local output"],
)
async def test_a_digest_is_pinned_unless_it_is_the_configs(
    solver: BuildxSolver, solve: Solve, metadata: str, digest: str | None, *, pinned: bool
):
    behave(solve, f"echo '{metadata}' > \"$metadata\"; exit 0")

    outcome, _ = await solved(solver, solve)

    assert isinstance(outcome, Solved)
    assert (outcome.digest, outcome.pinned) == (digest, pinned)


async def test_a_program_that_cannot_be_started_is_a_failure(solver: BuildxSolver, solve: Solve):
    missing = BuildxSolver(Buildx(("/nonexistent/docker-buildx",)), solver.folder)

    outcome, _ = await solved(missing, solve)

    assert isinstance(outcome, Failure)
    assert "No such file or directory" in outcome.message


async def test_a_build_that_prints_rubbish_and_a_line_of_megabytes_is_built(solver: BuildxSolver, solve: Solve):
    behave(solve, "head -c 9000000 /dev/zero >&2; printf '\\377\\n{\\n\\033[2J\\n' >&2")

    outcome, _ = await solved(solver, solve)

    assert isinstance(outcome, Solved)
    assert outcome.steps.total == 4


@pytest.mark.proof
async def test_a_build_on_a_frozen_engine_is_ended_and_says_so(
    solver: BuildxSolver, solve: Solve, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(deadlines, "SILENCE_S", 0.1)
    folder = behave(solve, 'echo $$ > "$context/new"; mv "$context/new" "$context/parent"; sleep 60')
    watched = dataclasses.replace(solver, is_frozen=(folder / "parent").exists)

    outcome, _ = await solved(watched, solve)

    assert isinstance(outcome, Failure)
    assert outcome.kind is FailureKind.ENGINE_FROZEN
    assert gone(int((folder / "parent").read_text()))


@pytest.mark.proof
async def test_a_build_whose_registry_hangs_is_ended_and_may_be_tried_again(
    solver: BuildxSolver, solve: Solve, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(deadlines, "STALLED_S", 0.3)
    behave(solve, "sleep 60")

    outcome, _ = await solved(solver, solve)

    assert isinstance(outcome, Failure)
    assert (outcome.kind, outcome.transient) == (FailureKind.REGISTRY, True)


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return Path(f"/proc/{pid}/stat").exists() and Path(f"/proc/{pid}/stat").read_text().split()[2] == "Z"


async def until(condition: Callable[[], bool]) -> None:
    with anyio.fail_after(5):
        while not condition():  # noqa: ASYNC110
            await anyio.sleep(0.01)  # what is waited for happens in another process


async def test_cancelling_ends_the_build_and_everything_it_started(solver: BuildxSolver, solve: Solve):
    folder = behave(
        solve,
        'sleep 60 & echo $! > "$context/child"; echo $$ > "$context/new"; mv "$context/new" "$context/parent"; wait',
    )
    begun = time.monotonic()

    async with anyio.create_task_group() as group:
        group.start_soon(solved, solver, solve)
        await until((folder / "parent").exists)
        group.cancel_scope.cancel()

    assert time.monotonic() - begun < 5
    pids = [int((folder / name).read_text()) for name in ("parent", "child")]
    await until(lambda: all(map(gone, pids)))


@pytest.mark.proof
async def test_a_build_that_does_not_listen_is_killed(
    solver: BuildxSolver, solve: Solve, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(solver_module, "GRACE_S", 0.3)
    folder = behave(
        solve,
        'trap \'\' TERM; echo $$ > "$context/new"; mv "$context/new" "$context/parent"; while :; do sleep 0.05; done',
    )

    async with anyio.create_task_group() as group:
        group.start_soon(solved, solver, solve)
        await until((folder / "parent").exists)
        group.cancel_scope.cancel()

    assert gone(int((folder / "parent").read_text()))


@pytest.mark.proof
async def test_a_build_cancelled_at_any_moment_leaves_no_process(solver: BuildxSolver, solve: Solve):
    folder = behave(solve, 'sleep 60 & echo $! >> "$context/children"; wait')

    for at in range(12):
        with anyio.move_on_after(0.002 * at):
            await solved(solver, solve)

    children = folder / "children"
    pids = [int(line) for line in children.read_text().split()] if children.exists() else []
    await until(lambda: all(map(gone, pids)))
