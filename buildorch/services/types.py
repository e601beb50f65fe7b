"""The values a services file is made of: sizes, durations, names, tags, each with its own check.

In: what stands in the file. Out: types that pydantic checks by. Touches nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Annotated, Literal, TypeVar

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema

from buildorch.errors import UsageError
from buildorch.oci import ImageReference, Platform
from buildorch.services.naming import RULE_NAMES, STAGING_TAG, rule_name

Parsed = TypeVar("Parsed")
_SIZE = re.compile(r"(?P<number>\d{1,18}(?:\.\d{1,18})?)\s*(?P<unit>[kKMGT]?i?B?)\Z")
_UNITS = {"": 1, "K": 1000, "M": 1000**2, "G": 1000**3, "T": 1000**4}
_BINARY = {"K": 1024, "M": 1024**2, "G": 1024**3, "T": 1024**4}
_DURATION = re.compile(r"(?:(?P<h>\d+(?:\.\d+)?)h)?(?:(?P<m>\d+(?:\.\d+)?)m)?(?:(?P<s>\d+(?:\.\d+)?)s?)?\Z")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}\Z")
_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")
PLACEHOLDERS = ("git_sha", "git_branch", "date")


def parse_size(value: object) -> int:
    """Bytes in `500MB` (decimal, as registries count), `64MiB` (binary) or a number."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    match = _SIZE.match(str(value).strip())
    if not match:
        raise ValueError("a size such as 500MB or 64MiB was expected")
    unit = match["unit"].removesuffix("B").upper()
    factor = _BINARY.get(unit[0]) if unit.endswith("I") and len(unit) == 2 else _UNITS.get(unit)
    if factor is None:
        raise ValueError("a size such as 500MB or 64MiB was expected")
    return int(float(match["number"]) * factor)


def parse_duration(value: object) -> float:
    """Seconds in `20m`, `1h30m`, `90s` or a number of seconds."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    text = str(value).strip()
    match = _DURATION.match(text)
    if not text or not match:
        raise ValueError("a duration such as 20m, 90s or 1h30m was expected")
    hours, minutes, seconds = (float(match[key] or 0) for key in "hms")
    return hours * 3600 + minutes * 60 + seconds


def _parsed(parse: Callable[[str], Parsed], value: str) -> Parsed:
    try:
        return parse(value)
    except UsageError as error:
        raise ValueError(error.told) from None


def _image_name(value: str) -> str:
    reference = _parsed(ImageReference.parse, value)
    if reference.tag or reference.digest:
        raise ValueError(f"the image's name alone was expected, {reference.name}: its tags stand under `tags`")
    return value


def _registry(value: str) -> str:
    if value:
        _parsed(ImageReference.parse, f"{value.rstrip('/')}/x/y")
    return value


def _platform(value: str) -> str:
    return str(_parsed(Platform.to_build, value))


def _tag(value: str) -> str:
    names = _PLACEHOLDER.findall(value)
    if unknown := [name for name in names if name not in PLACEHOLDERS]:
        raise ValueError(
            f"there is no placeholder {{{unknown[0]}}}: there are "
            + " ".join(f"{{{name}}}" for name in PLACEHOLDERS)
        )
    if not _TAG.match(_PLACEHOLDER.sub("x", value)):
        raise ValueError("a tag has letters, digits, _ . and -, at most 128, and does not start with . or -")
    if value == STAGING_TAG:
        raise ValueError(f"{value} is what buildorch itself pushes under, before an image gets its names")
    return value


def _provenance(value: object) -> object:
    return {"true": "min", True: "min", False: "false"}.get(value, value) if isinstance(value, str | bool) else value


def _version(value: object) -> object:
    return int(value) if isinstance(value, str) and value.isdecimal() else value


def _flag(value: str) -> str:
    if not value.startswith("--") or value == "--":
        raise ValueError("a buildx flag such as --shm-size=1g was expected, as one word with its value")
    if value.split("=", 1)[0] in _OWNED_FLAGS:
        raise ValueError(f"{value.split('=', 1)[0]} is set by buildorch itself")
    return value


_OWNED_FLAGS = {"--progress", "--metadata-file", "--file", "--builder", "--tag", "--load", "--push", "--output", "--iidfile"}

Bytes = Annotated[
    int,
    BeforeValidator(parse_size),
    Field(ge=1, le=1 << 50),
    WithJsonSchema({"type": ["string", "integer"], "examples": ["500MB", "64MiB"]}),
]
Seconds = Annotated[
    float,
    BeforeValidator(parse_duration),
    Field(gt=0, le=7 * 24 * 3600),
    WithJsonSchema({"type": ["string", "number"], "examples": ["20m", "1h30m"]}),
]
ImageName = Annotated[str, AfterValidator(_image_name)]
PlatformText = Annotated[str, AfterValidator(_platform), WithJsonSchema({"type": "string", "examples": ["linux/amd64"]})]
Tag = Annotated[str, AfterValidator(_tag), WithJsonSchema({"type": "string", "examples": ["{git_sha}", "latest"]})]
Flag = Annotated[str, AfterValidator(_flag), WithJsonSchema({"type": "string", "pattern": "^--"})]
Word = Annotated[str, Field(min_length=1)]
Level = Literal["error", "warning"]
PolicyName = Annotated[str, Field(pattern=r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*$")]
Rule = Annotated[str, AfterValidator(rule_name), WithJsonSchema({"type": "string", "anyOf": [{"enum": list(RULE_NAMES)}, {"pattern": ":"}]})]
ServiceName = Annotated[str, Field(pattern=r"^[a-z0-9]+([._-]+[a-z0-9]+)*$", max_length=128)]
Registry = Annotated[str, AfterValidator(_registry)]
Provenance = Annotated[Literal["false", "min", "max"], BeforeValidator(_provenance)]
Version = Annotated[Literal[1], BeforeValidator(_version)]
