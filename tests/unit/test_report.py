"""Every view over the events: text, live, plain, JSON lines, logs."""

from __future__ import annotations

import dataclasses
import io
import json
import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from buildorch import logging_config
from buildorch.cli import running
from buildorch.events import (
    Event,
    Holder,
    LeaseAwaited,
    RunFinished,
    RunStarted,
    ServiceFinished,
    SolveFinished,
    SolveRetried,
    SolveStarted,
    StepFinished,
    StepLogged,
    StepProgress,
    StepStarted,
    StepWarned,
    events_schema,
    to_json,
)
from buildorch.ledger import Entry
from buildorch.quantities import human_bytes, human_seconds
from buildorch.record import Budget, Failure, FailureKind, Finding, Report, ServiceRecord, Solved, Steps
from buildorch.report.folds import GitHubFolds, folds
from buildorch.report.lines import JsonLinesView
from buildorch.report.logs import LogView
from buildorch.report.plain import PlainView
from buildorch.report.text import entries_text, failure_text, plan_text, printable, report_text, table
from buildorch.testing import make_digest, make_engine_facts, make_failure, make_plan, make_platform, make_record

AT = "2026-01-31T12:00:00.000Z"


@cache
def _events() -> Any:
    return Draft202012Validator(events_schema())


EVIL = "\x1b[2J\x1b]0;title\x07 \x9b31m \u202e \x00 \x7f"


def make_report(**services: ServiceRecord) -> Report:
    return Report(
        run_id="r1",
        project="shop",
        started_at=AT,
        duration_s=41.2,
        exit_code=1,
        jobs=2,
        git=None,
        engine=make_engine_facts(),
        services=services,
    )


def built(**more: Any) -> ServiceRecord:
    base = make_record(digest=make_digest("image"))
    return dataclasses.replace(base, duration_s=20.1, steps=Steps(total=9, cached=4, executed=5), **more)


HOLDER = Holder(run_id="r0", pid=123, host=f"here{EVIL}", since=AT)

EVERY_EVENT: list[Event] = [
    LeaseAwaited(at=AT, service="app", holder=HOLDER),
    LeaseAwaited(at=AT, service="app", holder=None),
    RunStarted(at=AT, run_id="r1", project="shop", services=("app", "broken"), jobs=2, engine=make_engine_facts()),
    SolveStarted(at=AT, service="app", attempt=1, reason="first build"),
    StepStarted(service="app", vertex="sha256:a", name="[1/2] RUN x", step=True, index=1, total=2),
    StepProgress(service="app", vertex="sha256:a", item="sha256:b", current=1000, total=0),
    StepLogged(service="app", vertex="sha256:a", name="[1/2] RUN x", lines=("one", EVIL)),
    StepWarned(service="app", message="a check", line=3, url="https://docs.example"),
    StepFinished(service="app", vertex="sha256:a", name="[1/2] RUN x", step=True, cached=False, duration_s=3.25),
    SolveRetried(
        at=AT, service="app", attempt=1, failure=make_failure(FailureKind.REGISTRY, transient=True), delay_s=0.7
    ),
    SolveStarted(at=AT, service="app", attempt=2, reason="first build"),
    SolveFinished(
        at=AT,
        service="app",
        started_at=AT,
        duration_s=4.0,
        attempts=2,
        solved=Solved(name="shop/app:latest", digest=make_digest("image"), pinned=True),
    ),
    ServiceFinished(at=AT, service="app", record=built()),
    SolveFinished(at=AT, service="broken", started_at=None, duration_s=0.0, attempts=0, failure=make_failure()),
    ServiceFinished(at=AT, service="broken", record=make_record("failed", error=make_failure())),
    RunFinished(at=AT, report=make_report(app=built())),
]


def test_every_kind_of_event_is_among_the_samples():
    from typing import get_args

    assert {type(event) for event in EVERY_EVENT} == set(get_args(Event))


@pytest.mark.parametrize("event", EVERY_EVENT, ids=lambda event: event.event)
def test_an_event_is_one_line_of_json_that_fits_the_published_schema(event: Event):
    line = to_json(event)

    assert "\n" not in line
    assert line.isascii()
    _events().validate(json.loads(line))


