"""The rule of the cache mounts: what downloads without one, what must be locked, what services mount differently."""

from __future__ import annotations

import pytest
from subjects import judged

from buildorch.dockerfile import read
from buildorch.policy.cache_mounts import sharings
from buildorch.record import Finding
from buildorch.services import Policy

APT = "--mount=type=cache,target=/var/cache/apt,sharing=locked --mount=type=cache,target=/var/lib/apt,sharing=locked"


def found(run: str, **more: object) -> tuple[Finding, ...]:
    return judged(Policy(cache_mounts="error"), dockerfile=f"FROM a\nRUN {run}\n", **more)


@pytest.mark.parametrize(
    ("command", "program"),
    [
        ("apt-get -y -o Acquire::Retries=3 install curl", "apt-get"),
        ("apt-get upgrade -y", "apt-get"),
        ("apt install curl", "apt"),
        ("apk add curl", "apk"),
        ("apk --update -X http://example.test add curl", "apk"),
        ("pip install -r requirements.txt", "pip"),
        ("pip3.11 install --no-cache-dir x", "pip"),
        ("/opt/venv/bin/pip install x", "pip"),
        ("pip --python /opt/venv/bin/python install x", "pip"),
        ("python3 -m pip install x", "pip"),
        ("python -u -m pip install x", "pip"),
        ("uv pip install x", "uv"),
        ("uv --project app sync --frozen", "uv"),
        ("poetry install --no-root", "poetry"),
        ("pipenv install --deploy", "pipenv"),
        ("npm ci", "npm"),
        ("npm --prefix web i", "npm"),
        ("npm install", "npm"),
        ("yarn", "yarn"),
        ("yarn --frozen-lockfile", "yarn"),
        ("yarn install", "yarn"),
        ("pnpm i", "pnpm"),
        ("bun install", "bun"),
        ("CGO_ENABLED=0 go build -o /app ./...", "go"),
        ("go mod download", "go"),
        ("go install example.test/x@latest", "go"),
        ("cargo +nightly build --release", "cargo"),
        ("cargo fetch", "cargo"),
        ("mvn -f app/pom.xml package", "mvn"),
        ("./mvnw package", "mvnw"),
        ("gradle build", "gradle"),
        ("./gradlew --no-daemon build", "gradlew"),
        ("composer install", "composer"),
        ("gem install rake", "gem"),
        ("bundle", "bundle"),
        ("bundle install", "bundle"),
        ("dotnet restore", "dotnet"),
        ("dnf -y install x", "dnf"),
        ("yum install x", "yum"),
        ("microdnf install x", "microdnf"),
        ("tdnf install x", "tdnf"),
        ("set -e; cd /x && (npm ci)", "npm"),
        ("if true; then npm ci; fi", "npm"),
        ("sudo -E -u app env A=b npm ci", "npm"),
        ("bash -euo pipefail -c 'a && npm ci'", "npm"),
        ('["npm", "ci"]', "npm"),
        ('["/bin/sh", "-c", "a && npm ci"]', "npm"),
        ("<<EOF\nset -e\nnpm \\\n  ci\nEOF", "npm"),
        ("<<EOF bash -e\nnpm ci\nEOF", "npm"),
        ("a \\\n# why\n  && npm ci", "npm"),
    ],
)
def test_a_package_manager_that_downloads_without_a_cache_mount_breaks_the_rule(command: str, program: str):
    [finding] = found(command)

    assert (finding.rule, finding.severity, finding.line) == ("cache_mounts", "error", 2)
    assert finding.message.startswith(f"line 2 of the Dockerfile runs {program} without a cache mount at /")
    assert "--mount=type=cache,target=/" in finding.hint


@pytest.mark.parametrize(
    "command",
    [
        "apt-get clean",
        "apt-cache policy x",
        "apk add --no-cache curl",
        "apk del curl",
        "pip check",
        "pip install --no-index --find-links /wheels x",
        "python -m venv /opt/venv",
        "python manage.py install",
        "npm run build",
        "npm run ci",
        "npm --version",
        "next build",
        "yarn build",
        "yarn --version",
        "pnpm run install",
        "go version",
        "go test ./...",
        "cargo --version",
        "cargo build --offline",
        "mvn --version",
        "mvn -o package",
        "gradle --offline build",
        "bundle exec rake",
        "dotnet --info",
        "echo npm ci",
        "echo 'a; npm ci'",
        "true # npm ci",
        "cat <<EOF > /install\nnpm ci\nEOF",
        "python3 <<EOF\nnpm ci\nEOF",
        "<<EOF\n#!/usr/bin/env python3\nnpm ci\nEOF",
        "<<EOF\ncat > /install <<-'B'\n\tnpm ci\n\tB\nEOF",
        '["echo", "npm ci"]',
        "",
    ],
)
def test_what_downloads_nothing_or_keeps_nothing_keeps_the_rule(command: str):
    assert found(command) == ()


