"""Two images -> what differs: sizes by instruction, files, packages, config, every byte by the name of a file.

In: `ImageContents` of both. Out: `ImageDifference`. Touches nothing.

Bytes are those of the uncompressed layer tars, headers and padding included, in all layers: a file that a later layer
writes again, or only gives to another user, is there twice and weighs twice. So growth is the sum of its files' growth,
but for the ends of the tars.
"""

from __future__ import annotations

from difflib import SequenceMatcher
from itertools import zip_longest
from typing import TYPE_CHECKING, Literal

from buildorch.contents.rootfs import survivors
from buildorch.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from buildorch.contents import LayerContents, Package
    from buildorch.oci import ImageConfig
    from buildorch.record import PlatformRecord

ChangeKind = Literal["added", "removed", "changed"]


@dataclass(frozen=True, slots=True)
class ImageContents:
    """One platform's image, as far as it can be read."""

    facts: PlatformRecord
    config: ImageConfig | None = None
    """None where the image is not there any more."""
    layers: tuple[LayerContents, ...] | None = None
    """One a layer of `facts`; None where what is in one of them is not known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InstructionChange:
    """A layer that is not in both images, or the two that one instruction made."""

    instruction: str
    before_bytes: int | None
    after_bytes: int | None
    """Unpacked; None where the image has no such layer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FileChange:
    """A path whose files are not the same in both images' layers."""

    path: str
    kind: ChangeKind
    before_bytes: int
    after_bytes: int
    """What all entries of this path take in the layers' tars."""
    before_size: int
    after_size: int
    """The bytes of their contents."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PackageChange:
    """A package that came, went, or has another version."""

    package_kind: str
    name: str
    before: tuple[str, ...]
    after: tuple[str, ...]
    """Versions: of npm packages there may be several."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigChange:
    """Something of the image's config."""

    name: str
    before: str | None
    after: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageDifference:
    """What differs between one platform's images; `after - before` is the growth."""

    before_unpacked_bytes: int
    after_unpacked_bytes: int
    before_compressed_bytes: int | None
    after_compressed_bytes: int | None
    instructions: tuple[InstructionChange, ...]
    files: tuple[FileChange, ...] | None
    """The largest change first; None where the contents of a layer are not known."""
    packages: tuple[PackageChange, ...] | None
    config: tuple[ConfigChange, ...] | None

    @property
    def growth_bytes(self) -> int:
        """By how much the unpacked size grew; negative where it shrank."""
        return self.after_unpacked_bytes - self.before_unpacked_bytes

    @property
    def growth_percent(self) -> float:
        """The growth, in per cent of what it was before."""
        return 100 * self.growth_bytes / self.before_unpacked_bytes if self.before_unpacked_bytes else 0.0

    @property
    def attributed_bytes(self) -> int:
        """How much of the growth has the name of a file; the rest are the ends of the layers' tars."""
        return sum(file.after_bytes - file.before_bytes for file in self.files or ())


def differences(before: ImageContents, after: ImageContents) -> ImageDifference:
    """What differs between two images of one platform."""
    known = before.layers is not None and after.layers is not None
    return ImageDifference(
        before_unpacked_bytes=before.facts.unpacked_bytes,
        after_unpacked_bytes=after.facts.unpacked_bytes,
        before_compressed_bytes=before.facts.compressed_bytes,
        after_compressed_bytes=after.facts.compressed_bytes,
        instructions=tuple(_instructions(before.facts, after.facts)),
        files=_files(before.layers or (), after.layers or ()) if known else None,
        packages=_packages(before.layers or (), after.layers or ()) if known else None,
        config=tuple(_config(before.config, after.config)) if before.config and after.config else None,
    )


