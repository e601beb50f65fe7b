"""Every rule on real images: one that breaks it, and its mended twin that keeps it.

All of them are built in one run. Each case is a service of its own with one rule on, so that whatever is found against it
is that rule's.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from sandbox import BASE, Sandbox, remove_images_of

import buildorch
from buildorch.record import Report, ServiceRecord

pytestmark = pytest.mark.engine

KEY = "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjEAAAAA\n-----END OPENSSH PRIVATE KEY-----\n"
TOKEN = f"tok-{secrets.token_hex(12)}"
"""A build secret's value."""
THIS_RUN = secrets.token_hex(4)
GITHUB_TOKEN = f"ghp_{'a1B2' * 9}"
SERVE = "import http.server as h; h.HTTPServer(('', 8000), h.SimpleHTTPRequestHandler).serve_forever()"


@dataclass(frozen=True)
class Case:
    """A service, and what is to be found against it."""

    rule: str
    policy: str
    dockerfile: str
    found: str = ""
    """A part of the message; empty where nothing must be found."""
    severity: str = "error"
    files: dict[str, str] = field(default_factory=dict)
    keys: str = ""
    """More keys of the service, as YAML."""


def from_base(*lines: str) -> str:
    return "\n".join((f"FROM {BASE}", *lines, ""))


