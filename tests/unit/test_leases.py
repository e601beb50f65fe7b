"""Leases: one run at a time, freed by whatever ends it, and never a circle of runs that wait for each other."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from buildorch import leases as kept
from buildorch.errors import UsageError
from buildorch.events import Holder
from buildorch.leases import Leases

HOLDS = """
import subprocess, sys
from pathlib import Path
from buildorch.leases import Leases
assert Leases(Path(sys.argv[1]), "theirs").take(["app"]) is None
subprocess.Popen([sys.executable, "-c", "input()"], stdin=sys.stdin, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, close_fds=False)
print("held", flush=True)
input()
"""
"""Holds a lease, and has a child that lives on and was given every file that may be handed on."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "leases"


@pytest.fixture
def other(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """A process of another run that holds app's lease."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", HOLDS, str(folder)], text=True, **pipes) as process:  # type: ignore[call-overload]
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def holds(leases: Leases, *services: str) -> bool:
    return leases.take(services) is None


def test_a_lease_is_held_by_one_run_at_a_time_also_within_one_process(folder: Path):
    ours, theirs = Leases(folder, "ours"), Leases(folder, "theirs")
    assert holds(ours, "app")

    assert not holds(theirs, "app")
    ours.release("app")
    assert holds(theirs, "app")
    assert not holds(ours, "app")


def test_who_is_waited_for_is_the_service_and_the_run_that_holds_it(folder: Path):
    assert holds(Leases(folder, "theirs"), "app")

    awaited = Leases(folder, "ours").take(["app"])

    assert awaited is not None
    assert awaited.holder is not None
    assert (awaited.service, awaited.holder.run_id, awaited.holder.pid) == ("app", "theirs", os.getpid())
    assert awaited.holder_text == f"run theirs (pid {os.getpid()} on {os.uname().nodename})"


def test_another_process_that_holds_it_is_waited_for(folder: Path, other: subprocess.Popen[str]):
    awaited = Leases(folder, "ours").take(["app"])

    assert awaited is not None
    assert awaited.holder is not None
    assert awaited.holder.pid == other.pid


def test_a_holder_that_is_killed_frees_it_within_a_second_though_its_children_live_on(
    folder: Path, other: subprocess.Popen[str]
):
    ours = Leases(folder, "ours")
    assert not holds(ours, "app")

    os.kill(other.pid, signal.SIGKILL)
    deadline = time.monotonic() + 1
    while not holds(ours, "app"):
        assert time.monotonic() < deadline
        time.sleep(0.01)


RUBBISH = {
    "nothing": b"",
    "no text": b"\xff\xfe\x00",
    "no JSON": b"{",
    "another's JSON": b'{"a": 1}\n',
    "a list": b"[1]\n",
    "endless brackets": b"[" * 100_000,
    "no number": b'{"run_id": "r", "pid": Infinity, "host": "h", "since": "s"}\n',
    "a megabyte": b"x" * 1_000_000,
}


@pytest.mark.parametrize("content", RUBBISH.values(), ids=RUBBISH.keys())
def test_what_stands_in_the_file_decides_nothing(folder: Path, content: bytes):
    folder.mkdir()
    file = folder / "app.lock"
    file.write_bytes(content)
    ours, theirs = Leases(folder, "ours"), Leases(folder, "theirs")

    assert holds(theirs, "app")  # whatever was there, nobody held it
    signed = json.loads(file.read_text())
    file.write_bytes(content)
    awaited = ours.take(["app"])

    assert Holder(**signed).run_id == "theirs"
    assert awaited is not None
    assert (awaited.holder, awaited.holder_text) == (None, "another run")
    theirs.release("app")
    assert holds(ours, "app")


def test_the_name_of_an_earlier_holder_that_was_longer_leaves_no_rest(folder: Path):
    earlier = Leases(folder, "an-earlier-run-with-a-longer-name")
    assert holds(earlier, "app")
    earlier.release_all()
    assert holds(Leases(folder, "theirs"), "app")

    assert json.loads((folder / "app.lock").read_text())["run_id"] == "theirs"


def test_what_is_not_wanted_any_more_is_let_go(folder: Path):
    ours, theirs = Leases(folder, "ours"), Leases(folder, "theirs")
    assert holds(ours, "a", "b", "c")

    assert holds(ours, "b")

    assert holds(theirs, "a", "c")
    assert not holds(theirs, "b")


def test_nothing_is_held_while_one_that_comes_before_it_is_awaited(folder: Path):
    ours, theirs, third = (Leases(folder, name) for name in ("ours", "theirs", "third"))
    assert holds(ours, "a", "c")
    assert holds(theirs, "b")

    awaited = ours.take(["a", "b", "c"])

    assert awaited is not None
    assert awaited.service == "b"
    assert holds(third, "c")
    assert not holds(third, "a")


NAMES = st.sets(st.sampled_from("abcdef"), min_size=1)


@pytest.mark.proof
@settings(max_examples=15)
@given(wanted=st.lists(st.lists(NAMES, min_size=1, max_size=3), min_size=2, max_size=6))
def test_runs_of_any_services_all_come_to_their_end_and_never_hold_the_same(
    wanted: list[list[set[str]]], tmp_path_factory: pytest.TempPathFactory
):
    folder = tmp_path_factory.mktemp("state") / "leases"
    deadline = time.monotonic() + 20
    held: set[str] = set()
    wrong: list[str] = []
    start = threading.Barrier(len(wanted))

    def run(name: str, turns: list[set[str]]) -> None:
        """As a run does whose files change while it waits: it wants others then, and keeps what it holds."""
        leases = Leases(folder, name)
        start.wait()
        for services in turns:
            while not holds(leases, *services):
                if time.monotonic() > deadline:
                    wrong.append(f"{name} waits for ever")
                    return
                time.sleep(0)
            if held & services:
                wrong.append(f"two hold {held & services}")
            held.update(services)
            time.sleep(0.001)
            held.difference_update(services)
        leases.release_all()

    threads = [threading.Thread(target=run, args=(f"run {at}", turns)) for at, turns in enumerate(wanted)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert wrong == []


@pytest.mark.parametrize("place", ["leases", "leases/app.lock"])
def test_a_place_that_cannot_be_written_is_one_clear_error(tmp_path: Path, place: str):
    in_the_way = tmp_path / place
    if place == "leases":
        in_the_way.write_text("")
    else:
        in_the_way.mkdir(parents=True)

    with pytest.raises(UsageError) as caught:
        Leases(tmp_path / "leases", "ours").take(["app"])

    assert str(caught.value).startswith(f"the lease of app cannot be taken with {tmp_path}/leases/app.lock: ")
    assert "writable" in caught.value.hint


def test_a_lease_that_cannot_be_taken_keeps_no_file_open(tmp_path: Path):
    assert holds(Leases(tmp_path / "leases", "theirs"), "app")
    before = len(list(Path("/dev/fd").iterdir()))
    ours = Leases(tmp_path / "leases", "ours")

    for _ in range(5):
        assert not holds(ours, "app")

    assert len(list(Path("/dev/fd").iterdir())) == before


def test_who_builds_now_is_told_without_taking_a_lease(folder: Path, other: subprocess.Popen[str]):
    Leases(folder, "gone").take(["web"])  # let go of with the object's process or by itself; here it is held
    ours = Leases(folder, "ours")
    assert holds(ours, "api")
    ours.release("api")  # its file stays, and is signed

    found = kept.held(folder)

    assert {service: holder.run_id for service, holder in found.items()} == {"app": "theirs", "web": "gone"}
    assert found["app"].pid == other.pid


def test_where_the_kernel_lists_no_locks_a_living_process_counts(
    folder: Path, other: subprocess.Popen[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(kept, "_kernel_locks", lambda: None)
    assert set(kept.held(folder)) == {"app"}

    other.kill()
    other.wait()

    assert kept.held(folder) == {}


@pytest.mark.parametrize(
    "data", [b"", b"{", b"[" * 4000, b'{"run_id": "r", "pid": 99999999999999999999, "host": "h", "since": "s"}']
)
def test_a_lease_that_nobody_signed_is_nobodys(folder: Path, data: bytes, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(kept, "_kernel_locks", lambda: None)
    monkeypatch.setattr(os, "uname", lambda: os.uname_result(("", "h", "", "", "")))
    folder.mkdir()
    (folder / "app.lock").write_bytes(data)

    assert kept.held(folder) == {}


def test_a_folder_of_leases_that_is_not_there_holds_none(folder: Path):
    assert kept.held(folder) == {}
