"""Pins on a real engine and a real registry: what BuildKit makes of them, while tags move."""

from __future__ import annotations

import http.client
import re
from collections.abc import Callable, Iterator, Mapping

import pytest
from sandbox import BASE, Sandbox, docker

from buildorch.bases import Base, Unresolved, pins, resolve_bases
from buildorch.bases.lockfile import read
from buildorch.buildx.client import find_endpoint
from buildorch.engine import Engine

pytestmark = pytest.mark.engine


@pytest.fixture
def mirrors(registry: str) -> tuple[str, ...]:
    """The engine's mirrors of Docker Hub; the loopback registry is the first of them."""
    found = Engine.at(find_endpoint()).info().mirrors
    if f"http://{registry}/" not in found:
        pytest.skip("the loopback registry is not the engine's mirror of Docker Hub")
    return found


@pytest.fixture
def push(sandbox: Sandbox, registry: str) -> Iterator[Callable[[str, str], str]]:
    """Push an image that holds one word in /word, under a name of the loopback registry; gives its digest."""
    pushed: dict[tuple[str, str], None] = {}

    def one(name: str, word: str) -> str:
        folder = sandbox.root / "base"
        sandbox.write("base/Dockerfile", "FROM scratch\nCOPY word /word\n")
        sandbox.write("base/word", word)
        # Not kept in the engine: its own copy of a tag is not what is asked about, and removing images takes seconds.
        output = f"--output=type=image,name={registry}/{name},push=true,store=false"
        docker("buildx", "build", "--provenance=false", output, str(folder))
        reference = f"{registry}/{name}"
        [base] = resolve_bases([reference], lock=None).values()
        assert isinstance(base, Base)
        pushed[name.partition(":")[0], base.digest] = None
        return base.digest

    yield one
    for name, digest in pushed:
        connection = http.client.HTTPConnection(registry, timeout=10)
        connection.request("DELETE", f"/v2/{name}/manifests/{digest}")
        connection.getresponse().read()
        connection.close()


def built(sandbox: Sandbox, dockerfile: str, contexts: Mapping[str, str]) -> dict[str, str]:
    """The files of the image that a Dockerfile gives with these named contexts."""
    sandbox.write("use/Dockerfile", dockerfile)
    flags = [f"--build-context={name}={value}" for name, value in contexts.items()]
    target = sandbox.root / f"out-{len(list(sandbox.root.iterdir()))}"
    docker("buildx", "build", *flags, f"--output=type=local,dest={target}", str(sandbox.root / "use"))
    return {file.name: file.read_text().strip() for file in target.iterdir() if file.is_file()}


@pytest.mark.parametrize("written", ["{name}:v", "docker.io/library/{name}:v", "index.docker.io/library/{name}:v"])
def test_a_pinned_build_takes_the_old_digest_of_a_moved_tag_in_from_copy_and_mount(
    sandbox: Sandbox, push: Callable[[str, str], str], mirrors: tuple[str, ...], written: str
):
    name = sandbox.name
    old = push(f"library/{name}:v", "old")
    bases = resolve_bases([f"{name}:v"], lock=None, mirrors=mirrors)
    push(f"library/{name}:v", "new")
    image = written.format(name=name)
    dockerfile = (
        f"FROM {image} AS base\nFROM {BASE} AS run\nRUN --mount=from={image},target=/m cp /m/word /by-mount\n"
        f"FROM scratch\nCOPY --from=base /word /by-from\nCOPY --from={image} /word /by-copy\n"
        "COPY --from=run /by-mount /by-mount\n"
    )

    files = built(sandbox, dockerfile, pins(bases))

    assert pins(bases) == {f"{name}:v": f"docker-image://{name}:v@{old}"}
    assert files == {"by-from": "old", "by-copy": "old", "by-mount": "old"}
    assert set(built(sandbox, dockerfile, {}).values()) == {"new"}


@pytest.mark.parametrize("written", ["{name}", "{name}:latest"])
def test_an_image_without_a_tag_and_with_latest_are_one_pin(
    sandbox: Sandbox, push: Callable[[str, str], str], mirrors: tuple[str, ...], written: str
):
    push(f"library/{sandbox.name}:latest", "old")
    bases = resolve_bases([f"docker.io/library/{sandbox.name}"], lock=None, mirrors=mirrors)
    push(f"library/{sandbox.name}:latest", "new")

    assert built(sandbox, f"FROM {written.format(name=sandbox.name)}\n", pins(bases)) == {"word": "old"}


