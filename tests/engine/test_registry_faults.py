"""Registries that fail: what passes is waited out, what does not is told at once, and no tag is left on half an image.

Each service has a registry of its own: a proxy (`faults.py`) in front of the loopback registry that spoils some requests.
A part of the kinds of fault runs always, drawn by a seed; BUILDORCH_SOAK=1 runs all of them several times.
"""

from __future__ import annotations

import gzip
import hashlib
import http.client
import io
import itertools
import json
import os
import random
import secrets
import tarfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from faults import (
    ALWAYS,
    Fault,
    Proxy,
    close,
    corrupted,
    failing_registry,
    garbage,
    hang,
    longer,
    lost_answer,
    other_digest,
    other_length,
    reset,
    shorter,
    slow,
    status,
    truncated,
)
from sandbox import Sandbox, remove_images_of

from buildorch.buildx.failures import TREATMENTS
from buildorch.record import FailureKind
from buildorch.registry.repository import ACCEPT
from buildorch.services import Service

pytestmark = pytest.mark.engine
SOAK = bool(os.environ.get("BUILDORCH_SOAK"))
SEED = int(os.environ.get("BUILDORCH_TEST_SEED") or secrets.randbits(32))
ROUNDS = 4 if SOAK else 1
PASSING_DRAWN, LASTING_DRAWN, ASKED_DRAWN = (ALWAYS, ALWAYS, ALWAYS) if SOAK else (6, 6, 3)
AT_ONCE = 6
"""Services of one run."""
LONGEST_S = 60.0
RETRIES: int = Service.model_fields["retries"].default
"""A token that is not had, and the first look at a base, BuildKit does not ask for again itself."""
OUTPUT = "type=image,push=true,store=false"
"""As `--push`, but the engine keeps no name: to take one away again costs it seconds."""
FEW = 2
"""How many requests are spoilt before a fault is over."""
MANIFEST = "application/vnd.oci.image.manifest.v1+json"


@dataclass(frozen=True)
class Case:
    """One kind of fault, in one place."""

    name: str
    fault: Fault
    base: bool = False
    """Whether the service builds on an image that is behind the same proxy."""
    login: bool = False
    kind: str = ""
    """What the failure is told as; empty where there is to be none."""


def passing() -> Iterator[Case]:
    """Faults that are over after a few requests."""
    statuses = {
        "429": status(429),
        "429, Retry-After": status(429, Retry_After="1"),
        "500": status(500),
        "502": status(502),
        "503": status(503),
        "503, Retry-After": status(503, Retry_After="1"),
        "504": status(504),
    }
    lines = {"reset": reset, "closed": close, "hanging": hang, "slow": slow}
    bodies = {"cut": truncated, "corrupt": corrupted, "too short": shorter, "too long": longer}
    broken = statuses | lines
    places = {
        "push: HEAD blob": Fault(slow, method="HEAD", kind="blob", client="buildkit"),
        "push: POST upload": Fault(slow, method="POST", kind="upload"),
        "push: PUT upload": Fault(slow, method="PUT", kind="upload"),
        "push: HEAD manifest": Fault(slow, method="HEAD", kind="manifest", client="buildkit"),
        "push: PUT manifest": Fault(slow, method="PUT", kind="manifest"),
        "publish: HEAD blob": Fault(slow, method="HEAD", kind="blob", client="buildorch"),
        "publish: PUT manifest": Fault(slow, method="PUT", kind="manifest", client="buildorch"),
        "measure: GET manifest": Fault(slow, method="GET", kind="manifest", client="buildorch"),
        "measure: GET blob": Fault(slow, method="GET", kind="blob", client="buildorch"),
    }
    for (where, fault), (what, spoil) in itertools.product(places.items(), broken.items()):
        yield Case(f"{where}: {what}", replace(fault, spoil=spoil, times=FEW))
    for where in ("push: PUT upload", "push: PUT manifest", "publish: PUT manifest"):
        yield Case(f"{where}: done, unanswered", replace(places[where], spoil=lost_answer, times=1))
    for where in ("measure: GET manifest", "measure: GET blob"):
        for what, spoil in (bodies | {"no HTTP": garbage}).items():
            yield Case(f"{where}: {what}", replace(places[where], spoil=spoil, times=FEW))
    yield Case("push: POST upload: 429 for long", replace(places["push: POST upload"], spoil=status(429), times=8))
    yield Case("push: HEAD blob: no HTTP", replace(places["push: HEAD blob"], spoil=garbage, times=1))
    pulls = {
        "pull: HEAD manifest": Fault(slow, method="HEAD", kind="manifest", client="buildkit", path="/base/"),
        "pull: GET manifest": Fault(slow, method="GET", kind="manifest", client="buildkit"),
        "pull: GET blob": Fault(slow, method="GET", kind="blob", client="buildkit"),
        "resolve: HEAD manifest": Fault(slow, method="HEAD", kind="manifest", client="buildorch"),
    }
    for (where, fault), (what, spoil) in itertools.product(pulls.items(), broken.items()):
        yield Case(f"{where}: {what}", replace(fault, spoil=spoil, times=FEW), base=True)
    del bodies["corrupt"]  # what an engine takes in, it keeps: see `lasting`
    for where, (what, spoil) in itertools.product(("pull: GET manifest", "pull: GET blob"), bodies.items()):
        yield Case(f"{where}: {what}", replace(pulls[where], spoil=spoil, times=1), base=True)
    for what, spoil in {"length": other_length, "no HTTP": garbage}.items():
        yield Case(f"resolve: HEAD manifest: {what}", replace(pulls["resolve: HEAD manifest"], spoil=spoil), base=True)
    for (what, spoil), base in itertools.product(broken.items(), (False, True)):
        where = "pull and push: token" if base else "push: token"
        yield Case(f"{where}: {what}", Fault(spoil, kind="token", times=FEW), base=base, login=True)


