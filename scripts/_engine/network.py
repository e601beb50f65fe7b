"""An engine's network: a bridge on addresses of its own, and the rules that let what is on it out."""

from __future__ import annotations

import contextlib
import ipaddress
import json
import re
import shlex
import subprocess
from pathlib import Path

from .packages import output, which
from .places import RUNTIME, Engine, EngineError

INTERFACES = Path("/sys/class/net")
ETHERNET_MTU = 1500


def exists(engine: Engine) -> bool:
    """Whether the engine's bridge is there."""
    return (INTERFACES / engine.bridge).exists()


def free_network() -> str:
    """A /16 that no route, address, name server or other engine of this machine is in."""
    used = _used()
    for second in range(231, 100, -1):
        candidate = ipaddress.ip_network(f"10.{second}.0.0/16")
        if not any(candidate.overlaps(other) for other in used):
            return str(candidate)
    raise EngineError("no free network of the form 10.x.0.0/16 for the engine's bridge")


def _used() -> list[ipaddress.IPv4Network]:
    text = output(which("ip"), "-4", "route", "show", "table", "all") + output(which("ip"), "-4", "addr")
    for path in (Path("/etc/resolv.conf"), *RUNTIME.glob("*/state.json")):
        with contextlib.suppress(OSError):
            text += path.read_text(encoding="utf-8")
    found = re.findall(r"(?<![\d.])(?:\d{1,3}\.){3}\d{1,3}(?:/\d{1,2})?(?![\d.])", text)
    networks = (ipaddress.IPv4Network(one, strict=False) for one in found)
    return [network for network in networks if network.prefixlen > 0]


def uplink_mtu() -> int:
    """The MTU of the interface the default route goes through; containers must not send larger packets."""
    match = re.search(r"\bdev (\S+)", output(which("ip"), "-4", "route", "show", "default"))
    if not match:
        return ETHERNET_MTU
    with contextlib.suppress(OSError, ValueError):
        return min(ETHERNET_MTU, int((INTERFACES / match.group(1) / "mtu").read_text(encoding="ascii")))
    return ETHERNET_MTU


def make(engine: Engine, network: str) -> None:
    """Make the bridge with its address, and the rules; what is there of them already is replaced."""
    _remove_rules(engine)
    if not exists(engine):
        _run(which("ip"), "link", "add", engine.bridge, "type", "bridge")
    first = ipaddress.ip_network(network).network_address + 1
    _run(which("ip"), "addr", "replace", f"{first}/24", "dev", engine.bridge)
    _run(which("ip"), "link", "set", engine.bridge, "up")
    mark = ["-m", "comment", "--comment", engine.rule_comment]
    for table, rule in (
        ("nat", ["POSTROUTING", "-s", network, "!", "-d", network, *mark, "-j", "MASQUERADE"]),
        ("filter", ["FORWARD", "-s", network, *mark, "-j", "ACCEPT"]),
        ("filter", ["FORWARD", "-d", network, *mark, "-j", "ACCEPT"]),
    ):
        _run(which("iptables"), "--wait", "-t", table, "-I", *rule)


def remove(engine: Engine) -> None:
    """Remove the rules, the bridge, and the bridges of the networks that people made in the engine."""
    _remove_rules(engine)
    network = engine.state().get("network")
    mine = {engine.bridge} if exists(engine) else set()
    if network:
        mine |= _bridges_in(ipaddress.IPv4Network(network))
    for bridge in mine:
        _run(which("ip"), "link", "delete", bridge)


def _remove_rules(engine: Engine) -> None:
    """Delete every rule that carries this engine's name."""
    for table in ("nat", "filter"):
        for line in output(which("iptables"), "--wait", "-t", table, "-S").splitlines():
            words = shlex.split(line)
            if words[0] == "-A" and engine.rule_comment in words:
                _run(which("iptables"), "--wait", "-t", table, "-D", *words[1:])


def _bridges_in(network: ipaddress.IPv4Network) -> set[str]:
    """The bridges dockerd made for people's networks: they have an address in the engine's."""
    links = json.loads(output(which("ip"), "-json", "-4", "addr", "show", "type", "bridge") or "[]")
    return {
        link["ifname"]
        for link in links
        if link.get("ifname", "").startswith("br-")  # a link without an IPv4 address is an empty object
        and any(ipaddress.IPv4Address(address["local"]) in network for address in link["addr_info"])
    }


def _run(*command: str) -> None:
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode:
        raise EngineError(f"`{' '.join(command)}` failed: {done.stdout.strip()}")
