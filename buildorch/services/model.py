"""The services file as frozen values.

In: plain data, validated by pydantic. Out: `ServicesFile`, `Service` and their parts. Touches nothing.
"""

from __future__ import annotations

from collections.abc import Mapping  # noqa: TC003 - pydantic reads the annotations
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, model_validator

from buildorch.services.types import (
    Bytes,
    Flag,
    ImageName,
    Level,
    PlatformText,
    PolicyName,
    Provenance,
    Registry,
    Rule,
    Seconds,
    ServiceName,
    Tag,
    Version,
    Word,
)

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


class Smoke(Frozen):
    """A trial start of the image without privileges."""

    port: Annotated[int, Field(ge=1, le=65535)] | None = None
    """The port that must take connections; default: the image's own HEALTHCHECK says when it is well."""
    read_only: bool = False
    """Whether the root file system is read-only in the trial."""
    timeout: Seconds = 60.0
    """How long it may take until it is well."""


class Policy(Frozen):
    """What must hold of the built image. A rule that takes `error` or `warning` is off where nothing is said."""

    user: Literal["non-root"] | None = None
    """non-root: the image's configured user must not be root, by number, by name, or by what /etc/passwd makes of it; a
    user that is no number is a warning, as Kubernetes' runAsNonRoot refuses it."""
    min_stages: Annotated[int, Field(ge=1)] | None = None
    """At least this many stages must be built; with 2 or more, the image must not hold all of them."""
    bases: tuple[Word, ...] | None = None
    """Images that a stage which is built may start or copy from (globs allowed)."""
    pinned: Level | None = None
    """Every such image must have a digest, in the Dockerfile or in buildorch.lock."""
    cache_mounts: Level | None = None
    """Package managers must run with a cache mount, and those of apt and dpkg be locked."""
    contents: Level | None = None
    """No layer may hold compilers, package caches, .git, .env, private keys or tests, deleted later or not."""
    healthcheck: Level | None = None
    """The image must have a HEALTHCHECK."""
    exec_form: Level | None = None
    """ENTRYPOINT and CMD must not start a shell, which would keep signals from the program."""
    labels: tuple[Word, ...] = ()
    """Labels that the image must have, such as org.opencontainers.image.source."""
    build_checks: Level | None = None
    """What BuildKit's own build checks warn of."""
    smoke: Smoke | None = None
    """The image is started without privileges and must become well, as a user that is not root."""
    off: Mapping[Rule, Word] = Field(default_factory=dict)
    """Rules that are not asked, each with the reason, which is recorded: any of the above, size, secrets (no build
    argument, layer or config may hold one) and end_of_life (no base image past its support)."""


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

    provenance: Provenance = "false"
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
    registry: Registry | None = None
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

    version: Version
    """The format's version."""
    project: ServiceName
    """The project's name, part of the images' names."""
    defaults: Service = Field(default_factory=Service)
    """What every service starts from."""
    builders: Mapping[Word, Builder] = Field(default_factory=dict)
    """Limits of buildx builders, by name."""
    policies: tuple[PolicyName, ...] = ()
    """Rules of one's own, as package.module:function; asked only with --allow-policies, since they are programs."""
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
