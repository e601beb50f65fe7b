"""All questions asked at once, none waited for longer than a limit, and a check made of each answer.

In: a services file's path. Out: `Examination`. Touches: what `buildorch.doctor` says, each question in a
thread of its own.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from buildorch.build_cache import Holding
from buildorch.buildx import builders, client
from buildorch.doctor import asking, judging, known
from buildorch.doctor.check import Check, Examination, Status
from buildorch.engine import Engine, data_root_here, read_build_cache
from buildorch.errors import BuildorchError, UsageError
from buildorch.meanwhile import Meanwhile
from buildorch.quantities import some_of
from buildorch.registry import HUB
from buildorch.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Iterator

    from buildorch.buildx.builders import Builder
    from buildorch.engine import EngineInfo

T = TypeVar("T")
ANSWER_S = 5.0
"""How long each question waits for its answer."""
WITHIN_S = 8.0
"""After how long whatever has not answered is said not to."""
GB = judging.GB
MB = 1000**2
_UNREACHED = "is the name right, and the network there?"
_WANTS_NOTHING = asking.Wanted(builders={}, platforms={}, pushed={}, pulled={}, several=())


@dataclass(frozen=True, slots=True)
class _Asked:
    """The questions that need nothing of each other."""

    engine: Meanwhile[tuple[EngineInfo, judging.Clock | None]]
    buildx: Meanwhile[str]
    builders: Meanwhile[tuple[Builder, ...]]
    cache: Meanwhile[Holding]


def examine(file: Path, *, within_s: float = WITHIN_S) -> Examination:
    """Look at everything that a build of a services file needs; without the file, at the rest.

    Args:
        file: the services file; it need not be there.
        within_s: how long all of it may take, in seconds; what has not answered by then is said so.
    """
    end = time.monotonic() + within_s
    asked = _Asked(Meanwhile(_engine), Meanwhile(_buildx), Meanwhile(_builders), Meanwhile(_cache))
    checked, wanted = _services(file)
    registries = {host: Meanwhile(partial(_greet, host)) for host in {**wanted.pushed, **wanted.pulled}}
    checks = [checked, *_engines(asked, wanted, file, end), *_registries(registries, asked, wanted, end)]
    return Examination(checked_at=datetime.now(UTC).isoformat(timespec="seconds"), checks=tuple(checks))


def _services(file: Path) -> tuple[Check, asking.Wanted]:
    name = "services file"
    if not file.exists():
        fact = f"there is none at {file}, so that its registries, platforms and builders are not looked at"
        return Check(name, "ok", fact, "name it with -f"), _WANTS_NOTHING
    try:
        wanted = asking.wanted_by(file)
    except UsageError as error:
        return Check(
            name, "error", str(error).splitlines()[0], error.hint or "`buildorch plan` says more"
        ), _WANTS_NOTHING
    return Check(name, "ok", f"{file}: {wanted.services} services"), wanted


def _engines(asked: _Asked, wanted: asking.Wanted, file: Path, end: float) -> Iterator[Check]:
    """What needs the engine or buildx, and the disks."""
    info, root = None, None
    found = _answer(asked.engine, "engine", end)
    if isinstance(found, Check):
        yield found
    else:
        info = found[0]
        yield known.judge_version(known.ENGINE, info.version, where=f" at {info.endpoint}")
        yield judging.judge_store(info.store, several=wanted.several)
        root = data_root_here(info)
    version = _answer(asked.buildx, "buildx", end)
    yield version if isinstance(version, Check) else known.judge_version(known.BUILDX, version)
    listed = _answer(asked.builders, "builders", end)
    yield from [listed] if isinstance(listed, Check) else _of_builders(listed, wanted)
    space = asking.space_of(root) if root else None
    if space:
        advice = "`buildorch cache prune`, or `docker system prune`; or give the engine a larger disk"
        yield judging.judge_space("engine's disk", space, least=GB, wanted=10 * GB, advice=advice)
    if here := asking.space_of(file.resolve().parent):
        yield judging.judge_space("project's disk", here, least=16 * MB, wanted=GB, advice="free some space on it")
    if info:
        held = _answer(asked.cache, "cache", end)
        yield held if isinstance(held, Check) else judging.judge_cache(held, space)


def _of_builders(listed: tuple[Builder, ...], wanted: asking.Wanted) -> Iterator[Check]:
    yield judging.judge_builders(listed, wanted.builders)
    by_name = {"": next((one for one in listed if one.is_current), None), **{one.name: one for one in listed}}
    for name, platforms in wanted.platforms.items():
        if platforms and (builder := by_name.get(name)):
            yield judging.judge_platforms(builder, platforms)


def _registries(
    greeted: dict[str, Meanwhile[asking.Greeted]], asked: _Asked, wanted: asking.Wanted, end: float
) -> Iterator[Check]:
    """Registries, the engine's mirrors of the hub, and all clocks."""
    engine = _answer(asked.engine, "engine", end)
    info, clock = (None, None) if isinstance(engine, Check) else engine
    clocks = [clock] if clock else []
    urls = [asking.mirror_of(url) for url in info.mirrors] if info else []
    mirrors = {host: Meanwhile(partial(_greet, host, scheme)) for host, scheme in urls if host}
    mirrored = False
    for host, question in mirrors.items():
        found = _answer(question, f"mirror {host}", end, status="warning")
        if not isinstance(found, Check):
            clocks += [found.clock] if found.clock else []
            found = judging.judge_registry(
                host, found.greeting, needed="the engine's mirror of Docker Hub", is_pushed_to=False, has_login=False
            )
            mirrored = mirrored or found.status == "ok"
        yield found
    for host, question in greeted.items():
        found = _answer(question, f"registry {host}", end, status="error" if host in wanted.pushed else "warning")
        if isinstance(found, Check):
            found = Check(
                found.name, found.status, f"{found.fact}; {_needed(host, wanted)}", found.advice or _UNREACHED
            )
        else:
            clocks += [found.clock] if found.clock else []
            needed, pushed = _needed(host, wanted), host in wanted.pushed
            found = judging.judge_registry(
                host, found.greeting, needed=needed, is_pushed_to=pushed, has_login=found.has_login
            )
        yield judging.mirrored(found) if mirrored and host == HUB else found
    if clocks:
        yield judging.judge_clocks(clocks)