CASES = {
    # user
    "user-none": Case("user", "user: non-root", from_base(), "no user, which means root"),
    "user-zero": Case("user", "user: non-root", from_base("USER 0"), "which is root"),
    "user-zero-zero": Case("user", "user: non-root", from_base("USER 0:0"), "which is root"),
    "user-root": Case("user", "user: non-root", from_base("USER root"), "which is root"),
    "user-by-another-name": Case(
        "user",
        "user: non-root",
        from_base("RUN echo 'toor:x:0:0::/:/bin/sh' >> /etc/passwd", "USER toor"),
        "'toor'",
    ),
    "user-of-an-argument": Case("user", "user: non-root", from_base("ARG WHO=root", "USER $WHO"), "which is root"),
    "user-unknown": Case("user", "user: non-root", from_base("USER nobodyknows"), "'nobodyknows'"),
    "user-named": Case(
        "user", "user: non-root", from_base("RUN useradd -u 10001 app", "USER app"), "runAsNonRoot", "warning"
    ),
    "user-mended": Case("user", "user: non-root", from_base("USER 10001:10001")),
    # stages
    "stages-one": Case("stages", "min_stages: 2", from_base("USER 1"), "1 stage"),
    "stages-unused": Case(
        "stages", "min_stages: 2", f"FROM {BASE} AS unused\nRUN true\nFROM {BASE}\nUSER 1\n", "1 stage"
    ),
    "stages-in-a-heredoc": Case(
        "stages", "min_stages: 2", from_base("RUN cat <<EOF > /x", "FROM scratch AS two", "EOF"), "1 stage"
    ),
    "stages-behind-an-escape": Case(
        "stages", "min_stages: 2", f"# escape=`\nFROM {BASE}\nRUN echo `\nFROM scratch AS two\n", "1 stage"
    ),
    "stages-the-build-stage": Case(
        "stages", "min_stages: 2", f"FROM {BASE} AS build\nRUN echo > /x\nFROM build\nUSER 1\n", "is the build stage"
    ),
    "stages-mended": Case(
        "stages", "min_stages: 2", f"FROM {BASE} AS build\nRUN echo > /x\nFROM {BASE}\nCOPY --from=build /x /x\n"
    ),
    # bases
    "bases-other": Case("bases", "bases: ['debian:*']", from_base(), BASE),
    "bases-of-an-argument": Case("bases", "bases: ['debian:*']", f"ARG BASE={BASE}\nFROM $BASE\n", BASE),
    "bases-copied-from": Case(
        "bases",
        "bases: ['debian:*']",
        f"FROM scratch\nCOPY --from={BASE} /etc/passwd /passwd\n",
        BASE,
    ),
    "bases-unused": Case("bases", "bases: ['python:3.13-*']", f"FROM nowhere:1 AS unused\nFROM {BASE}\n"),
    "bases-mended": Case("bases", "bases: ['python:3.13-*']", from_base()),
    # pinned
    "pinned-not": Case("pinned", "pinned: error", from_base(), BASE),
    # end_of_life
    "old": Case("end_of_life", "", "FROM node:20-alpine\n", "2026-04-30", "warning"),
    "old-mended": Case("end_of_life", "", from_base()),
    # cache_mounts
    "cache-none": Case("cache_mounts", "cache_mounts: error", from_base("RUN pip install nothing || true"), "pip"),
    "cache-in-a-heredoc": Case(
        "cache_mounts",
        "cache_mounts: error",
        from_base("RUN <<EOF", "pip install nothing || true", "EOF"),
        "pip",
    ),
    "cache-apt-shared": Case(
        "cache_mounts",
        "cache_mounts: error",
        from_base(
            "RUN --mount=type=cache,id=apt-1,target=/var/cache/apt --mount=type=cache,id=apt-2,target=/var/lib/apt"
            " apt-get install nothing || true"
        ),
        "sharing=shared",
    ),
    "cache-apt-locked": Case(
        "cache_mounts",
        "cache_mounts: error",
        from_base(
            "RUN --mount=type=cache,id=apt-3,target=/var/cache/apt,sharing=locked"
            " --mount=type=cache,id=apt-4,target=/var/lib/apt,sharing=locked apt-get install nothing || true"
        ),
    ),
    "cache-private-here": Case(
        "cache_mounts",
        "cache_mounts: error",
        from_base("RUN --mount=type=cache,id=both,target=/root/.cache/pip,sharing=private true"),
        "cache-shared-there",
        "warning",
    ),
    "cache-shared-there": Case(
        "cache_mounts",
        "cache_mounts: error",
        from_base("RUN --mount=type=cache,id=both,target=/root/.cache/pip true"),
        "cache-private-here",
        "warning",
    ),
    "cache-mended": Case(
        "cache_mounts",
        "cache_mounts: error",
        from_base("RUN --mount=type=cache,id=pip,target=/root/.cache/pip pip install nothing || true"),
    ),
    # contents
    "contents-git": Case(
        "contents", "contents: error", from_base("COPY . /app/"), "a git repository", files={".git/HEAD": "x"}
    ),
    "contents-env": Case("contents", "contents: error", from_base("COPY . /app/"), ".env", files={".env.local": "A=b"}),
    "contents-key": Case(
        "contents", "contents: error", from_base("COPY id /root/.ssh/id_ed25519"), "a private key", files={"id": KEY}
    ),
    "contents-tests": Case(
        "contents", "contents: error", from_base("COPY . /app/"), "tests", files={"tests/test_x.py": "x"}
    ),
    "contents-compiler": Case(
        "contents", "contents: error", from_base("COPY --chmod=755 gcc /usr/bin/gcc"), "a compiler", files={"gcc": "x"}
    ),
    "contents-cache": Case(
        "contents", "contents: error", from_base("COPY x /root/.cache/pip/http/x"), "a package cache", files={"x": "x"}
    ),
    "contents-deleted-later": Case(
        "contents",
        "contents: error",
        from_base("COPY .env /app/.env", "RUN rm -r /app"),
        "a later layer deletes it",
        files={".env": "A=b"},
    ),
    "contents-mended": Case(
        "contents",
        "contents: error",
        from_base("COPY . /app/"),
        files={
            ".git/HEAD": "x",
            ".env": "A=b",
            ".env.example": "A=",
            "tests/x.py": "",
            "main.py": "",
            ".dockerignore": ".git\n.env\ntests\nDockerfile\n",
        },
    ),
    # secrets
    "secrets-argument": Case(
        "secrets", "", from_base("ARG T", "RUN true"), "a GitHub token", keys=f"args: {{T: {GITHUB_TOKEN}}}"
    ),
    "secrets-variable": Case("secrets", "", from_base(f"ENV T={GITHUB_TOKEN}"), "a GitHub token"),
    "secrets-by-name": Case(
        "secrets", "", from_base("ARG NPM_TOKEN", "RUN true"), "NPM_TOKEN", "warning", keys="args: {NPM_TOKEN: x}"
    ),
    "secrets-in-a-layer": Case(
        "secrets",
        "",
        # A secret's value is no part of a step's key in the cache: without a word of this run's own, an engine that built
        # this before would hand out the layer that holds the value of that time.
        from_base(f"RUN --mount=type=secret,id=token : {THIS_RUN} && cp /run/secrets/token /kept", "RUN rm /kept"),
        "the value of the build secret 'token' is in the layer of RUN",
        keys="secrets: [{id: token, file: token.txt}]",
    ),
    "secrets-in-the-history": Case(
        "secrets",
        "",
        from_base("ARG T", "RUN true"),
        "the value of the build secret 'token' is in the history",
        keys=f"secrets: [{{id: token, file: token.txt}}], args: {{T: {TOKEN}}}",
    ),
    "secrets-mended": Case(
        "secrets",
        "",
        from_base("RUN --mount=type=secret,id=token test -s /run/secrets/token"),
        keys="secrets: [{id: token, file: token.txt}]",
    ),
    # what the config says
    "healthcheck-none": Case("healthcheck", "healthcheck: error", from_base(), "HEALTHCHECK"),
    "healthcheck-taken-away": Case("healthcheck", "healthcheck: error", from_base("HEALTHCHECK NONE"), "HEALTHCHECK"),
    "healthcheck-mended": Case("healthcheck", "healthcheck: error", from_base('HEALTHCHECK CMD ["true"]')),
    "exec-command": Case("exec_form", "exec_form: error", from_base("CMD python -V"), "CMD"),
    "exec-entrypoint": Case("exec_form", "exec_form: error", from_base("ENTRYPOINT python -V"), "ENTRYPOINT"),
    "exec-mended": Case("exec_form", "exec_form: error", from_base('CMD ["python", "-V"]')),
    "labels-none": Case(
        "labels", "labels: [org.opencontainers.image.source]", from_base(), "org.opencontainers.image.source"
    ),
    "labels-mended": Case(
        "labels",
        "labels: [org.opencontainers.image.source]",
        from_base(),
        keys="labels: {org.opencontainers.image.source: 'https://example.org'}",
    ),
    "checks-some": Case("build_checks", "build_checks: error", from_base("cmd true"), ""),
    "checks-mended": Case("build_checks", "build_checks: error", from_base('CMD ["true"]')),
    # size
    "size-over": Case("size", "", from_base("RUN true"), "is over the max", keys="size: {max: 1MB}"),
    "size-mended": Case("size", "", from_base("RUN true"), keys="size: {max: 5GB}"),
    # smoke
    "smoke-ends": Case(
        "smoke", "smoke: {timeout: 20s}", from_base("USER 1", 'CMD ["python", "-c", "raise SystemExit(3)"]'), "3"
    ),
    "smoke-root": Case(
        "smoke", "smoke: {port: 8000, timeout: 30s}", from_base(f'CMD ["python", "-c", "{SERVE}"]'), "root"
    ),
    "smoke-mended": Case(
        "smoke", "smoke: {port: 8000, timeout: 30s}", from_base("USER 10001", f'CMD ["python", "-c", "{SERVE}"]')
    ),
    # off
    "off": Case("user", "user: non-root, off: {user: 'it is a trial'}", from_base()),
}
"""Name of the service -> its case. `checks-some` is judged by a test of its own: what BuildKit says of it is BuildKit's."""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    made = Sandbox(tmp_path_factory.mktemp("rules") / "project", f"t-{secrets.token_hex(4)}")
    made.root.mkdir()
    made.write("token.txt", TOKEN + "\n")
    lines = ["services:"]
    for name, case in CASES.items():
        made.service(name, case.dockerfile, **case.files)
        keys = ", ".join(filter(None, (case.keys, f"policy: {{{case.policy}}}" if case.policy else "")))
        lines.append(f"  {name}: {{{keys}}}")
    made.services("\n".join(lines))
    yield made
    remove_images_of(made.name)


