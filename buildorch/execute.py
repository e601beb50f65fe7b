"""The scheduler: `execute(Plan, solver) -> a stream of events`.

In: a plan and a `Solver`. Out: events on a stream, one `SolveFinished` a service at its end. Touches nothing itself.

A service is built after everything it builds on, and at most `jobs` at once, in the plan's order; a builder has at most
as many as the plan says. Runs on asyncio and on trio.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from contextlib import asynccontextmanager
from dataclasses import field
from typing import TYPE_CHECKING, Protocol

import anyio

from buildorch.events import Event, SolveFinished, SolveRetried, SolveStarted, now
from buildorch.jitter import jittered
from buildorch.record import Failure, FailureKind, Solved
from buildorch.values import dataclass

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from anyio.abc import ObjectReceiveStream, ObjectSendStream

    from buildorch.plan import Plan, Solve

BUFFER = 256
"""Events that may wait for a slow reader before the builds wait for it too."""
RETRY_DELAY_S = 1.0
RATE_LIMIT_DELAY_S = 5.0
"""A registry that limits says when it may be asked again, but BuildKit does not pass that on."""
RACE_RETRIES = 2
"""An engine's own race is tried once more as it was, and once without cache import, however many retries are wanted."""


class Solver(Protocol):
    """Whatever can build one service; `buildorch.buildx` has the real one, `buildorch.testing` a fake."""

    async def solve(
        self, solve: Solve, bases: Mapping[str, Solved], events: ObjectSendStream[Event]
    ) -> Solved | Failure:
        """Build one service, tell how on `events`, and stop everything it started if it is cancelled."""


class Stop:
    """A wish to end a run early: what runs is cancelled, what waits is not started, and the record is written."""

    def __init__(self) -> None:
        self._asked = anyio.Event()
        self.exit_code: int | None = None
        """What the run is to exit with, where a signal ended it."""

    def request(self, *, exit_code: int | None = None) -> None:
        """Ask for the end; the first exit code given counts."""
        self.exit_code = self.exit_code or exit_code
        self._asked.set()

    @property
    def requested(self) -> bool:
        """Whether the end was asked for."""
        return self._asked.is_set()

    async def wait(self) -> None:
        """Return once the end was asked for."""
        await self._asked.wait()


@asynccontextmanager
async def execute(
    plan: Plan,
    solver: Solver,
    *,
    jobs: int,
    fail_fast: bool = False,
    stop: Stop | None = None,
    reasons: Mapping[str, str] | None = None,
    solved: Mapping[str, Solved] | None = None,
) -> AsyncIterator[ObjectReceiveStream[Event]]:
    """Build everything in the plan.

    Args:
        plan: what to build.
        solver: what builds it.
        jobs: how many solves may run at once, at least 1.
        fail_fast: whether the first failure cancels the rest; else only what builds on it is blocked.
        stop: asks for an early end from outside.
        reasons: service -> why it is built.
        solved: services outside the plan that others build on -> their images.

    Yields:
        A stream that ends once every service has its `SolveFinished`. Leaving the block early cancels what runs.

    Raises:
        ValueError: `jobs` is below 1.
    """
    if jobs < 1:
        raise ValueError(f"{jobs} solves at once are not possible")
    send, receive = anyio.create_memory_object_stream[Event](BUFFER)
    there = dict(solved or {})
    run = _Run(plan, solver, jobs, fail_fast, stop or Stop(), reasons or {}, ended=set(there), solved=there)
    async with receive, anyio.create_task_group() as group:
        group.start_soon(run.drive, send)
        yield receive
        group.cancel_scope.cancel()


