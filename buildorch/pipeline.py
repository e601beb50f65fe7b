"""The stages of a run, in order; the only module that knows them all.

    read the services file -> resolve a plan -> execute it -> measure -> judge -> commit -> report

In: a `BuildRequest`. Out: a stream of events whose last is `RunFinished`. Touches: through its stages, the project's
folder, the engine, registries, the ledger and the run record.
"""

from __future__ import annotations

import secrets
import shutil
import tempfile
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import anyio.from_thread
import anyio.to_thread

from buildorch import project
from buildorch.buildx import client
from buildorch.buildx.solver import BuildxSolver
from buildorch.engine import Engine
from buildorch.errors import EXIT_BUG, EXIT_INTERRUPTED, BuildorchError, UsageError, first_own
from buildorch.events import Event, RunFinished, RunStarted, ServiceFinished, SolveFinished
from buildorch.execute import Stop, execute, now
from buildorch.inspection import LayerSizes
from buildorch.ledger import FILE_NAME as LEDGER_FILE
from buildorch.ledger import Ledger
from buildorch.plan import Output, Plan, Revision, Selection, Solve, resolve
from buildorch.record import EngineFacts, Failure, FailureKind, GitFacts, Report, ServiceRecord
from buildorch.report.outcome import exit_code
from buildorch.services import Override
from buildorch.settle import Images, settle

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from anyio.abc import ObjectReceiveStream, ObjectSendStream

    from buildorch.execute import Solver

RECORD = "run.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildRequest:
    """What to build and how; the command, the API and the Makefile all say it with this."""

    file: Path = Path("services.yaml")
    """The services file."""
    services: tuple[str, ...] = ()
    """These and what they need; none for all."""
    jobs: int | None = None
    """How many solves run at once; the engine's number of CPUs by default."""
    output: Output = "load"
    """`load` into the engine's image store, or `push` to the registry in the image's name."""
    platforms: tuple[str, ...] = ()
    builder: str | None = None
    no_cache: bool = False
    fail_fast: bool = False
    overrides: tuple[str, ...] = ()
    """`SERVICE.KEY=VALUE`, as --set takes them."""
    record: Path | None = None
    """Where the run record goes; .buildorch/run.json beside the services file by default."""


@dataclass(frozen=True, slots=True)
class Planned:
    """What a request comes to, before anything is built."""

    project: project.Project
    plan: Plan
    revision: Revision | None


def plan(request: BuildRequest) -> Planned:
    """The plan of a request; needs no engine.

    Raises:
        UsageError: the services file or the request cannot be used.
    """
    found = project.read(request.file, overrides=[Override.parse(text) for text in request.overrides])
    at, _ = project.revision(found.root)
    chosen = Selection(
        services=request.services,
        output=request.output,
        platforms=request.platforms,
        builder=request.builder,
        no_cache=request.no_cache,
    )
    today = datetime.now(UTC).strftime("%Y%m%d")
    planned = resolve(found.file, chosen, root=found.root, revision=at, date=today)
    project.require_inputs(found, planned)
    return Planned(found, planned, at)


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
    """
    run = await anyio.to_thread.run_sync(_prepare, request, stop or Stop())
    send, receive = anyio.create_memory_object_stream[Event](0)
    try:
        async with receive, anyio.create_task_group() as group:
            group.start_soon(run.drive, send)
            yield receive
            group.cancel_scope.cancel()
    except BaseExceptionGroup as errors:
        raise first_own(errors) from None
    finally:
        shutil.rmtree(run.folder, ignore_errors=True)
        run.ledger.close()


def _prepare(request: BuildRequest, stop: Stop) -> _Run:
    """Everything that can go wrong before a build starts goes wrong here."""
    if request.jobs is not None and request.jobs < 1:
        raise UsageError(f"{request.jobs} builds at once are not possible", hint="give -j 1 or more")
    planned = plan(request)
    record = request.record or planned.project.state / RECORD
    project.require_writable(record)
    buildx = client.find_buildx()
    engine = Engine.at(client.find_endpoint())
    ledger = Ledger(planned.project.state / LEDGER_FILE)
    try:
        facts = engine.facts(_buildx_version(buildx, ledger))
        client.require_builders({solve.builder for solve in planned.plan.solves if solve.builder})
        folder = Path(tempfile.mkdtemp(prefix="buildorch-"))
    except BaseException:
        ledger.close()
        raise
    return _Run(
        planned=planned,
        solver=BuildxSolver(buildx, folder),
        engine=engine,
        facts=facts,
        ledger=ledger,
        record=record,
        folder=folder,
        jobs=request.jobs or facts.cpus,
        fail_fast=request.fail_fast,
        stop=stop,
    )


def _buildx_version(buildx: client.Buildx, ledger: Ledger) -> str:
    """The plugin's version; asked once for each plugin, as the question is a process of 85 ms of CPU."""
    key = f"buildx {buildx.stamp}"
    known = ledger.fact(key)
    if known is None:
        known = buildx.version()
        ledger.remember(key, known)
    return known


