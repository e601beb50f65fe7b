"""Base images: which digest each one has today, which one the lock file keeps, and how a build is held to it.

In: references as Dockerfiles write them. Out: digests, the lock file's text, named contexts for a build. Touches:
registries (`resolve.py`, `triggers.py`), Dockerfiles (`named.py`) and the lock file (`lockfile.py`); the rest is pure.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from buildorch.lazy import names_of

if TYPE_CHECKING:
    from buildorch.bases.base import Base, Unresolved
    from buildorch.bases.lifetimes import end_of_life
    from buildorch.bases.lockfile import FILE_NAME, Entry, Lock
    from buildorch.bases.names import canonical
    from buildorch.bases.pinning import pinned, pins
    from buildorch.bases.renewal import Renewal, renew
    from buildorch.bases.resolve import resolve_bases

__all__ = [
    "FILE_NAME",
    "Base",
    "Entry",
    "Lock",
    "Renewal",
    "Unresolved",
    "canonical",
    "end_of_life",
    "pinned",
    "pins",
    "renew",
    "resolve_bases",
]

_HOMES = {
    "Base": "base",
    "Entry": "lockfile",
    "FILE_NAME": "lockfile",
    "Lock": "lockfile",
    "Renewal": "renewal",
    "Unresolved": "base",
    "canonical": "names",
    "end_of_life": "lifetimes",
    "pinned": "pinning",
    "pins": "pinning",
    "renew": "renewal",
    "resolve_bases": "resolve",
}


if not TYPE_CHECKING:  # a type checker would take every name for one that is there
    __getattr__ = names_of(__name__, _HOMES)
