"""Cache mounts of builds, by the name that they were put under.

In: an engine, a name. Out: nothing. Touches: BuildKit's cache mounts of that name.

Source: Docker Engine API, `GET /system/df` and `POST /build/prune`. BuildKit describes a cache mount as
`cached mount TARGET from exec COMMAND with id "NAMESPACE/ID"` (moby/buildkit `solver/llbsolver/mounts/mount.go`).
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from buildorch.engine.api import message_of
from buildorch.errors import EngineError
from buildorch.oci import load_json

if TYPE_CHECKING:
    from buildorch.engine.api import Engine

SIZING_S = 120.0
"""How long the engine may take to list its cache, in seconds: it sizes up thousands of entries."""


def remove_cache_mounts(engine: Engine, namespaces: str) -> int:
    """Remove the cache mounts whose `BUILDKIT_CACHE_MOUNT_NS` began so; how many there were.

    Raises:
        EngineUnreachable: the engine does not answer.
        EngineError: it refuses.
    """
    status, body = engine.call("GET", "/system/df?type=build-cache", timeout_s=SIZING_S)
    if status != 200:
        raise EngineError(f"the Docker engine does not list its build cache: {message_of(body)}")
    records = load_json(body, "answer to /system/df").get("BuildCache") or ()
    found = [
        str(one.get("ID", ""))
        for one in records
        if isinstance(one, dict)
        and one.get("Type") == "exec.cachemount"
        and f' with id "{namespaces}' in str(one.get("Description", ""))
    ]
    for identity in found:
        # An ID alone: another filter, or none, would take what other builds left.
        query = urlencode({"all": "1", "filters": json.dumps({"id": {identity: True}})})
        status, body = engine.call("POST", f"/build/prune?{query}")
        if status != 200:
            raise EngineError(f"the Docker engine does not remove a cache mount: {message_of(body)}")
    return len(found)
