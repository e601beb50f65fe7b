"""Where one named engine keeps its things, what it remembers, and the error that all its parts raise."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

DATA = Path("/var/lib/buildorch-engine")
RUNTIME = Path("/run/buildorch-engine")
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
DEFAULT_NAME = "buildorch"
STORES = ("containerd", "graphdriver")
NAME = re.compile(r"[a-z0-9-]{1,10}")


class EngineError(Exception):
    """What went wrong and what to do about it, for people; `exit_code` is the command's."""

    def __init__(self, message: str, exit_code: int = 4) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class Engine:
    """The places of one named engine.

    Raises:
        EngineError: the name cannot be part of a directory's and a network interface's name.
    """

    def __init__(self, name: str) -> None:
        if not NAME.fullmatch(name):
            raise EngineError(f"{name!r} cannot be an engine's name: 1 to 10 of a-z, 0-9 and -", exit_code=2)
        self.name = name
        self.data = DATA / name
        self.run = RUNTIME / name
        self.data_root = self.data / "docker"
        self.registry_storage = self.data / "registry"
        self.exec_root = self.run / "exec"
        self.socket = self.run / "docker.sock"
        self.pidfile = self.data / "docker.pid"  # dockerd removes it when it ends in good order
        self.boot = self.data / "boot"
        self.registry_pidfile = self.run / "registry.pid"
        self.daemon_json = self.run / "daemon.json"
        self.registry_yml = self.run / "registry.yml"
        self.state_json = self.run / "state.json"
        self.bridge = f"bo-{name}"
        self.cgroup = f"buildorch-engine-{name}"
        self.rule_comment = f"buildorch-engine:{name}"

    def state(self) -> dict[str, Any]:
        """What `up` decided: store, registry_port, network. Empty when the engine was never up."""
        try:
            state: dict[str, Any] = json.loads(self.state_json.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return state

    def crashed_with_the_machine(self) -> bool:
        """Whether the machine stopped while dockerd ran: nobody knows which of its last writes reached the disk.

        Neither the registry nor containerd's snapshots are synced to the disk as they are written.
        """
        try:
            boot = self.boot.read_text(encoding="ascii")
        except OSError:
            return False
        return self.pidfile.exists() and boot != BOOT_ID.read_text(encoding="ascii")

    def remember(self, state: dict[str, Any]) -> None:
        """Write the state; a reader never sees half of it."""
        draft = self.state_json.with_suffix(".new")
        draft.write_text(json.dumps(state, indent=2) + "\n", encoding="utf-8")
        draft.replace(self.state_json)


def say(text: str) -> None:
    """A line for people. Only data goes to stdout."""
    print(f"engine: {text}", file=sys.stderr, flush=True)
