"""How a check is written: text, JSON, SARIF, JUnit XML and GitHub's workflow commands."""

from __future__ import annotations

import dataclasses
import json
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import unquote
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from buildorch.record import Budget, Finding
from buildorch.report.checked import checked_json, checked_text
from buildorch.report.findings import Checked, CheckedImage, check_schema
from buildorch.report.github import checked_github
from buildorch.report.junit import checked_junit
from buildorch.report.sarif import RULE_TEXTS, checked_sarif
from buildorch.services import Policy
from buildorch.testing import make_digest, make_platform

SARIF = Draft202012Validator(
    json.loads((Path(__file__).parent / "data" / "sarif-2.1.0.written.schema.json").read_text("utf-8"))
)
EVIL = (
    "\x1b[2J\x1b]0;t\x07 \n::set-output name=a::b\r\n##[stop-commands]x\n]]><script>alert(1)</script> &amp; "
    "100% %0A {0} [here](https://e.example) \udcff \ud800 \u202e \u2028 \x9b31m \x00 \x7f \ufffe"
)
FORMATS = [checked_text, checked_json, checked_sarif, checked_junit, checked_github]


def found(rule: str = "size", message: str = "it is too large", **more: Any) -> Finding:
    return Finding(**{"rule": rule, "severity": "error", "message": message, **more})


def image(*findings: Finding, **more: Any) -> CheckedImage:
    given = {
        "name": "backend",
        "service": "backend",
        "reference": "localhost:5000/shop/backend:abc",
        "digest": make_digest("image"),
        "platforms": {"linux/amd64": make_platform(unpacked=[450_000_000], compressed=[1])},
        "dockerfile": "services/backend/Dockerfile",
        "findings": findings,
    }
    return CheckedImage(**{**given, **more})


def foreign(*findings: Finding, reference: str = "ghcr.io/acme/tool:1.2", **more: Any) -> CheckedImage:
    return image(*findings, name=reference, service=None, reference=reference, dockerfile="", **more)


def checked(*images: CheckedImage, exit_code: int = 0) -> Checked:
    return Checked(project="shop", checked_at="2026-01-31T12:00:00Z", exit_code=exit_code, images=images)


def gone(error: str = "there is no such image", hint: str = "build it") -> CheckedImage:
    return image(name="gone", service="gone", digest=None, platforms={}, error=error, error_hint=hint)


EVERYTHING = checked(
    image(
        found(message="linux/amd64: over", hint="heaviest layers: x"),
        found("bases", "a base", line=3),
        found("bases", "another base", line=7, severity="warning"),
        found("own_rule", "not as we like it", severity="warning", hint="do"),
        off={"user": "it binds port 80"},
    ),
    foreign(found("healthcheck", "it has none", severity="warning")),
    image(name="clean", service="clean"),
    gone(),
    exit_code=3,
)
HOSTILE = checked(
    image(found(EVIL, EVIL, hint=EVIL), found(EVIL, EVIL, severity="warning", line=2), off={f"off{EVIL}": EVIL}),
    image(found(EVIL, EVIL, hint=EVIL), name=EVIL, service=EVIL, reference=EVIL, dockerfile=f"a b/{EVIL}"),
    foreign(found(EVIL, EVIL), reference=EVIL),
    gone(EVIL, EVIL),
)


def test_no_format_is_loaded_before_it_is_asked_for():
    script = "import sys, buildorch.report.findings\nprint(chr(10).join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    loaded = {name for name in done.stdout.splitlines() if name.startswith(("buildorch.report.", "xml", "pydantic"))}
    assert loaded == {"buildorch.report.findings"}


@pytest.mark.parametrize("write", FORMATS)
def test_a_format_is_the_same_text_each_time(write: Callable[[Checked], str]):
    assert write(EVERYTHING) == write(EVERYTHING)


@pytest.mark.parametrize("write", FORMATS)
def test_a_check_of_nothing_can_be_written(write: Callable[[Checked], str]):
    assert isinstance(write(checked()), str)


