"""The charts of the report, drawn by pygal: timelines, treemaps and lines, as SVG that a page takes in whole.

In: timings, layers, records. Out: SVG without style, script or address; the page's own style colours it by class.
Touches nothing. Loads pygal.

Text in a chart is data: pygal escapes it, and what cannot be printed is shown.
"""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING, Any

import pygal  # type: ignore[import-untyped]
from pygal.style import Style  # type: ignore[import-untyped]

from buildorch.quantities import human_bytes, human_seconds
from buildorch.report.figures import budget_bytes, judged_bytes
from buildorch.report.text import printable

# pygal leaves a finder of its own for map plugins, of a protocol at which Python 3.11 warns with every later import.
sys.meta_path[:] = [one for one in sys.meta_path if not type(one).__module__.startswith("pygal")]

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from buildorch.record import Budget, PlatformRecord
    from buildorch.report.timing import Built, Done, Timing

WIDTH = 960
SMALL_WIDTH = 440
ROW = 26
"""A bar with its share of the space between bars, in the chart's own units."""
AXIS = 34
LABEL = 44
"""Most characters of a bar's name."""
LEAST_SHARE = 0.004
"""Of the axis: what takes no time at all can still be seen."""
MOST_BARS = 40
"""In one chart; the table beside it has all."""
_DIGEST = re.compile(r"(sha256:[0-9a-f]{7})[0-9a-f]+")
_CHARACTER = 7.0
_DROPPED_TAGS = {"defs", "desc", "title"}
_DROPPED_CLASSES = {"plot tooltip-overlay", "titles", "background"}
_DROPPED_ATTRIBUTES = ("id", "rx", "ry", "text-anchor")
_Value = dict[str, Any]


def run_timeline(done: Timing) -> str:
    """A bar for each service, in the order in which they began: waiting, then what was done until its end."""
    shown = sorted(done.services, key=lambda one: (one.begin_s, one.end_s))[:MOST_BARS][::-1]
    rows = [list(_segments(one, done.duration_s)) for one in shown]
    chart = _bars(len(rows), done.duration_s, [one.name for one in shown])
    for at in range(max(map(len, rows), default=0)):
        chart.add("", [row[at] if at < len(row) else None for row in rows])
    return _svg(chart, "the run's timeline")


def step_timeline(built: Built) -> str:
    """A bar for each step that took its time or was an instruction, in the order in which they began."""
    shown = noteworthy(built.steps)[::-1]  # pygal's first bar is the lowest
    origin = min([built.begin_s, *(step.begin_s for step in shown)])
    length = max([built.end_s, *(step.end_s for step in shown)]) - origin
    chart = _bars(len(shown), length, [step.name for step in shown])
    least = length * LEAST_SHARE
    chart.add("", [_bar(step.begin_s - origin, "gap") for step in shown])
    chart.add("", [_bar(max(step.duration_s, least), _class(step), _step_text(step)) for step in shown])
    return _svg(chart, f"the steps of {built.name}")


def noteworthy(steps: Sequence[Done]) -> list[Done]:
    """Instructions, and what else took more than a blink: the first of them."""
    return [step for step in steps if step.is_instruction or step.duration_s >= 0.1][:MOST_BARS]


def treemap(facts: PlatformRecord, budget: Budget | None, title: str) -> str:
    """A field for each layer, as large as its share; and one for what the budget leaves."""
    compressed = budget is not None and budget.of == "compressed"
    layers = [
        (layer.compressed_bytes or 0 if compressed else layer.unpacked_bytes, instruction(layer.created_by))
        for layer in facts.layers
    ]
    largest = sorted((one for one in layers if one[0]), key=lambda one: -one[0])
    chart = _chart(
        pygal.Treemap,
        width=SMALL_WIDTH,
        height=170,
        print_values=True,
        print_labels=True,
        margin=2,
        formatter=human_bytes,
    )
    chart.add("", [_field(size, text, f"layer l{min(at, 5)}") for at, (size, text) in enumerate(largest)])
    limit, actual = budget_bytes(budget), judged_bytes(facts, budget) if budget else None
    if limit and actual is not None and limit > actual:
        chart.add("", [_field(limit - actual, f"left of {human_bytes(limit)}", "left")])
    return _svg(chart, title, _fit_labels)


def trend(
    values: Sequence[float],
    labels: Sequence[str],
    shown: Callable[[Any], str],
    title: str,
    *,
    limit: float | None = None,
) -> str:
    """A line through one value a run, the oldest first; a second, dashed one for a limit."""
    chart = _chart(
        pygal.Line,
        width=SMALL_WIDTH,
        height=150,
        margin=8,
        dots_size=2.5,
        truncate_label=-1,
        formatter=shown,
        max_scale=4,
        min_scale=2,
    )
    chart.value_formatter = shown
    chart.x_labels = [label if at in {0, len(labels) - 1} else "" for at, label in enumerate(labels)]
    chart.add("", [{"value": value, "tooltip": shown(value)} for value in values])
    if limit is not None:
        chart.add("", [limit] * len(values), show_dots=False)
    return _svg(chart, title)


def instruction(created_by: str) -> str:
    """What made a layer, as short as a field of the treemap is small."""
    text = " ".join(printable(created_by).split()).removeprefix("/bin/sh -c #(nop) ")
    return text.replace("RUN /bin/sh -c ", "RUN ").replace(" # buildkit", "")


