"""An image is believed only if its files were the same before and after its build."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path

import anyio
import pytest
from anyio.abc import ObjectSendStream

from buildorch import execute as execute_module
from buildorch import inputs
from buildorch.bases import Entry, Lock
from buildorch.context import StatCache
from buildorch.events import Event, SolveFinished
from buildorch.execute import execute
from buildorch.inputs import Inputs, Surroundings
from buildorch.plan import Plan, Selection, Solve, resolve
from buildorch.record import Failure, FailureKind, Solved
from buildorch.services import parse
from buildorch.testing import FakeSolver, make_digest, make_failure
from buildorch.watching import WatchingSolver

pytestmark = pytest.mark.anyio

Edit = Callable[[Path], object]
EDITS: dict[str, tuple[Edit, str]] = {
    "written": (lambda app: (app / "main.py").write_text("2"), "main.py"),
    "deleted": (lambda app: (app / "main.py").unlink(), "main.py"),
    "added": (lambda app: (app / "new.py").write_text("x"), "new.py"),
    "made runnable": (lambda app: (app / "main.py").chmod(0o755), "main.py"),
    "the Dockerfile": (lambda app: (app / "Dockerfile").write_text("FROM scratch\nCOPY . /x\n"), "Dockerfile"),
    "replaced by its like": (lambda app: _replaced(app / "main.py"), "main.py"),
    "written and put back": (lambda app: _put_back(app / "main.py"), "main.py"),
}


def _replaced(path: Path) -> None:
    """Another file of the same bytes, size and mtime."""
    seen = path.stat()
    other = path.with_name("other")
    other.write_bytes(path.read_bytes())
    os_utime(other, seen.st_mtime_ns)
    other.replace(path)


def _put_back(path: Path) -> None:
    before, seen = path.read_bytes(), path.stat()
    path.write_bytes(b"x" * len(before))
    path.write_bytes(before)
    os_utime(path, seen.st_mtime_ns)


def os_utime(path: Path, mtime_ns: int) -> None:
    import os

    os.utime(path, ns=(mtime_ns, mtime_ns))


class Editing(FakeSolver):
    """Builds nothing, and has the files edited while it does."""

    edits: list[Edit]
    seen: list[Solve]
    folder: Path

    def __init__(self, folder: Path, *edits: Edit, **options: object) -> None:
        super().__init__(**options)  # type: ignore[arg-type]
        self.folder, self.edits, self.seen = folder, list(edits), []

    async def solve(
        self, solve: Solve, bases: Mapping[str, Solved], events: ObjectSendStream[Event]
    ) -> Solved | Failure:
        self.seen.append(solve)
        if self.edits:
            self.edits.pop(0)(self.folder)
        return await super().solve(solve, bases, events)


class Project:
    """A service whose build reads all of its folder."""

    def __init__(self, root: Path, cache: StatCache, keys: str = "") -> None:
        self.folder = root / "services" / "app"
        self.folder.mkdir(parents=True)
        (self.folder / "Dockerfile").write_text("FROM scratch\nCOPY . /\n")
        (self.folder / "main.py").write_text("1")
        self.file = parse(f"version: 1\nproject: shop\nservices: {{app: {{{keys}}}}}", "services.yaml")
        self.plan = resolve(self.file, Selection(), root=root)
        self.surroundings = Surroundings(cache=cache, key=b"k", environ={})
        self.read_again: list[str] = []

    def read(self, solve: Solve) -> Inputs:
        self.read_again.append(solve.name)
        return inputs.read(self.plan, self.surroundings)[solve.name]

    def watching(self, solver: FakeSolver) -> WatchingSolver:
        return WatchingSolver(solver, self.read, inputs.read(self.plan, self.surroundings))


@pytest.fixture
def project(tmp_path: Path):
    with StatCache(tmp_path / "contexts.db") as cache:
        yield Project(tmp_path / "project", cache)


async def solved(solver: WatchingSolver, plan: Plan) -> Solved | Failure:
    send, receive = anyio.create_memory_object_stream[Event](99)
    with send, receive:
        return await solver.solve(plan.solves[0], {}, send)


async def test_an_image_whose_files_stayed_as_they_were_is_believed(project: Project):
    solver = project.watching(Editing(project.folder))

    assert isinstance(await solved(solver, project.plan), Solved)
    assert project.read_again == []


@pytest.mark.parametrize("kind", EDITS)
async def test_files_that_change_while_it_is_built_make_it_a_failure_that_names_them(project: Project, kind: str):
    edit, path = EDITS[kind]

    outcome = await solved(project.watching(Editing(project.folder, edit)), project.plan)

    assert isinstance(outcome, Failure)
    assert (outcome.kind, outcome.exit_code, outcome.transient) == (FailureKind.CONTEXT_CHANGED, 1, True)
    assert path in outcome.message.partition("not known: ")[2].split(", ")
    assert ".dockerignore" in outcome.hint


@pytest.mark.parametrize("kind", EDITS)
async def test_files_that_changed_before_it_is_built_are_read_again(project: Project, kind: str):
    solver = project.watching(Editing(project.folder))
    before = solver.inputs["app"]

    EDITS[kind][0](project.folder)
    outcome = await solved(solver, project.plan)

    assert isinstance(outcome, Solved)
    assert project.read_again == ["app"]
    assert solver.inputs["app"].observed == project.read(before.solve).observed


async def test_what_is_built_is_held_to_the_images_of_what_was_read_last(project: Project):
    solver = Editing(project.folder)
    watching = project.watching(solver)
    lock = Lock({"python:3.13-slim": Entry(make_digest("python"), "docker.io", datetime(2026, 11, 1, tzinfo=UTC))})
    project.surroundings = dataclasses.replace(project.surroundings, lock=lock)
    (project.folder / "Dockerfile").write_text("FROM python:3.13-slim\n")

    await solved(watching, project.plan)

    [built] = solver.seen
    assert built == watching.inputs["app"].solve
    assert built.pins == {"python:3.13-slim": f"docker-image://python:3.13-slim@{make_digest('python')}"}


async def test_a_link_above_that_is_swapped_away_and_back_leads_no_build_astray(tmp_path: Path):
    """As deploy tools do it: `current` is a link to the release of the day."""
    with StatCache(tmp_path / "contexts.db") as cache:
        project = Project(tmp_path / "one", cache)
        Project(tmp_path / "two", cache)
        current = tmp_path / "current"
        current.symlink_to("one")
        project.plan = resolve(project.file, Selection(), root=current)

        def swapped(_: Path) -> None:
            assert "two" in str(point(current, "two").resolve())
            point(current, "one")

        solver = Editing(project.folder, swapped)
        outcome = await solved(project.watching(solver), project.plan)

    assert isinstance(outcome, Solved)
    [built] = solver.seen
    assert built.context == tmp_path / "one" / "services" / "app"
    assert built.dockerfile == tmp_path / "one" / "services" / "app" / "Dockerfile"


async def test_a_link_that_leads_elsewhere_after_the_build_is_named(tmp_path: Path):
    with StatCache(tmp_path / "contexts.db") as cache:
        project = Project(tmp_path / "one", cache)
        Project(tmp_path / "two", cache)
        current = tmp_path / "current"
        current.symlink_to("one")
        project.plan = resolve(project.file, Selection(), root=current)
        solver = Editing(project.folder, lambda _: point(current, "two"))

        outcome = await solved(project.watching(solver), project.plan)

    assert isinstance(outcome, Failure)
    assert f"{current}/services/app (a link)" in outcome.message


def point(link: Path, target: str) -> Path:
    """Have a link lead elsewhere."""
    link.unlink()
    link.symlink_to(target)
    return link


async def test_many_changed_files_are_counted(project: Project):
    def edit(folder: Path) -> None:
        for at in range(9):
            (folder / f"f{at}").write_text("")

    outcome = await solved(project.watching(Editing(project.folder, edit)), project.plan)

    assert isinstance(outcome, Failure)
    assert outcome.message.endswith(" not known: ., f0, f1, f2, f3 and 5 more")


async def test_a_build_that_fails_by_itself_keeps_its_own_failure(project: Project):
    failing = Editing(project.folder, EDITS["written"][0], outcomes={"app": [make_failure()]})

    assert await solved(project.watching(failing), project.plan) == make_failure()


async def test_it_is_built_once_more_and_then_from_the_new_files(project: Project, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(execute_module, "RETRY_DELAY_S", 0.01)
    solver = Editing(project.folder, EDITS["written"][0])
    watching = project.watching(solver)

    async with execute(project.plan, watching, jobs=1) as events:
        [finished] = [event async for event in events if isinstance(event, SolveFinished)]

    assert finished.solved is not None
    assert (finished.attempts, solver.started) == (2, ["app", "app"])
    assert watching.inputs["app"].changed() == ()


async def test_files_that_never_stand_still_fail_in_the_end(project: Project, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(execute_module, "RETRY_DELAY_S", 0.01)
    edits = [lambda app, at=at: (app / "main.py").write_text("x" * at) for at in range(3, 9)]
    solver = Editing(project.folder, *edits)

    async with execute(project.plan, project.watching(solver), jobs=1) as events:
        [finished] = [event async for event in events if isinstance(event, SolveFinished)]

    assert finished.failure is not None
    assert (finished.failure.kind, finished.attempts) == (FailureKind.CONTEXT_CHANGED, 2)
    assert "main.py" in finished.failure.message
