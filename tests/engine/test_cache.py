"""The build cache of a real engine of the test's own: read to the byte, pruned by age and by size, and no more than that."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from private_engine import docker, exports, make_image, only_where_one_can_start, own_engine

pytestmark = [pytest.mark.engine, only_where_one_can_start]

DOCKERFILE = """\
FROM t/host
RUN --mount=type=cache,id=downloads,target=/c ["bash", "-c", "for i in {1..200000}; do echo $i; done > /c/numbers"]
RUN ["bash", "-c", "for i in {1..100000}; do echo $i; done > /layer"]
"""
SERVICES = "version: 1\nproject: t\nservices:\n  web: {context: .}\n"


@pytest.fixture(scope="module")
def private() -> Iterator[str]:
    """The name of an engine whose cache nobody else uses: what is pruned here is gone."""
    with own_engine() as name:
        yield name


@pytest.fixture(scope="module")
def project(private: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A service with a cache mount, built once, its image removed: all that it left is cache."""
    folder = tmp_path_factory.mktemp("project")
    make_image(tmp_path_factory.mktemp("host"), name=private)
    (folder / "Dockerfile").write_text(DOCKERFILE)
    (folder / "services.yaml").write_text(SERVICES)
    docker("buildx", "build", "--quiet", "--tag=t/web", str(folder), name=private)
    docker("image", "rm", "t/web", name=private)
    return folder


def run(project: Path, private: str, *words: str) -> Any:
    """What the command prints as JSON, with the engine as its own."""
    command = [sys.executable, "-m", "buildorch", *words, "--format=json"]
    environment = {**os.environ, **exports(private), "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    done = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_real_cache_is_shown_and_made_smaller_as_far_as_it_is_told(project: Path, private: str):
    shown = run(project, private, "cache", "show")
    [mount] = shown["mounts"]
    numbers = sum(len(f"{at}\n") for at in range(1, 200_001))
    assert (mount["name"], mount["services"]) == ("downloads", ["web"])
    assert numbers <= mount["size"] <= numbers + 64_000  # whole blocks, and the folder

    # Nothing is that old.
    assert run(project, private, "cache", "prune", "--older-than", "1d", "--yes")["would_go"] == []
    assert run(project, private, "cache", "show")["total"] == shown["total"]

    # What would go is said to the byte before, and buildx says the same in four digits behind it.
    keep = mount["size"] + 10_000
    pruned = run(project, private, "cache", "prune", f"--keep-size={keep}", "--yes")
    left = run(project, private, "cache", "show")
    gone = shown["total"]["size"] - left["total"]["size"]
    assert gone > 0
    assert pruned["would_go_bytes"] == gone, pruned
    assert pruned["freed_bytes"] == pytest.approx(gone, rel=0.001)
    assert left["total"]["reclaimable"] <= keep

    # All that no build has now.
    run(project, private, "cache", "prune", "--keep-size=0", "--yes")
    assert run(project, private, "cache", "show")["total"]["reclaimable"] == 0


def test_doctor_and_builders_know_the_engine(project: Path, private: str):
    examined = run(project, private, "doctor")
    checks = {one["name"]: one for one in examined["checks"]}
    assert {name for name, one in checks.items() if one["status"] == "error"} == set()
    assert exports(private)["DOCKER_HOST"] in checks["engine"]["fact"]
    assert "/docker" in checks["engine's disk"]["fact"]
    assert checks["clock"]["fact"].startswith("as that of the engine, 127.0.0.1:")

    listed = run(project, private, "builders")
    [default] = [one for one in listed["builders"] if one["name"] == "default"]
    assert (default["driver"], default["nodes"][0]["status"]) == ("docker", "running")
