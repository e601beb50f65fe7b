"""What a builder's cache holds, and what a prune would take, for people and programs.

In: a `Holding`. Out: text, or what JSON is made of. Touches nothing.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from buildorch.build_cache import amount
from buildorch.quantities import human_bytes, some_of
from buildorch.report.text import UNKNOWN, printable, table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from buildorch.build_cache import Amount, Cached, Holding

SHOWN = 20
"""How many rows of a table people get; JSON has all."""
_EXACT = "SIZE is what a record takes on the builder's disk, to the byte, without the layers below it."
_ROUNDED = "SIZE is what a record takes on the builder's disk, as buildx prints it: four digits."
_FREE = "RECLAIMABLE is what no build has now and no image has too: the most that a prune can free."


def holding_text(holding: Holding, used_by: Mapping[str, Sequence[str]]) -> str:
    """By kind, and by cache mount with the services that mount it; and what the numbers mean."""
    kinds = [_row(one) for one in (*holding.kinds(), holding.total)]
    parts = [table((f"CACHE OF {printable(holding.builder)}", "COUNT", "SIZE", "RECLAIMABLE"), kinds, right=(1, 2, 3))]
    if mounts := holding.mounts(used_by):
        rows = [(*_row(one), ", ".join(one.services) or UNKNOWN) for one in mounts[:SHOWN]]
        parts.append("\n" + table(("CACHE MOUNT", "COUNT", "SIZE", "RECLAIMABLE", "SERVICES"), rows, right=(1, 2, 3)))
        if len(mounts) > SHOWN:
            parts.append(f"and {len(mounts) - SHOWN} more: --format json has all")
    return "\n".join([*parts, "", _EXACT if holding.exact else _ROUNDED, _FREE])


def holding_document(holding: Holding, used_by: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """The same for programs, bytes as numbers."""
    return {
        "schema": "buildorch.cache/1",
        "builder": holding.builder,
        "exact": holding.exact,
        "total": _plain(holding.total),
        "kinds": [_plain(one) for one in holding.kinds()],
        "mounts": [asdict(one) | {"services": list(one.services)} for one in holding.mounts(used_by)],
    }


def going_text(going: Sequence[Cached], *, builder: str, used_by: Mapping[str, Sequence[str]]) -> str:
    """What would go: how much of which kind, and the largest ones."""
    if not going:
        return f"nothing would go from the cache of {printable(builder)}"
    largest = sorted(going, key=lambda one: -one.size)[:SHOWN]
    rows = [(one.kind, human_bytes(one.size), _when(one), _what(one, used_by)) for one in largest]
    total = amount("", going)
    lines = [table(("KIND", "SIZE", "LAST USED (UTC)", "WHAT"), rows, right=(1,))]
    if len(going) > SHOWN:
        lines.append(f"and {len(going) - SHOWN} smaller ones")
    lines.append(
        f"{len(going)} records, {human_bytes(total.size)}, would go from the cache of {printable(builder)}; "
        "BuildKit looks again and chooses itself, and what a build has by then stays"
    )
    return "\n".join(lines)


def going_document(going: Sequence[Cached], *, builder: str, freed: int | None) -> dict[str, Any]:
    """The same for programs; `freed` is null where nothing was taken."""
    return {
        "schema": "buildorch.cache-prune/1",
        "builder": builder,
        "would_go": [
            {
                "id": one.id,
                "kind": one.kind,
                "size": one.size,
                "last_used": one.last_used.isoformat() if one.last_used else None,
                "mount": one.mount or None,
                "description": one.description,
            }
            for one in going
        ],
        "would_go_bytes": sum(one.size for one in going),
        "freed_bytes": freed,
    }


def _row(one: Amount) -> tuple[str, str, str, str]:
    return printable(one.name), str(one.count), human_bytes(one.size), human_bytes(one.reclaimable)


def _plain(one: Amount) -> dict[str, Any]:
    return {"name": one.name, "count": one.count, "size": one.size, "reclaimable": one.reclaimable}


def _when(one: Cached) -> str:
    return f"{one.last_used:%Y-%m-%d %H:%M}" if one.last_used else UNKNOWN


def _what(one: Cached, used_by: Mapping[str, Sequence[str]]) -> str:
    """A mount's id and services, or the first of what BuildKit says of a record."""
    if one.mount:
        services = used_by.get(one.mount, ())
        return printable(one.mount) + (f" ({some_of(services)})" if services else "")
    said = " ".join(one.description.split())
    return printable(said if len(said) <= 60 else f"{said[:57]}...") or UNKNOWN
