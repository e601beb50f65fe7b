"""Builds that print more, and worse, than anybody wants to read: little memory, nothing that a terminal would obey."""

from __future__ import annotations

import os
import pty
import re
import select
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from sandbox import BASE, Sandbox

pytestmark = pytest.mark.engine

LOUD = {
    "100 MB in one line": "head -c 100000000 /dev/zero | tr '\\0' x",
    "10 million lines": "seq 10000000",
    "invalid UTF-8": "head -c 20000000 /dev/urandom",
    "terminal escapes": "for i in $(seq 20000); do printf '\\033]0;owned\\007\\033[2J\\033[31mred\\033c\\233H\\r'; done",
}
MOST_MORE = 50_000_000
"""Bytes of memory that a loud build may take above a silent one."""
_SEQUENCE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b.|[\x80-\x9f]")
_OWN = re.compile(r"\x1b\[(?:\?25[lh]|[0-9;]*m|\d*[ABCDGKJ])")
"""What the live view itself writes: colours, the cursor shown and hidden and moved, lines and the rest erased."""


def project(sandbox: Sandbox, command: str) -> None:
    sandbox.service("app", f"FROM {BASE}\nRUN {command}\n")
    sandbox.services("services: {app: }\n")


def most_memory(process: subprocess.Popen[bytes]) -> int:
    """The most memory a process took at once, in bytes; its own, not its children's. Reads nothing of what it prints."""
    status, most = Path(f"/proc/{process.pid}/status"), 0
    while process.poll() is None:
        if match := re.search(r"VmHWM:\s+(\d+) kB", status.read_text()):
            most = int(match[1]) * 1024
        time.sleep(0.02)
    return most


def build(sandbox: Sandbox, *options: str) -> tuple[int, bytes]:
    """Build, all that is printed going to a file; the memory it took and what was printed."""
    printed = sandbox.root / "printed"
    command = [sys.executable, "-m", "buildorch", "build-all", "--no-cache", *options]
    with printed.open("wb") as out:
        process = subprocess.Popen(command, cwd=sandbox.root, stdout=out, stderr=out)
        most = most_memory(process)
    text = printed.read_bytes()
    assert process.returncode == 0, text[-2000:]
    return most, text


def seen_by_a_terminal(sandbox: Sandbox, command: Sequence[str]) -> str:
    """What a command writes to the terminal it runs on."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(command, cwd=sandbox.root, stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    seen = bytearray()
    while True:
        ready, _, _ = select.select([ours], [], [], 120)
        assert ready, "nothing for two minutes"
        try:
            chunk = os.read(ours, 65536)
        except OSError:  # the other end is closed
            break
        if not chunk:
            break
        seen += chunk
    os.close(ours)
    assert process.wait() == 1, seen[-2000:]
    return seen.decode(errors="replace")


def test_a_loud_build_takes_little_more_memory_than_a_silent_one_and_nothing_it_prints_is_obeyed(sandbox: Sandbox):
    project(sandbox, "true")
    build(sandbox, "--progress", "plain")  # the first reads the services file, and those after it recall it
    silent, _ = build(sandbox, "--progress", "plain")

    for name, command in LOUD.items():
        project(sandbox, command)
        loud, printed = build(sandbox, "--progress", "plain")

        print(f"{name}: {loud / 1e6:.0f} MB, silent {silent / 1e6:.0f} MB, {len(printed) / 1e6:.1f} MB printed")
        assert len(printed) > 100_000, "it was not loud"
        assert loud - silent < MOST_MORE
        assert not re.search(rb"[\x00-\x08\x0b-\x1f\x7f]|\xc2[\x80-\x9f]", printed)


def test_a_terminal_sees_no_escape_that_the_live_view_did_not_write(sandbox: Sandbox):
    project(sandbox, f"{LOUD['terminal escapes']}; exit 1")  # the last lines of a step that failed are shown
    command = [sys.executable, "-m", "buildorch", "build-all", "--no-cache", "--progress", "tty"]

    seen = seen_by_a_terminal(sandbox, command)

    foreign = {match for match in _SEQUENCE.findall(seen) if not _OWN.fullmatch(match)}
    assert _OWN.search(seen), "the live view wrote nothing"
    assert "red" in seen, "the step's last lines are not shown"
    assert foreign == set()
