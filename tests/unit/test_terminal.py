"""The live view on a real terminal: resized, stopped, interrupted and killed, and the terminal as it was afterwards."""

from __future__ import annotations

import os
import signal
import sys
import termios
from collections.abc import Iterator
from pathlib import Path

import pytest
import terminals
from fakes import install_buildx, running_engine

from buildorch.cli import keyboard, running
from buildorch.report.live import NoKeys

BUILD = ("-m", "buildorch", "build-all")
BEHAVE = """head -n 4 "$replay" >&2
exec sleep 60
"""
READ_KEYS = """
import os
import signal
from buildorch.cli.keyboard import keys
there = keys()
print("ready", flush=True)
found = []
while "close" not in found:
    there.listen()
    found += there.wait(0.05)
    if "log" in found:
        found.remove("log")
        os.kill(os.getpid(), signal.SIGSTOP)
    print(*found, flush=True)
there.close()
"""


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A project of two services whose builds go on until they are stopped."""
    replay = Path(__file__).with_name("data") / "executed.rawjson"
    install_buildx(tmp_path / "docker", replay=replay)
    for name in ("backend", "frontend"):
        folder = tmp_path / "services" / name
        folder.mkdir(parents=True)
        (folder / "Dockerfile").write_text("FROM scratch\nCOPY Dockerfile /\n")
        (folder / "behave.sh").write_text(BEHAVE)
    (tmp_path / "services.yaml").write_text("version: 1\nproject: shop\nservices:\n  backend:\n  frontend:\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).resolve().parents[2]))
    with running_engine() as engine:
        monkeypatch.setenv("DOCKER_HOST", engine.endpoint)
        yield tmp_path


@pytest.mark.proof
def test_a_run_that_is_resized_stopped_and_interrupted_leaves_its_table_and_the_terminal_as_it_was(root: Path):
    with terminals.running(BUILD, {}) as terminal:
        terminal.until(lambda: "2 building" in terminal.shown and not terminal.echoes)
        terminal.resize(50, 20)
        terminal.until(lambda: "up, down: a service's log" in terminal.shown)
        terminal.resize(100, 30)
        terminal.press(b"j")
        terminal.until(lambda: "\u2500\u2500 backend, building" in terminal.shown)
        resized = terminal.shown
        terminal.press(b"\x1a")
        terminal.until(lambda: b"stopped" in terminal.said)
        while_stopped = terminal.modes
        before = len(terminal.raw)
        terminal.resume()
        terminal.until(lambda: not terminal.echoes and b"building" in terminal.raw[before:])
        terminal.press(b"\x03")
        code = terminal.end()

        assert resized.count("2 building") == 1
        assert while_stopped == terminal.before
        assert (code, terminal.modes) == (130, terminal.before)
        assert "2 cancelled in" in terminal.shown


@pytest.mark.proof
def test_ctrl_backslash_leaves_the_terminal_as_it_was():
    with terminals.running(("-c", READ_KEYS), {}) as terminal:
        terminal.until(lambda: not terminal.echoes)
        terminal.press(b"\x1c")

        assert terminal.end() == -signal.SIGQUIT
        assert terminal.modes == terminal.before


@pytest.mark.proof
def test_keys_are_read_without_enter_and_not_shown():
    with terminals.running(("-c", READ_KEYS), {}) as terminal:
        terminal.until(lambda: not terminal.echoes)
        terminal.press(b"j\x1b[Ax")
        terminal.until(lambda: "down up" in terminal.shown)
        terminal.press(b"\x1b")

        assert terminal.end() == 0
        assert terminal.modes == terminal.before
        assert "x" not in terminal.shown


@pytest.mark.proof
def test_after_a_stop_that_nobody_is_told_of_the_modes_a_shell_set_are_changed_again_and_put_back_at_the_end():
    with terminals.running(("-c", READ_KEYS), {}) as terminal:
        terminal.until(lambda: not terminal.echoes)
        terminal.press(b"l")
        terminal.until(lambda: b"stopped" in terminal.said)
        termios.tcsetattr(terminal.slave, termios.TCSANOW, terminal.before)
        terminal.resume()
        terminal.until(lambda: "resumed" in terminal.shown and not terminal.echoes)
        terminal.press(b"q")

        assert terminal.end() == 0
        assert terminal.modes == terminal.before


@pytest.mark.parametrize(
    ("data", "names"),
    [
        (b"\x1b[A\x1bOB", ["up", "down"]),
        (b"kjlq", ["up", "down", "log", "close"]),
        (b"\x1b", ["close"]),
        (b"\x1b[C?\xff\x00", []),
    ],
)
def test_keys_have_names(data: bytes, names: list[str]):
    assert keyboard.named(data) == names


def test_where_stdout_goes_into_a_pipe_no_key_is_read(monkeypatch: pytest.MonkeyPatch):
    master, slave = os.openpty()
    with os.fdopen(slave) as terminal, os.fdopen(master):
        monkeypatch.setattr(sys, "stdin", terminal)
        monkeypatch.setattr(sys, "stderr", terminal)

        assert isinstance(keyboard.keys(), NoKeys)


@pytest.mark.parametrize(
    ("progress", "log_format", "terminal", "shown"),
    [
        ("auto", "text", "xterm", "tty"),
        ("auto", "text", "dumb", "plain"),
        ("auto", "text", "Unknown", "plain"),
        ("auto", "text", "", "plain"),
        ("auto", "text", None, "plain"),
        ("auto", "json", "xterm", "quiet"),
        ("tty", "text", "xterm", "tty"),
        ("tty", "text", "dumb", "plain"),
        ("tty", "json", None, "plain"),
        ("quiet", "text", "xterm", "quiet"),
        ("json", "text", "xterm", "json"),
    ],
)
def test_a_picture_is_drawn_only_on_a_terminal_that_can_be_drawn_on(
    progress: str, log_format: str, terminal: str | None, shown: str
):
    assert running.kind(progress, log_format, terminal=terminal) == shown
