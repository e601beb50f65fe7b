"""What was seen -> whether it is well, and what to do: one function a check.

In: facts. Out: checks. Touches nothing.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from buildorch.doctor.check import Check
from buildorch.quantities import human_bytes, some_of
from buildorch.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from buildorch.build_cache import Holding
    from buildorch.buildx.builders import Builder
    from buildorch.registry import Greeting

GB: Final = 1000**3
INODES: Final = 10_000
"""What one Node.js image's packages take."""
FEW_INODES: Final = 0.05
LATE_S, FAR_S = 5.0, 300.0
"""From where a clock is worth a word, and from where tokens and signatures are refused."""
LARGE_MOUNT: Final = 5 * GB


@dataclass(frozen=True, slots=True)
class Space:
    """What a file system has left."""

    folder: str
    free: int
    """Bytes, for who is not root."""
    inodes: int
    """Free ones."""
    all_inodes: int
    """0 on a file system that makes them as it goes, such as btrfs."""


@dataclass(frozen=True, slots=True)
class Clock:
    """Another machine's clock."""

    whose: str
    ahead_s: float
    """By how much it is ahead of ours for sure, in seconds; less than 0 where it is behind."""


def ahead_s(said: datetime, *, asked: datetime, answered: datetime, grain_s: float = 0.0) -> float:
    """By how much a clock is ahead that said so between two moments; 0 where it may be right.

    Args:
        said: what it said.
        asked: when it was asked, by our clock.
        answered: when the answer was here.
        grain_s: how much of its time it does not say: 1 for a clock of seconds.
    """
    least, most = (said - answered).total_seconds(), (said - asked).total_seconds() + grain_s
    return least if least > 0 else min(most, 0.0)


def judge_clocks(clocks: Sequence[Clock]) -> Check:
    """The clock that is furthest from ours."""
    worst = max(clocks, key=lambda one: abs(one.ahead_s))
    seconds = abs(worst.ahead_s)
    if seconds < LATE_S:
        return Check("clock", "ok", f"as that of {some_of([one.whose for one in clocks])}")
    fact = f"that of {worst.whose} is {seconds:.0f} s {'ahead of' if worst.ahead_s > 0 else 'behind'} this machine's"
    return Check(
        "clock", "error" if seconds >= FAR_S else "warning", fact, "set both by NTP: `timedatectl set-ntp true`"
    )


def judge_space(name: str, space: Space, *, least: int, wanted: int, advice: str) -> Check:
    """Free bytes and inodes of a file system; less than `least` fails builds, less than `wanted` soon will."""
    inodes = f", {space.inodes} inodes" if space.all_inodes else ""
    fact = f"{human_bytes(space.free)}{inodes} free at {space.folder}"
    few = bool(space.all_inodes) and space.inodes < max(INODES, space.all_inodes * FEW_INODES)
    none = bool(space.all_inodes) and space.inodes < INODES
    if space.free < least or none:
        return Check(name, "error", f"{fact}: builds fail for lack of it", advice)
    if space.free < wanted or few:
        return Check(name, "warning", f"only {fact}", advice)
    return Check(name, "ok", fact)


def judge_store(store: str, *, several: Iterable[str]) -> Check:
    """The engine's image store; `several`: the services that are built for several platforms."""
    many = tuple(several)
    if store == "containerd":
        return Check("store", "ok", "containerd: images of several platforms, digests and attestations are kept")
    advice = 'set "features": {"containerd-snapshotter": true} in daemon.json; its images are then pulled or built anew'
    if many:
        fact = f"graphdriver, which cannot hold images of several platforms, and {some_of(many)} have them"
        return Check("store", "error", fact, f"{advice}; or build with --push")
    return Check("store", "ok", "graphdriver: one platform an image, and no attestations")


