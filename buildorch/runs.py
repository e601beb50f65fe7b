"""One run's records: what is skipped, what was built, and the report at its end. No event loop is needed for it.

In: a `BuildRequest`. Out: a `Run`, whose methods give events and the `Report`. Touches: what `buildorch.preparing`
touches, the leases of what is built, the ledger and the run record; tags, where a skipped image lacks one.

A run in which nothing has to be built is `begin`, `skip` and `close`.
"""

from __future__ import annotations

import dataclasses
import os
import time
from contextlib import ExitStack, contextmanager
from dataclasses import field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from buildorch import preparing, project
from buildorch.errors import Busy, EngineError, UsageError
from buildorch.events import RunStarted, ServiceFinished, SolveFinished, StepWarned, now
from buildorch.fingerprint import Build, Skip
from buildorch.record import Failure, FailureKind, GitFacts, Report, ServiceRecord
from buildorch.report.outcome import exit_code
from buildorch.retagging import retag
from buildorch.settle import Images, settle
from buildorch.skipping import is_proven, made_from, skipped
from buildorch.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from buildorch.events import LeaseAwaited
    from buildorch.inputs import Inputs
    from buildorch.inspection import LayerSizes
    from buildorch.leases import Leases
    from buildorch.plan import Plan, Solve
    from buildorch.preparing import AtHand, BuildRequest
    from buildorch.skipping import Decided

RECORD = "run.json"
KILLED = "the run was killed before this was recorded"
LEFT_RUNNING = (
    "the engine died during the last build of this service: look on its machine for a step that still runs, "
    "as it writes into the same cache mounts; then they may need another id"
)


@contextmanager
def opened(request: BuildRequest) -> Iterator[Run]:
    """A run that is about to begin; everything that can go wrong before a build starts goes wrong here.

    Raises:
        UsageError: the request cannot be carried out; nothing was built.
        EngineError: no engine, builder or buildx; nothing was built.
        LedgerError: the ledger cannot be opened, or has no space.
        Busy: another run builds one of the services, and the request says not to wait; nothing was built.
    """
    begun = time.monotonic()
    if request.jobs is not None and request.jobs < 1:
        raise UsageError(f"{request.jobs} builds at once are not possible", hint="give -j 1 or more")
    run = Run(request, _read(request), begun)
    try:
        if run.builds.solves:
            run.at_hand.ledger.require_space()
            if (awaited := run.take_leases()) and not request.wait:
                raise Busy(awaited.service, holder=awaited.holder_text)
        yield run
    finally:
        run.end()


@dataclass(frozen=True, slots=True)
class Reading:
    """All that a run rests on, read at one moment, and open until it is closed."""

    at_hand: AtHand
    decided: Mapping[str, Decided]
    record: Path
    opened: ExitStack


def _read(request: BuildRequest) -> Reading:
    asking = preparing.ask_engine()
    planned = preparing.plan(request, memory=True)
    record = request.record or planned.project.state / RECORD
    project.require_writable(record)
    with ExitStack() as stack:
        at_hand = stack.enter_context(preparing.opened(request, planned, asking))
        planned.project.remember()
        return Reading(at_hand, at_hand.decide(request), record.absolute(), stack.pop_all())


