"""From a solve's end to a service's record."""

from __future__ import annotations

from pathlib import Path

import pytest
from fakes import FakeEngine, FakeRegistry, make_image

from buildorch.engine import Engine
from buildorch.events import SolveFinished
from buildorch.inspection import Layers
from buildorch.judging import Means
from buildorch.measure import STAND_IN_LABEL
from buildorch.plan import Selection, Solve, resolve
from buildorch.record import Budget, Failure, FailureKind, ServiceRecord, Solved, Steps
from buildorch.services import parse
from buildorch.settle import Images, settle
from buildorch.testing import make_digest, make_failure

AT = "2026-01-31T12:00:00.000Z"


def make_solve(service: str = "{}", *, root: Path = Path("/nonexistent"), push: bool = False) -> Solve:
    file = parse(f"version: 1\nproject: team\nservices: {{app: {service}}}", "services.yaml")
    return resolve(file, Selection(output="push" if push else "load"), root=root).solves[0]


def finished(digest: str | None = None, *, failure: Failure | None = None) -> SolveFinished:
    solved = None
    if failure is None:
        solved = Solved(
            name="team/app:latest", digest=digest, pinned=True, steps=Steps(total=1, executed=1), warnings=("w",)
        )
    return SolveFinished(
        at=AT, service="app", started_at=AT, duration_s=2.0, attempts=1, solved=solved, failure=failure
    )


def settled(engine: FakeEngine, solve: Solve, digest: str | None, *, store: str = "containerd") -> ServiceRecord:
    at = Engine(engine.endpoint)
    images = Images(at, store, Layers({}), Means(engine=at, key=b"key"))  # type: ignore[arg-type]
    return settle(solve, finished(digest), images, reason="first build")


def test_an_image_in_the_engine_is_measured_there(engine: FakeEngine):
    image = engine.images["app"] = make_image(index=True, labels={STAND_IN_LABEL: "python:3.13-slim"})

    record = settled(engine, make_solve("{size: {max: 1GB}, tags: [a, b]}"), image.digest)

    assert (record.status, record.digest, record.index_digest) == ("built", image.digest, image.digest)
    assert record.platforms["linux/amd64"].unpacked_bytes == image.unpacked_bytes
    assert (record.reference, record.references) == ("team/app:a", ("team/app:a", "team/app:b"))
    assert record.stand_ins == ("python:3.13-slim",)
    assert record.budget == Budget(max_bytes=10**9, target_bytes=None, of="unpacked")
    assert (record.started_at, record.finished_at, record.duration_s, record.attempts) == (AT, AT, 2.0, 1)
    assert record.warnings == ("w",)


def test_an_image_in_a_store_without_manifests_is_measured_by_saving_it(engine: FakeEngine):
    image = engine.images["app"] = make_image()

    record = settled(engine, make_solve(), image.config_digest, store="graphdriver")

    assert record.digest == image.config_digest
    assert record.platforms["linux/amd64"].unpacked_bytes == image.unpacked_bytes
    assert record.platforms["linux/amd64"].compressed_bytes is None


@pytest.mark.parametrize("store", ["containerd", "graphdriver"])
def test_an_image_that_was_pushed_is_measured_in_its_registry(engine: FakeEngine, registry: FakeRegistry, store: str):
    image = registry.image = make_image()
    said = image.digest if store == "containerd" else image.config_digest

    record = settled(engine, make_solve(f"{{registry: '{registry.host}'}}", push=True), said, store=store)

    assert record.error is None
    assert record.digest == image.digest
    assert record.platforms["linux/amd64"].compressed_bytes == image.compressed_bytes
    assert engine.asked == []


def test_an_image_that_cannot_be_measured_is_a_failure_that_a_retry_may_mend(engine: FakeEngine):
    record = settled(engine, make_solve(), make_digest("nowhere"))

    assert record.status == "failed"
    assert record.error is not None
    assert (record.error.kind, record.error.exit_code) == (FailureKind.UNMEASURED, 4)
    assert record.error.message.startswith("it was built, but not measured: ")
    assert record.steps == Steps(total=1, executed=1)


def test_an_output_that_is_no_image_is_built_and_not_measured(engine: FakeEngine):
    record = settled(engine, make_solve("{outputs: ['type=local,dest=out']}"), None)

    assert (record.status, record.digest, record.platforms) == ("built", None, {})
    assert engine.asked == []


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        (FailureKind.STEP_FAILED, "failed"),
        (FailureKind.TIMED_OUT, "failed"),
        (FailureKind.BLOCKED, "blocked"),
        (FailureKind.CANCELLED, "cancelled"),
    ],
)
def test_a_service_without_an_image_keeps_its_failure(kind: FailureKind, status: str):
    failure = make_failure(kind)

    record = settle(make_solve(), finished(failure=failure), None, reason="first build")

    assert (record.status, record.error, record.platforms) == (status, failure, {})


def test_the_dockerfile_is_judged_with_the_services_arguments(engine: FakeEngine, tmp_path: Path):
    image = engine.images["app"] = make_image(user="root")
    folder = tmp_path / "services" / "app"
    folder.mkdir(parents=True)
    (folder / "Dockerfile").write_text("ARG BASE=one\nFROM $BASE\n")
    service = "{args: {BASE: two}, policy: {user: non-root, min_stages: 2, bases: [one]}}"

    record = settled(engine, make_solve(service, root=tmp_path), image.digest)

    assert [finding.rule for finding in record.findings] == ["user", "stages", "bases"]
    assert "starts or copies from 'two'" in record.findings[2].message


@pytest.mark.parametrize("content", [None, b"\xff\xfe", b""])
def test_a_dockerfile_that_cannot_be_read_is_not_judged(engine: FakeEngine, tmp_path: Path, content: bytes | None):
    image = engine.images["app"] = make_image()
    if content is not None:
        (tmp_path / "services" / "app").mkdir(parents=True)
        (tmp_path / "services" / "app" / "Dockerfile").write_bytes(content)

    record = settled(engine, make_solve("{policy: {min_stages: 2}}", root=tmp_path), image.digest)

    assert record.status == "built"
    assert [finding.rule for finding in record.findings] == ["stages"]


@pytest.mark.parametrize(
    ("outputs", "push", "where"),
    [
        ([], False, "engine"),
        ([], True, "registry"),
        (["type=registry"], False, "registry"),
        (["type=image,push=true"], False, "registry"),
        (["type=local,dest=x", "type=image,name=a,push=true"], False, "registry"),
        (["type=docker"], False, "engine"),
        (["type=image"], False, "engine"),
        (["type=docker,dest=x.tar"], False, "nowhere"),
        (["type=oci,dest=x.tar"], False, "nowhere"),
        (["type=local,dest=x"], True, "nowhere"),
    ],
)
def test_where_an_image_is_after_its_build(outputs: list[str], *, push: bool, where: str):
    assert make_solve(f"{{outputs: {outputs}}}", push=push).destination == where
