"""Cache mounts of builds, by the name that they were put under.

In: an engine, a name. Out: nothing. Touches: BuildKit's cache mounts of that name.

Source: Docker Engine API, `GET /system/df` and `POST /build/prune`. BuildKit describes a cache mount as
`cached mount TARGET from exec COMMAND with id "NAMESPACE/ID"` (moby/buildkit `solver/llbsolver/mounts/mount.go`).
"""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from buildorch.engine.api import message_of
from buildorch.errors import EngineError
from buildorch.oci import load_json

if TYPE_CHECKING:
    from buildorch.engine.api import Engine

TRIES = 5
PAUSE_S = 1.0
SIZING_S = 120.0
"""How long the engine may take to list its cache, in seconds: it sizes up thousands of entries."""


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
    status, body = engine.call("GET", "/system/df?type=build-cache", timeout_s=SIZING_S)
    if status != 200:
        raise EngineError(f"the Docker engine does not list its build cache: {message_of(body)}")
    return [
        str(one.get("ID", ""))
        for one in load_json(body, "answer to /system/df").get("BuildCache") or ()
        if isinstance(one, dict)
        and one.get("Type") == "exec.cachemount"
        and f' with id "{namespaces}' in str(one.get("Description", ""))
    ]


def _removed(engine: Engine, identity: str) -> bool:
    """Remove one cache mount; whether it went: BuildKit passes over what something holds, and says nothing."""
    # An ID alone: another filter, or none, would take what other builds left.
    query = urlencode({"all": "1", "filters": json.dumps({"id": {identity: True}})})
    status, body = engine.call("POST", f"/build/prune?{query}", timeout_s=SIZING_S)
    if status != 200:
        raise EngineError(f"the Docker engine does not remove a cache mount: {message_of(body)}")
    return identity in (load_json(body, "answer to /build/prune").get("CachesDeleted") or ())
