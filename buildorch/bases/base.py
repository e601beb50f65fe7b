"""What is known of one base image: its digest, or why there is none.

In: nothing. Out: frozen values. Touches nothing.
"""

from __future__ import annotations

from typing import Literal

from buildorch.values import dataclass

LOCK_FILE = "buildorch.lock"


@dataclass(frozen=True, slots=True)
class Base:
    """A base image and the digest a build should use."""

    reference: str
    """Canonical (`names.canonical`): what BuildKit compares."""
    digest: str
    origin: Literal["reference", "lock", "registry"]
    """Who says so: the reference itself, the lock file, or a registry that was asked."""
    registry: str = ""
    """The host that gave the digest, now or when it was locked; empty where the reference names it."""


@dataclass(frozen=True, slots=True)
class Unresolved:
    """A base image without a digest; a build takes it by its tag, and cannot say beforehand what it will be."""

    reference: str
    """Canonical, or as written where it is no reference."""
    reason: str
