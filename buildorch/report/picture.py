"""A `Board` as lines of a terminal, whatever its size: what goes on gets its room first, the rest is told in a line.

In: a board, whose log is wanted, a canvas. Out: lines of (text, style). Touches nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from buildorch.quantities import human_bytes, human_seconds
from buildorch.report.board import ACTIVE, GROUPS, Board, Line
from buildorch.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Sequence


Span = tuple[str, str]
"""A text and the name of its style, empty for none."""
Row = tuple[Span, ...]

STYLES = {
    "building": "cyan",
    "measuring": "cyan",
    "built": "green",
    "failed": "bold red",
    "blocked": "yellow",
    "cancelled": "yellow",
    "waiting": "dim",
    "skipped": "dim",
}
BUSY = ("failed", "building", "measuring")
"""The states whose services each have a line of their own as long as there is room for anything."""
STATE_WIDTH = 9
LEAST_COLUMNS = 39
"""Below this many cells the columns before the bar do not fit, and lines are cut."""
LEAST_ROWS = 5
"""What a log leaves to the services on a small terminal."""
ONE_LINE = 90
"""Columns behind a bar from which on everything about a service stands in its one line."""
HINT = "* critical path"
KEYS = "up, down: a service's log   esc: close"


@dataclass(frozen=True, slots=True)
class Choice:
    """Whose log is looked at."""

    service: str = ""
    """Empty for that of the service that failed last."""
    is_closed: bool = False


@dataclass(frozen=True, slots=True)
class Canvas:
    """What there is to draw on."""

    columns: int
    rows: int
    is_ascii: bool = False
    """Whether only ASCII may be drawn."""
    has_keys: bool = False
    """Whether keys are read, and so may be told of."""


def picture(board: Board, choice: Choice, canvas: Canvas) -> list[Row]:
    """The board in at most `rows - 1` lines of at most `columns - 1` cells: the cursor stands below them."""
    left_s = board.left_s()
    drawing = _Drawing(board, canvas, board.critical(left_s), "" if choice.is_closed else choice.service)
    room = max(canvas.rows - 1, 1)
    end = [drawing.headline(board.run_left_s(left_s, drawing.critical))]
    if room >= 9 and (hint := drawing.hint()):
        end.append(hint)
    pane = drawing.pane(choice, min(room - len(end) - LEAST_ROWS, (room - len(end)) // 2))
    rows = [*drawing.body(room - len(end) - len(pane)), *pane, *end]
    return [drawing.clipped(row) for row in rows] if drawing.width < LEAST_COLUMNS else rows


def wanted(board: Board, choice: Choice) -> str:
    """The service whose log is to be shown, empty for none."""
    if choice.is_closed or not board.lines:
        return ""
    return choice.service if choice.service in board.lines else board.failed


class _Drawing:
    """One picture, and the widths of its columns."""

    def __init__(self, board: Board, canvas: Canvas, critical: frozenset[str], chosen: str) -> None:
        self.board, self.critical, self.chosen = board, critical, chosen
        self.canvas = canvas
        self.width = max(canvas.columns - 1, 1)
        self.dots = "..." if canvas.is_ascii else "\u2026"
        longest = max(map(len, board.lines), default=0)
        self.name_width = min(longest, max(self.width // 4, 12))
        self.is_narrow = self.width < 60
        self.time_width = 6 if self.is_narrow else 13
        begin = 3 + self.name_width + 2 + STATE_WIDTH + 2 + self.time_width + 2
        self.bar_width = 0 if self.is_narrow else min(max(self.width // 8, 10), 24)
        self.rest = max(self.width - begin, 0)
        self.behind_bar = max(self.rest - self.bar_width - 7, 0)

    def headline(self, left_s: float | None) -> Row:
        """The whole run in one line."""
        board = self.board
        took = human_seconds(board.clock() - board.begun)
        if board.awaited:
            return ((self.fit(f"{took}  {board.awaited}", self.width), "bold"),)
        left = f", about {human_seconds(left_s)} left" if left_s else ""
        states = [line.state for line in board.lines.values()]
        said = ", ".join(f"{states.count(state)} {state}" for state in GROUPS if state in states)
        text = f"{board.project}: {took}{left}  {said}  (at most {board.jobs} at once)"
        return ((self.fit(text, self.width), "bold"),)

    def hint(self) -> Row:
        """What the signs mean and the keys do."""
        said = [HINT] if self.critical else []
        if self.canvas.has_keys:
            said.append(KEYS)
        return ((self.fit("   ".join(said), self.width), "dim"),) if said else ()

    def body(self, room: int) -> list[Row]:
        """The services, grouped by state; of those that only wait or are done as many as there is room for."""
        groups = self.board.grouped()
        busy = [name for state in BUSY for name in groups.get(state, ())]
        kept = max(room - min(len(busy), max(room // 2, 1)), 0)
        rest = dict([item for item in groups.items() if item[0] not in BUSY][:kept])
        rows = self.busy(busy, room - len(rest))
        spare = room - len(rows) - len(rest)
        for state, names in rest.items():
            more = max(min(spare, len(names) - 1), 0)
            spare -= more
            alone = names if more == len(names) - 1 else names[:more]
            rows.extend(row for name in alone for row in self.service(name, detailed=False))
            if len(alone) < len(names):
                rows.append(self.folded(state, names[more:]))
        return rows[: max(room, 0)]

    def busy(self, names: Sequence[str], room: int) -> list[Row]:
        """With their details, else without, else as many as there is room for and how many there are besides."""
        if len(names) <= room:
            rows = [row for name in names for row in self.service(name, detailed=True)]
            return rows if len(rows) <= room else [row for name in names for row in self.service(name, detailed=False)]
        kept = max(room - 1 if room > 1 else room, 0)
        rows = [row for name in names[:kept] for row in self.service(name, detailed=False)]
        if room > 1:
            rows.append(((self.fit(f"   and {len(names) - kept} more", self.width), "dim"),))
        return rows

    def folded(self, state: str, names: Sequence[str]) -> Row:
        """Services of one state in one line."""
        head = f"   {len(names)} {state}  "
        return ((head, STYLES[state]), (self.fit(", ".join(names), max(self.width - len(head), 0)), ""))

    def service(self, name: str, *, detailed: bool) -> list[Row]:
        """A service's line; with details a second one, where they do not fit into the first."""
        line = self.board.lines[name]
        signs = f"{'>' if name == self.chosen else ' '}{'*' if name in self.critical else ' '} "
        begin: Row = (
            (signs, "bold"),
            (self.pad(name, self.name_width) + "  ", "bold" if name in self.critical else ""),
            (line.state.ljust(STATE_WIDTH) + "  ", STYLES[line.state]),
            (self.time(name, line).rjust(self.time_width) + "  ", ""),
        )
        if line.state not in ACTIVE:
            said = self.waits_for(name) if line.state == "waiting" else line.said
            if detailed and len(said) > self.rest:
                return [begin, self.second(said, "")]
            return [(*begin, (self.fit(said, self.rest), ""))]
        if self.behind_bar >= ONE_LINE:
            counts = self.pad(self.counts(name, line), 40) + "  "
            return [(*begin, *self.bar(name), (counts, "dim"), (self.fit(line.step, self.behind_bar - 42), ""))]
        if not detailed:
            step = self.fit(line.step, self.behind_bar) if self.behind_bar >= 10 else ""
            return [(*begin, *self.bar(name), (step, ""))]
        counts = self.counts(name, line).partition(" ")[0] if self.is_narrow else self.counts(name, line)
        told = [self.second(line.step, counts)] if line.step or counts else []
        return [(*begin, *self.bar(name)), *told]

    def second(self, left: str, right: str) -> Row:
        """A line of details below a service's own."""
        room = max(self.width - 5, 0)
        space = room - len(right) - (2 if right else 0)
        if space < 8:
            return ((" " * 5, ""), (self.fit(left, room), ""))
        return ((" " * 5, ""), (self.pad(left, space), ""), (f"  {right}" if right else "", "dim"))

    def time(self, name: str, line: Line) -> str:
        """Elapsed and, behind it, expected."""
        expected = self.board.forecast.expected_s.get(name)
        about = f"~{human_seconds(expected)}" if expected else ""
        if line.state == "waiting":
            return about
        took = "" if line.begun is None else human_seconds(self.board.took_s(name))
        return f"{took}/{about}" if about and line.state in ACTIVE and not self.is_narrow else took

    def bar(self, name: str) -> Row:
        """How far a build is."""
        if not self.bar_width:
            return ()
        part = self.board.filled(name)
        full = int(part * self.bar_width)
        on, off = ("#", ".") if self.canvas.is_ascii else ("\u2588", "\u2591")
        return (on * full, "cyan"), (off * (self.bar_width - full), "dim"), (f" {part:4.0%}  ", "")

    def counts(self, name: str, line: Line) -> str:
        """Steps, those of the cache, and bytes."""
        total = self.board.total(name)
        said = [f"{len(line.done)}/{total} steps"] if total else []
        if line.cached:
            said.append(f"{len(line.cached)} cached")
        for items, verb in ((line.pulled, "pulled"), (line.pushed, "pushed")):
            if moved := sum(items.values()):
                said.append(f"{human_bytes(moved)} {verb}")
        return ", ".join(said)

    def waits_for(self, name: str) -> str:
        """What has to be built before."""
        lines = self.board.lines
        bases = self.board.forecast.depends_on.get(name, ())
        missing = [base for base in bases if base in lines and lines[base].state not in {"built", "skipped"}]
        return f"for {', '.join(missing)}" if missing else ""

    def pane(self, choice: Choice, room: int) -> list[Row]:
        """The last lines a service's build printed, where they are asked for or it failed."""
        name = wanted(self.board, choice)
        if not name or room < 3:
            return []
        line = self.board.lines[name]
        head = f"{'--' if self.canvas.is_ascii else chr(0x2500) * 2} {name}, {line.state}: "
        if not line.log:
            return [((self.fit(f"{head}nothing printed yet", self.width), "bold"),)]
        shown = list(line.log)[-min(room - 1, 14) :]
        return [
            ((self.fit(f"{head}the last lines", self.width), "bold"),),
            *((("  ", ""), (self.fit(text, max(self.width - 2, 0)), "")) for text in shown),
        ]

    def clipped(self, row: Row) -> Row:
        """As much of a line as fits."""
        room, kept = self.width, []
        for text, style in row:
            kept.append((self.fit(text, room), style))
            room = max(room - len(text), 0)
        return tuple(kept)

    def fit(self, text: str, width: int) -> str:
        """The text in at most so many cells."""
        if text.isascii():
            return text if len(text) <= width else text[: max(width - len(self.dots), 0)] + self.dots[:width]
        return self.fit_wide(text, width)

    def fit_wide(self, text: str, width: int) -> str:
        """As `fit`: a character may take no cell or two."""
        from rich.cells import cell_len, set_cell_size  # noqa: PLC0415 - only on a terminal

        if self.canvas.is_ascii:
            return self.fit(text.encode("ascii", "replace").decode(), width)
        if cell_len(text) <= width:
            return text
        return set_cell_size(text, max(width - len(self.dots), 0)) + self.dots[:width]

    def pad(self, text: str, width: int) -> str:
        """The text in just so many cells."""
        from rich.cells import cell_len  # noqa: PLC0415 - as above

        fitted = self.fit(text, width)
        return fitted + " " * max(width - cell_len(fitted), 0)


def chosen_next(board: Board, choice: Choice, step: int) -> Choice:
    """The service below (1) or above (-1) the chosen one, in the order in which they are shown."""
    names = [name for names in board.grouped().values() for name in names]
    if not names:
        return choice
    now = wanted(board, choice)
    at = names.index(now) + step if now in names else 0
    return Choice(names[at % len(names)])
