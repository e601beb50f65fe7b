"""Variants of a service: what `NAME:KEY=VALUE,...` says, and the solve that it makes of the service's own.

In: a text, a `Solve`, the base images its Dockerfile names. Out: a `Variant`, a `Solve`. Touches nothing.

A base image is replaced by a named context, so the Dockerfile stays as it is written. Compression is that of BuildKit's
exporters (moby/buildkit README, "Image/Registry"): `force-compression` has the base image's layers compressed anew too,
so that one variant is compressed in one way.
"""

from __future__ import annotations

import csv
import dataclasses
import re
from dataclasses import field
from typing import TYPE_CHECKING, Final

from buildorch.bases.names import key
from buildorch.bases.pinning import SCHEME
from buildorch.errors import UsageError, did_you_mean
from buildorch.oci import ImageReference
from buildorch.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from buildorch.plan import Solve

AS_IT_IS: Final = "as-is"
"""The variant that changes nothing, which every comparison starts with."""
LEVELS: Final[Mapping[str, int]] = {"uncompressed": -1, "gzip": 9, "estargz": 9, "zstd": 22}
"""Way to compress a layer -> its highest level; the lowest is 0 (moby/buildkit `util/compression`)."""
KEYS = "base=IMAGE, base.REF=IMAGE, target=STAGE, args.NAME=VALUE, compression=gzip|zstd|estargz, compression-level=N"
_NAME = re.compile(r"[a-z0-9]+(?:[._-]+[a-z0-9]+)*\Z")
_LONGEST_NAME = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """One way to build a service other than it is."""

    name: str
    changes: tuple[str, ...] = ()
    """What it changes, as `KEY=VALUE`."""
    bases: Mapping[str, str] = field(default_factory=dict)
    """Base image -> the image that takes its place; the key is empty for the only one that the Dockerfile has."""
    target: str = ""
    args: Mapping[str, str] = field(default_factory=dict)
    compression: str = ""
    level: int | None = None

    @property
    def exported(self) -> str:
        """The attributes of an output that compress it so: `,compression=...`; empty where nothing is said."""
        if not self.compression:
            return ""
        level = "" if self.level is None else f",compression-level={self.level}"
        return f",compression={self.compression}{level},force-compression=true,oci-mediatypes=true"


def parse_all(texts: Iterable[str]) -> tuple[Variant, ...]:
    """The service as it is, then each variant that the texts say.

    Raises:
        UsageError: one is no variant, or two have one name.
    """
    variants = [Variant(name=AS_IT_IS)]
    for text in texts:
        variant = parse(text)
        if any(variant.name == other.name for other in variants):
            why = "is the service without a change" if variant.name == AS_IT_IS else "is the name of two variants"
            raise UsageError(f"{variant.name!r} {why}", hint="give each --variant a name of its own")
        variants.append(variant)
    return tuple(variants)


def parse(text: str) -> Variant:
    """What one `NAME:KEY=VALUE[,KEY=VALUE...]` says; a pair with a comma in it stands in double quotes, as in CSV.

    Raises:
        UsageError: it is no variant.
    """
    name, _, rest = text.partition(":")
    if not _NAME.match(name) or len(name) > _LONGEST_NAME:
        raise UsageError(
            f"{name!r} is no name of a variant: small letters and digits, with . _ and - between them, at most "
            f"{_LONGEST_NAME}",
            hint="write --variant NAME:KEY=VALUE, such as --variant alpine:base=python:3.13-alpine",
        )
    pairs: dict[str, str] = {}
    for said in _words(name, rest):
        word, value = _pair(name, said)
        if word in pairs:
            raise UsageError(f"the variant {name} says {word} twice", hint="write a variant for each value")
        pairs[word] = value
    if not pairs:
        raise UsageError(f"the variant {name} changes nothing", hint=f"say what differs: {KEYS}")
    variant = Variant(
        name=name,
        changes=tuple(f"{word}={value}" for word, value in pairs.items()),
        bases={word[4:].removeprefix("."): image for word, image in pairs.items() if word.startswith("base")},
        target=pairs.get("target", ""),
        args={word[5:]: value for word, value in pairs.items() if word.startswith("args.")},
        compression=pairs.get("compression", ""),
        level=_level(name, pairs.get("compression-level")),
    )
    _require_sound(variant)
    return variant


