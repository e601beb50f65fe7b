"""The documentation's longer examples, run as they stand against a real engine."""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from pages import DOCS, Block, blocks_of
from sandbox import remove_images_of

from buildorch.errors import EXIT_POLICY

pytestmark = pytest.mark.engine

DOORS = {"deploy.py": ["python", "deploy.py"], "deploy.sh": ["sh", "deploy.sh"], "Makefile": ["make", "deploy"]}
TIMEOUT_S = 300
TUTORIAL_S = 300


def run(command: list[str], folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a command of an example, with `python`, `buildorch` and the folder's own tools first on PATH."""
    places = (str(folder / "tools"), str(Path(sys.executable).parent), os.environ.get("PATH", ""))
    clean = {key: value for key, value in os.environ.items() if not key.startswith("BUILDORCH_")}
    return subprocess.run(
        command,
        cwd=folder,
        env={**clean, **variables, "PATH": os.pathsep.join(places)},
        capture_output=True,
        text=True,
        check=False,
        timeout=TIMEOUT_S,
    )


@pytest.fixture
def project_name() -> Iterator[str]:
    """A project name that no other test has; its images go afterwards."""
    name = f"t-{secrets.token_hex(4)}"
    yield name
    remove_images_of(name)


@dataclass
class Deploy:
    """The deploy page's files in a folder, with two small services and a `kubectl` that only writes down what it is told."""

    folder: Path
    project: str
    registry: str

    def write(self, *, instruction: str = "USER 10001", kubectl: str = "exit 0") -> None:
        examples = {block.title: block.body for block in blocks_of(DOCS / "how-to" / "deploy.md") if block.title}
        for title, text in examples.items():
            self._file(title, text.replace("project: shop", f"project: {self.project}"))
        for service in ("web", "worker"):
            self._file(f"services/{service}/content.txt", f"{service} of {self.project}\n")
            self._file(f"services/{service}/Dockerfile", f"FROM scratch\nCOPY content.txt /\n{instruction}\n")
        self._file("tools/kubectl", f'#!/bin/sh\nprintf "%s\\n" "$*" >>kubectl.log\n{kubectl}\n')
        (self.folder / "tools" / "kubectl").chmod(0o755)

    def copy(self, folder: Path) -> Deploy:
        """The same files, with the same times, elsewhere."""
        return Deploy(shutil.copytree(self.folder, folder), self.project, self.registry)

    def run(self, door: str) -> subprocess.CompletedProcess[str]:
        return run(DOORS[door], self.folder, REGISTRY=self.registry)

    @property
    def record(self) -> dict[str, Any]:
        return json.loads((self.folder / "build.json").read_text())

    @property
    def rolled_out(self) -> list[str]:
        log = self.folder / "kubectl.log"
        return sorted(log.read_text().splitlines()) if log.exists() else []

    def _file(self, path: str, text: str) -> None:
        file = self.folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)


@pytest.fixture
def deploy(tmp_path: Path, project_name: str) -> Deploy:
    registry = os.environ.get("BUILDORCH_LOCAL_REGISTRY", "")
    if not registry:
        pytest.skip("the engine in use has no loopback registry; `scripts/engine up` starts one")
    return Deploy(tmp_path / "deploy", project_name, registry)


def same_for_every_run(value: Any) -> Any:
    """A record without what no two runs share: ids, times and durations."""
    if isinstance(value, Mapping):
        passing = {
            "run_id",
            "started_at",
            "finished_at",
            "built_at",
            "duration_s",
            "fingerprint",
            "unchanged",
            "timeline",
        }
        return {key: same_for_every_run(inner) for key, inner in value.items() if key not in passing}
    return value


def test_the_three_deploy_scripts_leave_equal_records_and_roll_out_the_same_digests(deploy: Deploy, tmp_path: Path):
    deploy.write()
    copies = {door: deploy.copy(tmp_path / f"by-{door}") for door in DOORS}
    warm = run(["python", "-m", "buildorch", "build-all", "--push"], deploy.folder, REGISTRY=deploy.registry)
    assert warm.returncode == 0, warm.stderr  # so that every door finds the same cache

    for door, copy in copies.items():
        done = copy.run(door)
        assert done.returncode == 0, f"{door}: {done.stdout}{done.stderr}"

    first, *others = (same_for_every_run(copy.record) for copy in copies.values())
    assert all(other == first for other in others)
    assert {name: service["status"] for name, service in first["services"].items()} == {
        "web": "built",
        "worker": "built",
    }
    pinned = [
        f"set image deployment/{name} {name}={service['reference'].rpartition(':')[0]}@{service['digest']}"
        for name, service in first["services"].items()
    ]
    assert all(copy.rolled_out == sorted(pinned) for copy in copies.values())


