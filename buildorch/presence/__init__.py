"""Whether recorded images are still at their destination: for hundreds at once, at the cost of a few.

In: records, and an engine or registries. Out: a `Presence` for each image's name. Touches: the engine's socket, its
containerd's, the network.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from buildorch.lazy import names_of

if TYPE_CHECKING:
    from buildorch.presence.engines import in_engine
    from buildorch.presence.registries import in_registries
    from buildorch.presence.wanted import Held, Part, Presence, Wanted, judge

__all__ = ["Held", "Part", "Presence", "Wanted", "in_engine", "in_registries", "judge"]

_HOMES = {
    "Held": "wanted",
    "Part": "wanted",
    "Presence": "wanted",
    "Wanted": "wanted",
    "in_engine": "engines",
    "in_registries": "registries",
    "judge": "wanted",
}


if not TYPE_CHECKING:  # a type checker would take every name for one that is there
    __getattr__ = names_of(__name__, _HOMES)
