"""Names move last: to what the registry holds whole, and, on request, only if all of a run's services are good."""

from __future__ import annotations

import http.client
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sandbox import BASE, Sandbox, docker

from buildorch.events import ServiceFinished, SolveFinished
from buildorch.execute import Stop
from buildorch.pipeline import BuildRequest, stream
from buildorch.services import STAGING_TAG

pytestmark = pytest.mark.engine
MANIFESTS = (
    "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, "
    "application/vnd.docker.distribution.manifest.v2+json"
)


@pytest.fixture
def names(sandbox: Sandbox, registry: str) -> Iterator[Callable[[str], dict[str, str]]]:
    """What the registry's tags of a service name; all of it goes when the test ends."""
    asked: dict[str, None] = {}
    connection = http.client.HTTPConnection(registry, timeout=30)

    def ask(path: str, method: str = "GET") -> tuple[int, str, bytes]:
        connection.request(method, f"/v2/{path}", headers={"Accept": MANIFESTS})
        answer = connection.getresponse()
        return answer.status, answer.getheader("Docker-Content-Digest", ""), answer.read()

    def found(service: str) -> dict[str, str]:
        repository = f"{sandbox.name}/{service}"
        status, _, body = ask(f"{repository}/tags/list")
        if status == 404:
            return {}
        digests = {tag: ask(f"{repository}/manifests/{tag}", "HEAD")[1] for tag in json.loads(body)["tags"] or ()}
        asked.update(dict.fromkeys(f"{repository}/manifests/{digest}" for digest in digests.values()))
        return digests

    yield found
    for path in asked:
        ask(path, "DELETE")
    connection.close()


def make(sandbox: Sandbox, registry: str, *, api: str = "", web: str = "") -> None:
    """Two services that go to the registry; `api` and `web` are more of their entries."""
    for name in ("api", "web"):
        if not (sandbox.root / "services" / name).exists():
            sandbox.service(name, "FROM scratch\nCOPY data /data\n", data=f"first {name}")
    sandbox.services(
        f"defaults: {{registry: '{registry}', tags: [v1, latest]}}\nservices: {{api: {{{api}}}, web: {{{web}}}}}\n"
    )


TOO_SMALL = "size: {max: 1B}"


def test_a_pushed_image_has_its_names_and_nothing_of_it_stays_in_the_engine(sandbox: Sandbox, registry: str, names):
    make(sandbox, registry)

    report = sandbox.build(output="push").raise_for_status()

    for name, record in report.services.items():
        digest = record.digest
        assert names(name) == {"v1": digest, "latest": digest, STAGING_TAG: digest}
        assert record.references == (f"{registry}/{sandbox.name}/{name}:v1", f"{registry}/{sandbox.name}/{name}:latest")
    assert docker("image", "ls", "--quiet", "--filter", f"reference={registry}/{sandbox.name}/*") == ""


def test_no_name_moves_while_an_image_is_only_pushed(sandbox: Sandbox, registry: str, names):
    import anyio

    make(sandbox, registry)
    sandbox.build(output="push").raise_for_status()
    before = names("api")["v1"]
    sandbox.write("services/api/data", "second")
    seen = ""

    async def build() -> None:
        nonlocal seen
        request = BuildRequest(
            file=sandbox.root / "services.yaml", services=("api",), output="push", publish="all-or-none"
        )
        async with stream(request) as events:
            async for event in events:
                if isinstance(event, SolveFinished):
                    seen = names("api")["v1"]

    anyio.run(build)

    assert seen == before
    assert names("api")["v1"] == sandbox.record["services"]["api"]["digest"] != before


def test_an_image_against_the_policy_does_not_get_its_names_until_the_policy_lets_it(
    sandbox: Sandbox, registry: str, names
):
    make(sandbox, registry)
    first = sandbox.build(output="push").raise_for_status().services
    make(sandbox, registry, api=TOO_SMALL)
    sandbox.write("services/api/data", "larger than a byte")
    sandbox.write("services/web/data", "as good as before")

    refused = sandbox.build(output="push")
    again = sandbox.build(output="push")
    make(sandbox, registry)
    allowed = sandbox.build(output="push").raise_for_status()

    assert (refused.exit_code, again.exit_code) == (3, 3)
    record = refused.services["api"]
    assert (record.status, record.references) == ("built", ())
    assert record.warnings[-1] == "its names were not moved: against the policy: size"
    assert (again.services["api"].status, again.services["api"].references) == ("skipped", ())
    assert refused.services["web"].references != ()
    assert first["api"].digest != record.digest == allowed.services["api"].digest
    assert (allowed.services["api"].status, allowed.services["api"].withheld) == ("skipped", "")
    assert names("api") == dict.fromkeys(("v1", "latest", STAGING_TAG), record.digest)