@pytest.mark.parametrize("door", DOORS)
def test_no_deploy_script_rolls_anything_out_after_a_broken_rule(door: str, deploy: Deploy):
    deploy.write(instruction="USER root")  # which web's policy forbids

    done = deploy.run(door)

    assert done.returncode == (2 if door == "Makefile" else EXIT_POLICY), done.stderr
    assert deploy.record["exit_code"] == EXIT_POLICY
    assert "which is root" in done.stdout + done.stderr
    assert deploy.rolled_out == []


@pytest.mark.parametrize("door", DOORS)
def test_no_deploy_script_hides_that_a_roll_out_failed(door: str, deploy: Deploy):
    deploy.write(kubectl="exit 1")

    done = deploy.run(door)

    assert done.returncode != 0
    assert deploy.record["exit_code"] == 0
    assert len(deploy.rolled_out) == 1  # it stopped at the first


def test_the_tutorial_gives_what_it_shows(tmp_path: Path, project_name: str):
    shown: list[str] = []
    began = time.monotonic()
    for block in blocks_of(DOCS / "tutorial.md"):
        assert block.language in {"sh", "yaml", "text"}, block.place
        if block.language == "yaml":
            (tmp_path / block.title).write_text(block.body.replace("project: demo", f"project: {project_name}"))
        elif block.language == "sh":
            installed = "buildorch --version\n"  # the rest of that block makes what the tests run in
            done = run(["sh", "-ec", installed if "pip install" in block.body else block.body], tmp_path)
            assert done.returncode == 0, f"{block.place}: {done.stderr}"
            shown = same_on_every_machine(done.stdout.replace(project_name, "demo"))
        else:
            assert_shown(block, shown)

    assert time.monotonic() - began < TUTORIAL_S
    assert len(json.loads((tmp_path / ".buildorch" / "run.json").read_text())["services"]) == 3
    assert (tmp_path / "report.html").stat().st_size > 10_000


def test_the_api_pages_examples_run(tmp_path: Path, project_name: str):
    (tmp_path / "services" / "web").mkdir(parents=True)
    (tmp_path / "services" / "web" / "Dockerfile").write_text("FROM scratch\nCOPY Dockerfile /\n")
    (tmp_path / "services.yaml").write_text(f"version: 1\nproject: {project_name}\nservices:\n  web:\n")
    for block in blocks_of(DOCS / "reference" / "api.md"):
        done = run([sys.executable, "-c", block.body], tmp_path)
        assert done.returncode == 0, f"{block.place}: {done.stderr}"
        assert done.stdout, block.place


GROWN = """\
version: 1
project: PROJECT
services:
  web: {tags: ["${TAG}"], size: {max: 100MB}}
"""


def test_the_page_on_growth_gives_what_it_shows(tmp_path: Path, project_name: str):
    folder = tmp_path / "services" / "web"
    (folder / "app").mkdir(parents=True)
    (tmp_path / "services.yaml").write_text(GROWN.replace("PROJECT", project_name))
    (folder / "app" / "server.js").write_bytes(bytes(1_000_000))
    for tag, record in (("1.4", "main.json"), ("1.5", "run.json")):
        (folder / "Dockerfile").write_text("FROM scratch\nCOPY app /app\nUSER 1000\n")
        built = run(["buildorch", "build-all", "--record", record], tmp_path, TAG=tag)
        assert built.returncode == 0, built.stderr
        (folder / "app" / "node.tar").write_bytes(bytes(60_000))
        (folder / "app" / "server.js").write_bytes(bytes(1_100_000))

    shown: list[str] = []
    for block in blocks_of(DOCS / "how-to" / "growth.md"):
        if block.language == "sh":
            body = block.body.replace("registry.example/shop", project_name)
            done = run(["sh", "-ec", body], tmp_path, TAG="1.5")
            expected = EXIT_POLICY if block.body.endswith("--fail-on-growth 5%\n") else 0
            assert done.returncode == expected, f"{block.place}: {done.stdout}{done.stderr}"
            assert done.stdout, block.place
            shown = same_on_every_machine(done.stdout)
        else:
            assert_shown(block, shown)


KUBERNETES = """\
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec: {template: {spec: {containers: [{name: web, image: PROJECT/web:latest}]}}}
"""
RUN = ("bake-and-compose.md", "base-images.md", "hand-over.md", "reports.md")
"""How-to pages whose shell blocks run below as they stand, but for the one that sends spans to a collector. What deploys
(kubectl, helm, skaffold, docker service) is only seen to be called. deploy.md has its own tests."""


