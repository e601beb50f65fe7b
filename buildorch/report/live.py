"""The view for a terminal: a picture of the run, redrawn in place, and taken away at the end.

In: events, and the keys somebody presses. Out: pictures on stderr. Touches: the terminal, through one thread; rich is
loaded for its first picture.

Only lines that changed are written, and the cursor stays visible, below the picture: a terminal whose program is killed
has nothing to get over.
"""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import sys
import threading
import time
from typing import TYPE_CHECKING, Protocol, Self, TextIO, cast

from buildorch.errors import LedgerError
from buildorch.events import Event, LeaseAwaited, RunFinished, RunStarted
from buildorch.forecast import Forecast
from buildorch.meanwhile import Meanwhile
from buildorch.report.board import Board
from buildorch.report.picture import Canvas, Choice, Row, chosen_next, picture
from buildorch.report.text import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

REFRESH_S = 0.25
FIRST_S = 0.15
"""A run that is over before this is never drawn, and loads nothing."""


class Keys(Protocol):
    """Where keys come from."""

    def wait(self, seconds: float) -> Sequence[str]:
        """Wait for keys: `up`, `down`, `log`, `close`; `resumed` where the terminal was somebody else's meanwhile."""

    def listen(self) -> bool:
        """Read keys from here on, where that is possible."""

    def end(self) -> None:
        """End the waiting of another thread, now and ever after."""

    def close(self) -> None:
        """Leave the terminal as it was."""


class NoKeys:
    """Where there is nobody to press one."""

    def __init__(self) -> None:
        self._ended = threading.Event()

    def wait(self, seconds: float) -> Sequence[str]:
        """Wait."""
        self._ended.wait(seconds)
        return ()

    def listen(self) -> bool:
        """There are none."""
        return False

    def end(self) -> None:
        """Wait no more."""
        self._ended.set()

    def close(self) -> None:
        """Nothing was changed."""


