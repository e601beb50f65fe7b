"""Registries that are asked through a proxy, by both that ask: one that runs on loopback, and reaches what it is told.

The names end in `.example`, which nobody reaches but the proxy: loopback itself is never asked through one.
"""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fakes import FakeProxy, FakeRegistry, digest_of, make_image, running_proxy, running_registry

from buildorch.bases.base import Base, Unresolved
from buildorch.bases.resolve import resolve_bases
from buildorch.doctor import judging
from buildorch.errors import RegistryError
from buildorch.presence import Part, Presence, Wanted, in_registries, registries
from buildorch.registry import Repository, greet

CERTIFICATE = Path(__file__).parent / "data" / "registry.example.pem"
NAME = "registry.example"
LOGIN = "proxy-user:proxy-secret"
ACCOUNT = "registry-user:registry-secret"


def basic(account: str) -> str:
    return f"Basic {base64.b64encode(account.encode()).decode()}"


@pytest.fixture(params=["https", "http"])
def scheme(request: pytest.FixtureRequest) -> str:
    scheme: str = request.param
    return scheme


@pytest.fixture
def registry(scheme: str) -> Iterator[FakeRegistry]:
    with running_registry(CERTIFICATE if scheme == "https" else None) as running:
        running.image, running.account = make_image(), ACCOUNT
        yield running


@pytest.fixture
def proxy(registry: FakeRegistry, scheme: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeProxy]:
    """A proxy that reaches the registry as `registry.example`; TLS trusts its certificate and no other."""
    monkeypatch.setenv("SSL_CERT_FILE", str(CERTIFICATE))
    registries._tls.cache_clear()
    names = [f"{name}:443" for name in (NAME, "tokens.example", "other.example")] if scheme == "https" else [NAME]
    with running_proxy(dict.fromkeys(names, registry.host)) as running:
        yield running
    registries._tls.cache_clear()


@pytest.fixture
def environ(proxy: FakeProxy, tmp_path: Path) -> dict[str, str]:
    """The proxy in the variables, and docker's login for the registry."""
    auths = {NAME: {"auth": base64.b64encode(ACCOUNT.encode()).decode()}}
    (tmp_path / "config.json").write_text(json.dumps({"auths": auths}))
    return named(proxy.address) | {"DOCKER_CONFIG": str(tmp_path)}


def named(value: str) -> dict[str, str]:
    return {"HTTPS_PROXY": value, "HTTP_PROXY": value}


def manifest(scheme: str, environ: dict[str, str], host: str = NAME) -> bytes:
    return Repository(host, "team/app", environ, scheme=scheme).manifest("v1")


def refusal(scheme: str, environ: dict[str, str]) -> RegistryError:
    asking = Repository(NAME, "team/app", environ, scheme=scheme, timeout_s=registries.TIMEOUT_S)
    with pytest.raises(RegistryError) as caught:
        asking.manifest("v1")
    return caught.value


def line_status(scheme: str, environ: dict[str, str]) -> object:
    line = registries._Line(f"{scheme}://{NAME}", environ)
    try:
        return line.head("/v2/team/app/manifests/v1", basic(ACCOUNT))[0]
    finally:
        line.close()


def line_refusal(scheme: str, environ: dict[str, str]) -> RegistryError:
    with pytest.raises(RegistryError) as caught:
        line_status(scheme, environ)
    return caught.value


REFUSALS: list[Callable[[str, dict[str, str]], RegistryError]] = [refusal, line_refusal]


def test_a_registry_is_asked_through_the_proxy_by_connect_behind_tls_and_by_the_whole_url_without(
    registry: FakeRegistry, proxy: FakeProxy, environ: dict[str, str], scheme: str
):
    assert registry.image is not None
    assert digest_of(manifest(scheme, environ)) == registry.image.digest
    assert line_status(scheme, environ) == 200
    url = f"http://{NAME}/v2/team/app/manifests/v1"
    expected = ["CONNECT registry.example:443"] * 2 if scheme == "https" else [f"GET {url}", f"HEAD {url}"]
    assert proxy.asked == expected


