"""The digest that is deployed stays where a build gives the same image once more."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path

import anyio
import pytest
from anyio.abc import ObjectSendStream
from fakes import FakeEngine, FakeRegistry, Image, make_image

from buildorch.engine import Engine
from buildorch.events import Event
from buildorch.keeping import HOLDING, KeepingSolver
from buildorch.plan import Selection, Solve, resolve
from buildorch.record import Failure, FailureKind, ServiceRecord, Solved
from buildorch.services import parse
from buildorch.testing import FakeSolver, make_digest, make_failure, make_platform, make_record

pytestmark = pytest.mark.anyio
NAMES = ("team/app:a", "team/app:b")


class Moving(FakeSolver):
    """Builds nothing, and has the names taken by another image as a build does."""

    def __init__(self, image: Image, *, move: Callable[[Image], None], **options: object) -> None:
        super().__init__(**options)  # type: ignore[arg-type]
        self.image, self.move = image, move

    async def solve(
        self, solve: Solve, bases: Mapping[str, Solved], events: ObjectSendStream[Event]
    ) -> Solved | Failure:
        self.move(self.image)
        outcome = await super().solve(solve, bases, events)
        return outcome if isinstance(outcome, Failure) else dataclasses.replace(outcome, digest=self.image.digest)


def record_of(image: Image, *, manifest: str = "") -> ServiceRecord:
    platform = dataclasses.replace(make_platform(), manifest_digest=manifest or image.manifest_digest)
    return dataclasses.replace(
        make_record(digest=image.digest), index_digest=image.digest, platforms={"linux/amd64": platform}
    )


def make_solve(*, registry: str = "") -> Solve:
    file = parse("version: 1\nproject: team\nservices: {app: {tags: [a, b]}}", "services.yaml")
    solve = resolve(file, Selection(output="push" if registry else "load"), root=Path("/project")).solves[0]
    references = tuple(f"{registry}/{name}" for name in NAMES) if registry else NAMES
    return dataclasses.replace(solve, references=references)


def two_of_one_image() -> tuple[Image, Image]:
    """Two indexes over one manifest, as two builds with provenance give."""
    old = make_image(index=True)
    new = make_image(index=True, attested="later")
    assert old.manifest_digest == new.manifest_digest
    assert old.digest != new.digest
    return old, new


async def built(solver: KeepingSolver, solve: Solve) -> Solved | Failure:
    send, receive = anyio.create_memory_object_stream[Event](99)
    with send, receive:
        return await solver.solve(solve, {}, send)


def in_engine(engine: FakeEngine, new: Image, last: ServiceRecord, **options: object) -> KeepingSolver:
    solver = Moving(new, move=lambda image: engine.images.update(dict.fromkeys(NAMES, image)), **options)
    return KeepingSolver(solver, Engine(engine.endpoint), {"app": last})


async def test_the_names_go_back_to_the_index_that_is_deployed_and_what_builds_on_it_is_given_that(engine: FakeEngine):
    old, new = two_of_one_image()
    engine.images = dict.fromkeys(NAMES, old)

    outcome = await built(in_engine(engine, new, record_of(old)), make_solve())

    assert isinstance(outcome, Solved)
    assert outcome.digest == old.digest
    assert engine.images == dict.fromkeys(NAMES, old)


async def test_names_that_the_build_did_not_move_are_not_moved_back(engine: FakeEngine):
    old, new = two_of_one_image()
    engine.images = {"team/app:held": old, **dict.fromkeys(NAMES, new)}
    solver = dataclasses.replace(in_engine(engine, new, record_of(old)), is_staged=lambda _: True)

    outcome = await built(solver, make_solve())

    assert isinstance(outcome, Solved)
    assert outcome.digest == old.digest
    assert engine.images == {"team/app:held": old, **dict.fromkeys(NAMES, new)}


async def test_the_deployed_index_is_held_while_its_names_are_anothers(engine: FakeEngine):
    old, new = two_of_one_image()
    engine.images = dict.fromkeys(NAMES, old)
    seen: list[set[str]] = []
    solver = Moving(new, move=lambda _: seen.append(set(engine.images) - set(NAMES)))

    await built(KeepingSolver(solver, Engine(engine.endpoint), {"app": record_of(old)}), make_solve())

    assert seen == [{f"{HOLDING}:{old.digest.replace(':', '-')}"}]
    assert engine.images.keys() == set(NAMES)


async def test_another_image_takes_the_names(engine: FakeEngine):
    old, new = make_image(index=True), make_image(index=True, user="2")
    engine.images = dict.fromkeys(NAMES, old)

    outcome = await built(in_engine(engine, new, record_of(old)), make_solve())

    assert isinstance(outcome, Solved)
    assert outcome.digest == new.digest
    assert engine.images == dict.fromkeys(NAMES, new)


async def test_a_failed_build_leaves_nothing_held(engine: FakeEngine):
    old, new = two_of_one_image()
    engine.images = {"team/app:other": old}
    failing = in_engine(engine, new, record_of(old), outcomes={"app": [make_failure()]})

    outcome = await built(failing, make_solve())

    assert isinstance(outcome, Failure)
    assert HOLDING not in str(engine.images.keys())


async def test_a_name_that_cannot_be_taken_away_again_changes_nothing_about_the_build(engine: FakeEngine):
    old, new = make_image(index=True), make_image(index=True, user="2")
    engine.images = dict.fromkeys(NAMES, old)
    solver = Moving(new, move=lambda image: setattr(engine, "images", dict.fromkeys(NAMES, image)))

    outcome = await built(KeepingSolver(solver, Engine(engine.endpoint), {"app": record_of(old)}), make_solve())

    assert isinstance(outcome, Solved)
    assert outcome.digest == new.digest


async def test_where_the_old_index_is_gone_the_new_one_counts(engine: FakeEngine):
    old, new = two_of_one_image()

    outcome = await built(in_engine(engine, new, record_of(old)), make_solve())

    assert isinstance(outcome, Solved)
    assert outcome.digest == new.digest


async def test_names_that_cannot_be_moved_back_are_a_failure_that_may_be_tried_again(engine: FakeEngine):
    old, new = two_of_one_image()
    engine.images = dict.fromkeys(NAMES, old)

    def move(image: Image) -> None:
        held = [name for name in engine.images if name.startswith(HOLDING)]
        engine.images = dict.fromkeys((*NAMES, *held), image)

    solver = KeepingSolver(Moving(new, move=move), Engine(engine.endpoint), {"app": record_of(old)})
    outcome = await built(solver, make_solve())

    assert isinstance(outcome, Failure)
    assert (outcome.kind, outcome.transient, outcome.exit_code) == (FailureKind.OTHER, True, 4)
    assert "No such image" in outcome.message


async def test_a_service_without_an_image_to_keep_asks_the_engine_nothing(engine: FakeEngine):
    solver = KeepingSolver(FakeSolver(), Engine(engine.endpoint), {})

    assert isinstance(await built(solver, make_solve()), Solved)
    assert engine.asked == []


async def test_in_a_registry_the_tags_are_put_back_on_the_old_index(registry: FakeRegistry):
    old, new = two_of_one_image()
    registry.image = dataclasses.replace(new, blobs={**new.blobs, **old.blobs})
    registry.tags = dict.fromkeys("ab", new.digest)
    solver = KeepingSolver(Moving(new, move=lambda _: None), Engine("unix:///nonexistent"), {"app": record_of(old)})

    outcome = await built(solver, make_solve(registry=registry.host))

    assert isinstance(outcome, Solved)
    assert outcome.digest == old.digest
    assert registry.tags == dict.fromkeys("ab", old.digest)


async def test_a_digest_that_nobody_can_build_on_is_left_as_it_is(engine: FakeEngine):
    old, _ = two_of_one_image()
    engine.images = dict.fromkeys(NAMES, old)
    unpinned = FakeSolver(outcomes={"app": [Solved(name=NAMES[0], digest=make_digest("config"), pinned=False)]})

    outcome = await built(KeepingSolver(unpinned, Engine(engine.endpoint), {"app": record_of(old)}), make_solve())

    assert isinstance(outcome, Solved)
    assert outcome.digest == make_digest("config")
