"""Processes that are killed at every step of the way to a record: nothing recorded is lost, doubled or invented."""

from __future__ import annotations

import itertools
import json
import os
import random
import signal
import sqlite3
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest

from buildorch import project
from buildorch.ledger import Ledger, store
from buildorch.ledger.verification import verify
from buildorch.record import Report, ServiceRecord
from buildorch.testing import make_digest, make_record

KILLS = 1000 if os.environ.get("BUILDORCH_SOAK") else 60
BUILT = ("one", "two", "three")
SKIPPED = ("four", "five")
CANCELLED = make_record("cancelled")

pytestmark = [
    pytest.mark.proof,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="each run is a process of its own, forked"),
]


def made(run_id: str, service: str) -> ServiceRecord:
    return make_record(digest=make_digest(f"{service} of {run_id}"))


def report_of(run_id: str) -> Report:
    return Report(
        run_id=run_id,
        project="shop",
        started_at="2026-01-31T12:00:00Z",
        duration_s=1.0,
        exit_code=0,
        jobs=1,
        git=None,
        engine=None,
        services={name: made(run_id, name) for name in (*BUILT, *SKIPPED)},
    )


def record_a_run(folder: Path, run_id: str, announce: int) -> None:
    """All that a run writes, in its order; what is durable is announced."""
    with Ledger(folder / "ledger.db") as ledger:
        ledger.begin(run_id, project="shop", started_at="2026-01-31T12:00:00Z")
        ledger.commit_all(run_id, {name: made(run_id, name) for name in SKIPPED})
        os.write(announce, "".join(f"{name}\n" for name in SKIPPED).encode())
        ledger.intend(run_id, dict.fromkeys(BUILT, CANCELLED))
        for name in BUILT:
            ledger.commit(run_id, name, made(run_id, name), snapshot=os.urandom(100))
            os.write(announce, f"{name}\n".encode())
        ledger.finish(report_of(run_id))
        project.write_atomically(folder / "run.json", report_of(run_id).to_json())
        os.write(announce, b"run.json\n")


@dataclass
class Steps:
    """Counts the steps of this process that touch the disk, and kills it before one of them."""

    last: float
    done: int = 0

    def step(self, *_: object) -> None:
        self.done += 1
        if self.done > self.last:
            os.kill(os.getpid(), signal.SIGKILL)

    def watch(self) -> None:
        """Every SQL statement, every file opened and every one renamed is a step."""
        connect = sqlite3.connect

        def watched(*arguments: object, **options: object) -> sqlite3.Connection:
            db: sqlite3.Connection = connect(*arguments, **options)  # type: ignore[arg-type]
            db.set_trace_callback(self.step)
            return db

        store.sqlite3.connect = watched  # type: ignore[assignment]  # in this process alone, which ends soon
        sys.addaudithook(lambda event, _: self.step() if event in {"open", "os.rename", "os.remove"} else None)


def run(folder: Path, run_id: str, *, die_at: float, after_s: float | None = None) -> list[str]:
    """What a process announced that dies before a step, or some time after its start."""
    heard, announce = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(heard)
            Steps(die_at).watch()
            record_a_run(folder, run_id, announce)
        finally:
            os._exit(0)
    os.close(announce)
    if after_s is not None:
        time.sleep(after_s)
        os.kill(child, signal.SIGKILL)
    with os.fdopen(heard) as told:
        announced = told.read().splitlines()
    os.waitpid(child, 0)
    return announced


def judge(folder: Path, runs: dict[str, list[str]]) -> None:
    """Hold the ledger to what was announced."""
    with Ledger(folder / "ledger.db") as ledger:
        rows = [entry for name in (*BUILT, *SKIPPED) for entry in ledger.history(name, limit=1_000_000)]
    assert verify(folder / "ledger.db").damages == ()
    there = Counter((row.run_id, row.service) for row in rows)
    assert max(there.values(), default=1) == 1, "a row is doubled"
    recorded = {(row.run_id, row.service): row.record for row in rows}
    for (run_id, service), record in recorded.items():
        assert record in (made(run_id, service), CANCELLED), f"{service} of {run_id} is invented"
    for run_id, announced in runs.items():
        for name in set(announced) - {"run.json"}:
            assert recorded[run_id, name] == made(run_id, name), f"{name} of {run_id} is lost"
        unannounced = [
            name for name in BUILT if name not in announced and recorded.get((run_id, name), CANCELLED) != CANCELLED
        ]
        assert len(unannounced) <= 1, "more was recorded than was on its way"
    record = folder / "run.json"
    if record.exists():
        assert json.loads(record.read_text())["run_id"] in runs


def test_a_run_killed_before_any_of_its_steps_loses_doubles_and_invents_nothing(tmp_path: Path):
    runs: dict[str, list[str]] = {}
    for die_at in itertools.count():
        runs[f"r{die_at}"] = run(tmp_path, f"r{die_at}", die_at=die_at)
        judge(tmp_path, runs)
        if "run.json" in runs[f"r{die_at}"]:
            break
    judge(tmp_path, runs)
    print(f"killed before each of {die_at} steps")
    assert die_at > 40, "steps were not seen"


def test_runs_killed_at_random_lose_double_and_invent_nothing(tmp_path: Path):
    seed = random.randrange(1 << 30)
    print(f"seed {seed}")
    rng = random.Random(seed)
    whole = [run(tmp_path, "whole", die_at=float("inf"))]
    begun = time.monotonic()
    runs = {"whole": whole[0], "again": run(tmp_path, "again", die_at=float("inf"))}
    usual_s = time.monotonic() - begun

    for at in range(KILLS):
        runs[f"r{at}"] = run(tmp_path, f"r{at}", die_at=float("inf"), after_s=rng.uniform(0, usual_s * 1.2))
        if at % 20 == 0:
            judge(tmp_path, runs)

    judge(tmp_path, runs)
    ends = Counter(len(announced) for announced in runs.values())
    print(f"{KILLS} kills; how many rows were announced: {dict(sorted(ends.items()))}")


def test_the_run_after_a_killed_one_records_what_that_one_left_open(tmp_path: Path):
    steps = 0
    while "one" not in run(tmp_path, f"r{steps}", die_at=steps):
        steps += 1
    run(tmp_path, "next", die_at=float("inf"))

    with Ledger(tmp_path / "ledger.db") as ledger:
        of_the_killed = {
            name: entry.record.status
            for name in BUILT
            for entry in ledger.history(name, limit=1_000)
            if entry.run_id == f"r{steps}"
        }

    assert of_the_killed == {"one": "built", "two": "cancelled", "three": "cancelled"}
