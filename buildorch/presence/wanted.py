"""Whether what a store holds is the image that was recorded: the decision, apart from the asking.

In: a record, and what a store says it holds. Out: `Presence`. Touches nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from buildorch.values import dataclass

if TYPE_CHECKING:
    from buildorch.record import ServiceRecord

_SHORT = len("sha256:") + 12


@dataclass(frozen=True, slots=True)
class Part:
    """One platform of an image."""

    platform: str
    manifest: str | None
    """Its manifest's digest; None where the image was recorded from a graphdriver store, which keeps none."""
    config: str
    layers: tuple[str, ...] = ()
    """Its layers' digests. After `docker image rm --platform` BuildKit names a cached layer in a new manifest, though
    its blob is no more: config and manifest are there, and the image is not."""

    @property
    def digests(self) -> frozenset[str]:
        """What must be there for this platform to be; a graphdriver store has no layers apart from their image."""
        return frozenset({self.config} if self.manifest is None else {self.manifest, self.config, *self.layers})


@dataclass(frozen=True, slots=True)
class Wanted:
    """An image that should be at its destination: a name, what it should name, and what that is made of."""

    reference: str
    """`name:tag`."""
    digest: str
    """Of the index, or of the only manifest; of the config on a graphdriver store."""
    parts: tuple[Part, ...]

    @property
    def contents(self) -> frozenset[str]:
        """The digests of everything the image needs."""
        return frozenset({self.digest}).union(*(part.digests for part in self.parts))


@dataclass(frozen=True, slots=True)
class Held:
    """What a store says of one wanted image."""

    place: str
    """The store, for people: `the engine's store`, `the registry HOST`."""
    named: str | None
    """The digest that the reference names there; None where there is no such name."""
    reachable: bool
    """Whether the wanted digest can be used there, by this name or, in the same place, without it."""
    contents: frozenset[str]
    """Those of the wanted contents that are there."""


@dataclass(frozen=True, slots=True)
class Presence:
    """The answer for one wanted image."""

    state: Literal["present", "untagged", "gone", "unknown"]
    """`present`: as recorded. `untagged`: all of it is there, and the name does not name it: a tag puts it right.
    `gone`: it is not there, or not all of it. `unknown`: the place cannot be asked."""
    reason: str = ""
    """For people; empty where it is present."""


def wanted(record: ServiceRecord) -> tuple[Wanted, ...]:
    """What should be at a recorded service's destination, one for each of its names; nothing where it has no digest."""
    if record.digest is None:
        return ()
    parts = tuple(
        Part(name, one.manifest_digest, one.config_digest, tuple(layer.digest for layer in one.layers))
        for name, one in sorted(record.platforms.items())
    )
    return tuple(Wanted(name, record.digest, parts) for name in record.references or (record.reference,))


def judge(image: Wanted, held: Held) -> Presence:
    """Whether the image is there, from what its store holds of it."""
    if held.named != image.digest and not held.reachable:
        return Presence("gone", f"image gone: {_no_longer(image, held)}")
    broken = [part.platform for part in image.parts if not part.digests <= held.contents]
    if broken or image.digest not in held.contents:
        what = f"{', '.join(broken)} of {image.reference}" if broken else image.reference
        return Presence("gone", f"image gone: {what} is no longer complete in {held.place}")
    if held.named != image.digest:
        return Presence("untagged", f"{_no_longer(image, held)}, but the image is there as {image.digest[:_SHORT]}")
    return Presence("present")


def unknown(image: Wanted, reason: str) -> Presence:
    """The answer for an image whose place cannot be asked."""
    return Presence("unknown", f"whether {image.reference} is still there cannot be told: {reason}")


def _no_longer(image: Wanted, held: Held) -> str:
    if held.named is None:
        return f"{image.reference} is not in {held.place}"
    return f"{image.reference} now names {held.named[:_SHORT]}, not {image.digest[:_SHORT]}"
