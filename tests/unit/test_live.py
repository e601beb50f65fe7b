"""The live view: what it says of a run at a moment, on whatever terminal, and how it draws."""

from __future__ import annotations

import io
import re
import threading
from collections.abc import Sequence
from pathlib import Path
from queue import SimpleQueue

import pyte
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scenes import (
    AT,
    CAPTURES,
    FAILED_LOG,
    STEPS,
    WEIGHTS,
    Clock,
    board,
    capture,
    failed,
    finished,
    progress,
    run_started,
    solve_finished,
    solve_started,
    step_finished,
    step_started,
    steps,
)

from buildorch.events import Event, Holder, LeaseAwaited, RunFinished, SolveRetried, StepLogged
from buildorch.forecast import Forecast, critical_path, fraction, left_s, run_left_s
from buildorch.record import FailureKind, Report
from buildorch.report import live
from buildorch.report.board import LOG_LINES, Board
from buildorch.report.live import LiveView, NoKeys, Screen
from buildorch.report.picture import Canvas, Choice, chosen_next, picture
from buildorch.report.text import printable
from buildorch.testing import make_engine_facts, make_failure

EVIL = "\x1b[2J\x1b]0;title\x07 \x9b31m \u202e \x00 \x7f"
WIDE = Canvas(200, 50)


def folded(*events: Event, clock: Clock | None = None, forecast: Forecast | None = None) -> Board:
    made = Board(clock or Clock())
    made.update(run_started("app"))
    for event in events:
        made.update(event)
    if forecast:
        made.expect(forecast)
    return made


def lines(made: Board, canvas: Canvas = WIDE, choice: Choice | None = None) -> list[str]:
    return ["".join(text for text, _ in row).rstrip() for row in picture(made, choice or Choice(), canvas)]


def row(made: Board) -> str:
    """The first service's line, its blanks as one."""
    return " ".join(lines(made)[0].split())


# What is known before


def test_a_bar_weighs_steps_by_what_they_took_before():
    weights = {"a": 1.0, "b": 8.0, "c": 1.0}

    assert fraction(weights, ["a"], {}) == 0.1
    assert fraction(weights, ["a"], {"b": 4.0}) == 0.5
    assert fraction(weights, ["a", "b", "c"], {}) == 1.0


def test_a_step_that_takes_longer_than_before_does_not_fill_its_part_of_the_bar():
    assert fraction({"a": 10.0}, [], {"a": 1000.0}) == 0.95


def test_a_step_that_no_build_had_before_has_a_part_too():
    assert fraction({"a": 3.0}, ["a"], {"new": 0.0}) == 0.75


def test_nothing_is_said_of_a_build_whose_steps_are_not_known_or_took_no_time():
    assert fraction({}, ["a"], {}) is None
    assert fraction({"a": 0.0}, ["a"], {}) is None


def test_what_is_left_goes_by_what_is_expected_and_beyond_that_by_the_pace():
    assert left_s(40.0, 10.0, 0.25) == 30.0
    assert left_s(40.0, 60.0, 0.25) == 180.0
    assert left_s(40.0, 60.0, 0.0) == 1200.0


def test_the_critical_path_is_the_chain_with_most_work_left():
    left = {"base": 5.0, "app": 10.0, "long": 12.0, "tail": 1.0}

    assert critical_path(left, {"app": ("base",), "tail": ("app",)}) == ("base", "app", "tail")
    assert critical_path(left, {}) == ("long",)
    assert critical_path({}, {}) == ()


def test_what_is_done_is_no_part_of_the_critical_path():
    assert critical_path({"app": 1.0}, {"app": ("base",)}) == ("app",)


def test_a_run_takes_at_least_its_longest_chain_and_at_least_its_work_spread_over_its_jobs():
    left = {"a": 10.0, "b": 10.0, "c": 10.0, "d": 10.0}

    assert run_left_s(left, ["a"], jobs=2) == 20.0
    assert run_left_s(left, ["a", "b", "c"], jobs=2) == 30.0


# The fold


def test_a_service_waits_until_its_build_starts():
    assert row(folded()) == "app waiting"


def test_a_line_shows_the_step_that_runs_the_steps_done_and_cached_and_the_time():
    clock = Clock()
    made = folded(
        solve_started("app"),
        step_started("app", STEPS[1]),
        step_finished("app", STEPS[1], cached=True),
        step_started("app", STEPS[2]),
        clock=clock,
    )
    clock.now = 65.0

    shown = row(made)

    assert shown.startswith("app building 1m05s ")
    assert shown.endswith("33% 1/3 steps, 1 cached [deps 3/4] COPY requirements.lock .")


