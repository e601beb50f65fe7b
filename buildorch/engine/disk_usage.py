"""What the engine's own build cache holds, to the byte.

In: an engine. Out: `Cached` records. Touches: the engine's socket.

Source: `GET /system/df?type=build-cache`, API v1.44, which engines from 25 on speak; later versions of the API write
the same elsewhere. buildx prints four digits of the same.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from buildorch.build_cache import Cached
from buildorch.engine.api import message_of
from buildorch.errors import EngineError, MalformedDocument
from buildorch.oci import load_json

if TYPE_CHECKING:
    from buildorch.engine.api import Engine

PATH = "/v1.44/system/df?type=build-cache"


def read_build_cache(engine: Engine, *, timeout_s: float) -> tuple[Cached, ...]:
    """Every record of the engine's build cache.

    Raises:
        EngineUnreachable: it does not answer within `timeout_s` seconds.
        EngineError: it answers with an error.
        MalformedDocument: its answer is not a list of records.
    """
    status, body = engine.call("GET", PATH, timeout_s=timeout_s)
    if status != 200:
        raise EngineError(f"the engine does not say what its build cache holds: {message_of(body)}")
    said = load_json(body, f"answer to {PATH}").get("BuildCache")
    if not isinstance(said, list | None) or not all(isinstance(one, dict) for one in said or ()):
        raise MalformedDocument(f"answer to {PATH}", "BuildCache is not a list of objects")
    return tuple(map(_cached, said or ()))


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
