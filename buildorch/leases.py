"""Which run builds a service: one lease a service of a project, held by one run at a time.

In: a folder, who asks, services. Out: nothing, or who is to be waited for. Touches: one file a service, never removed.

A lease is the kernel's lock on the service's file (flock): it goes with the process that holds it, however that ends,
and two runs in threads of one process keep each other out too. What stands in the file is for people alone.
"""

from __future__ import annotations

import fcntl
import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from buildorch.errors import UsageError
from buildorch.events import Holder, LeaseAwaited, now

if TYPE_CHECKING:
    from collections.abc import Collection

FOLDER = "leases"
"""In the state folder."""
MAX_BYTES = 4096
"""Of a lease's file that are read: who holds it takes a few hundred."""


class Leases:
    """The leases of one run; threads may share it where none of them takes more."""

    def __init__(self, folder: Path, run_id: str) -> None:
        self._folder = folder
        self._run_id = run_id
        self._files: dict[str, int] = {}

    def take(self, services: Collection[str]) -> LeaseAwaited | None:
        """Hold the leases of these services and no others, as far as that goes without waiting; then ask again.

        They are taken in the order of their names, and none is held while one that comes before it is awaited: runs
        that want the same never wait for each other in a circle.

        Returns:
            None where all are held now, else the first that another run holds.

        Raises:
            UsageError: a lease's file cannot be written or locked.
        """
        wanted = sorted(services)
        for service in self._files.keys() - set(wanted):
            self.release(service)
        for at, service in enumerate(wanted):
            if service not in self._files and (awaited := self._take(service)):
                for later in wanted[at:]:
                    self.release(later)
                return awaited
        return None

    def release(self, service: str) -> None:
        """Let go of one, where it is held."""
        file = self._files.pop(service, None)
        if file is not None:
            try:
                # Closing frees it too, unless a fork without exec has the file as well.
                fcntl.flock(file, fcntl.LOCK_UN)
            finally:
                os.close(file)

    def release_all(self) -> None:
        """Let go of all."""
        for service in tuple(self._files):
            self.release(service)

    def _take(self, service: str) -> LeaseAwaited | None:
        path = self._folder / f"{service}.lock"
        try:
            self._folder.mkdir(exist_ok=True)
            file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
            try:
                if not _locked(file):
                    return LeaseAwaited(at=now(), service=service, holder=_holder(os.pread(file, MAX_BYTES, 0)))
                self._sign(file)
                self._files[service] = file
            finally:
                if service not in self._files:
                    os.close(file)
        except OSError as error:
            raise UsageError(
                f"the lease of {service} cannot be taken with {path}: {error.strerror or error}",
                hint="make the folder writable, and put it on a file system that has locks",
            ) from None
        return None

    def _sign(self, file: int) -> None:
        holder = Holder(run_id=self._run_id, pid=os.getpid(), host=os.uname().nodename, since=now())
        data = json.dumps(asdict(holder)).encode() + b"\n"
        os.pwrite(file, data, 0)
        os.ftruncate(file, len(data))


def held(folder: Path) -> dict[str, Holder]:
    """Service -> the run that holds its lease now. Nothing is locked for this, which would look like a run to others.

    Where the kernel does not list its locks (/proc/locks), a lease counts as held while the process that signed lives.
    """
    found: dict[str, Holder] = {}
    locks = _kernel_locks()
    for path in sorted(folder.glob("*.lock")):
        try:
            with path.open("rb") as file:
                holder, inode = _holder(file.read(MAX_BYTES)), os.fstat(file.fileno()).st_ino
        except OSError:
            continue
        if holder and (_lives(holder) if locks is None else inode in locks):
            found[path.stem] = holder
    return found


def _kernel_locks() -> frozenset[int] | None:
    """The inodes that flock holds; None where the kernel does not tell."""
    try:
        text = Path("/proc/locks").read_text(encoding="ascii")
    except OSError:
        return None
    # `1: FLOCK  ADVISORY  WRITE 708 08:02:1234 0 EOF` (proc_locks(5))
    lines = [line.split() for line in text.splitlines() if " FLOCK " in line and "->" not in line]
    return frozenset(int(words[5].rpartition(":")[2]) for words in lines if len(words) > 5)


def _lives(holder: Holder) -> bool:
    if holder.host != os.uname().nodename:
        return False
    try:
        os.kill(holder.pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


def _locked(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _holder(data: bytes) -> Holder | None:
    """Who signed; None for anything that no run wrote, or not to its end yet."""
    try:
        said = json.loads(data.partition(b"\n")[0])
    except (ValueError, RecursionError):
        return None
    match said:
        case {"run_id": str(run_id), "pid": int(pid), "host": str(host), "since": str(since)}:
            return Holder(run_id=run_id, pid=pid, host=host, since=since)
    return None