def test_the_json_view_writes_every_event_on_a_line_of_its_own():
    out = io.StringIO()

    with JsonLinesView(out) as view:
        for event in EVERY_EVENT:
            view.update(event)

    lines = out.getvalue().splitlines()
    assert [json.loads(line)["event"] for line in lines] == [event.event for event in EVERY_EVENT]


# --- text


def test_control_characters_are_shown_and_never_passed_on():
    assert printable("a\x1b[31mb\tc\x7f\x9b\u202e") == "a\u241b[31mb\tc\u2421\\u009b\\u202e"


@given(st.text())
def test_no_text_can_drive_a_terminal(text: str):
    assert all(char.isprintable() or char == "\t" for char in printable(text))


@given(st.text(st.characters(categories=["L", "N", "P", "S"], include_characters=" "), max_size=20))
def test_a_text_without_control_characters_is_left_as_it_is(text: str):
    assert printable(text) == text


def test_a_tables_columns_are_aligned_and_numbers_stand_right():
    assert table(("A", "BYTES"), [("long", "1"), ("x", "1000")], right=(1,)) == "A     BYTES\nlong      1\nx      1000"


def test_a_tables_lines_have_no_trailing_blanks():
    assert all(line == line.rstrip() for line in table(("A", "B"), [("x", ""), ("longer", "")]).splitlines())


def test_the_summary_names_each_image_with_digest_sizes_budget_cache_and_time():
    platform = make_platform(unpacked=[100, 50], compressed=[40, 20])
    budget = Budget(max_bytes=200, target_bytes=None, of="unpacked")
    text = report_text(make_report(app=built(platforms={"linux/amd64": platform}, budget=budget)))

    head, row, last = text.splitlines()
    assert head.split() == [
        "SERVICE",
        "PLATFORM",
        "STATUS",
        "DIGEST",
        "COMPRESSED",
        "UNPACKED",
        "BUDGET",
        "CACHED",
        "TIME",
    ]
    for said in (
        "app",
        "linux/amd64",
        "built",
        make_digest("image")[:19],
        "60 B",
        "150 B",
        "50 B left of 200 B",
        "4/9",
        "20.1s",
    ):
        assert said in row
    assert last == "1 built in 41.2s (exit 1, run r1)"


@pytest.mark.parametrize(
    ("budget", "shown"),
    [
        (Budget(max_bytes=200, target_bytes=100, of="unpacked"), "50 B left of 200 B"),
        (Budget(max_bytes=100, target_bytes=None, of="unpacked"), "50 B over 100 B"),
        (Budget(max_bytes=None, target_bytes=100, of="unpacked"), "50 B over 100 B"),
        (Budget(max_bytes=100, target_bytes=None, of="compressed"), "40 B left of 100 B compressed"),
    ],
)
def test_a_budget_is_shown_as_what_is_left_or_over(budget: Budget, shown: str):
    platform = make_platform(unpacked=[150], compressed=[60])

    assert shown in report_text(make_report(app=built(platforms={"linux/amd64": platform}, budget=budget)))


def test_the_summary_tells_a_failure_with_step_line_log_and_next_step():
    failure = Failure(
        kind=FailureKind.STEP_FAILED,
        message="the step exited with 1",
        hint="see above",
        step="[deps 2/4] RUN make\nmore",
        dockerfile="Dockerfile",
        line=7,
        log=("one", "two"),
    )

    text = report_text(make_report(app=make_record("failed", error=failure)))

    assert (
        "error: app: Dockerfile:7: the step exited with 1\n"
        "  step: [deps 2/4] RUN make\n"
        "  | one\n"
        "  | two\n"
        "  hint: see above\n"
    ) in text
    assert "1 failed in 41.2s (exit 1, run r1)" in text


def test_the_summary_tells_findings_and_stand_ins():
    finding = Finding(rule="size", severity="error", message="too big", hint="heaviest layers: x")

    text = report_text(make_report(app=built(findings=(finding,), stand_ins=("python:3.13-slim",)), web=built()))

    assert "error: app: size: too big\n  hint: heaviest layers: x\n" in text
    assert "note: app: built on stand-ins for python:3.13-slim, not on the official images\n" in text


