"""Names move to what a registry holds whole, and to nothing that something speaks against."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
from fakes import FakeRegistry, Image, make_image

from buildorch.engine import Engine
from buildorch.plan import Selection, Solve, resolve
from buildorch.publishing import AT_ONCE, checked, objection, objections, publish, publish_all, withhold
from buildorch.record import FailureKind, Finding, ServiceRecord, Severity
from buildorch.services import parse
from buildorch.testing import make_digest, make_failure, make_platform, make_record

ENGINE = Engine("unix:///nonexistent/docker.sock")


def make_solve(registry: FakeRegistry | None = None, *, outputs: str = "", push: bool = True) -> Solve:
    service = f"{{tags: [a, b], outputs: [{outputs}]}}" if outputs else "{tags: [a, b]}"
    host = f"defaults: {{registry: '{registry.host}'}}\n" if registry else ""
    file = parse(f"version: 1\nproject: team\n{host}services: {{app: {service}}}", "services.yaml")
    return resolve(file, Selection(output="push" if push else "load"), root=Path("/project")).solves[0]


def record_of(image: Image, solve: Solve) -> ServiceRecord:
    """The record of an image as it was pushed; its one layer is the fake's."""
    platform = dataclasses.replace(
        make_platform(),
        manifest_digest=image.manifest_digest,
        config_digest=image.config_digest,
        layers=(dataclasses.replace(make_platform().layers[0], digest=layer_of(image)),),
    )
    return dataclasses.replace(
        make_record(digest=image.digest),
        fingerprint=make_digest("inputs"),
        reference=solve.references[0],
        references=solve.references,
        platforms={"linux/amd64": platform},
    )


def layer_of(image: Image) -> str:
    return str(json.loads(image.blobs[image.manifest_digest])["layers"][0]["digest"])


def against(status: str = "built", *, severity: Severity = "error") -> ServiceRecord:
    """The record of an image that a rule says something against, twice."""
    finding = Finding(rule="size", severity=severity, message="501.0 MB is over 500.0 MB")
    return dataclasses.replace(make_record(status), findings=(finding, finding))


@pytest.mark.parametrize(
    ("outputs", "is_held_back"),
    [
        ("", True),
        ("type=registry", True),
        ("'type=image,push=true,store=false'", True),
        ("'type=image,name=other.example/app,push=true'", True),
        ("'type=image,push=true,store=true'", False),
        ("type=registry, type=docker", False),
        ("type=docker", False),
        ("'type=local,dest=out'", False),
    ],
)
def test_an_image_that_goes_to_a_registry_alone_can_be_held_back(outputs: str, *, is_held_back: bool):
    assert make_solve(outputs=outputs).is_only_pushed is is_held_back


def test_an_image_that_is_loaded_has_its_names_at_once():
    assert not make_solve(push=False).is_only_pushed


def test_it_is_pushed_beside_its_names():
    assert make_solve().staging == "team/app:buildorch-staging"


@pytest.mark.parametrize(
    ("record", "said"),
    [
        (make_record(), ""),
        (make_record("skipped"), ""),
        (make_record("failed", error=make_failure(FailureKind.UNMEASURED)), "failed"),
        (against(), "against the policy: size"),
        (against("skipped"), "against the policy: size"),
        (against(severity="warning"), ""),
    ],
)
def test_what_failed_or_breaks_a_rule_gets_no_name(record: ServiceRecord, said: str):
    assert objection(record) == said


def test_all_are_needed_for_all_or_none():
    good, bad = make_record(), against()

    assert objections({"api": good, "web": good}, ["api", "web"]) == ""
    assert objections({"api": good, "web": bad}, ["api", "web", "job"]) == (
        "all or none are published, and web is against the policy: size, job is not built"
    )


def test_an_image_without_its_names_says_why():
    record = dataclasses.replace(make_record(), references=(), warnings=("first",))

    assert withhold(make_solve(), record, "it is Friday").warnings == (
        "first",
        "its names were not moved: it is Friday",
    )


def test_an_image_that_has_all_its_names_already_is_not_withheld():
    solve = make_solve()
    record = dataclasses.replace(make_record(), references=solve.references)

    assert withhold(solve, record, "it is Friday") == record


