"""The builders, their nodes, and which runs build now, for people and programs.

In: `Builder`s, the holders of leases. Out: text, or what JSON is made of. Touches nothing.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from buildorch.quantities import some_of
from buildorch.report.text import UNKNOWN, printable, table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from buildorch.buildx.builders import Builder
    from buildorch.events import Holder


def builders_text(builders: Sequence[Builder], building: Mapping[str, Holder]) -> str:
    """A row a node, then a line a run that builds."""
    rows = [
        (
            printable(builder.name) + ("*" if builder.is_current else ""),
            printable(builder.driver),
            printable(node.name),
            printable(node.error or builder.error or node.status),
            printable(node.version) or UNKNOWN,
            printable(some_of(node.platforms, at_most=4)) or UNKNOWN,
            printable(node.endpoint),
        )
        for builder in builders
        for node in builder.nodes
    ]
    head = ("BUILDER", "DRIVER", "NODE", "STATUS", "BUILDKIT", "PLATFORMS", "ENDPOINT")
    runs: dict[Holder, list[str]] = {}
    for service, holder in building.items():
        runs.setdefault(holder, []).append(service)
    lines = [
        f"run {printable(holder.run_id)} (process {holder.pid} on {printable(holder.host)}) builds "
        f"{', '.join(map(printable, services))} since {printable(holder.since)}"
        for holder, services in runs.items()
    ]
    return "\n".join([table(head, rows), "", *(lines or ["no run of this project builds now"])])


def builders_document(builders: Sequence[Builder], building: Mapping[str, Holder]) -> dict[str, Any]:
    """The same for programs."""
    return {
        "schema": "buildorch.builders/1",
        "builders": [asdict(builder) for builder in builders],
        "building": {service: asdict(holder) for service, holder in building.items()},
    }
