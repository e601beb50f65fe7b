"""What the rules look at.

In: nothing. Out: `Subject`. Touches nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from buildorch.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Mapping

    from buildorch.dockerfile import Dockerfile
    from buildorch.record import PlatformRecord
    from buildorch.services import Service


@dataclass(frozen=True, slots=True)
class Subject:
    """One built image and what was said of it."""

    spec: Service
    platforms: Mapping[str, PlatformRecord]
    dockerfile: Dockerfile | None
    """None where the Dockerfile is not a local file or cannot be parsed."""
