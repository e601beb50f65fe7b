"""What is skipped, what is built and what is said of it, on a real engine and a real registry."""

from __future__ import annotations

import dataclasses
import hashlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from oracle import MANIFESTS
from sandbox import BASE, Sandbox, docker

from buildorch.oci import ImageReference
from buildorch.record import Report, ServiceRecord

pytestmark = pytest.mark.engine
PLACES = pytest.mark.parametrize("output", ["load", "push"])
ATTESTED = "attestations: {provenance: min}"


def said(report: Report) -> dict[str, tuple[str, str]]:
    """Service -> status and reason."""
    return {name: (record.status, record.reason) for name, record in report.services.items()}


@pytest.fixture
def prefix(request: pytest.FixtureRequest) -> str:
    """The registry to name images by, for both outputs: without one, only what is loaded can be tested."""
    pushes = getattr(request.node, "callspec", None) and request.node.callspec.params.get("output") == "push"
    return str(request.getfixturevalue("registry")) if pushes else os.environ.get("BUILDORCH_LOCAL_REGISTRY", "")


@pytest.fixture
def forget(registry: str) -> Iterator[Callable[[str, str], None]]:
    """Has what was pushed removed from the registry at the end: a name and a digest."""
    mine: set[tuple[str, str]] = set()

    def later(name: str, digest: str) -> None:
        mine.add((name, digest))

    yield later
    for name, digest in mine:
        delete(f"{registry}/{name}", digest)


def delete(name: str, digest: str) -> int:
    """Remove a manifest from its registry, and with it every tag that names it."""
    reference = ImageReference.parse(f"{name}:any")
    connection = http.client.HTTPConnection(reference.registry, timeout=10)
    connection.request("DELETE", f"/v2/{reference.repository}/manifests/{digest}")
    status = connection.getresponse().status
    connection.close()
    return status


def named(output: str, reference: str) -> str | None:
    """The digest that a name has at its destination; None where there is no such name."""
    if output == "load":
        found = docker("image", "inspect", "--format={{.Id}}", reference, check=False).strip()
        return found or None
    image = ImageReference.parse(reference)
    connection = http.client.HTTPConnection(image.registry, timeout=10)
    connection.request("HEAD", f"/v2/{image.repository}/manifests/{image.tag}", headers={"Accept": MANIFESTS})
    answer = connection.getresponse()
    connection.close()
    return answer.getheader("Docker-Content-Digest") if answer.status == 200 else None


def lose(output: str, record: ServiceRecord) -> None:
    """What people do to an image."""
    if output == "load":
        docker("rmi", record.reference)
    else:
        assert delete(record.reference.rpartition(":")[0], record.digest) == 202


def app(sandbox: Sandbox, prefix: str, keys: str = "", *, data: str = "") -> None:
    """A project of one small service."""
    sandbox.service("app", "FROM scratch\nCOPY data /data\n", data=data or sandbox.name)
    sandbox.services(f"services: {{app: {{registry: '{prefix}'{keys and f', {keys}'}}}}}\n")


@PLACES
def test_what_did_not_change_is_skipped_and_its_record_is_that_of_its_build(sandbox: Sandbox, prefix: str, output: str):
    app(sandbox, prefix, "size: {max: 1MB}")
    built = sandbox.build(output=output).raise_for_status().services["app"]

    report = sandbox.build(output=output).raise_for_status()

    skipped = report.services["app"]
    differing = {
        field.name
        for field in dataclasses.fields(ServiceRecord)
        if getattr(built, field.name) != getattr(skipped, field.name)
    }
    assert said(report) == {"app": ("skipped", "nothing changed")}
    assert differing <= {
        "status", "reason", "started_at", "finished_at", "duration_s", "steps", "timeline", "attempts", "unchanged"
    }  # fmt: skip
    assert (skipped.unchanged, skipped.digest, named(output, skipped.reference)) == (True, built.digest, built.digest)


@PLACES
def test_an_image_that_is_gone_is_built_and_the_reason_says_so(sandbox: Sandbox, prefix: str, output: str):
    app(sandbox, prefix)
    before = sandbox.build(output=output).raise_for_status().services["app"]
    lose(output, before)
    assert named(output, before.reference) is None

    record = sandbox.build(output=output).raise_for_status().services["app"]

    assert (record.status, record.reason.startswith(f"image gone: {before.reference} is not in the ")) == (
        "built",
        True,
    )
    assert named(output, record.reference) == record.digest == before.digest
    assert sandbox.build(output=output).services["app"].status == "skipped"