def test_each_login_goes_to_whom_it_is_for(
    registry: FakeRegistry, proxy: FakeProxy, environ: dict[str, str], scheme: str
):
    registry.login, proxy.login = "basic", LOGIN

    manifest(scheme, environ | named(f"http://{LOGIN}@{proxy.address}"))
    status = line_status(scheme, environ | named(f"http://{LOGIN}@{proxy.address}"))

    assert status == 200
    assert {one for _, one in registry.asked} == {"", basic(ACCOUNT)}
    assert "proxy-authorization" not in registry.headers
    heads = "".join(proxy.heads)
    assert heads.count(f"Proxy-Authorization: {basic(LOGIN)}\r\n") == len(proxy.heads) == 3
    assert (basic(ACCOUNT) in heads) == (scheme == "http")


@pytest.mark.parametrize("ask", REFUSALS)
@pytest.mark.parametrize(("login", "fact"), [("", "wants a login"), ("user:wrong-secret@", "does not take the login")])
def test_a_proxy_that_wants_another_login_is_told_with_where_to_put_it(
    proxy: FakeProxy,
    environ: dict[str, str],
    scheme: str,
    ask: Callable[[str, dict[str, str]], RegistryError],
    login: str,
    fact: str,
):
    proxy.login = LOGIN

    error = ask(scheme, environ | named(f"http://{login}{proxy.address}"))

    variable = "HTTPS_PROXY" if scheme == "https" else "HTTP_PROXY"
    assert f"the proxy {proxy.address} ({variable}) {fact}" in str(error)
    assert f"put it into {variable}" in error.hint
    assert "secret" not in f"{error}{error.hint}"
    assert (error.transient, len(proxy.asked)) == (False, 1)


@pytest.mark.parametrize("scheme", ["https"], indirect=True)
def test_a_proxy_that_answers_a_wrong_login_with_401_does_not_take_it(proxy: FakeProxy, environ: dict[str, str]):
    proxy.first = [401]

    error = refusal("https", environ | named(f"http://{LOGIN}@{proxy.address}"))

    assert "does not take the login that it is given: 401 for" in str(error)


@pytest.mark.parametrize("scheme", ["https"], indirect=True)
@pytest.mark.parametrize("ask", REFUSALS)
@pytest.mark.parametrize(("status", "transient"), [(403, False), (405, False), (502, True), (503, True), (504, True)])
def test_a_proxy_that_makes_no_connection_is_told_as_the_one_that_refused(
    proxy: FakeProxy,
    environ: dict[str, str],
    ask: Callable[[str, dict[str, str]], RegistryError],
    status: int,
    *,
    transient: bool,
):
    proxy.first = [status]

    error = ask("https", environ | named(f"http://{LOGIN}@{proxy.address}"))

    assert str(error) == f"the proxy {proxy.address} (HTTPS_PROXY) makes no connection to {NAME}:443: {status}"
    assert "NO_PROXY" in error.hint
    assert (error.transient, "secret" in f"{error}{error.hint}") == (transient, False)


