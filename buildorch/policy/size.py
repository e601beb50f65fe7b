"""`size`: an image stays within its budget, on every platform.

In: a `Subject`. Out: an error above `max`, a warning above `target`; each names the three heaviest layers.
Touches nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from buildorch.policy.instruction import shortened
from buildorch.quantities import human_bytes
from buildorch.record import Finding, Layer, PlatformRecord

if TYPE_CHECKING:
    from collections.abc import Iterator

    from buildorch.policy.subject import Subject
    from buildorch.services import Size

HEAVIEST = 3


def rule(subject: Subject) -> Iterator[Finding]:
    """Judge each platform's size."""
    budget = subject.spec.size
    if budget is None:
        return
    for name, image in subject.images.items():
        yield from _judge(name, image.facts, budget)


def _judge(name: str, platform: PlatformRecord, budget: Size) -> Iterator[Finding]:
    actual = platform.unpacked_bytes if budget.of == "unpacked" else platform.compressed_bytes
    if actual is None:
        yield Finding(
            rule="size",
            severity="warning",
            message=f"{name}: the compressed size is not known on a store that keeps no compressed layers",
            hint="push the image, or budget its unpacked size",
        )
        return
    for limit, word, severity in ((budget.max, "max", "error"), (budget.target, "target", "warning")):
        if limit is not None and actual > limit:
            yield Finding(
                rule="size",
                severity="error" if severity == "error" else "warning",
                message=f"{name}: {budget.of} {_both(actual)} is over the {word} of {_both(limit)} "
                f"by {human_bytes(actual - limit)}",
                hint=f"heaviest layers: {_heaviest(platform.layers, budget.of)}",
            )
            return


def _heaviest(layers: tuple[Layer, ...], of: str) -> str:
    def weight(layer: Layer) -> int:
        return layer.unpacked_bytes if of == "unpacked" else layer.compressed_bytes or 0

    top = sorted(layers, key=weight, reverse=True)[:HEAVIEST]
    return "; ".join(f"{human_bytes(weight(layer))} {shortened(layer.created_by)}" for layer in top)


def _both(count: int) -> str:
    return f"{human_bytes(count)} ({count} B)"
