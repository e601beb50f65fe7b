"""What the layers of an image hold: their files, users and packages.

In: the bytes of layers' uncompressed tars. Out: `LayerContents`, one a layer, remembered by the layer's diff_id.
Touches: one folder of remembered layers, in `buildorch.contents.memory` alone.

Sources: OCI image specification, `layer.md` (change sets, whiteouts, opaque whiteouts).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from buildorch.lazy import names_of

if TYPE_CHECKING:
    from buildorch.contents.layer import Entry, LayerContents, Package
    from buildorch.contents.memory import LayerMemory
    from buildorch.contents.tar import read

__all__ = ["Entry", "LayerContents", "LayerMemory", "Package", "read"]

_HOMES = {
    "Entry": "layer",
    "LayerContents": "layer",
    "LayerMemory": "memory",
    "Package": "layer",
    "read": "tar",
}


if not TYPE_CHECKING:  # a type checker would take every name for one that is there
    __getattr__ = names_of(__name__, _HOMES)
