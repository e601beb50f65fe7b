"""A registry over HTTP, against one that runs on loopback."""

from __future__ import annotations

import base64
import json
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from fakes import MANIFEST, FakeRegistry, digest_of, make_image, running_registry

from buildorch.errors import EXIT_UNREACHABLE, RegistryError
from buildorch.oci import ImageReference
from buildorch.registry import HUB, Repository, _credentials, _scheme


@pytest.fixture
def registry() -> Iterator[FakeRegistry]:
    with running_registry() as running:
        running.image = make_image(layers=[b"x" * 5000])
        yield running


def repository(registry: FakeRegistry, environ: Mapping[str, str] | None = None) -> Repository:
    return Repository.of(ImageReference.parse(f"{registry.host}/team/app:v1"), environ or {"HOME": "/nonexistent"})


def logged_in(tmp_path: Path, host: str, account: str = "user:password") -> dict[str, str]:
    """An environment whose docker configuration has a login for the host."""
    auth = base64.b64encode(account.encode()).decode()
    (tmp_path / "config.json").write_text(json.dumps({"auths": {host: {"auth": auth}}}))
    return {"DOCKER_CONFIG": str(tmp_path)}


def refused(registry: FakeRegistry, environ: Mapping[str, str] | None = None) -> RegistryError:
    with pytest.raises(RegistryError) as caught:
        repository(registry, environ).manifest("v1")
    assert caught.value.exit_code == EXIT_UNREACHABLE
    return caught.value


def test_a_manifest_and_its_blobs_are_read_by_tag_and_digest(registry: FakeRegistry):
    image = registry.image
    assert image is not None
    reading = repository(registry)

    assert digest_of(reading.manifest("v1")) == image.digest
    assert digest_of(reading.manifest(image.digest)) == image.digest
    assert digest_of(b"".join(reading.blob(image.config_digest))) == image.config_digest


def test_a_token_is_fetched_once_and_used_for_everything_after(registry: FakeRegistry):
    registry.login = "token"
    reading = repository(registry)

    reading.manifest("v1")
    reading.manifest("v1")

    assert registry.asked == [
        ("/v2/team/app/manifests/v1", ""),
        ("/token?service=fake&scope=repository%3Ateam%2Fapp%3Apull", ""),
        ("/v2/team/app/manifests/v1", "Bearer secret"),
        ("/v2/team/app/manifests/v1", "Bearer secret"),
    ]


def test_a_token_that_has_run_out_is_fetched_again(registry: FakeRegistry):
    registry.login = "token"
    reading = repository(registry)
    reading._authorization = "Bearer old"

    reading.manifest("v1")

    assert [path.partition("?")[0] for path, _ in registry.asked] == [
        "/v2/team/app/manifests/v1",
        "/token",
        "/v2/team/app/manifests/v1",
    ]


def test_a_login_is_sent_to_where_tokens_are_given(registry: FakeRegistry, tmp_path: Path):
    registry.login = "token"

    repository(registry, logged_in(tmp_path, registry.host)).manifest("v1")

    assert registry.asked[1][1] == f"Basic {base64.b64encode(b'user:password').decode()}"


def test_a_token_may_be_called_an_access_token(registry: FakeRegistry):
    registry.login, registry.token_answer = "token", b'{"access_token": "secret"}'

    repository(registry).manifest("v1")

    assert registry.asked[-1][1] == "Bearer secret"


@pytest.mark.parametrize("answer", [b"", b"[]", b"7", b"{}", b'{"token": 7}', b"not json"])
def test_a_token_that_cannot_be_read_is_told(registry: FakeRegistry, answer: bytes):
    registry.login, registry.token_answer = "token", answer

    assert "gives a token that cannot be read" in str(refused(registry))


def test_a_registry_that_wants_a_password_gets_the_one_docker_has(registry: FakeRegistry, tmp_path: Path):
    registry.login = "basic"

    repository(registry, logged_in(tmp_path, registry.host)).manifest("v1")

    assert registry.asked[-1][1].startswith("Basic ")


def test_a_registry_that_wants_a_password_where_docker_has_none_is_told_with_the_way_to_log_in(registry: FakeRegistry):
    registry.login = "basic"

    error = refused(registry)

    assert str(error) == f"{registry.host} wants a login"
    assert error.hint == f"docker login {registry.host}"


def test_a_wrong_password_is_told_with_the_way_to_log_in(registry: FakeRegistry, tmp_path: Path):
    registry.login = "basic"

    error = refused(registry, logged_in(tmp_path, registry.host, "user:wrong"))

    assert f"{registry.host} gave 401 for /v2/team/app/manifests/v1" in str(error)
    assert error.hint == "log in with `docker login`"


def test_a_blob_that_is_kept_elsewhere_is_fetched_there_without_the_registrys_authorization(registry: FakeRegistry):
    image = registry.image
    assert image is not None
    registry.redirect, registry.login = True, "token"

    data = b"".join(repository(registry).blob(image.config_digest))

    assert digest_of(data) == image.config_digest
    assert registry.asked[-1] == (f"/elsewhere/{image.config_digest}", "")