@dataclass()
class _Run:
    """One execution's state: which services are done, and how."""

    plan: Plan
    solver: Solver
    jobs: int
    fail_fast: bool
    stop: Stop
    reasons: Mapping[str, str]
    running: Counter[str | None] = field(default_factory=Counter)
    """Builder -> how many solves run on it."""
    ended: set[str] = field(default_factory=set)
    solved: dict[str, Solved] = field(default_factory=dict)
    frozen: Failure | None = None
    """Why nothing more is started: an engine that does not answer one build answers no other."""
    changed: anyio.Event = field(default_factory=anyio.Event)

    async def drive(self, send: ObjectSendStream[Event]) -> None:
        """Whenever a service has ended, start what may start now; the plan's order decides, not the backend's."""
        waiting = list(self.plan.solves)
        async with send, anyio.create_task_group() as group:
            while waiting:
                self.changed = anyio.Event()
                for solve in tuple(waiting):
                    if self.ended.issuperset(solve.depends_on) and (self._lost(solve) or self._has_room(solve.builder)):
                        waiting.remove(solve)
                        self.running[solve.builder] += 1
                        group.start_soon(self._service, solve, send)
                await self.changed.wait()

    def _has_room(self, builder: str | None) -> bool:
        """Whether one more may run on a builder."""
        limit = self.plan.limits.get(builder, self.jobs) if builder else self.jobs
        return self.running.total() < self.jobs and self.running[builder] < limit

    def _lost(self, solve: Solve) -> list[str]:
        """What a service builds on that has no image."""
        return [base for base in solve.depends_on if base not in self.solved]

    async def _service(self, solve: Solve, send: ObjectSendStream[Event]) -> None:
        if lost := self._lost(solve):
            finished = _unstarted(solve, _blocked(lost[0]))
        elif self.stop.requested:
            finished = _unstarted(solve, _cancelled())
        elif self.frozen:
            finished = _unstarted(solve, self.frozen)
        else:
            finished = await self._attempts(solve, send)
        if finished.solved:
            self.solved[solve.name] = finished.solved
        elif self.fail_fast and finished.failure and finished.failure.kind is not FailureKind.CANCELLED:
            self.stop.request()
        if finished.failure and finished.failure.kind is FailureKind.ENGINE_FROZEN:
            self.frozen = finished.failure
        self.running[solve.builder] -= 1
        self.ended.add(solve.name)
        self.changed.set()
        await send.send(finished)

    async def _attempts(self, solve: Solve, send: ObjectSendStream[Event]) -> SolveFinished:
        """Build, and build again while the failure is one that passes; within the service's deadline."""
        begun = anyio.current_time()
        started_at, attempt = now(), 0
        outcome: Solved | Failure = _cancelled()
        timeout = solve.spec.timeout
        with anyio.move_on_after(timeout) as deadline:
            while True:
                attempt += 1
                started_at = now()
                reason = self.reasons.get(solve.name, "")
                await send.send(SolveStarted(at=started_at, service=solve.name, attempt=attempt, reason=reason))
                outcome = await self._unless_stopped(solve, send)
                if isinstance(outcome, Solved) or not outcome.transient or attempt > _retries(solve, outcome):
                    break
                delay = _delay_s(outcome, attempt)
                if outcome.kind is FailureKind.ENGINE_RACE and attempt >= RACE_RETRIES:
                    solve = dataclasses.replace(solve, cache_import=False)
                await send.send(
                    SolveRetried(
                        at=now(),
                        service=solve.name,
                        attempt=attempt,
                        failure=outcome,
                        delay_s=round(delay, 3),
                    )
                )
                with anyio.move_on_after(delay):
                    await self.stop.wait()
                if self.stop.requested:
                    outcome = _cancelled()
                    break
        if deadline.cancelled_caught:
            outcome = _timed_out(timeout or 0)
        return SolveFinished(
            at=now(),
            service=solve.name,
            started_at=started_at,
            duration_s=round(anyio.current_time() - begun, 3),
            attempts=attempt,
            solved=outcome if isinstance(outcome, Solved) else None,
            failure=outcome if isinstance(outcome, Failure) else None,
        )

    async def _unless_stopped(self, solve: Solve, send: ObjectSendStream[Event]) -> Solved | Failure:
        """One attempt; whatever ends after a stop was asked for is cancelled, unless the image is there."""
        outcome: Solved | Failure = _cancelled()
        async with anyio.create_task_group() as group:

            async def cancel_on_stop() -> None:
                await self.stop.wait()
                group.cancel_scope.cancel()

            group.start_soon(cancel_on_stop)
            outcome = await self.solver.solve(solve, self.solved, send)
            group.cancel_scope.cancel()
        return _cancelled() if isinstance(outcome, Failure) and self.stop.requested else outcome


def _retries(solve: Solve, failure: Failure) -> int:
    """How often a transient failure is tried again."""
    wanted = solve.spec.retries
    match failure.kind:
        case FailureKind.ENGINE_RACE:
            return RACE_RETRIES if wanted else 0
        case FailureKind.CONTEXT_CHANGED:
            return min(wanted, 1)  # who writes into a context during two builds will do so during a third
        case _:
            return wanted


def _delay_s(failure: Failure, attempt: int) -> float:
    """How long to wait after an attempt: longer each time, and never the same, so that many do not come at once."""
    first_s = RATE_LIMIT_DELAY_S if failure.kind is FailureKind.RATE_LIMITED else RETRY_DELAY_S
    return jittered(first_s * 2.0 ** (attempt - 1))


def _unstarted(solve: Solve, failure: Failure) -> SolveFinished:
    return SolveFinished(at=now(), service=solve.name, started_at=None, duration_s=0.0, attempts=0, failure=failure)


def _blocked(base: str) -> Failure:
    return Failure(
        kind=FailureKind.BLOCKED,
        message=f"it builds on {base}, which has no image",
        hint=f"see {base}'s own error",
    )


def _cancelled() -> Failure:
    return Failure(kind=FailureKind.CANCELLED, message="the run was stopped before it was built")


def _timed_out(seconds: float) -> Failure:
    return Failure(
        kind=FailureKind.TIMED_OUT,
        message=f"it was not built within its timeout of {seconds:g} s",
        hint="raise `timeout` in the services file, or find the slow step in the record",
    )
