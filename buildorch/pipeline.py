"""The stages of a run, in order; the only module that knows them all.

    read the services file -> resolve a plan -> read its inputs -> decide -> execute -> measure -> judge -> commit

In: a `BuildRequest`. Out: a stream of events whose last is `RunFinished`. Touches: through its stages, the project's
folder, the engine, registries, the ledger and the run record.
"""

from __future__ import annotations

import dataclasses
import shutil
import tempfile
from contextlib import asynccontextmanager
from dataclasses import field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread

from buildorch import runs
from buildorch.buildx.deadlines import ANSWER_S
from buildorch.buildx.solver import BuildxSolver
from buildorch.doubting import DoubtingSolver
from buildorch.errors import EXIT_BUG, EXIT_INTERRUPTED, BuildorchError, first_own
from buildorch.events import Event, RunFinished, ServiceFinished, SolveFinished, now
from buildorch.execute import Stop, execute
from buildorch.keeping import KeepingSolver
from buildorch.preparing import BuildRequest, plan, preview
from buildorch.record import Report, ServiceRecord, Solved
from buildorch.schedule import by_urgency
from buildorch.streaming import streamed
from buildorch.timeline import Timelines
from buildorch.values import dataclass
from buildorch.watching import WatchingSolver

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from anyio.abc import ObjectReceiveStream, ObjectSendStream

    from buildorch.inputs import Inputs
    from buildorch.plan import Solve
    from buildorch.record import Step
    from buildorch.runs import Run
    from buildorch.settle import Images

POLL_S = 0.05
"""How often a lease that another run holds is asked for: the kernel tells nobody when it is free."""

__all__ = ["BuildRequest", "building", "plan", "preview", "stream"]


@asynccontextmanager
async def stream(request: BuildRequest, *, stop: Stop | None = None) -> AsyncIterator[ObjectReceiveStream[Event]]:
    """Build what was asked for, as a stream of events that ends with `RunFinished`.

    Leaving the block early cancels the builds; the run record is written all the same.

    Args:
        request: what to build.
        stop: asks for an early end from outside, as the command does on a signal.

    Raises:
        UsageError: the request cannot be carried out; nothing was built.
        EngineError: no engine, builder or buildx; nothing was built.
        LedgerError: the ledger cannot be opened or written.
        Busy: another run builds one of the services, and the request says not to wait; nothing was built.
    """
    opening = runs.opened(request)
    run = await anyio.to_thread.run_sync(opening.__enter__)
    try:
        async with building(run, fail_fast=request.fail_fast, stop=stop) as events:
            yield events
    finally:
        opening.__exit__(None, None, None)


