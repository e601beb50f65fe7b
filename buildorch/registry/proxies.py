"""Which proxy an address is asked through, by the rules that docker, BuildKit's client and all of Go's programs have.

In: a URL and the environment. Out: a `Proxy`, or None for none. Touches nothing.

Source: golang.org/x/net `http/httpproxy`. Two things are otherwise here: a value that names no proxy is an error where
Go passes it over, and HTTP_PROXY is passed over in a CGI program, where Go makes it an error.
"""

from __future__ import annotations

import base64
import ipaddress
from dataclasses import field
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from buildorch.errors import RegistryError
from buildorch.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Mapping

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address

NOT_SPOKEN = frozenset({"https", "socks4", "socks4a", "socks5", "socks5h"})
"""The kinds of proxies that a value may name and an error may show: of another value no part is shown."""


@dataclass(frozen=True, slots=True)
class Proxy:
    """An HTTP proxy."""

    variable: str
    """The variable that names it."""
    host: str
    port: int
    authorization: str = field(default="", repr=False)
    """The Proxy-Authorization header for it; empty for none."""

    @property
    def address(self) -> str:
        """Host and port, without the login."""
        return authority(self.host, self.port)


def authority(host: str, port: int) -> str:
    """Host and port as a URL has them (RFC 3986, section 3.2.2)."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def proxy_for(url: str, environ: Mapping[str, str]) -> Proxy | None:
    """The proxy that a URL is asked through; None where it is asked directly.

    Raises:
        RegistryError: the variable names no proxy that is spoken. It may hold a password, so its value is not shown.
    """
    parts = urlsplit(url)
    setting = _setting(parts.scheme, environ)
    host = _ascii(parts.hostname or "")
    port = str(parts.port or (443 if parts.scheme == "https" else 80))
    exceptions = next((environ[name] for name in ("NO_PROXY", "no_proxy") if environ.get(name)), "")
    if setting is None or _is_direct(host, port, exceptions):
        return None
    return _parsed(*setting)


def _setting(scheme: str, environ: Mapping[str, str]) -> tuple[str, str] | None:
    """The variable that counts, and what it holds."""
    if scheme == "https":
        return next(((name, environ[name]) for name in ("HTTPS_PROXY", "https_proxy") if environ.get(name)), None)
    if environ.get("REQUEST_METHOD"):
        # A CGI program, whose client sets HTTP_PROXY by a header named Proxy: https://golang.org/s/cgihttpproxy.
        return None
    return next(((name, environ[name]) for name in ("HTTP_PROXY", "http_proxy") if environ.get(name)), None)


def _is_direct(host: str, port: str, exceptions: str) -> bool:
    """Whether a host is this machine, or one of NO_PROXY's."""
    address = _ip(host)
    if host == "localhost" or (address is not None and address.is_loopback):
        return True
    entries = [entry.strip().lower() for entry in exceptions.split(",")]
    return any(entry == "*" or _covers(entry, host, port, address) for entry in entries)


def _covers(entry: str, host: str, port: str, address: _Address | None) -> bool:
    """Whether an entry of NO_PROXY is about this host, which may be an `address`."""
    if (network := _network(entry)) is not None:
        return address is not None and address in network
    name, only = _split(entry)
    if only not in {"", port}:
        return False
    if (its := _ip(name)) is not None:
        return its == address
    return bool(name) and address is None and _is_of(host, name)


def _is_of(host: str, name: str) -> bool:
    """Whether a host is a domain or below it; of `.foo.com` and `*.foo.com` only below it."""
    name = name[1:] if name.startswith("*.") else name
    domain = _ascii(name.removeprefix("."))
    return host.endswith(f".{domain}") or (host == domain and not name.startswith("."))


def _split(entry: str) -> tuple[str, str]:
    """Name and port; an IPv6 address has a port only behind brackets."""
    name, colon, port = entry.rpartition(":")
    if name.startswith("[") and name.endswith("]"):
        return name[1:-1], port
    return (name, port) if colon and ":" not in name else (entry, "")


def _network(entry: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    """A CIDR block; its length is a number, as Go has no other form."""
    if not entry.rpartition("/")[2].isdecimal() or "/" not in entry:
        return None
    try:
        return ipaddress.ip_network(entry, strict=False)
    except ValueError:
        return None


def _ip(text: str) -> _Address | None:
    """An address without its zone, an IPv4 address in IPv6's form as what it is; None for a name."""
    try:
        found = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return getattr(found, "ipv4_mapped", None) or found


def _ascii(name: str) -> str:
    """A name as DNS has it; one that it cannot have, as it is."""
    try:
        return name if name.isascii() else name.encode("idna").decode()
    except UnicodeError:
        return name


def _parsed(variable: str, value: str) -> Proxy:
    """What a variable names; without a scheme it is an HTTP proxy."""
    try:
        parts = urlsplit(value if "://" in value else f"http://{value}")
        host, port = parts.hostname, parts.port
    except ValueError:
        raise _wrong(variable, "holds no URL of a proxy") from None
    if parts.scheme in NOT_SPOKEN:
        raise _wrong(variable, f"names a proxy of the kind {parts.scheme}, which buildorch does not speak")
    # An @ behind the host is a password's: a slash in it ended the host, which would then be a part of the login.
    rest = f"{parts.path}{parts.query}{parts.fragment}"
    if parts.scheme != "http" or not host or "@" in rest or not value.isprintable() or " " in value:
        raise _wrong(variable, "holds no URL of a proxy")
    login = f"{unquote(parts.username or '')}:{unquote(parts.password or '')}"
    basic = f"Basic {base64.b64encode(login.encode()).decode()}" if "@" in parts.netloc else ""
    return Proxy(variable, host, 80 if port is None else port, basic)


def _wrong(variable: str, fact: str) -> RegistryError:
    return RegistryError(
        f"{variable} {fact}",
        hint=f"let {variable} name an HTTP proxy, as http://HOST:PORT, or NO_PROXY the registry",
    )
