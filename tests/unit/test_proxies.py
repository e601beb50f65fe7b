"""Which proxy an address is asked through: the cases of golang.org/x/net `http/httpproxy/proxy_test.go`, and our own."""

from __future__ import annotations

import base64

import pytest

from buildorch.errors import EXIT_UNREACHABLE, RegistryError
from buildorch.registry.proxies import Proxy, proxy_for

EXAMPLE = "http://example.com"


def through(url: str, **environ: str) -> str | None:
    """Host and port of the proxy that a URL is asked through."""
    found = proxy_for(url, environ)
    return found.address if found else None


# --- Go's `proxyForURLTests`, with the port that a proxy has by default; its socks5, foo and https are errors here


@pytest.mark.parametrize(
    ("value", "address"),
    [
        ("127.0.0.1:8080", "127.0.0.1:8080"),
        ("cache.corp.example.com:1234", "cache.corp.example.com:1234"),
        ("cache.corp.example.com", "cache.corp.example.com:80"),
        ("localhost", "localhost:80"),
        ("http://127.0.0.1:8080", "127.0.0.1:8080"),
        ("http://127.0.0.1:8080/", "127.0.0.1:8080"),
        ("HTTP://proxy:8080", "proxy:8080"),
        ("proxy:8080", "proxy:8080"),
        ("user:password@proxy:8080", "proxy:8080"),
        ("http://[::2]:8080", "[::2]:8080"),
    ],
)
def test_a_proxy_is_named_by_a_url_or_by_its_host(value: str, address: str):
    assert through(EXAMPLE, HTTP_PROXY=value) == address


BOTH = {"HTTP_PROXY": "http.proxy.tld", "HTTPS_PROXY": "secure.proxy.tld"}


@pytest.mark.parametrize(
    ("url", "environ", "address"),
    [
        ("http://insecure.tld/", BOTH, "http.proxy.tld:80"),
        ("https://secure.tld/", BOTH, "secure.proxy.tld:80"),
        ("https://secure.tld/", {"HTTP_PROXY": "http.proxy.tld"}, None),
        ("http://insecure.tld/", {"HTTPS_PROXY": "secure.proxy.tld"}, None),
        ("http://insecure.tld/", {"HTTP_PROXY": "http://10.1.2.3:8080", "REQUEST_METHOD": "GET"}, None),
        ("https://secure.tld/", {"HTTPS_PROXY": "secure.proxy.tld", "REQUEST_METHOD": "GET"}, "secure.proxy.tld:80"),
        (EXAMPLE, {}, None),
        (EXAMPLE, {"http_proxy": "small"}, "small:80"),
        (EXAMPLE, {"HTTP_PROXY": "large", "http_proxy": "small"}, "large:80"),
        (EXAMPLE, {"HTTP_PROXY": "", "http_proxy": "small"}, "small:80"),
        ("https://secure.tld/", {"https_proxy": "small"}, "small:80"),
        ("https://secure.tld/", {"HTTPS_PROXY": "large", "https_proxy": "small"}, "large:80"),
        (EXAMPLE, {"HTTP_PROXY": "proxy", "no_proxy": "example.com"}, None),
        (EXAMPLE, {"HTTP_PROXY": "proxy", "NO_PROXY": "other", "no_proxy": "example.com"}, "proxy:80"),
    ],
)
def test_each_scheme_has_its_variable_and_capitals_come_first(url: str, environ: dict[str, str], address: str | None):
    assert through(url, **environ) == address


@pytest.mark.parametrize(
    ("no_proxy", "url", "is_asked"),
    [
        ("example.com", "http://example.com/", False),
        (".example.com", "http://example.com/", True),
        ("ample.com", "http://example.com/", True),
        ("example.com", "http://foo.example.com/", False),
        (".foo.com", "http://example.com/", True),
        (".示例.com", "http://www.示例.com", False),
        ("xn--fsq092h.com", "http://www.示例.com", False),
        ("示例.com", "http://www.xn--fsq092h.com", False),
        ("example.com", "http://[1000::%25.example.com]:123", True),
        (":1", "http://example.com:80", True),  # TestInvalidNoProxy
        ("foo.com, EXAMPLE.com ,", "http://Example.com", False),
        ("example.com:80", "http://example.com", False),
        ("example.com:443", "http://example.com", True),
        ("*.example.com:5000", "http://a.example.com:5000", False),
        ("*.example.com:5000", "http://a.example.com:5001", True),
        ("10.0.0.0/255.0.0.0", "http://10.0.0.1", True),
        ("10.0.0.0/8", "http://[::ffff:10.1.2.3]", False),
        ("10.0.0.0/8", "http://10.example.com", True),
        ("2", "http://192.168.1.2", True),
        ("/8, 10.0.0.0/99, [, ., *.", "http://10.0.0.1", True),
    ],
)
def test_no_proxy_names_domains_ports_and_networks(no_proxy: str, url: str, *, is_asked: bool):
    assert (through(url, HTTP_PROXY="proxy", NO_PROXY=no_proxy) is not None) == is_asked


