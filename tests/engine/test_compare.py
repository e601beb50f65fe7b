"""`buildorch compare` on a real engine: what is compared is true, and nothing of the service's own is touched."""

from __future__ import annotations

import hashlib
import json
import signal
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from sandbox import BASE, Sandbox, docker

from buildorch.buildx.client import find_endpoint
from buildorch.engine import Engine

pytestmark = pytest.mark.engine
OTHER = "debian:trixie-slim"

DOCKERFILE = f"""FROM {BASE} AS build
COPY file /made/here/
RUN --mount=type=cache,id=NAME,target=/c test ! -e /c/used && touch /c/used && date +%N > /stamp
FROM {BASE}
COPY --from=build /made /made
COPY --from=build /stamp /stamp
USER 1
"""
"""Its RUN works once with one cache mount: a build that shared the service's own would fail."""


@pytest.fixture
def project(sandbox: Sandbox) -> Sandbox:
    """A service with the sandbox's own name, since others may compare on this engine, and one that it builds on."""
    name, data = sandbox.name, f"{sandbox.name}-data"
    sandbox.services(f"services: {{{name}: {{tags: [v1], contexts: {{data: service:{data}}}}}, {data}: {{}}}}")
    sandbox.service(data, "FROM scratch\nCOPY file /\n", file="data")
    dockerfile = DOCKERFILE.replace("NAME", name) + "COPY --from=data /file /data\n"
    sandbox.service(name, dockerfile, file="text")
    return sandbox


def build_cache(*words: str) -> list[str]:
    """What BuildKit's cache says of itself where it names all of these words."""
    _, body = Engine.at(find_endpoint()).call("GET", "/system/df?type=build-cache", timeout_s=120)
    said = [str(record["Description"]) for record in json.loads(body)["BuildCache"] or ()]
    return [one for one in said if all(word in one for word in words)]


def mounts_left(project: Sandbox) -> list[str]:
    """The cache mounts that comparisons of this project left; the service's own has no namespace before its id."""
    own = f'with id "/{project.name}"'
    return [said for said in build_cache(f'/{project.name}"') if own not in said]


def compared_images(project: Sandbox) -> list[str]:
    """What comparisons of this project left in the engine."""
    return docker("image", "ls", "--format", "{{.Repository}}", f"buildorch-compare/{project.name}*").split()


def state(project: Sandbox) -> dict[str, str]:
    """What the service has: its image, its record, its rows of the ledger."""
    return {
        "image": docker("image", "inspect", f"{project.name}/{project.name}:v1", "--format", "{{.Id}}"),
        "record": hashlib.sha256((project.root / ".buildorch/run.json").read_bytes()).hexdigest(),
        "ledger": project.command("ledger", "export").stdout,
    }


def tags(project: Sandbox, registry: str) -> list[str]:
    try:
        with urllib.request.urlopen(f"http://{registry}/v2/buildorch-compare/{project.name}/tags/list") as answer:
            return json.load(answer)["tags"] or []
    except urllib.error.HTTPError:
        return []


def compare(project: Sandbox, *arguments: str, temporary: Path) -> tuple[int, dict[str, Any]]:
    temporary.mkdir()
    done = project.command(
        "compare",
        project.name,
        *arguments,
        "--format",
        "json",
        "--progress",
        "quiet",
        environ={"TMPDIR": str(temporary)},
    )
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


def test_variants_are_measured_and_nothing_of_the_service_is_touched(
    project: Sandbox, registry: str, tmp_path: Path
) -> None:
    project.build().raise_for_status()
    before = state(project)

    code, found = compare(
        project,
        *("--variant", f"other:base={OTHER}"),
        *("--variant", "zstd:compression=zstd,compression-level=3"),
        *("--variant", "gone:base=buildorch.invalid/none:1"),
        *("--pull", registry),
        temporary=tmp_path / "temporary",
    )

    rows = {row["variant"]: row for row in found["rows"]}
    assert (code, list(rows)) == (1, ["as-is", "other", "zstd", "gone"])
    assert rows.pop("gone")["error"]["message"]
    for row in rows.values():
        assert row["error"] is None, row["error"]
        assert row["cold_steps"]["executed"] >= 3
        assert row["cached_steps"] == {"total": 5, "cached": 5, "executed": 0}
        assert row["cached_s"] < row["cold_s"] + 1
        assert row["pull_s"] > 0
        assert row["packages"]["deb"] > 20
    as_is, other, zstd = rows.values()
    assert other["bases"] != as_is["bases"]
    assert other["image"]["unpacked_bytes"] < as_is["image"]["unpacked_bytes"] == zstd["image"]["unpacked_bytes"]
    assert zstd["image"]["compressed_bytes"] < as_is["image"]["compressed_bytes"]

    assert found["left"] == []
    assert compared_images(project) == []
    assert tags(project, registry) == []
    assert mounts_left(project) == []
    assert list((tmp_path / "temporary").iterdir()) == []
    assert state(project) == before
    # BuildKit gives the newest result of a step: had the comparison executed the service's own, this would be another.
    project.command("build", project.name, "--force")
    assert docker("image", "inspect", f"{project.name}/{project.name}:v1", "--format", "{{.Id}}") == before["image"]


def test_an_interrupt_leaves_nothing_behind(project: Sandbox, tmp_path: Path) -> None:
    text = (project.root / f"services/{project.name}/Dockerfile").read_text().replace("date +%N", "sleep 60; date")
    project.write(f"services/{project.name}/Dockerfile", text)
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    running = project.start(
        "compare", project.name, "--variant", f"other:base={OTHER}", environ={"TMPDIR": str(temporary)}
    )
    assert running.stderr is not None
    for line in running.stderr:
        if "RUN --mount" in line:
            break
    time.sleep(0.5)

    running.send_signal(signal.SIGINT)
    out, _ = running.communicate(timeout=60)

    assert running.returncode == 130
    assert "as-is" in out
    assert "other" in out
    assert compared_images(project) == []
    assert mounts_left(project) == []
    assert list(temporary.iterdir()) == []
    assert build_cache("sleep 60", project.name) == []
