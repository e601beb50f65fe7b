"""What a run needs before anything is built: the request, its plan, what is at hand, and what is decided.

In: a `BuildRequest`. Out: `Planned`, `Preview`, `AtHand`. Touches: the project's folder, the engine, registries, the
ledger and the caches, for reading; nothing is built.
"""

from __future__ import annotations

import json
import os
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from buildorch import inputs, presence, project
from buildorch.bases.base import LOCK_FILE
from buildorch.buildx import client
from buildorch.context import StatCache
from buildorch.context.stat_cache import FILE_NAME as CONTEXTS_FILE
from buildorch.engine import Engine, containerd_of
from buildorch.fingerprint import Environment, keyed
from buildorch.judging import means
from buildorch.ledger import FILE_NAME as LEDGER_FILE
from buildorch.ledger import Ledger
from buildorch.meanwhile import Meanwhile
from buildorch.plan import Output, Plan, Publish, Revision, Selection, Solve, resolve
from buildorch.services import Override
from buildorch.settle import Images
from buildorch.skipping import Decided, Past, decide_all, presences
from buildorch.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from buildorch.bases import Base, Lock
    from buildorch.engine import EngineInfo
    from buildorch.judging import Means
    from buildorch.own_policies import OwnPolicy
    from buildorch.presence import Presence, Wanted
    from buildorch.record import EngineFacts, ServiceRecord

LAYERS_FOLDER = "layers"


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
    force: bool = False
    """Whether every service is built, whatever has not changed."""
    frozen: bool = False
    """Whether base images come from buildorch.lock alone; no registry is asked for them."""
    fail_fast: bool = False
    overrides: tuple[str, ...] = ()
    """`SERVICE.KEY=VALUE`, as --set takes them."""
    record: Path | None = None
    """Where the run record goes; .buildorch/run.json beside the services file by default."""
    publish: Publish = "each"
    """When pushed images get their names: `each` once it is there and keeps its policy, or `all-or-none`."""
    wait: bool = True
    """Whether a service that another run builds is waited for; else nothing is built."""
    allow_policies: bool = False
    """Whether the services file's own policies are asked: they are programs, which run as whoever builds."""


@dataclass(frozen=True, slots=True)
class Planned:
    """What a request comes to, before anything is built."""

    project: project.Project
    plan: Plan
    revision: Revision | None


def plan(request: BuildRequest, *, memory: bool = False) -> Planned:
    """The plan of a request; needs no engine.

    Args:
        request: what to build and how.
        memory: whether the services file may be recalled (`buildorch.services.memory`): a run's own shortcut.

    Raises:
        UsageError: the services file or the request cannot be used.
    """
    found = project.read(request.file, overrides=[Override.parse(text) for text in request.overrides], memory=memory)
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


@dataclass(frozen=True, slots=True)
class Preview:
    """What a request would do, and why."""

    plan: Plan
    decided: Mapping[str, Decided]


def preview(request: BuildRequest) -> Preview:
    """What `stream` would build and skip; builds nothing and writes nothing but caches.

    Raises:
        UsageError, EngineError, LedgerError: as `stream`.
    """
    asking = ask_engine()
    planned = plan(request)
    with opened(request, planned, asking) as at_hand:
        return Preview(planned.plan, at_hand.decide(request))


@dataclass(frozen=True, slots=True)
class AtHand:
    """What a run works with: the engine, the ledger, the caches."""

    planned: Planned
    buildx: client.Buildx
    engine: Engine
    info: EngineInfo
    facts: EngineFacts
    ledger: Ledger
    surroundings: inputs.Surroundings
    environment: Environment
    past: Past
    own: Sequence[OwnPolicy] = ()
    """The services file's own policies, where they are allowed."""

    def images(self, is_stopped: Callable[[], bool] = lambda: False) -> Images:
        """Where images are read and judged; what is known of layers is known to all who share it.

        Args:
            is_stopped: asked during trial starts.
        """
        from buildorch.contents import LayerMemory  # noqa: PLC0415 - a run that skips everything reads no image
        from buildorch.inspection import Layers  # noqa: PLC0415

        memory = LayerMemory(self.planned.project.state / LAYERS_FOLDER)
        layers = Layers(self.ledger.layer_sizes, memory=memory, facts=self.ledger)
        means = self.means(is_stopped)
        return Images(self.engine, self.facts.store, layers, means, containerd_of(self.info))

    def means(self, is_stopped: Callable[[], bool] = lambda: False) -> Means:
        """What judging images takes."""
        lock = self.surroundings.lock
        return means(
            self.planned.plan,
            engine=self.engine,
            key=self.surroundings.key,
            locked=lock.bases if lock else (),
            own=self.own,
            is_stopped=is_stopped,
        )

    def decide(self, request: BuildRequest) -> dict[str, Decided]:
        """Build or skip, for every service of the plan."""
        asked = "--force" if request.force else "--no-cache" if request.no_cache else ""
        looking = None if asked else Meanwhile(self._presences)
        read = inputs.read(self.planned.plan, self.surroundings)
        there = looking.answer() if looking else {}
        return decide_all(read, self.past, environment=self.environment, asked=asked, presences=there)

    def is_current(self) -> bool:
        """Whether the ledger has the images of these services that it had when it was read."""
        now, then = self.ledger.images(), self.past.images
        return all(_made(now.get(solve.name)) == _made(then.get(solve.name)) for solve in self.planned.plan.solves)

    def _presences(self) -> dict[str, dict[str, Presence]]:
        """Which images are where this run wants them."""
        return presences(
            self.planned.plan.solves,
            self.past,
            in_engine=lambda images: presence.in_engine(images, self.engine, info=self.info),
            in_registries=_in_registries,
        )

    def reread(self, solve: Solve) -> inputs.Inputs:
        """One service's inputs as they are now; with it what it builds on, whose ONBUILD is among them."""
        wanted = {solve.name, *solve.depends_on}
        originals = tuple(one for one in self.planned.plan.solves if one.name in wanted)
        return inputs.read(Plan(self.planned.plan.project, originals), self.surroundings)[solve.name]


