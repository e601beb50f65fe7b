"""The rules an image must keep: each with facts that break it and facts that do not."""

from __future__ import annotations

import pytest

from buildorch.dockerfile import Dockerfile, read
from buildorch.measure import ImageFacts
from buildorch.policy import Subject, judge
from buildorch.record import Finding, PlatformRecord
from buildorch.services import Policy, Service, Size
from buildorch.testing import make_facts, make_platform

TWO_STAGES = "FROM python:3.13-slim AS deps\nRUN x\nFROM python:3.13-slim\nCOPY --from=deps /a /b\n"


def judged(spec: Service, facts: ImageFacts | None = None, dockerfile: str | None = TWO_STAGES) -> tuple[Finding, ...]:
    stages: Dockerfile | None = read(dockerfile, {}) if dockerfile is not None else None
    return judge(Subject(spec, (facts or make_facts()).platforms, stages))


def sized(size: Size, platform: PlatformRecord) -> tuple[Finding, ...]:
    return judged(Service(size=size), make_facts(platform))


def test_an_image_one_byte_over_its_limit_is_a_finding_naming_both_sizes_and_the_three_heaviest_layers():
    platform = make_platform(unpacked=[10, 40, 31, 20], compressed=[1, 1, 1, 1])

    [finding] = sized(Size(max=100), platform)

    assert (finding.rule, finding.severity) == ("size", "error")
    assert finding.message == "linux/amd64: unpacked 101 B (101 B) is over the max of 100 B (100 B) by 1 B"
    assert finding.hint == "heaviest layers: 40 B COPY 1 /; 31 B COPY 2 /; 20 B COPY 3 /"


def test_an_image_of_exactly_its_limit_is_within_it():
    assert sized(Size(max=101, target=101), make_platform(unpacked=[101], compressed=[1])) == ()


def test_an_image_over_its_target_alone_is_a_warning():
    [finding] = sized(Size(max=200, target=100), make_platform(unpacked=[101], compressed=[1]))

    assert finding.severity == "warning"
    assert "is over the target of 100 B" in finding.message


def test_an_image_over_both_is_one_error():
    [finding] = sized(Size(max=100, target=50), make_platform(unpacked=[101], compressed=[1]))

    assert finding.severity == "error"


def test_a_budget_of_the_compressed_size_looks_at_that_and_names_layers_by_it():
    platform = make_platform(unpacked=[1, 1000], compressed=[60, 41])

    [finding] = sized(Size(max=100, of="compressed"), platform)

    assert "compressed 101 B (101 B) is over the max of 100 B" in finding.message
    assert finding.hint == "heaviest layers: 60 B COPY 0 /; 41 B COPY 1 /"


def test_a_large_size_is_named_in_decimal_units_and_to_the_byte():
    [finding] = sized(Size(max=500_000_000), make_platform(unpacked=[512_345_678], compressed=[1]))

    assert "unpacked 512.3 MB (512345678 B) is over the max of 500.0 MB (500000000 B) by 12.3 MB" in finding.message


def test_a_compressed_size_that_is_not_known_is_a_warning_and_no_verdict():
    platform = make_platform()
    unknown = PlatformRecord(
        manifest_digest=None,
        config_digest=platform.config_digest,
        compressed_bytes=None,
        unpacked_bytes=platform.unpacked_bytes,
        user="1000",
        layers=platform.layers,
    )

    [finding] = sized(Size(max=1, of="compressed"), unknown)

    assert finding.severity == "warning"
    assert "the compressed size is not known" in finding.message


def test_every_platform_is_judged_for_itself():
    small, large = make_platform(unpacked=[10], compressed=[1]), make_platform(unpacked=[200], compressed=[1])
    facts = ImageFacts("sha256:x", None, {"linux/amd64": small, "linux/arm64": large}, ())

    [finding] = judged(Service(size=Size(max=100)), facts)

    assert finding.message.startswith("linux/arm64: ")


