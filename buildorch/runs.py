"""One run's records: what is skipped, what was built, and the report at its end. No event loop is needed for it.

In: a `BuildRequest`. Out: a `Run`, whose methods give events and the `Report`. Touches: what `buildorch.preparing`
touches, the leases of what is built, the ledger and the run record; tags, where a pushed or a skipped image lacks one.

A run in which nothing has to be built or named is `begin`, `skip` and `close`.
"""

from __future__ import annotations

import dataclasses
import os
import time
from contextlib import ExitStack, contextmanager
from dataclasses import field
from datetime import UTC, datetime
from functools import cache, partial
from typing import TYPE_CHECKING, NamedTuple, get_args

from buildorch import judging, preparing, project
from buildorch.errors import Busy, EngineError, UsageError
from buildorch.events import RunStarted, ServiceFinished, SolveFinished, StepWarned, now
from buildorch.fingerprint import Build, Skip
from buildorch.plan import Publish
from buildorch.quantities import some_of
from buildorch.record import ENGINE_DIED, RUN_KILLED, Failure, FailureKind, GitFacts, Report, ServiceRecord
from buildorch.report.outcome import exit_code
from buildorch.settle import judged_again, settle, unjudged
from buildorch.skipping import is_proven, made_from, skipped
from buildorch.timeline import ended
from buildorch.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from buildorch.events import LeaseAwaited
    from buildorch.forecast import Forecast
    from buildorch.inputs import Inputs
    from buildorch.leases import Leases
    from buildorch.plan import Plan, Solve
    from buildorch.preparing import AtHand, BuildRequest
    from buildorch.record import Step
    from buildorch.settle import Images
    from buildorch.skipping import Decided