def lasting() -> Iterator[Case]:
    """Refusals, which another try would not change."""
    codes = {401: "auth", 403: "auth", 404: "not_found"}
    places = {
        "push: POST upload": Fault(slow, method="POST", kind="upload"),
        "push: PUT upload": Fault(slow, method="PUT", kind="upload"),
        "push: PUT manifest": Fault(slow, method="PUT", kind="manifest"),
        "pull: HEAD manifest": Fault(slow, method="HEAD", kind="manifest", path="/base/"),
        "pull: GET blob": Fault(slow, method="GET", kind="blob", client="buildkit"),
    }
    for (where, fault), (code, kind) in itertools.product(places.items(), codes.items()):
        yield Case(f"{where}: {code}", replace(fault, spoil=status(code)), base=where.startswith("pull"), kind=kind)
    for code in codes:
        for kind in ("manifest", "blob"):
            fault = Fault(status(code), method="GET", kind=kind, client="buildorch")
            yield Case(f"measure: GET {kind}: {code}", fault, kind="unmeasured")
        yield Case(f"push: token: {code}", Fault(status(code), kind="token"), login=True, kind="auth")
    yield Case("push: PUT manifest: 507", replace(places["push: PUT manifest"], spoil=status(507)), kind="no_space")
    yield Case("push: PUT manifest: 413", replace(places["push: PUT manifest"], spoil=status(413)), kind="other")
    for where, method in (("HEAD blob", "HEAD"), ("PUT manifest", "PUT")):
        for code in codes:
            fault = Fault(
                status(code), method=method, kind="blob" if method == "HEAD" else "manifest", client="buildorch"
            )
            yield Case(f"publish: {where}: {code}", fault, kind="unpublished")
    for kind in ("manifest", "blob"):
        fault = Fault(corrupted, method="GET", kind=kind, client="buildkit", times=1)
        yield Case(f"pull: GET {kind}: corrupt", fault, base=True, kind="damaged")
    lying = Fault(other_digest, method="HEAD", kind="manifest", path="/base/")
    yield Case("resolve and pull: another digest", lying, base=True, kind="not_found")


def asked() -> Iterator[Case]:
    """Faults while a registry is asked whether images are still there; a few requests, or one that is not whole."""
    for kind in ("manifest", "blob"):
        for what, spoil in {
            "429": status(429),
            "429, Retry-After": status(429, Retry_After="1"),
            "500": status(500),
            "502": status(502),
            "503": status(503),
            "504": status(504),
            "slow": slow,
        }.items():
            yield Case(f"HEAD {kind}: {what}", Fault(spoil, "HEAD", kind, "buildorch", times=FEW))
        for what, spoil in {"reset": reset, "closed": close, "no HTTP": garbage}.items():
            yield Case(f"HEAD {kind}: {what}", Fault(spoil, "HEAD", kind, "buildorch", times=1))


def test_there_are_at_least_thirty_kinds_of_fault():
    names = [case.name for case in (*passing(), *lasting(), *asked())]

    assert len(set(names)) == len(names) > 150


# --- the runs ---------------------------------------------------------------------------------------------------


