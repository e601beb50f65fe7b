"""The other image store: the graphdriver one, which keeps neither blobs nor manifests."""

from __future__ import annotations

import io
import json
import shlex
import subprocess
import sys
import tarfile
from collections.abc import Iterator

import pytest
from sandbox import REPOSITORY, Sandbox

pytestmark = pytest.mark.engine
NAME = "t-graph"


@pytest.fixture(scope="module")
def graphdriver() -> Iterator[dict[str, str]]:
    """A private engine of the classic store; its variables for a command's environment."""
    script = [sys.executable, str(REPOSITORY / "scripts" / "engine")]
    command = [*script, "up", "--name", NAME, "--store", "graphdriver"]
    up = subprocess.run(command, capture_output=True, text=True, check=False)
    if up.returncode == 4:
        pytest.skip(f"no second engine can be started here: {up.stderr.strip()}")
    assert up.returncode == 0, up.stderr
    lines = subprocess.run([*script, "env", "--name", NAME], capture_output=True, text=True, check=True).stdout
    yield dict(shlex.split(line)[1].split("=", 1) for line in lines.splitlines())
    subprocess.run([*script, "down", "--name", NAME], capture_output=True, check=True)


def layer_sizes(environ: dict[str, str], reference: str) -> list[int]:
    """The bytes of each layer's tar as `docker save` writes it."""
    command = ["docker", "--host", environ["DOCKER_HOST"], "save", reference]
    data = subprocess.run(command, capture_output=True, check=True).stdout
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        [entry] = json.load(archive.extractfile("manifest.json"))
        return [archive.getmember(name).size for name in entry["Layers"]]


def test_a_loaded_image_has_unpacked_sizes_and_no_manifest(sandbox: Sandbox, graphdriver: dict[str, str]):
    sandbox.service("app", "FROM scratch\nCOPY one /one\nCOPY two /two\nUSER 5\n", one="1" * 5000, two="2" * 70_000)
    sandbox.services("services: {app: {size: {max: 1MB}}}\n")

    done = sandbox.command("build-all", environ=graphdriver)

    assert done.returncode == 0, done.stderr
    assert sandbox.record["engine"]["store"] == "graphdriver"
    record = sandbox.record["services"]["app"]
    [platform] = record["platforms"].values()
    assert [layer["unpacked_bytes"] for layer in platform["layers"]] == layer_sizes(graphdriver, record["reference"])
    assert platform["unpacked_bytes"] == sum(layer_sizes(graphdriver, record["reference"]))
    assert (platform["compressed_bytes"], platform["manifest_digest"]) == (None, None)
    assert (platform["user"], record["digest"]) == ("5", platform["config_digest"])


def test_a_pushed_image_has_its_registrys_digests_and_sizes(sandbox: Sandbox, graphdriver: dict[str, str]):
    sandbox.service("app", "FROM scratch\nCOPY data /data\n", data="x" * 30_000)
    sandbox.services("services: {app: {registry: '${BUILDORCH_LOCAL_REGISTRY}'}}\n")

    done = sandbox.command("build-all", "--push", environ=graphdriver)

    assert done.returncode == 0, done.stderr
    record = sandbox.record["services"]["app"]
    [platform] = record["platforms"].values()
    assert record["digest"] == platform["manifest_digest"]
    command = ["docker", "buildx", "imagetools", "inspect", "--raw", f"{record['reference']}@{record['digest']}"]
    raw = subprocess.run(command, capture_output=True, check=True).stdout
    manifest = json.loads(raw)
    sizes = [layer["size"] for layer in manifest["layers"]]
    assert platform["compressed_bytes"] == len(raw) + manifest["config"]["size"] + sum(sizes)


def test_a_service_is_built_on_anothers_image(sandbox: Sandbox, graphdriver: dict[str, str]):
    sandbox.service("base", "FROM scratch\nCOPY data /data\n", data="one")
    sandbox.service("app", "FROM base\nCOPY Dockerfile /\n")
    sandbox.services("services: {base: {}, app: {contexts: {base: service:base}}}\n")

    done = sandbox.command("build-all", environ=graphdriver)

    assert done.returncode == 0, done.stderr
    assert len(next(iter(sandbox.record["services"]["app"]["platforms"].values()))["layers"]) == 2
