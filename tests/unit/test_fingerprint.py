"""What can change an image changes its fingerprint, nothing else does, and only proof skips a build."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buildorch import fingerprint
from buildorch.fingerprint import Build, Decision, Environment, Fingerprint, Observed, Skip, compute, decide, keyed
from buildorch.plan import Selection, Solve, resolve
from buildorch.record import ServiceRecord
from buildorch.services import Service, ServicesFile, parse
from buildorch.testing import make_digest, make_record

ENVIRONMENT = Environment(engine="28.0.0", buildx="0.29.1", store="containerd")
OBSERVED = Observed(contexts={"": "c" * 64}, dockerfile="d" * 64, bases={"python:3.13-slim": make_digest("base")})
SERVICES = {"base": "linux/amd64=sha256:1"}
KEY = b"k" * 32


@cache
def _parsed(service: str) -> ServicesFile:
    """YAML takes its time, and property tests ask for the same again and again."""
    return parse(f"version: 1\nproject: shop\nservices: {{app: {service}, base: }}\n", "services.yaml")


def make_solve(service: str = "{}", selection: Selection | None = None, *, root: str = "/project") -> Solve:
    plan = resolve(_parsed(service), selection or Selection(), root=Path(root))
    return next(solve for solve in plan.solves if solve.name == "app")


def of(
    solve: Solve | None = None,
    observed: Observed = OBSERVED,
    *,
    environment: Environment = ENVIRONMENT,
    services: Mapping[str, str] = SERVICES,
) -> Fingerprint:
    return compute(solve or make_solve(), observed, environment=environment, services=services)


# --- what is in it

IN_IT = {
    "image": "{image: other}",
    "registry": "{registry: 'localhost:5000'}",
    "target": "{target: final}",
    "contexts": "{contexts: {b: service:base}}",
    "dockerfile": "{dockerfile: App.Dockerfile}",
    "secrets": "{secrets: [{id: token, env: TOKEN}]}",
    "ssh": "{ssh: [default]}",
    "labels": "{labels: {a: b}}",
    "annotations": "{annotations: {a: b}}",
    "platforms": "{platforms: [linux/arm64]}",
    "outputs": "{outputs: ['type=registry']}",
    "network": "{network: none}",
    "attestations": "{attestations: {provenance: min}}",
}
"""Key of a service -> a value of it that gives another fingerprint, all that was read being equal."""
READ_FOR_IT = {"context", "args", "buildx", "cache_from", "cache_to"}
"""What is in it by way of `Observed`: a digest, and values hashed with a key; test_inputs.py has them."""
NOT_IN_IT = {
    "tags": ("{tags: [a, b]}", "a new name on the same image is a tag, not a build"),
    "builder": ("{builder: ci}", "its version is not known, so nothing built with it is skipped"),
    "no_cache_filter": ("{no_cache_filter: [deps]}", "it wants a build every time, so nothing is skipped"),
    "retries": ("{retries: 5}", "how often is no matter of what"),
    "timeout": ("{timeout: 5m}", "how long is no matter of what"),
    "timeouts": ("{timeouts: {push: 5m}}", "how long is no matter of what"),
    "max_age": ("{max_age: 24h}", "it is compared with the clock"),
    "size": ("{size: {max: 1GB}}", "the image is judged again without a build"),
    "policy": ("{policy: {user: non-root}}", "the image is judged again without a build"),
}
"""Key of a service -> a value of it that leaves the fingerprint as it is, and why that is right."""


def test_no_key_of_a_service_is_forgotten():
    assert IN_IT.keys() | READ_FOR_IT | NOT_IN_IT.keys() == set(Service.model_fields)
    assert not IN_IT.keys() & NOT_IN_IT.keys()


@pytest.mark.parametrize("key", IN_IT)
def test_a_key_that_can_change_the_image_changes_the_fingerprint(key: str):
    assert of(make_solve(IN_IT[key])).digest != of().digest


@pytest.mark.parametrize("key", NOT_IN_IT)
def test_a_key_that_cannot_change_the_image_leaves_the_fingerprint(key: str):
    service, _ = NOT_IN_IT[key]

    assert of(make_solve(service)) == of()


@pytest.mark.parametrize(
    "attestations", ["{provenance: min}", "{provenance: max}", "{sbom: yes}", "{provenance: max, sbom: yes}"]
)
def test_every_kind_of_attestation_counts(attestations: str):
    others = ["{}", "{provenance: min}", "{provenance: max}", "{sbom: yes}", "{provenance: max, sbom: yes}"]

    digests = {each: of(make_solve(f"{{attestations: {each}}}")).digest for each in others}

    assert len(set(digests.values())) == len(others)
    assert digests[attestations] != digests["{}"]


@pytest.mark.parametrize(
    "selection",
    [Selection(output="push"), Selection(platforms=("linux/arm64",))],
)
def test_where_the_image_goes_and_for_what_it_is_built_count(selection: Selection):
    assert of(make_solve("{}", selection)).digest != of().digest


@pytest.mark.parametrize("selection", [Selection(builder="ci"), Selection(no_cache=True), Selection(services=("app",))])
def test_how_it_is_asked_for_does_not_count(selection: Selection):
    assert of(make_solve("{}", selection)) == of()


OBSERVATIONS: Mapping[str, dict[str, Any]] = {
    "a file": {"contexts": {"": "e" * 64}},
    "another context": {"contexts": {"": "c" * 64, "lib": "c" * 64}},
    "no context": {"contexts": {}},
    "the Dockerfile": {"dockerfile": "e" * 64},
    "a base's digest": {"bases": {"python:3.13-slim": make_digest("moved")}},
    "a base's name": {"bases": {"python:3.13": make_digest("base")}},
    "an argument": {"arguments": {"VERSION": keyed(KEY, "1")}},
    "a remote context": {"remotes": {"lib": keyed(KEY, "https://git.example/lib.git")}},
    "a cache": {"caches": keyed(KEY, "type=inline")},
    "a flag": {"flags": keyed(KEY, '["--shm-size=1g"]')},
}


@pytest.mark.parametrize("changed", OBSERVATIONS)
def test_what_was_read_counts(changed: str):
    assert of(observed=dataclasses.replace(OBSERVED, **OBSERVATIONS[changed])).digest != of().digest


def test_every_field_of_what_was_read_counts_but_the_reasons_against_it():
    told = {name for fields in OBSERVATIONS.values() for name in fields}

    assert told | {"unproven"} == {field.name for field in dataclasses.fields(Observed)}
    assert of(observed=dataclasses.replace(OBSERVED, unproven=("ADD of a URL",))) == of()


SURROUNDINGS: Mapping[str, Any] = {
    "platform": "linux/aarch64",
    "engine": "29.0.0",
    "buildx": "0.30.0",
    "store": "graphdriver",
    "variables": {"SOURCE_DATE_EPOCH": keyed(KEY, "0")},
    "proxies": keyed(KEY, "{}"),
}


@pytest.mark.parametrize("field", [field.name for field in dataclasses.fields(Environment)])
def test_every_field_of_what_is_around_a_build_counts(field: str):
    other = dataclasses.replace(ENVIRONMENT, **{field: SURROUNDINGS[field]})

    assert of(environment=other).digest != of().digest


def test_where_platforms_are_named_the_engines_own_does_not_count():
    solve = make_solve("{platforms: [linux/amd64]}")

    assert of(solve, environment=dataclasses.replace(ENVIRONMENT, platform="linux/aarch64")) == of(solve)


def test_a_service_it_builds_on_counts_by_its_image_and_not_by_its_name_alone():
    solve = make_solve("{contexts: {b: service:base}}")

    first = of(solve, services={"base": "linux/amd64=sha256:1"})
    second = of(solve, services={"base": "linux/amd64=sha256:2"})

    assert first.digest != second.digest
    assert first.digest != of(solve, services={}).digest


def test_what_another_service_is_does_not_count_where_nothing_builds_on_it():
    assert of(services={"base": "linux/amd64=sha256:2"}) == of()


# --- what must not change it


@given(st.permutations(["b", "a", "c"]), st.permutations(["z", "y"]))
def test_the_order_of_a_mapping_does_not_count(labels: list[str], bases: list[str]):
    service = f"{{labels: {{{', '.join(f'{name}: v-{name}' for name in labels)}}}}}"
    observed = dataclasses.replace(OBSERVED, bases={name: make_digest(name) for name in bases})

    found = of(make_solve(service), observed)

    ordered = dataclasses.replace(OBSERVED, bases={name: make_digest(name) for name in sorted(bases)})
    assert found.digest == of(make_solve("{labels: {a: v-a, b: v-b, c: v-c}}"), ordered).digest


@given(st.from_regex(r"(/[a-z]{1,8}){1,4}", fullmatch=True))
def test_the_place_of_the_checkout_does_not_count(root: str):
    service = "{contexts: {lib: lib, up: ../up}, dockerfile: ../docker/App.Dockerfile, secrets: [{id: a, file: k}]}"

    found = of(make_solve(service, root=root))

    assert found == of(make_solve(service, root="/project"))
    assert not any("/project" in value for value in found.inputs.values())


@given(st.lists(st.from_regex(r"[a-z][a-z0-9.-]{0,9}", fullmatch=True), min_size=1, max_size=4, unique=True))
def test_no_tag_counts(tags: list[str]):
    references = tuple(f"shop/app:{tag}" for tag in tags)

    assert of(dataclasses.replace(make_solve(), references=references)) == of()


# --- injective

TEXTS = st.text(st.characters(codec="utf-8"), max_size=6) | st.sampled_from(["", "1:", "2:a", "a1:b", "\udc80", " "])
MAPS = st.dictionaries(TEXTS, TEXTS, max_size=4)


def digest_of(inputs: Mapping[str, str], monkeypatch: pytest.MonkeyPatch) -> str:
    with monkeypatch.context() as patch:
        patch.setattr(fingerprint, "_inputs", lambda *_: inputs.items())
        return of().digest


@given(one=MAPS, other=MAPS)
def test_no_two_sets_of_inputs_have_one_digest(one: dict[str, str], other: dict[str, str]):
    monkeypatch = pytest.MonkeyPatch()

    same = digest_of(one, monkeypatch) == digest_of(other, monkeypatch)

    assert same == (one == other)


@given(st.lists(TEXTS, min_size=2, max_size=6), st.data())
def test_a_text_cut_elsewhere_into_names_and_values_is_another_digest(parts: list[str], data: st.DataObject):
    text = "".join(parts)
    at, other = (data.draw(st.integers(0, len(text))) for _ in range(2))
    monkeypatch = pytest.MonkeyPatch()

    one = digest_of({text[:at]: text[at:]}, monkeypatch)

    assert (one == digest_of({text[:other]: text[other:]}, monkeypatch)) == (at == other)


def test_names_that_meet_when_run_together_stay_apart():
    one = dataclasses.replace(OBSERVED, contexts={"": "x", "a": "y"}, bases={})
    other = dataclasses.replace(OBSERVED, contexts={"": "x"}, bases={"a": "y"})

    assert of(observed=one).digest != of(observed=other).digest


# --- no secret


@given(value=st.text(st.characters(codec="utf-8", categories=["L", "N"]), min_size=8, max_size=40))
def test_a_hash_with_a_key_shows_that_a_value_changed_and_not_what_it_is(value: str):
    hashed = keyed(KEY, value)

    assert value not in hashed
    assert hashed == keyed(KEY, value)
    assert hashed != keyed(KEY, f"{value}x")
    assert hashed != keyed(b"another key", value)


def test_the_inputs_hold_neither_an_argument_nor_a_secret_nor_where_it_is_kept():
    service = (
        "{args: {TOKEN: hunter2-argument}, secrets: [{id: key, env: HUNTER2_VARIABLE}, {id: pem, file: hunter2.pem}],"
        " ssh: ['deploy=/home/hunter2/id'], buildx: ['--add-host=hunter2:1.2.3.4']}"
    )
    observed = dataclasses.replace(OBSERVED, arguments={"TOKEN": keyed(KEY, "hunter2-argument")})

    inputs = of(make_solve(service), observed).inputs

    assert "hunter2" not in str(inputs).lower()
    assert {"argument TOKEN", "secret key", "secret pem", "ssh deploy"} <= inputs.keys()


# --- the decision

NOW = Fingerprint(make_digest("now"), {})
SAME = dataclasses.replace(make_record(digest=make_digest("image")), fingerprint=NOW.digest)
OTHER = dataclasses.replace(SAME, fingerprint=make_digest("then"))
UNKNOWN = dataclasses.replace(SAME, fingerprint=None)


def test_an_image_that_is_proven_to_be_the_same_is_not_built():
    assert decide(NOW, SAME) == Skip(SAME)


DECISIONS: list[tuple[ServiceRecord | None, dict[str, Any], str]] = [
    (None, {}, "first build"),
    (None, {"never": "the last build gave no image"}, "the last build gave no image"),
    (None, {"asked": "--force"}, "first build"),
    (SAME, {"asked": "--force"}, "--force"),
    (SAME, {"asked": "--no-cache"}, "--no-cache"),
    (OTHER, {"asked": "--force", "changes": "a.py"}, "--force"),
    (SAME, {"unproven": ["ADD of a URL"]}, "not provable: ADD of a URL"),
    (SAME, {"unproven": ["a", "b", "c", "d", "e"]}, "not provable: a, b, c and 2 more"),
    (SAME, {"building": ["base"]}, "a service it builds on is built: base"),
    (SAME, {"building": iter(["a", "b", "c", "d"])}, "a service it builds on is built: a, b, c and 1 more"),
    (UNKNOWN, {}, "the last build left no fingerprint"),
    (OTHER, {"changes": "src/main.py"}, "inputs changed: src/main.py"),
    (SAME, {"gone": "image gone: x"}, "image gone: x"),
    (SAME, {"expired": "older than max_age"}, "older than max_age"),
    # The most telling reason comes first.
    (OTHER, {"changes": "a.py", "gone": "image gone: x", "expired": "old"}, "inputs changed: a.py"),
    (OTHER, {"changes": "a.py", "building": ["base"]}, "a service it builds on is built: base"),
    (OTHER, {"changes": "a.py", "building": ["base"], "unproven": ["ADD"]}, "not provable: ADD"),
    (SAME, {"gone": "image gone: x", "expired": "old"}, "image gone: x"),
]


@pytest.mark.parametrize(("last", "doubts", "reason"), DECISIONS)
def test_any_doubt_builds_and_says_why(last: ServiceRecord | None, doubts: dict[str, Any], reason: str):
    assert decide(NOW, last, **doubts) == Build(reason)


@given(
    last=st.sampled_from([None, SAME, OTHER, UNKNOWN]),
    unproven=st.lists(st.just("u"), max_size=1),
    building=st.lists(st.just("b"), max_size=1),
    asked=st.sampled_from(["", "--force"]),
    gone=st.sampled_from(["", "gone"]),
    expired=st.sampled_from(["", "old"]),
)
def test_a_build_is_skipped_only_if_nothing_at_all_speaks_against_it(last: ServiceRecord | None, **doubts: Any):
    decision: Decision = decide(NOW, last, **doubts)

    assert isinstance(decision, Skip) == (last is SAME and not any(doubts.values()))