def test_no_view_of_text_passes_control_characters_on():
    evil = Failure(
        kind=FailureKind.OTHER, message=EVIL, hint=EVIL, step=EVIL, dockerfile=f"Docker{EVIL}file", line=1, log=(EVIL,)
    )
    finding = Finding(rule="bases", severity="error", message=EVIL, hint=EVIL)
    record = built(error=evil, findings=(finding,))

    texts = [
        report_text(make_report(app=record)),
        failure_text("app", evil),
        entries_text([Entry(1, "r1", AT, "app", record)], with_service=True),
        plan_text(make_plan({"app": []}, keys='context: "a\\e[31m"')),
        plain([ServiceFinished(at=AT, service="app", record=record), *EVERY_EVENT]),
    ]

    for text in texts:
        assert [char for char in text if not char.isprintable() and char not in "\n\t"] == []


def test_the_plan_is_shown_in_order_with_what_each_service_builds_on():
    text = plan_text(make_plan({"app": ["base"], "base": []}, root=Path("/project")))

    head, base, app = text.splitlines()
    assert head.split() == ["SERVICE", "IMAGE", "PLATFORM", "BUILDS", "ON", "CONTEXT"]
    assert base.split() == ["base", "test/base:latest", "the", "builder's", "own", "-", "services/base"]
    assert app.split()[-2:] == ["base", "services/app"]


@pytest.mark.parametrize("with_service", [False, True])
def test_ledger_entries_are_shown_with_time_status_sizes_and_image(*, with_service: bool):
    entries = [
        Entry(2, "r2", "2026-01-31T12:00:00.000Z", "app", built()),
        Entry(1, "r1", "2026-01-30T12:00:00.000Z", "app", make_record("failed", error=make_failure())),
    ]

    head, newest, oldest = entries_text(entries, with_service=with_service).splitlines()

    assert head.startswith("SERVICE") == with_service
    assert "2026-01-31 12:00:00" in newest
    assert "400 B" in newest
    assert re.search(r"failed\s+-\s+-\s+-\s+-\s+0\.0s", oldest)


@pytest.mark.parametrize(
    ("count", "shown"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (999_949, "999.9 kB"), (999_950, "1.0 MB"), (123_456_789, "123.5 MB"), (5 * 10**12, "5.0 TB"), (10**16, "10000.0 TB")],
)  # fmt: skip
def test_bytes_are_shown_in_decimal_units(count: int, shown: str):
    assert human_bytes(count) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0, "0.0s"), (3.25, "3.2s"), (59.94, "59.9s"), (60, "1m00s"), (75, "1m15s"), (3599.6, "1h00m"), (4000, "1h06m")],
)
def test_durations_are_shown_short(seconds: float, shown: str):
    assert human_seconds(seconds) == shown


# --- plain


def plain(events: list[Event]) -> str:
    out = io.StringIO()
    with PlainView(out) as view:
        for event in events:
            view.update(event)
    return out.getvalue()


def test_the_plain_view_says_each_thing_on_a_line_with_its_service():
    lines = plain(EVERY_EVENT).splitlines()

    assert lines[:2] == [
        f"app | waiting for run r0 (pid 123 on here{printable(EVIL)})",
        "app | waiting for another run",
    ]
    assert lines[2:12] == [
        "2 services, 2 at once, engine 28.0.0",
        "app    | building: first build",
        "app    | [1/2] RUN x",
        "app    |   one",
        f"app    |   {printable(EVIL)}",
        "app    | warning: a check",
        "app    | [1/2] RUN x: 3.2s",
        "app    | trying again in 0.7s: made up: registry",
        "app    | building: first build (attempt 2)",
        f"app    | built in 20.1s test/app:latest {make_digest('image')} (1.0 kB unpacked)",
    ]
    assert lines[12:] == ["broken | failed: made up: step_failed"]


