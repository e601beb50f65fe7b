"""Keys of a terminal while a view is shown: read without Enter and without echo, and the terminal left as it was.

In: two descriptors of one terminal. Out: names of keys. Touches: the terminal's modes, and the handlers of SIGTSTP,
SIGCONT and SIGQUIT.

Ctrl-C, Ctrl-Z and Ctrl+backslash stay signals. Nothing is read in the background, nor before a build has begun: from
there on SIGINT, SIGTERM and SIGHUP end a run in good order (`buildorch.cli.building`). After SIGKILL the shell sets the
modes right, as bash and zsh do after every program that was killed.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import termios
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from buildorch.report.live import Keys, NoKeys

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import FrameType

NAMES = {
    b"\x1b[A": "up",
    b"\x1bOA": "up",
    b"k": "up",
    b"\x1b[B": "down",
    b"\x1bOB": "down",
    b"j": "down",
    b"l": "log",
    b"\x1b": "close",
    b"q": "close",
}
"""What a key sends -> what it is called here (xterm's control sequences, in both cursor modes)."""
_SIGNALS = (signal.SIGTSTP, signal.SIGQUIT, signal.SIGCONT)
_LOCAL_MODES = 3
"""Where termios keeps ECHO and ICANON."""


def keys() -> Keys:
    """The keys of the terminal this command was started from, where stdin, stdout and stderr are all of it.

    In `buildorch build-all | less` the keys are less's.
    """
    streams = (sys.stdin, sys.stdout, sys.stderr)
    if not all(stream.isatty() for stream in streams) or threading.current_thread() is not threading.main_thread():
        return NoKeys()
    return Keyboard(sys.stdin.fileno())


def named(data: bytes) -> list[str]:
    """The names of the keys that sent these bytes; what has none is left out."""
    found = []
    while data:
        size = 3 if data[:2] in {b"\x1b[", b"\x1bO"} else 1
        if name := NAMES.get(data[:size]):
            found.append(name)
        data = data[size:]
    return found


class Keyboard:
    """A terminal's keys; closing it leaves the terminal as it was."""

    def __init__(self, descriptor: int) -> None:
        """Nothing is read or changed yet but what happens on a stop, a continuation and a quit."""
        self._descriptor = descriptor
        self._before: list[Any] | None = None
        """The terminal's modes as they were found."""
        self._is_listening = False
        self._is_resumed = False
        self._is_ended = self._is_closed = self._is_gone = False
        self._waking, self._wake = os.pipe()
        self._handled = [number for number in _SIGNALS if signal.getsignal(number) == signal.SIG_DFL]
        for number in self._handled:
            signal.signal(number, self._resumed if number == signal.SIGCONT else self._stopped)

    def listen(self) -> bool:
        """Read keys without Enter and echo from here on; False in the background, where the terminal is another's."""
        if self._is_gone or self._is_ended or not self._is_in_front():
            return False
        if not self._is_listening:
            with suppress(termios.error):
                modes = termios.tcgetattr(self._descriptor)
                self._before = self._before or [*modes]
                modes[_LOCAL_MODES] &= ~(termios.ECHO | termios.ICANON)
                self._is_listening = True
                termios.tcsetattr(self._descriptor, termios.TCSADRAIN, modes)
        return self._is_listening

    def wait(self, seconds: float) -> Sequence[str]:
        """Wait for keys."""
        watched = [self._waking]
        if self._is_listening and self._is_in_front():
            watched.append(self._descriptor)
        ready, _, _ = select.select(watched, [], [], 0 if self._is_ended else seconds)
        found = []
        if self._waking in ready and not self._is_ended:
            os.read(self._waking, 64)
        if self._is_resumed:
            self._is_resumed = False
            found.append("resumed")
        if self._descriptor in ready:
            found += self._read()
        return found

    def end(self) -> None:
        """Wait no more."""
        if not self._is_ended:
            self._is_ended = True
            os.write(self._wake, b"x")

    def close(self) -> None:
        """Leave the terminal and the signals as they were."""
        if self._is_closed:
            return
        self._is_closed = self._is_ended = True
        self._restore()
        for number in self._handled:
            signal.signal(number, signal.SIG_DFL)
        os.close(self._waking)
        os.close(self._wake)

    def _read(self) -> list[str]:
        try:
            data = os.read(self._descriptor, 64)
        except OSError:
            data = b""
        if not data:
            self._is_gone, self._is_listening = True, False
        return named(data)

    def _is_in_front(self) -> bool:
        """Whether the terminal is this process group's: another's use of it stops who is in the background."""
        try:
            return os.tcgetpgrp(self._descriptor) == os.getpgrp()
        except OSError:
            return False

    def _restore(self) -> None:
        if self._before and self._is_listening and self._is_in_front():
            with suppress(termios.error):
                termios.tcsetattr(self._descriptor, termios.TCSADRAIN, self._before)
        self._is_listening = False

    def _stopped(self, number: int, _: FrameType | None) -> None:
        """Ctrl-Z or Ctrl+backslash: the terminal as it was, and then what the signal does to everybody."""
        self._restore()
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
        signal.signal(number, self._stopped)  # here again after a stop

    def _resumed(self, _: int, __: FrameType | None) -> None:
        """In front again, or in the background; the modes are those of whoever had the terminal meanwhile."""
        self._is_listening, self._is_resumed = False, True
        if not self._is_ended:
            os.write(self._wake, b"x")
