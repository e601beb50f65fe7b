"""A registry over HTTP, against one that runs on loopback."""

from __future__ import annotations

import base64
import json
import random
import socket
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest
from fakes import MANIFEST, FakeRegistry, Image, digest_of, make_image, running_registry

from buildorch.errors import EXIT_UNREACHABLE, MalformedDocument, RegistryError
from buildorch.oci import MAX_DOCUMENT, ImageReference
from buildorch.registry import HUB, Repository
from buildorch.registry.asking import scheme_of
from buildorch.registry.credentials import credentials
from buildorch.registry.repository import MAX_TOKEN
from buildorch.registry.waiting import retry_after_s


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


@pytest.mark.parametrize("name", ["v1", "its digest"])
def test_a_document_that_is_larger_than_any_is_not_kept(registry: FakeRegistry, name: str):
    image = registry.image
    assert image is not None
    image.blobs[image.digest] = bytes(MAX_DOCUMENT + 1)

    with pytest.raises(MalformedDocument, match=f"is larger than {MAX_DOCUMENT} bytes"):
        repository(registry).manifest("v1" if name == "v1" else image.digest)


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


LONG_TOKEN = b'{"token": "%s"}' % (b"x" * MAX_TOKEN)


@pytest.mark.parametrize(
    "answer",
    [b"", b"[]", b"7", b"{}", b'{"token": 7}', b"not json", pytest.param(LONG_TOKEN, id="longer than what is read")],
)
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


def test_a_manifest_is_deleted_with_its_tags_and_the_others_stay(registry: FakeRegistry, tmp_path: Path):
    registry.login, registry.scoped = "token", True
    image = registry.image
    assert image is not None
    registry.tags = {"v1": image.digest, "v2": image.digest, "other": image.config_digest}
    deleting = repository(registry, logged_in(tmp_path, registry.host))
    deleting.digest("v1")

    deleting.delete_manifest(image.digest)

    assert registry.tags == {"other": image.config_digest}


@pytest.mark.parametrize(("status", "missing"), [(0, True), (405, False)])
def test_a_manifest_that_cannot_be_deleted_is_told(registry: FakeRegistry, status: int, *, missing: bool):
    registry.status = status

    with pytest.raises(RegistryError, match=f"gave {status or 404}") as raised:
        repository(registry).delete_manifest("sha256:" + "0" * 64)

    assert raised.value.missing is missing