@pytest.mark.parametrize("write", FORMATS)
def test_hostile_text_can_be_encoded_and_drives_no_terminal(write: Callable[[Checked], str]):
    text = write(HOSTILE)

    assert text.encode("utf-8")
    assert [char for char in text if not (char.isprintable() or char in "\n\t")] == []


# --- text


def test_the_text_is_a_table_then_what_is_wrong_then_what_is_off_then_the_counts():
    assert checked_text(EVERYTHING) == (
        "IMAGE                  PLATFORM     DIGEST               UNPACKED  BUDGET  ERRORS  WARNINGS\n"
        "backend                linux/amd64  sha256:6105d6cc76af  450.0 MB  -            2         2\n"
        "ghcr.io/acme/tool:1.2  linux/amd64  sha256:6105d6cc76af  450.0 MB  -            0         1\n"
        "clean                  linux/amd64  sha256:6105d6cc76af  450.0 MB  -            0         0\n"
        "gone                   -            -                           -  -            -         -\n"
        "error: backend: size: linux/amd64: over\n"
        "  hint: heaviest layers: x\n"
        "error: backend: bases: a base\n"
        "warning: backend: bases: another base\n"
        "warning: backend: own_rule: not as we like it\n"
        "  hint: do\n"
        "warning: ghcr.io/acme/tool:1.2: healthcheck: it has none\n"
        "error: gone: there is no such image\n"
        "  hint: build it\n"
        "off: backend: user: it binds port 80\n"
        "3 images judged: 2 errors, 3 warnings; 1 image not judged"
    )


def test_a_check_of_services_alone_is_headed_so_and_counts_one_as_one():
    lines = checked_text(checked(image(found()))).splitlines()

    assert lines[0].startswith("SERVICE ")
    assert lines[-1] == "1 image judged: 1 error, 0 warnings"


def test_every_platform_has_its_own_size_and_what_is_left_and_the_image_is_counted_once():
    large = make_platform(unpacked=[512_000_000], compressed=[1])
    budget = Budget(max_bytes=500_000_000, target_bytes=None, of="unpacked")
    both = {"linux/amd64": make_platform(unpacked=[450_000_000], compressed=[1]), "linux/arm64": large}

    lines = checked_text(checked(image(found(), platforms=both, budget=budget))).splitlines()

    assert lines[1].endswith("450.0 MB  50.0 MB left of 500.0 MB       1         0")
    assert lines[2].endswith("512.0 MB  12.0 MB over 500.0 MB")


def test_an_error_without_a_hint_is_one_line():
    lines = checked_text(checked(gone(hint=""))).splitlines()

    assert lines[2:] == [
        "error: gone: there is no such image",
        "0 images judged: 0 errors, 0 warnings; 1 image not judged",
    ]


# --- JSON


def test_the_json_is_the_value_and_fits_the_published_schema():
    document = json.loads(checked_json(EVERYTHING))

    Draft202012Validator(check_schema()).validate(document)
    assert list(document) == ["schema", "project", "checked_at", "exit_code", "images"]
    assert document["schema"] == "buildorch.check/1"
    assert document["images"] == json.loads(json.dumps(dataclasses.asdict(EVERYTHING)["images"]))


def test_the_json_keeps_what_is_text_and_shows_what_is_none():
    [one] = json.loads(checked_json(checked(image(found(message="\x1b[31m\n\u202e\U0001f600 \udcff", line=3)))))[
        "images"
    ]

    assert one["findings"][0]["message"] == "\x1b[31m\n\u202e\U0001f600 \\udcff"
    assert one["findings"][0]["line"] == 3


@pytest.mark.parametrize("write", [checked_json, checked_sarif, checked_junit])
def test_what_machines_read_is_ascii_whatever_the_terminal_takes(write: Callable[[Checked], str]):
    assert write(checked(image(found(message="für \u202e \U0001f600")))).isascii()


# --- SARIF