@dataclass
class _Run:
    """One run's resources and what it has recorded so far."""

    planned: Planned
    solver: Solver
    engine: Engine
    facts: EngineFacts
    ledger: Ledger
    record: Path
    folder: Path
    jobs: int
    fail_fast: bool
    stop: Stop
    run_id: str = field(default_factory=lambda: f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(4)}")
    started_at: str = field(default_factory=now)
    begun: float = 0.0
    records: dict[str, ServiceRecord] = field(default_factory=dict)
    reasons: Mapping[str, str] = field(default_factory=dict)

    async def drive(self, send: ObjectSendStream[Event]) -> None:
        """Run every stage; whatever happens, each service ends with a record and the run with its own."""
        self.begun = anyio.current_time()
        solves = {solve.name: solve for solve in self.planned.plan.solves}
        sizes = LayerSizes(self.ledger.layer_sizes)
        self.ledger.begin(self.run_id, project=self.planned.plan.project, started_at=self.started_at)
        known = set(self.ledger.services())
        self.reasons = {name: "every run builds" if name in known else "first build" for name in solves}
        async with send:
            try:
                await send.send(self._started(tuple(solves)))
                async with (
                    execute(
                        self.planned.plan,
                        self.solver,
                        jobs=self.jobs,
                        fail_fast=self.fail_fast,
                        stop=self.stop,
                        reasons=self.reasons,
                    ) as events,
                    anyio.create_task_group() as group,
                ):
                    async for event in events:
                        await send.send(event)
                        if isinstance(event, SolveFinished):
                            group.start_soon(self._settle, solves[event.service], event, sizes, send)
            except BaseException as error:
                # Cancelled from outside, or broken: what is known is recorded before anybody hears of it.
                with anyio.CancelScope(shield=True):
                    await anyio.to_thread.run_sync(self._close, _cut_off(error))
                raise
            report = await anyio.to_thread.run_sync(self._close, None)
            await send.send(RunFinished(at=now(), report=report))

    async def _settle(
        self, solve: Solve, finished: SolveFinished, sizes: LayerSizes, send: ObjectSendStream[Event]
    ) -> None:
        """One service from its solve's end to its durable record."""
        with anyio.CancelScope(shield=True):
            record = await anyio.to_thread.run_sync(self._recorded, solve, finished, sizes)
        await send.send(ServiceFinished(at=now(), service=solve.name, record=record))

    def _recorded(self, solve: Solve, finished: SolveFinished, sizes: LayerSizes) -> ServiceRecord:
        """Measure, judge and commit."""
        images = Images(self.engine, self.facts.store, sizes)
        record = settle(solve, finished, images, reason=self.reasons[solve.name])
        self.ledger.commit(self.run_id, solve.name, record)
        self.records[solve.name] = record
        return record

    def _started(self, names: tuple[str, ...]) -> RunStarted:
        return RunStarted(
            at=self.started_at,
            run_id=self.run_id,
            project=self.planned.plan.project,
            services=names,
            jobs=self.jobs,
            engine=self.facts,
        )

    def _close(self, cut_off: int | None) -> Report:
        """Write the run record and the ledger's last word; `cut_off` is the exit code where the run was broken off."""
        for solve in self.planned.plan.solves:
            if solve.name not in self.records:
                failure = Failure(kind=FailureKind.CANCELLED, message="the run ended before it was built")
                finished = SolveFinished(
                    at=now(), service=solve.name, started_at=None, duration_s=0.0, attempts=0, failure=failure
                )
                record = settle(solve, finished, None, reason=self.reasons.get(solve.name, ""))
                self.ledger.commit(self.run_id, solve.name, record)
                self.records[solve.name] = record
        at = self.planned.revision
        report = Report(
            run_id=self.run_id,
            project=self.planned.plan.project,
            started_at=self.started_at,
            duration_s=round(anyio.from_thread.run_sync(anyio.current_time) - self.begun, 3),
            exit_code=exit_code(self.records.values(), interrupted=self.stop.exit_code or cut_off),
            jobs=self.jobs,
            git=GitFacts(sha=at.sha, branch=at.branch, dirty=at.dirty) if at else None,
            engine=self.facts,
            services={solve.name: self.records[solve.name] for solve in self.planned.plan.solves},
        )
        self.ledger.finish(report)
        project.write_atomically(self.record, report.to_json())
        return report


def _cut_off(error: BaseException) -> int:
    """The exit code of a run that was broken off: cancelled, failed by an error of buildorch's own, or by a bug."""
    shown = first_own(error) if isinstance(error, BaseExceptionGroup) else error
    if isinstance(shown, BuildorchError):
        return shown.exit_code
    return EXIT_BUG if isinstance(shown, Exception) else EXIT_INTERRUPTED
