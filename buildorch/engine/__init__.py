"""The Docker engine over its socket: what it is, which images it holds, and their bytes.

In: an endpoint and references. Out: facts and bytes. Touches: the engine's socket, and nothing else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from buildorch.lazy import names_of

if TYPE_CHECKING:
    from buildorch.engine.api import Engine, EngineInfo, InspectedImage
    from buildorch.engine.containerd import Containerd, Stored, containerd_of, full_name, stored
    from buildorch.engine.content import read_blob
    from buildorch.engine.saved import SavedImage, read_saved

__all__ = [
    "Containerd",
    "Engine",
    "EngineInfo",
    "InspectedImage",
    "SavedImage",
    "Stored",
    "containerd_of",
    "full_name",
    "read_blob",
    "read_saved",
    "stored",
]

_HOMES = {
    "Containerd": "containerd",
    "Engine": "api",
    "EngineInfo": "api",
    "InspectedImage": "api",
    "SavedImage": "saved",
    "Stored": "containerd",
    "containerd_of": "containerd",
    "full_name": "containerd",
    "read_blob": "content",
    "read_saved": "saved",
    "stored": "containerd",
}


if not TYPE_CHECKING:  # a type checker would take every name for one that is there
    __getattr__ = names_of(__name__, _HOMES)
