"""The one stream of events a run is made of; every view, log and record folds it.

In: nothing. Out: frozen values and their JSON, one object a line. Touches nothing.

Times are RFC 3339 in UTC. Log text is data: it may hold control characters, which a view must not pass on.
`docs/schemas/events.schema.json` is `events_schema()`.
"""

from __future__ import annotations

import dataclasses
import json
from datetime import UTC, datetime
from typing import Any, Literal

from buildorch.record import EngineFacts, Failure, Report, ServiceRecord, Solved, schema_of
from buildorch.values import dataclass


def now() -> str:
    """This moment, as every time of a record is written."""
    return stamp(datetime.now(UTC))


def stamp(moment: datetime) -> str:
    """A moment in UTC, RFC 3339, with milliseconds."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """The run that builds a service now, as it says itself."""

    run_id: str
    pid: int
    host: str
    since: str

    def __str__(self) -> str:
        return f"run {self.run_id} (pid {self.pid} on {self.host})"


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseAwaited:
    """Another run builds a service that is to be built here: this one begins when that one lets go of it."""

    event: Literal["lease_awaited"] = "lease_awaited"
    at: str
    service: str
    holder: Holder | None
    """Null where it is not known."""

    @property
    def holder_text(self) -> str:
        """Who is waited for, for people."""
        return str(self.holder or "another run")


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStarted:
    """The plan stands and the engine answers; nothing is built yet."""

    event: Literal["run_started"] = "run_started"
    at: str
    run_id: str
    project: str
    services: tuple[str, ...]
    """In dependency order."""
    jobs: int
    engine: EngineFacts


@dataclass(frozen=True, slots=True, kw_only=True)
class SolveStarted:
    """A service's `docker buildx build` process starts."""

    event: Literal["solve_started"] = "solve_started"
    at: str
    service: str
    attempt: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StepStarted:
    """A vertex begins. `step` is false for what is not a Dockerfile instruction: loading, exporting, pushing."""

    event: Literal["step_started"] = "step_started"
    service: str
    vertex: str
    """BuildKit's digest of the vertex; concurrent solves that share a step show the same."""
    name: str
    step: bool
    index: int = 0
    total: int = 0
    """Where the step stands in its stage, as in `[deps 2/4]`; 0 for what is not a step."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepFinished:
    """A vertex is done: executed, taken from the cache, or failed with `error`."""

    event: Literal["step_finished"] = "step_finished"
    service: str
    vertex: str
    name: str
    step: bool
    cached: bool
    started_at: str = ""
    """By the engine's clock; empty where it never started."""
    duration_s: float
    error: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepProgress:
    """Bytes (or items) moved by a vertex; `total` is 0 where it is not known."""

    event: Literal["step_progress"] = "step_progress"
    service: str
    vertex: str
    item: str
    current: int
    total: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StepLogged:
    """Whole lines a step printed, in order; bytes that are not UTF-8 are replaced."""

    event: Literal["step_logged"] = "step_logged"
    service: str
    vertex: str
    name: str
    lines: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class StepWarned:
    """A build check of BuildKit's speaks against the Dockerfile, or buildorch has something to tell before a build."""

    event: Literal["step_warned"] = "step_warned"
    service: str
    message: str
    line: int | None
    url: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SolveRetried:
    """An attempt failed in a way that may pass; another follows after `delay_s`."""

    event: Literal["solve_retried"] = "solve_retried"
    at: str
    service: str
    attempt: int
    failure: Failure
    delay_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SolveFinished:
    """A service's last process ended: with an image (`failure` is null) or without (`solved` is null)."""

    event: Literal["solve_finished"] = "solve_finished"
    at: str
    service: str
    started_at: str | None
    """When the last attempt's process started; null where none did."""
    duration_s: float
    attempts: int
    solved: Solved | None = None
    failure: Failure | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceFinished:
    """A service's record is complete and durable in the ledger."""

    event: Literal["service_finished"] = "service_finished"
    at: str
    service: str
    record: ServiceRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFinished:
    """The run is over; `report` is what the run record holds."""

    event: Literal["run_finished"] = "run_finished"
    at: str
    report: Report


Event = (
    LeaseAwaited
    | RunStarted
    | SolveStarted
    | StepStarted
    | StepFinished
    | StepProgress
    | StepLogged
    | StepWarned
    | SolveRetried
    | SolveFinished
    | ServiceFinished
    | RunFinished
)


def to_json(event: Event) -> str:
    """The event on one line."""
    return json.dumps(dataclasses.asdict(event), ensure_ascii=True, separators=(",", ":"))


def events_schema() -> dict[str, Any]:
    """The JSON Schema of one line of the event stream, draft 2020-12."""
    from typing import Annotated  # noqa: PLC0415 - as for pydantic: only who asks for the schema pays

    from pydantic import Field  # noqa: PLC0415

    union: Any = Annotated[Event, Field(discriminator="event")]
    return schema_of(union, title="buildorch event")
