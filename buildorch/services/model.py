"""The services file as frozen values.

In: plain data, validated by pydantic. Out: `ServicesFile`, `Service` and their parts. Touches nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping  # noqa: TC003 - pydantic reads the annotations
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    WithJsonSchema,
    model_validator,
)

from buildorch.errors import UsageError
from buildorch.oci import ImageReference, Platform
from buildorch.services.naming import STAGING_TAG

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
        raise ValueError(f"{error} ({error.hint})") from None


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
    return str(_parsed(Platform.parse, value))


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
ServiceName = Annotated[str, Field(pattern=r"^[a-z0-9]+([._-]+[a-z0-9]+)*$", max_length=128)]


class Frozen(BaseModel):
    """A value that cannot change and knows every key it may have."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True, defer_build=True)


class Size(Frozen):
    """A budget in bytes for one platform's image. Above `max` is an error, above `target` a warning."""

    max: Bytes | None = None
    """Most bytes the image may have; exceeding it fails the run with exit code 3."""
    target: Bytes | None = None
    """Bytes the image should stay below; exceeding it is a warning."""
    of: Literal["unpacked", "compressed"] = "unpacked"
    """unpacked: the sum of the uncompressed layer tars; compressed: what a pull downloads."""

    @model_validator(mode="after")
    def _target_below_max(self) -> Size:
        if self.max is not None and self.target is not None and self.target > self.max:
            raise ValueError("the target is above the max, so no image could ever be warned of")
        return self


class Policy(Frozen):
    """What must hold of the built image."""

    user: Literal["non-root"] | None = None
    """non-root: the image's configured user must not be root."""
    min_stages: Annotated[int, Field(ge=1)] | None = None
    """The Dockerfile must have at least this many stages."""
    bases: tuple[Word, ...] | None = None
    """Images that a FROM may name (globs allowed)."""


class Secret(Frozen):
    """A build secret: its value comes from a file or an environment variable and is never recorded."""

    id: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]+$")]
    """The id that RUN --mount=type=secret names."""
    file: Word | None = None
    """The file that holds the value, relative to the services file."""
    env: Word | None = None
    """The environment variable that holds the value."""


class Attestations(Frozen):
    """What BuildKit attests beside the image. Off unless asked for, so that an unchanged image keeps its digest."""

    provenance: Annotated[Literal["false", "min", "max"], BeforeValidator(_provenance)] = "false"
    """SLSA provenance; min leaves out build arguments."""
    sbom: bool = False
    """A software bill of materials."""


class Timeouts(Frozen):
    """How long each phase of a build may take; `timeout` is for all of them and every attempt together."""

    resolve: Seconds | None = None
    """Until the first step starts or a base image is unpacked: base images are resolved and pulled. Tried again."""
    build: Seconds | None = None
    """The steps, and the export of the image into the engine."""
    push: Seconds | None = None
    """From the first byte that goes to the registry. Tried again."""


