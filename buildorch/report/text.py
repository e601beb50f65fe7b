"""Records -> tables and paragraphs for people.

In: a `Report`, a `Plan`, ledger entries. Out: text. Touches nothing.

Log text and names are data: control characters are shown, never passed on (`printable`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from buildorch.quantities import human_bytes, human_seconds

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from buildorch.changes import Change
    from buildorch.ledger import Entry
    from buildorch.plan import Plan
    from buildorch.record import Budget, Failure, Finding, PlatformRecord, Report, ServiceRecord

UNKNOWN = "-"
_SIGNS = {"added": "+", "removed": "-", "changed": "~"}


def printable(text: str) -> str:
    """`text` with every control character made visible, so that no log line can drive a terminal."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() or char == "\t" else _shown(char) for char in text)


def _shown(char: str) -> str:
    code = ord(char)
    if code < 0x20:
        return chr(0x2400 + code)
    return "\u2421" if code == 0x7F else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def table(head: Sequence[str], rows: Iterable[Sequence[str]], *, right: Sequence[int] = ()) -> str:
    """Aligned columns, two spaces apart, without trailing blanks; the columns in `right` are flush right."""
    lines = [tuple(head), *(tuple(row) for row in rows)]
    widths = [max(len(line[at]) for line in lines) for at in range(len(head))]

    def shown(line: Sequence[str]) -> str:
        cells = [c.rjust(widths[at]) if at in right else c.ljust(widths[at]) for at, c in enumerate(line)]
        return "  ".join(cells).rstrip()

    return "\n".join(map(shown, lines))


def report_text(report: Report) -> str:
    """The run's summary: a table of images, then what is wrong, then notes."""
    rows = [row for name, record in report.services.items() for row in _rows(name, record)]
    head = ("SERVICE", "PLATFORM", "STATUS", "DIGEST", "COMPRESSED", "UNPACKED", "BUDGET", "CACHED", "TIME")
    parts = [table(head, rows, right=(4, 5, 7, 8))]
    for name, record in report.services.items():
        if record.error:
            parts.append(failure_text(name, record.error))
        parts.extend(finding_text(name, finding) for finding in record.findings)
    if stand_ins := {base for record in report.services.values() for base in record.stand_ins}:
        users = [name for name, record in report.services.items() if record.stand_ins]
        official = ", ".join(sorted(stand_ins))
        parts.append(f"note: {', '.join(users)}: built on stand-ins for {official}, not on the official images")
    for why in dict.fromkeys(record.withheld for record in report.services.values() if record.withheld):
        held = [name for name, record in report.services.items() if record.withheld == why]
        parts.append(f"note: {', '.join(held)}: not published: {printable(why)}")
    parts.append(_last_line(report))
    return "\n".join(parts)


def failure_text(name: str, failure: Failure) -> str:
    """One failure: service, stage and step, Dockerfile line, the step's last lines, and the next step."""
    where = f"{failure.dockerfile}:{failure.line}: " if failure.line else ""
    lines = [f"error: {name}: {printable(where + failure.message)}"]
    if failure.step:
        lines.append(f"  step: {printable(failure.step.splitlines()[0])}")
    lines.extend(f"  | {printable(line)}" for line in failure.log)
    if failure.hint:
        lines.append(f"  hint: {printable(failure.hint)}")
    return "\n".join(lines)


def finding_text(name: str, finding: Finding) -> str:
    """One finding against the image `name`, and the next step."""
    text = f"{finding.severity}: {printable(name)}: {printable(finding.rule)}: {printable(finding.message)}"
    return f"{text}\n  hint: {printable(finding.hint)}" if finding.hint else text


