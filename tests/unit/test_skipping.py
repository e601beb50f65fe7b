"""Every service of a run at once: which are built, which are skipped, and what is recorded of either."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from buildorch.changes import Instruction, Snapshot
from buildorch.fingerprint import Build, Environment, Observed, Skip, compute
from buildorch.inputs import Inputs
from buildorch.plan import Plan, Selection, resolve
from buildorch.presence import Presence, Wanted
from buildorch.record import NOT_MOVED, ServiceRecord, Step, Steps
from buildorch.services import parse
from buildorch.skipping import Decided, Past, decide_all, identities, identity, is_proven, made_from, presences, skipped
from buildorch.testing import make_digest, make_platform, make_record

ENVIRONMENT = Environment(engine="28.0.0", buildx="0.29.1", store="containerd")
CHAIN = "{base: , lib: {contexts: {b: service:base}}, app: {contexts: {l: service:lib}}, other: }"


def plan_of(services: str = CHAIN, *, root: Path = Path("/project"), push: bool = False) -> Plan:
    file = parse(f"version: 1\nproject: shop\nservices: {services}\n", "services.yaml")
    return resolve(file, Selection(output="push" if push else "load"), root=root)


def inputs_of(plan: Plan, **observed: Observed) -> dict[str, Inputs]:
    """What was read of each solve; by default a context and a Dockerfile of its own."""
    return {
        solve.name: Inputs(solve, observed.get(solve.name, Observed({"": f"c of {solve.name}"}, "d", {})))
        for solve in plan.solves
    }


def built(name: str, *, at: datetime | None = None, manifest: str = "") -> ServiceRecord:
    """The record of a service's build, without its fingerprint."""
    platform = dataclasses.replace(make_platform(), manifest_digest=make_digest(f"manifest of {manifest or name}"))
    return dataclasses.replace(
        make_record(digest=make_digest(f"index of {name}")),
        reference=f"shop/{name}:latest",
        references=(f"shop/{name}:latest",),
        platforms={"linux/amd64": platform},
        built_at=(at or datetime.now(UTC)).isoformat().replace("+00:00", "Z"),
        steps=Steps(total=3, executed=3),
        attempts=1,
        duration_s=7.0,
    )


def run_before(inputs: Mapping[str, Inputs], **records: ServiceRecord) -> Past:
    """The past in which these inputs were all built, each service's image from those before it."""
    images: dict[str, ServiceRecord] = {}
    snapshots: dict[str, bytes] = {}
    for name, one in inputs.items():
        record = records.get(name, built(name))
        made = made_from(one, images, environment=ENVIRONMENT)
        images[name] = dataclasses.replace(record, fingerprint=made.digest if is_proven(one, record) else None)
        snapshots[name] = one.snapshot(made).to_bytes()
    return Past(images, frozenset(images), snapshots.get)


@dataclasses.dataclass
class Place:
    """Where images are: all of them, but those it was told something else of."""

    told: Mapping[str, Presence] = dataclasses.field(default_factory=dict)
    asked: list[tuple[str, ...]] = dataclasses.field(default_factory=list)

    def __call__(self, images: Sequence[Wanted]) -> list[Presence]:
        self.asked.append(tuple(image.reference for image in images))
        return [self.told.get(image.reference, Presence("present")) for image in images]


def decide(
    inputs: Mapping[str, Inputs], past: Past, *, asked: str = "", engine: Place | None = None, **around: Any
) -> dict[str, Decided]:
    return decide_all(
        inputs,
        past,
        environment=around.get("environment", ENVIRONMENT),
        asked=asked,
        presences={}
        if asked
        else presences(
            [one.solve for one in inputs.values()],
            past,
            in_engine=engine or Place(),
            in_registries=around.get("registries", Place()),
        ),
    )


def told(decided: Mapping[str, Decided]) -> dict[str, str]:
    """Service -> `skip`, or why it is built."""
    return {name: "skip" if isinstance(one.decision, Skip) else one.reason for name, one in decided.items()}


# --- all at once


def test_without_a_past_everything_is_built_for_the_first_time():
    engine = Place()

    decided = decide(inputs_of(plan_of()), Past({}, frozenset(), {}.get), engine=engine)

    assert told(decided) == dict.fromkeys(["base", "lib", "app", "other"], "first build")
    assert engine.asked == []