def test_from_is_no_step_and_an_instruction_that_only_speaks_of_one_is():
    made = folded(
        solve_started("app"),
        step_started("app", "[deps 1/4] FROM docker.io/library/debian"),
        step_finished("app", "[deps 1/4] FROM docker.io/library/debian"),
        step_started("app", '[deps 2/4] RUN echo "[x] FROM y"'),
        step_finished("app", '[deps 2/4] RUN echo "[x] FROM y"'),
    )

    assert "1/3 steps" in row(made)


def test_a_line_shows_the_bytes_that_were_pulled_pushed_and_sent():
    made = folded(
        solve_started("app"),
        step_started("app", "[internal] load build context"),
        progress("app", "sha256:x", 1000),
        progress("app", "sha256:x", 2000),
        progress("app", "extracting sha256:x", 2000),
        progress("app", "pushing layer 5f70bf18a086", 3000),
        progress("app", "transferring context:", 500, "[internal] load build context"),
        progress("app", "files", 7),
    )

    assert row(made).endswith("2.0 kB pulled, 3.0 kB pushed [internal] load build context (500 B)")


def test_a_bar_goes_by_the_weights_of_earlier_builds_and_the_time_has_what_is_expected():
    clock = Clock()
    known = Forecast({"app": 45.0}, {"app": WEIGHTS}, {"app": ()})
    made = folded(solve_started("app"), *steps("app", 3), clock=clock, forecast=known)
    clock.now = 15.0

    assert " 15.0s/~45.0s " in lines(made)[0]
    assert made.filled("app") == pytest.approx((0.5 + 4.0 + 0.2 + 15.0) / sum(WEIGHTS.values()))


def test_a_step_that_was_never_seen_executed_has_a_part_of_the_bar():
    known = Forecast({"app": 4.0}, {"app": {STEPS[1]: None, STEPS[2]: 3.0}}, {"app": ()})
    made = folded(solve_started("app"), step_started("app", STEPS[1]), step_finished("app", STEPS[1]), forecast=known)

    assert made.filled("app") == 0.25


def test_a_bar_never_goes_back():
    made = folded(solve_started("app"), step_started("app", STEPS[2]), step_finished("app", STEPS[2]))
    before = made.filled("app")

    made.update(step_started("app", STEPS[4]))  # of a stage that nobody knew of

    assert made.filled("app") == before


def test_a_bar_is_full_once_the_image_is_built_and_not_before():
    made = folded(solve_started("app"), *steps("app", 9))
    before = made.filled("app")
    for event in finished("app", 12.0):
        made.update(event)

    assert (before < 1.0, made.filled("app")) == (True, 1.0)


def test_a_finished_service_keeps_its_time_and_says_how_it_ended():
    clock = Clock()
    made = folded(solve_started("app"), *finished("app", 12.0), clock=clock)
    clock.now = 1000.0

    assert row(made) == "app built 12.0s 217.7 MB unpacked, tasks/app:latest"


def test_between_build_and_record_a_service_is_being_measured():
    assert row(folded(solve_started("app"), solve_finished("app", 2.0))).startswith("app measuring 2.0s ")


def test_a_retry_is_told_and_the_next_attempt_starts_from_nothing_but_its_time():
    clock = Clock()
    failure = make_failure(FailureKind.REGISTRY)
    retried = SolveRetried(at=AT, service="app", attempt=1, failure=failure, delay_s=1)
    made = folded(solve_started("app"), *steps("app", 3), retried, clock=clock)
    told = row(made)
    clock.now = 9.0
    made.update(solve_started("app"))

    assert told.endswith("trying again: made up: registry")
    assert row(made).split()[2] == "9.0s"
    assert made.filled("app") == 0.0


def test_the_end_says_what_is_left_by_what_builds_took_before():
    clock = Clock()
    known = Forecast({"app": 40.0}, {}, {"app": (), "new": ()})
    made = Board(clock)
    made.update(run_started("app", "new", jobs=2))
    made.expect(known)

    assert lines(made)[-1] == "* critical path"
    assert lines(made)[-2] == "tasks: 0.0s, about 40.0s left  2 waiting  (at most 2 at once)"


def test_of_a_run_that_nothing_is_known_of_nothing_is_expected():
    assert lines(folded())[-1] == "tasks: 0.0s  1 waiting  (at most 2 at once)"