def pushed(image: Image, solve: Solve) -> ServiceRecord:
    """The record of an image that is at the registry without a name."""
    return dataclasses.replace(record_of(image, solve), references=())


def test_an_image_that_is_whole_gets_all_its_names(registry: FakeRegistry):
    image = registry.image = make_image(index=True)
    registry.tags = {}
    solve = make_solve(registry)
    record = pushed(image, solve)

    assert checked({"app": record}) == {"app": record}
    assert registry.tags == {}
    assert publish(solve, record, solve.references, engine=ENGINE).references == solve.references
    assert registry.tags == {"a": image.digest, "b": image.digest}


def test_an_image_that_lacks_a_layer_fails_and_is_no_ground_for_a_skip(registry: FakeRegistry):
    image = registry.image = make_image(index=True)
    record = pushed(image, make_solve(registry))
    del image.blobs[layer_of(image)]

    [found] = checked({"app": record}).values()

    assert found.error is not None
    assert (found.status, found.error.kind, found.error.exit_code) == ("failed", FailureKind.UNPUBLISHED, 4)
    assert "not whole at the registry" in found.error.message
    assert (found.references, found.fingerprint, found.digest) == ((), None, image.digest)


def test_a_registry_that_cannot_be_asked_is_no_reason_to_build_again(registry: FakeRegistry):
    image = registry.image = make_image(index=True)
    record = pushed(image, make_solve(registry))
    registry.head_status = 503

    [found] = checked({"app": record}).values()

    assert found.error is not None
    assert "could not be looked at" in found.error.message
    assert "503" in found.error.message
    assert found.fingerprint == record.fingerprint


def test_a_registry_that_does_not_answer_is_not_asked_for_every_layer(registry: FakeRegistry):
    image = registry.image = make_image(layers=[f"layer {number}".encode() for number in range(200)])
    record = pushed(image, make_solve(registry))
    [platform] = record.platforms.values()
    layers = tuple(dataclasses.replace(platform.layers[0], digest=digest) for digest in image.blobs)
    record = dataclasses.replace(record, platforms={"linux/amd64": dataclasses.replace(platform, layers=layers)})
    registry.head_status = 503

    [found] = checked({"app": record}).values()

    assert found.error is not None
    assert "503" in found.error.message
    assert len(registry.asked) <= 2 * AT_ONCE


def test_a_registry_that_refuses_a_name_is_told_and_the_others_are_kept(registry: FakeRegistry):
    image = registry.image = make_image(index=True)
    solve = make_solve(registry)
    record = pushed(image, solve)
    registry.tags, registry.refuses = {}, "/manifests/b"

    found = publish(solve, record, solve.references, engine=ENGINE)

    assert found.error is not None
    assert (found.status, found.error.kind, found.references) == (
        "failed",
        FailureKind.UNPUBLISHED,
        solve.references[:1],
    )
    assert f"could not be named {solve.references[1]}: " in found.error.message
    assert "403" in found.error.message
    assert found.fingerprint == record.fingerprint


def test_only_the_names_that_an_image_lacks_are_moved(registry: FakeRegistry):
    image = registry.image = make_image(index=True)
    registry.tags = {"a": make_digest("another run's")}
    solve = make_solve(registry)
    record = dataclasses.replace(record_of(image, solve), references=solve.references[:1])

    assert publish(solve, record, solve.references[1:], engine=ENGINE).references == solve.references
    assert registry.tags == {"a": make_digest("another run's"), "b": image.digest}


def test_one_service_that_cannot_be_named_keeps_no_other_from_it(registry: FakeRegistry):
    image = registry.image = make_image(index=True)
    registry.tags, registry.refuses = {}, "/manifests/b"
    one = make_solve(registry)
    other = dataclasses.replace(one, name="other", references=one.references[:1])

    found = publish_all(
        {solve.name: (solve, pushed(image, solve), solve.references) for solve in (one, other)}, engine=ENGINE
    )

    assert {name: record.status for name, record in found.items()} == {"app": "failed", "other": "built"}