def test_a_service_that_never_gave_an_image_is_told_from_one_that_was_never_built():
    past = Past({}, frozenset({"base"}), {}.get)

    assert told(decide(inputs_of(plan_of("{base: , new: }")), past)) == {
        "base": "the last build gave no image",
        "new": "first build",
    }


def test_what_did_not_change_is_skipped_and_its_images_are_asked_for_in_one_question():
    inputs = inputs_of(plan_of())
    engine, registries = Place(), Place()

    decided = decide(inputs, run_before(inputs), engine=engine, registries=registries)

    assert set(told(decided).values()) == {"skip"}
    assert {one.reason for one in decided.values()} == {"nothing changed"}
    assert engine.asked == [tuple(f"shop/{name}:latest" for name in ("base", "other", "lib", "app"))]
    assert registries.asked == []


def test_what_builds_on_a_changed_service_is_built_with_it_all_the_way_up():
    plan = plan_of()
    past = run_before(inputs_of(plan))

    decided = decide(inputs_of(plan, base=Observed({"": "changed"}, "d", {})), past)

    assert told(decided) == {
        "base": "inputs changed: context",
        "lib": "a service it builds on is built: base",
        "app": "a service it builds on is built: lib",
        "other": "skip",
    }


def test_a_service_whose_base_became_another_image_meanwhile_is_built():
    inputs = inputs_of(plan_of())
    past = run_before(inputs)
    other = dataclasses.replace(built("base", manifest="another"), fingerprint=past.images["base"].fingerprint)

    decided = decide(inputs, dataclasses.replace(past, images={**past.images, "base": other}))

    assert told(decided)["base"] == "skip"
    assert told(decided)["lib"] == "inputs changed: service b"


@pytest.mark.parametrize("asked", ["--force", "--no-cache"])
def test_nobody_is_asked_for_images_that_are_built_anyway(asked: str):
    inputs = inputs_of(plan_of("{base: }"))
    engine = Place()

    decided = decide(inputs, run_before(inputs), asked=asked, engine=engine)

    assert told(decided) == {"base": asked}
    assert engine.asked == []


def test_another_version_of_the_engine_builds_and_names_both():
    inputs = inputs_of(plan_of("{base: }"))

    decided = decide(inputs, run_before(inputs), environment=dataclasses.replace(ENVIRONMENT, engine="29.0.0"))

    assert told(decided) == {"base": "inputs changed: engine (28.0.0, now 29.0.0)"}


def test_every_change_is_kept_for_explaining():
    plan = plan_of("{base: }")
    old = {"base": dataclasses.replace(inputs_of(plan)["base"], instructions=(Instruction.of(1, "FROM", "FROM a"),))}
    new = inputs_of(plan, base=Observed({"": "x"}, "e", {"python:3.13": make_digest("b")}))
    new["base"] = dataclasses.replace(new["base"], instructions=(Instruction.of(1, "FROM", "FROM python:3.13"),))

    [decided] = decide(new, run_before(old)).values()

    assert [str(change) for change in decided.changes] == ["Dockerfile:1 FROM", "base python:3.13 added", "context"]


@pytest.mark.parametrize("kept_bytes", [None, b"", b"damaged"])
def test_without_what_was_kept_of_the_last_inputs_it_is_built_and_says_so(kept_bytes: bytes | None):
    plan = plan_of("{base: }")
    past = dataclasses.replace(run_before(inputs_of(plan)), snapshot=lambda _: kept_bytes)

    [decided] = decide(inputs_of(plan, base=Observed({"": "x"}, "d", {})), past).values()

    assert decided.decision == Build("inputs changed: what the last build read is not known")
    assert decided.changes == ()


# --- where the images are


@pytest.mark.parametrize("state", ["gone", "unknown"])
def test_an_image_that_is_not_surely_there_is_built_again(state: Any):
    inputs = inputs_of(plan_of("{base: }"))
    engine = Place({"shop/base:latest": Presence(state, "image gone: shop/base:latest is not there")})

    decided = decide(inputs, run_before(inputs), engine=engine)

    assert told(decided) == {"base": "image gone: shop/base:latest is not there"}
    assert decided["base"].untagged == ()