@pytest.mark.parametrize(
    ("event", "line"),
    [
        (StepFinished(service="app", vertex="a", name="[1/1] RUN x\ny", step=True, cached=True, duration_s=0), "[1/1] RUN x ...: CACHED"),
        (StepFinished(service="app", vertex="a", name="exporting", step=False, cached=False, duration_s=1, error="no\nspace"), "exporting: ERROR no ..."),
    ],
)  # fmt: skip
def test_the_plain_view_says_how_a_step_ended_on_one_line(event: Event, line: str):
    assert plain([event]) == f"app | {line}\n"


def test_what_is_no_instruction_is_left_out_of_the_plain_view():
    assert plain([StepStarted(service="app", vertex="a", name="exporting", step=False)]) == ""


# --- plain, on CI


def folded(environ: dict[str, str], events: list[Event]) -> str:
    out, now = io.StringIO(), iter(range(1000, 2000, 7))
    with PlainView(out, folds=folds(environ), clock=lambda: float(next(now))) as view:
        for event in events:
            view.update(event)
    return out.getvalue()


def build_of(service: str, *lines: str, failed: bool = False) -> list[Event]:
    record = make_record("failed", error=make_failure()) if failed else built()
    return [
        SolveStarted(at=AT, service=service, attempt=1, reason="first build"),
        StepStarted(service=service, vertex="v", name="[1/1] RUN x", step=True, index=1, total=1),
        StepLogged(service=service, vertex="v", name="[1/1] RUN x", lines=lines),
        ServiceFinished(at=AT, service=service, record=record),
    ]


STARTED = RunStarted(at=AT, run_id="r", project="p", services=("app", "web"), jobs=2, engine=make_engine_facts())


def test_on_github_a_service_is_folded_once_it_has_finished_however_builds_mix():
    (one, *app), (other, *web) = build_of("app", "a1", "a2"), build_of("web", "w1")
    mixed = [event for pair in zip(app, web, strict=True) for event in pair]

    lines = folded({"GITHUB_ACTIONS": "true"}, [STARTED, one, other, *mixed]).splitlines()

    assert lines[1:] == [
        "app | building: first build",
        "web | building: first build",
        "::group::app: built",
        "app | [1/1] RUN x",
        "app |   a1",
        "app |   a2",
        "::endgroup::",
        lines[8],
        "::group::web: built",
        "web | [1/1] RUN x",
        "web |   w1",
        "::endgroup::",
        lines[13],
    ]
    assert lines[8].startswith("app | built in 20.1s ")


def test_on_gitlab_a_fold_has_the_time_the_service_took():
    text = folded({"GITLAB_CI": "true"}, [STARTED, *build_of("app", "a1")])

    assert "\x1b[0Ksection_start:1000:buildorch_app[collapsed=true]\r\x1b[0Kapp: built\napp | [1/1] RUN x\n" in text
    assert "app |   a1\n\x1b[0Ksection_end:1007:buildorch_app\r\x1b[0K\n" in text


@pytest.mark.parametrize("system", ["GITHUB_ACTIONS", "GITLAB_CI"])
def test_what_failed_is_not_folded(system: str):
    lines = folded({system: "true"}, [STARTED, *build_of("app", "why", failed=True)]).splitlines()

    assert lines[2:] == ["app | [1/1] RUN x", "app |   why", "app | failed: made up: step_failed"]


@pytest.mark.parametrize("environ", [{}, {"GITHUB_ACTIONS": "false"}, {"GITLAB_CI": ""}])
def test_elsewhere_nothing_is_folded(environ: dict[str, str]):
    assert folded(environ, [STARTED, *build_of("app", "a1")]) == plain([STARTED, *build_of("app", "a1")])


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("::set-env name=PATH::/evil", "app |   ::set-env name=PATH::/evil"),
        ("x ##[add-mask]a", "app |   x ## [add-mask]a"),
        ("##[##[error]", "app |   ## [## [error]"),
        ("\r::error::x", "app |   \u240d::error::x"),
    ],
)
@pytest.mark.parametrize("failed", [True, False])
def test_no_log_line_is_a_command_to_github(text: str, shown: str, *, failed: bool):
    lines = folded({"GITHUB_ACTIONS": "true"}, [STARTED, *build_of("app", text, failed=failed)]).splitlines()

    assert shown in lines
    ours = ("::group::app: built", "::endgroup::")
    assert not [line for line in lines if line not in ours and (line.lstrip().startswith("::") or "##[" in line)]


