"""What the rules look at.

In: nothing. Out: `Subject`. Touches nothing.
"""

from __future__ import annotations

from dataclasses import field
from typing import TYPE_CHECKING

from buildorch.engine.trial import Trial
from buildorch.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import date

    from buildorch.contents import LayerContents
    from buildorch.dockerfile import Dockerfile
    from buildorch.oci import ImageConfig
    from buildorch.record import PlatformRecord
    from buildorch.services import Service

__all__ = ["FoundSecret", "Image", "Subject", "Trial"]


@dataclass(frozen=True, slots=True)
class Image:
    """One platform's image."""

    facts: PlatformRecord
    config: ImageConfig
    layers: tuple[LayerContents, ...] | None = None
    """One a layer of `facts`, lowest first; None where no rule that is on asks for them."""


@dataclass(frozen=True, slots=True)
class FoundSecret:
    """A build secret's value where it must not be. The value itself is nowhere here."""

    secret: str
    """Its id."""
    platform: str
    where: str
    """`the layer of COPY . .`, `the config`, `the history`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """One built image and what was said of it."""

    spec: Service
    images: Mapping[str, Image]
    """Platform -> its image."""
    dockerfile: Dockerfile | None
    """None where the Dockerfile is not a local file or cannot be parsed."""
    today: date
    pinned: frozenset[str] = frozenset()
    """Base images, as the Dockerfile names them, that the build was held to a digest of."""
    warnings: tuple[str, ...] = ()
    """BuildKit's own build checks."""
    arguments: Mapping[str, str] = field(default_factory=dict)
    """Build arguments with their values, from the services file or the environment."""
    secrets: tuple[FoundSecret, ...] = ()
    trials: Mapping[str, Trial] = field(default_factory=dict)
    """Platform -> how its trial start went; empty where none was asked for."""
    mounts_elsewhere: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Cache mount id -> other service of the plan -> the sharing it uses there."""