def test_a_name_that_an_image_lacks_is_given_to_it_without_a_build():
    before = inputs_of(plan_of("{base: }"))
    inputs = inputs_of(plan_of("{base: {tags: [latest, v2]}}"))
    engine = Place({"shop/base:v2": Presence("untagged", "…")})

    decided = decide(inputs, run_before(before), engine=engine)

    assert told(decided) == {"base": "skip"}
    assert decided["base"].untagged == ("shop/base:v2",)
    assert engine.asked == [("shop/base:latest", "shop/base:v2")]


def test_one_name_that_is_gone_among_several_is_enough_to_build():
    inputs = inputs_of(plan_of("{base: {tags: [a, b, c]}}"))
    engine = Place({"shop/base:a": Presence("untagged", "…"), "shop/base:b": Presence("gone", "image gone: b")})

    assert told(decide(inputs, run_before(inputs), engine=engine)) == {"base": "image gone: b"}


def test_images_that_are_pushed_are_asked_for_in_their_registries():
    inputs = inputs_of(plan_of("{base: {outputs: ['type=registry']}, lib: }", push=True))
    engine, registries = Place(), Place()

    decide(inputs, run_before(inputs), engine=engine, registries=registries)

    assert (engine.asked, registries.asked) == ([], [("shop/base:latest", "shop/lib:latest")])


# --- age


@pytest.mark.parametrize(
    ("age", "is_built"),
    [
        (timedelta(minutes=59), False),
        (timedelta(minutes=61), True),
        (timedelta(minutes=-5), True),  # a clock that was set back says nothing of the age
    ],
)
def test_an_image_older_than_its_max_age_is_built_again(age: timedelta, *, is_built: bool):
    inputs = inputs_of(plan_of("{base: {max_age: 1h}}"))
    record = built("base", at=datetime.now(UTC) - age)

    [decided] = decide(inputs, run_before(inputs, base=record)).values()

    assert isinstance(decided.decision, Build) == is_built
    if is_built:
        assert record.built_at is not None
        assert record.built_at in decided.reason
        assert "max_age" in decided.reason


def test_an_image_without_max_age_never_becomes_too_old():
    inputs = inputs_of(plan_of("{base: }"))

    assert told(decide(inputs, run_before(inputs, base=built("base", at=datetime(1999, 1, 1, tzinfo=UTC))))) == {
        "base": "skip"
    }


# --- what an image is


def test_an_image_is_its_platforms_and_neither_its_name_nor_its_index():
    record = built("base")
    renamed = dataclasses.replace(record, reference="x", references=("x",), digest=make_digest("x"), index_digest="y")

    assert identity(record) == identity(renamed)
    assert identity(record) != identity(built("lib"))


def test_the_order_of_platforms_does_not_make_another_image():
    one, two = make_platform(), dataclasses.replace(make_platform(), manifest_digest=make_digest("arm"))
    record = built("base")

    assert identity(dataclasses.replace(record, platforms={"a": one, "b": two})) == identity(
        dataclasses.replace(record, platforms={"b": two, "a": one})
    )


def test_on_a_store_without_manifests_an_image_is_its_configs():
    one, two = (
        dataclasses.replace(make_platform(), manifest_digest=None, config_digest=make_digest(name)) for name in "ab"
    )
    record = built("base")

    assert identity(dataclasses.replace(record, platforms={"linux/amd64": one})) != identity(
        dataclasses.replace(record, platforms={"linux/amd64": two})
    )


def test_only_services_that_a_solve_builds_on_identify_it():
    plan = plan_of()
    images = {name: built(name) for name in ("base", "lib", "other")}

    found = {solve.name: identities(solve, images) for solve in plan.solves}

    assert found == {
        "base": {},
        "other": {},
        "lib": {"base": identity(images["base"])},
        "app": {"lib": identity(images["lib"])},
    }


# --- records