def plan_text(plan: Plan, told: Mapping[str, str] | None = None) -> str:
    """What would be built, in order; `told` says for each service what would be done and why."""
    rows = [
        (
            solve.name,
            solve.references[0],
            ",".join(solve.platforms) or "the builder's own",
            ", ".join(solve.depends_on) or UNKNOWN,
            _folder(solve.context, solve.root),
            *([printable(told.get(solve.name, UNKNOWN))] if told else []),
        )
        for solve in plan.solves
    ]
    head = ("SERVICE", "IMAGE", "PLATFORM", "BUILDS ON", "CONTEXT")
    return table((*head, "WHAT AND WHY") if told else head, rows)


def explained_text(name: str, told: str, changes: Iterable[Change]) -> str:
    """What would be done with a service, and below it one line for each input that changed."""
    return "\n".join(
        [
            f"{name}: {printable(told)}",
            *(f"  {_SIGNS[change.kind]} {printable(change.subject)}{_detail(change)}" for change in changes),
        ]
    )


def _detail(change: Change) -> str:
    return f" ({printable(change.detail)})" if change.detail else ""


def entries_text(entries: Iterable[Entry], *, with_service: bool) -> str:
    """Ledger rows: each service's last record, or one service's history."""
    rows = []
    for entry in entries:
        record = entry.record
        known: dict[str, PlatformRecord | None] = {**record.platforms} or {UNKNOWN: None}
        for platform, facts in known.items():
            row = (
                entry.started_at[:19].replace("T", " "),
                record.status,
                platform,
                short_digest(record.digest),
                bytes_text(facts.compressed_bytes if facts else None),
                bytes_text(facts.unpacked_bytes if facts else None),
                human_seconds(record.duration_s),
                record.reference,
            )
            rows.append((entry.service, *row) if with_service else row)
    head = ("WHEN (UTC)", "STATUS", "PLATFORM", "DIGEST", "COMPRESSED", "UNPACKED", "TIME", "IMAGE")
    shift = 1 if with_service else 0
    return table(("SERVICE", *head) if with_service else head, rows, right=(4 + shift, 5 + shift, 6 + shift))


def budget_text(facts: PlatformRecord, budget: Budget | None) -> str:
    """What one platform's image leaves of its budget, or how far it is over."""
    if budget is None:
        return UNKNOWN
    limit = budget.max_bytes or budget.target_bytes
    actual = facts.unpacked_bytes if budget.of == "unpacked" else facts.compressed_bytes
    if limit is None or actual is None:
        return UNKNOWN
    verb = "over" if actual > limit else "left of"
    which = "" if budget.of == "unpacked" else " compressed"
    return f"{human_bytes(abs(limit - actual))} {verb} {human_bytes(limit)}{which}"


def short_digest(digest: str | None) -> str:
    """A digest's first characters: enough to tell two apart."""
    return digest[:19] if digest else UNKNOWN


def _rows(name: str, record: ServiceRecord) -> list[tuple[str, ...]]:
    steps = record.steps
    tail = (f"{steps.cached}/{steps.total}" if steps.total else UNKNOWN, human_seconds(record.duration_s))
    if not record.platforms:
        return [(name, UNKNOWN, record.status, short_digest(record.digest), UNKNOWN, UNKNOWN, UNKNOWN, *tail)]
    return [
        (
            name,
            platform,
            record.status,
            short_digest(record.digest),
            bytes_text(facts.compressed_bytes),
            bytes_text(facts.unpacked_bytes),
            budget_text(facts, record.budget),
            *tail,
        )
        for platform, facts in record.platforms.items()
    ]


def _last_line(report: Report) -> str:
    counts: dict[str, int] = {}
    for record in report.services.values():
        counts[record.status] = counts.get(record.status, 0) + 1
    said = ", ".join(f"{count} {status}" for status, count in counts.items())
    return f"{said} in {human_seconds(report.duration_s)} (exit {report.exit_code}, run {report.run_id})"


def bytes_text(count: int | None) -> str:
    """A size for people, or the sign for none."""
    return UNKNOWN if count is None else human_bytes(count)


def _folder(context: object, root: object) -> str:
    return printable(str(context).removeprefix(f"{root}/"))