def _instructions(before: PlatformRecord, after: PlatformRecord) -> Iterator[InstructionChange]:
    """Layers of one digest are the same; of the others those stand together that one instruction made."""
    old, new = before.layers, after.layers
    matcher = SequenceMatcher(None, [one.created_by for one in old], [one.created_by for one in new], autojunk=False)
    for tag, i1, i2, j1, j2 in matcher.get_opcodes():
        # Where an instruction was rewritten, what stands in its place is its successor.
        pairs = zip_longest(old[i1:i2], new[j1:j2])
        for one, other in pairs:
            if one and other and one.digest == other.digest:
                continue
            shown = other or one
            text = f"{one.created_by} -> {other.created_by}" if tag == "replace" and one and other else shown.created_by
            yield InstructionChange(
                instruction=text,
                before_bytes=one.unpacked_bytes if one else None,
                after_bytes=other.unpacked_bytes if other else None,
            )


@dataclass(slots=True)
class _Weight:
    """What the entries of one path take in all layers of an image."""

    stored: int = 0
    size: int = 0
    seen: tuple[object, ...] = ()


def _weights(layers: Sequence[LayerContents]) -> dict[str, _Weight]:
    found: dict[str, _Weight] = {}
    for layer in layers:
        for entry in layer.entries:
            weight = found.setdefault(entry.path, _Weight())
            weight.stored += entry.stored_bytes
            weight.size += entry.size
            weight.seen += ((entry.kind, entry.digest, entry.target, entry.mode, entry.uid, entry.gid),)
    return found


def _files(before: Sequence[LayerContents], after: Sequence[LayerContents]) -> tuple[FileChange, ...]:
    old, new = _weights(before), _weights(after)
    none = _Weight()
    changes = (
        FileChange(
            path=path,
            kind="added" if path not in old else "removed" if path not in new else "changed",
            before_bytes=old.get(path, none).stored,
            after_bytes=new.get(path, none).stored,
            before_size=old.get(path, none).size,
            after_size=new.get(path, none).size,
        )
        for path in {**old, **new}
        if old.get(path, none).seen != new.get(path, none).seen
    )
    return tuple(sorted(changes, key=lambda one: (-abs(one.after_bytes - one.before_bytes), one.path)))


def installed(layers: Sequence[LayerContents]) -> set[Package]:
    """The packages of an image: those told of by files that are in its final root file system."""
    return {
        package
        for layer, left in zip(layers, survivors(layers), strict=True)
        for package in layer.packages
        if package.place in left
    }


def _packages(before: Sequence[LayerContents], after: Sequence[LayerContents]) -> tuple[PackageChange, ...]:
    old, new = _versions(installed(before)), _versions(installed(after))
    return tuple(
        PackageChange(package_kind=kind, name=name, before=old.get((kind, name), ()), after=new.get((kind, name), ()))
        for kind, name in sorted({*old, *new})
        if old.get((kind, name)) != new.get((kind, name))
    )


def _versions(packages: set[Package]) -> dict[tuple[str, str], tuple[str, ...]]:
    found: dict[tuple[str, str], set[str]] = {}
    for package in packages:
        found.setdefault((package.kind, package.name), set()).add(package.version)
    return {key: tuple(sorted(versions)) for key, versions in found.items()}


def _config(before: ImageConfig, after: ImageConfig) -> Iterator[ConfigChange]:
    old, new = _told(before), _told(after)
    for name in sorted({*old, *new}):
        if old.get(name) != new.get(name):
            yield ConfigChange(name=name, before=old.get(name), after=new.get(name))


def _told(config: ImageConfig) -> Mapping[str, str]:
    """The config by name; environment and labels entry by entry."""
    parts = {
        "platform": str(config.platform),
        "user": config.user,
        "entrypoint": " ".join(config.entrypoint),
        "command": " ".join(config.command),
        "healthcheck": " ".join(config.healthcheck or ()),
        "ports": " ".join(sorted(config.ports)),
    }
    environment = (variable.partition("=") for variable in config.environment)
    return {
        **{name: value for name, value in parts.items() if value},
        **{f"environment {name}": value for name, _, value in environment},
        **{f"label {name}": value for name, value in config.labels.items()},
    }
