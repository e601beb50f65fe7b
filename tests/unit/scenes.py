"""A run at one moment, for pictures of the live view: what happened up to then, and when, by a clock that is set.

The captures in docs/how-to/live-view.md are made of these by `scripts/write-captures`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

from buildorch.events import (
    Event,
    RunStarted,
    ServiceFinished,
    SolveFinished,
    SolveStarted,
    StepFinished,
    StepLogged,
    StepProgress,
    StepStarted,
)
from buildorch.forecast import Forecast
from buildorch.record import Failure, FailureKind, ServiceRecord, Steps
from buildorch.report.board import Board
from buildorch.report.picture import Canvas, Choice, picture
from buildorch.testing import make_digest, make_engine_facts, make_platform, make_record

AT = "2026-01-31T12:00:00.000Z"
STEPS = (
    "[deps 1/4] FROM docker.io/library/python:3.13-slim",
    "[deps 2/4] RUN python -m venv /venv",
    "[deps 3/4] COPY requirements.lock .",
    "[deps 4/4] RUN --mount=type=cache,target=/root/.cache pip install --require-hashes -r requirements.lock",
    "[stage-1 2/5] RUN adduser --system app",
    "[stage-1 3/5] COPY --from=deps /venv /venv",
    "[stage-1 4/5] COPY src /app",
    "[stage-1 5/5] RUN python -m compileall /app",
    "exporting to image",
)
WEIGHTS = dict(zip(STEPS, (0.5, 4.0, 0.2, 30.0, 1.0, 2.0, 0.3, 3.0, 4.0), strict=True))
FAILED_LOG = (
    "Collecting mcp==1.9.0",
    "  Downloading mcp-1.9.0-py3-none-any.whl (125 kB)",
    "ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE.",
    "    mcp==1.9.0 from the index:",
    "        Expected sha256 6d1a8a8e2d1c",
    "             Got        0d2f9c1b7e55",
)


class Clock:
    """A clock that somebody sets."""

    def __init__(self, now: float = 0.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def run_started(*services: str, jobs: int = 2, project: str = "tasks") -> RunStarted:
    return RunStarted(at=AT, run_id="r", project=project, services=services, jobs=jobs, engine=make_engine_facts())


def solve_started(service: str) -> SolveStarted:
    return SolveStarted(at=AT, service=service, attempt=1, reason="first build")


def step_started(service: str, name: str) -> StepStarted:
    inside = name[1:].partition("]")[0].rpartition(" ")[2] if name.startswith("[") else ""
    index, total = (int(part) for part in inside.split("/")) if "/" in inside else (0, 0)
    return StepStarted(service=service, vertex=name, name=name, step=total > 0, index=index, total=total)


def step_finished(service: str, name: str, *, cached: bool = False) -> StepFinished:
    step = step_started(service, name).step
    return StepFinished(service=service, vertex=name, name=name, step=step, cached=cached, duration_s=1.0)


def progress(service: str, item: str, current: int, vertex: str = "v") -> StepProgress:
    return StepProgress(service=service, vertex=vertex, item=item, current=current, total=0)


def steps(service: str, done: int, *, cached: int = 0) -> Iterator[Event]:
    """The first `done` steps, of which the first few were cached, and the one that runs now."""
    for at, name in enumerate(STEPS[:done]):
        yield step_started(service, name)
        yield step_finished(service, name, cached=at < cached)
    if done < len(STEPS):
        yield step_started(service, STEPS[done])


def solve_finished(service: str, seconds: float) -> SolveFinished:
    return SolveFinished(at=AT, service=service, started_at=AT, duration_s=seconds, attempts=1)


def finished(service: str, seconds: float, **record: Any) -> Iterator[Event]:
    yield solve_finished(service, seconds)
    base = make_record(digest=make_digest(service))
    made: ServiceRecord = dataclasses.replace(
        base,
        **{
            "reference": f"tasks/{service}:latest",
            "platforms": {"linux/amd64": make_platform(unpacked=(217_700_000,), compressed=(78_400_000,))},
            "steps": Steps(total=7, cached=3, executed=4),
            "duration_s": seconds,
            **record,
        },
    )
    yield ServiceFinished(at=AT, service=service, record=made)


def failed(service: str, seconds: float) -> Iterator[Event]:
    error = Failure(kind=FailureKind.STEP_FAILED, message="`pip install` exited with 1", step=STEPS[3], log=FAILED_LOG)
    return finished(service, seconds, status="failed", error=error, digest=None, platforms={})


def blocked(service: str, base: str) -> ServiceFinished:
    error = Failure(kind=FailureKind.BLOCKED, message=f"it builds on {base}, which has no image")
    return ServiceFinished(at=AT, service=service, record=make_record("blocked", error=error))


def three() -> Iterator[tuple[float, Event]]:
    """Two builds at once, a third waits for one of them; 31.4 s after the begin."""
    names = ("backend", "frontend-web", "frontend-chatbot")
    yield 0.0, run_started(*names)
    yield 0.2, solve_started("backend")
    yield 0.2, solve_started("frontend-web")
    for event in steps("backend", 3, cached=2):
        yield 3.0, event
    yield 9.0, progress("backend", "sha256:aa", 28_400_000)
    yield 12.0, progress("backend", "sha256:bb", 1_250_000)
    for event in steps("frontend-web", 8, cached=5):
        yield 30.0, event
    yield (
        31.0,
        StepLogged(
            service="backend",
            vertex=STEPS[3],
            name=STEPS[3],
            lines=("Collecting fastapi==0.115", "Collecting mcp==1.9.0"),
        ),
    )


def fifty() -> Iterator[tuple[float, Event]]:
    """50 services: one failed, one is blocked by it, four are built now, others are done or wait; 48 s after the begin."""
    names = tuple(f"service-{at:02}" for at in range(50))
    yield 0.0, run_started(*names, jobs=4, project="fleet")
    for name in names[:10]:
        yield 0.1, next(iter(finished(name, 0.0)))
        yield 0.1, ServiceFinished(at=AT, service=name, record=make_record("skipped", digest=make_digest(name)))
    for at, name in enumerate(names[10:22]):
        yield 1.0 + at, solve_started(name)
        for event in finished(name, 12.0 + at):
            yield 13.0 + 2 * at, event
    yield 20.0, solve_started(names[22])
    for event in steps(names[22], 3):
        yield 21.0, event
    for event in failed(names[22], 19.5):
        yield 39.5, event
    yield 39.5, blocked(names[23], names[22])
    for at, name in enumerate(names[24:28]):
        yield 30.0 + at, solve_started(name)
        for event in steps(name, 3 + at, cached=at):
            yield 40.0 + at, event
    yield 42.0, progress(names[24], "sha256:aa", 28_400_000)


def board(count: int) -> Board:
    """The run of 3 or of 50 services, at its moment."""
    clock = Clock()
    made = Board(clock)
    events = [*(three() if count == 3 else fifty())]
    names = events[0][1].services  # type: ignore[union-attr]  # the first is RunStarted
    on = {"frontend-chatbot": ("frontend-web",), "service-23": ("service-22",), "service-40": ("service-27",)}
    seconds = {name: 45.0 + 3 * (at % 7) for at, name in enumerate(names)}
    made.expect(Forecast(seconds, dict.fromkeys(names, WEIGHTS), {name: on.get(name, ()) for name in names}))
    for at, event in events:
        clock.now = at
        made.update(event)
    clock.now = 31.4 if count == 3 else 48.0
    return made


def capture(columns: int, rows: int, count: int, choice: Choice | None = None, *, has_keys: bool = True) -> str:
    """What stands on a terminal of this size."""
    canvas = Canvas(columns, rows, has_keys=has_keys)
    lines = picture(board(count), choice or Choice(), canvas)
    return "\n".join("".join(text for text, _ in line).rstrip() for line in lines) + "\n"


CAPTURES = {
    "80x24 3": (80, 24, 3, Choice()),
    "80x24 3 log": (80, 24, 3, Choice("backend")),
    "80x24 50": (80, 24, 50, Choice()),
    "40x24 3": (40, 24, 3, Choice()),
    "200x50 3": (200, 50, 3, Choice()),
    "200x50 50": (200, 50, 50, Choice()),
}
"""Mark on the page -> columns, rows, services, whose log."""
