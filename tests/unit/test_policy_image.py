"""The rules that look at the image's config: whom it runs as, what it starts, how it tells that it is well."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from subjects import judged, make_image

from buildorch.contents.layer import Entry, LayerContents
from buildorch.policy.instruction import shortened
from buildorch.policy.subject import Image
from buildorch.record import Finding
from buildorch.services import Policy


def layers(*users: Mapping[str, int] | None) -> tuple[LayerContents, ...]:
    """Layers whose /etc/passwd names these."""
    return tuple(LayerContents(unpacked_bytes=1, entries=(), users=one) for one in users)


def run_as(user: str, *users: Mapping[str, int] | None) -> tuple[Finding, ...]:
    return judged(Policy(user="non-root"), make_image(user=user, layers=layers(*users) if users else None))


@pytest.mark.parametrize(
    "user", ["", "0", "root", "0:0", "root:root", "root:x", "00", "0:1000", " root ", "+0", "-0", ":1"]
)
@pytest.mark.parametrize("users", [(), ({"root": 0},), ({"root": 7, "0": 7, "00": 7},)])
def test_an_image_that_runs_as_root_breaks_the_rule(user: str, users: tuple[Mapping[str, int], ...]):
    [finding] = run_as(user, *users)

    assert (finding.rule, finding.severity) == ("user", "error")
    assert finding.message.startswith("linux/amd64: ")
    assert "root" in finding.message
    assert "USER 10001" in finding.hint


@pytest.mark.parametrize("user", ["1000", "10001:0", "1000:root", "010"])
def test_an_image_that_runs_as_another_number_keeps_the_rule(user: str):
    assert run_as(user) == ()
    assert run_as(user, {"root": 0}) == ()


@pytest.mark.parametrize("user", ["app", "app:app", "rooter", "nobody"])
def test_a_name_is_a_warning_where_the_users_are_not_seen(user: str):
    [finding] = run_as(user)

    assert finding.severity == "warning"
    assert "runAsNonRoot cannot tell who that is" in finding.message
    assert finding.hint.endswith("USER 10001")


def test_a_name_is_a_warning_that_tells_the_number_where_the_users_are_seen():
    [finding] = run_as("app:app", {"root": 0, "app": 1234})

    assert finding.severity == "warning"
    assert finding.hint.endswith("USER 1234")


def test_a_name_that_the_images_passwd_gives_to_root_breaks_the_rule():
    [finding] = run_as("app", {"root": 0, "app": 0})

    assert finding.severity == "error"
    assert finding.message.endswith("names the user 'app', which is root by its /etc/passwd")


def test_a_name_that_the_image_does_not_have_will_not_start():
    [finding] = run_as("app", {"root": 0})

    assert finding.severity == "error"
    assert finding.message == "linux/amd64: the image has no user 'app' in its /etc/passwd, so it will not start"


@pytest.mark.parametrize(
    ("users", "severity"),
    [
        (({"app": 0}, {"app": 5}), "warning"),
        (({"app": 5}, {"app": 0}), "error"),
        (({"app": 0}, None), "error"),
        (({"app": 5}, None, {}), "error"),
        ((None, None), "error"),
    ],
)
def test_the_last_layer_that_has_a_passwd_says_who_a_name_is(
    users: tuple[Mapping[str, int] | None, ...], severity: str
):
    [finding] = run_as("app", *users)

    assert finding.severity == severity


def test_without_the_rule_root_may_run():
    assert judged(Policy(), make_image(user="root")) == ()


@pytest.mark.parametrize(
    ("check", "message"),
    [
        (None, "linux/amd64: the image has no HEALTHCHECK"),
        (("NONE",), "linux/amd64: the image has its HEALTHCHECK switched off"),
        (("CMD", "/healthy"), None),
        (("CMD-SHELL", "curl x"), None),
    ],
)
def test_an_image_without_a_healthcheck_breaks_the_rule(check: tuple[str, ...] | None, message: str | None):
    image = make_image(healthcheck=check)

    findings = judged(Policy(healthcheck="error"), image)

    assert [finding.message for finding in findings] == ([message] if message else [])
    assert judged(Policy(), image) == ()


@pytest.mark.parametrize("level", ["error", "warning"])
def test_a_rule_has_the_severity_that_the_policy_gives_it(level: str):
    policy = Policy(healthcheck=level, exec_form=level, build_checks=level)

    findings = judged(policy, make_image(command=("sh", "-c", "x")), warnings=("w",))

    assert [(finding.rule, finding.severity) for finding in findings] == [
        ("healthcheck", level),
        ("exec_form", level),
        ("build_checks", level),
    ]


def started(entrypoint: tuple[str, ...] = (), command: tuple[str, ...] = ()) -> list[str]:
    image = make_image(entrypoint=entrypoint, command=command)
    return [finding.message for finding in judged(Policy(exec_form="error"), image)]


@pytest.mark.parametrize(
    "words",
    [
        ("/bin/sh", "-c", "node server.js"),
        ("/bin/bash", "-c", "node server.js"),
        ("/bin/ash", "-eo", "pipefail", "-c", "node server.js"),
        ("bash", "-lc", "node server.js && x"),
        ("/bin/sh", "-c", "echo exec node server.js"),
        ("/bin/sh", "-c", "node server.js # exec"),
        ("/bin/sh", "-c", "exec >log; node server.js"),
        ("/bin/sh", "-c", ""),
    ],
)
def test_a_shell_that_stays_in_front_of_the_program_breaks_the_rule(words: tuple[str, ...]):
    assert started(command=words) == ["linux/amd64: CMD starts a shell, which keeps signals from the program"]
    assert [message.partition(";")[0] for message in started(entrypoint=words)] == [
        "linux/amd64: ENTRYPOINT starts a shell, which keeps signals from the program"
    ]


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("node", "server.js"),
        ("/entrypoint.sh", "-c", "x"),
        ("sh", "/start.sh"),
        ("/bin/sh",),
        ("python", "-c", "x"),
        ("/bin/sh", "-c", "exec node server.js"),
        ("/bin/sh", "-c", "migrate && A=b exec node server.js"),
        ("/bin/sh", "-c", "if a; then exec b; else exec c; fi"),
    ],
)
def test_a_program_of_its_own_or_one_that_takes_the_shells_place_keeps_the_rule(words: tuple[str, ...]):
    assert started(command=words) == []
    assert started(entrypoint=words) == []


def test_an_entrypoint_in_shell_form_is_told_to_ignore_the_command_which_is_not_judged():
    [message] = started(("/bin/sh", "-c", "serve"), ("/bin/sh", "-c", "x"))

    assert message == (
        "linux/amd64: ENTRYPOINT starts a shell, which keeps signals from the program; "
        "CMD, and what docker run is given, is ignored"
    )


def test_a_command_in_shell_form_behind_an_entrypoint_that_is_none_is_judged():
    assert len(started(("/init",), ("/bin/sh", "-c", "serve"))) == 1


def test_a_label_that_is_missing_or_empty_breaks_the_rule():
    image = make_image(labels={"there": "x", "empty": "", "blank": " "})

    findings = judged(Policy(labels=("there", "empty", "blank", "missing")), image)

    assert [(finding.severity, finding.message) for finding in findings] == [
        ("error", "linux/amd64: the label empty is empty"),
        ("error", "linux/amd64: the label blank is empty"),
        ("error", "linux/amd64: the label missing is missing"),
    ]


def test_what_buildkit_warns_of_is_found_in_its_own_words():
    warnings = ("JSONArgsRecommended: JSON arguments recommended (line 5)", "FromAsCasing: x")

    findings = judged(Policy(build_checks="warning"), warnings=warnings)

    assert tuple(finding.message for finding in findings) == warnings
    assert judged(Policy(), warnings=warnings) == ()


def test_every_platforms_config_is_judged():
    images: dict[str, Image] = {"linux/amd64": make_image(user="0"), "linux/arm64": make_image(user="5")}

    findings = judged(Policy(user="non-root", healthcheck="error", labels=("x",)), images=images)

    assert [finding.message.partition(":")[0] for finding in findings if finding.rule == "user"] == ["linux/amd64"]
    for rule in ("healthcheck", "labels"):
        assert [one.message.partition(":")[0] for one in findings if one.rule == rule] == ["linux/amd64", "linux/arm64"]


@pytest.mark.parametrize(
    "above", [Entry("etc/passwd", "whiteout"), Entry("etc", "opaque"), Entry("etc/passwd", "symlink", target="/x")]
)
def test_a_passwd_that_a_later_layer_takes_away_says_nothing(above: Entry):
    both = (LayerContents(0, (), users={"app": 5}), LayerContents(0, (above,)))

    [finding] = judged(Policy(user="non-root"), make_image(user="app", layers=both))

    assert finding.severity == "error"
    assert "has no user 'app'" in finding.message


def test_a_number_of_very_many_digits_is_a_number():
    assert [one.severity for one in judged(Policy(user="non-root"), make_image(user="0" * 5000))] == ["error"]
    assert judged(Policy(user="non-root"), make_image(user="9" * 5000)) == ()


@pytest.mark.parametrize(
    ("created_by", "shown"),
    [
        ("RUN |1 TOKEN=a secret /bin/sh -c make all # buildkit", "RUN /bin/sh -c make all"),
        ("RUN |2 A=1 B=2 /bin/bash -euc make # buildkit", "RUN /bin/bash -euc make"),
        ("RUN |1 TOKEN=x own", "RUN"),
        ("COPY a b # buildkit", "COPY a b"),
        ("", "an unnamed instruction"),
    ],
)
def test_an_instruction_is_shown_without_the_values_of_build_arguments(created_by: str, shown: str):
    assert shortened(created_by) == shown
