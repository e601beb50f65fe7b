"""What a builder's cache holds, counted: by kind, by cache mount, and what a prune would take.

In: records of BuildKit's cache. Out: sums, and the records that would go. Touches nothing.

Source: moby/buildkit `cache/manager.go` (`DiskUsage`, `prune`, `sortDeleteRecords`) and `solver/llbsolver/mounts` (the
description of a cache mount).
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import field
from datetime import UTC, datetime, timedelta
from heapq import heapify, heappop, heappush
from typing import TYPE_CHECKING, Final, TypeVar

from buildorch.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

Rank = TypeVar("Rank", datetime, int)
LAYERS, MOUNTS, CONTEXTS, GIT, OWN = "layers", "cache mounts", "local contexts", "git", "buildkit's own"
KINDS: Final[Mapping[str, str]] = {
    "regular": LAYERS,
    "exec.cachemount": MOUNTS,
    "source.local": CONTEXTS,
    "source.git.checkout": GIT,
    "internal": OWN,
    "frontend": OWN,
}
"""BuildKit's types of records -> what people call them; a type that is not here is called by its own name."""
_MOUNT_ID = re.compile(r' with id ("(?:[^"\\]|\\.)*")\Z', re.DOTALL)
_MOUNT_TARGET = re.compile(r"cached mount (\S+) from exec ")
_NEVER = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cached:
    """One record of a builder's cache."""

    id: str
    type: str
    """BuildKit's own word, such as `exec.cachemount`."""
    size: int
    """Bytes it takes on the builder's disk, without those of its parents."""
    in_use: bool = False
    """Whether a build has it now, or another record that is in use stands on it: it cannot go."""
    shared: bool = False
    """Whether an image has it too: then nothing is freed where it goes, and BuildKit leaves it."""
    last_used: datetime | None = None
    """None for one that was made and never used again."""
    uses: int = 0
    parents: tuple[str, ...] = ()
    """The records it stands on: none of them can go before it does."""
    description: str = ""

    @property
    def kind(self) -> str:
        """What people call it: one of `KINDS`' values, or BuildKit's own word."""
        return KINDS.get(self.type, self.type or LAYERS)

    @property
    def mount(self) -> str:
        """The id of a cache mount, as a Dockerfile writes it, or the path where it has none; empty for all else.

        With the build argument BUILDKIT_CACHE_MOUNT_NS, that stands in front of it.
        """
        if self.kind != MOUNTS:
            return ""
        if found := _MOUNT_ID.search(self.description):
            # BuildKit's Dockerfile frontend puts NAMESPACE/ before the id, also where there is no namespace.
            return found[1][1:-1].replace('\\"', '"').replace("\\\\", "\\").removeprefix("/")
        target = _MOUNT_TARGET.match(self.description)
        return target[1] if target else self.description


@dataclass(frozen=True, slots=True)
class Amount:
    """Some records of one kind, or of one cache mount."""

    name: str
    count: int
    size: int
    """Bytes."""
    reclaimable: int
    """Bytes of those that no build has now and no image has too."""
    services: tuple[str, ...] = ()
    """Whose Dockerfiles mount it, sorted; only of a cache mount."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Holding:
    """What a builder's cache holds."""

    builder: str
    exact: bool
    """Whether sizes are to the byte; else they are those that buildx prints, of four digits."""
    records: tuple[Cached, ...] = field(repr=False)

    @property
    def total(self) -> Amount:
        """All of it."""
        return amount("total", self.records)

    def kinds(self) -> tuple[Amount, ...]:
        """By kind, the largest first."""
        return _amounts((record.kind, record) for record in self.records)

    def mounts(self, used_by: Mapping[str, Sequence[str]]) -> tuple[Amount, ...]:
        """By the id of a cache mount, the largest first; `used_by`: id -> the services whose Dockerfiles mount it."""
        return _amounts(((record.mount, record) for record in self.records if record.mount), used_by)


def amount(name: str, records: Iterable[Cached], services: Iterable[str] = ()) -> Amount:
    """The sums of some records."""
    taken = tuple(records)
    free = sum(record.size for record in taken if not record.in_use and not record.shared)
    return Amount(name, len(taken), sum(record.size for record in taken), free, tuple(sorted(services)))


def _amounts(named: Iterable[tuple[str, Cached]], services: Mapping[str, Sequence[str]] = {}) -> tuple[Amount, ...]:
    groups: dict[str, list[Cached]] = {}
    for name, record in named:
        groups.setdefault(name, []).append(record)
    amounts = [amount(name, records, services.get(name, ())) for name, records in groups.items()]
    return tuple(sorted(amounts, key=lambda one: (-one.size, one.name)))


def would_go(
    records: Sequence[Cached], *, now: datetime, keep_bytes: int | None = None, older_than_s: float | None = None
) -> tuple[Cached, ...]:
    """The records that BuildKit would take away, nearly in its order; it looks again when it does.

    Args:
        records: all of a builder's.
        now: the builder's time.
        keep_bytes: stop once those that no image has too are no more than this; None for no such limit.
        older_than_s: take only what was not used for so many seconds.
    """
    before = now - timedelta(seconds=older_than_s or 0)
    wanted = {
        record.id: record
        for record in records
        if not record.in_use
        and not record.shared
        and record.kind != OWN
        and (record.last_used is None or older_than_s is None or record.last_used < before)
    }
    left = sum(record.size for record in records if not record.shared)
    going: list[Cached] = []
    for record in _least_wanted_first(wanted, records):
        if keep_bytes is not None and left <= keep_bytes:
            break
        going.append(record)
        left -= record.size
    return tuple(going)


def _least_wanted_first(wanted: Mapping[str, Cached], records: Sequence[Cached]) -> Iterator[Cached]:
    """By how long ago and how seldom each was used; what others stand on only once those are gone.

    Age and use count alike, by rank. BuildKit ranks anew behind each that went.
    """
    order = _order(wanted.values())
    standing = Counter(parent for record in records for parent in record.parents)
    ready = [(order[name], name) for name in wanted if not standing[name]]
    heapify(ready)
    while ready:
        record = wanted[heappop(ready)[1]]
        yield record
        for parent in record.parents:
            standing[parent] -= 1
            if not standing[parent] and parent in wanted:
                heappush(ready, (order[parent], parent))


def _order(records: Collection[Cached]) -> dict[str, float]:
    ages = _ranks(record.last_used or _NEVER for record in records)
    uses = _ranks(record.uses for record in records)
    return {
        record.id: ages[record.last_used or _NEVER] / len(ages) + uses[record.uses] / len(uses) for record in records
    }


def _ranks(values: Iterable[Rank]) -> dict[Rank, int]:
    return {value: at for at, value in enumerate(sorted(set(values)), 1)}
