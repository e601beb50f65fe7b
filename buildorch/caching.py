"""A builder's cache: what it holds, which services mount what of it, and taking from it.

In: a builder's name, a services file. Out: `Holding`, the services of each cache mount. Touches: the engine or a buildx
process; the Dockerfiles; the builder's cache in `prune`.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from buildorch import preparing
from buildorch.build_cache import Holding
from buildorch.buildx import builders, client
from buildorch.engine import Engine, read_build_cache
from buildorch.plan_dockerfiles import PlanDockerfiles

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from buildorch.dockerfile import Dockerfile
    from buildorch.plan import Solve

ENGINES_OWN = "default"
"""What buildx calls the engine's own BuildKit."""


def chosen_builder(name: str | None) -> str:
    """The builder that is meant: the one that is named, else the one in use."""
    return name or client.current_builder() or ENGINES_OWN


def holding(builder: str) -> Holding:
    """What a builder's cache holds: of the engine's own to the byte, else as buildx prints it.

    Raises:
        EngineError: the engine or the builder does not answer, or there is no such builder.
    """
    if builder == ENGINES_OWN:
        engine = Engine.at(client.find_endpoint())
        records = read_build_cache(engine, timeout_s=builders.LONG_S)
        return Holding(builder=builder, exact=True, records=records)
    now = datetime.now(UTC)
    return Holding(builder=builder, exact=False, records=builders.usage(client.find_buildx(), builder, now=now))


def prune(builder: str, *, keep_bytes: int | None, older_than_s: float | None) -> int:
    """Let BuildKit take from a builder's cache what no build has now; the bytes that were freed, of four digits.

    Raises:
        EngineError: the builder does not answer, or there is no such builder.
    """
    buildx = client.find_buildx()
    return builders.prune(buildx, builder, version=buildx.version(), keep_bytes=keep_bytes, older_than_s=older_than_s)


def mounts_of_services(file: Path) -> dict[str, tuple[str, ...]]:
    """Id of a cache mount -> the services whose Dockerfiles mount it, sorted; none where there is no services file.

    Raises:
        UsageError: the services file cannot be used.
    """
    if not file.exists():
        return {}
    return services_by_mount(preparing.plan(preparing.BuildRequest(file=file)).plan.solves)


def services_by_mount(solves: Sequence[Solve]) -> dict[str, tuple[str, ...]]:
    """The same for solves; Dockerfiles that cannot be read or parsed mount nothing that is known."""
    dockerfiles, found = PlanDockerfiles(solves), dict[str, set[str]]()
    for solve in solves:
        for mount in _mounts(dockerfiles.of(solve)):
            found.setdefault(mount, set()).add(solve.name)
    return {mount: tuple(sorted(services)) for mount, services in found.items()}


def _mounts(dockerfile: Dockerfile | None) -> set[str]:
    runs = dockerfile.runs if dockerfile else ()
    return {mount.id for run in runs for mount in run.mounts if mount.kind == "cache" and mount.id}
