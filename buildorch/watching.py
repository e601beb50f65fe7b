"""A solver that does not believe a context that was written to while it was built.

In: a `Solver`, and the inputs of each service. Out: what that solver gives, or a failure that names the files.
Touches: the contexts, for reading.

BuildKit sends a context file by file. A file that is written meanwhile may go half old and half new, and one that is
deleted meanwhile becomes an empty file, with exit code 0. ctime cannot be set back, so a context whose files are all as
they were before is the one that was sent.
"""

from __future__ import annotations

import dataclasses
from dataclasses import field
from typing import TYPE_CHECKING

import anyio.to_thread

from buildorch.quantities import some_of
from buildorch.record import Failure, FailureKind
from buildorch.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from anyio.abc import ObjectSendStream

    from buildorch.events import Event
    from buildorch.execute import Solver
    from buildorch.inputs import Inputs
    from buildorch.plan import Solve
    from buildorch.record import Solved

NAMED_AT_MOST = 5


@dataclass(slots=True)
class WatchingSolver:
    """Builds by another solver, with inputs that are true before and after; a `buildorch.execute.Solver`."""

    solver: Solver
    read: Callable[[Solve], Inputs]
    """Reads a service's inputs again."""
    inputs: dict[str, Inputs] = field(default_factory=dict)
    """Service -> what its image was made from, once it is built."""

    async def solve(
        self, solve: Solve, bases: Mapping[str, Solved], events: ObjectSendStream[Event]
    ) -> Solved | Failure:
        """Build one service from what its files are now."""
        now = await anyio.to_thread.run_sync(self._current, solve)
        held = dataclasses.replace(now.solve, cache_import=solve.cache_import)
        outcome = await self.solver.solve(held, bases, events)
        if isinstance(outcome, Failure):
            return outcome
        changed = await anyio.to_thread.run_sync(now.changed)
        return unbelieved(changed) if changed else outcome

    def _current(self, solve: Solve) -> Inputs:
        """The inputs as they were read, or read again where they changed since."""
        if self.inputs[solve.name].changed():
            self.inputs[solve.name] = self.read(solve)
        return self.inputs[solve.name]


def unbelieved(changed: tuple[str, ...]) -> Failure:
    """Why what a build gave is not believed."""
    named = some_of(changed, at_most=NAMED_AT_MOST)
    return Failure(
        kind=FailureKind.CONTEXT_CHANGED,
        message=f"files changed while it was built, so what it holds is not known: {named}",
        hint="build from files that nothing writes to, such as a fresh checkout, or leave these out in .dockerignore",
        transient=True,
    )