@pytest.fixture(scope="module")
def report(project: Sandbox) -> Report:
    return project.build(jobs=4)


def of_rule(record: ServiceRecord, rule: str) -> list[tuple[str, str]]:
    return [(finding.severity, finding.message) for finding in record.findings if finding.rule == rule]


def test_all_images_are_built_and_the_run_exits_with_3(report: Report) -> None:
    assert {name: record.error for name, record in report.services.items() if record.error} == {}
    assert report.exit_code == 3


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.found])
def test_an_image_that_breaks_a_rule_is_found_by_it(report: Report, name: str) -> None:
    case = CASES[name]

    found = of_rule(report.services[name], case.rule)

    assert [severity for severity, _ in found] == [case.severity] * len(found)
    assert any(case.found in message for _, message in found), found


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if not case.found and name != "checks-some"])
def test_an_image_that_keeps_a_rule_is_not_found_by_it(report: Report, name: str) -> None:
    assert of_rule(report.services[name], CASES[name].rule) == []


def test_what_buildkits_own_checks_warn_of_is_found(report: Report) -> None:
    record = report.services["checks-some"]

    assert record.warnings
    assert [message for _, message in of_rule(record, "build_checks")] == list(record.warnings)


def test_why_a_rule_is_off_is_recorded(report: Report) -> None:
    assert report.services["off"].rules_off == {"user": "it is a trial"}


