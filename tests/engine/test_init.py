"""`buildorch init` on projects as their own tools make them: what it writes builds, starts, answers, and keeps every rule.

FastAPI with pip and Next.js 16 are built always; `BUILDORCH_SOAK=1` builds them with every package manager, and Next.js
14 and 15 too.
"""

from __future__ import annotations

import os
import time
import urllib.request
from contextlib import suppress

import pytest
from fresh import FRESH
from sandbox import Sandbox, docker

from buildorch.services import parse

pytestmark = pytest.mark.engine

SOAK = bool(os.environ.get("BUILDORCH_SOAK"))
CHOSEN = tuple(FRESH) if SOAK else ("pip", "next16")
START_S = 60


def first_page(image: str, port: int) -> str:
    """What a container of the image answers, once it does."""
    published = f"--publish=127.0.0.1::{port}"
    container = docker("run", "--detach", "--pull=never", "--read-only", "--cap-drop=ALL", published, image).strip()
    try:
        address = docker("port", container).split(" -> ")[1].splitlines()[0]
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline:
            with suppress(OSError), opener.open(f"http://{address}/", timeout=10) as answer:
                return str(answer.read().decode())
            time.sleep(0.2)
        return docker("logs", container)
    finally:
        docker("rm", "--force", "--volumes", container)


def test_fresh_projects_build_start_answer_and_keep_every_rule(sandbox: Sandbox) -> None:
    for name in CHOSEN:
        FRESH[name].write(sandbox, name)

    done = sandbox.command("init")

    assert done.returncode == 0, done.stderr
    file = sandbox.root / "services.yaml"
    file.write_text(file.read_text().replace("project: project\n", f"project: {sandbox.name}\n"))
    assert {*parse(file.read_text(), str(file)).services} == {*CHOSEN}
    locked = sandbox.command("lock")
    assert locked.returncode == 0, locked.stderr
    report = sandbox.build(frozen=True, overrides=["*.policy.smoke={}", "*.policy.pinned=error"])
    failures = {name: one.error for name, one in report.services.items() if one.error}
    assert not failures
    assert {name: (one.status, one.findings) for name, one in report.services.items()} == dict.fromkeys(
        CHOSEN, ("built", ())
    )
    pages = {name: first_page(one.reference, FRESH[name].port) for name, one in report.services.items()}
    assert {name for name, page in pages.items() if FRESH[name].answer in page} == {*CHOSEN}
    if SOAK:
        print({name: f"{one.duration_s:.0f} s" for name, one in report.services.items()})