@pytest.mark.parametrize(
    "mount",
    [
        "target=/root/.npm",
        "target=/home/app/.npm",
        "target=/somewhere,id=npm",
        "target=$UNKNOWN",
    ],
)
def test_but_for_apt_any_cache_mount_will_do(mount: str):
    assert found(f"--mount=type=cache,{mount} npm ci") == ()


@pytest.mark.parametrize("mount", ["type=bind,target=/root/.npm", "type=tmpfs,target=/root/.npm", "type=secret,id=npm"])
def test_a_mount_that_is_no_cache_keeps_nothing(mount: str):
    assert len(found(f"--mount={mount} npm ci")) == 1


@pytest.mark.parametrize(
    ("run", "places"),
    [
        ("apt-get update && apt-get install x", "/var/lib/apt and /var/cache/apt"),
        ("--mount=type=cache,target=/root/.cache apt-get install x", "/var/cache/apt"),
        ("--mount=type=cache,target=/var/cache/apt,sharing=locked apt-get update && apt-get install x", "/var/lib/apt"),
        ("--mount=type=cache,target=/var/cache/apt-cacher apt-get install x", "/var/cache/apt"),
    ],
)
def test_apt_needs_a_cache_mount_where_it_keeps_what_it_downloads(run: str, places: str):
    [finding] = found(run)

    assert f"runs apt-get without a cache mount at {places}: " in finding.message
    assert finding.hint.count("sharing=locked") == places.count("/var")


@pytest.mark.parametrize(
    "run",
    [
        f"{APT} apt-get update && apt-get install x",
        "--mount=type=cache,target=/var/cache/apt/archives,sharing=locked apt-get install x",
        "--mount=type=cache,target=/var/lib/apt/lists/,sharing=private apt-get update",
        "--mount=type=cache,target=/var,sharing=locked apt-get update && apt-get install x",
        "--mount=type=cache,dst=$UNKNOWN apt-get install x",
    ],
)
def test_apt_with_locked_cache_mounts_at_above_or_below_its_folders_keeps_the_rule(run: str):
    assert found(run) == ()


@pytest.mark.parametrize(
    "target", ["/var/cache/apt", "/var/lib/apt/lists", "/var/lib/dpkg", "/var/cache", "var/lib/apt"]
)
@pytest.mark.parametrize("sharing", ["", ",sharing=shared"])
def test_a_cache_of_apt_or_dpkg_that_is_not_locked_breaks_the_rule(target: str, sharing: str):
    [finding] = found(f"--mount=type=cache,id=x,target={target}{sharing} true")

    assert (finding.severity, finding.line) == ("error", 2)
    assert f"mounts {target} with sharing=shared" in finding.message


def test_any_other_cache_may_be_shared():
    assert (
        found("--mount=type=cache,target=/root/.npm,sharing=shared --mount=type=bind,target=/var/lib/apt npm ci") == ()
    )


def test_each_run_and_each_package_manager_is_told_once_with_the_severity_of_the_policy():
    text = "FROM a AS b\nRUN npm ci && npm ci && pip install x\nFROM c\nRUN gem install x\nCOPY --from=b / /\n"

    findings = judged(Policy(cache_mounts="warning"), dockerfile=text)

    assert [(finding.line, finding.message.split()[6], finding.severity) for finding in findings] == [
        (2, "npm", "warning"),
        (2, "pip", "warning"),
        (4, "gem", "warning"),
    ]


def test_without_the_rule_a_package_manager_may_run_as_it_likes():
    assert judged(Policy(), dockerfile="FROM a\nRUN --mount=type=cache,target=/var/lib/apt apt-get install x\n") == ()


@pytest.mark.parametrize("policy", [Policy(), Policy(cache_mounts="error")])
def test_a_cache_that_another_service_mounts_with_another_sharing_is_a_warning(policy: Policy):
    text = f"FROM a\nRUN {APT} x\nRUN --mount=type=cache,id=pip,target=/p x\n"
    elsewhere = {
        "/var/lib/apt": {"web": "shared", "job": "locked"},
        "pip": {"web": "shared"},
        "other": {"web": "private"},
    }

    [finding] = judged(policy, dockerfile=text, mounts_elsewhere=elsewhere)

    assert (finding.rule, finding.severity, finding.line) == ("cache_mounts", "warning", 2)
    assert finding.message == (
        "line 2 of the Dockerfile mounts the cache /var/lib/apt with sharing=locked, "
        "and the service web mounts it with sharing=shared"
    )


def test_the_caches_of_a_dockerfile_are_known_by_id_or_by_target():
    text = (
        "FROM a AS unused\nRUN --mount=type=cache,target=/unused x\nFROM a\n"
        "RUN --mount=type=cache,target=/a/ --mount=type=cache,id=b,target=/c,sharing=LOCKED --mount=target=/d x\n"
        "RUN --mount=type=cache,id=b,target=/c,sharing=private --mount=type=cache,id=$V,target=/e,sharing=private x\n"
        "RUN --mount=type=cache,target=/f,sharing=$V x\n"
    )

    assert sharings(read(text, arguments={})) == {"/a": "shared", "b": "locked"}
