"""Whether this machine is fit to build: `examine(...) -> Examination`.

In: a services file's path. Out: checks, each with what to do. Touches: the engine, buildx, registries, docker's
configuration and the disk, for reading.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from buildorch.lazy import names_of

if TYPE_CHECKING:
    from buildorch.doctor.check import Check, Examination
    from buildorch.doctor.examining import examine

__all__ = ["Check", "Examination", "examine"]

_HOMES = {"Check": "check", "Examination": "check", "examine": "examining"}


if not TYPE_CHECKING:  # a type checker would take every name for one that is there
    __getattr__ = names_of(__name__, _HOMES)