def test_a_line_that_begins_with_a_command_and_no_service_is_none_either():
    assert not GitHubFolds().harmless("  ::error::x").lstrip().startswith("::")


def test_the_table_at_the_end_tells_github_nothing_either(monkeypatch: pytest.MonkeyPatch):
    error = dataclasses.replace(make_failure(), log=("##[add-mask]a", "::error::b"))
    report = make_report(app=make_record("failed", error=error))
    monkeypatch.setenv("GITHUB_ACTIONS", "true")

    lines = running.summary(report).splitlines()

    assert ("  | ## [add-mask]a" in lines, "  | ::error::b" in lines) == (True, True)
    assert not [line for line in lines if line.lstrip().startswith("::") or "##[" in line]


def test_the_table_at_the_end_is_plain_text_of_columns_two_blanks_apart():
    head, *rows = running.summary(make_report(app=built(), frontend=built())).splitlines()

    assert len({len(re.split(r" {2,}", line)) for line in (head, *rows[:2])}) == 1
    assert all(line.isascii() and line.isprintable() and line == line.rstrip() for line in (head, *rows))


def test_no_log_line_can_end_a_section_of_gitlabs():
    evil = "\x1b[0Ksection_end:1:buildorch_app\r\x1b[0K"

    text = folded({"GITLAB_CI": "true"}, [STARTED, *build_of("app", evil)])

    assert text.count("\r\x1b[0K") == 2


def test_what_was_held_back_is_written_though_the_run_is_cut_off():
    lines = folded({"GITHUB_ACTIONS": "true"}, [STARTED, *build_of("app", "a1")[:-1]]).splitlines()

    assert lines[2:] == ["app | [1/1] RUN x", "app |   a1"]


def test_of_an_endless_log_the_end_is_held_back():
    log = tuple(f"{at} {'x' * 10_000}" for at in range(300))

    lines = folded({"GITHUB_ACTIONS": "true"}, [STARTED, *build_of("app", *log)]).splitlines()

    assert lines[3].endswith(" earlier lines are left out)")
    assert lines[-3].startswith("app |   299 ")
    assert sum(map(len, lines)) < 1_100_000


# --- logs


class Recorder:
    def __init__(self) -> None:
        self.entries: list[tuple[str, str, dict[str, Any]]] = []

    def info(self, name: str, **keys: Any) -> None:
        self.entries.append(("info", name, keys))

    def warning(self, name: str, **keys: Any) -> None:
        self.entries.append(("warning", name, keys))


def logged(*, verbose: bool) -> list[tuple[str, str, dict[str, Any]]]:
    recorder = Recorder()
    view = LogView(lambda: recorder, verbose=verbose)
    for event in EVERY_EVENT:
        view.update(event)
    return recorder.entries


def test_log_entries_are_a_noun_and_what_happened_to_it():
    assert [name for _, name, _ in logged(verbose=True)] == [
        "lease.awaited",
        "lease.awaited",
        "run.started",
        "solve.started",
        "step.warned",
        "solve.retried",
        "solve.started",
        "service.finished",
        "service.finished",
        "run.finished",
    ]


def test_only_what_wants_attention_is_logged_beside_another_view():
    assert [(level, name) for level, name, _ in logged(verbose=False)] == [("warning", "solve.retried")]


def test_a_logger_is_only_made_for_the_first_entry():
    def make() -> Any:
        pytest.fail("a logger was made for nothing")

    LogView(make, verbose=False).update(EVERY_EVENT[0])


def test_log_entries_are_json_on_stderr_where_that_was_asked_for(capsys: pytest.CaptureFixture[str]):
    import structlog

    try:
        logging_config.configured_logger("json").info("run.started", jobs=2)
    finally:
        structlog.reset_defaults()

    captured = capsys.readouterr()
    entry = json.loads(captured.err)
    assert (entry["event"], entry["jobs"], entry["level"]) == ("run.started", 2, "info")
    assert captured.out == ""