@dataclass()
class Run:
    """One run, and what it has recorded so far; threads may share it."""

    request: BuildRequest
    reading: Reading
    begun: float
    """By time.monotonic: what is looked at before a build counts too."""
    run_id: str = field(default_factory=lambda: f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{os.urandom(4).hex()}")
    started_at: str = field(default_factory=now)
    records: dict[str, ServiceRecord] = field(default_factory=dict)
    warned: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Service -> what was told before it was built."""
    awaited: LeaseAwaited | None = None
    """Who builds one of these services now; nothing may be built before that is over."""
    leases: Leases | None = None
    """None where nothing is to be built."""

    @property
    def at_hand(self) -> AtHand:
        """The engine, the ledger and the caches."""
        return self.reading.at_hand

    @property
    def decided(self) -> Mapping[str, Decided]:
        """Service -> whether it is built, and why."""
        return self.reading.decided

    @property
    def jobs(self) -> int:
        """How many builds run at once."""
        return self.request.jobs or self.at_hand.facts.cpus

    @property
    def solves(self) -> tuple[Solve, ...]:
        """Every service of the run, in dependency order."""
        return self.at_hand.planned.plan.solves

    @property
    def builds(self) -> Plan:
        """What is not skipped."""
        solves = (one for one in self.solves if isinstance(self.decided[one.name].decision, Build))
        return dataclasses.replace(self.at_hand.planned.plan, solves=tuple(solves))

    def take_leases(self) -> LeaseAwaited | None:
        """Hold the leases of all that is to be built; what was read before another run let go of one is read again.

        Returns:
            None where the builds may start, else who is to be waited for before this is asked again.

        Raises:
            UsageError, EngineError, LedgerError: as `opened`.
        """
        from buildorch import leases  # noqa: PLC0415 - for those who build

        if self.leases is None:
            self.leases = leases.Leases(self.at_hand.planned.project.state / leases.FOLDER, self.run_id)
        waited = self.awaited is not None
        while True:
            self.awaited = self.leases.take([solve.name for solve in self.builds.solves])
            if self.awaited or (not waited and self.at_hand.is_current()):
                return self.awaited
            self._read_again()
            waited = False

    def _read_again(self) -> None:
        """The plan too: a tag with the commit's name belongs to the files of that commit."""
        before = self.reading
        root = before.at_hand.planned.project.root
        # Whatever links and the working directory are now, it is the same project.
        self.request = dataclasses.replace(self.request, file=root / self.request.file.name, record=before.record)
        self.reading = _read(self.request)
        before.opened.close()

    def begin(self) -> None:
        """Note in the ledger that the run begins."""
        project_name = self.at_hand.planned.plan.project
        self.at_hand.ledger.begin(self.run_id, project=project_name, started_at=self.started_at)

    def started(self) -> RunStarted:
        """The plan stands."""
        return RunStarted(
            at=self.started_at,
            run_id=self.run_id,
            project=self.at_hand.planned.plan.project,
            services=tuple(solve.name for solve in self.solves),
            jobs=self.jobs,
            engine=self.at_hand.facts,
        )

    def intend(self) -> list[StepWarned]:
        """Note in the ledger what is about to be built; what is to be told before it is.

        BuildKit's steps outlive a dockerd that is killed, and go on writing into the cache mounts they have. A run that
        was killed has no last word of its own: its services get records that say so.
        """
        ledger, solves = self.at_hand.ledger, self.builds.solves
        for solve in solves:
            last = ledger.history(solve.name, limit=1)
            error = last[0].record.error if last else None
            if error and error.kind in {FailureKind.ENGINE_LOST, FailureKind.ENGINE_FROZEN}:
                self.warned[solve.name] = (LEFT_RUNNING,)
        killed = ledger.intend(self.run_id, {solve.name: _unfinished(solve, KILLED, reason="") for solve in solves})
        for name, run_id in killed.items():
            self.warned[name] = (*self.warned.get(name, ()), f"run {run_id} was killed while it was to build this")
        return [
            StepWarned(service=name, message=text, line=None, url="")
            for name, texts in self.warned.items()
            for text in texts
        ]

    def skip(self) -> list[ServiceFinished]:
        """The records of all that is not built, committed; their images get the names they lack."""
        found: dict[str, ServiceRecord] = {}
        for name, one in self.decided.items():
            if isinstance(one.decision, Skip):
                record = skipped(one, one.decision.record)
                found[name] = self._named(one, record)
        if found:
            self.at_hand.ledger.commit_all(self.run_id, found)
            self.records |= found
        return [ServiceFinished(at=now(), service=name, record=record) for name, record in found.items()]

    def _named(self, one: Decided, record: ServiceRecord) -> ServiceRecord:
        """The record of a skipped service whose image has all its names now; a failure where that cannot be."""
        if not one.untagged or record.digest is None:
            return record
        try:
            retag(one.inputs.solve, record.digest, one.untagged, engine=self.at_hand.engine)
        except EngineError as error:
            message = f"its image did not change, but could not be named {', '.join(one.untagged)}: {error}"
            failure = Failure(
                kind=FailureKind.OTHER, message=message, hint=error.hint or "run it again", exit_code=error.exit_code
            )
            return dataclasses.replace(record, status="failed", error=failure)
        return record

    def settle(
        self, solve: Solve, finished: SolveFinished, built_from: Inputs, *, sizes: LayerSizes
    ) -> ServiceFinished:
        """Measure what a solve left, judge it and commit its record; those it builds on come first."""
        at_hand = self.at_hand
        images = Images(at_hand.engine, at_hand.facts.store, sizes)
        record = settle(solve, finished, images, reason=self.decided[solve.name].reason)
        last = at_hand.past.images.get(solve.name)
        made = made_from(built_from, self.records, environment=at_hand.environment)
        record = dataclasses.replace(
            record,
            warnings=(*self.warned.get(solve.name, ()), *record.warnings),
            unchanged=last is not None and record.digest is not None and record.digest == last.digest,
            fingerprint=made.digest if is_proven(built_from, record) else None,
            # BuildKit does not name what a build was held to.
            bases={**built_from.observed.bases, **record.bases} if record.digest else {},
        )
        self._commit(solve.name, record, snapshot=built_from.snapshot(made).to_bytes() if record.digest else None)
        return ServiceFinished(at=now(), service=solve.name, record=record)

    def close(self, *, interrupted: int | None = None) -> Report:
        """Write the run record and the ledger's last word.

        Args:
            interrupted: the exit code of a run that did not come to its end; services without a record are cancelled.
        """
        for solve in self.solves:
            if solve.name not in self.records:
                reason = self.decided[solve.name].reason
                self._commit(solve.name, _unfinished(solve, "the run ended before it was built", reason=reason))
        at = self.at_hand.planned.revision
        report = Report(
            run_id=self.run_id,
            project=self.at_hand.planned.plan.project,
            started_at=self.started_at,
            duration_s=round(time.monotonic() - self.begun, 3),
            exit_code=exit_code(self.records.values(), interrupted=interrupted),
            jobs=self.jobs,
            git=GitFacts(sha=at.sha, branch=at.branch, dirty=at.dirty) if at else None,
            engine=self.at_hand.facts,
            services={solve.name: self.records[solve.name] for solve in self.solves},
        )
        self.at_hand.ledger.finish(report)
        project.write_atomically(self.reading.record, report.to_json())
        return report

    def _commit(self, name: str, record: ServiceRecord, *, snapshot: bytes | None = None) -> None:
        """Durable before it is known to anybody, and before another run may build the service."""
        self.at_hand.ledger.commit(self.run_id, name, record, snapshot=snapshot)
        self.records[name] = record
        if self.leases:
            self.leases.release(name)

    def end(self) -> None:
        """Let go of everything."""
        if self.leases:
            self.leases.release_all()
        self.reading.opened.close()


def _unfinished(solve: Solve, message: str, *, reason: str) -> ServiceRecord:
    """The record of a service that the run's end came before."""
    failure = Failure(kind=FailureKind.CANCELLED, message=message)
    finished = SolveFinished(at=now(), service=solve.name, started_at=None, duration_s=0.0, attempts=0, failure=failure)
    return settle(solve, finished, None, reason=reason)