@pytest.mark.parametrize("scheme", ["https"], indirect=True)
def test_a_proxy_that_refuses_for_the_moment_is_asked_again_by_both(
    proxy: FakeProxy, environ: dict[str, str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("buildorch.registry.waiting.PATIENCE_S", 3.0)
    monkeypatch.setattr(registries, "PATIENCE_S", 3.0)
    proxy.first = [503, 502, 504]

    manifest("https", environ)
    status, proxy.first = line_status("https", environ), [503]

    assert (status, line_status("https", environ)) == (200, 200)
    assert len(proxy.asked) == 4 + 1 + 2


@pytest.mark.parametrize("scheme", ["https"], indirect=True)
@pytest.mark.parametrize("ask", REFUSALS)
@pytest.mark.parametrize(
    ("answer", "fact"),
    [
        (b"HTTP/1.1 200 OK\r\n", "the proxy broke off"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 20_000, "the proxy's answer has no end"),
        (b"SSH-2.0-x\r\n\r\n", "the proxy does not speak HTTP/1: b'SSH-2.0-x"),
    ],
)
def test_what_is_no_answer_of_a_proxy_is_told(
    proxy: FakeProxy,
    environ: dict[str, str],
    ask: Callable[[str, dict[str, str]], RegistryError],
    answer: bytes,
    fact: str,
):
    proxy.answer = answer

    error = ask("https", environ)

    assert f"the registry at {NAME} does not answer through the proxy {proxy.address} (HTTPS_PROXY): " in str(error)
    assert fact in str(error)


@pytest.mark.parametrize("scheme", ["https"], indirect=True)
@pytest.mark.parametrize("ask", REFUSALS)
def test_a_proxy_that_answers_a_byte_now_and_then_is_waited_for_no_longer_than_one_that_is_silent(
    proxy: FakeProxy,
    environ: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    ask: Callable[[str, dict[str, str]], RegistryError],
):
    monkeypatch.setattr(registries, "TIMEOUT_S", 0.05)
    proxy.answer, proxy.drips_s = b"HTTP/1.1 200 OK\r\n" * 2, 0.01

    error = ask("https", environ)

    assert str(error).endswith(f"does not answer through the proxy {proxy.address} (HTTPS_PROXY): timed out")


@pytest.mark.parametrize("ask", REFUSALS)
def test_a_proxy_that_is_not_there_is_named_without_its_login(
    environ: dict[str, str], scheme: str, ask: Callable[[str, dict[str, str]], RegistryError]
):
    error = ask(scheme, environ | named(f"http://{LOGIN}@127.0.0.1:1"))

    assert f"the registry at {NAME} does not answer through the proxy 127.0.0.1:1 (HTTP" in str(error)
    assert "secret" not in f"{error}{error.hint}"


@pytest.mark.parametrize("scheme", ["https"], indirect=True)
def test_a_certificate_of_another_name_is_refused_behind_a_proxy_too(environ: dict[str, str]):
    with pytest.raises(RegistryError, match="CERTIFICATE_VERIFY_FAILED") as caught:
        manifest("https", environ, "other.example")

    assert not caught.value.transient
    [found] = in_registries([wanted("other.example/team/app:v1")], environ=environ)
    assert (found.state, "CERTIFICATE_VERIFY_FAILED" in found.reason) == ("unknown", True)


@pytest.mark.parametrize("scheme", ["https"], indirect=True)
def test_token_servers_and_redirects_go_through_the_proxy_by_their_own_hosts(
    registry: FakeRegistry, proxy: FakeProxy, environ: dict[str, str]
):
    assert registry.image is not None
    registry.login, registry.token_server = "token", "https://tokens.example"
    with running_registry() as elsewhere:
        elsewhere.image = registry.image
        registry.redirect, registry.elsewhere = True, f"http://{elsewhere.host}/elsewhere/"

        document = Repository(NAME, "team/app", environ).document(registry.image.config_digest)

        assert digest_of(document) == registry.image.config_digest
        assert elsewhere.asked == [(f"/elsewhere/{registry.image.config_digest}", "")]
    assert proxy.asked == [f"CONNECT {name}:443" for name in (NAME, "tokens.example", NAME)]


@pytest.mark.parametrize("address", ["https://a b/", "http://a b/", "https://a\x7f/", f"https://{'ä' * 70}/"])
@pytest.mark.parametrize("is_direct", [True, False])
def test_a_redirect_to_what_can_be_no_host_is_an_error_that_lasts_and_no_proxy_hears_of_it(
    registry: FakeRegistry, proxy: FakeProxy, environ: dict[str, str], scheme: str, address: str, *, is_direct: bool
):
    assert registry.image is not None
    registry.redirect, registry.elsewhere = True, address
    host, variables = (registry.host, {"HOME": "/nonexistent"}) if is_direct and scheme == "http" else (NAME, environ)

    with pytest.raises(RegistryError, match="does not answer") as caught:
        Repository(host, "team/app", variables, scheme=scheme).document(registry.image.config_digest)

    assert not caught.value.transient
    assert [one for one in proxy.asked if NAME not in one] == []


def wanted(name: str) -> Wanted:
    image = make_image()
    layers = tuple(layer["digest"] for layer in json.loads(image.blobs[image.manifest_digest])["layers"])
    return Wanted(name, image.digest, (Part("linux/amd64", image.manifest_digest, image.config_digest, layers),))


@pytest.mark.parametrize("scheme", ["https"], indirect=True)
def test_pushed_images_and_bases_are_found_through_the_proxy(
    registry: FakeRegistry, proxy: FakeProxy, environ: dict[str, str]
):
    registry.login, registry.keeps = "basic", True
    name = f"{NAME}/team/app:v1"

    assert in_registries([wanted(name)], environ=environ) == (Presence("present"),)
    assert len(proxy.asked) == 1
    found = resolve_bases([name], lock=None, environ=environ)[name]
    assert isinstance(found, Base)


@pytest.mark.parametrize("scheme", ["https"], indirect=True)
@pytest.mark.parametrize("value", ["socks5://u:secret@127.0.0.1:1", "http://u:12/secret@h"])
def test_with_a_proxy_that_is_not_spoken_images_are_unknown_and_bases_unresolved_for_that_reason(
    proxy: FakeProxy, environ: dict[str, str], value: str
):
    names = [f"{NAME}/team/{at}:v1" for at in range(3)]

    presences = in_registries([wanted(name) for name in names], environ=environ | named(value))
    bases = resolve_bases(names, lock=None, environ=environ | named(value))

    reasons = [found.reason for found in (*presences, *bases.values()) if isinstance(found, Presence | Unresolved)]
    assert {found.state for found in presences} == {"unknown"}
    assert len(reasons) == 6
    assert all("HTTPS_PROXY" in reason and "let HTTPS_PROXY name an HTTP proxy" in reason for reason in reasons)
    assert "secret" not in "".join(reasons)
    assert proxy.asked == []


@pytest.mark.parametrize("scheme", ["https"], indirect=True)
def test_a_proxy_that_refuses_is_asked_once_for_all_of_a_registrys_images(proxy: FakeProxy, environ: dict[str, str]):
    proxy.first = [403] * 9

    found = in_registries([wanted(f"{NAME}/team/app:{at}") for at in range(5)], environ=environ)

    assert {one.state for one in found} == {"unknown"}
    assert len(proxy.asked) == 1


def test_a_doctors_greeting_says_which_proxy_was_in_between(proxy: FakeProxy, environ: dict[str, str], scheme: str):
    greeting = greet(NAME, scheme=scheme, environ=environ | named(f"http://{LOGIN}@{proxy.address}"))

    check = judging.judge_registry(NAME, greeting, needed="web go there", is_pushed_to=True, has_login=False)

    assert (greeting.status, greeting.proxy) == (200, proxy.address)
    assert check.fact == f"answers without a login; web go there; asked through the proxy {proxy.address}"


def test_where_no_proxy_is_set_nothing_is_loaded_for_one():
    program = (
        "import sys, buildorch.presence.registries; from buildorch.registry.asking import proxy_of\n"
        "assert proxy_of('https://r.example', {'NO_PROXY': 'x', 'HTTP_PROXY': ''}) is None\n"
        "for_one = {'buildorch.registry.proxies', 'buildorch.registry.tunnel', 'urllib.request'}\n"
        "print([name for name in sys.modules if name in for_one])"
    )

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert done.stdout == "[]\n"
