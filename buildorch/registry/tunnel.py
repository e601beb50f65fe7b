"""Connections to registries through an HTTP proxy.

In: a `Proxy`, and the host and port that are wanted. Out: a connection. Touches: the network.

A proxy is told of a registry behind TLS its host and port alone. It makes the connection (CONNECT), through which
nothing goes that it can read. One without TLS it asks itself, for the whole URL.

Source: RFC 9110, section 9.3.6, and RFC 9112, section 3.2.2. Not http.client's `set_tunnel`: that reads a head without
an end, has no brackets for an IPv6 address (Python 3.11), and tells a refusal's status in its text alone.
"""

from __future__ import annotations

import http.client
import re
import socket
import ssl
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING

from buildorch.errors import RegistryError
from buildorch.registry.proxies import authority
from buildorch.registry.waiting import PASSING

if TYPE_CHECKING:
    from buildorch.registry.proxies import Proxy

MAX_HEAD = 16 * 1024
_STATUS = re.compile(rb"HTTP/1\.[01] (\d{3})\b")


def connection_through(
    proxy: Proxy, host: str, port: int, *, is_tls: bool, timeout_s: float
) -> http.client.HTTPConnection:
    """A connection of http.client's; without TLS it is one to the proxy, which is asked for whole URLs.

    Raises:
        RegistryError: the proxy refuses.
        OSError: it does not answer, or TLS fails behind it.
        http.client.InvalidURL: it is no name of a host.
    """
    if not is_tls:
        return http.client.HTTPConnection(proxy.host, proxy.port, timeout=timeout_s)
    context = ssl.create_default_context()
    made = http.client.HTTPSConnection(host, port, timeout=timeout_s, context=context)
    made.sock = context.wrap_socket(tunnelled(proxy, host, port, timeout_s=timeout_s), server_hostname=host)
    return made


def tunnelled(proxy: Proxy, host: str, port: int, *, timeout_s: float) -> socket.socket:
    """A connection to a host, which the proxy made and through which nothing has gone yet.

    Raises:
        RegistryError: the proxy refuses.
        OSError: it does not answer within `timeout_s` seconds, or with what is no HTTP.
    """
    end = time.monotonic() + timeout_s
    target = authority(host if host.isascii() else host.encode("idna").decode(), port)
    login = f"Proxy-Authorization: {proxy.authorization}\r\n" if proxy.authorization else ""
    stream = socket.create_connection((proxy.host, proxy.port), timeout=timeout_s)
    with ExitStack() as opened:
        opened.callback(stream.close)
        stream.sendall(f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n{login}\r\n".encode("ascii"))
        status = _status(stream, end)
        if status // 100 != 2:
            raise refused(proxy, status, target)
        opened.pop_all()
    return stream


def refused(proxy: Proxy, status: int, target: str) -> RegistryError:
    """The error of a proxy that does not do what it is asked."""
    name = f"the proxy {proxy.address} ({proxy.variable})"
    if status in {401, 407}:  # the first is tinyproxy's for a wrong login
        fact = "does not take the login that it is given" if proxy.authorization else "wants a login"
        hint = f"put it into {proxy.variable}, as http://USER:PASSWORD@{proxy.address}, each part percent-encoded"
        return RegistryError(f"{name} {fact}: {status} for {target}", hint=hint)
    return RegistryError(
        f"{name} makes no connection to {target}: {status}",
        hint="is the name right, and does the proxy allow it? What is reached without it belongs into NO_PROXY",
        transient=status in PASSING,
    )


def _status(stream: socket.socket, end: float) -> int:
    """The status of an answer, read to the end of its head and not a byte further: what follows is the registry's."""
    head = bytearray()
    while not head.endswith(b"\r\n\r\n"):
        byte = stream.recv(1)
        if not byte or len(head) == MAX_HEAD:
            raise ConnectionError("the proxy's answer has no end" if byte else "the proxy broke off")
        if time.monotonic() > end:
            raise TimeoutError("timed out")
        head += byte
    found = _STATUS.match(head)
    if not found:
        raise ConnectionError(f"the proxy does not speak HTTP/1: {bytes(head[:40])!r}")
    return int(found[1])