def run_of(*images: CheckedImage) -> Any:
    document = json.loads(checked_sarif(checked(*images)))
    SARIF.validate(document)
    return document["runs"][0]


def results_of(*images: CheckedImage) -> list[Any]:
    results: list[Any] = run_of(*images)["results"]
    return results


@pytest.mark.parametrize("case", [EVERYTHING, HOSTILE, checked()], ids=["everything", "hostile", "nothing"])
def test_the_log_is_sarif_with_all_that_github_asks_for(case: Checked):
    SARIF.validate(json.loads(checked_sarif(case)))


def test_a_result_names_its_rule_by_id_and_by_index():
    run = run_of(*EVERYTHING.images)

    rules = run["tool"]["driver"]["rules"]
    assert [rule["id"] for rule in rules] == ["bases", "healthcheck", "own_rule", "size", "user"]
    assert [rules[result["ruleIndex"]]["id"] for result in run["results"]] == [
        result["ruleId"] for result in run["results"]
    ]


def test_a_result_says_the_image_the_message_and_the_hint():
    [result] = results_of(image(found(message="too large", hint="less")))

    assert result["level"] == "error"
    assert result["message"] == {"text": "backend: too large\nhint: less"}


def test_a_finding_in_a_line_of_a_dockerfile_is_there():
    [result] = results_of(image(found(line=3), dockerfile="services/my app/Docker#file"))

    assert result["locations"][0]["physicalLocation"] == {
        "artifactLocation": {"uri": "services/my%20app/Docker%23file", "uriBaseId": "%SRCROOT%"},
        "region": {"startLine": 3},
    }


def test_a_finding_about_an_image_is_at_its_dockerfile_without_a_line():
    [result] = results_of(image(found()))

    assert result["locations"] == [
        {
            "physicalLocation": {"artifactLocation": {"uri": "services/backend/Dockerfile", "uriBaseId": "%SRCROOT%"}},
            "logicalLocations": [
                {
                    "fullyQualifiedName": "localhost:5000/shop/backend:abc",
                    "kind": "image",
                    "properties": {"digest": make_digest("image")},
                }
            ],
        }
    ]


def test_an_image_without_a_dockerfile_has_its_name_without_the_tag_for_a_place_as_github_takes_none_without():
    [result] = results_of(foreign(found(line=3), reference="localhost:5000/acme/tool:1.2"))

    assert result["locations"][0]["physicalLocation"] == {"artifactLocation": {"uri": "localhost%3A5000/acme/tool"}}
    assert result["locations"][0]["logicalLocations"][0]["fullyQualifiedName"] == "localhost:5000/acme/tool:1.2"


def test_a_reference_that_is_none_stands_for_itself():
    [result] = results_of(foreign(found(), reference="No Image"))

    assert result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] == "No%20Image"


def test_a_rule_that_is_off_is_a_note_of_the_configuration_and_no_result():
    run = run_of(image(off={"user": "it binds port 80"}))

    [note] = run["invocations"][0]["toolConfigurationNotifications"]
    assert run["results"] == []
    assert (note["level"], note["associatedRule"]) == ("note", {"id": "user", "index": 0})
    assert note["message"]["text"] == "backend: user is off: it binds port 80"
    assert run["invocations"][0]["executionSuccessful"] is True


def test_an_image_that_could_not_be_judged_is_an_error_of_the_execution():
    [invocation] = run_of(image(), gone())["invocations"]

    [error] = invocation["toolExecutionNotifications"]
    assert invocation["executionSuccessful"] is False
    assert (error["level"], error["message"]["text"]) == ("error", "gone: there is no such image\nhint: build it")


def test_the_run_has_the_checks_exit_code_and_time():
    [invocation] = json.loads(checked_sarif(EVERYTHING))["runs"][0]["invocations"]

    assert (invocation["exitCode"], invocation["endTimeUtc"]) == (3, "2026-01-31T12:00:00Z")


