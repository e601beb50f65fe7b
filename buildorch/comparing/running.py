"""The variants of a comparison, one after another, since their times are compared: `stream(bench)`.

    base images -> cold build -> measure and judge -> the same again -> push and pull; and all of it is removed

In: a `Bench`. Out: a stream of events whose last is the `Comparison`. Touches: the engine, the registry that was named,
and a temporary folder.
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

from buildorch import __version__, inputs
from buildorch.bases.named import named
from buildorch.bases.names import key
from buildorch.bases.pinning import SCHEME
from buildorch.buildx.deadlines import ANSWER_S
from buildorch.buildx.solver import BuildxSolver
from buildorch.comparing import images
from buildorch.comparing.isolation import Isolation, apart, bases_dockerfile, bases_solve, isolated
from buildorch.contents import LayerMemory
from buildorch.engine import containerd_of
from buildorch.errors import EXIT_BUILD_FAILED, EXIT_OK
from buildorch.events import RunFinished, RunStarted, SolveFinished, now
from buildorch.execute import Stop, execute
from buildorch.inspection import Layers
from buildorch.plan import Plan
from buildorch.record import Failure, FailureKind, Solved
from buildorch.report.comparison import Comparison, Row
from buildorch.settle import Images
from buildorch.streaming import streamed
from buildorch.values import dataclass
from buildorch.watching import unbelieved

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from anyio.abc import ObjectReceiveStream, ObjectSendStream

    from buildorch.comparing.bench import Bench, Trial
    from buildorch.events import Event
    from buildorch.plan import Solve

    Told = Event | Comparison

UNNAMED = "no registry was named with --pull"


@asynccontextmanager
async def stream(bench: Bench, *, stop: Stop | None = None) -> AsyncIterator[ObjectReceiveStream[Told]]:
    """Build, measure and remove every variant, as a stream of events that ends with the `Comparison`.

    An event's `service` is the variant's name. Leaving the block early cancels what runs; all is removed all the same.
    """
    folder = Path(tempfile.mkdtemp(prefix="buildorch-"))
    try:
        async with streamed(_Comparing(bench, folder, stop or Stop()).drive) as events:
            yield events
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@dataclass()
class _Comparing:
    """A comparison that goes on."""

    bench: Bench
    folder: Path
    stop: Stop
    solved: dict[str, Solved] = field(default_factory=dict)
    """What the service builds on, built under names of its own."""
    lost: Failure | None = None
    """Why one of those has no image, and so no variant can be built."""
    left: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        at_hand = self.bench.at_hand
        # Not what the ledger remembers of layers: a comparison writes nothing there.
        layers = Layers({}, memory=LayerMemory(self.folder / "layers"))
        means = at_hand.means(lambda: self.stop.requested)
        self.images = Images(at_hand.engine, at_hand.facts.store, layers, means, containerd_of(at_hand.info))
        is_frozen = partial(at_hand.engine.is_frozen, timeout_s=ANSWER_S)
        self.solver = BuildxSolver(at_hand.buildx, self.folder, is_frozen)

    async def drive(self, send: ObjectSendStream[Told]) -> None:
        """Every variant, in order, and what came out."""
        compared_at = now()
        async with send:
            try:
                await self._build_needed(send)
                rows = tuple([await self._row(trial, send) for trial in self.bench.trials])
            finally:
                with anyio.CancelScope(shield=True):
                    await anyio.to_thread.run_sync(self._remove_the_rest)
            await send.send(self._comparison(rows, compared_at))

    def _comparison(self, rows: tuple[Row, ...], compared_at: str) -> Comparison:
        request, at_hand = self.bench.request, self.bench.at_hand
        failed = EXIT_BUILD_FAILED if any(row.error for row in rows) else EXIT_OK
        return Comparison(
            project=at_hand.planned.plan.project,
            service=request.service,
            platform=next((row.platform for row in rows if row.platform), ""),
            compared_at=compared_at,
            version=__version__,
            engine=at_hand.facts,
            registry=request.pull,
            rows=rows,
            left=tuple(self.left),
            exit_code=self.stop.exit_code or failed,
        )

    async def _build_needed(self, send: ObjectSendStream[Told]) -> None:
        """What the service builds on, as any build does it, but for the names of the images."""
        if not self.bench.needed:
            return
        project = self.bench.at_hand.planned.plan.project
        found = await anyio.to_thread.run_sync(
            inputs.read, Plan(project, self.bench.needed), self.bench.at_hand.surroundings
        )
        for base in self.bench.needed:
            solve = apart(found[base.name].solve, self._name_of(base))
            finished = await self._build(solve, base.name, f"{self.bench.request.service} builds on it", send)
            if finished.solved is None:
                why = finished.failure.message if finished.failure else "it was not built"
                message = f"it builds on {base.name}, which has no image: {why}"
                self.lost = Failure(kind=FailureKind.BLOCKED, message=message)
                return
            self.solved[base.name] = finished.solved

    def _name_of(self, base: Solve) -> str:
        return Isolation(base.name, self.bench.word, 0).name("base")

    async def _build(self, solve: Solve, label: str, reason: str, send: ObjectSendStream[Told]) -> SolveFinished:
        """One build, whose events bear the label."""
        finished: SolveFinished | None = None
        plan = Plan(self.bench.at_hand.planned.plan.project, (solve,))
        async with execute(
            plan, self.solver, jobs=1, stop=self.stop, reasons={solve.name: reason}, solved=self.solved
        ) as events:
            async for event in events:
                if isinstance(event, SolveFinished):
                    finished = event
                if not isinstance(event, RunStarted | RunFinished):
                    await send.send(dataclasses.replace(event, service=label))
        if finished is None:
            raise AssertionError("a solve ends with SolveFinished")
        return finished

    async def _row(self, trial: Trial, send: ObjectSendStream[Told]) -> Row:
        row = Row(variant=trial.variant.name, changes=trial.variant.changes)
        if self.lost:
            return dataclasses.replace(row, error=self.lost)
        try:
            return await self._tried(trial, row, send)
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(self._remove, trial)

    async def _tried(self, trial: Trial, row: Row, send: ObjectSendStream[Told]) -> Row:
        """One variant from its base images to its pull; it ends where something fails."""
        if failure := await self._fetch_bases(trial, send):
            return dataclasses.replace(row, error=failure)
        cold = await self._build(_loaded(trial, "cold"), row.variant, "cold", send)
        if not cold.solved:
            return dataclasses.replace(row, error=cold.failure)
        bases = {**trial.read.observed.bases, **cold.solved.bases}
        row = dataclasses.replace(row, cold_s=cold.duration_s, cold_steps=cold.solved.steps, bases=bases)
        looking = partial(images.looked_at, warnings=cold.solved.warnings)
        row = await anyio.to_thread.run_sync(looking, trial.read.solve, row, trial.names.name("cold"), self.images)
        if row.error:
            return row
        cached = await self._build(_loaded(trial, "cached"), row.variant, "the same again", send)
        if not cached.solved:
            return dataclasses.replace(row, error=cached.failure)
        row = dataclasses.replace(row, cached_s=cached.duration_s, cached_steps=cached.solved.steps)
        if changed := await anyio.to_thread.run_sync(trial.read.changed):
            return dataclasses.replace(row, error=unbelieved(changed))
        return await self._pulled(trial, row, send)

    async def _fetch_bases(self, trial: Trial, send: ObjectSendStream[Told]) -> Failure | None:
        """Have the base images at hand; why they are not."""
        solve, folder = trial.read.solve, self.folder / trial.names.mark
        bases = [solve.pins.get(key(image), image).removeprefix(SCHEME) for image in named(solve)]
        if not bases:
            return None
        folder.mkdir()
        (folder / "Dockerfile").write_text(bases_dockerfile(bases, trial.names.mark))
        fetching = bases_solve(solve, trial.names, folder)
        return (await self._build(fetching, trial.variant.name, "its base images", send)).failure

    async def _pulled(self, trial: Trial, row: Row, send: ObjectSendStream[Told]) -> Row:
        if not (reference := self._pushed_name(trial)):
            return dataclasses.replace(row, pull_note=UNNAMED)
        output = f"type=image,push=true,store=false{trial.variant.exported}"
        solve = isolated(trial.read.solve, trial.names, reference, output=output)
        pushed = await self._build(solve, row.variant, "pushed, to be pulled", send)
        if pushed.failure:
            return dataclasses.replace(row, pull_note=f"it was not pushed: {pushed.failure.message}")
        pulling = partial(images.pulled, is_stopped=lambda: self.stop.requested)
        return await anyio.to_thread.run_sync(pulling, row, reference)

    def _pushed_name(self, trial: Trial) -> str:
        registry = self.bench.request.pull
        return trial.names.name("pull", registry=registry) if registry else ""

    def _remove(self, trial: Trial) -> None:
        """Take away what one variant left."""
        own = (trial.names.name(what) for what in ("cold", "cached"))
        self.left.extend(images.untag(own, self.bench.at_hand.engine))
        if reference := self._pushed_name(trial):
            self.left.extend(images.unpush(reference))

    def _remove_the_rest(self) -> None:
        """What all variants share: the images they were built on, and the name of their cache mounts."""
        engine = self.bench.at_hand.engine
        self.left.extend(images.untag(map(self._name_of, self.bench.needed), engine))
        self.left.extend(images.forget(self.bench.word, engine))


def _loaded(trial: Trial, what: str) -> Solve:
    return isolated(trial.read.solve, trial.names, trial.names.name(what), output=trial.output)