class Service(Frozen):
    """One image to build. Every key may also stand under `defaults`."""

    @model_validator(mode="before")
    @classmethod
    def _nothing_said_is_nothing_set(cls, data: Any) -> Any:  # noqa: ANN401 - pydantic's signature
        """A key with nothing after its colon is as if it were not there."""
        return {key: value for key, value in data.items() if value is not None} if isinstance(data, dict) else data

    image: ImageName | None = None
    """The image's name without a tag; default: [registry/]project/service."""
    registry: Annotated[str, AfterValidator(_registry)] | None = None
    """Put before project/service to name the image; empty for none."""
    context: Word | None = None
    """The folder whose files the build may read, or a URL BuildKit understands; default: services/NAME."""
    dockerfile: Word | None = None
    """The Dockerfile, relative to the context; default: Dockerfile."""
    target: Word | None = None
    """The stage to build; default: the last."""
    args: Mapping[str, str | None] = Field(default_factory=dict)
    """Build arguments; a key without a value takes it from the environment."""
    contexts: Mapping[str, Word] = Field(default_factory=dict)
    """Named contexts: a folder, docker-image://REF, or service:NAME, which is built first."""
    secrets: tuple[Secret, ...] = ()
    """Build secrets."""
    ssh: tuple[Word, ...] = ()
    """SSH agents or keys, as --ssh takes them."""
    cache_from: tuple[Word, ...] = ()
    """Caches to import, as --cache-from takes them."""
    cache_to: tuple[Word, ...] = ()
    """Caches to export, as --cache-to takes them."""
    labels: Mapping[str, str] = Field(default_factory=dict)
    """Labels of the image's config."""
    annotations: Mapping[str, str] = Field(default_factory=dict)
    """Annotations of the manifest, as --annotation takes them."""
    platforms: tuple[PlatformText, ...] = ()
    """Platforms to build; default: the builder's own."""
    outputs: tuple[Word, ...] = ()
    """Outputs as --output takes them, in place of loading or pushing the image."""
    network: Literal["default", "none", "host"] | None = None
    """The network of RUN steps."""
    no_cache_filter: tuple[Word, ...] = ()
    """Stages that are always built again."""
    attestations: Attestations = Field(default_factory=Attestations)
    """What BuildKit attests beside the image."""
    builder: Word | None = None
    """The buildx builder; default: the one in use."""
    retries: Annotated[int, Field(ge=0, le=10)] = 3
    """How often a transient failure is tried again; a failing step never is, and changed files once at most."""
    timeout: Seconds | None = None
    """How long the build may take, with every attempt."""
    timeouts: Timeouts = Field(default_factory=Timeouts)
    """How long each phase of it may take."""
    max_age: Seconds | None = None
    """How old an image may become before it is built again though nothing changed; default: any age."""
    tags: Annotated[tuple[Tag, ...], Field(min_length=1)] = ("latest",)
    """Tags of the image; may hold {git_sha} {git_branch} {date}."""
    size: Size | None = None
    """The image's size budget."""
    policy: Policy = Field(default_factory=Policy)
    """What must hold of the built image."""
    buildx: tuple[Flag, ...] = ()
    """Further flags for docker buildx build, one word each."""


class Builder(Frozen):
    """What holds for one buildx builder."""

    jobs: Annotated[int, Field(ge=1)]
    """How many solves may run on it at once, below what -j allows for all."""


class ServicesFile(Frozen):
    """A services file: `services` hold what they say themselves, `merged` adds the defaults."""

    version: Annotated[Literal[1], BeforeValidator(_version)]
    """The format's version."""
    project: ServiceName
    """The project's name, part of the images' names."""
    defaults: Service = Field(default_factory=Service)
    """What every service starts from."""
    builders: Mapping[Word, Builder] = Field(default_factory=dict)
    """Limits of buildx builders, by name."""
    services: Annotated[Mapping[ServiceName, Service], Field(min_length=1)]
    """The services by name."""

    @model_validator(mode="before")
    @classmethod
    def _services_without_a_word(cls, data: Any) -> Any:  # noqa: ANN401 - pydantic's signature
        """`backend:` alone is a service with every default."""
        if isinstance(data, dict) and isinstance(data.get("services"), dict):
            services = {name: {} if value is None else value for name, value in data["services"].items()}
            return {**data, "services": services}
        return data

    def merged(self, name: str) -> Service:
        """One service over the defaults: mappings are merged key by key, anything else replaces."""
        return merge(self.defaults, self.services[name])


Model = TypeVar("Model", bound=Frozen)


def merge(base: Model, over: Model) -> Model:
    """`over` where it says something, else `base`; mappings and nested values are merged key by key."""
    values: dict[str, Any] = {name: getattr(base, name) for name in base.model_fields_set}
    for name in over.model_fields_set:
        new, old = getattr(over, name), values.get(name)
        if isinstance(new, Frozen) and isinstance(old, Frozen):
            values[name] = merge(old, new)
        elif isinstance(new, Mapping) and isinstance(old, Mapping):
            values[name] = {**old, **new}
        else:
            values[name] = new
    return over.model_construct(_fields_set=set(values), **values)