def judge_builders(builders: Sequence[Builder], wanted: Mapping[str, Sequence[str]]) -> Check:
    """The builders; `wanted`: the services' own builders -> those services."""
    known = {one.name: one for one in builders}
    for name, services in wanted.items():
        if name not in known:
            fact = f"{some_of(services)} want {name!r}, which buildx does not know (it knows {some_of(tuple(known))})"
            return Check("builders", "error", fact, f"create it: `docker buildx create --name {name}`")
    current = next((one for one in builders if one.is_current), None)
    for builder in (*filter(None, [current]), *(known[name] for name in wanted)):
        if bad := builder.error or next((node.error for node in builder.nodes if node.error), ""):
            return Check("builders", "error", f"{builder.name}: {bad}", f"`docker buildx inspect {builder.name}`")
        if not builder.is_running:
            fact = f"{builder.name} does not run: {some_of([node.status for node in builder.nodes])}"
            return Check("builders", "warning", fact, f"start it: `docker buildx inspect --bootstrap {builder.name}`")
    told = f"{len(known)} known, {current.name} in use" if current else f"{len(known)} known, none in use"
    return Check("builders", "ok", f"{told} ({current.driver})" if current else told)


def judge_platforms(builder: Builder, asked: Mapping[str, Sequence[str]]) -> Check:
    """Whether a builder can build what is asked of it; `asked`: platform -> the services that want it."""
    if not builder.is_running:
        return Check("platforms", "ok", f"not known before {builder.name} runs")
    missing = {one: services for one, services in asked.items() if one not in builder.platforms}
    if missing:
        platform, services = next(iter(missing.items()))
        fact = f"{builder.name} does not build for {', '.join(missing)}, which {some_of(services)} want"
        install = f"docker run --privileged --rm tonistiigi/binfmt --install {platform.split('/')[1]}"
        advice = f"emulate it: install qemu-user-static, or `{install}`; or add a node of its own to the builder"
        return Check("platforms", "error", fact, advice)
    told = ", ".join(asked) or "its own alone"
    return Check("platforms", "ok", f"{builder.name} builds for what the services want: {told}")


def judge_registry(host: str, greeting: Greeting, *, needed: str, is_pushed_to: bool, has_login: bool) -> Check:
    """How a registry answers, and whether there is a login for it; `needed`: who needs it, for what."""
    name = f"registry {host}"
    needed += f"; asked through the proxy {greeting.proxy}" if greeting.proxy else ""
    if not greeting.is_registry:
        fact = f"answers {greeting.status}, which no registry does; {needed}"
        return Check(name, "error" if is_pushed_to else "warning", fact, "is the name right, and no proxy in between?")
    if not greeting.wants_login:
        return Check(name, "ok", f"answers without a login; {needed}")
    if has_login:
        return Check(name, "ok", f"answers, and docker has a login for it; {needed}")
    if is_pushed_to:
        return Check(name, "warning", f"wants a login, and docker has none; {needed}", f"docker login {host}")
    return Check(name, "ok", f"answers; docker has no login for it, so it is asked as anybody; {needed}")


def mirrored(hub: Check) -> Check:
    """The check of a hub that the engine has a mirror for which is well: then it need not be."""
    if hub.status == "ok":
        return hub
    return Check(hub.name, "ok", f"{hub.fact}; the engine's mirror answers in its place")


def judge_cache(holding: Holding, space: Space | None) -> Check:
    """What the cache and its largest cache mount take; beside what is free, where that is known."""
    total, mounts = holding.total, holding.mounts({})
    in_mounts = sum(one.size for one in mounts)
    fact = (
        f"{human_bytes(total.size)} on {holding.builder}, of them {human_bytes(in_mounts)} in {len(mounts)} cache "
        f"mounts; {human_bytes(total.reclaimable)} can go"
    )
    if space and total.reclaimable > space.free:
        return Check("cache", "warning", f"{fact}, more than is free", "`buildorch cache prune --older-than 7d`")
    if mounts and mounts[0].size > LARGE_MOUNT:
        fact += f"; the mount {mounts[0].name} alone has {human_bytes(mounts[0].size)}"
        return Check(
            "cache", "warning", fact, "`buildorch cache show` says whose it is; `cache prune` makes it smaller"
        )
    return Check("cache", "ok", fact)


def parsed_time(text: str) -> datetime | None:
    """An engine's RFC 3339; None for anything else."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)