RECORD = "run.json"
KILLED = "the run was killed before this was recorded"
LEFT_RUNNING = (
    f"{ENGINE_DIED}look on its machine for a step that still runs, "
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
        run.require_publishable()
        if run.leased:
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
    unjudged: frozenset[str]
    """The services that are skipped and whose images have to be read and judged again."""
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
        decided = at_hand.decide(request)
        return Reading(at_hand, decided, _unjudged(at_hand, decided), record.absolute(), stack.pop_all())


def _unjudged(at_hand: AtHand, decided: Mapping[str, Decided]) -> frozenset[str]:
    means = at_hand.means()
    return frozenset(
        name
        for name, one in decided.items()
        if isinstance(one.decision, Skip) and not judging.is_judged(one.inputs.solve, one.decision.record, means)
    )


class Held(NamedTuple):
    """What is still to be done for a service whose names wait for those of all others."""

    lacking: tuple[str, ...]
    """The names to be moved."""
    snapshot: bytes | None
    """For its record."""


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
    held: dict[str, Held] = field(default_factory=dict)
    """The services that wait for all others, where all or none are published; their records are not committed."""
    published: bool = False
    """Whether names of what is held were moved."""

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
        solves = (one for one in self.solves if self._is_built(one.name))
        return dataclasses.replace(self.at_hand.planned.plan, solves=tuple(solves))

    def is_staged(self, solve: Solve) -> bool:
        """Whether a service's image is pushed first, and gets its names when it is known to be good.

        Not on the graphdriver store: what BuildKit calls an image's digest there is nothing a registry knows.
        """
        return solve.is_only_pushed and self.at_hand.facts.store != "graphdriver"

    @property
    def leased(self) -> list[str]:
        """The services that no other run may touch: those that are built, and those whose images lack names."""
        decided = self.decided
        return [one.name for one in self.solves if decided[one.name].untagged or self._is_built(one.name)]

    def _is_built(self, name: str) -> bool:
        return isinstance(self.decided[name].decision, Build)

    def require_publishable(self) -> None:
        """See that all can be held back, where all or none are to be published.

        Raises:
            UsageError: a service's names move with its build.
        """
        if self.request.publish not in get_args(Publish):
            raise UsageError(f"publish is {self.request.publish!r}", hint=f"one of {', '.join(get_args(Publish))}")
        if self.request.publish == "each":
            return
        others = tuple(one.name for one in self.solves if one.destination != "nowhere" and not self.is_staged(one))
        if not others:
            return
        hint = "add --push; a service with `outputs` of its own must have none but type=registry"
        if self.at_hand.facts.store == "graphdriver":
            hint = "let the engine use the containerd image store: https://docs.docker.com/engine/storage/containerd/"
        raise UsageError(f"all or none can be published only of what is pushed: not {some_of(others)}", hint=hint)

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
            self.awaited = self.leases.take(self.leased)
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
        self.require_publishable()

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

    def forecast(self) -> Forecast:
        """What is to be built is expected to take, by the ledger; of what is skipped nothing is read."""
        from buildorch.forecast import Forecast  # noqa: PLC0415 - for a view that draws it

        ledger, solves = self.at_hand.ledger, self.builds.solves
        names = [solve.name for solve in solves]
        depends_on = {solve.name: solve.depends_on for solve in solves}
        return Forecast(ledger.durations(names), ledger.step_durations(names), depends_on)

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
            self.warned[name] = (*self.warned.get(name, ()), f"{RUN_KILLED}{run_id}")
        return [
            StepWarned(service=name, message=text, line=None, url="")
            for name, texts in self.warned.items()
            for text in texts
        ]

    @property
    def is_judged(self) -> bool:
        """Whether no image that is skipped has to be read and judged again."""
        return not self.reading.unjudged

    def skip(self, stopped: Callable[[], bool] = lambda: False) -> list[ServiceFinished]:
        """The records of all that is not built, committed; their images get the names they lack.

        Args:
            stopped: asked before each and during trial starts; what comes behind a stop is left to `close`.
        """
        found: dict[str, ServiceRecord] = {}
        images = cache(partial(self.at_hand.images, stopped))
        for name, one in self.decided.items():
            if isinstance(one.decision, Skip) and not stopped():
                record = self._judged(one.inputs.solve, skipped(one, one.decision.record), images)
                if not one.untagged:
                    found[name] = record
                    continue
                named = tuple(reference for reference in record.references if reference not in one.untagged)
                record = dataclasses.replace(record, references=named)
                if self._waits_for_all(one.inputs.solve):
                    self._hold(name, record, Held(one.untagged, None))
                else:
                    found[name] = self._named(one.inputs.solve, record, one.untagged)
        if found:
            self.at_hand.ledger.commit_all(self.run_id, found)
            self.records |= found
            self._release(*found)
        return [ServiceFinished(at=now(), service=name, record=record) for name, record in found.items()]

    def _judged(self, solve: Solve, record: ServiceRecord, images: Callable[[], Images]) -> ServiceRecord:
        """The record of an image that stays, with what the rules of today say: read again where they are others."""
        if solve.name not in self.reading.unjudged:
            return judging.judged_today(solve.spec, record)
        try:
            return judged_again(solve, record, images())
        except EngineError as error:
            return dataclasses.replace(record, error=unjudged(error), status="failed")

    def _named(self, solve: Solve, record: ServiceRecord, lacking: tuple[str, ...]) -> ServiceRecord:
        """The record of an image with the names it has now: those it lacked too, unless something is against it."""
        from buildorch import publishing  # noqa: PLC0415 - for those who push, and for names that lack

        if self.is_staged(solve):
            if against := publishing.objection(record):
                return publishing.withhold(solve, record, against)
            [record] = publishing.checked({solve.name: record}).values()
        return record if record.error else publishing.publish(solve, record, lacking, engine=self.at_hand.engine)

    def _waits_for_all(self, solve: Solve) -> bool:
        return self.request.publish == "all-or-none" and self.is_staged(solve)

    def _hold(self, name: str, record: ServiceRecord, held: Held) -> None:
        """Keep a record back until `publish`: which names its image will have is not known before."""
        self.records[name] = record
        self.held[name] = held

    def publish(self, stopped: Callable[[], bool]) -> list[ServiceFinished]:
        """Move the names of everything that was held back, or none where something speaks against it; commit it.

        Nothing is moved once `stopped` says so: `close` commits what is held.
        """
        if not self.held:
            return []
        from buildorch import publishing  # noqa: PLC0415 - for runs that publish all or none

        everything = [solve.name for solve in self.solves]
        if not publishing.objections(self.records, everything):
            self.records |= publishing.checked({name: self.records[name] for name in self.held})
        if against := publishing.objections(self.records, everything):
            return self._withhold(against)
        if stopped():
            return []
        self.published = True
        waiting = {
            solve.name: (solve, self.records[solve.name], self.held[solve.name].lacking)
            for solve in self.solves
            if solve.name in self.held
        }
        self.records |= publishing.publish_all(waiting, engine=self.at_hand.engine)
        return self._commit_held()

    def _withhold(self, why: str) -> list[ServiceFinished]:
        """Commit everything that was held back, without the names it was to get."""
        from buildorch import publishing  # noqa: PLC0415 - for runs that publish all or none

        for solve in self.solves:
            if solve.name in self.held:
                self.records[solve.name] = publishing.withhold(solve, self.records[solve.name], why)
        return self._commit_held()

    def _commit_held(self) -> list[ServiceFinished]:
        names = list(self.held)
        for name in names:
            self._commit(name, self.records[name], snapshot=self.held[name].snapshot)
            del self.held[name]
        return [ServiceFinished(at=now(), service=name, record=self.records[name]) for name in names]

    def settle(
        self,
        solve: Solve,
        finished: SolveFinished,
        built_from: Inputs,
        images: Images,
        *,
        timeline: tuple[Step, ...] = (),
    ) -> ServiceFinished | None:
        """Measure what a solve left, judge it, give it its names and commit its record; those it builds on come first.

        Returns:
            None where its names wait for all others, and its record with them.
        """
        at_hand = self.at_hand
        record = settle(solve, finished, images, reason=self.decided[solve.name].reason)
        last = at_hand.past.images.get(solve.name)
        made = made_from(built_from, self.records, environment=at_hand.environment)
        record = dataclasses.replace(
            record,
            timeline=timeline,
            steps=record.steps if finished.solved else ended(timeline),
            warnings=(*self.warned.get(solve.name, ()), *record.warnings),
            unchanged=last is not None and record.digest is not None and record.digest == last.digest,
            fingerprint=made.digest if is_proven(built_from, record) else None,
            # BuildKit does not name what a build was held to.
            bases={**built_from.observed.bases, **record.bases} if record.digest else {},
        )
        snapshot = built_from.snapshot(made).to_bytes() if record.digest else None
        if self.is_staged(solve):
            record = self._named_before(solve, record)
            if record.digest and self._waits_for_all(solve):
                self._hold(solve.name, record, Held(solve.references, snapshot))
                return None
            if record.digest:
                record = self._named(solve, record, solve.references)
        self._commit(solve.name, record, snapshot=snapshot)
        return ServiceFinished(at=now(), service=solve.name, record=record)

    def _named_before(self, solve: Solve, record: ServiceRecord) -> ServiceRecord:
        """The record of what was pushed, with the names its image has had before."""
        had = self.decided[solve.name].named if record.unchanged else ()
        record = dataclasses.replace(record, references=had)
        if record.status != "built" or record.digest:
            return record
        from buildorch import publishing  # noqa: PLC0415 - nothing that happens

        return publishing.unpublished(record, "docker buildx does not say what it pushed")

    def close(self, *, interrupted: int | None = None) -> Report:
        """Write the run record and the ledger's last word.

        Args:
            interrupted: the exit code of a run that did not come to its end; services without a record are cancelled.
        """
        if self.published:
            self._commit_held()
        elif self.held:
            self._withhold("the run ended before it published")
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
        self._release(name)

    def _release(self, *names: str) -> None:
        """Let other runs build these services."""
        if self.leases:
            for name in names:
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