def test_what_is_not_there_is_told_with_its_path(registry: FakeRegistry):
    registry.image = None

    error = refused(registry)

    assert str(error) == f"{registry.host} gave 404 for /v2/team/app/manifests/v1"
    assert error.hint == "is it pushed there?"


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_registry_that_fails_is_told_by_its_status(registry: FakeRegistry, status: int):
    registry.status = status

    assert f"gave {status} for" in str(refused(registry))


@pytest.mark.parametrize("address", ["ftp://x/", "http://", "http://h:99999/", "http://[/", "file:///etc/passwd"])
def test_a_redirect_to_what_is_not_http_is_refused(registry: FakeRegistry, address: str):
    image = registry.image
    assert image is not None
    registry.redirect, registry.elsewhere = True, address

    with pytest.raises(RegistryError, match="which is not one of HTTP"):
        b"".join(repository(registry).blob(image.config_digest))


def test_redirects_without_an_end_are_given_up(registry: FakeRegistry):
    registry.status = 302

    assert "gave 302 for" in str(refused(registry))
    assert len(registry.asked) == 6


def test_a_body_that_breaks_off_is_an_error_and_not_a_short_document(registry: FakeRegistry):
    registry.cut = True

    assert f"{registry.host} broke off on /v2/team/app/manifests/v1" in str(refused(registry))


@pytest.mark.parametrize("login", ["", "token", "basic"])
def test_a_tag_is_put_on_a_manifest_and_its_digest_stays(registry: FakeRegistry, tmp_path: Path, login: str):
    registry.login = login
    image = registry.image
    assert image is not None
    tagging = repository(registry, logged_in(tmp_path, registry.host))
    data = tagging.manifest("v1")

    tagging.put_manifest("v2", data)

    assert registry.tags == {"v2": image.digest}
    assert registry.media_type == MANIFEST


def test_a_login_is_taken_up_while_a_tag_is_put(registry: FakeRegistry):
    registry.login = "token"
    image = registry.image
    assert image is not None

    repository(registry).put_manifest("v2", image.blobs[image.digest])

    assert registry.methods == ["PUT", "GET", "PUT"]


@pytest.mark.parametrize("status", [307, 400, 403, 500])
def test_a_tag_that_is_refused_is_told(registry: FakeRegistry, status: int):
    registry.status = status

    with pytest.raises(RegistryError, match=f"gave {status} for /v2/team/app/manifests/v2"):
        repository(registry).put_manifest("v2", b"{}", media_type=MANIFEST)
    assert len(registry.asked) == 1


def test_a_registry_that_is_not_there_is_told():
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        host = f"127.0.0.1:{holder.getsockname()[1]}"

        with pytest.raises(RegistryError, match=f"the registry at {host} does not answer: "):
            Repository(host, "team/app", {}).manifest("v1")


@pytest.mark.parametrize(
    ("reference", "host", "name"),
    [
        ("python", HUB, "library/python"),
        ("team/app", HUB, "team/app"),
        ("docker.io/python", HUB, "library/python"),
        ("localhost:5000/python", "localhost:5000", "python"),
    ],
)
def test_a_reference_without_a_registry_is_the_hubs(reference: str, host: str, name: str):
    found = Repository.of(ImageReference.parse(reference), {})

    assert (found.host, found.name) == (host, name)


@pytest.mark.parametrize(
    ("host", "scheme"),
    [
        ("localhost:5000", "http"),
        ("127.0.0.1:5000", "http"),
        ("127.9.9.9", "http"),
        ("[::1]:5000", "http"),
        ("10.0.0.1:5000", "https"),
        ("registry.example", "https"),
        ("localhost.example", "https"),
    ],
)
def test_only_this_machine_is_spoken_to_without_tls(host: str, scheme: str):
    assert _scheme(host) == scheme


@pytest.mark.parametrize(
    "config",
    ["", "[]", "{}", '{"auths": null}', '{"auths": {"h": null}}', '{"auths": {"h": {}}}', '{"credHelpers": null}'],
)
def test_a_docker_configuration_without_a_login_gives_none(tmp_path: Path, config: str):
    (tmp_path / "config.json").write_text(config)

    assert _credentials("h", {"DOCKER_CONFIG": str(tmp_path)}) == ""


def test_a_credential_helper_is_asked_where_docker_is_set_up_with_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    helper = tmp_path / "docker-credential-fake"
    helper.write_text('#!/bin/sh\nread host; echo "{\\"Username\\": \\"$host\\", \\"Secret\\": \\"s\\"}"\n')
    helper.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    (tmp_path / "config.json").write_text('{"credsStore": "fake"}')

    assert base64.b64decode(_credentials("h.example", {"DOCKER_CONFIG": str(tmp_path)})) == b"h.example:s"


@pytest.mark.parametrize("script", ["exit 1", "echo rubbish", "echo '{}'"])
def test_a_credential_helper_that_has_nothing_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str
):
    helper = tmp_path / "docker-credential-fake"
    helper.write_text(f"#!/bin/sh\ncat >/dev/null\n{script}\n")
    helper.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    (tmp_path / "config.json").write_text('{"credHelpers": {"h": "fake"}, "auths": {"h": {"auth": "own"}}}')

    assert _credentials("h", {"DOCKER_CONFIG": str(tmp_path)}) == "own"
