"""The library's front door: one call builds, and gives what the run record holds.

In: what to build. Out: `Report`. Touches: as `buildorch.pipeline`. Logging is not configured and no signal handler is
installed: that is the program's own business.
"""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

import anyio

from buildorch.errors import InternalError
from buildorch.events import RunFinished
from buildorch.pipeline import BuildRequest, plan, stream

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable

    from buildorch.handoff.pinned import PinnedImage
    from buildorch.plan import Output, Plan, Publish
    from buildorch.record import Report
    from buildorch.report.findings import Checked


def build(
    file: str | os.PathLike[str] = "services.yaml",
    *,
    services: Iterable[str] = (),
    jobs: int | None = None,
    output: Output = "load",
    platforms: Iterable[str] = (),
    builder: str | None = None,
    no_cache: bool = False,
    force: bool = False,
    frozen: bool = False,
    fail_fast: bool = False,
    publish: Publish = "each",
    wait: bool = True,
    allow_policies: bool = False,
    overrides: Iterable[str] = (),
    record: str | os.PathLike[str] | None = None,
    backend: str = "asyncio",
) -> Report:
    """Build services and return the run's report; a failed build is in the report, not an exception.

    Args:
        file: the services file.
        services: these and what they need; all by default.
        jobs: how many solves run at once; the engine's number of CPUs by default.
        output: `load` into the engine's image store, or `push` to the registry in the images' names.
        platforms: in place of the services' own.
        builder: in place of the services' own.
        no_cache: whether every step is executed again.
        force: whether what did not change is built too.
        frozen: whether base images come from buildorch.lock alone.
        fail_fast: whether the first failure cancels the rest.
        publish: when pushed images get their names: `each` once it is there and keeps its policy, or `all-or-none`.
        wait: whether a service that another run builds is waited for; else nothing is built.
        allow_policies: whether the services file's own policies are asked: they are programs.
        overrides: `SERVICE.KEY=VALUE`, over the services file.
        record: where the run record goes; `.buildorch/run.json` beside the services file by default.
        backend: anyio's backend, `asyncio` or `trio`.

    Raises:
        UsageError: the services file or the request cannot be used.
        EngineError: no engine, buildx or builder.
        LedgerError: the ledger cannot be opened or written.
        Busy: another run builds one of the services, and `wait` is false.
    """
    request = BuildRequest(
        file=Path(file),
        services=tuple(services),
        jobs=jobs,
        output=output,
        platforms=tuple(platforms),
        builder=builder,
        no_cache=no_cache,
        force=force,
        frozen=frozen,
        fail_fast=fail_fast,
        publish=publish,
        wait=wait,
        allow_policies=allow_policies,
        overrides=tuple(overrides),
        record=Path(record) if record is not None else None,
    )
    return anyio.run(build_async, request, backend=backend)


async def build_async(request: BuildRequest | None = None) -> Report:
    """`build` for code that already runs on asyncio or trio.

    Raises:
        UsageError, EngineError, LedgerError, Busy: as `build`.
    """
    async with stream(request or BuildRequest()) as events:
        async for event in events:
            if isinstance(event, RunFinished):
                return event.report
    raise InternalError("a run ended without its report")


def check(
    file: str | os.PathLike[str] = "services.yaml",
    *,
    names: Iterable[str] = (),
    platforms: Iterable[str] = (),
    allow_policies: bool = False,
    overrides: Iterable[str] = (),
) -> Checked:
    """Judge images that are there by the services file's rules; what they find is in the result, not an exception.

    Args:
        file: the services file.
        names: services, whose last images are judged, and images, judged by the rules of `defaults`; all services by
            default.
        platforms: the only ones to be judged; all that are there by default.
        allow_policies: whether the services file's own policies are asked: they are programs.
        overrides: `SERVICE.KEY=VALUE`, over the services file.

    Raises:
        UsageError: the services file cannot be used, or a name is neither a service nor an image.
        EngineError: no engine.
        LedgerError: the ledger cannot be read.
    """
    from buildorch import checking  # noqa: PLC0415 - a build does not judge this way

    request = checking.CheckRequest(
        file=Path(file),
        names=tuple(names),
        platforms=tuple(platforms),
        overrides=tuple(overrides),
        allow_policies=allow_policies,
    )
    return checking.check(request)


def images(
    file: str | os.PathLike[str] = "services.yaml",
    *,
    services: Iterable[str] = (),
    record: str | os.PathLike[str] | Report | None = None,
    local: bool = False,
    last_good: bool = False,
    max_age_s: float | None = None,
    overrides: Iterable[str] = (),
) -> dict[str, PinnedImage]:
    """The images of services by their digests, for a deploy: only those that a registry holds and no rule forbids.

    Args:
        file: the services file; not read where a record is given.
        services: these; every service that has an image by default.
        record: the run whose images they are, as `build` returns it, or its file; by default each service's last.
        local: whether no registry is asked: images that only an engine has are given too.
        last_good: whether a service whose last build is no good gives the last image that was.
        max_age_s: how long ago the run may have begun, in seconds.
        overrides: `SERVICE.KEY=VALUE`, over the services file.

    Raises:
        UsageError: the services file or the record cannot be used, or has no such service.
        LedgerError: there is no ledger, or it cannot be read.
        HandoffRefused: something speaks against one of them; then none is given.
    """
    from buildorch import handing_over  # noqa: PLC0415 - a build does not hand over

    request = handing_over.HandoffRequest(
        file=Path(file),
        services=tuple(services),
        record=Path(record) if isinstance(record, str | PathLike) else record,
        local=local,
        last_good=last_good,
        max_age_s=max_age_s,
        overrides=tuple(overrides),
    )
    return handing_over.images(request)


def make_plan(request: BuildRequest | None = None) -> Plan:
    """What `build` would build, in dependency order; needs no engine.

    Raises:
        UsageError: the services file or the request cannot be used.
    """
    return plan(request or BuildRequest()).plan
