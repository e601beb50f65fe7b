"""What a run leaves behind: `Report` (the run record, `buildorch.run/1`) and the records of its services.

In: facts and findings. Out: frozen values, their JSON, and its schema. Touches nothing.

Bytes are bytes, times are RFC 3339 in UTC, durations seconds. `docs/schemas/run.schema.json` is `run_schema()`.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import field
from enum import StrEnum
from typing import Any, Literal

from buildorch.errors import BuildFailed
from buildorch.values import dataclass

SCHEMA = "buildorch.run/1"
Status = Literal["built", "skipped", "failed", "blocked", "cancelled"]
Severity = Literal["error", "warning"]


NOT_MOVED = "its names were not moved: "
"""What the warning of an image begins with that was pushed and did not get its names."""
ENGINE_DIED = "the engine died during the last build of this service: "
RUN_KILLED = "a run was killed while it was to build this: "


OWN_WARNINGS = (ENGINE_DIED, RUN_KILLED, NOT_MOVED)


class FailureKind(StrEnum):
    """Why a service has no image, or its image not its names. The values stand in records and do not change."""

    STEP_FAILED = "step_failed"
    OUT_OF_MEMORY = "out_of_memory"
    NO_SPACE = "no_space"
    INPUT_MISSING = "input_missing"
    AUTH = "auth"
    NOT_FOUND = "not_found"
    RATE_LIMITED = "rate_limited"
    REGISTRY = "registry"
    DAMAGED = "damaged"
    ENGINE_LOST = "engine_lost"
    ENGINE_FROZEN = "engine_frozen"
    ENGINE_RACE = "engine_race"
    BUILDER_MISSING = "builder_missing"
    BLOCKED = "blocked"
    CANCELLED = "cancelled"
    TIMED_OUT = "timed_out"
    UNMEASURED = "unmeasured"
    UNPUBLISHED = "unpublished"
    CONTEXT_CHANGED = "context_changed"
    INTERNAL = "internal"
    OTHER = "other"


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why one service failed, was blocked or was cancelled."""

    kind: FailureKind
    message: str
    hint: str = ""
    exit_code: int = 1
    """What the run exits with for this failure alone: 1, or 4 where something could not be reached."""
    transient: bool = False
    """Whether the same build may succeed if tried again."""
    stage: str = ""
    """The Dockerfile's stage, as BuildKit names it."""
    step: str = ""
    """The instruction that failed, as BuildKit prints it: `[deps 2/4] RUN pip install ...`."""
    dockerfile: str = ""
    line: int | None = None
    """The instruction's first line in the Dockerfile, from 1."""
    log: tuple[str, ...] = ()
    """The last lines the step printed, 20 at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What a policy says against an image; an error makes the run exit with 3."""

    rule: str
    severity: Severity
    message: str
    hint: str = ""
    line: int | None = None
    """The Dockerfile's line it is about, from 1; null where it is about the image."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """The size the image was judged against, in bytes; what `size` in the services file said."""

    max_bytes: int | None
    target_bytes: int | None
    of: Literal["unpacked", "compressed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """One layer of one platform's image."""

    digest: str
    """The blob's digest; on the graphdriver store, which keeps no blobs, the digest of the uncompressed tar."""
    diff_id: str = ""
    """The digest of the uncompressed tar; empty in records that are older than this field."""
    compressed_bytes: int | None
    """The blob's size; null where the store keeps no blobs and the image was not pushed."""
    unpacked_bytes: int
    """The size of the uncompressed layer tar."""
    created_by: str
    """The instruction that made it, from the config's history."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlatformRecord:
    """One platform's image: what a pull fetches and what it becomes."""

    manifest_digest: str | None
    """Null on the graphdriver store where the image was not pushed: there is no manifest yet."""
    config_digest: str
    compressed_bytes: int | None
    """Config + layer blobs + manifest: what a pull downloads. Null where there is no manifest."""
    unpacked_bytes: int
    """The sum of the uncompressed layer tars."""
    user: str
    """The user the image's config names; empty for root by default."""
    layers: tuple[Layer, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Steps:
    """The Dockerfile's steps in a solve, FROM left out: `total = cached + executed`; those that ended, if it failed."""

    total: int = 0
    cached: int = 0
    executed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One vertex of a solve that ended: an instruction of the Dockerfile, or a transfer, an export, a push."""

    name: str
    """As BuildKit prints it: `[deps 2/4] RUN pip install ...`, `exporting to image`."""
    is_instruction: bool
    started_at: str
    """By the engine's clock."""
    duration_s: float
    cached: bool
    failed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Solved:
    """What a successful solve leaves: a digest to measure, and what its steps told."""

    name: str
    """The image's first name, `name:tag`."""
    digest: str | None
    """What BuildKit says came out: an index's or manifest's digest, the config's on the graphdriver store, or null
    where no image was made (`outputs: [type=local,...]`)."""
    pinned: bool
    """Whether `digest` can be pulled or built from: false on the graphdriver store."""
    bases: dict[str, str] = field(default_factory=dict)
    steps: Steps = Steps()
    warnings: tuple[str, ...] = ()

    @property
    def reference(self) -> str:
        """The name other builds take this image by: with its digest where there is one to pin."""
        return f"{self.name}@{self.digest}" if self.pinned else self.name


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceRecord:
    """What one service's solve produced."""

    status: Status
    reason: str
    """Why it was built, or why it was not."""
    reference: str
    """The image's first name, `name:tag`."""
    references: tuple[str, ...] = ()
    """Every name the image has; with a push none where something spoke against moving them."""
    digest: str | None = None
    """What the reference resolves to and a deploy pins: the index's digest, or the only manifest's."""
    index_digest: str | None = None
    """The image index's digest; null where the image is one manifest without attestations."""
    fingerprint: str | None = None
    """The digest of everything that can change the image; null where something could not be known."""
    unchanged: bool = False
    """Whether the image is the one the last record has: skipped, or built to the same manifests; its digest is kept."""
    bases: dict[str, str] = field(default_factory=dict)
    """Base image as the Dockerfile names it -> the digest it resolved to."""
    stand_ins: tuple[str, ...] = ()
    """Base images that were not the official ones but this project's stand-ins for closed networks."""
    platforms: dict[str, PlatformRecord] = field(default_factory=dict)
    steps: Steps = Steps()
    timeline: tuple[Step, ...] = ()
    """What the last attempt did when, the earliest first; empty where nothing was built."""
    started_at: str | None = None
    finished_at: str | None = None
    """When the solve's process started and ended; measuring comes after."""
    built_at: str | None = None
    """When the build that made the image ended: this run's, or an earlier one's where it was skipped."""
    duration_s: float = 0.0
    attempts: int = 0
    warnings: tuple[str, ...] = ()
    """BuildKit's own build checks, after what buildorch itself had to tell before the build."""
    budget: Budget | None = None
    findings: tuple[Finding, ...] = ()
    rules_off: dict[str, str] = field(default_factory=dict)
    """Rule that is not asked -> the reason that the services file gives."""
    rules: str | None = None
    """The digest of the rules that `findings` are the verdict of; null where there was no image to judge."""
    error: Failure | None = None

    @property
    def build_checks(self) -> tuple[str, ...]:
        """Those of the warnings that are BuildKit's own."""
        return tuple(text for text in self.warnings if not text.startswith(OWN_WARNINGS))

    @property
    def withheld(self) -> str:
        """Why a pushed image does not have its names; empty where it has."""
        return next((text.removeprefix(NOT_MOVED) for text in self.warnings if text.startswith(NOT_MOVED)), "")


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineFacts:
    """The engine that built: its version, buildx's, and how it stores images."""

    version: str
    buildx: str
    store: Literal["containerd", "graphdriver"]
    endpoint: str
    cpus: int


@dataclass(frozen=True, slots=True, kw_only=True)
class GitFacts:
    """The commit the sources stood at."""

    sha: str
    branch: str
    dirty: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """One run: the run record's content, to the byte."""

    schema: Literal["buildorch.run/1"] = "buildorch.run/1"
    run_id: str
    project: str
    started_at: str
    duration_s: float
    exit_code: int
    jobs: int
    git: GitFacts | None
    engine: EngineFacts | None
    services: dict[str, ServiceRecord]

    @property
    def ok(self) -> bool:
        """Whether every service has its image and no policy is violated."""
        return self.exit_code == 0

    def raise_for_status(self) -> Report:
        """The report itself where all is well, for chaining.

        Raises:
            BuildFailed: the run's exit code is not 0.
        """
        if self.exit_code != 0:
            raise BuildFailed(self)
        return self

    def to_json(self) -> str:
        """The run record's text: what stands in the file."""
        return json.dumps(dataclasses.asdict(self), indent=2, ensure_ascii=False) + "\n"


def encodable(text: str) -> str:
    """The text as any file and reader takes it: names of files need not be UTF-8, and their odd bytes are shown."""
    return text.encode("utf-8", "backslashreplace").decode()


def to_plain(value: Any) -> dict[str, Any]:  # noqa: ANN401 - any of the dataclasses above
    """A record or an event as plain data for JSON."""
    return dataclasses.asdict(value)


def service_record_from_json(text: str) -> ServiceRecord:
    """A service's record as the ledger keeps it.

    By hand: pydantic takes 100 ms to prepare for these types, and a run in which nothing changed takes little more.

    Raises:
        ValueError: the text is not such a record.
    """
    raw = json.loads(text)
    try:
        budget, error = raw.get("budget"), raw.get("error")
        return ServiceRecord(
            **{
                **raw,
                "references": tuple(raw["references"]),
                "stand_ins": tuple(raw["stand_ins"]),
                "platforms": {name: _platform_record(found) for name, found in raw["platforms"].items()},
                "steps": Steps(**raw["steps"]),
                "timeline": tuple(Step(**found) for found in raw.get("timeline", ())),
                "warnings": tuple(raw["warnings"]),
                "budget": Budget(**budget) if budget else None,
                "findings": tuple(Finding(**found) for found in raw["findings"]),
                "error": _failure(error) if error else None,
            }
        )
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(f"not a service's record: {error}") from None


def _platform_record(raw: dict[str, Any]) -> PlatformRecord:
    return PlatformRecord(**{**raw, "layers": tuple(Layer(**layer) for layer in raw["layers"])})


def _failure(raw: dict[str, Any]) -> Failure:
    return Failure(**{**raw, "kind": FailureKind(raw["kind"]), "log": tuple(raw["log"])})


def run_schema() -> dict[str, Any]:
    """The run record's JSON Schema, draft 2020-12."""
    return schema_of(Report, title="buildorch run record")


def schema_of(kind: Any, *, title: str) -> dict[str, Any]:  # noqa: ANN401 - a dataclass, or an annotated union of some
    """The JSON Schema (draft 2020-12) of dataclasses as they are written: every field is there, defaults too."""
    from pydantic import TypeAdapter  # noqa: PLC0415 - only who asks for a schema pays

    schema = TypeAdapter(kind).json_schema(mode="serialization")
    for described in (schema, *schema.get("$defs", {}).values()):
        if "properties" in described:
            described["required"] = list(described["properties"])
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": title}
