"""Disks that are full, the engine's or the ledger's: told as that, nothing lost, and all works again once there is space."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from private_engine import data, docker, engine, eventually, exports, only_where_one_can_start, pids, started
from sandbox import Sandbox

from buildorch.errors import LedgerError
from buildorch.ledger import Ledger
from buildorch.ledger.verification import verify
from buildorch.testing import make_digest, make_record

pytestmark = [pytest.mark.engine, only_where_one_can_start]

DISK_BYTES = 300_000_000
"""An engine without an image takes a tenth of it."""
BALLAST = "ballast"
"""A file that somebody removes to make some space."""


@contextlib.contextmanager
def small_disk(folder: Path, size: int) -> Iterator[Path]:
    """An ext4 file system of so many bytes, mounted in a new folder."""
    disk = folder / "disk"
    with disk.open("wb") as file:
        file.truncate(size)
    subprocess.run(["/sbin/mkfs.ext4", "-q", "-F", disk], check=True)
    place = folder / "place"
    place.mkdir()
    mounted = subprocess.run(["mount", "-o", "loop", disk, place], capture_output=True, text=True, check=False)
    if mounted.returncode:
        pytest.skip(f"no loop file system can be mounted here: {mounted.stderr.strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", place], check=True)


@pytest.fixture
def small_engine(tmp_path: Path) -> Iterator[str]:
    """The name of an engine whose data is on a small file system of its own."""
    name = f"t-{secrets.token_hex(2)}"
    with small_disk(tmp_path, DISK_BYTES) as store:
        data(name).mkdir(parents=True)
        (data(name) / "docker").symlink_to(store)
        (store / BALLAST).write_bytes(os.urandom(2_000_000))
        with started(name):
            yield name


def restart(name: str) -> None:
    """dockerd 28 keeps a file open that it had no space for, and removes it only when it ends."""
    os.kill(pids(name)[0], signal.SIGTERM)
    eventually(lambda: not (data(name) / "docker.pid").exists())
    assert engine("up", name=name).returncode == 0


def test_a_full_disk_fails_what_needs_it_and_once_there_is_space_the_rest_is_built(small_engine: str, tmp_path: Path):
    environ: Mapping[str, str] = exports(small_engine)
    (tmp_path / "project").mkdir()
    project = Sandbox(tmp_path / "project", f"t-{secrets.token_hex(4)}")
    project.service("small", "FROM scratch\nCOPY data /data\n", data="small")
    project.service("big", "FROM scratch\nCOPY data /data\n")
    project.write("services/big/data", os.urandom(DISK_BYTES))  # holes and zeros would take no space
    project.services("services: {small: , big: }\n")

    # One at a time: there is no more space for the small one while the big one fails.
    full = project.command("build-all", "-j", "1", environ=environ)

    assert full.returncode == 1, full.stderr
    assert project.outcomes == {"small": "built", "big": "no_space"}
    error = project.record["services"]["big"]["error"]
    assert "no space left on device" in " ".join([error["message"], *error["log"]])
    assert "buildorch cache prune" in error["hint"]
    assert project.record["services"]["big"]["attempts"] == 1
    assert "Traceback" not in full.stderr

    # Without a byte left dockerd can neither prune nor start.
    (data(small_engine) / "docker" / BALLAST).unlink()
    restart(small_engine)
    docker("buildx", "prune", "--all", "--force", name=small_engine)
    project.write("services/big/data", "little")
    again = project.command("build-all", environ=environ)

    assert again.returncode == 0, again.stderr
    assert project.outcomes == {"small": "skipped", "big": "built"}


def commit_on(ledger: Ledger, committed: list[str]) -> None:
    """Commit one record after another until that cannot be done; the services whose records were."""
    for at in range(100_000):
        ledger.commit("r", f"s{at}", make_record(digest=make_digest(str(at))), snapshot=os.urandom(20_000))
        committed.append(f"s{at}")


def test_a_full_disk_takes_nothing_from_the_ledger_and_it_goes_on_once_there_is_space(tmp_path: Path):
    with small_disk(tmp_path, 8_000_000) as place:
        (place / BALLAST).write_bytes(os.urandom(2_000_000))
        committed: list[str] = []
        with Ledger(place / "ledger.db") as ledger:
            ledger.begin("r", project="shop", started_at="2026-01-31T12:00:00Z")
            with pytest.raises(LedgerError, match=r"cannot be written: database or disk is full"):
                commit_on(ledger, committed)
            assert len(committed) > 50
            assert sorted(ledger.images()) == sorted(committed), "what was committed is readable"
            (place / BALLAST).unlink()
            ledger.commit("r", "later", make_record(digest=make_digest("later")))
        found = verify(place / "ledger.db")
        assert (found.records, found.damages) == (len(committed) + 1, ())


def test_no_build_begins_where_its_record_would_have_no_place(tmp_path: Path):
    with small_disk(tmp_path, 12_000_000) as place:
        project = Sandbox(place, f"t-{secrets.token_hex(4)}")
        project.service("app", "FROM scratch\nCOPY data /data\n", data="data")
        project.services("services: {app: }\n")

        full = project.command("build-all")

        assert full.returncode == 2, full.stderr
        assert "there is no space for the ledger" in full.stderr
        assert "building" not in full.stderr
        assert "Traceback" not in full.stderr
