"""A run as a trace of the Trace Event Format, for Perfetto, Speedscope and Chrome's own viewer.

In: a `Report`. Out: JSON. Touches nothing.

The run is one process and each service that was built another; steps that ran at the same time have threads of their
own, as the events of a thread must lie in each other or apart.

Source: Google, "Trace Event Format": complete events (`X`, microseconds) and metadata (`M`).
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from buildorch.report.text import printable
from buildorch.report.timing import timing

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from buildorch.record import Report
    from buildorch.report.timing import Built, Done, Timing

RUN, SERVICE = "run", "service"


def run_trace(report: Report) -> str:
    """The trace; its times are those of the wall clock."""
    done = timing(report)
    events = [*_run(report, done)]
    for pid, built in enumerate(done.services, 2):
        events += _service(pid, built, done.began_at)
    other = {"run_id": printable(report.run_id), "project": printable(report.project), "exit_code": report.exit_code}
    return json.dumps({"traceEvents": events, "displayTimeUnit": "ms", "otherData": other}) + "\n"


def lanes(steps: Sequence[Done]) -> list[list[Done]]:
    """The steps in as few rows as it takes for those of one row not to overlap."""
    rows: list[list[Done]] = []
    for step in sorted(steps, key=lambda one: (one.begin_s, one.end_s)):
        row = next((row for row in rows if row[-1].end_s <= step.begin_s), None)
        if row is None:
            rows.append([step])
        else:
            row.append(step)
    return rows


def _run(report: Report, done: Timing) -> Iterator[dict[str, Any]]:
    yield _named("process_name", 1, 0, f"buildorch {report.project}")
    yield _named("thread_name", 1, 1, f"run {report.run_id}")
    yield _complete(1, 1, report.run_id, RUN, (done.began_at, 0.0, done.duration_s), {"exit_code": report.exit_code})


def _service(pid: int, built: Built, began_at: float) -> Iterator[dict[str, Any]]:
    yield _named("process_name", pid, 0, built.name)
    yield _named("thread_name", pid, 1, "build")
    told: dict[str, Any] = {"status": built.status, "critical": built.critical, "waited_s": round(built.begin_s, 3)}
    yield _complete(pid, 1, built.name, SERVICE, (began_at, built.begin_s, built.duration_s), told)
    for tid, row in enumerate(lanes(built.steps), 2):
        yield _named("thread_name", pid, tid, f"steps {tid - 1}")
        for step in row:
            args = {"kind": step.kind, "critical": step.critical}
            yield _complete(pid, tid, step.name, step.kind, (began_at, step.begin_s, step.duration_s), args)


def _complete(
    pid: int, tid: int, name: str, category: str, when: tuple[float, float, float], args: dict[str, Any]
) -> dict[str, Any]:
    """One event; `when` is the run's start, what comes after it, and the duration, in seconds."""
    began_at, begin, duration = when
    start = round((began_at + begin) * 1e6)
    end = round((began_at + begin + duration) * 1e6)
    whose = {"name": printable(name), "cat": category, "pid": pid, "tid": tid}
    return {**whose, "ph": "X", "ts": start, "dur": end - start, "args": args}


def _named(what: str, pid: int, tid: int, name: str) -> dict[str, Any]:
    return {"name": what, "ph": "M", "pid": pid, "tid": tid, "ts": 0, "args": {"name": printable(name)}}