def test_every_rule_of_buildorch_has_a_text_and_a_projects_own_is_called_so():
    keys = {"stages" if name == "min_stages" else name for name in Policy.model_fields if name != "off"}
    own = run_of(image(found("our{own}")))["tool"]["driver"]["rules"][0]

    assert set(RULE_TEXTS) == keys | {"size", "secrets", "end_of_life"}
    assert own["help"]["text"] == "our{{own}}, a rule of the project's own."


def test_nothing_in_a_message_is_a_placeholder_or_a_link():
    [result] = results_of(image(found(message="{0} ${X} [a](https://e.example) [b\\](c)", hint="[d](0) {1}")))

    assert result["message"]["text"] == ("backend: {{0}} ${{X}} [a] (https://e.example) [b\\] (c)\nhint: [d] (0) {{1}}")


def strings_in(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [text for one in inner for text in strings_in(one)]


def test_what_a_viewer_decodes_has_no_control_characters_either():
    said = strings_in(json.loads(checked_sarif(HOSTILE)))

    assert [text for text in said if not text.replace("\n", "").isprintable()] == []


# --- SARIF: which results of two runs are the same


def identity(*findings: Finding, of: Callable[..., CheckedImage] = image, **more: Any) -> list[str]:
    return [result["partialFingerprints"]["buildorchFinding/v1"] for result in results_of(of(*findings, **more))]


SIZE = "linux/amd64: unpacked {0} is over the max of 500.0 MB (500000000 B) by {1}"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (SIZE.format("512.3 MB (512345678 B)", "12.3 MB"), SIZE.format("1.0 GB (1000000000 B)", "500.0 MB")),
        (SIZE.format("500.0 MB (500000001 B)", "1 B"), SIZE.format("501.0 MB (501000000 B)", "1.0 MB")),
        ("line 2 of the Dockerfile starts from 'x'", "line 14 of the Dockerfile starts from 'x'"),
        ("it was well after 3.2s, not within 1.0s", "it was well after 1m15s, not within 2.5s"),
        ("the layer sha256:00aa holds .git", "the layer sha256:77bb holds .git"),
        ("90% of it, 3 files.", "100% of it, 12 files."),
    ],
)
def test_a_finding_whose_numbers_alone_changed_is_the_same(before: str, after: str):
    assert identity(found(message=before)) == identity(found(message=after))


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("linux/amd64: no user", "linux/arm64: no user"),
        ("linux/arm/v6: no user", "linux/arm/v7: no user"),
        ("it starts from 'python:3.12-slim'", "it starts from 'python:3.13-slim'"),
        ("support ended on 2025-10-31", "support ended on 2026-10-31"),
        ("it holds .git", "it holds .env"),
    ],
)
def test_a_finding_about_something_else_is_another(before: str, after: str):
    assert identity(found(message=before)) != identity(found(message=after))


def test_another_rule_service_or_project_is_another_finding_and_another_level_is_not():
    first = identity(found())

    assert identity(found("user")) != first
    assert identity(found(), service="worker", name="worker") != first
    assert identity(found(severity="warning")) == first
    moved = checked_sarif(dataclasses.replace(checked(image(found())), project="other"))
    assert first[0] not in moved


def test_another_tag_of_the_same_image_has_the_same_findings():
    assert identity(found(), of=foreign, reference="ghcr.io/acme/tool:1.2") == identity(
        found(), of=foreign, reference=f"ghcr.io/acme/tool:1.3@{make_digest('x')}"
    )


def test_findings_that_differ_in_numbers_alone_are_told_apart_by_their_order():
    first, second = identity(found(message="line 2"), found(message="line 3"))

    assert (first[:-1], first[-2:], second[-2:]) == (second[:-1], ":1", ":2")


def test_githubs_own_fingerprint_is_left_to_its_upload_where_there_is_a_line_to_make_it_of():
    [at_line] = results_of(image(found(line=3)))
    [of_image] = results_of(image(found()))
    [of_foreign] = results_of(foreign(found(line=3)))

    assert set(at_line["partialFingerprints"]) == {"buildorchFinding/v1"}
    for result in (of_image, of_foreign):
        prints = result["partialFingerprints"]
        assert prints["primaryLocationLineHash"] == prints["buildorchFinding/v1"]


