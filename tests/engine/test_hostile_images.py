"""Images that somebody made to do harm, in a real registry, judged by the real command.

What a registry takes is hashed, not looked into: every layer here is one that it serves as it serves any other. The
engine takes none of the broken ones, so the last tests have it pull what it does take.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import random
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import tars
from faults import Fault, Handler, corrupted, failing_registry, truncated
from sandbox import Sandbox, docker

pytestmark = pytest.mark.engine

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
CONFIG = "application/vnd.oci.image.config.v1+json"
EVERY_RULE = (
    "defaults: {policy: {user: non-root, contents: error, healthcheck: warning, exec_form: warning, labels: [x]}}\n"
)
MOST_KB = 150_000
"""Peak memory of a check, in KB; 150 MB is what the project allows itself for an honest image of 300 MB."""
SEED = 20261128
SOAK = bool(os.environ.get("BUILDORCH_SOAK"))


def digest_of(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


@dataclass(frozen=True)
class Repository:
    """A repository of the loopback registry, written to by hand."""

    address: str
    name: str

    def put_blob(self, data: bytes) -> dict[str, object]:
        begun = self._send("POST", f"http://{self.address}/v2/{self.name}/blobs/uploads/", b"")
        joint = "&" if "?" in begun else "?"
        self._send("PUT", f"{begun}{joint}digest={digest_of(data)}", data, kind="application/octet-stream")
        return {"digest": digest_of(data), "size": len(data)}

    def put_document(self, document: dict[str, object]) -> dict[str, object]:
        data = json.dumps(document).encode()
        url = f"http://{self.address}/v2/{self.name}/manifests/{digest_of(data)}"
        self._send("PUT", url, data, kind=str(document["mediaType"]))
        return {"mediaType": document["mediaType"], "digest": digest_of(data), "size": len(data)}

    def put_image(self, *blobs: bytes, diff_ids: tuple[str, ...] = ()) -> str:
        """The reference of an image of these layers; their diff_ids are those of what gzip makes of them, by default."""
        wanted = diff_ids or tuple(digest_of(gzip.decompress(blob)) for blob in blobs)
        config = {
            "os": "linux",
            "architecture": "amd64",
            "config": {"User": "1000"},
            "rootfs": {"type": "layers", "diff_ids": wanted},
            "history": [{"created_by": "COPY . / # buildkit"}] * len(blobs),
        }
        manifest = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": {"mediaType": CONFIG, **self.put_blob(json.dumps(config).encode())},
            "layers": [{"mediaType": LAYER, **self.put_blob(blob)} for blob in blobs],
        }
        return f"{self.address}/{self.name}@{self.put_document(manifest)['digest']}"

    def _send(self, method: str, url: str, data: bytes, *, kind: str = "") -> str:
        headers = {"Content-Type": kind} if kind else {}
        request = urllib.request.Request(url, data, headers, method=method)  # noqa: S310 - the loopback registry's
        with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310
            return str(answer.headers.get("Location", ""))


@pytest.fixture
def repository(registry: str, sandbox: Sandbox) -> Repository:
    sandbox.services(EVERY_RULE + "services:\n  none: {}\n")
    sandbox.service("none", "FROM scratch\n")
    return Repository(registry, f"{sandbox.name}/hostile")


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    exit_code: int
    output: str
    seconds: float
    peak_kb: int


MEASURED = """\
import resource, subprocess, sys
code = subprocess.run(sys.argv[1:]).returncode
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(code)
"""


def check(sandbox: Sandbox, *images: str) -> Done:
    """Judge images."""
    return run(sandbox, "check", *images)


def run(sandbox: Sandbox, *arguments: str) -> Done:
    """Run the command, with its own peak memory.

    From a small process: Linux counts what was there at the fork to the peak of what is executed behind it.
    """
    begin = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, sys.executable, "-m", "buildorch", *arguments],
        cwd=sandbox.root,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=300,
    )
    output, _, peak = done.stdout.rstrip("\n").rpartition("\n")
    return Done(done.returncode, output, time.monotonic() - begin, int(peak))


def layer(*members: bytes) -> bytes:
    return gzip.compress(b"".join(members) + tars.END, mtime=0)


NOISE = random.Random(SEED).randbytes(300_000)
HONEST = layer(tars.member("srv/data", NOISE))
BROKEN: dict[str, tuple[Callable[[], tuple[bytes, str]], str]] = {
    "cut off": (lambda: (HONEST[:-2000], digest_of(gzip.decompress(HONEST))), "cannot be unpacked: it ends too early"),
    "a byte flipped": (lambda: (_flipped(HONEST), digest_of(gzip.decompress(HONEST))), "unpack"),
    "another tar than the config says": (lambda: (HONEST, digest_of(b"another")), "does not unpack to"),
    "no tar": (lambda: _of(gzip.compress(NOISE)), "is no tar that can be read"),
    "a tar cut off": (lambda: _of(gzip.compress(tars.member("a", NOISE)[:-4096])), "its tar is cut off"),
    "a path out of the root": (lambda: _of(layer(tars.member("a/../../escaped", b"x"))), "leads out of the root"),
    "a hard link out of the root": (
        lambda: _of(layer(tars.hardlink("shadow", "../../../etc/shadow"))),
        "leads out of the root",
    ),
    "a size below zero": (lambda: _of(layer(tars.patched(tars.member("a"), 124, b"\xff" * 12))), "size below 0"),
    "a header longer than any": (
        lambda: _of(layer(tars.extended((b"comment", b"x" * 2_000_000)), tars.member("a"))),
        "longer extended headers",
    ),
}


def _of(blob: bytes) -> tuple[bytes, str]:
    return blob, digest_of(gzip.decompress(blob))


def _flipped(blob: bytes) -> bytes:
    at = len(blob) // 2
    return blob[:at] + bytes([blob[at] ^ 0x55]) + blob[at + 1 :]


def is_told_and_cheap(done: Done) -> bool:
    """No traceback, and bounded time and memory."""
    return (
        "Traceback" not in done.output
        and "a bug in buildorch" not in done.output
        and done.seconds < 30
        and done.peak_kb < MOST_KB
    )


def test_each_layer_that_is_no_honest_one_is_told_and_all_of_them_cost_little(sandbox: Sandbox, repository: Repository):
    images: dict[str, str] = {}
    for make, said in BROKEN.values():
        blob, diff_id = make()
        images[repository.put_image(blob, diff_ids=(diff_id,))] = said

    done = check(sandbox, *images)

    assert done.exit_code == 4, done.output
    told = {image: [line for line in done.output.splitlines() if f" {image}: " in f" {line}"] for image in images}
    assert {image: len(lines) for image, lines in told.items()} == dict.fromkeys(images, 1), done.output
    assert [image for image, [line] in told.items() if images[image] not in line] == [], done.output
    assert [line for [line] in told.values() if not line.startswith("error: ")] == [], done.output
    assert is_told_and_cheap(done), done
    assert not list(Path("/").glob("*escaped*")) + list(sandbox.root.parent.rglob("*escaped*"))


def test_an_image_that_cannot_be_read_is_not_compared_and_that_is_told_once(sandbox: Sandbox, repository: Repository):
    blob, diff_id = BROKEN["a path out of the root"][0]()
    honest, broken = repository.put_image(HONEST), repository.put_image(blob, diff_ids=(diff_id,))

    done = run(sandbox, "diff", honest, broken)

    assert done.exit_code == 4, done.output
    assert done.output.count("leads out of the root") == 1
    assert is_told_and_cheap(done), done


@pytest.mark.parametrize("spoil", [corrupted, truncated], ids=["corrupted", "truncated"])
def test_bytes_that_are_not_what_was_pushed_are_fetched_again(
    sandbox: Sandbox, repository: Repository, spoil: Callable[[Handler], None]
):
    image = repository.put_image(HONEST)
    with failing_registry(repository.address, Fault(spoil, kind="blob", method="GET", times=1)) as proxy:
        done = check(sandbox, image.replace(repository.address, proxy.address))

    assert "1 image judged" in done.output, done.output


@pytest.mark.skipif(not SOAK, reason="a registry is given a minute: `make soak`")
def test_a_registry_that_always_serves_other_bytes_is_told(sandbox: Sandbox, repository: Repository):
    image = repository.put_image(HONEST)
    with failing_registry(repository.address, Fault(corrupted, kind="blob", method="GET")) as proxy:
        done = check(sandbox, image.replace(repository.address, proxy.address))

    assert done.exit_code == 4, done.output
    assert "Traceback" not in done.output
    assert done.seconds < 90


@pytest.mark.parametrize("reference", ["@sha256:" + "0" * 64, ":never-pushed"])
def test_an_image_that_the_registry_does_not_have_is_told(sandbox: Sandbox, repository: Repository, reference: str):
    repository.put_image(HONEST)

    done = check(sandbox, f"{repository.address}/{repository.name}{reference}")

    assert done.exit_code == 4, done.output
    assert is_told_and_cheap(done), done


def test_an_index_without_the_platform_names_those_it_has(sandbox: Sandbox, repository: Repository):
    _, _, digest = repository.put_image(HONEST).partition("@")
    entry = {"mediaType": MANIFEST, "digest": digest, "size": 1, "platform": {"os": "linux", "architecture": "amd64"}}
    data = urllib.request.urlopen(
        urllib.request.Request(
            f"http://{repository.address}/v2/{repository.name}/manifests/{digest}", headers={"Accept": MANIFEST}
        ),
        timeout=60,
    ).read()
    index = repository.put_document(
        {"schemaVersion": 2, "mediaType": INDEX, "manifests": [{**entry, "size": len(data)}]}
    )
    image = f"{repository.address}/{repository.name}@{index['digest']}"

    absent, there = (
        check(sandbox, "--platform", "linux/s390x", image),
        check(sandbox, "--platform", "linux/amd64", image),
    )

    assert absent.exit_code == 4, absent.output
    assert "linux/s390x" in absent.output
    assert "linux/amd64" in absent.output
    assert is_told_and_cheap(absent), absent
    assert "1 image judged" in there.output, there.output


def test_every_entry_is_judged_where_it_would_be_and_nothing_is_written(sandbox: Sandbox, repository: Repository):
    image = repository.put_image(
        layer(
            tars.symlink("var/link", "/tmp"),
            tars.member("var/link/.env", b"A=b"),
            tars.member("/absolute/.env", b"A=b"),
            tars.hardlink("hard", "absolute/.env"),
        )
    )

    done = check(sandbox, image)

    assert done.exit_code == 3, done.output
    assert "absolute/.env" in done.output
    assert is_told_and_cheap(done), done
    assert not Path("/absolute").exists()
    assert not Path("/tmp/.env").exists()


def test_a_layer_that_takes_everything_away_leaves_what_was_under_it_to_be_found(
    sandbox: Sandbox, repository: Repository
):
    nothing = layer(tars.member(".wh..wh..opq"), tars.member(".wh.srv"), tars.member(".wh.never"))
    image = repository.put_image(layer(tars.member("srv/.env", b"A=b")), nothing)

    done = check(sandbox, image)

    assert done.exit_code == 3, done.output
    assert "srv/.env" in done.output
    assert is_told_and_cheap(done), done


def bomb(size: int) -> tuple[bytes, str]:
    """A tar of one file of zeros, a thousandth of its size as a blob, and its diff_id."""
    member_size = 64 << 20
    head = tars.member("zeros", kind=b"0", size=size)[: tars.BLOCK]
    zeros = gzip.compress(bytes(member_size), mtime=0)
    state = hashlib.sha256(head)
    for _ in range(size // member_size):
        state.update(_ZEROS)
    state.update(tars.END)
    blob = gzip.compress(head, mtime=0) + zeros * (size // member_size) + gzip.compress(tars.END, mtime=0)
    return blob, f"sha256:{state.hexdigest()}"


_ZEROS = bytes(64 << 20)


def test_a_layer_that_unpacks_to_a_thousand_times_its_size_takes_no_more_memory(
    sandbox: Sandbox, repository: Repository
):
    blob, diff_id = bomb(512 << 20)
    assert len(blob) < 700_000
    image = repository.put_image(blob, diff_ids=(diff_id,))

    done = check(sandbox, image)

    assert "1 image judged" in done.output, done.output
    assert done.peak_kb < MOST_KB
    assert done.seconds < 120


@pytest.mark.skipif(not SOAK, reason="reads 65 GB: `make soak`")
def test_a_layer_that_unpacks_to_more_than_any_image_is_refused(sandbox: Sandbox, repository: Repository):
    blob, _ = bomb(2 << 30)
    head, body = gzip.compress(tars.member("zeros", kind=b"0", size=65 << 30)[: tars.BLOCK], mtime=0), blob
    image = repository.put_image(head + body * 33, diff_ids=(digest_of(b"never reached"),))

    done = check(sandbox, image)

    assert done.exit_code == 4, done.output
    assert "the most that is read" in done.output or "unpacks to more than" in done.output
    assert done.peak_kb < MOST_KB


@pytest.fixture
def pulled(repository: Repository) -> Iterator[Callable[[str], str]]:
    """Pulls an image into the engine; it is gone afterwards."""
    references: list[str] = []

    def pull(reference: str) -> str:
        docker("pull", "--quiet", reference)
        references.append(reference)
        return reference

    yield pull
    if references:
        docker("image", "rm", "--force", *references, check=False)


def test_what_the_engine_takes_is_judged_there_the_same(
    sandbox: Sandbox, repository: Repository, pulled: Callable[[str], str]
):
    tricks = (
        tars.symlink("link", "/etc"),
        tars.member("/absolute/.env", b"A=b"),
        tars.hardlink("hard", "/absolute/.env"),
    )
    image = repository.put_image(
        layer(tars.member("srv/.env", b"A=b")), layer(*tricks), layer(tars.member(".wh..wh..opq"))
    )
    in_registry = check(sandbox, image)

    in_engine = check(sandbox, pulled(image))

    assert (in_engine.exit_code, in_engine.output) == (in_registry.exit_code, in_registry.output)
