"""Pinned images in the form that each tool reads, and what speaks against handing one over."""

from __future__ import annotations

import dataclasses
import json
import subprocess
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from buildorch.errors import UsageError
from buildorch.handoff.formats import FORMATS, render, variables
from buildorch.handoff.pinned import Candidate, PinnedImage, objection, pin, refused, too_old
from buildorch.handoff.spellings import Spellings
from buildorch.record import NOT_MOVED, FailureKind, Finding, ServiceRecord
from buildorch.testing import make_digest, make_failure, make_record

DIGEST = make_digest("image")


def image(service: str = "web", repository: str = "reg.example:5000/shop/web", tag: str = "1.10") -> PinnedImage:
    return PinnedImage(service, repository, tag, DIGEST)


BACKEND = image("backend", "shop/backend")
IPV6 = image("v6", "[::1]:5000/shop/v6")
ODD = image("on", "reg.example/shop/on", tag="1_0")
"""YAML 1.1 takes its name for true and its tag for ten."""


def yaml(text: str, version: str = "1.1") -> Any:
    reader = YAML(typ="safe", pure=True)
    reader.version = version
    return reader.load(text)


def test_as_text_each_line_is_a_service_and_its_image():
    assert render([image(), BACKEND], "text") == (
        f"web reg.example:5000/shop/web@{DIGEST}\nbackend shop/backend@{DIGEST}\n"
    )


def test_a_shell_reads_its_variables_whatever_their_values_hold():
    given_ = [image("frontend-web"), IPV6, dataclasses.replace(BACKEND, repository="a;touch /tmp/x$(id)`id`'\"*")]

    script = f'{render(given_, "env")}printf \'%s\\n\' "$FRONTEND_WEB_IMAGE" "$V6_IMAGE" "$BACKEND_IMAGE"'
    done = subprocess.run(["sh", "-euc", script], capture_output=True, text=True, check=True)

    assert done.stdout.splitlines() == [one.image for one in given_]


def test_a_dotenv_file_has_no_quotes_since_its_readers_take_them_for_the_values():
    assert render([IPV6], "dotenv") == f"V6_IMAGE=[::1]:5000/shop/v6@{DIGEST}\n"


def test_services_whose_variables_would_be_one_are_refused_by_name():
    with pytest.raises(UsageError, match="a-b and a_b would both be A_B_IMAGE"):
        render([image("a-b"), image("a_b")], "env")


def test_a_variable_never_starts_with_a_digit():
    assert [name for name, _ in variables([image("2048")])] == ["_2048_IMAGE"]


def test_a_workflow_gets_an_output_a_service_between_delimiters_and_all_of_them_as_json():
    written = render([image("frontend-web"), BACKEND], "github")

    lines = written.splitlines()
    outputs = {lines[at].partition("<<")[0]: lines[at + 1] for at in range(0, len(lines), 3)}
    assert all(lines[at].partition("<<")[2] == lines[at + 2] for at in range(0, len(lines), 3))
    assert outputs["frontend_web_image"] == f"reg.example:5000/shop/web@{DIGEST}"
    assert json.loads(outputs["images"])["backend"] == f"shop/backend@{DIGEST}"


def test_json_and_yaml_hold_the_same():
    given_ = [image(), ODD]

    document = json.loads(render(given_, "json"))

    assert document["schema"] == "buildorch.images/1"
    assert document["services"]["web"] == {
        "image": f"reg.example:5000/shop/web@{DIGEST}",
        "repository": "reg.example:5000/shop/web",
        "tag": "1.10",
        "digest": DIGEST,
    }
    assert yaml(render(given_, "yaml")) == document


@pytest.mark.parametrize("version", ["1.1", "1.2"])
def test_helm_values_are_texts_in_every_version_of_yaml(version: str):
    values = yaml(render([ODD, image()], "helm"), version)

    assert values["on"]["image"] == {"repository": "reg.example/shop/on", "tag": "1_0", "digest": DIGEST}
    assert values["web"]["image"]["tag"] == "1.10"


def test_kustomize_finds_an_image_with_its_registry_and_without():
    component = yaml(render([image()], "kustomize"))

    assert (component["apiVersion"], component["kind"]) == ("kustomize.config.k8s.io/v1alpha1", "Component")
    assert [entry["name"] for entry in component["images"]] == ["reg.example:5000/shop/web", "shop/web"]
    assert {entry["newName"] for entry in component["images"]} == {"reg.example:5000/shop/web"}


def test_skaffold_gets_what_it_writes_itself():
    assert json.loads(render([BACKEND], "skaffold")) == {
        "builds": [{"imageName": "shop/backend", "tag": f"shop/backend:1.10@{DIGEST}"}]
    }


def test_no_images_are_no_text_that_cannot_be_read():
    assert yaml(render([], "kustomize"))["images"] == []
    assert json.loads(render([], "json"))["services"] == {}


_names = st.sampled_from(["web", "a-b", "a_b", "a.b", "1", "on", "null", "x.y-z", "0x1f", "1e3"])


@settings(max_examples=20)
@given(st.dictionaries(_names, _names, min_size=1, max_size=4))
def test_every_format_holds_every_digest_or_refuses(services: dict[str, str]):
    given_ = [image(name, f"reg.example/{path}/{name}") for name, path in services.items()]

    for name in FORMATS:
        with suppress(UsageError):  # two names may be one variable, or one spelling
            text = render(given_, name)
            assert text.count(DIGEST) >= len(given_)
            assert text.endswith("\n")


# --- how people write an image

KNOWN = Spellings({"web": "reg.example:5000/shop/web", "api": "docker.io/library/api", "db": "other.example/shop/db"})


