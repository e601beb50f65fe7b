"""What the live view costs: 50 services, all built at once, on a terminal of its own.

In: the terminal's size. Out: the part of a core. Touches a pseudo-terminal.
"""

from __future__ import annotations

import fcntl
import os
import struct
import termios
import threading
import time

from buildorch.events import Event, RunStarted, SolveStarted, StepFinished, StepLogged, StepProgress, StepStarted
from buildorch.forecast import Forecast
from buildorch.record import EngineFacts
from buildorch.report.board import Board
from buildorch.report.live import LiveView

SERVICES, SECONDS = 50, 10.0
EVENTS_PER_S = 500
"""More than 50 builds tell: a build of 50 s has some hundred."""
STEPS = tuple(f"[stage-{at // 8} {at % 8 + 1}/8] RUN step {at} with some words" for at in range(24))
ENGINE = EngineFacts(version="28", buildx="0.29", store="containerd", endpoint="", cpus=2)
NAMES = tuple(f"service-{at:03}" for at in range(SERVICES))
EXPECTED = Forecast(dict.fromkeys(NAMES, 60.0), dict.fromkeys(NAMES, dict.fromkeys(STEPS, 2.5)), {})
BEGIN: tuple[Event, ...] = (
    RunStarted(at="", run_id="r", project="bench", services=NAMES, jobs=SERVICES, engine=ENGINE),
    *(SolveStarted(at="", service=name, attempt=1, reason="") for name in NAMES),
)


def refreshing(*, columns: int, rows: int) -> float:
    """The part of a core that the pictures take: the processor time of the thread that draws them."""
    os.environ["TERM"] = "xterm-256color"
    master, slave = os.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    threading.Thread(target=_drain, args=(master,), daemon=True).start()
    with os.fdopen(slave, "w") as terminal, LiveView(lambda: EXPECTED, stream=terminal) as view:
        for event in BEGIN:
            view.update(event)
        [drawing] = [thread for thread in threading.enumerate() if thread.name == "meanwhile"]
        clock = time.pthread_getcpuclockid(drawing.ident or 0)
        time.sleep(0.5)  # rich is loaded once
        begun, used = time.perf_counter(), time.clock_gettime(clock)
        for at, event in enumerate(_events()):
            view.update(event)
            time.sleep(max(begun + at / EVENTS_PER_S - time.perf_counter(), 0))
        return (time.clock_gettime(clock) - used) / (time.perf_counter() - begun)


def folding() -> float:
    """The part of a core that it takes to fold the events."""
    board, events = Board(), _events()
    for event in BEGIN:
        board.update(event)
    used = time.thread_time()
    for event in events:
        board.update(event)
    return (time.thread_time() - used) / len(events) * EVENTS_PER_S


def _events() -> list[Event]:
    """What 50 builds tell in so many seconds: each goes through its steps, pulls, and prints."""
    found: list[Event] = []
    turn = 0
    while len(found) < SECONDS * EVENTS_PER_S:
        before, step = STEPS[turn % len(STEPS) - 1], STEPS[turn % len(STEPS)]
        for name in NAMES:
            found += [
                StepFinished(service=name, vertex=before, name=before, step=True, cached=False, duration_s=1.0),
                StepStarted(service=name, vertex=step, name=step, step=True, index=1, total=8),
                StepProgress(service=name, vertex=step, item=f"sha256:{turn}", current=len(found) * 1000, total=0),
                StepLogged(service=name, vertex=step, name=step, lines=(f"line {len(found)} of what a build prints",)),
            ]
        turn += 1
    return found


def _drain(master: int) -> None:
    """Take what is written, as a terminal does."""
    while True:
        try:
            os.read(master, 65536)
        except OSError:
            return
