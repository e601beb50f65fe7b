"""Judging images that are there already: `check(request) -> Checked`.

In: a services file, and names of services or images. Out: `Checked`. Touches: what `buildorch.preparing` reads, the
engine or the registries that hold the images, and what `buildorch.judging` touches; nothing is built or recorded.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

from buildorch import preparing
from buildorch.errors import EXIT_OK, EXIT_POLICY, EngineError, NoSuchPlatform, UnknownService
from buildorch.events import now
from buildorch.finding_images import is_image_name, locate, read
from buildorch.judging import Case, budget_of, case_of, verdict
from buildorch.measure import measure
from buildorch.oci import ImageReference, Platform
from buildorch.report.findings import Checked, CheckedImage
from buildorch.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Iterable

    from buildorch.plan import Solve
    from buildorch.record import ServiceRecord
    from buildorch.settle import Images


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckRequest:
    """What to judge."""

    file: Path = Path("services.yaml")
    """The services file."""
    names: tuple[str, ...] = ()
    """Services, whose last images are judged by their own rules, and images, which are judged by those of `defaults`;
    all services by default."""
    platforms: tuple[str, ...] = ()
    """The only platforms to be judged; all that are there by default."""
    overrides: tuple[str, ...] = ()
    """`SERVICE.KEY=VALUE`, as --set takes them."""
    allow_policies: bool = False
    """Whether the services file's own policies are asked."""


def check(request: CheckRequest) -> Checked:
    """Judge images again, by the rules as they stand today.

    An image that cannot be read is no exception: its `error` says why, and the exit code is 4.

    Raises:
        UsageError: the services file cannot be used, or a name is neither a service nor an image reference.
        EngineError: no engine.
        LedgerError: the ledger cannot be read.
    """
    asking = preparing.ask_engine()
    build = preparing.BuildRequest(
        file=request.file, overrides=request.overrides, allow_policies=request.allow_policies
    )
    # The defaults, which foreign images are judged by, are in no recalled file.
    planned = preparing.plan(build, memory=not any(map(is_image_name, request.names)))
    solves = {solve.name: solve for solve in planned.plan.solves}
    for name in request.names:
        _require_known(name, solves)
    for platform in request.platforms:
        Platform.parse(platform)
    with preparing.opened(build, planned, asking) as at_hand:
        planned.project.remember()
        images = at_hand.images()
        checked = tuple(
            _service(solves[name], at_hand.past.images.get(name), images, request)
            if name in solves
            else _judged(Case(name=name, spec=planned.project.file.defaults), name, "", images, request)
            for name in request.names or solves
        )
    return Checked(project=planned.plan.project, checked_at=now(), exit_code=_exit_code(checked), images=checked)


def _require_known(name: str, solves: Iterable[str]) -> None:
    """See that a name is a service's, or can only be an image's.

    Raises:
        UnknownService: it may be a service's, and is none's.
        UsageError: it is no image reference either.
    """
    if name in solves:
        return
    if not is_image_name(name):
        raise UnknownService(name, known=list(solves))
    ImageReference.parse(name)


def _service(solve: Solve, record: ServiceRecord | None, images: Images, request: CheckRequest) -> CheckedImage:
    dockerfile = shown_path(solve)
    if record is None or record.digest is None:
        return CheckedImage(
            name=solve.name,
            service=solve.name,
            reference=solve.references[0],
            dockerfile=dockerfile,
            error="it was never built",
            error_hint=f"buildorch build {solve.name}",
        )
    case = case_of(solve, images.means, warnings=record.build_checks)
    return _judged(case, record.reference, record.digest, images, request, service=solve.name, dockerfile=dockerfile)


def shown_path(solve: Solve) -> str:
    """The Dockerfile as code hosts name it: relative to the repository, or to the project where it is in none."""
    folders = (solve.root, *solve.root.parents)
    root = next((folder for folder in folders if (folder / ".git").exists()), solve.root)
    path = solve.dockerfile
    return path.relative_to(root).as_posix() if isinstance(path, Path) and path.is_relative_to(root) else ""


def _judged(
    case: Case,
    reference: str,
    digest: str,
    images: Images,
    request: CheckRequest,
    *,
    service: str | None = None,
    dockerfile: str = "",
) -> CheckedImage:
    try:
        found = locate(reference, images, digest=digest)
        case = dataclasses.replace(case, trial=found.digest if found.inspected else "")
        documents = read(found, images, case.question, platforms=request.platforms)
        facts = measure(documents)
        said = verdict(case, documents, facts, images.means)
    except (EngineError, NoSuchPlatform) as error:
        return CheckedImage(
            name=case.name,
            service=service,
            reference=reference,
            dockerfile=dockerfile,
            error=str(error),
            error_hint=error.hint,
        )
    return CheckedImage(
        name=case.name,
        service=service,
        reference=reference,
        digest=facts.digest,
        platforms=dict(facts.platforms),
        budget=budget_of(case.spec),
        dockerfile=dockerfile,
        findings=said.findings,
        off=dict(said.off),
    )


def _exit_code(images: tuple[CheckedImage, ...]) -> int:
    """4 where one could not be judged, else 3 where a rule is broken."""
    if any(image.error for image in images):
        return EngineError.exit_code
    return EXIT_POLICY if any(image.count("error") for image in images) else EXIT_OK