@asynccontextmanager
async def building(
    run: Run, *, fail_fast: bool = False, stop: Stop | None = None
) -> AsyncIterator[ObjectReceiveStream[Event]]:
    """The events of a run that was opened already."""
    folder = Path(tempfile.mkdtemp(prefix="buildorch-"))
    try:
        built = _Building(run, folder, fail_fast, stop or Stop())
        async with streamed(built.drive) as events:
            try:
                yield events
            finally:
                built.is_left = True
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@dataclass()
class _Building:
    """A run whose builds go on."""

    run: Run
    folder: Path
    """For what the builds leave; somebody else removes it."""
    fail_fast: bool
    stop: Stop
    settled: dict[str, anyio.Event] = field(default_factory=dict)
    is_left: bool = False
    """Whether nobody reads the events any more."""

    async def drive(self, send: ObjectSendStream[Event]) -> None:
        """Run every stage; whatever happens, each service ends with a record and the run with its own."""
        run = self.run
        async with send:
            run.begin()
            try:
                alone = await self._wait_for_others(send)
                await send.send(run.started())
                if alone:
                    await self._build(send)
            except BaseException as error:
                # Cancelled from outside, or broken: what is known is recorded before anybody hears of it.
                with anyio.CancelScope(shield=True):
                    await anyio.to_thread.run_sync(self._close, _cut_off(error))
                raise
            told = set(run.records) - set(run.held)
            report = await anyio.to_thread.run_sync(self._close, None)
            for name, record in report.services.items():
                if name not in told:
                    await send.send(ServiceFinished(at=now(), service=name, record=record))
            await send.send(RunFinished(at=now(), report=report))

    async def _wait_for_others(self, send: ObjectSendStream[Event]) -> bool:
        """Wait until no other run builds what is to be built here; False where the end was asked for meanwhile."""
        told: set[str | None] = set()
        while awaited := self.run.awaited:
            other = awaited.holder.run_id if awaited.holder else None
            if other not in told:
                told.add(other)
                await send.send(awaited)
            with anyio.move_on_after(POLL_S):
                await self.stop.wait()
            if self.stop.requested:
                return False
            await anyio.to_thread.run_sync(self.run.take_leases)
        return True

    async def _build(self, send: ObjectSendStream[Event]) -> None:
        """Skip what can be skipped, and build the rest."""
        run, builds = self.run, self.run.builds
        expected_s = run.at_hand.ledger.durations(solve.name for solve in builds.solves)
        builds = dataclasses.replace(builds, solves=by_urgency(builds.solves, expected_s))
        images = run.at_hand.images(self._is_stopped)
        solves = {solve.name: solve for solve in builds.solves}
        self.settled = {name: anyio.Event() for name in solves}
        inputs = {name: one.inputs for name, one in run.decided.items()}
        is_frozen = partial(run.at_hand.engine.is_frozen, timeout_s=ANSWER_S)
        at_once = min(run.jobs, len(builds.solves))
        doubting = DoubtingSolver(BuildxSolver(run.at_hand.buildx, self.folder, is_frozen, run.is_staged, at_once))
        watching = WatchingSolver(doubting, run.at_hand.reread, inputs)
        timelines = Timelines()
        deployed = {name: one.deployed for name, one in run.decided.items() if one.deployed}
        for event in await anyio.to_thread.run_sync(run.skip, self._is_stopped):
            await send.send(event)
        for warning in await anyio.to_thread.run_sync(run.intend):
            await send.send(warning)
        async with (
            execute(
                builds,
                KeepingSolver(watching, run.at_hand.engine, deployed, run.is_staged),
                jobs=run.jobs,
                fail_fast=self.fail_fast,
                stop=self.stop,
                reasons={name: one.reason for name, one in run.decided.items()},
                solved={name: _solved(record) for name, record in run.records.items()},
            ) as events,
            anyio.create_task_group() as group,
        ):
            async for told in events:
                await send.send(told)
                timelines.update(told)
                if isinstance(told, SolveFinished):
                    timeline = timelines.of(told.service)
                    group.start_soon(self._settle, solves[told.service], told, timeline, watching.inputs, images, send)
        if not self._is_stopped():
            for event in await anyio.to_thread.run_sync(run.publish, self._is_stopped):
                await send.send(event)

    async def _settle(
        self,
        solve: Solve,
        finished: SolveFinished,
        timeline: tuple[Step, ...],
        built_from: Mapping[str, Inputs],
        images: Images,
        send: ObjectSendStream[Event],
    ) -> None:
        """One service from its solve's end to its durable record, after those it builds on."""
        with anyio.CancelScope(shield=True):
            try:
                for base in solve.depends_on:
                    if base in self.settled:
                        await self.settled[base].wait()
                inputs = built_from[solve.name]
                event = await anyio.to_thread.run_sync(
                    lambda: self.run.settle(solve, finished, inputs, images, timeline=timeline)
                )
            finally:
                self.settled[solve.name].set()
        if event:
            await send.send(event)

    def _is_stopped(self) -> bool:
        return self.stop.requested or self.is_left

    def _close(self, cut_off: int | None) -> Report:
        return self.run.close(interrupted=self.stop.exit_code or cut_off)


def _solved(record: ServiceRecord) -> Solved:
    """What other services build on, of one that was skipped."""
    pinned = all(one.manifest_digest for one in record.platforms.values())
    return Solved(name=record.reference, digest=record.digest, pinned=pinned)


def _cut_off(error: BaseException) -> int:
    """The exit code of a run that was broken off: cancelled, failed by an error of buildorch's own, or by a bug."""
    shown = first_own(error) if isinstance(error, BaseExceptionGroup) else error
    if isinstance(shown, BuildorchError):
        return shown.exit_code
    return EXIT_BUG if isinstance(shown, Exception) else EXIT_INTERRUPTED
