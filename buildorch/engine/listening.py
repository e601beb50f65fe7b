"""Whether a port of a container takes connections, asked from this machine.

In: the container's addresses and where its port is published. Out: yes, no, or that no way leads there from here.
Touches: connections to the container, which are closed at once.

The published port alone does not tell: docker-proxy, rootlesskit and Docker Desktop take a connection before they know
whether anything listens in the container, and close it when nothing does (moby `cmd/docker-proxy/tcp_proxy_linux.go`).
So the container's own address is asked first. It is the right container only where its bridge is this machine's, which
a connection that comes from the bridge's own address proves.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

CONNECT_S = 1.0
"""How long a connection may take."""
OPEN_S = 1.0
"""How long a connection to a published port must stay open: the way from a proxy to its container takes far less."""


def listens(port: int, *, networks: Iterable[tuple[str, str]], published: Iterable[tuple[str, int]]) -> bool | None:
    """Whether the container's TCP port takes connections; None where no way leads there from here.

    Args:
        port: the port in the container.
        networks: the container's address and its bridge's own, in each of its networks.
        published: host and port on this machine that lead to `port`.
    """
    for address, gateway in networks:
        try:
            socket.create_connection((address, port), CONNECT_S, source_address=(gateway, 0)).close()
        except ConnectionRefusedError:
            return False
        except OSError:  # the bridge is another machine's, or a firewall stands between
            continue
        return True
    answers = [_stays_open(host, number) for host, number in published]
    return None if all(answer is None for answer in answers) else any(answers)


def _stays_open(host: str, port: int) -> bool | None:
    """Whether a connection is kept, or something comes over it; None where nothing is published here."""
    try:
        connection = socket.create_connection((host, port), CONNECT_S)
    except ConnectionResetError:  # taken, and closed before this looked
        return False
    except OSError:
        return None
    with connection:
        connection.settimeout(OPEN_S)
        try:
            return connection.recv(1) != b""
        except TimeoutError:
            return True
        except OSError:  # reset
            return False