def test_no_record_and_no_message_holds_a_secret(project: Sandbox, report: Report) -> None:
    messages = [finding for record in report.services.values() for finding in record.findings]

    assert TOKEN not in repr(messages)
    assert GITHUB_TOKEN not in repr(messages)


def test_a_base_with_a_digest_in_the_lock_is_pinned(project: Sandbox, report: Report) -> None:
    locked = project.command("lock")
    assert locked.returncode == 0, locked.stdout + locked.stderr
    try:
        checked = buildorch.check(project.root / "services.yaml", names=["pinned-not"])
    finally:
        Path(project.root / "buildorch.lock").unlink()

    assert [finding for finding in checked.images[0].findings if finding.rule == "pinned"] == []


def test_the_images_are_judged_again_without_a_build_and_found_the_same(project: Sandbox, report: Report) -> None:
    checked = {image.name: image for image in buildorch.check(project.root / "services.yaml").images}

    for name, record in report.services.items():
        if CASES[name].rule not in {"cache_mounts", "smoke"}:
            assert [*checked[name].findings] == [*record.findings], name


def test_a_rule_that_changes_is_asked_of_an_image_that_is_not_built_again(project: Sandbox, report: Report) -> None:
    again = project.build(services=("user-mended",), overrides=["user-mended.policy.healthcheck=error"])

    record = again.services["user-mended"]
    assert (record.status, of_rule(record, "healthcheck")[0][0]) == ("skipped", "error")
    assert again.exit_code == 3


@pytest.mark.parametrize("output_format", ["text", "json", "sarif", "junit", "github"])
def test_a_check_is_written_in_every_format(project: Sandbox, report: Report, output_format: str) -> None:
    done = project.command("check", "user-root", "user-mended", "--format", output_format)

    assert done.returncode == 3, done.stderr
    assert "user" in done.stdout
    if output_format in {"json", "sarif"}:
        json.loads(done.stdout)


def test_an_image_that_nobody_recorded_is_judged_by_the_defaults(project: Sandbox, report: Report) -> None:
    reference = report.services["user-root"].reference
    done = project.command("check", reference)

    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 image judged: 0 errors" in done.stdout, "only the service itself must not run as root"


def test_an_image_that_does_not_exist_is_told_and_exits_with_4(project: Sandbox, report: Report) -> None:
    done = project.command("check", f"127.0.0.1:1/nothing@sha256:{'0' * 64}")

    assert done.returncode == 4
    assert "is not in the engine" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr
