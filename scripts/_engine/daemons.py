"""An engine's two daemons, dockerd and docker-registry: whether they answer, and starting them."""

from __future__ import annotations

import contextlib
import ipaddress
import json
import os
import re
import socket
import subprocess
import time
from typing import TYPE_CHECKING, Any

from . import processes
from .places import Engine, EngineError

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT_PATH = "/usr/local/sbin:/usr/sbin:/sbin"
FIRST_REGISTRY_PORT = 5000
ANSWER_TIMEOUT_S = 5.0
"""For one request. Ten thousand times what it takes, because a daemon that builds may be slow to answer."""
START_TIMEOUT_S = 60.0


def answer(engine: Engine) -> bool:
    """Whether both daemons answer."""
    return bool(dockerd_version(engine) and registry_version(engine))


def dockerd_version(engine: Engine) -> str:
    """The version dockerd gives on its socket; empty when it does not answer."""
    head = _http_head(socket.AF_UNIX, str(engine.socket), "/_ping")  # 30 times faster than /version
    match = re.search(r"^Server: Docker/(\S+)", head, re.MULTILINE)
    return match.group(1) if match else ""


def registry_version(engine: Engine) -> str:
    """The version of the API that the engine's registry speaks; empty when it, and not another one, does not answer."""
    port = engine.state().get("registry_port")
    if not port or not processes.pid_of(engine, engine.registry_pidfile):
        return ""
    head = _http_head(socket.AF_INET, ("127.0.0.1", port), "/v2/")
    match = re.search(r"^Docker-Distribution-Api-Version: registry/(\S+)", head, re.MULTILINE)
    return match.group(1) if match else ""


def _http_head(family: socket.AddressFamily, address: str | tuple[str, int], path: str) -> str:
    """The head of a 200 answer, or "". By hand: to import http.client takes longer than the rest of a second `up`."""
    try:
        with socket.socket(family, socket.SOCK_STREAM) as connection:
            connection.settimeout(ANSWER_TIMEOUT_S)
            connection.connect(address)
            connection.sendall(f"GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n".encode())
            received = b"".join(iter(lambda: connection.recv(65536), b""))
    except OSError:
        return ""
    head = received.partition(b"\r\n\r\n")[0].decode("latin-1")
    return head if head.split(" ")[1:2] == ["200"] else ""


def free_port(first: int) -> int:
    """`first`, or the next port on the loopback address that nothing listens on."""
    for port in range(first, first + 200):
        with socket.socket() as candidate, contextlib.suppress(OSError):
            candidate.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            candidate.bind(("127.0.0.1", port))
            return port
    raise EngineError(f"no free port from {first} on for the registry")


def start_registry(engine: Engine, port: int) -> None:
    """Start the registry on the loopback address and wait until it answers."""
    config = {
        "version": 0.1,
        "log": {"level": "warn"},
        "storage": {"filesystem": {"rootdirectory": str(engine.registry_storage)}, "delete": {"enabled": True}},
        "http": {"addr": f"127.0.0.1:{port}", "secret": os.urandom(16).hex()},
    }
    engine.registry_yml.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")  # JSON is YAML
    process = _start(engine, "registry", "docker-registry", "serve", str(engine.registry_yml))
    engine.registry_pidfile.write_text(f"{process.pid}\n", encoding="utf-8")
    _wait_for(engine, "registry", process, ready=lambda: registry_version(engine))


def start_dockerd(engine: Engine, state: dict[str, Any], *, mtu: int) -> None:
    """Start dockerd on its own socket only, and wait until it answers. Its network must be there already."""
    config = dockerd_config(engine, state, mtu=mtu)
    engine.daemon_json.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    process = _start(engine, "dockerd", "dockerd", "--config-file", str(engine.daemon_json))
    _wait_for(engine, "dockerd", process, ready=lambda: dockerd_version(engine))


def dockerd_config(engine: Engine, state: dict[str, Any], *, mtu: int) -> dict[str, Any]:
    """What goes into dockerd's daemon.json."""
    _, for_networks = ipaddress.ip_network(state["network"]).subnets()  # the bridge's addresses are in the first half
    return {
        "hosts": [f"unix://{engine.socket}"],
        "data-root": str(engine.data_root),
        "exec-root": str(engine.exec_root),
        "pidfile": str(engine.pidfile),
        "features": {"containerd-snapshotter": state["store"] == "containerd"},
        "registry-mirrors": [f"http://127.0.0.1:{state['registry_port']}"],
        "bridge": engine.bridge,
        "default-address-pools": [{"base": str(for_networks), "size": 24}],
        "mtu": mtu,
        # One lost datagram must not fail a step: the two questions for an address leave from two ports (behind NAT one
        # of two on one port can get lost: resolv.conf(5), single-request-reopen), and each is asked again.
        "dns-opts": ["single-request-reopen", "timeout:3", "attempts:4"],
        "default-network-opts": {"bridge": {"com.docker.network.driver.mtu": str(mtu)}},
        # A dockerd that has these on deletes the chains of every other dockerd on the machine when it starts.
        "iptables": False,
        "ip6tables": False,
        # cgroupfs, so that the group can be named where systemd runs too; by it `down` finds what a container runs.
        "exec-opts": ["native.cgroupdriver=cgroupfs"],
        "cgroup-parent": f"/{engine.cgroup}",
        "shutdown-timeout": 5,
    }


def _start(engine: Engine, log: str, *command: str) -> subprocess.Popen[bytes]:
    """Start a daemon in a session of its own, its output in a log beside the socket."""
    environment = dict(os.environ, PATH=f"{os.environ.get('PATH', '')}:{ROOT_PATH}")
    with (engine.run / f"{log}.log").open("ab") as out:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            cwd="/",
            env=environment,
            start_new_session=True,
        )


def _wait_for(engine: Engine, log: str, process: subprocess.Popen[bytes], *, ready: Callable[[], str]) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while not ready():
        if process.poll() is not None or time.monotonic() > deadline:
            fate = "does not answer" if process.returncode is None else f"ended with {process.returncode}"
            path = engine.run / f"{log}.log"
            tail = "\n  ".join(path.read_text(encoding="utf-8", errors="replace").splitlines()[-8:])
            raise EngineError(f"{log} {fate}; the end of {path}:\n  {tail}")
        time.sleep(0.05)
