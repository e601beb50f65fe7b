"""Secrets where they do not belong, told without a word of their values."""

from __future__ import annotations

import time

import pytest
from subjects import judged, make_image

from buildorch.policy import FoundSecret
from buildorch.policy.secrets import form_of, is_name_of_one
from buildorch.record import Finding
from buildorch.services import Service

GITHUB = f"ghp_{'a1B2' * 9}"
FORMS = {
    "an AWS access key": "AKIAIOSFODNN7EXAMPLE",
    "a GitHub token": GITHUB,
    "a GitLab token": f"glpat-{'x1' * 10}",
    "a Slack token": "xoxb-123456789012-abcdef",
    "an npm token": f"npm_{'a1B2' * 9}",
    "a PyPI token": f"pypi-AgEIcHlwaS5vcmc{'a1' * 30}",
    "a Stripe key": f"sk_live_{'a1' * 12}",
    "a Google API key": f"AIza{'a1B2_' * 7}",
    "a JSON web token": "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.c2lnbmF0dXJlc2ln",
    "a private key": "-----BEGIN RSA PRIVATE KEY-----\nx",
    "a URL with a password": "postgres://app:hunter2@db/tasks",
}


def of(spec: Service, *, dockerfile: str = "FROM x\n", **config: object) -> list[Finding]:
    given = {name: value for name, value in spec.args.items() if value is not None}
    found = judged(spec, make_image(**config), dockerfile=dockerfile, arguments=given)
    return [finding for finding in found if finding.rule == "secrets"]


@pytest.mark.parametrize("kind", FORMS)
def test_a_secret_is_known_by_its_form(kind: str):
    assert form_of(f"x {FORMS[kind]} y") == kind


@pytest.mark.parametrize(
    "value", ["", "1.2.3", "https://example.org/a:b@c", "sha256:" + "a" * 64, "git@github.com:a/b", "https://u:$P@h/"]
)
def test_what_is_no_secret_has_no_such_form(value: str):
    assert form_of(value) == ""


@pytest.mark.parametrize("name", ["NPM_TOKEN", "password", "DB_PASSWORD", "API_KEY", "apikey", "AUTH", "A_SECRET_B"])
def test_a_name_says_that_its_value_is_a_secret(name: str):
    assert is_name_of_one(name)


@pytest.mark.parametrize(
    "name", ["VERSION", "TOKENS_PER_PAGE", "MONKEY", "PUBLIC_KEY", "PASSWORD_FILE", "KEY_ID", "AUTHOR", "TOKEN_URL"]
)
def test_a_name_that_only_sounds_like_one_says_nothing(name: str):
    assert not is_name_of_one(name)


def test_a_build_argument_that_is_a_secret_is_an_error_that_does_not_tell_it():
    [finding] = of(Service(args={"T": GITHUB}))

    assert (finding.severity, finding.message) == (
        "error",
        "the build argument T is a GitHub token: it stays in the image's history",
    )
    assert GITHUB not in repr(finding)


def test_a_build_argument_with_the_name_of_a_secret_is_a_warning():
    [finding] = of(Service(args={"NPM_TOKEN": "x"}))

    assert finding.severity == "warning"
    assert "NPM_TOKEN" in finding.message


@pytest.mark.parametrize("value", ["", None])
def test_a_build_argument_without_a_value_gives_nothing_away(value: str | None):
    assert of(Service(args={"NPM_TOKEN": value})) == []


def test_a_healthcheck_is_looked_at():
    [finding] = of(Service(), healthcheck=("CMD", "curl", "-H", GITHUB))

    assert finding.message == "linux/amd64: the healthcheck in the image's config holds a GitHub token"


@pytest.mark.proof
@pytest.mark.parametrize("text", ["a-" * 200_000, "eyJ-" * 100_000, "a://b:" * 60_000])
def test_a_long_text_is_looked_through_in_no_time(text: str):
    begun = time.process_time()

    assert form_of(text) == ""
    assert time.process_time() - begun < 5, "it took as long as the square of its length"


def test_what_the_dockerfile_sets_is_found_at_its_line():
    found = of(Service(), dockerfile=f"FROM x\nENV A={GITHUB}\nENV DB_PASSWORD=x\n")

    assert [(finding.severity, finding.line) for finding in found] == [("error", 2), ("warning", 3)]


def test_an_argument_that_the_dockerfile_only_declares_is_judged_where_it_is_given():
    assert of(Service(), dockerfile="ARG NPM_TOKEN\nFROM x\nARG NPM_TOKEN\n") == []


def test_a_variable_a_label_and_the_history_are_looked_at():
    found = of(
        Service(), environment=(f"A={GITHUB}", "GPG_KEY=7169605F"), labels={"l": GITHUB}, history=(f"RUN A={GITHUB}",)
    )

    assert [finding.message for finding in found] == [
        "linux/amd64: the variable A in the image's config is a GitHub token",
        "linux/amd64: the label l is a GitHub token",
        "linux/amd64: the image's history holds a GitHub token",
    ]


def test_a_build_secret_that_was_found_is_an_error():
    found = judged(Service(), secrets=(FoundSecret("npm", "linux/amd64", "the layer of RUN x"),))

    [finding] = [finding for finding in found if finding.rule == "secrets"]
    assert finding.severity == "error"
    assert finding.message == "linux/amd64: the value of the build secret 'npm' is in the layer of RUN x"