@dataclass
class Fleet:
    """A project with one service for each case, each behind a proxy of its own."""

    sandbox: Sandbox
    registry: str
    stack: ExitStack
    cases: dict[str, Case] = field(default_factory=dict)
    proxies: dict[str, Proxy] = field(default_factory=dict)

    def add(self, cases: Sequence[Case], retries: int) -> None:
        """Write the services and start the proxies."""
        lines = ["services:"]
        for number, case in enumerate(cases):
            name = f"s{number}"
            proxy = self.stack.enter_context(failing_registry(self.registry, case.fault, login=case.login))
            first = "scratch"
            if case.base:
                repository = f"{self.sandbox.name}/base/{name}"
                put_image(self.registry, repository, "1")
                first = f"{proxy.address}/{repository}:1"
            self.sandbox.service(name, f"FROM {first}\nCOPY data /made\n", data=secrets.token_hex(99))
            lines.append(f"  {name}: {{registry: '{proxy.address}'}}")
            self.cases[name], self.proxies[name] = case, proxy
        self.sandbox.services(f"defaults: {{retries: {retries}, outputs: ['{OUTPUT}']}}\n" + "\n".join(lines) + "\n")

    def run(self) -> dict[str, Any]:
        """Build and push them all; the run's record."""
        done = self.sandbox.command("build-all", "--push", f"-j{AT_ONCE}")
        assert "Traceback" not in done.stderr, done.stderr
        assert done.returncode in {0, 1, 4}, done.stderr
        record = self.sandbox.record
        assert done.returncode == record["exit_code"]
        return record


@pytest.fixture
def fleet(registry: str, tmp_path: Any) -> Iterator[Callable[[Sequence[Case]], Fleet]]:
    """Makes projects; whatever came of them, no tag of theirs may name an image that is not whole."""
    made: list[Fleet] = []
    with ExitStack() as stack:

        def make(cases: Sequence[Case], retries: int = RETRIES) -> Fleet:
            root = tmp_path / f"project-{len(made)}"
            root.mkdir()
            project = Fleet(Sandbox(root, f"t-{secrets.token_hex(4)}"), registry, stack)
            made.append(project)
            project.add(cases, retries)
            return project

        yield make
    for project in made:
        for name in project.cases:
            remove(registry, f"{project.sandbox.name}/{name}")
            remove(registry, f"{project.sandbox.name}/base/{name}")
        remove_images_of(project.sandbox.name)


def drawn(cases: Iterator[Case], most: int) -> list[list[Case]]:
    """Some of the cases or all, in runs of `AT_ONCE`."""
    chance = random.Random(SEED)
    everything = list(cases)
    batches = []
    for _ in range(ROUNDS):
        some = chance.sample(everything, min(most, len(everything)))
        batches += [some[start : start + AT_ONCE] for start in range(0, len(some), AT_ONCE)]
    return batches


def test_a_registry_that_fails_for_the_moment_costs_time_and_no_build(fleet: Callable[[Sequence[Case]], Fleet]):
    bad, took, met = [], [], 0
    for cases in drawn(passing(), PASSING_DRAWN):
        project = fleet(cases)
        begun = time.monotonic()
        record = project.run()
        took.append(time.monotonic() - begun)
        for name, case in project.cases.items():
            service = record["services"][name]
            met += bool(project.proxies[name].spoilt)
            if service["status"] != "built" or service["duration_s"] > LONGEST_S:
                bad.append((case.name, service["status"], service["attempts"], service["error"]))
            check_whole(project, name)
            assert service["status"] != "built" or service["digest"] in tags(project, name).values()
    runs = sum(len(batch) for batch in drawn(passing(), PASSING_DRAWN))
    print(f"\nseed {SEED}: {runs} services, {met} met their fault, {runs - len(bad)} built,", end=" ")
    print(f"runs of {AT_ONCE} took {min(took):.1f} to {max(took):.1f} s")
    for line in bad:
        print("not built:", line)

    assert met >= runs * 0.9
    assert len(bad) <= runs * 0.01, bad


def test_a_registry_that_refuses_is_told_at_once_with_its_kind(fleet: Callable[[Sequence[Case]], Fleet]):
    runs = 0
    for cases in drawn(lasting(), LASTING_DRAWN):
        project = fleet(cases)
        record = project.run()
        codes = set()
        for name, case in project.cases.items():
            runs += 1
            service = record["services"][name]
            error = service["error"]
            assert error, (SEED, case.name, service)
            found = (error["kind"], service["attempts"], error["transient"])
            assert found == (case.kind, 1, False), (SEED, case.name, error)
            assert error["exit_code"] == TREATMENTS[FailureKind(case.kind)].exit_code, (SEED, case.name)
            assert error["message"], case.name
            assert error["hint"], case.name
            codes.add(error["exit_code"])
            check_whole(project, name)
        assert record["exit_code"] in codes
    print(f"\nseed {SEED}: {runs} services refused")