def test_what_is_skipped_is_not_expected_to_take_time():
    made = Board(Clock())
    made.update(run_started("app", "skipped"))
    made.expect(Forecast({"app": 40.0}, {}, {"app": ()}))

    assert made.left_s() == {"app": 40.0}


def test_the_headline_says_who_is_waited_for_until_the_run_begins():
    made = Board(Clock())
    made.update(LeaseAwaited(at=AT, service="app", holder=Holder(run_id="r0", pid=1, host=f"here{EVIL}", since=AT)))

    [waiting] = lines(made)

    assert waiting == f"0.0s  app: waiting for run r0 (pid 1 on here{printable(EVIL)})".rstrip()


# The picture


@pytest.mark.parametrize("mark", CAPTURES)
def test_the_captures_on_the_page_are_what_is_drawn(mark: str, repository: Path):
    page = (repository / "docs" / "how-to" / "live-view.md").read_text()
    [shown] = re.findall(rf"^<!-- capture: {mark} -->\n\n```text\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)

    assert shown == capture(*CAPTURES[mark])


@pytest.mark.proof
@settings(max_examples=25)
@given(columns=st.integers(1, 220), rows=st.integers(1, 60), count=st.sampled_from([3, 50]), closed=st.booleans())
def test_no_picture_is_larger_than_its_terminal(columns: int, rows: int, count: int, *, closed: bool):
    shown = capture(columns, rows, count, Choice(is_closed=closed)).splitlines()

    assert len(shown) <= max(rows - 1, 1)
    assert max(map(len, shown)) <= max(columns - 1, 1)


def test_services_stand_grouped_by_state_with_what_wants_attention_first():
    rows = [line[3:].split() for line in capture(200, 60, 50, Choice(is_closed=True)).splitlines()]

    states = [row[1] for row in rows if row and row[0].startswith("service-")]

    assert list(dict.fromkeys(states)) == ["failed", "building", "blocked", "waiting", "built", "skipped"]
    assert len(states) == 50


def test_where_there_is_no_room_for_all_what_is_built_keeps_its_lines_and_the_rest_is_counted():
    shown = capture(80, 24, 50)

    assert all(f"service-{at} " in shown for at in (22, 24, 25, 26, 27))
    assert "12 built  service-10, service-11" in shown
    assert "10 skipped  service-00" in shown


def test_on_a_terminal_of_ten_lines_what_is_built_comes_before_what_waits():
    shown = capture(80, 10, 50)

    assert shown.index("service-24") < shown.index("waiting")


def test_the_log_of_a_service_that_failed_is_shown_by_itself_until_it_is_closed():
    shown, closed = capture(80, 24, 50), capture(80, 24, 50, Choice(is_closed=True))

    assert all(line in shown for line in FAILED_LOG)
    assert FAILED_LOG[2] not in closed


def test_the_log_of_a_service_is_shown_on_demand():
    assert "backend, building: the last lines\n  Collecting fastapi" in capture(80, 24, 3, Choice("backend"))
    assert "frontend-web, building: nothing printed yet" in capture(80, 24, 3, Choice("frontend-web"))


def test_the_next_service_is_the_one_below_in_the_picture_and_after_the_last_comes_the_first():
    made = board(3)

    first = chosen_next(made, Choice(), 1)
    last = chosen_next(made, first, -1)

    assert (first.service, last.service) == ("backend", "frontend-chatbot")
    assert chosen_next(Board(Clock()), Choice(), 1) == Choice()


def test_only_the_last_lines_of_a_log_are_kept_each_of_bounded_length():
    text = tuple(f"{at} {'x' * 10_000}" for at in range(200))
    printed = StepLogged(service="app", vertex="v", name="n", lines=text)
    made = folded(solve_started("app"), printed, printed)

    log = made.lines["app"].log
    assert (len(log), log[-1][:4], max(map(len, log))) == (LOG_LINES, "199 ", 500)


def test_a_terminal_that_knows_ascii_only_gets_ascii_only():
    log = StepLogged(service="app", vertex="v", name="n", lines=("caf\u00e9 \u4f60\u597d",))
    made = folded(solve_started("app"), *steps("app", 3), log)

    shown = "\n".join(lines(made, Canvas(60, 24, is_ascii=True), Choice("app")))

    assert shown.isascii()
    assert "#" in "\n".join(lines(made, Canvas(100, 24, is_ascii=True)))


def test_wide_characters_count_twice():
    made = folded(solve_started("app"), StepLogged(service="app", vertex="v", name="n", lines=("\u4f60" * 100,)))

    [shown] = [line for line in lines(made, Canvas(41, 24), Choice("app")) if "\u4f60" in line]

    assert shown == "  " + "\u4f60" * 18 + " \u2026"


@pytest.mark.parametrize("canvas", [Canvas(40, 24), Canvas(80, 24), WIDE])
def test_no_text_of_a_build_can_drive_the_terminal(canvas: Canvas):
    name = f"[1/1] RUN {EVIL}"
    log = StepLogged(service="app", vertex="v", name=name, lines=(EVIL, f"a\t{EVIL}"))
    made = folded(solve_started("app"), step_started("app", name), log)

    assert all(line.isprintable() for line in lines(made, canvas, Choice("app")))


def test_no_text_of_a_record_can_drive_the_terminal():
    from dataclasses import replace

    events = [*failed("app", 1.0)]
    ended = events[-1]
    error = replace(ended.record.error, message=f"evil{EVIL}", log=(EVIL,))  # type: ignore[union-attr]
    made = folded(solve_started("app"), replace(ended, record=replace(ended.record, error=error)))  # type: ignore[union-attr]

    shown = lines(made)
    assert all(line.isprintable() for line in shown)
    assert any("evil\u241b" in line for line in shown)


# The terminal


class Terminal(io.StringIO):
    """A terminal that is looked at: it shows what a real one would."""

    encoding = "utf-8"  # type: ignore[assignment]

    def __init__(self, columns: int = 80, rows: int = 24) -> None:
        super().__init__()
        self.screen = pyte.Screen(columns, rows)
        self.screen.set_mode(pyte.modes.LNM)
        self.stream = pyte.Stream(self.screen)

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> int:
        self.stream.feed(text)
        return super().write(text)

    def shown(self) -> list[str]:
        return [line.rstrip() for line in self.screen.display if line.strip()]


@pytest.fixture(autouse=True)
def _terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    for name in ("NO_COLOR", "FORCE_COLOR", "COLORTERM"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("LINES", "24")


def test_a_picture_takes_the_place_of_the_one_before_and_only_changed_lines_are_written():
    terminal = Terminal()
    terminal.write("$ make\n")
    screen = Screen(terminal)
    screen.draw([(("one", ""),), (("two", ""),), (("three", ""),)])
    before = len(terminal.getvalue())

    screen.draw([(("one", ""),), (("2", ""),)])

    assert terminal.shown() == ["$ make", "one", "2"]
    assert "one" not in terminal.getvalue()[before:]


def test_a_picture_that_is_the_same_is_not_written():
    terminal = Terminal()
    screen = Screen(terminal)
    screen.draw([(("one", ""),)])
    before = terminal.getvalue()

    screen.draw([(("one", ""),)])

    assert terminal.getvalue() == before


def test_what_others_say_stands_above_the_picture():
    terminal = Terminal()
    screen = Screen(terminal)
    screen.draw([(("one", ""),), (("two", ""),)])

    screen.draw([(("one", ""),)], above="a warning\n")

    assert terminal.shown() == ["a warning", "one"]


def test_after_it_was_stopped_a_picture_is_drawn_anew_where_the_cursor_is():
    terminal = Terminal()
    screen = Screen(terminal)
    screen.draw([(("one", ""),)])
    terminal.write("[1]+ Stopped\n$ fg\n")
    screen.forget()

    screen.draw([(("one", ""),)])

    assert terminal.shown() == ["one", "[1]+ Stopped", "$ fg", "one"]


def test_a_terminal_that_broke_its_lines_as_it_became_narrower_is_cleared_of_them(monkeypatch: pytest.MonkeyPatch):
    terminal = Terminal(40)
    monkeypatch.setenv("COLUMNS", "40")
    screen = Screen(terminal)
    terminal.write("$ make\n")
    screen.draw([(("x" * 39, ""),), (("y" * 10, ""),)])
    # What a terminal makes of that at 20 columns.
    narrow = Terminal(20)
    narrow.write("$ make\n" + "x" * 20 + "\n" + "x" * 19 + "\n" + "y" * 10 + "\n")
    terminal.stream, terminal.screen = narrow.stream, narrow.screen
    monkeypatch.setenv("COLUMNS", "20")

    screen.draw([(("z" * 19, ""),)])

    assert terminal.shown() == ["$ make", "z" * 19]


@pytest.mark.parametrize(("no_color", "colours"), [("", True), ("1", False)])
def test_colours_are_left_out_where_nobody_wants_them(monkeypatch: pytest.MonkeyPatch, no_color: str, *, colours: bool):
    monkeypatch.setenv("NO_COLOR", no_color)
    terminal = Terminal()

    Screen(terminal).draw(picture(board(50), Choice(), Canvas(80, 24)))

    assert bool(re.search(r"\x1b\[(?:\d+;)*3\dm", terminal.getvalue())) is colours


def test_a_terminal_without_styles_gets_none(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TERM", "dumb")
    terminal = Terminal()

    Screen(terminal).draw(picture(board(50), Choice(), Canvas(80, 24)))

    assert not re.search(r"\x1b\[[\d;]*m", terminal.getvalue())


class FakeKeys(NoKeys):
    """Keys that a test presses; a picture is drawn after each press, and only then."""

    def __init__(self) -> None:
        super().__init__()
        self.pressed: SimpleQueue[Sequence[str]] = SimpleQueue()
        self.closed = 0

    def press(self, *names: str) -> None:
        self.pressed.put(names)

    def wait(self, seconds: float) -> Sequence[str]:
        return self.pressed.get(timeout=seconds + 30)

    def listen(self) -> bool:
        return True

    def end(self) -> None:
        self.pressed.put(())

    def close(self) -> None:
        self.closed += 1


def report() -> Report:
    return Report(
        run_id="r", project="p", started_at=AT, duration_s=1.0, exit_code=0, jobs=1, git=None, engine=make_engine_facts(), services={}
    )  # fmt: skip


def seen(terminal: Terminal, text: str) -> None:
    import time

    end = time.monotonic() + 10
    while text not in terminal.getvalue() and time.monotonic() < end:
        time.sleep(0.005)
    assert text in terminal.getvalue()


def test_the_view_draws_until_the_run_is_over_and_leaves_nothing_behind():
    terminal, keys = Terminal(), FakeKeys()
    with LiveView(keys=keys, stream=terminal) as view:
        view.update(run_started("app"))
        view.update(solve_started("app"))
        keys.press()
        seen(terminal, "building")
        view.update(RunFinished(at=AT, report=report()))
        during = keys.closed

    assert terminal.shown() == []
    assert during == 1


def test_a_run_that_is_over_at_once_is_never_drawn_and_nothing_is_asked_or_loaded_for_it(
    monkeypatch: pytest.MonkeyPatch,
):
    def asked(*_: object) -> Forecast:
        pytest.fail("the ledger was read, or rich loaded, for nothing")

    monkeypatch.setattr(live, "Screen", asked)
    terminal = Terminal()
    with LiveView(asked, stream=terminal) as view:
        view.update(run_started("app"))
        view.update(RunFinished(at=AT, report=report()))

    assert terminal.getvalue() == ""


def test_keys_choose_whose_log_is_shown():
    terminal, keys = Terminal(), FakeKeys()
    with LiveView(keys=keys, stream=terminal) as view:
        view.update(run_started("app"))
        view.update(solve_started("app"))
        view.update(StepLogged(service="app", vertex="v", name="n", lines=("a line",)))
        keys.press()
        seen(terminal, "building")
        unasked = "a line" in terminal.getvalue()
        keys.press("down", "close", "log")
        seen(terminal, "a line")

    assert not unasked


def test_a_line_on_stderr_stands_above_the_picture_and_remains():
    import sys

    terminal, keys = Terminal(), FakeKeys()
    with LiveView(keys=keys, stream=terminal) as view:
        view.update(run_started("app"))
        print(f"a warning {EVIL}", file=sys.stderr)
        keys.press()
        seen(terminal, "a warning")
        print("the last word", file=sys.stderr)
        view.update(RunFinished(at=AT, report=report()))

    assert terminal.shown() == [f"a warning {printable(EVIL)}".rstrip(), "the last word"]


def test_a_terminal_that_is_gone_is_left_alone():
    tried = threading.Event()

    class Gone(Terminal):
        def write(self, text: str) -> int:
            if text:
                tried.set()
                raise OSError(5, "Input/output error")
            return 0

    keys = FakeKeys()
    with LiveView(keys=keys, stream=Gone()) as view:
        view.update(run_started("app"))
        keys.press()
        assert tried.wait(10)
        view.update(RunFinished(at=AT, report=report()))


def test_a_view_without_a_ledger_shows_what_it_has():
    from buildorch.errors import LedgerError

    def broken() -> Forecast:
        raise LedgerError("the ledger cannot be read", hint="")

    terminal, keys = Terminal(), FakeKeys()
    with LiveView(broken, keys=keys, stream=terminal) as view:
        view.update(run_started("app"))
        keys.press()
        seen(terminal, "1 waiting")
