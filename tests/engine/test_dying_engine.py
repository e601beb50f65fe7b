"""A dockerd that is killed or stopped in the middle of a run: the right failure, soon, and only the rest is built again."""

from __future__ import annotations

import contextlib
import json
import os
import random
import secrets
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
from private_engine import engine, exports, make_image, only_where_one_can_start, own_engine, pids
from sandbox import Sandbox

from buildorch.runs import LEFT_RUNNING

pytestmark = [pytest.mark.engine, only_where_one_can_start]

SOAK = bool(os.environ.get("BUILDORCH_SOAK"))
KILLS = 50 if SOAK else 2
STOPS = 20 if SOAK else 1
DONE = ("done", "ready")
"""Services that are built before the engine dies."""
SLOW = ("slow", "slower")
LONGEST_S = 30.0
"""From the engine's death to the end of the run."""


@pytest.fixture(scope="module")
def dying() -> Iterator[str]:
    """The name of an engine whose daemon these tests may kill."""
    with own_engine() as name:
        yield name


@pytest.fixture
def environ(dying: str, tmp_path: Path) -> Mapping[str, str]:
    """Where the dying engine answers; it has an image with a shell."""
    folder = tmp_path / "image"
    folder.mkdir()
    make_image(folder, name=dying)
    return exports(dying)


@pytest.fixture
def project(tmp_path: Path) -> Sandbox:
    """Two services that are quick and two that take as long as a file of theirs says; the engine goes with its images."""
    made = Sandbox(tmp_path / "project", f"t-{secrets.token_hex(4)}")
    made.root.mkdir()
    for name in DONE:
        made.service(name, "FROM scratch\nCOPY data /data\n", data=name)
    for name in SLOW:
        made.service(name, 'FROM t/host\nCOPY wait /wait\nRUN ["bash", "-c", "sleep $(</wait)"]\n', wait="60")
    made.services(f"services: {{{', '.join(f'{name}: ' for name in (*DONE, *SLOW))}}}\n")
    return made


def run_until_slow(project: Sandbox, environ: Mapping[str, str]) -> subprocess.Popen[str]:
    """A run whose quick services are recorded, and whose slow ones are in their step."""
    running = project.start("build-all", "--progress", "json", "-j", "4", environ=environ)
    seen: Counter[str] = Counter()
    assert running.stderr
    for line in running.stderr:
        event = json.loads(line)
        seen["finished"] += event["event"] == "service_finished"
        seen["slow"] += event["event"] == "step_started" and "sleep" in event["name"]
        if seen["finished"] >= len(DONE) and seen["slow"] >= len(SLOW):
            return running
    raise AssertionError(f"it ended before its slow steps ran: {running.communicate()}")


def dies(
    project: Sandbox, environ: Mapping[str, str], kill: Callable[[], None], rng: random.Random, kind: str
) -> float:
    """Let the engine die in the middle of a run, and see what that run makes of it; how long it took to end."""
    for name in SLOW:
        project.write(f"services/{name}/wait", f"6{rng.randrange(10)}.{rng.randrange(10**9)}")
    for name in DONE:
        project.write(f"services/{name}/data", f"{rng.random()}")
    running = run_until_slow(project, environ)
    time.sleep(rng.uniform(0.0, 1.0))

    kill()
    begun = time.monotonic()
    _, told = running.communicate(timeout=90)
    took = time.monotonic() - begun

    assert took < LONGEST_S
    assert running.returncode == 4, told
    assert "Traceback" not in told
    assert project.outcomes == {**dict.fromkeys(DONE, "built"), **dict.fromkeys(SLOW, kind)}
    return took


def builds_only_the_rest(project: Sandbox, environ: Mapping[str, str]) -> None:
    for name in SLOW:
        project.write(f"services/{name}/wait", "0")
    done = project.command("build-all", environ=environ)
    assert done.returncode == 0, done.stderr
    assert project.outcomes == {**dict.fromkeys(DONE, "skipped"), **dict.fromkeys(SLOW, "built")}
    assert [name for name, one in project.record["services"].items() if LEFT_RUNNING in one["warnings"]] == [*SLOW]


@pytest.fixture
def rng() -> random.Random:
    seed = int(os.environ.get("BUILDORCH_TEST_SEED") or random.randrange(1 << 30))
    print(f"seed {seed}")
    return random.Random(seed)


@pytest.mark.timeout(0 if SOAK else 300)
def test_a_killed_engine_is_lost_and_the_next_run_builds_only_what_was_unfinished(
    dying: str, environ: Mapping[str, str], project: Sandbox, rng: random.Random
):
    longest = 0.0
    for _ in range(KILLS):
        longest = max(
            longest, dies(project, environ, lambda: os.kill(pids(dying)[0], signal.SIGKILL), rng, "engine_lost")
        )
        assert engine("up", name=dying).returncode == 0
        builds_only_the_rest(project, environ)
    print(f"{KILLS} kills, the run ended at most {longest:.1f} s after")


@pytest.mark.timeout(0 if SOAK else 300)
def test_a_stopped_engine_is_frozen_and_the_next_run_builds_only_what_was_unfinished(
    dying: str, environ: Mapping[str, str], project: Sandbox, rng: random.Random
):
    longest = 0.0
    pid = pids(dying)[0]
    for _ in range(STOPS):
        try:
            longest = max(longest, dies(project, environ, lambda: os.kill(pid, signal.SIGSTOP), rng, "engine_frozen"))
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
        builds_only_the_rest(project, environ)
    print(f"{STOPS} stops, the run ended at most {longest:.1f} s after")
