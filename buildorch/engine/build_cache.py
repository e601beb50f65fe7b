"""The engine's own build cache: what it holds, to the byte, and its cache mounts taken out by name.

In: an engine, a name. Out: `Cached` records. Touches: the engine's socket; in `remove_cache_mounts` the cache mounts of
that name.

Source: Docker Engine API, `GET /system/df?type=build-cache` of version 1.44, which engines from 25 on speak (later
versions of the API write the same elsewhere; buildx prints four digits of it), and `POST /build/prune`.
"""

from __future__ import annotations

import json
import time
from datetime import datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from buildorch.build_cache import MOUNTS, Cached
from buildorch.engine.api import message_of
from buildorch.errors import EngineError, MalformedDocument
from buildorch.oci import load_json

if TYPE_CHECKING:
    from buildorch.engine.api import Engine

PATH = "/v1.44/system/df?type=build-cache"
TRIES = 5
PAUSE_S = 1.0
SIZING_S = 120.0
"""How long the engine may take to list its cache, in seconds: it sizes up thousands of entries."""


def read_build_cache(engine: Engine, *, timeout_s: float) -> tuple[Cached, ...]:
    """Every record of the engine's build cache.

    Raises:
        EngineUnreachable: it does not answer within `timeout_s` seconds.
        EngineError: it answers with an error.
        MalformedDocument: its answer is not a list of records.
    """
    status, body = engine.call("GET", PATH, timeout_s=timeout_s)
    if status != 200:
        raise EngineError(f"the Docker engine does not list its build cache: {message_of(body)}")
    said = load_json(body, f"answer to {PATH}").get("BuildCache")
    if not isinstance(said, list | None) or not all(isinstance(one, dict) for one in said or ()):
        raise MalformedDocument(f"answer to {PATH}", "BuildCache is not a list of objects")
    return tuple(map(_cached, said or ()))


def remove_cache_mounts(engine: Engine, namespaces: str) -> None:
    """Remove the cache mounts whose `BUILDKIT_CACHE_MOUNT_NS` began so.

    Raises:
        EngineUnreachable: the engine does not answer.
        EngineError: it refuses, or keeps some however often it is told.
    """
    tries = 1
    while left := [identity for identity in _mounts(engine, namespaces) if not _removed(engine, identity)]:
        if tries == TRIES:
            raise EngineError(f"the Docker engine keeps {len(left)} of them", hint="try `docker builder prune`")
        tries += 1
        time.sleep(PAUSE_S)


def _mounts(engine: Engine, namespaces: str) -> list[str]:
    """The IDs of the cache mounts."""
    records = read_build_cache(engine, timeout_s=SIZING_S)
    return [one.id for one in records if one.kind == MOUNTS and one.mount.startswith(namespaces)]


def _removed(engine: Engine, identity: str) -> bool:
    """Remove one cache mount; whether it went: BuildKit passes over what something holds, and says nothing."""
    # An ID alone: another filter, or none, would take what other builds left.
    query = urlencode({"all": "1", "filters": json.dumps({"id": {identity: True}})})
    status, body = engine.call("POST", f"/build/prune?{query}", timeout_s=SIZING_S)
    if status != 200:
        raise EngineError(f"the Docker engine does not remove a cache mount: {message_of(body)}")
    return identity in (load_json(body, "answer to /build/prune").get("CachesDeleted") or ())


def _cached(said: dict[str, Any]) -> Cached:
    size, uses = said.get("Size"), said.get("UsageCount")
    # The engine's own name for it begins with a blank (moby/moby `api/types/build/cache.go`).
    parents = said.get(" Parents") or said.get("Parents")
    return Cached(
        id=str(said.get("ID") or ""),
        type=str(said.get("Type") or ""),
        size=size if isinstance(size, int) else 0,
        in_use=said.get("InUse") is True,
        shared=said.get("Shared") is True,
        last_used=_time(said.get("LastUsedAt")),
        uses=uses if isinstance(uses, int) else 0,
        parents=tuple(map(str, parents)) if isinstance(parents, list) else (),
        description=str(said.get("Description") or ""),
    )


def _time(said: object) -> datetime | None:
    """Nanoseconds are cut: Python has microseconds."""
    if not isinstance(said, str):
        return None
    try:
        found = datetime.fromisoformat(said)
    except ValueError:
        return None
    return found if found.tzinfo else None
