"""The builders that buildx knows, and what their caches hold: `ls`, `du` and `prune`.

In: the plugin. Out: `Builder`s, `Cached` records. Touches: a buildx process for each question, ended after a time; a
builder's cache in `prune`.

python-on-whales does not serve here: its `buildx.list` has no limit of time, its `buildx.disk_usage` raises, and its
`buildx.prune` does not know --reserved-space (0.81).

Sources: docker/buildx `commands/ls.go`, `commands/diskusage.go` and `commands/prune.go`. `du --format json` is there
from 0.28 on, and its sizes and times are the same texts as those of --verbose, which every version has.
"""

from __future__ import annotations

import json
import re
import subprocess
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from buildorch.build_cache import Cached
from buildorch.errors import BuilderNotFound, EngineError
from buildorch.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Iterator

    from buildorch.buildx.client import Buildx

LONG_S = 600.0
"""For a prune, and the list of a large cache."""
RESERVED_SPACE_SINCE = (0, 20)
"""A version that surely has --reserved-space (docker/buildx#2724); --keep-storage is its name before, for the same."""
_LINE = re.compile(r"(?P<key>[A-Z][A-Za-z ]*):(?:[ \t]+(?P<value>.*))?\Z")
_SIZE = re.compile(r"([\d.]+(?:e\+\d+)?)\s*([kMGTPE]?)B\Z")
_POWERS = {"": 0, "k": 1, "M": 2, "G": 3, "T": 4, "P": 5, "E": 6}
_AGO = re.compile(r"(?:about )?(\d+|an?|less than a) (second|minute|hour|day|week|month|year)s?", re.IGNORECASE)
_BEHIND_DESCRIPTION = frozenset({"Usage count", "Last used", "Type"})
_SECONDS = {
    "second": 1, "minute": 60, "hour": 3600, "day": 86400, "week": 604800, "month": 2592000, "year": 31536000
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One BuildKit daemon of a builder."""

    name: str
    endpoint: str
    status: str
    """`running`, `inactive`, `stopped` or another word of the driver's."""
    version: str
    """BuildKit's own, as it says it; empty where it does not answer."""
    platforms: tuple[str, ...]
    """What it builds for, by itself or emulated."""
    error: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Builder:
    """One builder of buildx's."""

    name: str
    driver: str
    """`docker` is the engine's own BuildKit; `docker-container`, `kubernetes`, `remote`, `cloud`."""
    is_current: bool
    nodes: tuple[Node, ...]
    error: str = ""

    @property
    def platforms(self) -> tuple[str, ...]:
        """What any of its nodes builds for, each once."""
        return tuple(dict.fromkeys(platform for node in self.nodes for platform in node.platforms))

    @property
    def is_running(self) -> bool:
        """Whether a node of it runs."""
        return any(node.status == "running" for node in self.nodes)


def builders(buildx: Buildx, *, timeout_s: float) -> tuple[Builder, ...]:
    """Every builder, the one in use first.

    Raises:
        EngineError: buildx does not run, does not end within `timeout_s` seconds, or prints no builders.
    """
    found = []
    for line in _run(buildx, "ls", "--format=json", timeout_s=timeout_s).splitlines():
        try:
            said = json.loads(line)
        except (ValueError, RecursionError):
            said = None
        if not isinstance(said, dict):
            raise EngineError("`docker buildx ls` printed what is not a builder", hint="is buildx 0.17 or later?")
        found.append(_builder(said))
    return tuple(sorted(found, key=lambda one: not one.is_current))


def usage(buildx: Buildx, builder: str, *, now: datetime) -> tuple[Cached, ...]:
    """Every record of a builder's cache; its sizes have four digits, and its times are rounded.

    Raises:
        BuilderNotFound: buildx does not know it.
        EngineError: it does not answer.
    """
    return tuple(_cached(_run(buildx, "du", "--verbose", f"--builder={builder}", timeout_s=LONG_S), now))


def prune(buildx: Buildx, builder: str, *, version: str, keep_bytes: int | None, older_than_s: float | None) -> int:
    """Take records out of a builder's cache, those alone that no build has now; gives the bytes freed, of four digits.

    Args:
        buildx: the plugin.
        builder: its name; `default` for the engine's own.
        version: the plugin's.
        keep_bytes: stop once there are no more; None for no such limit.
        older_than_s: take only what was not used for so many seconds.

    Raises:
        BuilderNotFound: buildx does not know it.
        EngineError: it does not answer.
    """
    limits = [] if keep_bytes is None else [f"--{_keep_flag(version)}={keep_bytes}"]
    if older_than_s is not None:
        limits.append(f"--filter=until={older_than_s:.0f}s")
    printed = _run(buildx, "prune", "--force", f"--builder={builder}", *limits, timeout_s=LONG_S)
    totals = [line.partition(":")[2] for line in printed.splitlines() if line.startswith("Total:")]
    return bytes_of(totals[-1]) if totals else 0


def bytes_of(text: str) -> int:
    """`1.5GB` -> 1500000000, as docker's go-units writes it, in decimal units; 0 for anything else."""
    found = _SIZE.match(text.strip().rstrip("*"))
    return round(float(found[1]) * 1000 ** _POWERS[found[2]]) if found else 0


def version_of(text: str) -> tuple[int, ...]:
    """`v0.29.1+ds1` -> (0, 29, 1); () where there is no number."""
    found = re.match(r"v?(\d+(?:\.\d+)*)", text)
    return tuple(map(int, found[1].split("."))) if found else ()


def _keep_flag(version: str) -> str:
    known = version_of(version)
    return "keep-storage" if known and known < RESERVED_SPACE_SINCE else "reserved-space"


def _run(buildx: Buildx, *arguments: str, timeout_s: float) -> str:
    command = [*buildx.command, *arguments]
    told = f"`docker buildx {arguments[0]}`"
    try:
        done = subprocess.run(
            command, capture_output=True, stdin=subprocess.DEVNULL, timeout=timeout_s, check=False, encoding="utf-8",
            errors="replace",
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise EngineError(
            f"{told} did not end within {timeout_s:.0f} s", hint="is the builder's engine alive?"
        ) from None
    except OSError as error:
        raise EngineError(f"{told} does not run: {error.strerror}", hint="install buildx again") from None
    if done.returncode == 0:
        return done.stdout
    said = done.stderr.strip().removeprefix("ERROR: ") or f"it exited with {done.returncode}"
    missing = re.search(r'no builder "([^"]*)" found', said)
    if missing and arguments[0] != "ls":  # `ls` says so of a docker context that is not there
        raise BuilderNotFound(missing[1], known=[one.name for one in builders(buildx, timeout_s=LONG_S)])
    raise EngineError(f"{told}: {said.splitlines()[-1]}", hint="`docker buildx ls` says which builders run")


def _builder(said: dict[str, Any]) -> Builder:
    nodes = said.get("Nodes")
    return Builder(
        name=str(said.get("Name") or ""),
        driver=str(said.get("Driver") or ""),
        is_current=said.get("Current") is True,
        nodes=tuple(_node(one) for one in nodes if isinstance(one, dict)) if isinstance(nodes, list) else (),
        error=_error(said),
    )


def _node(said: dict[str, Any]) -> Node:
    platforms = said.get("Platforms")
    return Node(
        name=str(said.get("Name") or ""),
        endpoint=str(said.get("Endpoint") or ""),
        status=str(said.get("Status") or "unknown"),
        version=str(said.get("Version") or ""),
        platforms=tuple(map(str, platforms)) if isinstance(platforms, list) else (),
        error=_error(said),
    )


def _error(said: dict[str, Any]) -> str:
    return str(said.get("Err") or said.get("Error") or "")


def _cached(text: str, now: datetime) -> Iterator[Cached]:
    """The records of `du --verbose`: a line a field, an empty line behind each; sums come last, and have no ID."""
    said: dict[str, str] = {}
    key = ""
    for line in [*text.splitlines(), ""]:
        found = _LINE.match(line)
        if key == "Description" and not (found and found["key"] in _BEHIND_DESCRIPTION):
            said[key] += f"\n{line}"  # it may have lines of its own, also empty ones
        elif found:
            key = found["key"]
            said[key] = (found["value"] or "").strip()
        elif line and key == "Parents":
            said[key] += f"{line.removeprefix(' - ')},"
        elif not line:
            if "ID" in said:
                yield _record(said, now)
            said, key = {}, ""


def _record(said: dict[str, str], now: datetime) -> Cached:
    uses = said.get("Usage count", "")
    return Cached(
        id=said["ID"],
        type=said.get("Type", ""),
        size=bytes_of(said.get("Size", "")),
        in_use=said.get("Reclaimable") == "false",
        shared=said.get("Shared") == "true",
        last_used=_ago(said.get("Last used", ""), now),
        parents=tuple(filter(None, said.get("Parents", said.get("Parent", "")).split(","))),  # Parent before 0.28
        uses=int(uses) if uses.isdecimal() else 0,
        description=said.get("Description", "").strip(),
    )


def _ago(text: str, now: datetime) -> datetime | None:
    found = _AGO.match(text)
    if not found:
        return None
    count = int(found[1]) if found[1].isdecimal() else 1
    return now - timedelta(seconds=count * _SECONDS[found[2].lower()])