def test_a_very_long_message_is_looked_through_in_no_time():
    long = "1" + ".," * 100_000 + "x"
    started = time.perf_counter()

    identity(found(message=long))

    assert time.perf_counter() - started < 5


# --- JUnit


def suites_of(case: Checked) -> tuple[ElementTree.Element, list[ElementTree.Element]]:
    root = ElementTree.fromstring(checked_junit(case))  # noqa: S314 - what was just written
    return root, root.findall("testsuite")


def test_every_image_is_a_suite_and_every_rule_a_case():
    _, suites = suites_of(EVERYTHING)

    assert [(suite.get("name"), [case.get("name") for case in suite.findall("testcase")]) for suite in suites] == [
        ("backend", ["size", "bases", "own_rule", "user"]),
        ("ghcr.io/acme/tool:1.2", ["healthcheck"]),
        ("clean", ["policy"]),
        ("gone", ["policy"]),
    ]
    assert {case.get("classname") for case in suites[0].findall("testcase")} == {"shop.backend"}


@pytest.mark.parametrize("case", [EVERYTHING, HOSTILE, checked()], ids=["everything", "hostile", "nothing"])
def test_the_counts_are_those_of_the_cases(case: Checked):
    root, suites = suites_of(case)

    for counted in (root, *suites):
        cases = list(counted.iter("testcase"))
        assert int(counted.get("tests", "")) == len(cases)
        for count, outcome in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
            if counted is not root or count != "skipped":  # junit-10.xsd has no skipped there
                assert int(counted.get(count, "")) == sum(one.find(outcome) is not None for one in cases)


def test_the_counts_of_everything_are_these():
    root, [backend, *_] = suites_of(EVERYTHING)

    assert [root.get(name) for name in ("tests", "failures", "errors")] == ["7", "2", "1"]
    assert [backend.get(name) for name in ("tests", "failures", "errors", "skipped")] == ["4", "2", "0", "1"]


def test_all_errors_of_a_rule_are_one_failure_and_its_warnings_are_printed():
    findings = (
        found("bases", "a base", line=3, hint="pin it"),
        found("bases", "another", line=7),
        found("bases", "a third", severity="warning"),
    )
    _, [suite] = suites_of(checked(image(*findings)))

    [case] = suite.findall("testcase")
    failure = case.find("failure")
    assert failure is not None
    assert (failure.get("type"), failure.get("message")) == ("bases", "a base (and 1 more)")
    assert failure.text == (
        "services/backend/Dockerfile:3: a base\nhint: pin it\nservices/backend/Dockerfile:7: another"
    )
    assert case.findtext("system-out") == "a third"


def test_a_warning_passes():
    _, [suite] = suites_of(checked(image(found(severity="warning", hint="do"))))

    [case] = suite.findall("testcase")
    assert [one.tag for one in case] == ["system-out"]
    assert case.findtext("system-out") == "it is too large\nhint: do"


def test_a_rule_that_is_off_is_skipped_with_the_reason():
    _, [suite] = suites_of(checked(image(off={"user": "it binds port 80"})))

    skipped = suite.find("testcase[@name='user']/skipped")
    assert skipped is not None
    assert skipped.get("message") == "it binds port 80"


def test_an_image_that_could_not_be_judged_is_an_error_and_no_failure():
    _, [suite] = suites_of(checked(gone()))

    error = suite.find("testcase[@name='policy']/error")
    assert error is not None
    assert (error.get("type"), error.get("message")) == ("not judged", "there is no such image")
    assert error.text == "there is no such image\nhint: build it"


