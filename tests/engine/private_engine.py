"""Private engines of the tests' own, by `scripts/engine`, beside the one that the other tests use."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "engine"
NAME = f"t-{secrets.token_hex(2)}"
NEEDED = ("dockerd", "docker-registry", "iptables", "ip")
only_where_one_can_start = pytest.mark.skipif(
    os.geteuid() != 0 or not all(shutil.which(one, path=f"{os.environ['PATH']}:/usr/sbin:/sbin") for one in NEEDED),
    reason="starting an engine needs root and what `scripts/engine up` installs",
)


def engine(*arguments: str, name: str = NAME) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SCRIPT), *arguments, "--name", name]
    return subprocess.run(command, capture_output=True, text=True, timeout=180, check=False)


@contextlib.contextmanager
def own_engine() -> Iterator[str]:
    """An engine that nobody else uses, by its name; it is gone afterwards."""
    name = f"t-{secrets.token_hex(2)}"
    with started(name):
        yield name


@contextlib.contextmanager
def started(name: str) -> Iterator[None]:
    try:
        up = engine("up", name=name)
        assert up.returncode == 0, up.stderr
        yield
    finally:
        engine("down", name=name)


def exports(name: str = NAME) -> dict[str, str]:
    """What `env` prints, as a shell reads it."""
    lines = engine("env", name=name).stdout.splitlines()
    return dict(shlex.split(line)[1].split("=", 1) for line in lines)


def docker(*arguments: str, name: str = NAME) -> str:
    environment = dict(os.environ, **exports(name))
    command = ["docker", *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def runtime(name: str = NAME) -> Path:
    return Path("/run/buildorch-engine", name)


def data(name: str = NAME) -> Path:
    return Path("/var/lib/buildorch-engine", name)


def pids(name: str = NAME) -> tuple[int, int]:
    """The daemon's and the registry's."""
    return int((data(name) / "docker.pid").read_text()), int((runtime(name) / "registry.pid").read_text())


def alive(marker: str) -> list[str]:
    """The command lines of living processes that hold a text."""
    found = []
    for directory in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            line = (directory / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            if marker in line and int(directory.name) != os.getpid():
                found.append(line)
    return found


def eventually(ask: Callable[[], int]) -> int:
    """The first answer that is not 0 and no error."""
    deadline = time.monotonic() + 20
    while True:
        try:
            answer = ask()
        except OSError:
            answer = 0
        if answer:
            return answer
        assert time.monotonic() < deadline, "no answer within 20 s"
        time.sleep(0.05)


def make_image(folder: Path, *programs: str, name: str = NAME) -> str:
    """A small image of this machine's own programs and the libraries they load; no base image is needed."""
    context = folder / "context"
    for program in ("bash", "sleep", *programs):
        path = shutil.which(program)
        assert path
        linked = subprocess.run(["ldd", path], capture_output=True, text=True, check=False).stdout
        for file in (path, *re.findall(r"(/\S+) \(0x", linked)):
            copy = context / file.removeprefix("/")
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, copy)
    (context / "tmp").mkdir()
    (folder / "Dockerfile").write_text("FROM scratch\nENV PATH=/usr/bin:/bin\nCOPY . /\n")
    docker(
        "buildx", "build", "--quiet", "--load", f"--file={folder}/Dockerfile", "--tag=t/host", str(context), name=name
    )
    return "t/host"