@pytest.fixture
def base(sandbox: Sandbox, forget: Callable[[str, str], None], registry: str) -> Callable[[str], str]:
    """Push a base image that holds one word, under a tag of the loopback registry; gives its digest."""

    def push(word: str) -> str:
        name = f"{sandbox.name}/base"
        sandbox.write("base/Dockerfile", "FROM scratch\nCOPY word /word\n")
        sandbox.write("base/word", word)
        output = f"--output=type=image,name={registry}/{name}:v,push=true,store=false"
        docker("buildx", "build", "--provenance=false", output, str(sandbox.root / "base"))
        digest = named("push", f"{registry}/{name}:v")
        assert digest
        forget(name, digest)
        return digest

    return push


def on_base(sandbox: Sandbox, registry: str) -> str:
    """A service on that base; gives the base's name."""
    image = f"{registry}/{sandbox.name}/base:v"
    sandbox.service("app", f"FROM {image}\nCOPY Dockerfile /\n")
    sandbox.services("services: {app: }\n")
    return image


def test_a_moved_base_is_built_upon_without_a_lock_and_the_reason_names_it(
    sandbox: Sandbox, registry: str, base: Callable[[str], str]
):
    image = on_base(sandbox, registry)
    old = base("old")
    first = sandbox.build().raise_for_status().services["app"]
    new = base("new")

    record = sandbox.build().raise_for_status().services["app"]

    assert (first.bases, record.bases) == ({image: old}, {image: new})
    assert record.status == "built"
    assert record.reason == f"inputs changed: base {image} ({old[:19]}, now {new[:19]})"
    assert sandbox.read_file(record.reference, "/word") == b"new"


@pytest.mark.parametrize("options", [{"frozen": True}, {}], ids=["frozen", "locked"])
def test_a_moved_base_changes_nothing_where_it_is_locked(
    sandbox: Sandbox, registry: str, base: Callable[[str], str], options: dict[str, bool]
):
    image = on_base(sandbox, registry)
    old = base("old")
    assert sandbox.command("lock").returncode == 0
    first = sandbox.build(**options).raise_for_status().services["app"]
    base("new")

    second = sandbox.build(**options).raise_for_status().services["app"]
    forced = sandbox.build(**options, force=True).raise_for_status().services["app"]

    assert (second.status, second.digest) == ("skipped", first.digest)
    assert (forced.status, forced.digest, forced.unchanged) == ("built", first.digest, True)
    assert forced.bases == {image: old}
    assert sandbox.read_file(forced.reference, "/word") == b"old"


@PLACES
def test_a_new_tag_is_put_on_the_image_that_is_there_and_nothing_is_built(sandbox: Sandbox, prefix: str, output: str):
    app(sandbox, prefix, "tags: [one]")
    first = sandbox.build(output=output).raise_for_status().services["app"]
    app(sandbox, prefix, "tags: [two, three]")

    record = sandbox.build(output=output).raise_for_status().services["app"]

    name = first.reference.rpartition(":")[0]
    assert (record.status, record.digest) == ("skipped", first.digest)
    assert record.references == (f"{name}:two", f"{name}:three")
    assert [named(output, f"{name}:{tag}") for tag in ("one", "two", "three")] == [first.digest] * 3


TOLD = """
import sys
started = []
sys.addaudithook(lambda event, args: started.append(str(args)) if event in EVENTS else None)
from buildorch.cli import main
try:
    main()
finally:
    print(*started, sep="\\n", file=open(LOG, "w"))
"""


def started(sandbox: Sandbox, *arguments: str) -> list[str]:
    """Every process that a run of the command starts, by the interpreter's own audit events."""
    log = sandbox.root.parent / "started"
    events = ("subprocess.Popen", "os.posix_spawn", "os.fork", "os.forkpty", "os.exec", "os.system", "os.spawn")
    program = f"EVENTS = {events!r}\nLOG = {str(log)!r}\n{TOLD}"
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments], cwd=sandbox.root, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return log.read_text().splitlines()


@PLACES
def test_a_run_that_skips_everything_starts_no_process_of_dockers(sandbox: Sandbox, prefix: str, output: str):
    names = ("a", "b", "c")
    for name in names:
        sandbox.service(name, "FROM scratch\nCOPY Dockerfile /\n")
    sandbox.services(f"defaults: {{registry: '{prefix}'}}\nservices: {{a: , b: , c: {{contexts: {{x: service:a}}}}}}\n")
    flag = f"--{output}"

    building = [line for line in started(sandbox, "build-all", flag) if "docker" in line]
    skipping = [line for line in started(sandbox, "build-all", flag) if "git" not in line.split(",")[0]]
    retagging = [
        line for line in started(sandbox, "build-all", flag, "--set", "*.tags=[v2]") if "git" not in line.split(",")[0]
    ]

    assert len([line for line in building if "--metadata-file" in line]) == 3
    assert (skipping, retagging) == ([], [])
    assert {record["status"] for record in sandbox.record["services"].values()} == {"skipped"}


