"""The judgement, and the rule of the size; the other rules have files of their own."""

from __future__ import annotations

import pytest
from subjects import judged, make_image

from buildorch.contents import Entry, LayerContents
from buildorch.policy import RULES, Trial
from buildorch.record import Finding, PlatformRecord
from buildorch.services import Policy, Service, Size
from buildorch.services.model import Smoke
from buildorch.services.naming import RULE_NAMES
from buildorch.testing import make_platform


def sized(size: Size, platform: PlatformRecord) -> tuple[Finding, ...]:
    return judged(Service(size=size), make_image(platform))


def test_an_image_one_byte_over_its_limit_is_a_finding_naming_both_sizes_and_the_three_heaviest_layers():
    platform = make_platform(unpacked=[10, 40, 31, 20], compressed=[1, 1, 1, 1])

    [finding] = sized(Size(max=100), platform)

    assert (finding.rule, finding.severity, finding.line) == ("size", "error", None)
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

    [finding] = judged(
        Service(size=Size(max=100)), images={"linux/amd64": make_image(small), "linux/arm64": make_image(large)}
    )

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


def test_errors_stand_before_warnings():
    spec = Service(size=Size(target=1), policy=Policy(user="non-root", min_stages=9))

    findings = judged(spec, make_image(user="root"))

    assert [(finding.rule, finding.severity) for finding in findings] == [
        ("user", "error"),
        ("stages", "error"),
        ("size", "warning"),
    ]


def test_a_service_without_rules_has_no_findings():
    assert judged(Service(), make_image(user="root")) == ()


def test_a_rule_that_is_off_is_not_asked_and_the_others_are():
    policy = Policy(user="non-root", min_stages=9, off={"user": "until the base image has one"})

    assert [finding.rule for finding in judged(policy, make_image(user="root"))] == ["stages"]


@pytest.mark.parametrize("name", sorted(RULES))
def test_every_rule_finds_something_under_its_own_name_and_nothing_once_it_is_off(name: str):
    everything = Policy(
        user="non-root",
        min_stages=2,
        bases=(),
        pinned="warning",
        cache_mounts="warning",
        healthcheck="warning",
        exec_form="warning",
        labels=("x",),
        build_checks="warning",
        contents="warning",
        smoke=Smoke(),
    )
    layer = LayerContents(0, (Entry(".env", "file"),))
    bad = make_image(user="0", command=("/bin/sh", "-c", "x"), layers=(layer,))
    text = "FROM debian:10\nENV TOKEN=x\nRUN apt-get update\n"

    found, without = (
        judged(
            Service(size=Size(max=1), policy=everything.model_copy(update={"off": off})),
            bad,
            dockerfile=text,
            warnings=("w",),
            trials={"linux/amd64": Trial("ended")},
        )
        for off in ({}, {name: "for a while"})
    )

    assert {finding.rule for finding in found} == set(RULES)
    assert {finding.rule for finding in without} == set(RULES) - {name}


def test_every_rule_can_be_switched_off():
    assert tuple(sorted(RULES)) == tuple(sorted(RULE_NAMES))