@pytest.mark.parametrize("why", ["a build that fails", "a policy that is broken"])
def test_all_or_none_moves_no_name_unless_all_are_good_and_then_all_without_a_build(
    sandbox: Sandbox, registry: str, names, why: str
):
    make(sandbox, registry)
    first = sandbox.build(output="push", publish="all-or-none").raise_for_status().services
    assert {name: names(name)["v1"] for name in first} == {name: record.digest for name, record in first.items()}
    sandbox.write("services/api/data", "second")
    sandbox.write("services/web/data", "second too")
    if why == "a build that fails":
        sandbox.write("services/web/Dockerfile", f"FROM {BASE}\nCOPY data /data\nRUN exit 7\n")
    else:
        make(sandbox, registry, web=TOO_SMALL)

    done = sandbox.command("build-all", "--push", "--publish", "all-or-none")

    record = sandbox.record["services"]["api"]
    assert done.returncode == (1 if why == "a build that fails" else 3), done.stderr
    assert (record["status"], record["references"]) == ("built", [])
    what = "failed" if why == "a build that fails" else "against the policy: size"
    told = f"all or none are published, and web is {what}"
    assert record["warnings"][-1] == f"its names were not moved: {told}"
    assert f"note: api{', web' if done.returncode == 3 else ''}: not published: {told}" in done.stdout
    assert {name: names(name)["latest"] for name in first} == {name: one.digest for name, one in first.items()}

    make(sandbox, registry)
    sandbox.write("services/web/Dockerfile", "FROM scratch\nCOPY data /data\n")
    now = sandbox.build(output="push", publish="all-or-none").raise_for_status().services

    assert (now["api"].status, now["api"].digest) == ("skipped", record["digest"])
    for name, one in now.items():
        assert names(name) == dict.fromkeys(("v1", "latest", STAGING_TAG), one.digest)


def test_a_run_that_is_stopped_moves_no_name_and_the_next_one_does(sandbox: Sandbox, registry: str, names):
    import signal
    import time

    make(sandbox, registry)
    sandbox.write("services/web/Dockerfile", f"FROM {BASE}\nRUN sleep 60\n")
    run = sandbox.start("build-all", "--push", "--publish", "all-or-none", "--progress", "json")
    assert run.stderr is not None
    for line in run.stderr:
        event = json.loads(line)
        if event["event"] == "solve_finished" and event["service"] == "api":
            break
    time.sleep(0.5)  # it is measured meanwhile
    run.send_signal(signal.SIGINT)
    run.communicate(timeout=30)

    assert run.returncode == 130
    assert sandbox.record["services"]["api"]["status"] in {"built", "cancelled"}
    assert sandbox.record["services"]["api"]["references"] == []
    assert set(names("api")) == {STAGING_TAG}
    sandbox.write("services/web/Dockerfile", "FROM scratch\nCOPY data /data\n")
    sandbox.build(output="push", publish="all-or-none").raise_for_status()
    assert set(names("api")) == {"v1", "latest", STAGING_TAG}


def test_a_program_that_goes_away_from_its_run_leaves_the_names_and_a_record_that_says_so(
    sandbox: Sandbox, registry: str, names
):
    import anyio

    make(sandbox, registry)
    sandbox.write("services/web/Dockerfile", f"FROM {BASE}\nRUN sleep 60\n")

    async def begin() -> None:
        request = BuildRequest(file=sandbox.root / "services.yaml", output="push", publish="all-or-none")
        async with stream(request) as events:
            async for event in events:
                if isinstance(event, SolveFinished) and event.service == "api":
                    await anyio.sleep(1)  # it is measured meanwhile
                    return

    anyio.run(begin)

    record = sandbox.record["services"]["api"]
    assert (record["status"], record["references"]) == ("built", [])
    assert record["warnings"][-1] == "its names were not moved: the run ended before it published"
    assert set(names("api")) == {STAGING_TAG}