@dataclass
class Clock:
    """Time that passes only while somebody waits; it stands in for `time` in the registry's module."""

    now: float = 1000.0
    pauses: list[float] = field(default_factory=list)

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Waiting costs no time, and registries are waited for up to a minute."""
    clock = Clock()
    monkeypatch.setattr("buildorch.registry.waiting.time", clock)
    monkeypatch.setattr("buildorch.registry.waiting.PATIENCE_S", 60.0)
    monkeypatch.setattr("buildorch.registry.waiting.FIRST_PAUSE_S", 0.2)
    return clock


ASK: dict[str, Callable[[Repository, Image], object]] = {
    "manifest by tag": lambda asking, _: asking.manifest("v1"),
    "manifest by digest": lambda asking, image: asking.manifest(image.digest),
    "document": lambda asking, image: asking.document(image.config_digest),
    "digest": lambda asking, _: asking.digest("v1"),
    "digest, verified": lambda asking, _: asking.digest("v1", verify=True),
    "put": lambda asking, image: asking.put_manifest("v2", image.blobs[image.digest]),
    "login": lambda asking, _: asking.login(f'Bearer realm="http://{asking.host}/token",service="fake"'),
}


@pytest.mark.parametrize("what", ASK)
@pytest.mark.parametrize("fault", [408, 429, 500, 502, 503, 504, "reset"])
def test_what_a_registry_fails_at_for_the_moment_is_asked_for_again(
    registry: FakeRegistry, clock: Clock, what: str, fault: Any
):
    image = registry.image
    assert image is not None
    expected = ASK[what](repository(registry), image)
    registry.asked.clear()
    registry.first = [fault, fault, fault]

    assert ASK[what](repository(registry), image) == expected
    assert (len(registry.asked), len(clock.pauses)) == (4, 3)


@pytest.mark.parametrize("what", ["manifest by digest", "document", "digest, verified"])
@pytest.mark.parametrize("fault", ["cut", "spoilt"])
def test_bytes_that_are_not_those_of_the_digest_are_fetched_again(
    registry: FakeRegistry, clock: Clock, what: str, fault: Any
):
    image = registry.image
    assert image is not None
    registry.first = [fault]

    ASK[what](repository(registry), image)

    assert (len(registry.asked), len(clock.pauses)) == (2, 1)


@pytest.mark.parametrize("what", ASK)
@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 416, 501, 507])
def test_what_a_registry_refuses_is_asked_for_once(registry: FakeRegistry, clock: Clock, what: str, status: int):
    image = registry.image
    assert image is not None
    registry.first = [status] * 9

    with pytest.raises(RegistryError) as caught:
        ASK[what](repository(registry), image)

    assert not caught.value.transient
    assert clock.pauses == []


def test_the_pauses_grow_are_never_the_same_and_end_with_the_patience(registry: FakeRegistry, clock: Clock):
    registry.status = 503

    for _ in range(2):
        with pytest.raises(RegistryError, match="gave 503"):
            repository(registry).manifest("v1")

    assert clock.pauses[0] <= 0.2
    assert 2.5 <= clock.pauses[-1] <= 5.0
    assert len(set(clock.pauses)) == len(clock.pauses) > 20
    assert 50.0 < sum(clock.pauses) / 2 <= 60.0


def test_the_pauses_leave_the_programs_own_random_numbers_alone(registry: FakeRegistry, clock: Clock):
    registry.first = [503]
    before = random.getstate()

    repository(registry).manifest("v1")

    assert clock.pauses
    assert random.getstate() == before


@pytest.mark.parametrize("header", ["7", "date"])
def test_a_registry_that_says_when_is_not_asked_before(registry: FakeRegistry, clock: Clock, header: str):
    registry.first = [429]
    registry.retry_after = header if header == "7" else format_datetime(datetime.now(UTC) + timedelta(seconds=9))

    repository(registry).manifest("v1")

    [pause] = clock.pauses
    assert 7.0 < pause < 10.0


def test_a_registry_that_wants_to_be_left_alone_for_longer_than_anyone_waits_is_told_at_once(
    registry: FakeRegistry, clock: Clock
):
    registry.first, registry.retry_after = [429], "3600"

    with pytest.raises(RegistryError, match="gave 429") as caught:
        repository(registry).manifest("v1")

    assert (caught.value.after_s, clock.pauses) == (3600.0, [])


@pytest.mark.parametrize("header", ["", "soon", "-5", "1e9", "Fri, 31 Dec 1999 23:59:59 GMT", "Fri, 99 Dec 1999"])
def test_a_retry_after_that_is_none_asks_for_nothing(header: str):
    assert retry_after_s(header) == 0.0


def test_a_blob_that_is_another_says_so_at_its_end(registry: FakeRegistry):
    image = registry.image
    assert image is not None
    registry.first = ["spoilt"]

    with pytest.raises(RegistryError, match=f"was asked for {image.config_digest} and sent sha256:") as caught:
        b"".join(repository(registry).blob(image.config_digest))

    assert caught.value.transient


def test_a_registry_that_is_not_there_is_asked_once(clock: Clock):
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        nobody = Repository(f"127.0.0.1:{holder.getsockname()[1]}", "team/app", {})

        with pytest.raises(RegistryError, match="does not answer"):
            nobody.manifest("v1")

    assert clock.pauses == []


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
    assert scheme_of(host) == scheme


@pytest.mark.parametrize(
    "config",
    ["", "[]", "{}", '{"auths": null}', '{"auths": {"h": null}}', '{"auths": {"h": {}}}', '{"credHelpers": null}'],
)
def test_a_docker_configuration_without_a_login_gives_none(tmp_path: Path, config: str):
    (tmp_path / "config.json").write_text(config)

    assert credentials("h", {"DOCKER_CONFIG": str(tmp_path)}) == ""


def test_a_credential_helper_is_asked_where_docker_is_set_up_with_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    helper = tmp_path / "docker-credential-fake"
    helper.write_text('#!/bin/sh\nread host; echo "{\\"Username\\": \\"$host\\", \\"Secret\\": \\"s\\"}"\n')
    helper.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    (tmp_path / "config.json").write_text('{"credsStore": "fake"}')

    assert base64.b64decode(credentials("h.example", {"DOCKER_CONFIG": str(tmp_path)})) == b"h.example:s"


@pytest.mark.parametrize("script", ["exit 1", "echo rubbish", "echo '{}'"])
def test_a_credential_helper_that_has_nothing_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str
):
    helper = tmp_path / "docker-credential-fake"
    helper.write_text(f"#!/bin/sh\ncat >/dev/null\n{script}\n")
    helper.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    (tmp_path / "config.json").write_text('{"credHelpers": {"h": "fake"}, "auths": {"h": {"auth": "own"}}}')

    assert credentials("h", {"DOCKER_CONFIG": str(tmp_path)}) == "own"
