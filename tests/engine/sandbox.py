"""A small project of a test's own on the real engine, and the docker client beside it."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import buildorch
from buildorch.record import Report

REPOSITORY = Path(__file__).resolve().parents[2]
BASE = "python:3.13-slim"
"""A base image with a shell; the engine has it once the services were built."""
_NUMBERS = itertools.count()


def docker(*arguments: str, check: bool = True) -> str:
    """What the docker client prints."""
    done = subprocess.run(["docker", *arguments], capture_output=True, text=True, check=False, timeout=300)
    assert not check or done.returncode == 0, f"docker {' '.join(arguments)}: {done.stderr}"
    return done.stdout


@dataclass
class Sandbox:
    """A project of the test's own: a folder, a services file, and a name no other test has."""

    root: Path
    name: str

    def write(self, path: str, text: str | bytes) -> Path:
        """A file of the project."""
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(text.encode() if isinstance(text, str) else text)
        return file

    def services(self, text: str) -> Path:
        """The services file: version and project are put in front."""
        return self.write("services.yaml", f"version: 1\nproject: {self.name}\n{text}")

    def service(self, name: str, dockerfile: str, **files: str) -> None:
        """A service's folder with a Dockerfile and files."""
        self.write(f"services/{name}/Dockerfile", dockerfile)
        for file, text in files.items():
            self.write(f"services/{name}/{file}", text)

    def build(self, **options: Any) -> Report:
        """Build it through the API."""
        return buildorch.build(self.root / "services.yaml", **options)

    def command(self, *arguments: str, environ: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        """Run the command in the project's folder."""
        return subprocess.run(
            [sys.executable, "-m", "buildorch", *arguments],
            cwd=self.root,
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
            env={**os.environ, **(environ or {})},
        )

    def start(self, *arguments: str, environ: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
        """Start the command and leave it running; the caller ends it."""
        return subprocess.Popen(
            [sys.executable, "-m", "buildorch", *arguments],
            cwd=self.root,
            env={**os.environ, **(environ or {})},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    @property
    def record(self) -> dict[str, Any]:
        """The run record."""
        return json.loads((self.root / ".buildorch" / "run.json").read_text())

    @property
    def outcomes(self) -> dict[str, str]:
        """Service -> its status in the last record, or the kind of its failure."""
        services: dict[str, dict[str, Any]] = self.record["services"]
        return {name: one["error"]["kind"] if one["error"] else one["status"] for name, one in services.items()}

    def read_file(self, reference: str, path: str) -> bytes:
        """A file of an image, without starting it."""
        container = docker("create", "--quiet", reference, "none").strip()
        try:
            target = self.root / f"copy-{next(_NUMBERS)}"
            docker("cp", f"{container}:{path}", str(target))
            return target.read_bytes()
        finally:
            docker("rm", "--force", container)


def remove_images(*references: str) -> None:
    """Remove every image whose name fits one of these, as docker's filter `reference` takes them: `*` holds no slash.

    The filter is the engine's, which reads nothing of other images then: one that another test removes at this moment
    would make the whole list fail (`NotFound: content digest`).
    """
    filters = [f"--filter=reference={reference}" for reference in references]
    names = docker("image", "ls", "--format", "{{.Repository}}:{{.Tag}}", *filters).split()
    if named := [name for name in names if not name.endswith(":<none>")]:
        docker("image", "rm", "--force", *named)


def remove_images_of(project: str) -> None:
    """Remove every image of a project, whatever registry is in its name."""
    remove_images(f"{project}/*", f"*/{project}/*", f"*/*/{project}/*")
