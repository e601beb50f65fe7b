"""One service from its solve's end to its record: find the image, measure it, judge it.

In: a `Solve`, how it ended, and where images are. Out: `ServiceRecord`. Touches: the Dockerfile, and the engine or the
registry that holds the image.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from buildorch.errors import EngineError
from buildorch.policy import Subject, judge
from buildorch.record import Budget, Failure, FailureKind, Finding, PlatformRecord, ServiceRecord, Status, Steps
from buildorch.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Mapping

    from buildorch import dockerfile
    from buildorch.engine import Engine
    from buildorch.events import SolveFinished
    from buildorch.inspection import LayerSizes
    from buildorch.measure import ImageFacts
    from buildorch.plan import Solve


@dataclass(frozen=True, slots=True)
class Images:
    """Where images can be read: an engine with its kind of store, and the layer sizes that are known."""

    engine: Engine
    store: Literal["containerd", "graphdriver"]
    sizes: LayerSizes


def settle(solve: Solve, finished: SolveFinished, images: Images | None, *, reason: str) -> ServiceRecord:
    """The record of one service; an image that cannot be measured is a failure, not an exception.

    Args:
        solve: what was to be built.
        finished: how that ended.
        images: where to read the image; None where there is none to read.
        reason: why it was built.
    """
    solved, failure = finished.solved, finished.failure
    facts = None
    if solved and solved.digest and images:
        try:
            facts = _measured(solve, solved.digest, images)
        except EngineError as error:
            failure = _unmeasured(error)
    budget, findings = judged(solve, facts.platforms if facts else {})
    return ServiceRecord(
        status=_status(failure),
        reason=reason,
        reference=solve.references[0],
        references=solve.references if solved else (),
        digest=facts.digest if facts else None,
        index_digest=facts.index_digest if facts else None,
        bases=dict(solved.bases) if solved else {},
        stand_ins=facts.stand_ins if facts else (),
        platforms=dict(facts.platforms) if facts else {},
        steps=solved.steps if solved else Steps(),
        started_at=finished.started_at,
        finished_at=finished.at if finished.started_at else None,
        built_at=finished.at if facts else None,
        duration_s=finished.duration_s,
        attempts=finished.attempts,
        warnings=solved.warnings if solved else (),
        budget=budget,
        findings=findings,
        error=failure,
    )


def judged(solve: Solve, platforms: Mapping[str, PlatformRecord]) -> tuple[Budget | None, tuple[Finding, ...]]:
    """What an image is judged against, and what is found against it; nothing where there is no image."""
    size, policy = solve.spec.size, solve.spec.policy
    budget = Budget(max_bytes=size.max, target_bytes=size.target, of=size.of) if size else None
    if not platforms:
        return budget, ()
    file = _dockerfile(solve) if policy.min_stages or policy.bases else None
    return budget, judge(Subject(solve.spec, platforms, file))


def _measured(solve: Solve, digest: str, images: Images) -> ImageFacts | None:
    from buildorch.inspection import (  # noqa: PLC0415 - a run that skips everything measures nothing
        EngineSource,
        RegistrySource,
        read_image,
        read_saved_image,
    )
    from buildorch.measure import measure  # noqa: PLC0415

    reference = solve.references[0]
    match solve.destination:
        case "registry":
            source = RegistrySource(reference)
            # The graphdriver store calls the config's digest the image's: the registry knows the manifest's.
            pinned = source.resolve(reference.rpartition(":")[2]) if images.store == "graphdriver" else digest
            return measure(read_image(source, pinned, images.sizes))
        case "engine" if images.store == "containerd":
            return measure(read_image(EngineSource(images.engine), digest, images.sizes))
        case "engine":
            return measure(read_saved_image(images.engine, reference))
    return None


def _unmeasured(error: EngineError) -> Failure:
    return Failure(
        kind=FailureKind.UNMEASURED,
        message=f"it was built, but not measured: {error}",
        hint=error.hint or "run it again; the build itself is cached",
        exit_code=error.exit_code,
    )


def _status(failure: Failure | None) -> Status:
    if failure is None:
        return "built"
    if failure.kind is FailureKind.BLOCKED:
        return "blocked"
    return "cancelled" if failure.kind is FailureKind.CANCELLED else "failed"


def _dockerfile(solve: Solve) -> dockerfile.Dockerfile | None:
    """The Dockerfile's stages, where it is a local file; its syntax is BuildKit's to judge, and it has passed there."""
    if not isinstance(solve.dockerfile, Path):
        return None
    from buildorch import dockerfile  # noqa: PLC0415 - only where a rule asks

    arguments = {key: value for key, value in solve.spec.args.items() if value is not None}
    try:
        return dockerfile.read(solve.dockerfile.read_text("utf-8-sig"), arguments)
    except (OSError, ValueError):
        return None
