"""What an engine has running, and ending it: its processes, its mounts, its control groups.

Nothing here trusts a process id alone: a process is an engine's if it is one of the programs an engine starts and names
one of the engine's directories, or if it is in one of the engine's control groups.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

from .places import Engine, say

if TYPE_CHECKING:
    from collections.abc import Iterator

PROGRAMS = ("dockerd", "containerd", "docker-registry", "docker-proxy", "runc")
CGROUP_ROOT = Path("/sys/fs/cgroup")
STOP_TIMEOUT_S = 20.0
SHIM_SOCKETS = Path("/run/containerd/s")
SHARED_DIRECTORIES = (SHIM_SOCKETS, SHIM_SOCKETS.parent, Path("/run/docker/plugins"), Path("/run/docker"))


def pid_of(engine: Engine, pidfile: Path) -> int:
    """The process a pidfile names, if it lives and is this engine's; else 0."""
    try:
        pid = int(pidfile.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return 0
    return pid if _names(pid, engine) else 0


def stop(engine: Engine, pidfile: Path) -> None:
    """TERM, wait, KILL. A pidfile that names no process of this engine is only removed."""
    pid = pid_of(engine, pidfile)
    if pid:
        _signal(pid, signal.SIGTERM)
        _signal(pid, signal.SIGCONT)  # one that was stopped sees the TERM only now
        if not _ends(pid):
            say(f"{_program(pid) or pid} did not end in {STOP_TIMEOUT_S:.0f} s; killing it")
            _signal(pid, signal.SIGKILL)
            _ends(pid)
    pidfile.unlink(missing_ok=True)


def kill_containers(engine: Engine) -> None:
    """End what runs in containers and builds, for which dockerd would wait ten seconds when it is told to stop."""
    for pid in _in_cgroups(engine):
        _signal(pid, signal.SIGKILL)


def sweep(engine: Engine, *, spare: int = 0) -> None:
    """Remove what a killed dockerd leaves: containerd, shims, RUN processes, then its mounts and control groups.

    Args:
        engine: whose.
        spare: a process to let live, the registry's.
    """
    for _ in range(50):
        left = of_engine(engine) - {spare}
        if not left:
            break
        for pid in left:
            _signal(pid, signal.SIGKILL)
        time.sleep(0.05)
    _unmount_below(engine.run, engine.data)
    for directory in _cgroups(engine):
        with contextlib.suppress(OSError):
            directory.rmdir()
    shutil.rmtree(engine.exec_root, ignore_errors=True)
    engine.pidfile.unlink(missing_ok=True)
    engine.socket.unlink(missing_ok=True)


def sweep_shared_directories() -> None:
    """Remove what containerd and dockerd leave in places all of them share, once none runs on this machine."""
    if any(_program(pid).startswith(("containerd", "dockerd")) for pid in _all()):
        return
    for shim_socket in SHIM_SOCKETS.glob("*"):
        if shim_socket.is_socket():
            shim_socket.unlink()
    for directory in SHARED_DIRECTORIES:
        with contextlib.suppress(OSError):
            directory.rmdir()


def of_engine(engine: Engine) -> set[int]:
    """Every living process of an engine, what runs in its containers included."""
    found = {pid for pid in _all() if _names(pid, engine)} | _in_cgroups(engine)
    return {pid for pid in found if not _ended(pid)}


def _in_cgroups(engine: Engine) -> set[int]:
    """The processes in an engine's control groups; 0 is one that cannot be seen from here."""
    found: set[int] = set()
    for directory in _cgroups(engine):
        with contextlib.suppress(OSError):
            found |= {int(pid) for pid in (directory / "cgroup.procs").read_text(encoding="ascii").split()}
    return found - {0}


def _all() -> Iterator[int]:
    return (int(entry) for entry in os.listdir("/proc") if entry.isdigit())


def _program(pid: int) -> str:
    """The file name of what a process executes; empty when it has ended."""
    with contextlib.suppress(OSError):
        return os.path.basename(os.readlink(f"/proc/{pid}/exe")).removesuffix(" (deleted)")
    return ""


def _names(pid: int, engine: Engine) -> bool:
    """Whether a process is one of an engine's programs and was started with one of this engine's directories."""
    if not _program(pid).startswith(PROGRAMS):
        return False
    try:
        arguments = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False
    return any(os.fsencode(place) + b"/" in arguments for place in (engine.run, engine.data))


def _signal(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def _ends(pid: int) -> bool:
    """Wait for a process; whether it ended in time."""
    deadline = time.monotonic() + STOP_TIMEOUT_S
    while time.monotonic() < deadline:
        if _ended(pid):
            return True
        time.sleep(0.02)
    return False


def _ended(pid: int) -> bool:
    """Whether a process has ended. A zombie, which waits only for its parent, has."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return True
    return stat.rpartition(")")[2].split()[0] == "Z"


def _unmount_below(*places: Path) -> None:
    """Unmount what is mounted below the places, the last mounted first."""
    with open("/proc/self/mountinfo", encoding="utf-8") as mountinfo:
        points = [line.split()[4] for line in mountinfo]
    for point in reversed(points):
        if any(point.startswith(f"{place}/") for place in places):
            umount = ["umount", point.replace("\\040", " ")]
            if subprocess.run(umount, stderr=subprocess.DEVNULL, check=False).returncode:
                subprocess.run([*umount, "--lazy"], stderr=subprocess.DEVNULL, check=False)


def _cgroups(engine: Engine) -> list[Path]:
    """The engine's control groups, in every hierarchy there is, the innermost first."""
    found = []
    for hierarchy in (CGROUP_ROOT, *CGROUP_ROOT.glob("*/")):
        found += [Path(path) for path, _, _ in os.walk(hierarchy / engine.cgroup, topdown=False)]
    return found
