"""An engine whose disk is full: told as that, nothing lost, and it works again once there is space."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from private_engine import data, docker, engine, eventually, exports, only_where_one_can_start, pids
from sandbox import Sandbox

pytestmark = [pytest.mark.engine, only_where_one_can_start]

DISK_BYTES = 300_000_000
"""An engine without an image takes a tenth of it."""


@pytest.fixture
def small_engine(tmp_path: Path) -> Iterator[str]:
    """The name of an engine whose data is on a small file system of its own."""
    name = f"t-{secrets.token_hex(2)}"
    disk = tmp_path / "disk"
    with disk.open("wb") as file:
        file.truncate(DISK_BYTES)
    subprocess.run(["/sbin/mkfs.ext4", "-q", "-F", disk], check=True)
    store = tmp_path / "store"
    store.mkdir()
    mounted = subprocess.run(["mount", "-o", "loop", disk, store], capture_output=True, text=True, check=False)
    data(name).mkdir(parents=True)
    (data(name) / "docker").symlink_to(store)
    try:
        if mounted.returncode:
            pytest.skip(f"no loop file system can be mounted here: {mounted.stderr.strip()}")
        started = engine("up", name=name)
        assert started.returncode == 0, started.stderr
        yield name
    finally:
        engine("down", name=name)
        subprocess.run(
            ["umount", "--lazy", store], capture_output=True, check=False
        )  # nothing is there if it was refused


def restart(name: str) -> None:
    """dockerd 28 keeps a file open that it had no space for, and removes it only when it ends."""
    os.kill(pids(name)[0], signal.SIGTERM)
    eventually(lambda: not (data(name) / "docker.pid").exists())
    assert engine("up", name=name).returncode == 0


def outcome(project: Sandbox) -> dict[str, str]:
    return {
        name: one["error"]["kind"] if one["error"] else one["status"]
        for name, one in project.record["services"].items()
    }


def test_a_full_disk_fails_what_needs_it_and_once_there_is_space_the_rest_is_built(small_engine: str, tmp_path: Path):
    environ: Mapping[str, str] = exports(small_engine)
    (tmp_path / "project").mkdir()
    project = Sandbox(tmp_path / "project", f"t-{secrets.token_hex(4)}")
    project.service("small", "FROM scratch\nCOPY data /data\n", data="small")
    project.service("big", "FROM scratch\nCOPY data /data\n")
    project.write("services/big/data", os.urandom(DISK_BYTES))  # holes and zeros would take no space
    project.services("services: {small: , big: }\n")

    full = project.command("build-all", environ=environ)

    assert full.returncode == 1, full.stderr
    assert outcome(project) == {"small": "built", "big": "no_space"}
    error = project.record["services"]["big"]["error"]
    assert "no space left on device" in " ".join([error["message"], *error["log"]])
    assert "docker buildx prune" in error["hint"]
    assert project.record["services"]["big"]["attempts"] == 1
    assert "Traceback" not in full.stderr

    docker("buildx", "prune", "--all", "--force", name=small_engine)
    restart(small_engine)
    project.write("services/big/data", "little")
    again = project.command("build-all", environ=environ)

    assert again.returncode == 0, again.stderr
    assert outcome(project) == {"small": "skipped", "big": "built"}
