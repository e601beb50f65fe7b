"""What is compared, before anything is built: `opened(CompareRequest) -> Bench`.

In: a `CompareRequest`. Out: a `Bench`: each variant's solve with its inputs, and names for all that it makes. Touches:
what `buildorch.preparing` reads.
"""

from __future__ import annotations

import secrets
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from buildorch import inputs, preparing
from buildorch.bases.named import in_dockerfile
from buildorch.comparing.isolation import Isolation
from buildorch.comparing.variants import Variant, rebased, varied
from buildorch.errors import UsageError
from buildorch.oci import ImageReference
from buildorch.plan import Plan
from buildorch.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Iterator

    from buildorch.inputs import Inputs
    from buildorch.plan import Solve
    from buildorch.preparing import AtHand


@dataclass(frozen=True, slots=True, kw_only=True)
class CompareRequest:
    """What to compare."""

    service: str
    variants: tuple[Variant, ...]
    """The service as it is first: `variants.parse_all`."""
    file: Path = Path("services.yaml")
    """The services file."""
    platform: str = ""
    """What to build for; by default the service's only one, or the builder's own."""
    builder: str | None = None
    pull: str = ""
    """The registry that images are pushed to and pulled from; empty for none."""
    overrides: tuple[str, ...] = ()
    """`SERVICE.KEY=VALUE`, as --set takes them."""
    allow_policies: bool = False
    """Whether the services file's own policies are asked."""


@dataclass(frozen=True, slots=True)
class Trial:
    """One variant, ready to be built."""

    variant: Variant
    names: Isolation
    read: Inputs
    """Of the service with the variant's changes, held to the digests of its base images."""

    @property
    def output(self) -> str:
        """Where its image goes: into the engine, compressed as the variant says; empty for the engine's own way."""
        return f"type=docker{self.variant.exported}" if self.variant.exported else ""


@dataclass(frozen=True, slots=True)
class Bench:
    """A comparison before anything is built."""

    request: CompareRequest
    at_hand: AtHand
    needed: tuple[Solve, ...]
    """The services that it builds on."""
    trials: tuple[Trial, ...]
    word: str
    """What the names of all that is made begin with."""


@contextmanager
def opened(request: CompareRequest) -> Iterator[Bench]:
    """All that a comparison needs; nothing is built yet.

    Raises:
        UsageError: the services file cannot be used, or a variant does not fit the service.
        EngineError: no engine, builder or buildx.
        LedgerError: the ledger cannot be opened.
    """
    _require_registry(request.pull)
    asking = preparing.ask_engine()
    build = preparing.BuildRequest(
        file=request.file,
        services=(request.service,),
        platforms=(request.platform,) if request.platform else (),
        builder=request.builder,
        overrides=request.overrides,
        allow_policies=request.allow_policies,
    )
    planned = preparing.plan(build)
    needed = tuple(solve for solve in planned.plan.solves if solve.name != request.service)
    [solve] = (solve for solve in planned.plan.solves if solve.name == request.service)
    _require_one_platform(solve)
    solves = [_changed(solve, variant) for variant in request.variants]
    word = secrets.token_hex(4)
    with preparing.opened(build, planned, asking) as at_hand:
        trials = tuple(
            Trial(
                variant,
                Isolation(request.service, word, number),
                inputs.read(Plan(planned.plan.project, (*needed, one)), at_hand.surroundings)[request.service],
            )
            for number, (variant, one) in enumerate(zip(request.variants, solves, strict=True))
        )
        yield Bench(request, at_hand, needed, trials, word)


def _require_registry(text: str) -> None:
    """See that a registry is named, and not a user of Docker Hub's by mistake."""
    if text and not ImageReference.parse(f"{text.rstrip('/')}/x/y").registry:
        raise UsageError(f"--pull {text!r} is no registry", hint="name its host: localhost:5000, registry.example/team")


def _require_one_platform(solve: Solve) -> None:
    if len(solve.platforms) > 1:
        raise UsageError(
            f"{solve.name} is built for {', '.join(solve.platforms)}, and one is compared",
            hint=f"name it: --platform {solve.platforms[0]}",
        )


def _changed(solve: Solve, variant: Variant) -> Solve:
    solve = varied(solve, variant)
    return rebased(solve, variant, in_dockerfile(solve)) if variant.bases else solve
