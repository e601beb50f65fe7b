"""A run as one page of HTML: without a script, without an address, readable on a phone, in the dark and on paper.

In: a `Report`, and its services' history. Out: HTML. Touches: the page's template and style, beside this module. Loads
jinja2 and pygal.

Every name, message and log line is data: jinja2 escapes it, and what cannot be printed is shown (`printable`). The
page's Content-Security-Policy allows its one style, by its digest, and nothing else.
"""

from __future__ import annotations

from base64 import b64encode
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from buildorch import __version__
from buildorch.quantities import human_bytes, human_seconds, signed_bytes
from buildorch.report import charts
from buildorch.report.figures import all_findings, budget_bytes, figures, judged_bytes
from buildorch.report.past import before_run, earlier
from buildorch.report.since import since
from buildorch.report.text import budget_text, bytes_text, printable, short_digest
from buildorch.report.timing import timing

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from buildorch.ledger import Entry
    from buildorch.record import Report, ServiceRecord
    from buildorch.report.figures import ImageFigures
    from buildorch.report.timing import Built, Timing

TEMPLATES = Path(__file__).with_name("templates")
MOST_CHARTED = 40
"""Services that are shown in detail: with all of 200 the page would be larger than a mail may be."""
MOST_STEPS = 100
"""Of a service, in its table."""


def run_html(report: Report, history: Mapping[str, Sequence[Entry]] | None = None) -> str:
    """The page.

    Args:
        report: the run.
        history: service -> its records, the newest first; without it nothing is said of what was before.
    """
    style = (TEMPLATES / "run.css").read_text("utf-8")
    counted, done = figures(report), timing(report)
    charted = _charted(report, done)
    return (
        _environment()
        .get_template("run.html")
        .render(
            version=__version__,
            style=Markup(style),  # noqa: S704 - a file of this package
            style_digest=b64encode(sha256(style.encode()).digest()).decode(),
            report=report,
            counted=counted,
            done=done,
            timeline=_drawn(charts.run_timeline(done)) if done.services else "",
            built=[
                (one, _drawn(charts.step_timeline(one)) if _has_chart(one, charted) else "") for one in done.services
            ],
            images=[(one, _treemap(one) if one.service in charted else "") for one in counted.images if one.facts],
            changes=since(report, before_run(report, history)) if history is not None else (),
            past=list(_trends(report, history or {}, charted)),
            findings=all_findings(report),
            failures=[(name, record) for name, record in report.services.items() if record.error],
            charted=charted,
            most_steps=MOST_STEPS,
        )
    )


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_shown,
    )
    environment.filters |= {
        "bytes": bytes_text,
        "signed": signed_bytes,
        "seconds": human_seconds,
        "short": short_digest,
        "instruction": charts.instruction,
    }
    environment.globals |= {"budget_text": budget_text, "share": _share}
    return environment


def _shown(value: Any) -> Any:  # noqa: ANN401 - whatever a template prints
    """Every text that the template prints passes here: no control character and no change of direction goes through."""
    return printable(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _charted(report: Report, done: Timing) -> set[str]:
    """The services that get charts: those that took longest, then those that were not built."""
    longest = [one.name for one in sorted(done.services, key=lambda one: -one.duration_s)]
    return set(list(dict.fromkeys([*longest, *report.services]))[:MOST_CHARTED])


def _has_chart(built: Built, charted: set[str]) -> bool:
    return built.name in charted and bool(charts.noteworthy(built.steps))


def _drawn(svg: str) -> Markup:
    return Markup(svg)  # noqa: S704 - pygal's, in which it escaped every text, and `charts` took the rest out


def _treemap(image: ImageFigures) -> Markup | str:
    if image.facts is None or not image.facts.unpacked_bytes:
        return ""
    return _drawn(charts.treemap(image.facts, image.record.budget, f"{image.service} {image.platform}, size by layer"))


def _share(image: ImageFigures) -> float | None:
    """How much of its budget an image takes: 1 is all of it; None without a budget."""
    limit = budget_bytes(image.record.budget)
    actual = judged_bytes(image.facts, image.record.budget) if image.facts and image.record.budget else None
    return actual / limit if limit and actual is not None else None


def _trends(
    report: Report, history: Mapping[str, Sequence[Entry]], charted: set[str]
) -> Iterator[tuple[str, Markup | str, Markup | str, list[tuple[str, ServiceRecord]]]]:
    """Service, the chart of its size and that of its builds' time, and what they show, the oldest first."""
    for name, record in report.services.items():
        told = [(one.started_at, one.record) for one in reversed(earlier(report, history.get(name, ())))]
        rows = [*told, (report.started_at, record)]
        if told and name in charted:
            yield name, _size_trend(name, record, rows), _time_trend(name, rows), rows


def _size_trend(name: str, record: ServiceRecord, rows: Sequence[tuple[str, ServiceRecord]]) -> Markup | str:
    """Of the first platform; the table has all."""
    platforms = [one for _, each in rows for one in each.platforms]
    if not platforms:
        return ""
    first, budget = platforms[-1], record.budget
    sized = [(at, each.platforms[first].unpacked_bytes) for at, each in rows if first in each.platforms]
    limit = budget_bytes(budget) if budget and budget.of == "unpacked" else None
    title = f"{name} {first}, unpacked size of each run"
    return _drawn(charts.trend([size for _, size in sized], _days(sized), human_bytes, title, limit=limit))


def _time_trend(name: str, rows: Sequence[tuple[str, ServiceRecord]]) -> Markup | str:
    """Of builds alone: a skip takes no time."""
    built = [(at, one.duration_s) for at, one in rows if one.status == "built"]
    if not built:
        return ""
    title = f"{name}, time of each build"
    return _drawn(charts.trend([took for _, took in built], _days(built), human_seconds, title))


def _days(rows: Sequence[tuple[str, object]]) -> list[str]:
    """The day of each; the time of day where all are of one."""
    days = {at[:10] for at, _ in rows}
    return [at[11:16] if len(days) == 1 else at[:10] for at, _ in rows]