def test_a_long_instruction_is_shortened():
    platform = make_platform(unpacked=[10], compressed=[1])
    layer = platform.layers[0]
    long = type(layer)(
        digest=layer.digest, compressed_bytes=1, unpacked_bytes=10, created_by=f"RUN {'x' * 200} # buildkit"
    )
    platform = PlatformRecord(
        manifest_digest=None, config_digest="c", compressed_bytes=1, unpacked_bytes=10, user="", layers=(long,)
    )

    [finding] = sized(Size(max=9), platform)

    assert finding.hint.endswith("x...")
    assert len(finding.hint) < 120


@pytest.mark.parametrize("user", ["", "0", "root", "0:0", "root:root", "00", "0:1000", " root "])
def test_an_image_that_runs_as_root_breaks_the_rule(user: str):
    spec = Service(policy=Policy(user="non-root"))

    [finding] = judged(spec, make_facts(make_platform(user=user)))

    assert (finding.rule, finding.severity) == ("user", "error")
    assert "root" in finding.message
    assert "USER 10001" in finding.hint


@pytest.mark.parametrize("user", ["1000", "app", "app:app", "10001:0", "rooter", "nobody"])
def test_an_image_that_runs_as_somebody_else_keeps_the_rule(user: str):
    assert judged(Service(policy=Policy(user="non-root")), make_facts(make_platform(user=user))) == ()


def test_without_the_rule_root_may_run():
    assert judged(Service(), make_facts(make_platform(user="root"))) == ()


@pytest.mark.parametrize(("wanted", "broken"), [(1, False), (2, False), (3, True)])
def test_a_dockerfile_of_too_few_stages_breaks_the_rule(wanted: int, *, broken: bool):
    findings = judged(Service(policy=Policy(min_stages=wanted)))

    assert [finding.message for finding in findings] == (
        ["the Dockerfile has 2 stage(s), at least 3 are wanted"] if broken else []
    )


@pytest.mark.parametrize(
    ("base", "allowed", "broken"),
    [
        ("python:3.13-slim", ["python:3.13-slim"], False),
        ("docker.io/library/python:3.13-slim", ["python:3.13-slim"], False),
        ("python:3.13-slim@sha256:" + "0" * 64, ["python:3.13-slim"], False),
        ("python:3.13-slim", ["python:3.*-slim"], False),
        ("python:3.13", ["python:3.13-slim"], True),
        ("other/python:3.13-slim", ["python:3.13-slim"], True),
        ("scratch", ["python:3.13-slim"], False),
        ("python:3.13-slim", [], True),
    ],
)
def test_a_base_image_that_is_not_on_the_list_breaks_the_rule(base: str, allowed: list[str], *, broken: bool):
    findings = judged(Service(policy=Policy(bases=tuple(allowed))), dockerfile=f"# first\nFROM {base}\n")

    assert bool(findings) == broken
    if broken:
        assert findings[0].message.startswith("line 2 of the Dockerfile starts from ")


def test_an_earlier_stage_and_a_named_context_are_no_base_images():
    spec = Service(policy=Policy(bases=("python:3.13-slim",)), contexts={"own-base": "service:base"})

    assert judged(spec, dockerfile="FROM python:3.13-slim AS deps\nFROM own-base AS x\nFROM deps\n") == ()


@pytest.mark.parametrize("policy", [Policy(min_stages=2), Policy(bases=("x",))])
def test_a_dockerfile_that_cannot_be_read_here_is_a_warning(policy: Policy):
    [finding] = judged(Service(policy=policy), dockerfile=None)

    assert finding.severity == "warning"
    assert "cannot be read here" in finding.message


def test_errors_stand_before_warnings():
    spec = Service(size=Size(target=1), policy=Policy(user="non-root", min_stages=9))

    findings = judged(spec, make_facts(make_platform(user="root")))

    assert [(finding.rule, finding.severity) for finding in findings] == [
        ("user", "error"),
        ("stages", "error"),
        ("size", "warning"),
    ]


def test_a_service_without_rules_has_no_findings():
    assert judged(Service()) == ()
