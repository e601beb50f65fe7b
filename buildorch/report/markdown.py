"""A run as Markdown, for the job summary of GitHub Actions and for comments on a change.

In: a `Report`, and the records before it. Out: GitHub Flavored Markdown, no longer than it may be. Touches nothing.

Names, messages and log text are data: in a line every sign that could be Markdown or HTML is a character reference,
which no parser takes for markup (CommonMark 0.31, section 2.5); a log is the escaped text of a `<pre>`.

Source: GitHub, "Workflow commands: adding a job summary": 1 MiB a step, beyond which nothing of it is shown.
"""

from __future__ import annotations

import re
from html import escape
from typing import TYPE_CHECKING

from buildorch.quantities import human_bytes, human_seconds, signed_bytes
from buildorch.report.figures import all_findings, figures
from buildorch.report.since import since
from buildorch.report.text import UNKNOWN, budget_text, bytes_text, printable, short_digest

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from buildorch.record import Failure, Report, ServiceRecord
    from buildorch.report.figures import Figures, ImageFigures
    from buildorch.report.since import Since

SUMMARY_BYTES = 1024 * 1024
"""What GitHub takes of one step."""
_SIGN = re.compile(r"""[^\w ,.:;%()/+'"=?!-]|_|(?<=w)\.|:(?![\s\d]|$)""")


def run_markdown(
    report: Report, before: Mapping[str, ServiceRecord] | None = None, *, at_most: int = SUMMARY_BYTES
) -> str:
    """The run's summary: the head, what failed, what is wrong, the images, what changed.

    Args:
        report: the run.
        before: service -> its last record with an image before the run; None where that is not known.
        at_most: bytes of UTF-8; parts are left out, the last ones first, and it says so.

    Returns:
        The text; empty where not even the head fits.
    """
    counted = figures(report)
    parts = [
        _head(report, counted),
        "".join(_failures(report)),
        _findings(report),
        _images(counted),
        "" if before is None else _since(since(report, before)),
        _notes(report),
    ]
    return _fitting([part for part in parts if part], at_most)


def told(text: str) -> str:
    """Text as it is, in one line of Markdown."""
    return _SIGN.sub(lambda found: f"&#{ord(found[0])};", printable(text))


def _fitting(parts: Sequence[str], at_most: int) -> str:
    """As many whole parts as fit, from the first; no markup is left open."""
    for count in range(len(parts), 0, -1):
        left_out = len(parts) - count
        note = "\nThe rest does not fit here: it is in the run record.\n" if left_out else ""
        text = "\n".join(parts[:count]) + note
        if len(text.encode()) <= at_most:
            return text
    return ""


def _head(report: Report, counted: Figures) -> str:
    sign = "✅" if report.ok else "❌"
    steps, size = counted.steps, human_bytes(counted.unpacked_bytes)
    what = counted.counted or "nothing to build"
    told_of = (
        f"exit code {report.exit_code}",
        f"run {_code(report.run_id)}",
        _severities(counted),
        f"{steps.cached} of {steps.total} steps cached",
        f"{size} unpacked",
    )
    lines = [f"## {sign} {told(report.project)}: {what} in {human_seconds(report.duration_s)}", "", ", ".join(told_of)]
    if report.git:
        dirty = " with changes" if report.git.dirty else ""
        lines.append(f"commit {_code(report.git.sha)} {told(report.git.branch)}{dirty}")
    return "\n".join([*lines, ""])


def _severities(counted: Figures) -> str:
    errors = f"{counted.errors} error{'' if counted.errors == 1 else 's'}"
    return f"{errors}, {counted.warnings} warning{'' if counted.warnings == 1 else 's'}"


def _failures(report: Report) -> Iterator[str]:
    failed = [(name, record) for name, record in report.services.items() if record.error]
    if failed:
        yield "### Failures\n"
    for name, record in failed:
        if record.error:
            yield from _failure(name, record.status, record.error)


def _failure(name: str, status: str, failure: Failure) -> Iterator[str]:
    where = f"{_code(f'{failure.dockerfile}:{failure.line}')}: " if failure.line else ""
    yield f"\n**{told(name)}** {status}: {where}{told(failure.message)}\n"
    if failure.hint:
        yield f"\nhint: {told(failure.hint)}\n"
    if failure.log:
        step = escape(printable(failure.step.partition("\n")[0]))
        lines = "\n".join(escape(printable(line)) for line in failure.log)
        yield f"\n<details><summary>the last lines of <code>{step}</code></summary>\n\n"
        yield f"<pre>\n{lines}\n</pre>\n\n</details>\n"


def _findings(report: Report) -> str:
    rows = [
        (told(name), found.severity, _code(found.rule), told(found.message), told(found.hint))
        for name, found in all_findings(report)
    ]
    return _section("Findings", ("service", "severity", "rule", "what", "next step"), rows)


def _images(counted: Figures) -> str:
    head = ("service", "platform", "status", "digest", "compressed", "unpacked", "budget", "cached", "time")
    return _section("Images", head, [_image(image) for image in counted.images], right=(4, 5, 7, 8))


def _image(image: ImageFigures) -> tuple[str, ...]:
    record, steps = image.record, image.record.steps
    return (
        told(image.service),
        told(image.platform) or UNKNOWN,
        record.status,
        _code(short_digest(record.digest)) if record.digest else UNKNOWN,
        bytes_text(image.compressed_bytes),
        bytes_text(image.unpacked_bytes),
        budget_text(image.facts, record.budget) if image.facts else UNKNOWN,
        f"{steps.cached}/{steps.total}" if steps.total else UNKNOWN,
        human_seconds(record.duration_s),
    )


def _since(changes: Iterable[Since]) -> str:
    rows = [
        (told(one.service), one.kind, _growth(one), _times(one), told(one.reason))
        for one in changes
        if one.kind != "same"
    ]
    head = ("service", "image", "unpacked", "time", "why")
    return _section("Changed since the last image", head, rows, right=(2, 3))


def _growth(one: Since) -> str:
    several = len(one.growth) > 1
    return ", ".join(
        f"{told(each.platform)} {signed_bytes(each.delta_bytes)}" if several else signed_bytes(each.delta_bytes)
        for each in one.growth
    )


def _times(one: Since) -> str:
    if one.before_s is None or one.after_s is None:
        return ""
    return f"{human_seconds(one.before_s)} → {human_seconds(one.after_s)}"


def _notes(report: Report) -> str:
    lines = []
    if stand_ins := sorted({base for record in report.services.values() for base in record.stand_ins}):
        users = [name for name, record in report.services.items() if record.stand_ins]
        lines.append(f"{told(', '.join(users))}: built on stand-ins for {told(', '.join(stand_ins))}")
    lines += [
        f"{told(name)}: not published: {told(record.withheld)}"
        for name, record in report.services.items()
        if record.withheld
    ]
    return "".join(f"\nNote: {line}\n" for line in lines)


def _section(title: str, head: Sequence[str], rows: Sequence[Sequence[str]], *, right: Sequence[int] = ()) -> str:
    if not rows:
        return ""
    rule = ["---:" if at in right else "---" for at in range(len(head))]
    lines = [f"| {' | '.join(cells)} |" for cells in (head, rule, *rows)]
    return "\n".join([f"### {title}", "", *lines, ""])


def _code(text: str) -> str:
    """Text in the type of code; a code span of Markdown's own takes no character references."""
    return f"<code>{told(text)}</code>"
