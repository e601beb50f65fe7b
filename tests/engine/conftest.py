"""Fixtures over the real engine: small projects whose images go when their test ends."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
from sandbox import REPOSITORY, Sandbox, remove_images, remove_images_of

import buildorch
from buildorch.record import Report


@pytest.fixture
def sandbox(tmp_path: Path) -> Iterator[Sandbox]:
    """A project whose images are removed afterwards, by its name."""
    made = Sandbox(tmp_path / "project", f"t-{secrets.token_hex(4)}")
    made.root.mkdir()
    yield made
    remove_images_of(made.name)


@pytest.fixture(scope="session")
def registry() -> str:
    """The loopback registry's address."""
    address = os.environ.get("BUILDORCH_LOCAL_REGISTRY", "")
    if not address:
        pytest.skip("the engine in use has no loopback registry; `scripts/engine up` starts one")
    return address


@pytest.fixture(scope="session")
def services_report(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Report]:
    """The repository's own three services, built once a session under a tag of the tests' own."""
    root = tmp_path_factory.mktemp("services")
    shutil.copy(REPOSITORY / "services.yaml", root / "services.yaml")
    (root / "services").symlink_to(REPOSITORY / "services")
    tag = f"test-{secrets.token_hex(4)}"
    report = buildorch.build(root / "services.yaml", overrides=[f"*.tags=[{tag}]", "*.registry=''"])
    yield report
    remove_images(f"*:{tag}", f"*/*:{tag}", f"*/*/*:{tag}")


@pytest.fixture(scope="session")
def service_images(services_report: Report) -> Mapping[str, str]:
    """Service -> image reference, of the repository's own three services."""
    services_report.raise_for_status()
    return {name: record.reference for name, record in services_report.services.items()}


@pytest.fixture
def processes() -> Callable[[str], list[str]]:
    """The command lines of processes that hold a word."""

    def holding(word: str) -> list[str]:
        found = []
        for folder in Path("/proc").iterdir():
            if folder.name.isdigit() and int(folder.name) != os.getpid():
                try:
                    line = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                except OSError:
                    continue
                if word in line:
                    found.append(line)
        return found

    return holding