def _chart(kind: Any, *, height: float, width: float = WIDTH, **more: Any) -> Any:  # noqa: ANN401 - pygal is untyped
    style = Style(font_family="inherit", label_font_size=11, major_label_font_size=11, value_font_size=11)
    same = {
        "css": (),
        "js": (),
        "show_legend": False,
        "disable_xml_declaration": True,
        "style": style,
        "no_data_text": "",
    }
    return kind(width=width, height=height, **same, **more)


def _bars(rows: int, length: float, labels: Iterable[str]) -> Any:  # noqa: ANN401 - a pygal chart
    chart = _chart(
        pygal.HorizontalStackedBar,
        height=rows * ROW + AXIS,
        margin=0,
        margin_right=14,
        margin_bottom=6,
        spacing=6,
        range=(0, max(length, 0.001)),
        max_scale=8,
    )
    chart.value_formatter = human_seconds
    chart.x_labels = [_short(label) or " " for label in labels]
    return chart


def _short(label: str) -> str:
    """A name that leaves the bars their room: its first line, digests cut short."""
    text = _DIGEST.sub(r"\1…", printable(label.partition("\n")[0]))
    return f"{text[: LABEL - 1]}…" if len(text) > LABEL else text


def _segments(built: Built, length: float) -> Iterator[_Value]:
    """Waiting, and then each stretch in which one kind of thing was done, none over another."""
    least, now = length * LEAST_SHARE, built.begin_s
    yield _bar(built.begin_s, "waiting", f"{built.name} waited {human_seconds(built.begin_s)}")
    critical = " critical" if built.critical else ""
    for step in sorted(built.steps, key=lambda one: (one.begin_s, one.kind == "transfer", one.end_s)):
        begin, end = max(step.begin_s, now), min(max(step.end_s, step.begin_s + least), built.end_s)
        if end <= now:
            continue
        if begin > now:
            yield _bar(begin - now, f"idle{critical}", f"{built.name}: between steps")
        yield _bar(end - begin, f"{step.kind}{critical}", _step_text(step))
        now = end
    if built.end_s > now:
        yield _bar(built.end_s - now, f"idle{critical}", f"{built.name}: until its process ended")


def _bar(length: float, kind: str, text: str = "") -> _Value:
    value: _Value = {"value": length, "style": kind}
    return {**value, "tooltip": printable(text)} if text else value


def _field(size: int, text: str, kind: str) -> _Value:
    told = printable(text)
    return {"value": size, "label": told, "tooltip": f"{human_bytes(size)}: {told}", "style": kind}


def _class(step: Done) -> str:
    return f"{step.kind} critical" if step.critical else step.kind


def _step_text(step: Done) -> str:
    what = {"cached": "cached", "failed": f"failed after {human_seconds(step.duration_s)}"}
    name = step.name.partition("\n")[0]
    return f"{name}: {what.get(step.kind, human_seconds(step.duration_s))}"


def _svg(chart: Any, title: str, more: Callable[[Any], None] | None = None) -> str:  # noqa: ANN401
    """The chart, nothing in it but shapes, words and classes; `title` is for those who cannot see it."""

    def bare(root: Any) -> Any:  # noqa: ANN401 - an element of ElementTree, or of lxml where that is installed
        _strip(root)
        if more:
            more(root)
        root.set("role", "img")
        root.set("aria-label", printable(title))
        return root

    chart.add_xml_filter(bare)
    text: str = chart.render(is_unicode=True)
    return text


def _strip(node: Any) -> None:  # noqa: ANN401
    """No style is left. A value's own is its class here: pygal hands nothing else on for every kind of chart."""
    kind = node.attrib.pop("style", "")
    if node.get("class") in {"bar", "rect"}:
        node.set("class", f"{node.get('class')} {kind}")
    if "tooltip-trigger" in node.get("class", ""):  # its parent says what it is
        del node.attrib["class"]
    for name in _DROPPED_ATTRIBUTES:
        node.attrib.pop(name, None)
    for name, value in node.attrib.items():
        if name in {"x", "y", "width", "height", "cx", "cy", "r"}:
            node.set(name, f"{float(value):.1f}")
    for child in list(node):
        if _is_dropped(child, node):
            node.remove(child)
        else:
            _strip(child)


def _is_dropped(node: Any, parent: Any) -> bool:  # noqa: ANN401
    if callable(node.tag):  # a comment
        return True
    if node.tag == "title":  # a bar's own says what it is; an axis's only its number
        return parent.tag != "g" or str(parent.get("class", "")).split(" ")[0] not in {"bar", "rect", "dots"}
    if node.get("class") == "guides":  # one for each run, most without a word
        return not any(text.text for text in node.iter("text"))
    return node.tag in _DROPPED_TAGS or node.get("class") in _DROPPED_CLASSES


def _fit_labels(root: Any) -> None:  # noqa: ANN401
    """Take out, or cut short, the words that are larger than their field; pygal prints all of them."""
    fields = list(root.iter("rect"))
    texts = [node for node in root.iter("text") if node.get("class") in {"label", "value"}]
    for at, node in enumerate(texts):
        field = fields[at // 2]
        room = int((float(field.get("width")) - 8) / _CHARACTER)
        words = node.text or ""
        if float(field.get("height")) < 36 or room < 7:
            node.text = ""
        elif len(words) > room:
            node.text = f"{words[: room - 1]}…" if node.get("class") == "label" else ""
