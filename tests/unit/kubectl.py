"""kubectl as a judge of what is handed over to a deploy; kustomize is in it. It needs no cluster here."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest


def kubectl(*arguments: str, stdin: str = "") -> str:
    """What kubectl prints: that of the tests' own packages, else the machine's."""
    own = Path(sys.executable).with_name("kubectl")
    found = str(own) if own.exists() else shutil.which("kubectl")
    if not found and sys.platform != "linux":
        pytest.skip("there is no kubectl here")
    assert found, "the test's extra packages bring kubectl along: make setup"
    done = subprocess.run([found, *arguments], input=stdin, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def images_in(documents: list[Any]) -> list[str]:
    """Every value of a key `image` that is a text, wherever it stands."""

    def walk(value: Any) -> list[str]:
        if isinstance(value, dict):
            own = [value["image"]] if isinstance(value.get("image"), str) else []
            return own + [one for inner in value.values() for one in walk(inner)]
        return [one for inner in value for one in walk(inner)] if isinstance(value, list) else []

    return [one for document in documents for one in walk(document)]