def test_a_digest_in_the_dockerfile_is_not_moved_by_the_pin_of_its_tag(
    sandbox: Sandbox, push: Callable[[str, str], str], mirrors: tuple[str, ...]
):
    push(f"library/{sandbox.name}:v", "old")
    bases = resolve_bases([f"{sandbox.name}:v"], lock=None, mirrors=mirrors)
    new = push(f"library/{sandbox.name}:v", "new")

    assert built(sandbox, f"FROM {sandbox.name}:v@{new}\n", pins(bases)) == {"word": "new"}


def test_a_pin_would_replace_a_stage_of_its_name_so_there_is_none(
    sandbox: Sandbox, push: Callable[[str, str], str], mirrors: tuple[str, ...]
):
    push(f"library/{sandbox.name}:latest", "pinned")
    bases = resolve_bases([sandbox.name], lock=None, mirrors=mirrors)
    sandbox.write("use/own", "own")
    dockerfile = f"FROM {sandbox.name} AS {sandbox.name}\nCOPY own /word\nFROM {sandbox.name}\n"

    assert built(sandbox, dockerfile, pins(bases)) == {"word": "pinned"}  # the stage's COPY is lost
    assert built(sandbox, dockerfile, pins(bases, stages=[sandbox.name])) == {"word": "own"}


def test_a_pin_changes_neither_the_image_nor_what_is_cached(sandbox: Sandbox, mirrors: tuple[str, ...]):
    docker("pull", "--quiet", BASE)
    bases = resolve_bases([BASE], lock=None, mirrors=mirrors)
    sandbox.write("use/Dockerfile", f"FROM {BASE}\nRUN echo {sandbox.name} > /name\n")
    digests = []
    for flags in ([], [f"--build-context={name}={value}" for name, value in pins(bases).items()]):
        tag = f"--tag={sandbox.name}/app:{len(flags)}"
        docker("buildx", "build", "--provenance=false", "--load", tag, *flags, str(sandbox.root / "use"))
        digests.append(docker("image", "inspect", "--format={{.Id}}", tag.removeprefix("--tag=")))

    assert len(pins(bases)) == 1
    assert digests[0] == digests[1]


def test_an_image_that_only_the_engine_has_is_unresolved_and_builds_without_a_pin(
    sandbox: Sandbox, mirrors: tuple[str, ...]
):
    sandbox.write("base/Dockerfile", "FROM scratch\nCOPY word /word\n")
    sandbox.write("base/word", "local")
    docker("buildx", "build", "--load", f"--tag={sandbox.name}/local:v", str(sandbox.root / "base"))

    bases = resolve_bases([f"{sandbox.name}/local:v"], lock=None, mirrors=mirrors)

    [base] = bases.values()
    assert isinstance(base, Unresolved)
    assert f"gave 404 for /v2/{sandbox.name}/local/manifests/v" in base.reason
    assert built(sandbox, f"FROM {sandbox.name}/local:v\n", pins(bases)) == {"word": "local"}


def test_the_lock_command_keeps_a_moved_base_until_it_is_updated(
    sandbox: Sandbox, push: Callable[[str, str], str], registry: str
):
    image = f"{registry}/{sandbox.name}/base:v"
    old = push(f"{sandbox.name}/base:v", "old")
    sandbox.services("services:\n  web: {tags: [v1]}\n")
    sandbox.service("web", f"FROM {image}\n")
    first = sandbox.command("lock")
    new = push(f"{sandbox.name}/base:v", "new")

    kept = sandbox.command("lock")
    checked = sandbox.command("lock", "--check")
    held = read(sandbox.root / "buildorch.lock")
    updated = sandbox.command("lock", "--update", image)
    taken = read(sandbox.root / "buildorch.lock")

    assert [done.returncode for done in (first, kept, checked, updated)] == [0, 0, 0, 0]
    assert held is not None
    assert taken is not None
    assert held.bases[image].digest == old != new == taken.bases[image].digest
    assert f"warning: {image} has moved since" in kept.stdout
    assert f"warning: {image} has moved since" in checked.stdout
    assert "moved" not in updated.stdout
    pinned = pins(resolve_bases([image], lock=held, frozen=True))
    assert built(sandbox, f"FROM {image}\n", pinned) == {"word": "old"}


def test_the_digest_is_the_one_that_docker_itself_gives(mirrors: tuple[str, ...]):
    [base] = resolve_bases([BASE], lock=None, mirrors=mirrors, verify=True).values()
    assert isinstance(base, Base)

    said = docker("buildx", "imagetools", "inspect", f"{base.registry}/library/{BASE}")

    assert re.search(rf"^Digest: +{base.digest}$", said, re.MULTILINE)
