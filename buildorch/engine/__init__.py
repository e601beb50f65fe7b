"""The Docker engine over its socket: what it is, which images it holds, their bytes, and whether they start.

In: an endpoint and references. Out: facts and bytes. Touches: the engine's socket, and in `buildorch.engine.containers`
the container of a trial start.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from buildorch.lazy import names_of

if TYPE_CHECKING:
    from buildorch.engine.api import Engine, EngineInfo, InspectedImage
    from buildorch.engine.build_cache import read_build_cache
    from buildorch.engine.containerd import Containerd, Stored, containerd_of, data_root_here, full_name, stored
    from buildorch.engine.containers import try_start
    from buildorch.engine.content import read_blob
    from buildorch.engine.saved import SavedImage, read_saved, read_saved_layers
    from buildorch.engine.trial import Trial

__all__ = [
    "Containerd",
    "Engine",
    "EngineInfo",
    "InspectedImage",
    "SavedImage",
    "Stored",
    "Trial",
    "containerd_of",
    "data_root_here",
    "full_name",
    "read_blob",
    "read_build_cache",
    "read_saved",
    "read_saved_layers",
    "stored",
    "try_start",
]

_HOMES = {
    "Containerd": "containerd",
    "Engine": "api",
    "EngineInfo": "api",
    "InspectedImage": "api",
    "SavedImage": "saved",
    "Stored": "containerd",
    "Trial": "trial",
    "containerd_of": "containerd",
    "data_root_here": "containerd",
    "full_name": "containerd",
    "read_blob": "content",
    "read_build_cache": "build_cache",
    "read_saved": "saved",
    "read_saved_layers": "saved",
    "stored": "containerd",
    "try_start": "containers",
}


if not TYPE_CHECKING:  # a type checker would take every name for one that is there
    __getattr__ = names_of(__name__, _HOMES)