def ask_engine() -> Meanwhile[tuple[Engine, EngineInfo]]:
    """Ask the engine what it is: it takes 10 ms to say so, in which the services file can be read."""

    def ask() -> tuple[Engine, EngineInfo]:
        engine = Engine.at(client.find_endpoint())
        return engine, engine.info()

    return Meanwhile(ask)


@contextmanager
def opened(request: BuildRequest, planned: Planned, asking: Meanwhile[tuple[Engine, EngineInfo]]) -> Iterator[AtHand]:
    """Everything at hand, closed at the end."""
    state = planned.project.state
    own = _own_policies(planned) if request.allow_policies else ()
    buildx = client.find_buildx()
    with ExitStack() as stack:
        ledger = stack.enter_context(Ledger(state / LEDGER_FILE))
        engine, info = asking.answer()
        facts = info.facts(_buildx_version(buildx, ledger))
        client.require_builders({solve.builder for solve in planned.plan.solves if solve.builder})
        key = inputs.key(state)
        proxies = client.proxies()
        yield AtHand(
            planned=planned,
            buildx=buildx,
            engine=engine,
            info=info,
            facts=facts,
            ledger=ledger,
            surroundings=inputs.Surroundings(
                cache=stack.enter_context(StatCache(state / CONTEXTS_FILE)),
                key=key,
                lock=_lock(planned.project.root / LOCK_FILE),
                frozen=request.frozen,
                mirrors=info.mirrors,
                builder=client.current_builder(),
                onbuild=partial(_onbuild, ledger, info.mirrors),
            ),
            environment=Environment(
                engine=info.version,
                buildx=facts.buildx,
                store=info.store,
                platform=info.platform,
                variables=inputs.variables(key, os.environ),
                proxies=keyed(key, proxies) if proxies else "",
            ),
            past=Past(ledger.images(), frozenset(ledger.services()), ledger.snapshot),
            own=own,
        )


def _own_policies(planned: Planned) -> Sequence[OwnPolicy]:
    from buildorch import own_policies  # noqa: PLC0415 - only where they are allowed

    return own_policies.load(planned.plan.policies, planned.project.root)


def _made(record: ServiceRecord | None) -> tuple[str | None, str | None]:
    """What was made and from what: a record of a skip says the same of its image as that of the build."""
    return (record.digest, record.fingerprint) if record else (None, None)


def _in_registries(images: Sequence[Wanted]) -> Sequence[Presence]:
    return presence.in_registries(images)  # loaded where something was pushed


def _lock(path: Path) -> Lock | None:
    if not path.exists():
        return None
    from buildorch.bases import lockfile  # noqa: PLC0415 - only where there is one

    return lockfile.read(path)


def _onbuild(ledger: Ledger, mirrors: Sequence[str], base: Base, platforms: Sequence[str]) -> tuple[str, ...] | None:
    """The triggers of a base image; remembered, as they are a property of its digest."""
    key = f"onbuild {base.digest} {','.join(platforms)}"
    known = ledger.fact(key)
    if known is None:
        from buildorch.bases.triggers import onbuild  # noqa: PLC0415 - once for each digest, ever

        found = onbuild(base, platforms, mirrors=mirrors)
        if found is None:
            return None
        ledger.remember(key, json.dumps(found))
        return found
    return tuple(map(str, json.loads(known)))


def _buildx_version(buildx: client.Buildx, ledger: Ledger) -> str:
    """The plugin's version; asked once for each plugin, as the question is a process of 85 ms of CPU."""
    key = f"buildx {buildx.stamp}"
    known = ledger.fact(key)
    if known is None:
        known = buildx.version()
        ledger.remember(key, known)
    return known