def test_a_run_that_is_stopped_while_the_last_image_is_measured_moves_no_name(sandbox: Sandbox, registry: str, names):
    import anyio

    make(sandbox, registry)
    stop = Stop()

    async def build() -> None:
        request = BuildRequest(file=sandbox.root / "services.yaml", output="push", publish="all-or-none")
        ended = 0
        async with stream(request, stop=stop) as events:
            async for event in events:
                ended += isinstance(event, SolveFinished)
                if ended == 2:
                    stop.request(exit_code=130)

    anyio.run(build)

    services = sandbox.record["services"]
    assert sandbox.record["exit_code"] == 130
    assert {name: (one["status"], one["references"]) for name, one in services.items()} == {
        "api": ("built", []),
        "web": ("built", []),
    }
    assert set(names("api")) == set(names("web")) == {STAGING_TAG}


def test_a_program_that_goes_away_while_names_are_moved_is_not_held_up(sandbox: Sandbox, registry: str, names):
    import anyio

    make(sandbox, registry)

    async def build() -> None:
        request = BuildRequest(file=sandbox.root / "services.yaml", output="push", publish="all-or-none")
        with anyio.fail_after(60):
            async with stream(request) as events:
                async for event in events:
                    if isinstance(event, ServiceFinished):
                        return

    anyio.run(build)

    assert {len(one["references"]) for one in sandbox.record["services"].values()} == {2}
    assert len(names("api")) == len(names("web")) == 3


@pytest.mark.parametrize("is_edited", [True, False])
def test_no_other_run_touches_an_image_whose_names_wait_for_all(
    sandbox: Sandbox, registry: str, names, *, is_edited: bool
):
    make(sandbox, registry)
    sandbox.build(output="push").raise_for_status()
    make(sandbox, registry, api="tags: [v2, latest]")
    sandbox.write("services/web/Dockerfile", f"FROM {BASE}\nRUN sleep 8 && echo {sandbox.name}\n")
    run = sandbox.start("build-all", "--push", "--publish", "all-or-none", "--progress", "json")
    assert run.stderr is not None
    for line in run.stderr:
        if json.loads(line)["event"] == "solve_started":
            break
    if is_edited:
        sandbox.write("services/api/data", "edited meanwhile")

    other = sandbox.command("build", "api", "--push", "--no-wait")
    run.communicate(timeout=60)

    assert other.returncode == 75, other.stderr
    assert run.returncode == 0
    assert sandbox.record["services"]["api"]["status"] == "skipped"
    assert names("api")["v2"] == names("api")["latest"] == sandbox.record["services"]["api"]["digest"]


def test_names_in_the_engine_are_not_taken_for_names_at_the_registry(sandbox: Sandbox, registry: str, names):
    make(sandbox, registry)
    loaded = sandbox.build().raise_for_status().services["api"]
    sandbox.write("services/web/Dockerfile", f"FROM {BASE}\nRUN exit 7\n")

    pushed = sandbox.build(output="push", publish="all-or-none").services["api"]

    assert (pushed.digest, len(loaded.references)) == (loaded.digest, 2)
    assert (pushed.status, pushed.references) == ("built", ())
    assert "web is failed" in pushed.withheld
    assert set(names("api")) == {STAGING_TAG}


@pytest.mark.parametrize(
    ("entry", "options"),
    [("", {"output": "load"}), ("outputs: ['type=registry', 'type=docker']", {"output": "push"})],
    ids=["into the engine", "also into the engine"],
)
def test_what_cannot_be_held_back_is_not_published_all_or_none(
    sandbox: Sandbox, registry: str, entry: str, options: dict[str, Any]
):
    make(sandbox, registry, api=entry)

    done = sandbox.command("build-all", f"--{options['output']}", "--publish", "all-or-none")

    assert done.returncode == 2
    assert "all or none can be published only of what is pushed: not api" in done.stderr
    assert "--push" in done.stderr
    assert not (sandbox.root / ".buildorch/run.json").exists()


def test_a_service_that_builds_on_a_pushed_one_is_given_it_before_it_has_its_names(
    sandbox: Sandbox, registry: str, names
):
    make(sandbox, registry, web="contexts: {base: 'service:api'}")
    sandbox.write("services/web/Dockerfile", "FROM base\nCOPY data /other\n")

    report = sandbox.build(output="push", publish="all-or-none").raise_for_status()

    api, web = report.services["api"], report.services["web"]
    assert [layer.digest for layer in web.platforms["linux/amd64"].layers][:1] == [
        layer.digest for layer in api.platforms["linux/amd64"].layers
    ]
    assert names("web")["v1"] == web.digest
