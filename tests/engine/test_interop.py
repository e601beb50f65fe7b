"""Bake files and services against the real `docker buildx bake`; what is imported is built once, by both."""

from __future__ import annotations

import json
import os
import socket
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import bake_rows
import pytest
from bake_rows import ENVIRONMENT, NAMES, ROWS
from sandbox import Sandbox, docker

from buildorch.cli import main
from buildorch.interop.exporting import bake
from buildorch.interop.targets import canonical
from buildorch.pipeline import BuildRequest
from buildorch.plan import Selection, resolve
from buildorch.preparing import plan
from buildorch.services import parse

pytestmark = pytest.mark.engine


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the rows are about, and nothing else that bake could take for a variable's value."""
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("TAG", raising=False)


@pytest.fixture
def agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A socket that stands for an SSH agent: bake only looks whether it is there."""
    with socket.socket(socket.AF_UNIX) as listening:
        monkeypatch.chdir(tmp_path)
        listening.bind("a.sock")
        monkeypatch.setenv("SSH_AUTH_SOCK", str(tmp_path / "a.sock"))
        yield


def bake_print(file: str, folder: Path, *targets: str) -> dict[str, Any]:
    """What bake itself makes of a file."""
    command = ["docker", "buildx", "bake", "--print", f"--file={file}", *targets]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)["target"]


def argv_of(file: Path) -> dict[str, set[str]]:
    return bake_rows.argv_of(plan(BuildRequest(file=file)).plan)


@pytest.mark.usefixtures("agent")
def test_a_services_file_goes_to_bake_and_back_attribute_by_attribute(tmp_path: Path):
    file = bake_rows.make_project(tmp_path)
    project = file.parent
    with socket.socket(socket.AF_UNIX) as key:
        os.chdir(project)  # a socket's path may have 107 bytes
        key.bind("agent.sock")

        assert main(["export", "bake", "-f", str(file), "-o", str(project / "docker-bake.json")]) == 0
        printed = bake_print("docker-bake.json", project)
        assert main(["import", str(project / "docker-bake.json"), "-o", str(project / "again.yaml")]) == 0

    expected = bake_rows.printed()
    for row, (_, attributes) in ROWS.items():
        for attribute, value in {**expected[NAMES[row]], **attributes}.items():
            assert printed[NAMES[row]][attribute] == value, f"{row}: {attribute}"
        assert set(printed[NAMES[row]]) == set(expected[NAMES[row]]), row
    before, after = argv_of(file), argv_of(project / "again.yaml")
    # bake has filled the environment in.
    before["args-of-the-environment"] ^= {"--build-arg=SET_HERE", "--build-arg=SET_HERE=from the environment"}
    before["args-that-are-not-set"] -= {"--build-arg=NOT_SET_ANYWHERE"}
    assert after == before


HCL = """
variable "TAG" { default = "dev" }
variable "REGISTRY" {
  default = "reg.example"
}
function "ref" {
  params = [name]
  result = "${REGISTRY}/${name}:${TAG}"
}
group "default" {
  targets = ["api", "web"]
}
target "_common" {
  args = { LEVEL = "${TAG == "dev" ? "debug" : "info"}", DOLLAR = "$${x}%%{y}$" }
  labels = { "org.team" = "core" }
  contexts = { base = "target:base" }
  unknown-thing = 1
}
target "base" {
  dockerfile = "base.Dockerfile"
}
target "api" {
  inherits = ["_common"]
  context = "api"
  tags = [ref("api")]
  annotations = ["index,manifest:a=$${b}"]
}
target "web" {
  name = "web-${item.name}"
  matrix = { item = [{ name = "a", port = 80 }, { name = "b", port = 81 }] }
  inherits = ["_common"]
  args = { PORT = item.port, LEVEL = upper("warn") }
  tags = [ref("web-${item.name}")]
}
target "extra" {
  tags = ["extra"]
}
"""


def test_variables_functions_inheritance_and_matrices_are_bakes_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    (tmp_path / "docker-bake.hcl").write_text(HCL)
    monkeypatch.setenv("TAG", "1.2")

    assert main(["import", str(tmp_path / "docker-bake.hcl")]) == 1

    out, err = capsys.readouterr()
    printed = bake_print("docker-bake.hcl", tmp_path)
    same_as_bake(out, tmp_path, printed, but={"base": {"output", "tags"}})
    assert set(printed) == {"api", "web-a", "web-b", "base"}
    assert "docker-bake.hcl:17: _common.unknown-thing: bake knows no such attribute" in err
    assert "now: TAG\n" in err
    assert "_common, extra (--target NAME takes one)" in err


def same_as_bake(
    services: str, folder: Path, printed: Mapping[str, Any], *, but: Mapping[str, set[str]] | None = None
) -> None:
    """The services say what bake prints, but that a service always has attestations, an output and a tag."""
    file = parse(services, "services.yaml", variables=os.environ)
    exported = bake(resolve(file, Selection(), root=folder), file).document["target"]
    assert set(exported) == set(printed)
    for name, target in printed.items():
        ours = canonical(exported[name])[0]
        theirs = {"attest": ["type=provenance,disabled=true"], "output": ["type=docker"], **canonical(target)[0]}
        for key in (ours.keys() | theirs.keys()) - (but or {}).get(name, set()):
            assert ours.get(key) == theirs.get(key), f"{name}: {key}"


COMPOSE = """
name: shop
services:
  api:
    image: reg.example/api:1
    build:
      context: ./api
      additional_contexts: {base: "service:base", os: "docker-image://debian"}
      args: {A: "1.10", B: x}
      cache_from: [reg.example/api:cache]
      cache_to: ["type=inline"]
      dockerfile: docker/F
      extra_hosts: ["h=1.2.3.4"]
      labels: [a=b, c]
      network: none
      no_cache: true
      platforms: [linux/amd64]
      provenance: mode=max
      pull: true
      sbom: true
      secrets: [token]
      shm_size: 64m
      ssh: [default]
      target: final
      ulimits: {nofile: {soft: 1, hard: 2}}
      x-bake: {no-cache-filter: [s], output: ["type=registry"], contexts: {lib: lib}}
  base: {image: "reg.example/base:1", build: {context: base, provenance: false}}