NO_PROXY = (
    "foobar.com, .barbaz.net, *.wildcard.io, 192.168.1.1, 192.168.1.2:81, 192.168.1.3:80, 10.0.0.0/30, "
    "2001:db8::52:0:1, [2001:db8::52:0:2]:443, [2001:db8::52:0:3]:80, 2002:db8:a::45/64"
)
"""Go's `noProxy`."""
USE_PROXY = {
    "localhost": False,
    "127.0.0.1": False,
    "127.0.0.2": False,
    "[::1]": False,
    "[::ffff:127.0.0.1]": False,
    "[::2]": True,
    "192.168.1.1": False,
    "192.168.1.2": True,
    "192.168.1.3": False,
    "192.168.1.4": True,
    "10.0.0.2": False,
    "[2001:db8::52:0:1]": False,
    "[2001:db8::52:0:2]": True,
    "[2001:db8::52:0:3]": False,
    "[2002:db8:a::123]": False,
    "[fe80::424b:c8be:1643:a1b6]": True,
    "barbaz.net": True,
    "www.barbaz.net": False,
    "foobar.com": False,
    "www.foobar.com": False,
    "foofoobar.com": True,
    "baz.com": True,
    "localhost.net": True,
    "local.localhost": True,
    "barbarbaz.net": True,
    "wildcard.io": True,
    "nested.wildcard.io": False,
    "awildcard.io": True,
}
"""Go's `UseProxyTests`, and IPv4's loopback in IPv6's form."""


@pytest.mark.parametrize("host", USE_PROXY)
def test_this_machine_and_the_hosts_of_no_proxy_are_asked_directly(host: str):
    url = f"http://{host}:80"

    assert (through(url, HTTP_PROXY="proxy", NO_PROXY=NO_PROXY) is not None) == USE_PROXY[host]
    assert through(url, HTTP_PROXY="proxy", NO_PROXY="foobar.com, *") is None


# --- our own


@pytest.mark.parametrize(
    ("value", "login"),
    [
        ("http://user:p%40ss%2fw%C3%B6rd@proxy", "user:p@ss/wörd"),
        ("user:pass@word@proxy", "user:pass@word"),
        ("http://user@proxy", "user:"),
    ],
)
def test_a_login_in_the_url_is_sent_as_it_was_meant_and_shown_nowhere(value: str, login: str):
    found = proxy_for(EXAMPLE, {"HTTP_PROXY": value})

    assert found == Proxy("HTTP_PROXY", "proxy", 80, f"Basic {base64.b64encode(login.encode()).decode()}")
    assert "Basic" not in repr(found)


NO_PROXY_AT_ALL = [
    "http://",
    "http://:3128",
    "http://secret:99999",
    "http://secret:port",
    "http://[secret",
    "http://user:secret@",
    "http://user:12/secret@proxy",
    "http://user:12#secret@proxy",
    "http://user:12?secret@proxy",
    "foo://secret",
    "secret://proxy",
    "//secret",
    "http://secret:80 ",
    "http://secret\r\nX: y",
    "http://secret\t:80",
    "secret proxy",
]


@pytest.mark.parametrize("value", NO_PROXY_AT_ALL)
def test_what_names_no_proxy_is_an_error_that_names_the_variable_and_not_its_value(value: str):
    with pytest.raises(RegistryError) as caught:
        proxy_for("https://example.com", {"https_proxy": value})

    error = caught.value
    assert str(error) == "https_proxy holds no URL of a proxy"
    assert error.hint == "let https_proxy name an HTTP proxy, as http://HOST:PORT, or NO_PROXY the registry"
    assert (error.transient, error.exit_code) == (False, EXIT_UNREACHABLE)


@pytest.mark.parametrize("kind", ["socks5", "socks5h", "socks4", "socks4a", "https", "SOCKS5"])
def test_a_proxy_of_another_kind_is_told_by_its_kind(kind: str):
    with pytest.raises(RegistryError) as caught:
        proxy_for(EXAMPLE, {"HTTP_PROXY": f"{kind}://user:secret@host:1080"})

    assert str(caught.value) == f"HTTP_PROXY names a proxy of the kind {kind.lower()}, which buildorch does not speak"


def test_a_wrong_proxy_does_not_matter_to_who_is_asked_without_it():
    assert through(EXAMPLE, HTTP_PROXY="socks5://host", NO_PROXY="example.com") is None