def _words(name: str, text: str) -> list[str]:
    try:
        return [word.strip() for row in csv.reader([text], strict=True) for word in row]
    except csv.Error as error:
        raise UsageError(
            f"the variant {name} cannot be read: {error}", hint='put a pair with a comma in it in quotes: "args.X=a,b"'
        ) from None


def _pair(name: str, text: str) -> tuple[str, str]:
    word, equals, value = text.partition("=")
    known = word in {"base", "target", "compression", "compression-level"} or _is_named(word)
    if not equals or not known:
        raise UsageError(f"the variant {name} says {text!r}, which changes nothing", hint=f"write one of: {KEYS}")
    if not value and not word.startswith("args."):
        raise UsageError(f"the variant {name} gives {word} no value", hint=f"write one of: {KEYS}")
    return word, value


def _is_named(word: str) -> bool:
    return word.startswith(("base.", "args.")) and not word.endswith(".")


def _level(name: str, text: str | None) -> int | None:
    if text is not None and not (text.isascii() and text.isdigit() and len(text) <= 2):
        raise UsageError(f"the variant {name} gives compression-level {text!r}", hint="give a number, such as 3")
    return None if text is None else int(text)


def _require_sound(variant: Variant) -> None:
    """See that images are images, and that what compresses has the level.

    Raises:
        UsageError: they are not, or it has not.
    """
    for image in variant.bases.values():
        ImageReference.parse(image)
    if variant.compression and variant.compression not in LEVELS:
        hint = did_you_mean(variant.compression, LEVELS) or f"the ways are: {', '.join(LEVELS)}"
        raise UsageError(f"the variant {variant.name} compresses with {variant.compression!r}", hint=hint)
    if variant.level is not None and variant.level > LEVELS.get(variant.compression, -1):
        raise UsageError(
            f"the variant {variant.name} has compression-level {variant.level} without a compression that has it",
            hint="gzip and estargz have levels up to 9, zstd up to 22: compression=zstd,compression-level=19",
        )


def varied(solve: Solve, variant: Variant) -> Solve:
    """The solve with the variant's target and arguments; its base images are replaced by `rebased`."""
    spec = solve.spec
    changes = {"target": variant.target or spec.target, "args": {**spec.args, **variant.args}}
    return dataclasses.replace(solve, spec=spec.model_copy(update=changes))


def rebased(solve: Solve, variant: Variant, images: Iterable[str]) -> Solve:
    """The solve with other base images.

    Args:
        solve: as `varied` gives it.
        variant: which images take whose place.
        images: the base images that its Dockerfile names.

    Raises:
        UsageError: the Dockerfile does not have what is to be replaced, or `base` alone could be several.
    """
    mirrored = (name for name, value in solve.contexts.items() if str(value).startswith(SCHEME))
    there = {key(name): name for name in (*images, *mirrored)}
    contexts = dict(solve.contexts)
    for name, image in variant.bases.items():
        contexts[_place(variant, name, there)] = f"{SCHEME}{image}"
    return dataclasses.replace(solve, contexts=contexts)


def _place(variant: Variant, name: str, there: Mapping[str, str]) -> str:
    """The base image that a variant means, as it is written where it stands."""
    named = ", ".join(there.values()) or "none that can be read here"
    if not name and len(there) != 1:
        raise UsageError(
            f"the variant {variant.name} replaces the base image, and the service has {len(there)}: {named}",
            hint=f"name it: base.{next(iter(there.values()), 'REF')}=IMAGE",
        )
    if name and key(name) not in there:
        hint = did_you_mean(name, there.values()) or f"the base images are: {named}"
        raise UsageError(f"the variant {variant.name} replaces {name}, which is no base image here", hint=hint)
    return there[key(name)] if name else next(iter(there.values()))
