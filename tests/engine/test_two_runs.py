"""Several runs at once over one project: each fingerprint is built once, nobody waits for ever, images hold what was edited.

Eight commands at a time, edits between the rounds, and in half of the rounds the run that builds is killed at a random moment.
BUILDORCH_SOAK=1 makes 100 rounds instead of 4; BUILDORCH_SEED draws others.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from sandbox import Sandbox

from buildorch.ledger import Entry, Ledger

pytestmark = pytest.mark.engine
ROUNDS = 100 if os.environ.get("BUILDORCH_SOAK") else 4
AT_ONCE = 8
SERVICES = {"base": "", "app": "base", "web": "base", "jobs": "", "mail": ""}
"""Service -> the one it builds on."""
LONGEST_S = 240
"""For one round: it takes a few seconds on two CPUs."""


@dataclass
class Tally:
    """What was done."""

    built: int = 0
    skipped: int = 0
    waits: int = 0
    killed: int = 0
    took_s: list[float] = field(default_factory=list)


@dataclass
class Run:
    """One command that runs, and the file its events go to."""

    process: subprocess.Popen[bytes]
    events_file: Path

    def events(self) -> list[dict[str, Any]]:
        """What it has told; a killed one may leave half a line."""
        lines = self.events_file.read_text().splitlines(keepends=True)
        return [json.loads(line) for line in lines if line.endswith("\n") and line.startswith("{")]

    def run_id(self) -> str:
        """What it calls itself, once it began."""
        return next(told["run_id"] for told in self.events() if told["event"] == "run_started")

    def started(self) -> list[str]:
        """The services whose builds it began."""
        return [told["service"] for told in self.events() if told["event"] == "solve_started" and told["attempt"] == 1]

    def awaited(self) -> list[str | None]:
        """The runs it waited for."""
        holders = [told["holder"] for told in self.events() if told["event"] == "lease_awaited"]
        return [holder and holder["run_id"] for holder in holders]


def start(sandbox: Sandbox, folder: Path, number: int) -> Run:
    """A command of its own, as somebody else on the machine would start it."""
    events_file = folder / f"{number}.jsonl"
    arguments = ["build-all", "--progress", "json", "--record", str(folder / f"{number}.json")]
    with events_file.open("wb") as stderr:
        process = subprocess.Popen(
            [sys.executable, "-m", "buildorch", *arguments],
            cwd=sandbox.root,
            stdout=subprocess.DEVNULL,
            stderr=stderr,
            env={**os.environ, "TMPDIR": str(folder)},
        )
    return Run(process, events_file)


def kill_who_builds(runs: list[Run], random_: random.Random) -> Run | None:
    """Kill a run at a random moment after it began to build; None where it was over before that."""
    deadline = time.monotonic() + 30
    building = None
    while building is None and time.monotonic() < deadline and any(run.process.poll() is None for run in runs):
        building = next((run for run in runs if run.started()), None)
        time.sleep(0.005)
    if building is None:
        return None
    time.sleep(random_.uniform(0, 1.2))
    if building.process.poll() is None:
        building.process.send_signal(signal.SIGKILL)
    return building if building.process.wait(30) == -signal.SIGKILL else None


def entries_behind(sandbox: Sandbox, sequence: int) -> list[Entry]:
    """What the ledger got since."""
    with Ledger(sandbox.root / ".buildorch" / "ledger.db") as ledger:
        found = [entry for name in SERVICES for entry in ledger.history(name, limit=4 * AT_ONCE)]
    return sorted((entry for entry in found if entry.sequence > sequence), key=lambda entry: entry.sequence)


def edit(sandbox: Sandbox, edited: set[str], word: str) -> None:
    for name in edited:
        sandbox.write(f"services/{name}/data", f"{word} of {name}\n")


def with_dependants(edited: set[str]) -> set[str]:
    return edited | {name for name, base in SERVICES.items() if base in edited}


def test_of_eight_runs_at_once_one_builds_each_fingerprint_and_the_others_skip(sandbox: Sandbox, tmp_path: Path):
    seed = int(os.environ.get("BUILDORCH_SEED", "0")) or random.randrange(1, 1 << 30)
    print(f"{ROUNDS} rounds of {AT_ONCE} runs; run it again with BUILDORCH_SEED={seed}")
    random_, tally = random.Random(seed), Tally()
    lines = ["services:"]
    for name, base in SERVICES.items():
        sandbox.service(name, f"FROM {base or 'scratch'}\nCOPY data /data\n")
        lines.append(f"  {name}: {{contexts: {{{base}: service:{base}}}}}" if base else f"  {name}:")
    sandbox.services("\n".join(lines))
    holds: dict[str, str] = {}
    sequence = 0
    for number in range(ROUNDS):
        word = f"round {number}"
        edited = set(random_.sample(sorted(SERVICES), random_.randint(1, len(SERVICES)))) if number else set(SERVICES)
        edit(sandbox, edited, word)
        holds |= dict.fromkeys(edited, word)
        sequence = one_round(sandbox, tmp_path / word, edited, sequence, random_, tally, kill=number % 2 == 1)
        for name, last in holds.items():
            image = f"{sandbox.name}/{name}:latest"
            assert sandbox.read_file(image, "/data") == f"{last} of {name}\n".encode(), (word, name)
    print(
        f"{tally.built} built, {tally.skipped} skipped, {tally.waits} waits, {tally.killed} killed; "
        f"a round took {min(tally.took_s):.1f} to {max(tally.took_s):.1f} s"
    )
    assert tally.waits > 0, "no run ever waited for another"


def one_round(
    sandbox: Sandbox,
    folder: Path,
    edited: set[str],
    sequence: int,
    random_: random.Random,
    tally: Tally,
    *,
    kill: bool,
) -> int:
    """Eight runs at once after an edit, and what they left; the ledger's last sequence number."""
    folder.mkdir()
    begun = time.monotonic()
    runs = []
    for number in range(AT_ONCE):
        runs.append(start(sandbox, folder, number))
        time.sleep(random_.choice([0, 0, 0.05, 0.2]))
    killed = kill_who_builds(runs, random_) if kill else None
    try:
        for run in runs:
            run.process.wait(max(0.1, begun + LONGEST_S - time.monotonic()))
    finally:
        for run in runs:
            run.process.kill()
    tally.took_s.append(time.monotonic() - begun)

    alive = [run for run in runs if run is not killed]
    assert [run.process.returncode for run in alive] == [0] * len(alive), [
        run.events_file.read_text()[-2000:] for run in alive
    ]
    written = entries_behind(sandbox, sequence)
    left_open = {entry.run_id for entry in written if entry.record.status == "cancelled"}
    assert left_open <= ({killed.run_id()} if killed else set()), "only a killed run leaves something open"
    entries = [entry for entry in written if entry.record.status != "cancelled"]
    wanted = with_dependants(edited)
    for name in SERVICES:
        records = [entry.record for entry in entries if entry.service == name]
        [fingerprint] = {record.fingerprint for record in records}
        told = Counter(record.status for record in records)
        assert fingerprint is not None
        assert set(told) <= {"built", "skipped"}, (folder.name, name, told)
        assert told["built"] == (name in wanted), (folder.name, name, told)
        assert told.total() - len(alive) in ({0, 1} if killed else {0}), (folder.name, name, told)
    started = Counter(name for run in alive for name in run.started())
    if killed:
        # What it began and did not live to record is built by the next one.
        theirs = [entry for entry in entries if entry.run_id == killed.run_id()]
        started += Counter(entry.service for entry in theirs if entry.record.status == "built")
    assert started == Counter(wanted), (folder.name, edited)
    for run in runs:
        assert len(run.awaited()) == len(set(run.awaited())), "a run said twice whom it waits for"
    tally.built += sum(entry.record.status == "built" for entry in entries)
    tally.skipped += sum(entry.record.status == "skipped" for entry in entries)
    tally.waits += sum(bool(run.awaited()) for run in runs)
    tally.killed += killed is not None
    return max(entry.sequence for entry in written)
