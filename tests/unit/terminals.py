"""A real terminal for tests: a pseudo-terminal, a program in its foreground, and what stands on the screen.

Between the two stands a shell's job control and nothing else of a shell: what the program leaves of the modes is seen.
"""

from __future__ import annotations

import fcntl
import os
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pyte

PATIENCE_S = 20.0
_JOB_CONTROL = """
import fcntl, os, signal, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
signal.signal(signal.SIGTTOU, signal.SIG_IGN)
told, go = int(sys.argv[1]), int(sys.argv[2])
pid = os.fork()
if pid == 0:
    os.setpgid(0, 0)
    os.tcsetpgrp(0, os.getpid())
    # As a shell does for its jobs; whoever runs the tests in the background may ignore SIGINT and SIGQUIT (POSIX, sh).
    for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGTSTP, signal.SIGTTOU):
        signal.signal(number, signal.SIG_DFL)
    os.execv(sys.argv[3], sys.argv[3:])
while True:
    status = os.waitpid(pid, os.WUNTRACED)[1]
    os.tcsetpgrp(0, os.getpgrp())
    if not os.WIFSTOPPED(status):
        break
    os.write(told, b"stopped\\n")
    os.read(go, 1)
    os.tcsetpgrp(0, pid)
    os.kill(-pid, signal.SIGCONT)
os.write(told, b"ended %d\\n" % os.waitstatus_to_exitcode(status))
"""


@dataclass
class Terminal:
    """A terminal and the program on it."""

    master: int
    slave: int
    told: int
    go: int
    screen: pyte.Screen
    stream: pyte.ByteStream
    before: list[Any]
    """Its modes before the program ran."""
    said: bytes = b""
    """What job control told so far."""
    raw: bytearray = field(default_factory=bytearray)

    @property
    def modes(self) -> list[Any]:
        return termios.tcgetattr(self.slave)

    @property
    def echoes(self) -> bool:
        return bool(self.modes[3] & termios.ECHO)

    @property
    def shown(self) -> str:
        return "\n".join(line.rstrip() for line in self.screen.display)

    def press(self, keys: bytes) -> None:
        os.write(self.master, keys)

    def resize(self, columns: int, rows: int) -> None:
        """As a terminal of the kind that cuts its lines."""
        self.screen.resize(rows, columns)
        fcntl.ioctl(self.slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def resume(self) -> None:
        """Bring the program to the front again, as `fg` does."""
        self.said = b""
        os.write(self.go, b"x")

    def until(self, holds: Callable[[], object]) -> None:
        """Go on until something holds."""
        end = time.monotonic() + PATIENCE_S
        while not holds():
            assert time.monotonic() < end, f"it did not come to that:\n{self.shown}\n{self.said!r}"
            for ready in select.select([self.master, self.told], [], [], 0.02)[0]:
                data = os.read(ready, 65536)
                if ready == self.told:
                    self.said += data
                else:
                    self.raw += data
                    self.stream.feed(data)

    def end(self) -> int:
        """Wait for the program's end; its exit code, or a signal as a negative number."""
        self.until(lambda: b"ended" in self.said)
        for _ in range(3):  # what is still on its way
            if select.select([self.master], [], [], 0.02)[0]:
                self.stream.feed(os.read(self.master, 65536))
        return int(self.said.split()[-1])


@contextmanager
def running(
    arguments: Sequence[str], environ: Mapping[str, str], *, columns: int = 80, rows: int = 24
) -> Iterator[Terminal]:
    """A Python program on a terminal of its own until the block ends."""
    master, slave = os.openpty()
    told, tell = os.pipe()
    go, let_go = os.pipe()
    screen = pyte.Screen(columns, rows)
    terminal = Terminal(master, slave, told, let_go, screen, pyte.ByteStream(screen), termios.tcgetattr(slave))
    terminal.resize(columns, rows)
    process = subprocess.Popen(
        [sys.executable, "-IS", "-c", _JOB_CONTROL, str(tell), str(go), sys.executable, *arguments],
        stdin=slave,
        stdout=slave,
        stderr=slave,
        env={**os.environ, "TERM": "xterm-256color", **environ},
        start_new_session=True,
        pass_fds=(tell, go),
    )
    try:
        yield terminal
    finally:
        process.kill()
        process.wait()
        for descriptor in (master, slave, told, tell, go, let_go):  # a program that is left gets SIGHUP
            os.close(descriptor)
