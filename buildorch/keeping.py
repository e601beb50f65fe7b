"""A solver that keeps the digest that is deployed, where a build gives the same image once more.

In: a `Solver`, and the last image of each service. Out: what that solver gives, with the last image's digest where its
platforms' manifests came out the same. Touches: names of images, in the engine or in a registry.

Attestations hold times, so an index with them is another at every build, while the manifests it lists are the same
(https://docs.docker.com/build/metadata/attestations/slsa-provenance/). This is decided before the service counts as
built: what builds on it must be given the index that stays.
"""

from __future__ import annotations

import dataclasses
from contextlib import suppress
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread

from buildorch.errors import EngineError
from buildorch.oci import ImageIndex, is_index, load_json
from buildorch.record import Failure, FailureKind, Solved
from buildorch.retagging import retag
from buildorch.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from anyio.abc import ObjectSendStream

    from buildorch.engine import Engine
    from buildorch.events import Event
    from buildorch.execute import Solver
    from buildorch.plan import Solve
    from buildorch.record import ServiceRecord

HOLDING = "buildorch.invalid/held"
"""The repository of the names that hold an image while a build has its own; `.invalid` is nobody's (RFC 2606)."""


@dataclass(frozen=True, slots=True)
class KeepingSolver:
    """Builds by another solver, and moves the names back where nothing came of it; a `buildorch.execute.Solver`."""

    solver: Solver
    engine: Engine
    deployed: Mapping[str, ServiceRecord]
    """Service -> its last image, where a build may give the same one under another digest."""
    is_staged: Callable[[Solve], bool] = lambda _: False
    """Whether a service's build has not moved its names, so that there is nothing to move back."""

    async def solve(
        self, solve: Solve, bases: Mapping[str, Solved], events: ObjectSendStream[Event]
    ) -> Solved | Failure:
        """Build one service; its digest is the last one's where its image is."""
        last = self.deployed.get(solve.name)
        if last is None or not await anyio.to_thread.run_sync(self._hold, solve, last):
            return await self.solver.solve(solve, bases, events)
        try:
            outcome = await self.solver.solve(solve, bases, events)
            if isinstance(outcome, Failure):
                return outcome
            return await anyio.to_thread.run_sync(self._kept, solve, outcome, last)
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(self._let_go, solve, last)

    def _hold(self, solve: Solve, last: ServiceRecord) -> bool:
        """See to it that the last image outlives the build; False where it is gone already.

        The engine forgets an index as soon as a build has taken its last name.
        """
        try:
            if solve.destination == "engine":
                self.engine.tag(str(last.digest), HOLDING, tag=_tag(last))
            else:
                _in_registry(solve, str(last.digest))
        except EngineError:
            return False  # gone, or nobody answers: the build itself will tell
        return True

    def _kept(self, solve: Solve, made: Solved, last: ServiceRecord) -> Solved | Failure:
        if made.digest is None or not made.pinned or made.digest == last.digest:
            return made
        try:
            if self._manifests(solve, made.digest) != {one.manifest_digest for one in last.platforms.values()}:
                return made
            if not self.is_staged(solve):
                retag(solve, str(last.digest), solve.references, engine=self.engine)
        except EngineError as error:
            return Failure(
                kind=FailureKind.OTHER,
                message=f"it could not be kept at {last.digest}, which it came out as once more: {error}",
                hint=error.hint or "run it again",
                exit_code=error.exit_code,
                transient=True,
            )
        return dataclasses.replace(made, digest=last.digest)

    def _manifests(self, solve: Solve, digest: str) -> set[str | None]:
        """The platforms' manifests of what was built."""
        if solve.destination == "engine":
            from buildorch.inspection import EngineSource  # noqa: PLC0415 - only where there is an index to read

            data = EngineSource(self.engine).document(digest)
        else:
            data = _in_registry(solve, digest)
        raw = load_json(data, "image manifest or index")
        if not is_index(raw):
            return {digest}
        return {one.digest for one in ImageIndex.from_json(raw).manifests}

    def _let_go(self, solve: Solve, last: ServiceRecord) -> None:
        """Take the name away again; an engine that is gone has told so already, and the next build takes it away."""
        if solve.destination == "engine":
            with suppress(EngineError):
                self.engine.untag(f"{HOLDING}:{_tag(last)}")


def _tag(last: ServiceRecord) -> str:
    return str(last.digest).replace(":", "-")


def _in_registry(solve: Solve, digest: str) -> bytes:
    from buildorch.inspection import RegistrySource  # noqa: PLC0415 - only where something is pushed

    return RegistrySource(solve.references[0]).manifest(digest)
