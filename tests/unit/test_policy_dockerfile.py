"""The rules that look at the Dockerfile: its stages, and the images they start and copy from."""

from __future__ import annotations

from datetime import date

import pytest
from subjects import TODAY, judged, make_subject

from buildorch.policy import end_of_life
from buildorch.services import Policy, Service

DIGEST = "sha256:" + "0" * 64


@pytest.mark.parametrize(("wanted", "broken"), [(1, False), (2, False), (3, True)])
def test_a_dockerfile_of_too_few_stages_breaks_the_rule(wanted: int, *, broken: bool):
    findings = judged(Policy(min_stages=wanted))

    assert [(finding.severity, finding.message, finding.line) for finding in findings] == (
        [("error", "the image is built in 2 stage(s), at least 3 are wanted", 1)] if broken else []
    )


def test_a_stage_that_the_target_does_not_need_does_not_count():
    [finding] = judged(Policy(min_stages=2), dockerfile="# first\nFROM a AS unused\nFROM b\n")

    assert finding.message == "the image is built in 1 stage(s), at least 2 are wanted"
    assert finding.line == 3


@pytest.mark.parametrize(
    "text",
    [
        "FROM a AS build\nRUN x\nFROM build\n",
        "FROM a AS base\nFROM base AS build\nFROM build\nCOPY --from=base /a /b\n",
    ],
)
def test_an_image_that_consists_of_every_stage_that_is_built_breaks_the_rule(text: str):
    [finding] = judged(Policy(min_stages=2), dockerfile=text)

    assert (finding.rule, finding.severity, finding.line) == (
        "stages",
        "error",
        1 + text[: text.rindex("FROM")].count("\n"),
    )
    assert finding.message.startswith("the final stage is the build stage: ")


@pytest.mark.parametrize(
    "text",
    [
        "FROM a AS base\nFROM base AS build\nFROM base\nCOPY --from=build /a /b\n",
        "FROM a AS build\nFROM b\nRUN --mount=from=build,target=/b cp /b /c\n",
    ],
)
def test_an_image_that_leaves_a_stage_behind_keeps_the_rule(text: str):
    assert judged(Policy(min_stages=2), dockerfile=text) == ()


def test_where_one_stage_will_do_it_may_be_the_image():
    assert judged(Policy(min_stages=1), dockerfile="FROM a AS build\nFROM build\n") == ()


@pytest.mark.parametrize(
    ("base", "allowed", "broken"),
    [
        ("python:3.13-slim", ["python:3.13-slim"], False),
        ("docker.io/library/python:3.13-slim", ["python:3.13-slim"], False),
        (f"python:3.13-slim@{DIGEST}", ["python:3.13-slim"], False),
        ("python:3.13-slim", ["python:3.*-slim"], False),
        ("python:3.13", ["python:3.13-slim"], True),
        ("other/python:3.13-slim", ["python:3.13-slim"], True),
        ("scratch", ["python:3.13-slim"], False),
        ("python:3.13-slim", [], True),
        ("index.docker.io/library/python:latest", ["python"], False),
        ("python", ["docker.io/python:latest"], False),
        ("python", ["python:*"], False),
        ("python:latest", ["python:*"], False),
        ("localhost:5000/python", ["localhost:5000/python:*"], False),
        ("localhost:5000/python", ["python"], True),
        ("python:3.13", ["python"], True),
    ],
)
def test_a_base_image_that_is_not_on_the_list_breaks_the_rule(base: str, allowed: list[str], *, broken: bool):
    findings = judged(Policy(bases=tuple(allowed)), dockerfile=f"# first\nFROM {base}\n")

    assert bool(findings) == broken
    if broken:
        assert findings[0].message.startswith("line 2 of the Dockerfile starts or copies from ")
        assert (findings[0].severity, findings[0].line) == ("error", 2)


def test_images_that_are_copied_and_mounted_from_are_judged_and_those_of_unneeded_stages_are_not():
    text = "FROM bad AS unused\nFROM good\nCOPY --from=tool:1 /a /b\nRUN --mount=from=tool:2,target=/m x\n"

    findings = judged(Policy(bases=("good", "tool:2")), dockerfile=text)

    assert [finding.message for finding in findings] == [
        "line 3 of the Dockerfile starts or copies from 'tool:1', not one of: good, tool:2"
    ]


def test_a_base_whose_variables_are_not_known_is_a_warning():
    findings = judged(
        Policy(bases=("a",), pinned="error"), dockerfile="ARG B\nFROM a-$BUILDARCH AS x\nFROM $B\nCOPY --from=x / /"
    )

    assert [(finding.rule, finding.severity, finding.line) for finding in findings] == [
        ("bases", "warning", 2),
        ("bases", "warning", 3),
        ("pinned", "warning", 2),
        ("pinned", "warning", 3),
    ]


@pytest.mark.parametrize("level", ["error", "warning"])
def test_an_image_without_a_digest_breaks_the_rule(level: str):
    text = f"FROM a@{DIGEST} AS x\nFROM b:1\nCOPY --from=c / /\nCOPY --from=x / /\n"

    findings = judged(Policy(pinned=level), dockerfile=text, pinned=frozenset({"b:1"}))

    assert [(finding.rule, finding.severity, finding.line) for finding in findings] == [("pinned", level, 3)]
    assert findings[0].message == "line 3 of the Dockerfile starts or copies from 'c' without a digest"
    assert "`buildorch lock`" in findings[0].hint
    assert judged(Policy(), dockerfile=text) == ()


def test_an_image_past_its_support_is_a_warning_though_nothing_was_asked_for():
    [finding] = judged(Service(), dockerfile="FROM node:18-alpine AS a\nFROM node:18-alpine\nCOPY --from=a / /\n")

    assert (finding.rule, finding.severity, finding.line) == ("end_of_life", "warning", None)
    assert finding.message == "node:18-alpine is past its end of life since 2025-04-30: nobody mends it"


def test_the_day_of_the_subject_decides_whether_an_image_is_past_its_support():
    assert judged(Service(), dockerfile="FROM node:18\n", today=date(2025, 4, 30)) == ()


def test_the_names_of_a_record_give_the_findings_of_its_dockerfile():
    subject = make_subject(Service(), dockerfile="FROM node:18 AS a\nFROM debian:10\nCOPY --from=a / /\n")

    found = list(end_of_life.past_support(["node:18", "python:3.13", "debian:10", "node:18", "no reference:"], TODAY))

    assert found == list(end_of_life.rule(subject))
    assert len(found) == 2


@pytest.mark.parametrize(
    ("policy", "rule"),
    [
        (Policy(min_stages=2), "stages"),
        (Policy(bases=("x",)), "bases"),
        (Policy(pinned="error"), "pinned"),
        (Policy(cache_mounts="error"), "cache_mounts"),
    ],
)
def test_a_dockerfile_that_cannot_be_read_here_is_a_warning(policy: Policy, rule: str):
    [finding] = judged(policy, dockerfile=None)

    assert (finding.rule, finding.severity) == (rule, "warning")
    assert "cannot be read here" in finding.message


def test_a_dockerfile_that_cannot_be_read_and_that_no_rule_asks_for_is_nothing():
    assert judged(Service(), dockerfile=None, mounts_elsewhere={"x": {"web": "locked"}}) == ()
