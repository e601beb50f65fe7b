"""What was pushed is handed over to a deploy by its digest, and what a registry does not hold is not."""

from __future__ import annotations

import http.client
from collections.abc import Iterator

import pytest
from kubectl import images_in, kubectl
from ruamel.yaml import YAML
from sandbox import Sandbox

pytestmark = pytest.mark.engine

POD = """\
# Both services, as people write them.
apiVersion: v1
kind: Pod
metadata: {{name: shop}}
spec:
  initContainers:
  - name: api
    image: {registry}/{project}/api:v1   # with its registry
  containers:
  - {{name: web, image: "{project}/web"}}
  - {{name: db, image: postgres:16}}
"""


@pytest.fixture
def pushed(registry: str) -> Iterator[dict[str, str]]:
    """Repository -> digest of what a test pushed; it goes when the test ends."""
    found: dict[str, str] = {}
    yield found
    for repository, digest in found.items():
        delete(registry, repository, digest)


def delete(registry: str, repository: str, digest: str) -> int:
    """Take a manifest out of the registry; the answer's status."""
    connection = http.client.HTTPConnection(registry, timeout=30)
    connection.request("DELETE", f"/v2/{repository}/manifests/{digest}")
    status = connection.getresponse().status
    connection.close()
    return status


def test_a_deploy_gets_the_digests_that_were_pushed_and_none_that_the_registry_lost(
    sandbox: Sandbox, registry: str, pushed: dict[str, str]
):
    for name in ("api", "web"):
        sandbox.service(name, "FROM scratch\nCOPY data /data\n", data=f"{name} of {sandbox.name}")
    sandbox.services(f"defaults: {{registry: '{registry}', tags: [v1]}}\nservices: {{api: , web: }}\n")
    pod = sandbox.write("k8s/pod.yaml", POD.format(registry=registry, project=sandbox.name))
    sandbox.write("k8s/kustomization.yaml", "resources: [pod.yaml]\ncomponents: [images]\n")
    (sandbox.root / "k8s" / "images").mkdir()

    loaded = sandbox.command("build-all", "--progress", "quiet")
    not_pushed = sandbox.command("images")
    local = sandbox.command("images", "--local")
    report = sandbox.build(output="push").raise_for_status()
    pushed |= {f"{sandbox.name}/{name}": str(one.digest) for name, one in report.services.items()}
    component = sandbox.command("images", "--format", "kustomize", "-o", "k8s/images/kustomization.yaml")
    kustomized = kubectl("kustomize", str(sandbox.root / "k8s"))
    resolved = sandbox.command("resolve", "k8s/pod.yaml")
    in_place = sandbox.command("resolve", "-i", "k8s/pod.yaml")
    again = sandbox.command("resolve", "--check", "k8s/pod.yaml")

    pinned = {name: f"{registry}/{sandbox.name}/{name}@{one.digest}" for name, one in report.services.items()}
    assert (loaded.returncode, not_pushed.returncode, not_pushed.stdout) == (0, 1, "")
    assert f"error: api: its registry does not hold {registry}/{sandbox.name}/api@sha256:" in not_pushed.stderr
    assert local.stdout.startswith(f"api {registry}/{sandbox.name}/api@sha256:")
    assert (component.returncode, component.stdout, component.stderr) == (0, "", "")
    assert sorted(images(kustomized)) == sorted(["postgres:16", *pinned.values()])
    expected = POD.format(registry=registry, project=sandbox.name)
    expected = expected.replace(f"{registry}/{sandbox.name}/api:v1", pinned["api"])
    expected = expected.replace(f'"{sandbox.name}/web"', f'"{pinned["web"]}"')
    assert resolved.stdout == expected
    assert (in_place.returncode, again.returncode, pod.read_text()) == (0, 0, expected)

    assert delete(registry, f"{sandbox.name}/web", pushed[f"{sandbox.name}/web"]) == 202
    lost = sandbox.command("images", "--format", "kustomize", "-o", "k8s/images/kustomization.yaml")
    not_resolved = sandbox.command("resolve", "-i", "k8s/pod.yaml")

    assert (lost.returncode, not_resolved.returncode) == (1, 1)
    assert f"error: web: its registry does not hold {pinned['web']}" in lost.stderr
    assert kubectl("kustomize", str(sandbox.root / "k8s")) == kustomized
    assert pod.read_text() == expected


def images(text: str) -> list[str]:
    """The images in a stream of YAML."""
    return images_in(list(YAML(typ="safe", pure=True).load_all(text)))
