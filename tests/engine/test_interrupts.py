"""Signals, for real: every build stops, the record is valid, the exit code says what happened."""

from __future__ import annotations

import json
import os
import random
import signal
import time

import jsonschema
import pytest
from sandbox import BASE, REPOSITORY, Sandbox

pytestmark = pytest.mark.engine

SIGNALS = [*[(signal.SIGINT, 130)] * 5, (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
if os.environ.get("BUILDORCH_SOAK"):
    SIGNALS = [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)] * 67


def slow_project(sandbox: Sandbox) -> str:
    """Three services that print and sleep, with a word that their RUN processes' command lines hold."""
    word = f"sleep-of-{sandbox.name}"
    for name in ("one", "two", "three"):
        sandbox.service(name, f"FROM {BASE}\nRUN for i in $(seq 100); do echo {name} $i; sleep 0.3; done; : {word}\n")
    sandbox.services("services: {one: {}, two: {}, three: {}}\n")
    return word


def gone_within(seconds: float, holding, *words: str) -> float:
    """How long until no process holds any of the words; fails when they outlive the limit."""
    begun = time.monotonic()
    while left := [line for word in words for line in holding(word)]:
        assert time.monotonic() - begun < seconds, left
        time.sleep(0.02)
    return time.monotonic() - begun


@pytest.mark.parametrize(("number", "exit_code"), SIGNALS)
def test_a_signal_at_a_random_moment_stops_every_build_and_leaves_a_valid_record(
    sandbox: Sandbox, processes, number: signal.Signals, exit_code: int
):
    moment_s = random.uniform(0.0, 4.0)
    print(f"after {moment_s} s")
    word = slow_project(sandbox)
    running = sandbox.start("build-all", "--no-cache", "--progress", "plain")
    first = running.stderr.readline()
    time.sleep(moment_s)

    running.send_signal(number)
    begun = time.monotonic()
    out, err = running.communicate(timeout=30)
    took = time.monotonic() - begun
    gone_within(max(2.0 - took, 0.1), processes, word, sandbox.name)

    assert running.returncode == exit_code, (first, out, err)
    assert took < 2.0
    schema = json.loads((REPOSITORY / "docs/schemas/run.schema.json").read_text())
    jsonschema.validate(sandbox.record, schema)
    assert sandbox.record["exit_code"] == exit_code
    assert {record["status"] for record in sandbox.record["services"].values()} == {"cancelled"}
    assert "Traceback" not in err


def test_killing_buildorch_itself_takes_its_builds_with_it(sandbox: Sandbox, processes):
    word = slow_project(sandbox)
    running = sandbox.start("build-all", "--no-cache", "--progress", "plain")
    assert any("RUN for i in" in line for line in running.stderr), "it ended before its first step ran"

    os.kill(running.pid, signal.SIGKILL)
    running.communicate(timeout=30)

    gone_within(3.0, processes, word, sandbox.name)


def test_a_second_interrupt_ends_the_run_at_once_with_its_record(sandbox: Sandbox, processes):
    word = slow_project(sandbox)
    running = sandbox.start("build-all", "--no-cache", "--progress", "plain")
    assert any("RUN for i in" in line for line in running.stderr), "it ended before its first step ran"

    running.send_signal(signal.SIGINT)
    running.send_signal(signal.SIGINT)
    running.communicate(timeout=30)

    assert running.returncode == 130
    assert sandbox.record["exit_code"] == 130
    gone_within(2.0, processes, word)
