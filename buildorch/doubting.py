"""A solver that does not believe that an image does not exist which its registry has.

In: a `Solver`. Out: what that solver gives, or a failure of the registry in place of a missing image. Touches: the
registry of an image that an engine did not find.

containerd looks for a digest among a repository's manifests and then among its blobs, and tells the last answer: where
the first question is cut off, that is "not found" (containerd, core/remotes/docker/resolver.go).
"""

from __future__ import annotations

import dataclasses
import re
from typing import TYPE_CHECKING

import anyio.to_thread

from buildorch.buildx.failures import TREATMENTS
from buildorch.errors import EngineError
from buildorch.oci import ImageReference
from buildorch.record import Failure, FailureKind
from buildorch.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Mapping

    from anyio.abc import ObjectSendStream

    from buildorch.events import Event
    from buildorch.execute import Solver
    from buildorch.plan import Solve
    from buildorch.record import Solved

ANSWER_S = 3.0
"""How long the registry may stay silent, in seconds."""
PATIENCE_S = 3.0
"""For how long it is asked again where it fails for the moment, in seconds."""
_MISSING = re.compile(r"(?P<reference>[^\s\"]+@sha256:[0-9a-f]{64}): not found")


@dataclass(frozen=True, slots=True)
class DoubtingSolver:
    """Builds by another solver, and asks the registry where that misses an image; a `buildorch.execute.Solver`."""

    solver: Solver

    async def solve(
        self, solve: Solve, bases: Mapping[str, Solved], events: ObjectSendStream[Event]
    ) -> Solved | Failure:
        """Build one service; what its registry has is not missing."""
        outcome = await self.solver.solve(solve, bases, events)
        if not isinstance(outcome, Failure) or outcome.kind is not FailureKind.NOT_FOUND:
            return outcome
        missing = _MISSING.search(outcome.message)
        if missing is None or not await anyio.to_thread.run_sync(_is_there, missing["reference"]):
            return outcome
        treatment = TREATMENTS[FailureKind.REGISTRY]
        return dataclasses.replace(
            outcome,
            kind=FailureKind.REGISTRY,
            message=f"the engine did not find {missing['reference']}, which its registry has",
            hint=treatment.hint,
            exit_code=treatment.exit_code,
            transient=treatment.transient,
        )


def _is_there(reference: str) -> bool:
    from buildorch.registry import Repository  # noqa: PLC0415 - only where an image is missing

    image = ImageReference.parse(reference)
    repository = Repository.of(image)
    repository.timeout_s, repository.patience_s = ANSWER_S, PATIENCE_S
    try:
        return repository.digest(image.digest) == image.digest
    except EngineError:
        return False  # it does not have it, or does not say: the engine's word stands