def test_a_run_that_skips_everything_loads_neither_what_parses_nor_what_builds(sandbox: Sandbox):
    app(sandbox, "", "size: {max: 1MB}")
    file = str(sandbox.root / "services.yaml")
    command = [sys.executable, "-X", "importtime", "-m", "buildorch", "build-all", "-f", file]

    building, skipping = (
        subprocess.run([*command, "--progress", "quiet"], capture_output=True, text=True, check=True) for _ in range(2)
    )

    heavy = ("pydantic", "ruamel.yaml", "anyio", "structlog", "rich")
    assert {name for name in heavy if f" {name}\n" in building.stderr} >= {"pydantic", "ruamel.yaml", "anyio"}
    assert {name for name in heavy if f" {name}\n" in skipping.stderr} == set()
    assert sandbox.record["services"]["app"]["status"] == "skipped"


@pytest.mark.parametrize(("options", "reason"), [({"force": True}, "--force"), ({"no_cache": True}, "--no-cache")])
def test_what_is_asked_for_is_built_whatever_did_not_change(sandbox: Sandbox, options: dict[str, bool], reason: str):
    app(sandbox, "")
    first = sandbox.build().raise_for_status().services["app"]

    record = sandbox.build(**options).raise_for_status().services["app"]

    assert (record.status, record.reason) == ("built", reason)
    assert record.steps.executed == (1 if "no_cache" in options else 0)
    assert first.digest


def test_an_image_older_than_its_max_age_is_built(sandbox: Sandbox):
    app(sandbox, "", "max_age: 1h")
    sandbox.build().raise_for_status()
    young = sandbox.build().services["app"]
    app(sandbox, "", "max_age: 0.1")
    time.sleep(0.2)

    record = sandbox.build().raise_for_status().services["app"]

    assert young.status == "skipped"
    assert (record.status, record.reason) == ("built", f"older than max_age: built {young.built_at}")


def test_an_added_url_is_built_every_time_unless_its_checksum_is_given(sandbox: Sandbox, registry: str):
    url = f"http://{registry}/v2/"  # what a registry answers there is always {}
    checksum = f"--checksum=sha256:{hashlib.sha256(b'{}').hexdigest()}"
    sandbox.service("sure", f"FROM scratch\nADD {checksum} {url} /file\n")
    sandbox.service("unsure", f"FROM scratch\nADD {url} /file\n")
    sandbox.services("services: {sure: , unsure: }\n")
    sandbox.build().raise_for_status()

    report = sandbox.build().raise_for_status()

    assert report.services["sure"].status == "skipped"
    assert report.services["unsure"].status == "built"
    assert report.services["unsure"].reason.startswith("not provable: ")
    assert url in report.services["unsure"].reason


def answers(port: int) -> bool:
    with socket.socket() as stream:
        return stream.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture
def repository(tmp_path: Path, registry: str) -> Iterator[tuple[str, str]]:
    """A git repository that an engine on this machine can fetch from, and its commit."""
    source = tmp_path / "served" / "source.git"
    source.mkdir(parents=True)
    (source / "data").write_text("by git\n")
    identity = ("-c", "user.name=nobody", "-c", "user.email=nobody@example.invalid")
    for arguments in (
        ("init", "--quiet", "--initial-branch=main"),
        ("add", "data"),
        (*identity, "commit", "--quiet", "-m", "one"),
        ("config", "uploadpack.allowAnySHA1InWant", "true"),
    ):
        subprocess.run(["git", *arguments], cwd=source, check=True)
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=source, check=True, capture_output=True, text=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = ["--reuseaddr", "--listen=127.0.0.1", f"--port={port}", f"--base-path={source.parent}", "--export-all"]
    daemon = subprocess.Popen(["git", "daemon", *options], start_new_session=True, stderr=subprocess.DEVNULL)
    try:
        end = time.monotonic() + 10
        while not answers(port):
            assert time.monotonic() < end, "git daemon does not answer"
            time.sleep(0.05)
        yield f"git://127.0.0.1:{port}/source.git", commit.stdout.strip()
    finally:
        os.killpg(daemon.pid, signal.SIGTERM)
        daemon.wait()