secrets: {token: {environment: TOKEN}}
"""


@pytest.mark.usefixtures("agent")
def test_a_compose_file_is_read_as_bake_reads_what_it_reads_of_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "compose.yaml").write_text(COMPOSE)

    assert main(["import", str(tmp_path / "compose.yaml")]) == 0

    printed = bake_print("compose.yaml", tmp_path)
    # Two ways to write the same size, and the order in which it attests.
    assert printed["api"].pop("shm-size") == "64MiB"
    printed["api"]["shm-size"] = "64m"
    printed["api"]["attest"].sort(key=lambda one: one["type"])
    same_as_bake(capsys.readouterr().out, tmp_path, printed)


def test_an_imported_project_is_built_to_the_layers_that_bake_builds(sandbox: Sandbox):
    sandbox.write("app/file", f"of {sandbox.name}\n")
    sandbox.write("base/file", f"base of {sandbox.name}\n")
    sandbox.write("base/Dockerfile", "FROM scratch\nCOPY file /base\n")
    sandbox.write("app/Dockerfile", "FROM base\nARG V\nCOPY file /app-$V\n")
    sandbox.write(
        "docker-bake.hcl",
        f"""
target "default" {{
  context = "app"
  contexts = {{ base = "target:base" }}
  args = {{ V = "1" }}
  labels = {{ of = "{sandbox.name}" }}
  attest = ["type=provenance,disabled=true"]
  tags = ["{sandbox.name}/app:bake"]
}}
target "base" {{
  context = "base"
  attest = ["type=provenance,disabled=true"]
}}
""",
    )

    assert main(["import", str(sandbox.root / "docker-bake.hcl"), "-o", str(sandbox.root / "services.yaml"),
                 "--project", sandbox.name]) == 0  # fmt: skip
    sandbox.build(overrides=["default.tags=[ours]"]).raise_for_status()
    subprocess.run(
        ["docker", "buildx", "bake", "--load"], cwd=sandbox.root, check=True, capture_output=True, timeout=120
    )

    layers, labels = "{{json .RootFS.Layers}}", "{{json .Config.Labels}}"
    for what in (layers, labels):
        ours, theirs = (docker("image", "inspect", "-f", what, f"{sandbox.name}/app:{tag}") for tag in ("ours", "bake"))
        assert ours == theirs
