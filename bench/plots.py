"""Figures as pictures for docs/performance.md.

In: figures. Out: an SVG file.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path


def growth(points: Mapping[int, float], path: Path) -> None:
    """Seconds of a run in which nothing changed, by the number of services."""
    import pygal
    from pygal.style import Style

    style = Style(
        background="transparent", plot_background="transparent", font_family="sans-serif", colors=("#3f6f8f",)
    )
    chart = pygal.XY(
        style=style,
        show_legend=False,
        width=640,
        height=320,
        range=(0, max(points.values()) * 1.15),
        title="Nothing changed: seconds by number of services, 500 files each",
        js=[],
    )
    chart.add("buildorch", [(count, round(took, 3)) for count, took in points.items()])
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(chart.render(is_unicode=False))