def test_a_git_context_by_branch_is_built_every_time_and_one_by_commit_is_not(
    sandbox: Sandbox, repository: tuple[str, str]
):
    url, commit = repository
    for name in ("branch", "commit"):
        sandbox.service(name, "FROM scratch\nCOPY --from=src data /data\n")
    sandbox.services(
        f"services:\n  branch: {{contexts: {{src: '{url}#main'}}}}\n  commit: {{contexts: {{src: '{url}#{commit}'}}}}\n"
    )
    sandbox.build().raise_for_status()

    report = sandbox.build().raise_for_status()

    assert said(report) == {
        "branch": ("built", f"not provable: the context src is {url}#main, which may change unseen"),
        "commit": ("skipped", "nothing changed"),
    }


@PLACES
def test_a_build_that_gives_the_same_image_keeps_the_digest_that_is_deployed(
    sandbox: Sandbox, prefix: str, output: str
):
    app(sandbox, prefix, f"{ATTESTED}, tags: [one, two]")
    first = sandbox.build(output=output).raise_for_status().services["app"]

    again = sandbox.build(output=output, force=True).raise_for_status().services["app"]

    assert (first.unchanged, again.status, again.unchanged) == (False, "built", True)
    assert first.index_digest
    assert (again.digest, again.index_digest) == (first.digest, first.index_digest)
    assert [named(output, reference) for reference in again.references] == [first.digest] * 2


def test_the_engine_keeps_the_digest_of_an_image_that_has_another_name_too(sandbox: Sandbox):
    app(sandbox, "", f"{ATTESTED}, tags: [one]")
    first = sandbox.build().raise_for_status().services["app"]
    app(sandbox, "", f"{ATTESTED}, tags: [two, three]")

    again = sandbox.build(force=True).raise_for_status().services["app"]

    assert (again.status, again.unchanged, again.digest) == ("built", True, first.digest)
    assert [named("load", reference) for reference in again.references] == [first.digest] * 2
    assert sandbox.read_file(again.reference, "/data") == sandbox.name.encode()
    assert sandbox.build().services["app"].status == "skipped"


@PLACES
def test_what_builds_on_a_service_that_came_out_the_same_is_built_on_it_in_the_same_run_and_the_next(
    sandbox: Sandbox, prefix: str, output: str
):
    base_and_app(sandbox, f"registry: '{prefix}', {ATTESTED}")
    first = sandbox.build(output=output).raise_for_status().services

    again = sandbox.build(output=output, force=True).raise_for_status().services
    third = sandbox.build(output=output).raise_for_status().services
    sandbox.write("services/app/Dockerfile", "FROM base\nCOPY Dockerfile /other\n")
    fourth = sandbox.build(output=output).raise_for_status().services

    assert {one.status for one in again.values()} == {"built"}
    assert {name: one.platforms for name, one in again.items()} == {name: one.platforms for name, one in first.items()}
    assert {one.status for one in third.values()} == {"skipped"}
    assert {name: one.status for name, one in fourth.items()} == {"base": "skipped", "app": "built"}
    assert fourth["app"].bases == {"base": again["base"].digest}
    assert named(output, first["base"].reference) == again["base"].digest


def test_what_starts_after_its_base_got_its_old_digest_back_is_built_on_that(sandbox: Sandbox):
    base_and_app(sandbox, f"{ATTESTED}, tags: [one]")
    first = sandbox.build().raise_for_status().services
    # One after another: the slow one stands between the base, whose old index still has its first tag, and what builds
    # on it.
    sandbox.service("slow", f"FROM {BASE}\nRUN echo {sandbox.name}; sleep 5\n")
    base_and_app(sandbox, f"{ATTESTED}, tags: [two]", between="slow")

    again = sandbox.build(force=True, jobs=1).services

    assert (again["base"].unchanged, again["base"].digest) == (True, first["base"].digest)
    assert (again["app"].status, again["app"].error) == ("built", None)
    assert again["app"].bases["base"] == first["base"].digest


def base_and_app(sandbox: Sandbox, defaults: str, *, between: str = "") -> None:
    """A service and one on it; `between` is built after the first and before the second."""
    sandbox.service("base", "FROM scratch\nCOPY data /data\n", data=sandbox.name)
    sandbox.service("app", "FROM base\nCOPY Dockerfile /app\n")
    slow = f"  {between}:\n" if between else ""
    needs = f", slow: service:{between}" if between else ""
    sandbox.services(
        f"defaults: {{{defaults}}}\nservices:\n  base:\n{slow}  app: {{contexts: {{base: service:base{needs}}}}}\n"
    )


