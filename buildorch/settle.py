"""One service from its solve's end to its record: find the image, measure it, judge it.

In: a `Solve`, how it ended, and where images are. Out: `ServiceRecord`. Touches: the engine or the registry that holds
the image, and what `buildorch.judging` touches.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Literal

from buildorch.errors import EngineError
from buildorch.judging import Verdict, budget_of, case_of
from buildorch.judging import verdict as judge
from buildorch.record import Failure, FailureKind, ServiceRecord, Status, Steps
from buildorch.values import dataclass

if TYPE_CHECKING:
    from buildorch.engine import Containerd, Engine
    from buildorch.events import SolveFinished
    from buildorch.inspection import Layers
    from buildorch.judging import Case, Means
    from buildorch.measure import ImageDocuments, ImageFacts
    from buildorch.plan import Solve


@dataclass(frozen=True, slots=True)
class Images:
    """Where images can be read, what is known of their layers, and what judging them takes."""

    engine: Engine
    store: Literal["containerd", "graphdriver"]
    layers: Layers
    means: Means
    containerd: Containerd | None = None
    """The engine's own, where it may be asked: the shorter way to an image's bytes."""


def settle(solve: Solve, finished: SolveFinished, images: Images | None, *, reason: str) -> ServiceRecord:
    """The record of one service; an image that cannot be measured is a failure, not an exception.

    Args:
        solve: what was to be built.
        finished: how that ended.
        images: where to read the image; None where there is none to read.
        reason: why it was built.
    """
    solved, failure = finished.solved, finished.failure
    facts, verdict = None, Verdict(budget_of(solve.spec), (), {}, None)
    if solved and solved.digest and images:
        case = case_of(solve, images.means, warnings=solved.warnings)
        try:
            if read := _read(solve, solved.digest, images, case):
                facts, verdict = read
        except EngineError as error:
            failure = unmeasured(error)
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
        budget=verdict.budget,
        findings=verdict.findings,
        rules_off=dict(verdict.off),
        rules=verdict.rules,
        error=failure,
    )


def judged_again(solve: Solve, record: ServiceRecord, images: Images) -> ServiceRecord:
    """The record of an image that is there, with what today's rules say of it; it is read again.

    Raises:
        EngineError: it cannot be read.
    """
    case = case_of(solve, images.means, warnings=record.build_checks)
    read = _read(solve, record.digest, images, case, is_recorded=True) if record.digest else None
    if read is None:
        return record
    _, verdict = read
    return dataclasses.replace(
        record, budget=verdict.budget, findings=verdict.findings, rules_off=dict(verdict.off), rules=verdict.rules
    )


def _read(
    solve: Solve, digest: str, images: Images, case: Case, *, is_recorded: bool = False
) -> tuple[ImageFacts, Verdict] | None:
    """What an image is, and what the rules say of it; None where it went nowhere it can be read.

    Args:
        solve: what was built.
        digest: what came out.
        images: where to read it.
        case: the service's words.
        is_recorded: whether the digest is a record's, and not what BuildKit says.
    """
    from buildorch.measure import measure  # noqa: PLC0415 - a run that skips everything measures nothing

    case = dataclasses.replace(case, trial=digest if solve.destination == "engine" else "")
    documents = _documents(solve, digest, images, case, is_recorded=is_recorded)
    if documents is None:
        return None
    facts = measure(documents)
    return facts, judge(case, documents, facts, images.means)


def _documents(solve: Solve, digest: str, images: Images, case: Case, *, is_recorded: bool) -> ImageDocuments | None:
    from buildorch.inspection import (  # noqa: PLC0415 - a run that skips everything measures nothing
        EngineSource,
        RegistrySource,
        read_image,
        read_saved_image,
    )

    reference = solve.references[0]
    match solve.destination:
        case "registry":
            source = RegistrySource(reference)
            # The graphdriver store calls the config's digest the image's: the registry knows the manifest's.
            by_name = images.store == "graphdriver" and not is_recorded
            pinned = source.resolve(reference.rpartition(":")[2]) if by_name else digest
            return read_image(source, pinned, images.layers, case.question)
        case "engine" if images.store == "containerd":
            return read_image(EngineSource(images.engine, images.containerd), digest, images.layers, case.question)
        case "engine":
            return read_saved_image(images.engine, digest, case.question)
    return None


def unmeasured(error: EngineError) -> Failure:
    """Why nobody knows what an image that was built is."""
    return Failure(
        kind=FailureKind.UNMEASURED,
        message=f"it was built, but not measured: {error}",
        hint=error.hint or "run it again; the build itself is cached",
        exit_code=error.exit_code,
    )


def unjudged(error: EngineError) -> Failure:
    """Why nobody knows what the rules say of an image that did not change."""
    return Failure(
        kind=FailureKind.UNMEASURED,
        message=f"its rules changed, and it cannot be read to be judged by them: {error}",
        hint=error.hint or "run it again; nothing is built for it",
        exit_code=error.exit_code,
    )


def _status(failure: Failure | None) -> Status:
    if failure is None:
        return "built"
    if failure.kind is FailureKind.BLOCKED:
        return "blocked"
    return "cancelled" if failure.kind is FailureKind.CANCELLED else "failed"