@pytest.mark.parametrize(
    ("text", "service"),
    [
        ("reg.example:5000/shop/web", "web"),
        (f"reg.example:5000/shop/web:1.2@{DIGEST}", "web"),
        ("shop/web:latest", "web"),
        ("docker.io/shop/web", "web"),
        ("api", "api"),
        ("index.docker.io/library/api:3", "api"),
        ("shop/db", "db"),
        ("elsewhere.example/shop/web:1", None),
        ("reg.example/shop/web", None),
        ("shop/web-more:1", None),
        ("web", None),
        ("postgres:16", None),
        ("", None),
        ("$(IMAGE)", None),
        ("Shop/Web", None),
    ],
)
def test_an_image_is_a_services_by_its_repository_with_the_registry_or_without(text: str, service: str | None):
    assert KNOWN.service(text) == service


def test_a_name_without_a_registry_that_could_mean_two_services_means_none_of_them_silently():
    known = Spellings({"a": "one.example/shop/web", "b": "two.example/shop/web"})

    assert known.service("two.example/shop/web") == "b"
    assert known.service("shop/web") is None
    assert [name for _, name in known.all()] == ["one.example/shop/web", "two.example/shop/web"]


def test_a_repository_that_two_services_share_is_refused_where_it_would_count():
    known = Spellings({"a": "shop/app", "b": "shop/app"})

    with pytest.raises(UsageError, match="may be the image of a or b"):
        known.service("shop/app:a")
    with pytest.raises(UsageError, match="the image of a and of b"):
        render([image("a", "shop/app"), image("b", "shop/app")], "kustomize")


# --- what speaks against it


def candidate(record: ServiceRecord | None, **more: Any) -> Candidate:
    return Candidate("app", "test/app", record, **more)


GOOD = make_record(digest=DIGEST)
BROKEN = dataclasses.replace(GOOD, findings=(Finding(rule="size", severity="error", message="it is too large"),))


def changed(**fields: Any) -> ServiceRecord:
    return dataclasses.replace(GOOD, **fields)


def test_a_good_record_is_handed_over_without_its_tag():
    assert objection(candidate(GOOD)) is None
    assert pin(candidate(GOOD)).image == f"test/app@{DIGEST}"


@pytest.mark.parametrize(
    ("record", "fact", "exit_code"),
    [
        (None, "nothing was built of it yet", 1),
        (make_record("failed", error=make_failure()), "its last build is failed: made up: step_failed", 1),
        (
            make_record("failed", error=dataclasses.replace(make_failure(FailureKind.ENGINE_LOST), exit_code=4)),
            "its last build is failed: made up: engine_lost",
            4,
        ),
        (make_record("cancelled"), "its last build is cancelled", 1),
        (make_record("blocked"), "its last build is blocked", 1),
        (BROKEN, "its last image is against the policy: size", 3),
        (changed(warnings=(f"{NOT_MOVED}web is failed",)), "its last image was not published: web is failed", 1),
        (make_record(), "its build leaves no image", 1),
        (
            changed(
                platforms={"linux/amd64": dataclasses.replace(GOOD.platforms["linux/amd64"], manifest_digest=None)}
            ),
            "its image has no manifest yet: the graphdriver store keeps none",
            1,
        ),
        (
            changed(reference="old.example/test/app:1"),
            "its last image is old.example/test/app, and the services file says test/app",
            1,
        ),
    ],
)
def test_a_record_that_is_no_good_is_refused_with_the_reason_and_a_code(
    record: ServiceRecord | None, fact: str, exit_code: int
):
    found = objection(candidate(record))

    assert found is not None
    assert (found.fact, found.exit_code) == (fact, exit_code)
    assert found.hint


def test_a_warning_speaks_against_nothing():
    assert objection(candidate(changed(findings=(Finding(rule="size", severity="warning", message="m"),)))) is None


@pytest.mark.parametrize(
    "record",
    [
        changed(digest="sha256:short"),
        changed(digest=f"{DIGEST}\n"),
        changed(reference="no reference", digest=DIGEST),
        changed(
            platforms={
                "linux/amd64": dataclasses.replace(GOOD.platforms["linux/amd64"], config_digest="x\r\nHost: evil")
            }
        ),
    ],
)
def test_what_is_no_digest_or_reference_never_reaches_a_deploy_or_a_registry(record: ServiceRecord):
    with pytest.raises(UsageError):
        pin(candidate(record))


def test_a_name_that_no_services_file_allows_is_refused():
    with pytest.raises(UsageError, match="holds what is no name"):
        pin(dataclasses.replace(candidate(GOOD), service="x;rm -rf"))


def test_a_record_is_as_old_as_the_run_that_proved_it():
    now = datetime(2026, 1, 2, 12, 0, tzinfo=UTC)
    at_ten = candidate(GOOD, started_at="2026-01-02T10:00:00Z")

    assert too_old(at_ten, now=now, max_age_s=7200) is None
    found = too_old(at_ten, now=now, max_age_s=7199)
    assert found is not None
    assert found.fact.startswith("its record is 2h")


def test_a_time_that_cannot_be_read_is_a_usage_error():
    for text in ("", "yesterday", "2026-01-02T10:00:00"):
        with pytest.raises(UsageError, match="does not say when"):
            too_old(candidate(GOOD, started_at=text), now=datetime.now(UTC), max_age_s=1)


def test_all_that_speaks_against_is_told_at_once_and_a_missing_image_decides_the_code():
    found = [objection(Candidate(name, "test/app", record)) for name, record in {"a": BROKEN, "b": None}.items()]

    error = refused(one for one in found if one)

    assert str(error).splitlines() == [
        "a: its last image is against the policy: size",
        "b: nothing was built of it yet",
    ]
    assert error.exit_code == 1
    assert error.facts["b"] == "nothing was built of it yet"
