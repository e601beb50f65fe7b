"""An image that the engine does not find, against what its registry says."""

from __future__ import annotations

import anyio
import pytest
from fakes import FakeRegistry, digest_of, make_image

from buildorch.doubting import DoubtingSolver
from buildorch.events import Event
from buildorch.record import Failure, FailureKind, Solved
from buildorch.testing import FakeSolver, make_failure, make_plan

pytestmark = pytest.mark.anyio


async def built(outcome: Failure | None) -> Solved | Failure:
    [solve] = make_plan({"app": []}).solves
    send, _receive = anyio.create_memory_object_stream[Event](100)
    async with send, _receive:
        return await DoubtingSolver(FakeSolver(outcomes={"app": [outcome]} if outcome else {})).solve(solve, {}, send)


def missing(reference: str, *, kind: FailureKind = FailureKind.NOT_FOUND) -> Failure:
    return Failure(kind=kind, message=f"{reference}: not found", hint="check the name", step="[1/2] FROM app")


async def test_an_image_that_the_registry_has_is_the_registrys_failure_and_may_be_tried_again(registry: FakeRegistry):
    image = registry.image = make_image()
    reference = f"{registry.host}/team/app:v1@{image.digest}"

    outcome = await built(missing(reference))

    assert isinstance(outcome, Failure)
    assert (outcome.kind, outcome.transient, outcome.exit_code) == (FailureKind.REGISTRY, True, 4)
    assert outcome.message == f"the engine did not find {reference}, which its registry has"
    assert outcome.step == "[1/2] FROM app"


@pytest.mark.parametrize("status", [0, 403, 404, 503])
async def test_an_image_that_the_registry_does_not_have_or_does_not_tell_of_is_missing(
    registry: FakeRegistry, status: int
):
    registry.image, registry.status = make_image(), status
    failure = missing(f"{registry.host}/team/app:v1@{digest_of(b'another')}")

    assert await built(failure) == failure


async def test_a_name_without_a_digest_may_have_been_right_a_moment_ago_and_is_not_asked_for(registry: FakeRegistry):
    registry.image = make_image()
    failure = missing(f"{registry.host}/team/app:v1")

    assert await built(failure) == failure
    assert registry.asked == []


async def test_another_failure_and_a_build_that_succeeds_are_left_as_they_are(registry: FakeRegistry):
    image = registry.image = make_image()
    failure = missing(f"{registry.host}/team/app:v1@{image.digest}", kind=FailureKind.STEP_FAILED)

    assert await built(failure) == failure
    assert await built(make_failure()) == make_failure()
    assert isinstance(await built(None), Solved)
    assert registry.asked == []
