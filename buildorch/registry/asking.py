"""One request to a registry, a token server or a blob store, directly or through a proxy.

In: a URL. Out: the head of the answer, whose body can be read. Touches the network.
"""

from __future__ import annotations

import http.client
import ipaddress
import os
import socket
import ssl
from contextlib import ExitStack
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, urljoin, urlsplit

from buildorch.errors import RegistryError
from buildorch.registry.waiting import TIMEOUT_S, date_of
from buildorch.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from buildorch.registry.proxies import Proxy

ELSEWHERE = frozenset({301, 302, 303, 307, 308})
"""The statuses of a redirect."""
_NEVER = (
    ConnectionRefusedError,
    socket.gaierror,
    ssl.SSLCertVerificationError,
    UnicodeError,
    http.client.InvalidURL,
)
"""Nobody there, a wrong name or a wrong certificate: the same a moment later, and a closed network has many."""


@dataclass(frozen=True, slots=True)
class Greeting:
    """How a registry answers to who says no more than hello."""

    status: int
    """200 or 401 from one that is well."""
    wants_login: bool
    """Whether it asks who is there; Docker Hub does, and then lets anybody pull."""
    date: datetime | None
    """Its clock, to the second; None where it does not say."""
    proxy: str = ""
    """Host and port of the proxy that it was asked through; empty for none."""

    @property
    def is_registry(self) -> bool:
        """Whether it answers as a registry does."""
        return self.status in {200, 401}


def greet(
    host: str, *, scheme: str = "", timeout_s: float = TIMEOUT_S, environ: Mapping[str, str] = os.environ
) -> Greeting:
    """Ask a registry for its version, `GET /v2/`, once and without a login.

    Raises:
        RegistryError: it cannot be reached, or does not answer within `timeout_s` seconds.
    """
    url = f"{scheme or scheme_of(host)}://{host}/v2/"
    with ExitStack() as opened:
        response = request(url, {}, opened, timeout_s=timeout_s, environ=environ)
        proxy = proxy_of(url, environ)
        date = date_of(response.getheader("Date") or "")
        return Greeting(response.status, response.status == 401, date, proxy.address if proxy else "")


def proxy_of(url: str, environ: Mapping[str, str]) -> Proxy | None:
    """The proxy that a URL is asked through; None for none, which is known without a module where none is set.

    Raises:
        RegistryError: the environment names one that is not spoken.
    """
    if not any(environ.get(name) for name in ("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy")):
        return None
    from buildorch.registry.proxies import proxy_for  # noqa: PLC0415 - nobody pays for it who has none

    return proxy_for(url, environ)


def through(proxy: Proxy | None) -> str:
    """The words for what is in between; none where nothing is."""
    return f" through the proxy {proxy.address} ({proxy.variable})" if proxy else ""


def request(
    url: str,
    headers: Mapping[str, str],
    opened: ExitStack,
    *,
    timeout_s: float,
    environ: Mapping[str, str],
    method: str = "GET",
    body: bytes | None = None,
) -> http.client.HTTPResponse:
    """The answer to a request; `opened` closes what it came over."""
    parts, host, port = _address(url)
    proxy = proxy_of(url, environ)
    asked = proxy if parts.scheme == "http" else None  # behind TLS the proxy only makes the connection
    target = f"{parts.path or '/'}?{parts.query}" if parts.query else parts.path or "/"
    if asked:
        target = f"http://{parts.netloc.rpartition('@')[2]}{target}"
        headers = {**headers, "Proxy-Authorization": asked.authorization} if asked.authorization else headers
    try:
        connection = _connection(host, port, is_tls=parts.scheme == "https", proxy=proxy, timeout_s=timeout_s)
        opened.callback(connection.close)
        connection.request(method, target, body, headers=dict(headers))
        response = connection.getresponse()
    except (OSError, http.client.HTTPException, UnicodeError) as error:  # the last for a name that no DNS can hold
        fact = f"the registry at {parts.netloc} does not answer{through(proxy)}: {error}"
        raise RegistryError(fact, transient=not isinstance(error, _NEVER)) from None
    # An answer that closes its connection takes the socket over from it.
    opened.callback(response.close)
    if asked and response.status == 407:
        from buildorch.registry.tunnel import refused  # noqa: PLC0415 - as above

        raise refused(asked, response.status, parts.netloc)
    return response


def _address(url: str) -> tuple[SplitResult, str, int]:
    """A URL's parts, its host and its port.

    Raises:
        RegistryError: it is not one of HTTP.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        parts, host, port = None, None, None
    if parts is None or parts.scheme not in {"http", "https"} or not host:
        raise RegistryError(f"a registry sent the address {url!r}, which is not one of HTTP")
    return parts, host, port or (443 if parts.scheme == "https" else 80)


def _connection(
    host: str, port: int, *, is_tls: bool, proxy: Proxy | None, timeout_s: float
) -> http.client.HTTPConnection:
    if proxy:
        from buildorch.registry.tunnel import connection_through  # noqa: PLC0415 - nobody pays for it who has no proxy

        return connection_through(proxy, host, port, is_tls=is_tls, timeout_s=timeout_s)
    connect = http.client.HTTPSConnection if is_tls else http.client.HTTPConnection
    return connect(host, port, timeout=timeout_s)


def moved(url: str, location: str) -> str:
    """The address that a redirect leads to."""
    try:
        return urljoin(url, location)
    except ValueError:
        return location  # no address at all: `request` says so


def scheme_of(host: str) -> str:
    """Plain HTTP for this machine alone, as the engine itself does by default (dockerd, insecure-registries)."""
    name = ""
    try:
        name = urlsplit(f"//{host}").hostname or ""
        return "http" if ipaddress.ip_address(name).is_loopback else "https"
    except ValueError:
        return "http" if name == "localhost" else "https"