def test_the_shell_blocks_of_the_how_to_pages_run(tmp_path: Path, project_name: str):
    registry = os.environ.get("BUILDORCH_LOCAL_REGISTRY", "")
    if not registry:
        pytest.skip("the engine in use has no loopback registry; `scripts/engine up` starts one")
    deploy = Deploy(tmp_path / "shop", project_name, registry)
    deploy.write()
    around(deploy)
    events = ["python", "-m", "buildorch", "build-all", "--push", "--progress", "json", "--record", "run.json"]
    built = run(events, deploy.folder, REGISTRY=registry)
    assert built.returncode == 0, built.stderr
    (deploy.folder / "events.ndjson").write_text(built.stderr)

    for name in RUN:
        folder = {"base-images.md": pinned, "bake-and-compose.md": come}.get(name, lambda _: deploy.folder)(tmp_path)
        for block in blocks_of(DOCS / "how-to" / name):
            if block.language == "sh" and "OTEL_" not in block.body:
                if " import " in block.body:
                    (folder / "services.yaml").unlink(missing_ok=True)  # each of these begins a project
                done = run(["sh", "-ec", block.body], folder, REGISTRY=registry)
                assert done.returncode == 0, f"{block.place}: {done.stdout}{done.stderr}"

    assert "@sha256:" in (deploy.folder / "resolved.yaml").read_text()
    assert "@sha256:" in (deploy.folder / "images.env").read_text()
    assert json.loads((deploy.folder / "trace.json").read_text())
    assert f"service update --image {registry}/{project_name}/web@sha256:" in (deploy.folder / "docker.log").read_text()


def around(deploy: Deploy) -> None:
    """What the pages take for granted: Kubernetes YAML, and the tools of a deploy."""
    deploy._file("deploy/web.yaml", KUBERNETES.replace("PROJECT", deploy.project))
    docker = shutil.which("docker") or "docker"
    deploy._file("tools/docker", f'#!/bin/sh\n[ "$1" = service ] || exec {docker} "$@"\necho "$*" >>docker.log\n')
    for tool in ("helm", "skaffold"):
        deploy._file(f"tools/{tool}", "#!/bin/sh\nexit 0\n")
    for tool in ("docker", "helm", "skaffold"):
        (deploy.folder / "tools" / tool).chmod(0o755)


def come(root: Path) -> Path:
    """A project that has a bake file and a Compose file, and no services file."""
    folder = root / "come"
    (folder / "services" / "web").mkdir(parents=True)
    (folder / "services" / "web" / "Dockerfile").write_text("FROM scratch\nCOPY Dockerfile /\n")
    targets = (
        'group "default" {\n  targets = ["web"]\n}\ntarget "web" {\n  context = "services/web"\n  attest = []\n}\n'
    )
    (folder / "docker-bake.hcl").write_text(targets)
    (folder / "compose.yaml").write_text("name: come\nservices:\n  web: {build: services/web}\n")
    return folder


def pinned(root: Path) -> Path:
    """A project under git that is locked and never built."""
    folder = root / "pinned"
    (folder / "services" / "api").mkdir(parents=True)
    (folder / "services" / "api" / "Dockerfile").write_text("FROM python:3.13-slim\n")
    (folder / "services.yaml").write_text("version: 1\nproject: pinned\nservices:\n  api:\n")
    subprocess.run(["git", "init", "--quiet", str(folder)], check=True)
    return folder


def assert_shown(block: Block, shown: list[str]) -> None:
    """What a page shows stands in the output, in this order."""
    rest = iter(shown)
    missing = [line for line in same_on_every_machine(block.body) if line not in rest]
    assert not missing, f"{block.place}: {missing} is not in this order in {shown}"


def same_on_every_machine(text: str) -> list[str]:
    """Lines of output without what differs between machines and runs."""
    for pattern, word in {
        r"sha256:[0-9a-f]+": "DIGEST",
        r"run \d{8}T\d{6}Z-[0-9a-f]+": "run ID",
        r"\b(?:\d+m\d+s|\d+\.\d+s)": "TIME",
        r"\b\d+/\d+\b": "STEPS",
        r"\blinux/[a-z0-9/]+": "PLATFORM",
        r"\b\d+\.\d+ kB|(?<=[+-])\d+ B\b": "SIZE",
        r"[ \t]+": " ",
    }.items():
        text = re.sub(pattern, word, text)
    return [line.strip() for line in textwrap.dedent(text).splitlines()]