def test_a_registry_that_fails_for_the_moment_while_it_is_asked_for_images_costs_no_build(
    fleet: Callable[[Sequence[Case]], Fleet],
):
    runs, met = 0, 0
    for cases in drawn(asked(), ASKED_DRAWN):
        project = fleet([replace(case, fault=replace(case.fault, times=0)) for case in cases])
        first = project.run()
        assert first["exit_code"] == 0, (SEED, first)
        for name, case in zip(project.cases, cases, strict=True):
            project.proxies[name].meet(case.fault)

        again = project.run()

        for name, case in zip(project.cases, cases, strict=True):
            runs, met = runs + 1, met + bool(project.proxies[name].spoilt)
            assert again["services"][name]["status"] == "skipped", (SEED, case.name, again["services"][name]["reason"])
            check_whole(project, name)
    print(f"\nseed {SEED}: {runs} services, {met} met their fault, all skipped")
    assert met == runs, SEED


def test_a_registry_that_fails_for_good_is_tried_as_often_as_was_asked_for_and_then_told(
    fleet: Callable[[Sequence[Case], int], Fleet],
):
    spoils = {"503": status(503), "reset": reset, "429": status(429)}
    places = [Fault(spoil, method="HEAD", kind="manifest", path="/base/") for spoil in spoils.values()]
    project = fleet([Case(what, fault, base=True) for what, fault in zip(spoils, places, strict=True)], 1)

    record = project.run()

    found = [(service["error"]["kind"], service["attempts"]) for service in record["services"].values()]
    assert found == [("registry", 2), ("registry", 2), ("rate_limited", 2)]
    assert record["exit_code"] == 4


# --- the registry itself ----------------------------------------------------------------------------------------


def ask(registry: str, method: str, path: str, body: bytes | None = None, kind: str = "") -> tuple[int, Any, bytes]:
    connection = http.client.HTTPConnection(registry, timeout=30)
    try:
        headers = {"Content-Type": kind} if kind else {"Accept": ACCEPT}
        connection.request(method, path, body, headers)
        response = connection.getresponse()
        return response.status, response.headers, response.read()
    finally:
        connection.close()


def put_blob(registry: str, repository: str, data: bytes) -> dict[str, Any]:
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    _, headers, _ = ask(registry, "POST", f"/v2/{repository}/blobs/uploads/")
    place = headers["Location"].partition(registry)[2]
    code, _, _ = ask(registry, "PUT", f"{place}&digest={digest}", data, "application/octet-stream")
    assert code == 201
    return {"digest": digest, "size": len(data)}


def put_image(registry: str, repository: str, tag: str) -> None:
    """An image that nobody has seen: one layer with a file of random bytes."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        entry = tarfile.TarInfo("base")
        entry.size = 5000
        tar.addfile(entry, io.BytesIO(secrets.token_bytes(5000)))
    layer = put_blob(registry, repository, gzip.compress(archive.getvalue()))
    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": {},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(archive.getvalue()).hexdigest()}"]},
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": {
            "mediaType": "application/vnd.oci.image.config.v1+json",
            **put_blob(registry, repository, json.dumps(config).encode()),
        },
        "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", **layer}],
    }
    code, _, _ = ask(registry, "PUT", f"/v2/{repository}/manifests/{tag}", json.dumps(manifest).encode(), MANIFEST)
    assert code == 201


def tags(project: Fleet, service: str) -> dict[str, str]:
    """Tag -> the digest of what the registry holds under it."""
    repository = f"{project.sandbox.name}/{service}"
    code, _, body = ask(project.registry, "GET", f"/v2/{repository}/tags/list")
    found = json.loads(body).get("tags") or [] if code == 200 else []
    return {tag: sha256(ask(project.registry, "GET", f"/v2/{repository}/manifests/{tag}")[2]) for tag in found}


def sha256(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def check_whole(project: Fleet, service: str) -> None:
    """Whatever a tag names is there with all its parts, each with the bytes of its digest."""
    repository = f"{project.sandbox.name}/{service}"
    waiting = [("manifests", digest) for digest in tags(project, service).values()]
    while waiting:
        kind, digest = waiting.pop()
        code, _, body = ask(project.registry, "GET", f"/v2/{repository}/{kind}/{digest}")
        assert (code, sha256(body)) == (200, digest), (SEED, project.cases[service].name, kind, digest)
        if kind == "manifests":
            document = json.loads(body)
            waiting += [("manifests", one["digest"]) for one in document.get("manifests", [])]
            parts = [*document.get("layers", []), *([document["config"]] if "config" in document else [])]
            waiting += [("blobs", one["digest"]) for one in parts]


def remove(registry: str, repository: str) -> None:
    """Remove every tag of a repository."""
    code, _, body = ask(registry, "GET", f"/v2/{repository}/tags/list")
    for tag in json.loads(body).get("tags") or [] if code == 200 else []:
        _, headers, _ = ask(registry, "HEAD", f"/v2/{repository}/manifests/{tag}")
        ask(registry, "DELETE", f"/v2/{repository}/manifests/{headers['Docker-Content-Digest']}")
