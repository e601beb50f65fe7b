"""Whether an image is still there, on a real engine and a real registry: what people do to images, and what is told."""

from __future__ import annotations

import dataclasses
import hashlib
import http.client
import json
import os
from collections.abc import Callable

import pytest
from sandbox import Sandbox, docker

from buildorch.engine import Engine, containerd_of, read_blob
from buildorch.oci import ImageReference
from buildorch.presence import Presence, Wanted, in_engine, in_registries
from buildorch.presence.wanted import wanted
from buildorch.registry import Repository

pytestmark = pytest.mark.engine
Ask = Callable[[Wanted], Presence]


@pytest.fixture(params=["containerd", "engine"])
def ask(request: pytest.FixtureRequest) -> Ask:
    """The engine's store, asked through its containerd and through the Engine API."""
    engine = Engine.at(os.environ["DOCKER_HOST"])
    info = engine.info()
    if request.param == "engine":
        info = dataclasses.replace(info, containerd="")
    elif containerd_of(info) is None:
        pytest.skip("this engine's containerd is elsewhere, or this user may not see it")
    return lambda image: in_engine([image], engine, info=info)[0]


@pytest.fixture
def image(sandbox: Sandbox) -> Wanted:
    """An image of two platforms in the engine's store."""
    return built(sandbox, "app", data=sandbox.name)


def built(sandbox: Sandbox, service: str, **files: str) -> Wanted:
    sandbox.service(service, "FROM scratch\nARG TARGETARCH\nCOPY data /$TARGETARCH\n", **files)
    sandbox.services(f"services: {{{service}: {{platforms: [linux/amd64, linux/arm64]}}}}\n")
    [found] = wanted(sandbox.build().raise_for_status().services[service])
    return found


def test_an_image_that_was_just_built_is_present(ask: Ask, image: Wanted):
    assert len(image.parts) == 2
    assert ask(image) == Presence("present")


def test_its_blobs_are_the_same_from_containerd_and_through_the_engine(image: Wanted):
    engine = Engine.at(os.environ["DOCKER_HOST"])
    if (containerd := containerd_of(engine.info())) is None:
        pytest.skip("this engine's containerd is elsewhere, or this user may not see it")
    digests = [*image.parts[0].digests, image.digest]

    for digest in digests:
        data = b"".join(read_blob(engine, digest))
        assert f"sha256:{hashlib.sha256(data).hexdigest()}" == digest
        assert b"".join(read_blob(engine, digest, containerd)) == data


def test_a_removed_image_is_gone(ask: Ask, image: Wanted):
    docker("rmi", image.reference)

    assert ask(image) == Presence("gone", f"image gone: {image.reference} is not in the engine's store")


def test_an_image_that_only_lost_its_name_is_put_right_by_a_tag_and_keeps_its_digest(ask: Ask, image: Wanted):
    name = image.reference.rpartition(":")[0]
    docker("tag", image.reference, f"{name}:other")
    docker("rmi", image.reference)

    before = ask(image)
    Engine.at(os.environ["DOCKER_HOST"]).tag(image.digest, name, tag=image.reference.rpartition(":")[2])

    assert (before.state, ask(image)) == ("untagged", Presence("present"))


def test_a_name_that_was_moved_to_another_image_is_told(ask: Ask, image: Wanted, sandbox: Sandbox):
    other = built(sandbox, "other", data=f"{sandbox.name} two")
    docker("tag", other.reference, image.reference)

    kept = ask(image)  # the engine keeps an image without a name, until it is pruned or removed by its digest
    docker("rmi", image.digest)
    lost = ask(image)

    assert (kept.state, lost.state) == ("untagged", "gone")
    assert f"now names {other.digest[:19]}" in kept.reason
    assert lost.reason == f"image gone: {image.reference} now names {other.digest[:19]}, not {image.digest[:19]}"


def test_an_image_that_lost_a_platform_is_gone_and_the_platform_is_named(ask: Ask, image: Wanted):
    if "--platform" not in docker("image", "rm", "--help"):
        pytest.skip("this docker client cannot remove one platform")
    docker("image", "rm", "--force", "--platform", "linux/arm64", image.reference)

    found = ask(image)

    assert found == Presence(
        "gone", f"image gone: linux/arm64 of {image.reference} is no longer complete in the engine's store"
    )


def test_an_image_built_again_from_cache_without_its_removed_layers_is_not_taken_for_whole(
    ask: Ask, image: Wanted, sandbox: Sandbox
):
    if "--platform" not in docker("image", "rm", "--help"):
        pytest.skip("this docker client cannot remove one platform")
    docker("image", "rm", "--force", "--platform", "linux/arm64", image.reference)
    again = built(sandbox, "app", data=sandbox.name)
    [listed] = json.loads(docker("image", "inspect", again.reference))
    if len(listed.get("Manifests") or ()) and all(one["Available"] for one in listed["Manifests"]):
        pytest.skip("this engine's builder makes the removed layers again")

    assert "linux/arm64 of" in ask(again).reason


@pytest.fixture
def pushed(sandbox: Sandbox, registry: str) -> Wanted:
    """An image of two platforms in the loopback registry."""
    sandbox.service("app", "FROM scratch\nARG TARGETARCH\nCOPY data /$TARGETARCH\n", data=sandbox.name)
    sandbox.services(f"services: {{app: {{registry: '{registry}', platforms: [linux/amd64, linux/arm64]}}}}\n")
    [found] = wanted(sandbox.build(output="push").raise_for_status().services["app"])
    return found


def delete(image: Wanted, path: str) -> None:
    """Remove a manifest, a tag or a blob from the image's registry."""
    reference = ImageReference.parse(image.reference)
    connection = http.client.HTTPConnection(reference.registry)
    connection.request("DELETE", f"/v2/{reference.repository}/{path}")
    assert connection.getresponse().status == 202
    connection.close()


def test_a_pushed_image_is_present_until_its_registry_loses_it(pushed: Wanted):
    before = in_registries([pushed])
    delete(pushed, f"manifests/{pushed.digest}")

    [after] = in_registries([pushed])

    assert before == (Presence("present"),)
    assert (after.state, "is not in the registry" in after.reason) == ("gone", True)


@pytest.mark.parametrize("kind", ["manifest", "config"])
def test_a_pushed_image_that_lost_a_part_is_gone_and_its_platform_is_named(pushed: Wanted, kind: str):
    part = next(part for part in pushed.parts if part.platform == "linux/arm64")
    delete(pushed, f"manifests/{part.manifest}" if kind == "manifest" else f"blobs/{part.config}")

    [found] = in_registries([pushed])

    assert found.state == "gone"
    assert f"linux/arm64 of {pushed.reference} is no longer complete" in found.reason
    delete(pushed, f"manifests/{pushed.digest}")


def test_a_pushed_images_tag_that_was_moved_is_put_right_by_its_manifest_and_keeps_its_digest(pushed: Wanted):
    reference = ImageReference.parse(pushed.reference)
    repository = Repository.of(reference)
    other = repository.manifest(pushed.parts[0].manifest or "")
    repository.put_manifest(reference.tag, other)

    [moved] = in_registries([pushed])
    repository.put_manifest(reference.tag, repository.manifest(pushed.digest))

    assert moved.state == "untagged"
    assert f"now names sha256:{hashlib.sha256(other).hexdigest()[:12]}" in moved.reason
    assert in_registries([pushed]) == (Presence("present"),)
    delete(pushed, f"manifests/{pushed.digest}")