def test_a_skipped_services_record_is_its_builds_but_for_how_it_came_about():
    inputs = inputs_of(plan_of("{base: {tags: [new, latest], size: {max: 10}}}"))
    past = run_before(inputs)
    [decided] = decide(inputs, past).values()

    step = Step(name="x", is_instruction=True, started_at="", duration_s=1.0, cached=False, failed=False)
    built = dataclasses.replace(past.images["base"], timeline=(step,))

    record = skipped(decided, built)

    assert (record.status, record.reason, record.unchanged) == ("skipped", "nothing changed", True)
    assert (record.reference, record.references) == ("shop/base:new", ("shop/base:new", "shop/base:latest"))
    assert (record.steps, record.timeline, record.attempts, record.duration_s) == (Steps(), (), 0, 0.0)
    assert (record.started_at, record.finished_at) == (None, None)
    unlike = {
        *("status", "reason", "unchanged", "reference", "references", "steps", "timeline", "attempts", "duration_s"),
        *("started_at", "finished_at"),
    }
    for field in dataclasses.fields(ServiceRecord):
        if field.name not in unlike:
            assert getattr(record, field.name) == getattr(past.images["base"], field.name), field.name


def test_that_an_image_was_not_published_then_is_not_said_of_the_run_that_skips_it():
    inputs = inputs_of(plan_of("{base: }"))
    [decided] = decide(inputs, run_before(inputs)).values()
    before = dataclasses.replace(make_record(digest=make_digest("base")), warnings=("of the build", f"{NOT_MOVED}bad"))

    record = skipped(decided, before)

    assert (record.warnings, record.withheld, before.withheld) == (("of the build",), "", "bad")


def test_what_is_skipped_once_is_skipped_again():
    inputs = inputs_of(plan_of("{base: }"))
    past = run_before(inputs)
    [decided] = decide(inputs, past).values()
    again = skipped(decided, past.images["base"])

    assert told(decide(inputs, dataclasses.replace(past, images={"base": again}))) == {"base": "skip"}


def test_a_build_leaves_the_fingerprint_of_what_it_was_made_from():
    [one] = inputs_of(plan_of("{base: }")).values()

    made = made_from(one, {}, environment=ENVIRONMENT)

    assert made == compute(one.solve, one.observed, environment=ENVIRONMENT, services={})


NOT_PROVEN: Mapping[str, Callable[[Inputs, ServiceRecord], tuple[Inputs, ServiceRecord]]] = {
    "no image": lambda one, record: (one, dataclasses.replace(record, digest=None)),
    "a doubt": lambda one, record: (
        dataclasses.replace(one, observed=dataclasses.replace(one.observed, unproven=("ADD of a URL",))),
        record,
    ),
    "another base came in between": lambda one, record: (
        dataclasses.replace(one, observed=dataclasses.replace(one.observed, bases={"python": make_digest("a")})),
        dataclasses.replace(record, bases={"python": make_digest("b")}),
    ),
    "the same by another name": lambda one, record: (
        dataclasses.replace(
            one, observed=dataclasses.replace(one.observed, bases={"docker.io/library/python": make_digest("a")})
        ),
        dataclasses.replace(record, bases={"python": make_digest("b")}),
    ),
    "a base that nothing held and nobody saw": lambda one, record: (
        dataclasses.replace(one, observed=dataclasses.replace(one.observed, bases={"nginx": make_digest("a")})),
        record,
    ),
}


@pytest.mark.parametrize("why", NOT_PROVEN)
def test_an_image_that_is_not_proven_to_be_made_from_its_inputs_has_no_fingerprint(why: str):
    [one] = inputs_of(plan_of("{base: }")).values()

    assert not is_proven(*NOT_PROVEN[why](one, built("base")))


@pytest.mark.parametrize(
    ("reference", "held"),
    [
        (f"python@{make_digest('a')}", {}),
        ("python:3", {"pins": {"python:3": f"docker-image://python:3@{make_digest('a')}"}}),
        ("docker/dockerfile:1", {"frontend": f"docker/dockerfile:1@{make_digest('a')}"}),
        ("python:3", {"contexts": {"os": f"docker-image://python:3@{make_digest('a')}"}}),
    ],
)
def test_a_base_that_the_build_is_held_to_is_proof_though_buildkit_does_not_name_it(
    reference: str, held: dict[str, Any]
):
    [one] = inputs_of(plan_of("{base: }"), base=Observed({}, "d", {reference: make_digest("a")})).values()
    one = dataclasses.replace(one, solve=dataclasses.replace(one.solve, **held))

    assert is_proven(one, built("base"))