def test_markup_in_a_message_stays_text():
    evil = "]]></failure><testcase/><script>alert(1)</script> &amp; \x1b\n\udcff\ufffe"
    _, [suite] = suites_of(checked(image(found(message=evil), found("own", evil, severity="warning"))))

    failure = suite.find("testcase/failure")
    assert failure is not None
    assert failure.get("message") == failure.text == suite.findtext("testcase/system-out")
    assert failure.text == "]]></failure><testcase/><script>alert(1)</script> &amp; \u241b\u240a\\udcff\\ufffe"


# --- GitHub's workflow commands


def commands_of(case: Checked) -> list[tuple[str, dict[str, str], str]]:
    """Each line as the runner reads it: `ActionCommand.TryParseV2` of actions/runner."""
    read = []
    for line in re.split(r"[\n\r\u2028\u2029\x85\x0b\x0c]", checked_github(case)):
        match = re.match(r"\s*::(\w+) (.*?)::(.*)\Z", line)
        assert match, line
        properties = dict(one.split("=", 1) for one in match[2].split(","))
        read.append((match[1], {key: unquote(value) for key, value in properties.items()}, unquote(match[3])))
    return read


def test_every_finding_is_an_annotation_at_its_place():
    assert commands_of(EVERYTHING) == [
        (
            "error",
            {"file": "services/backend/Dockerfile", "title": "buildorch: size"},
            "backend: linux/amd64: over\nhint: heaviest layers: x",
        ),
        (
            "error",
            {"file": "services/backend/Dockerfile", "line": "3", "title": "buildorch: bases"},
            "backend: a base",
        ),
        (
            "warning",
            {"file": "services/backend/Dockerfile", "line": "7", "title": "buildorch: bases"},
            "backend: another base",
        ),
        (
            "warning",
            {"file": "services/backend/Dockerfile", "title": "buildorch: own_rule"},
            "backend: not as we like it\nhint: do",
        ),
        ("warning", {"title": "buildorch: healthcheck"}, "ghcr.io/acme/tool:1.2: it has none"),
        (
            "error",
            {"file": "services/backend/Dockerfile", "title": "buildorch: not judged"},
            "gone: there is no such image\nhint: build it",
        ),
    ]


def test_the_text_of_a_command_is_as_github_wants_it():
    line = checked_github(checked(image(found("a,b:c", "100%0A", hint="do"), dockerfile="a,b:c/100%/Dockerfile")))

    assert line == (
        "::error file=a%2Cb%3Ac/100%25/Dockerfile,title=buildorch%3A a%2Cb%3Ac::backend: 100%250A%0Ahint: do"
    )


@pytest.mark.parametrize("end", ["\n", "\r", "\r\n", "\u2028", "\x85", "\x0b"])
def test_no_text_from_outside_can_begin_a_command(end: str):
    evil = f"a{end}::set-output name=x::y{end}"
    hostile = image(found(evil, evil, hint=evil), name=evil, dockerfile=evil)

    [(command, properties, message)] = commands_of(checked(hostile))

    assert command == "error"
    assert set(properties) == {"file", "title"}
    assert [line for line in message.splitlines() if line.lstrip().startswith("::")] == []


def test_where_nothing_was_found_there_is_no_command():
    assert checked_github(checked(image(off={"user": "x"}))) == ""


# --- any text at all

ANYTHING = st.text(st.characters(exclude_categories=[]), max_size=30)


@pytest.mark.proof
@settings(max_examples=15)
@given(ANYTHING.filter(bool), ANYTHING, ANYTHING, ANYTHING.filter(bool))
def test_whatever_the_texts_are_every_format_is_well_formed(rule: str, message: str, hint: str, name: str):
    case = checked(
        image(
            found(rule, message, hint=hint, line=1), name=name, reference=name, dockerfile=name, off={f"x{rule}": hint}
        ),
        foreign(found(rule, message), reference=name),
        gone(message or "x", hint),
    )

    assert checked_text(case).encode("utf-8")
    assert json.loads(checked_json(case))["images"]
    SARIF.validate(json.loads(checked_sarif(case)))
    assert suites_of(case)
    assert len(commands_of(case)) == 3