def test_a_policy_that_changed_judges_the_image_that_is_there(sandbox: Sandbox):
    app(sandbox, "", "size: {max: 1MB}", data="x" * 20_000)
    first = sandbox.build().raise_for_status().services["app"]
    app(sandbox, "", "size: {max: 10kB}", data="x" * 20_000)

    done = sandbox.command("build-all")

    record = sandbox.record["services"]["app"]
    assert (done.returncode, sandbox.record["exit_code"]) == (3, 3)
    assert (record["status"], record["digest"]) == ("skipped", first.digest)
    assert [finding["rule"] for finding in record["findings"]] == ["size"]
    assert record["budget"]["max_bytes"] == 10_000


def test_what_builds_on_a_changed_service_is_built_and_says_so_and_the_rest_is_skipped(sandbox: Sandbox):
    sandbox.service("base", "FROM scratch\nCOPY data /data\n", data="one\n")
    sandbox.service("app", "FROM base\nCOPY Dockerfile /app\n")
    sandbox.service("other", "FROM scratch\nCOPY Dockerfile /\n")
    sandbox.services("services:\n  base:\n  app: {contexts: {base: service:base}}\n  other:\n")
    sandbox.build().raise_for_status()
    quiet = sandbox.build().raise_for_status()
    sandbox.write("services/base/data", "two\n")

    report = sandbox.build().raise_for_status()

    assert {one.status for one in quiet.services.values()} == {"skipped"}
    assert said(report) == {
        "base": ("built", "inputs changed: data"),
        "app": ("built", "a service it builds on is built: base"),
        "other": ("skipped", "nothing changed"),
    }
    assert sandbox.read_file(report.services["app"].reference, "/data") == b"two\n"
    assert {one.status for one in sandbox.build().services.values()} == {"skipped"}


def test_a_service_whose_base_was_built_in_a_run_of_its_own_is_built_on_that(sandbox: Sandbox):
    sandbox.service("base", "FROM scratch\nCOPY data /data\n", data="one\n")
    sandbox.service("app", "FROM base\nCOPY Dockerfile /app\n")
    sandbox.services("services:\n  base:\n  app: {contexts: {base: service:base}}\n")
    sandbox.build().raise_for_status()
    sandbox.write("services/base/data", "two\n")
    sandbox.build(services=["base"]).raise_for_status()

    report = sandbox.build().raise_for_status()

    assert said(report) == {
        "base": ("skipped", "nothing changed"),
        "app": ("built", "inputs changed: service base"),
    }
    assert sandbox.read_file(report.services["app"].reference, "/data") == b"two\n"


def test_two_checkouts_have_equal_fingerprints_and_never_take_the_others_image_for_theirs(
    sandbox: Sandbox, tmp_path: Path
):
    other = Sandbox(tmp_path / "elsewhere" / "checkout", sandbox.name)
    for checkout in (sandbox, other):
        app(checkout, "", data="equal\n")
    first, second = (one.build().raise_for_status().services["app"] for one in (sandbox, other))
    other.write("services/app/data", "other\n")
    theirs = other.build().raise_for_status().services["app"]

    ours = sandbox.build().raise_for_status().services["app"]

    assert (first.fingerprint, first.digest) == (second.fingerprint, second.digest)
    assert theirs.digest != ours.digest == first.digest
    assert sandbox.read_file(ours.reference, "/data") == b"equal\n"
    back = other.build().raise_for_status().services["app"]
    assert back.digest == theirs.digest
    assert sandbox.read_file(back.reference, "/data") == b"other\n"


def test_a_run_that_was_killed_leaves_what_it_recorded_and_the_next_builds_the_rest(sandbox: Sandbox):
    for name in ("one", "two"):
        sandbox.service(name, "FROM scratch\nCOPY data /data\n", data=f"{name} {sandbox.name}\n")
    sandbox.service("slow", f"FROM {BASE}\nCOPY wait /wait\nRUN echo {sandbox.name}; sleep $(cat /wait)\n", wait="60")
    sandbox.services("services: {one: , two: , slow: }\n")
    running = sandbox.start("build-all", "--progress", "json", "-j", "3")
    finished: set[str] = set()
    while len(finished) < 2:
        line = running.stderr.readline()
        assert line, running.communicate()
        event = json.loads(line)
        if event["event"] == "service_finished":
            finished.add(event["service"])
    os.kill(running.pid, signal.SIGKILL)
    running.communicate(timeout=30)
    sandbox.write("services/slow/wait", "0")

    report = sandbox.build().raise_for_status()

    assert finished == {"one", "two"}
    assert said(report) == {
        "one": ("skipped", "nothing changed"),
        "two": ("skipped", "nothing changed"),
        "slow": ("built", "first build"),
    }