def test_a_base_that_buildkit_took_as_it_was_looked_up_is_proof():
    [one] = inputs_of(plan_of("{base: }"), base=Observed({}, "d", {"python": make_digest("a")})).values()
    record = dataclasses.replace(built("base"), bases={"python": make_digest("a"), "more": make_digest("b")})

    assert is_proven(one, record)


def test_a_base_is_the_same_however_the_dockerfile_writes_it():
    written = "docker.io/library/python:latest"
    [one] = inputs_of(plan_of("{base: }"), base=Observed({}, "d", {written: make_digest("a")})).values()
    record = dataclasses.replace(built("base"), bases={"python": make_digest("a")})

    assert is_proven(one, record)


def test_an_image_that_nobody_looked_for_is_built_again():
    inputs = inputs_of(plan_of("{base: }"))

    decided = decide_all(inputs, run_before(inputs), environment=ENVIRONMENT, asked="", presences={})

    assert told(decided) == {"base": "its image was not looked for"}


# --- the same image once more

ATTESTED = "{base: {attestations: {provenance: min}%s}}"


def indexed(name: str) -> ServiceRecord:
    """The record of an image with an index of its own."""
    record = built(name)
    return dataclasses.replace(record, index_digest=record.digest)


def test_the_digest_of_an_index_may_stay_where_a_build_is_asked_for_once_more():
    inputs = inputs_of(plan_of(ATTESTED % ""))
    past = run_before(inputs, base=indexed("base"))

    assert decide(inputs, past, asked="--force")["base"].deployed == past.images["base"]
    assert decide(inputs, past)["base"].deployed is None


def test_the_digest_of_an_index_may_stay_where_other_inputs_changed():
    past = run_before(inputs_of(plan_of(ATTESTED % "")), base=indexed("base"))
    inputs = inputs_of(plan_of(ATTESTED % ", labels: {a: b}"), base=Observed({"": "another"}, "d", {}))

    assert decide(inputs, past)["base"].deployed == past.images["base"]


def test_it_may_stay_where_nothing_can_be_proven_of_the_service():
    inputs = inputs_of(plan_of(ATTESTED % ""), base=Observed({"": "c"}, "d", {}, unproven=("it adds a URL",)))
    past = run_before(inputs, base=indexed("base"))

    assert past.images["base"].fingerprint is None
    assert decide(inputs, past)["base"].deployed == past.images["base"]


@pytest.mark.parametrize(
    "now",
    [
        "{base: {attestations: {provenance: max}}}",
        "{base: {attestations: {provenance: min, sbom: true}}}",
        ATTESTED % ", annotations: {'index:a': b}",
        ATTESTED % ", outputs: ['type=image,push=true']",
        ATTESTED % ", image: other",
    ],
)
def test_an_index_that_would_be_made_otherwise_today_does_not_stay(now: str):
    past = run_before(inputs_of(plan_of(ATTESTED % "")), base=indexed("base"))

    assert decide(inputs_of(plan_of(now)), past)["base"].deployed is None


def test_an_image_without_an_index_has_nothing_to_stay():
    inputs = inputs_of(plan_of("{base: }"))

    assert decide(inputs, run_before(inputs), asked="--force")["base"].deployed is None


def test_nothing_stays_where_it_is_not_known_what_the_last_image_was_made_from():
    inputs = inputs_of(plan_of(ATTESTED % ""))
    past = dataclasses.replace(run_before(inputs, base=indexed("base")), snapshot=lambda _: b"broken")

    assert decide(inputs, past, asked="--force")["base"].deployed is None


def test_the_snapshot_of_a_build_holds_the_fingerprints_own_inputs():
    [one] = inputs_of(plan_of("{base: }")).values()
    made = compute(one.solve, one.observed, environment=ENVIRONMENT, services={})

    assert Snapshot.from_bytes(one.snapshot(made).to_bytes()).inputs == made.inputs