class LiveView:
    """Draws a `Board` on the terminal until the run is over."""

    def __init__(
        self,
        forecast: Callable[[], Forecast] = Forecast,
        *,
        keys: Keys | None = None,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """A view that has drawn nothing yet.

        Args:
            forecast: asked once, for the first picture of a run that has begun.
            keys: where keys come from.
            stream: the terminal; stderr by default.
            clock: seconds.
        """
        self._forecast: Callable[[], Forecast] | None = forecast
        self._keys = keys or NoKeys()
        self._stream = stream or sys.stderr
        self._board = Board(clock)
        self._choice = Choice()
        self._turn = threading.Lock()
        """Held to fold an event, and to look at what was folded."""
        self._is_over = False
        self._above = io.StringIO()
        self._drawing: Meanwhile[None] | None = None
        self._open = contextlib.ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.finish()

    def update(self, event: Event) -> None:
        """Fold the event; pictures are drawn at their own pace."""
        with self._turn:
            self._board.update(event)
        if isinstance(event, RunFinished):
            self.finish()
        elif self._drawing is None and isinstance(event, RunStarted | LeaseAwaited):
            self._open.enter_context(contextlib.redirect_stderr(cast("TextIO", _Above(self, self._stream))))
            self._drawing = Meanwhile(self._draw)

    def finish(self) -> None:
        """Take the picture away, and leave the terminal as it was."""
        self._is_over = True
        self._keys.end()
        drawing, self._drawing = self._drawing, None
        try:
            if drawing:
                drawing.answer()
        finally:
            self._keys.close()
            self._open.close()
            self._stream.write(self._left_above())
            self._stream.flush()

    def say(self, text: str) -> None:
        """Let a text stand above the picture, in the terminal's history."""
        with self._turn:
            self._above.write(text)

    @property
    def is_over(self) -> bool:
        """Whether nothing is drawn any more."""
        return self._is_over

    def _draw(self) -> None:
        """Draw again and again, in a thread of its own, until it is over; a terminal that is gone is left alone."""
        pressed = self._keys.wait(FIRST_S)
        if self._is_over:
            return
        screen = Screen(self._stream)
        with contextlib.suppress(OSError):
            while not self._is_over:
                if "resumed" in pressed:
                    screen.forget()
                self._refresh(screen, pressed)
                pressed = self._keys.wait(REFRESH_S)
            screen.erase()

    def _refresh(self, screen: Screen, pressed: Sequence[str]) -> None:
        with self._turn:
            is_building = self._board.is_building
        has_keys = is_building and self._keys.listen()
        if self._forecast and self._board.lines:
            asked, self._forecast = self._forecast, None
            with contextlib.suppress(LedgerError):  # a run that needs the ledger says so itself
                expected = asked()
                with self._turn:
                    self._board.expect(expected)
        with self._turn:
            for key in pressed:
                self._choice = _choose(self._board, self._choice, key)
            rows = picture(self._board, self._choice, screen.canvas(has_keys=has_keys))
        screen.draw(rows, above=self._left_above())

    def _left_above(self) -> str:
        with self._turn:
            text, self._above = self._above.getvalue(), io.StringIO()
        return "".join(f"{printable(line)}\n" for line in text.splitlines())


def _choose(board: Board, choice: Choice, key: str) -> Choice:
    """Whose log is looked at once a key is pressed."""
    match key:
        case "down" | "up":
            return chosen_next(board, choice, 1 if key == "down" else -1)
        case "log" if choice.is_closed or not choice.service:
            return Choice(choice.service) if choice.service else chosen_next(board, Choice(), 0)
        case "log" | "close":
            return Choice(choice.service, is_closed=True)
        case _:
            return choice


class Screen:
    """Lines on a terminal that are written over."""

    def __init__(self, stream: TextIO) -> None:
        """Nothing is drawn yet; colours are those rich finds (NO_COLOR, TERM, COLORTERM)."""
        from rich.console import Console  # noqa: PLC0415 - 40 ms, for those who see a picture

        self._stream = stream
        self._console = Console(file=stream, legacy_windows=False)
        self._styles: dict[str, tuple[str, str]] = {"": ("", "")}
        self._drawn: list[str] = []
        self._widths: list[int] = []
        self._columns = 0

    def canvas(self, *, has_keys: bool) -> Canvas:
        """What there is to draw on now."""
        columns, rows = self._size()
        is_ascii = not self._console.encoding.startswith("utf")
        return Canvas(columns, rows, is_ascii=is_ascii, has_keys=has_keys)

    def draw(self, rows: Sequence[Row], *, above: str = "") -> None:
        """Put these lines where the last ones were, below what is to stand above them."""
        columns, _ = self._size()
        lines = ["".join(f"{a}{text}{z}" for text, (a, z) in self._styled(row)) for row in rows]
        out = []
        if above or columns != self._columns:
            out.append(f"{self._back(columns)}\x1b[J{above}")
            self._drawn = []
        elif lines != self._drawn:
            out.append(self._back(columns))
        else:
            return
        out.extend("\n" if old == new else f"{new}\x1b[K\n" for old, new in zip(self._drawn, lines, strict=False))
        out.extend(f"{line}\x1b[K\n" for line in lines[len(self._drawn) :])
        if len(lines) < len(self._drawn):
            out.append("\x1b[J")
        self._write("".join(out))
        self._drawn, self._columns = lines, columns
        self._widths = [_cells(row) for row in rows]

    def forget(self) -> None:
        """What was drawn is somewhere else by now."""
        self._drawn, self._widths = [], []

    def erase(self) -> None:
        """Take the picture away."""
        if self._widths:
            self._write(f"{self._back(self._size()[0])}\x1b[J")
            self.forget()

    def _back(self, columns: int) -> str:
        """To the first line of what was drawn; where the terminal became narrower it broke its lines."""
        rows = sum(max(-(-width // max(columns, 1)), 1) for width in self._widths)
        return f"\r\x1b[{rows}A" if rows else "\r"

    def _styled(self, row: Row) -> list[tuple[str, tuple[str, str]]]:
        return [(text, self._styles.get(style) or self._codes(style)) for text, style in row]

    def _codes(self, style: str) -> tuple[str, str]:
        """What turns a style on and off, as rich writes it for this terminal."""
        from rich.color import ColorSystem  # noqa: PLC0415 - as above

        found = self._console.get_style(style)
        found = found.without_color if self._console.no_color else found
        system = ColorSystem.STANDARD if self._console.color_system else None
        begin, _, end = found.render("x", color_system=system).partition("x")
        self._styles[style] = (begin, end)
        return begin, end

    def _size(self) -> tuple[int, int]:
        try:
            found = os.get_terminal_size(self._stream.fileno())
        except (OSError, ValueError):  # no terminal, as in a test
            found = shutil.get_terminal_size()
        return found.columns or 80, found.lines or 24

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()


def _cells(row: Row) -> int:
    from rich.cells import cell_len  # noqa: PLC0415 - as above

    return sum(len(text) if text.isascii() else cell_len(text) for text, _ in row)


class _Above:
    """stderr for everybody else while a picture is shown: their lines stand above it."""

    def __init__(self, view: LiveView, stream: TextIO) -> None:
        self._view, self._stream = view, stream

    def __getattr__(self, name: str) -> object:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write, above the picture."""
        if self._view.is_over:
            return self._stream.write(text)
        self._view.say(text)
        return len(text)