def _needed(host: str, wanted: asking.Wanted) -> str:
    pushed = f"{some_of(wanted.pushed[host])} go there" if host in wanted.pushed else ""
    pulled = f"{some_of(wanted.pulled[host])} come from there" if host in wanted.pulled else ""
    return ", ".join(filter(None, (pushed, pulled)))


def _answer(question: Meanwhile[T], name: str, end: float, *, status: Status = "error") -> T | Check:
    """The answer; or the check of a question that has none, or none in time."""
    try:
        return question.answer(within_s=max(end - time.monotonic(), 0.0))
    except TimeoutError:
        return Check(name, status, "gave no answer in time", "is something in between that swallows questions?")
    except BuildorchError as error:
        return Check(name, status, str(error).splitlines()[0], error.hint)


def _engine() -> tuple[EngineInfo, judging.Clock | None]:
    engine = Engine.at(client.find_endpoint())
    asked = datetime.now(UTC)
    info = engine.info(timeout_s=ANSWER_S)
    answered = datetime.now(UTC)
    said = judging.parsed_time(info.time)
    return info, judging.Clock("the engine", judging.ahead_s(said, asked=asked, answered=answered)) if said else None


def _buildx() -> str:
    return client.find_buildx().version(timeout_s=ANSWER_S)


def _builders() -> tuple[Builder, ...]:
    return builders.builders(client.find_buildx(), timeout_s=ANSWER_S)


def _cache() -> Holding:
    """The engine's own: another builder's takes a process that may take long."""
    engine = Engine.at(client.find_endpoint())
    records = read_build_cache(engine, timeout_s=ANSWER_S)
    return Holding(builder="the engine", exact=True, records=records)


def _greet(host: str, scheme: str = "") -> asking.Greeted:
    return asking.greet(host, scheme=scheme, timeout_s=ANSWER_S)
