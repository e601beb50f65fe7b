"""Whole runs with a fake engine and a fake buildx: stream, record, ledger, and the three doors to them."""

from __future__ import annotations

import asyncio
import dataclasses
import io
import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
import zlib
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio.abc import ObjectReceiveStream
from fakes import FakeEngine, Image, content_store, install_buildx, make_image, running_engine
from jsonschema import Draft202012Validator

import buildorch
from buildorch import runs
from buildorch.checking import CheckRequest, check
from buildorch.cli import main
from buildorch.errors import Busy, EngineUnreachable, LedgerError, UnwritableRecord, UsageError
from buildorch.events import (
    Event,
    LeaseAwaited,
    RunFinished,
    RunStarted,
    ServiceFinished,
    SolveFinished,
    SolveStarted,
    StepFinished,
    StepWarned,
)
from buildorch.execute import Stop
from buildorch.forecast import Forecast
from buildorch.leases import Leases
from buildorch.ledger import Ledger
from buildorch.pipeline import BuildRequest, plan, preview, stream
from buildorch.preparing import ask_engine, opened
from buildorch.record import Report, Steps, run_schema
from buildorch.runs import LEFT_RUNNING

DATA = Path(__file__).with_name("data")
HEAD = "version: 1\nproject: shop\n"

pytestmark = pytest.mark.proof  # a whole run takes as long as a hundred tests of its parts


@cache
def _run() -> Any:
    return Draft202012Validator(run_schema())


@dataclass
class Sandbox:
    """A project, an engine that holds one image, and a buildx that says it built that image."""

    root: Path
    engine: FakeEngine
    image: Image

    @property
    def file(self) -> Path:
        return self.root / "services.yaml"

    @property
    def record(self) -> Path:
        return self.root / ".buildorch" / "run.json"

    def services(self, text: str, **behaviours: str) -> None:
        """The services file, with a folder for each service named and what its build does."""
        self.file.write_text(f"{HEAD}services:\n{text}")
        for name, script in behaviours.items():
            folder = self.root / "services" / name
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "Dockerfile").write_text("FROM scratch\n")
            (folder / "behave.sh").write_text(script)

    def started(self, name: str) -> bool:
        return (self.root / "services" / name / "argv.txt").exists()

    def request(self, **options: Any) -> BuildRequest:
        return BuildRequest(file=self.file, **options)

    def written(self) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(self.record.read_text())
        _run().validate(document)
        return document


@pytest.fixture
def sandbox(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sandbox]:
    root = tmp_path / "project"
    root.mkdir()
    image = make_image(layers=[b"x" * 1000])
    install_buildx(tmp_path / "docker", replay=DATA / "executed.rawjson", digest=image.digest)
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    with running_engine() as engine:
        engine.images["any"] = image
        monkeypatch.setenv("DOCKER_HOST", engine.endpoint)
        monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
        monkeypatch.setenv("TMPDIR", str(temporary))
        monkeypatch.setattr(tempfile, "tempdir", None)
        yield Sandbox(root, engine, image)
    assert list(temporary.iterdir()) == [], "a run left files behind"


async def refused(request: BuildRequest) -> UsageError:
    with pytest.raises(UsageError) as caught:
        await events_of(request)
    return caught.value


@pytest.mark.parametrize(("jobs", "clients"), [(1, {"1"}), (2, {"2"}), (8, {"3"})])
@pytest.mark.anyio
async def test_a_client_is_told_how_many_there_are_at_once(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, jobs: int, clients: set[str]
):
    monkeypatch.setattr("buildorch.buildx.solver.runtime", lambda *, at_once, cpus: {"CLIENTS": f"{at_once}"})  # noqa: ARG005
    told = sandbox.root / "clients.txt"
    script = f'echo "$CLIENTS" >> {told}; exit 1'
    sandbox.services("  a: {}\n  b: {}\n  c: {}\n", a=script, b=script, c=script)

    await events_of(sandbox.request(jobs=jobs))

    assert set(told.read_text().split()) == clients


@pytest.mark.anyio
async def test_an_unknown_way_to_publish_is_refused_and_not_taken_for_another(sandbox: Sandbox):
    sandbox.services("  app:", app="")

    error = await refused(sandbox.request(output="push", publish="all_or_none"))

    assert (str(error), error.hint) == ("publish is 'all_or_none'", "one of each, all-or-none")
    assert not sandbox.started("app")


@pytest.mark.anyio
async def test_all_or_none_is_refused_where_names_move_with_the_build_of_a_graphdriver_store(sandbox: Sandbox):
    sandbox.services("  app:", app="")
    sandbox.engine.store = "graphdriver"

    error = await refused(sandbox.request(output="push", publish="all-or-none"))

    assert "all or none can be published only of what is pushed: not app" in str(error)
    assert "containerd image store" in error.hint
    assert not sandbox.started("app")


@pytest.mark.anyio
async def test_a_push_that_does_not_say_what_it_pushed_is_a_failure_and_names_nothing(sandbox: Sandbox, tmp_path: Path):
    install_buildx(tmp_path / "docker", replay=DATA / "executed.rawjson", digest="")
    sandbox.services("  app:", app="")

    report = report_of(await events_of(sandbox.request(output="push")))

    record = report.services["app"]
    assert record.error is not None
    assert (record.status, record.error.kind, record.references) == ("failed", "unpublished", ())
    assert record.error.message == "docker buildx does not say what it pushed"
    assert report.exit_code == 4


@asynccontextmanager
async def soon(request: BuildRequest, *, stop: Stop | None = None) -> AsyncIterator[ObjectReceiveStream[Event]]:
    """A stream that is red where it has no end: one run may wait for another."""
    with anyio.fail_after(60):
        async with stream(request, stop=stop) as events:
            yield events


async def events_of(request: BuildRequest, *, stop: Stop | None = None) -> list[Event]:
    async with soon(request, stop=stop) as events:
        return [event async for event in events]
    raise AssertionError


def report_of(events: list[Event]) -> Report:
    assert isinstance(events[-1], RunFinished)
    return events[-1].report


def statuses(report: Report) -> dict[str, str]:
    return {name: record.status for name, record in report.services.items()}


@pytest.mark.anyio
async def test_a_run_is_a_stream_that_ends_with_its_report(sandbox: Sandbox):
    sandbox.services("  app: {contexts: {b: service:base}}\n  base:\n", app="", base="")

    events = await events_of(sandbox.request())

    assert isinstance(events[0], RunStarted)
    assert events[0].services == ("base", "app")
    assert events[0].jobs == 2
    report = report_of(events)
    assert (report.exit_code, statuses(report)) == (0, {"base": "built", "app": "built"})
    for name in ("base", "app"):
        order = [type(event) for event in events if getattr(event, "service", "") == name]
        assert order[0] is SolveStarted
        assert order.index(SolveFinished) < order.index(ServiceFinished)


@pytest.mark.anyio
async def test_the_record_holds_what_each_step_did_when(sandbox: Sandbox):
    sandbox.services("  app:\n", app="")

    events = await events_of(sandbox.request())

    [built] = report_of(events).services.values()
    ended = [event for event in events if isinstance(event, StepFinished) and event.started_at]
    assert sorted(step.name for step in built.timeline) == sorted(event.name for event in ended)
    assert any(step.is_instruction for step in built.timeline)


@pytest.mark.anyio
async def test_the_record_in_the_file_is_the_report_to_the_byte(sandbox: Sandbox):
    sandbox.services("  app:\n", app="")

    report = report_of(await events_of(sandbox.request()))

    assert sandbox.record.read_text() == report.to_json()
    assert sandbox.written()["services"]["app"]["digest"] == sandbox.image.digest


@pytest.mark.anyio
async def test_every_record_is_in_the_ledger_before_it_is_announced(sandbox: Sandbox):
    sandbox.services("  app:\n  web:\n", app="", web="")
    ledger_file = sandbox.root / ".buildorch" / "ledger.db"

    async with stream(sandbox.request()) as events:
        async for event in events:
            if isinstance(event, ServiceFinished):
                with Ledger(ledger_file) as ledger:
                    assert event.service in ledger.services()


@pytest.mark.anyio
async def test_the_reason_tells_a_first_build_from_another(sandbox: Sandbox):
    sandbox.services("  app:\n", app="")

    first = report_of(await events_of(sandbox.request()))
    second = report_of(await events_of(sandbox.request()))

    assert first.services["app"].reason == "first build"
    assert second.services["app"].reason == "nothing changed"


@pytest.mark.anyio
async def test_a_service_that_fails_is_recorded_beside_the_others(sandbox: Sandbox):
    failing = f"cat {DATA / 'failed_step.rawjson'} >&2; exit 1"
    sandbox.services("  bad:\n  app: {contexts: {b: service:bad}}\n  good:\n", bad=failing, app="", good="")

    report = report_of(await events_of(sandbox.request()))

    assert (report.exit_code, statuses(report)) == (1, {"bad": "failed", "good": "built", "app": "blocked"})
    assert report.services["bad"].steps == Steps(total=2, executed=2)
    assert sandbox.written()["services"]["bad"]["error"]["line"] == 3


@pytest.mark.anyio
async def test_a_violated_rule_makes_the_run_exit_with_3(sandbox: Sandbox):
    sandbox.services("  app: {size: {max: 10}}\n", app="")

    report = report_of(await events_of(sandbox.request()))

    assert (report.exit_code, statuses(report)) == (3, {"app": "built"})


@pytest.mark.anyio
async def test_an_image_that_is_gone_when_it_is_to_be_measured_makes_the_run_exit_with_4(sandbox: Sandbox):
    sandbox.services("  app:\n", app="")
    sandbox.engine.images.clear()

    report = report_of(await events_of(sandbox.request()))

    assert (report.exit_code, statuses(report)) == (4, {"app": "failed"})


@pytest.mark.anyio
async def test_a_stop_cancels_what_runs_and_still_writes_the_record(sandbox: Sandbox):
    sandbox.services("  quick:\n  slow:\n", quick="", slow="sleep 60")
    stop = Stop()
    events: list[Event] = []

    with anyio.fail_after(10):
        async with stream(sandbox.request(), stop=stop) as received:
            async for event in received:
                events.append(event)
                if isinstance(event, ServiceFinished) and event.service == "quick":
                    stop.request(exit_code=143)

    assert (report_of(events).exit_code, statuses(report_of(events))) == (143, {"quick": "built", "slow": "cancelled"})
    assert sandbox.written()["exit_code"] == 143


@pytest.mark.anyio
async def test_leaving_the_stream_early_still_writes_a_record_of_every_service(sandbox: Sandbox):
    sandbox.services("  slow:\n  next:\n", slow="sleep 60", next="")

    with anyio.fail_after(10):
        async with stream(sandbox.request(jobs=1)) as events:
            async for event in events:
                if isinstance(event, SolveStarted):
                    break

    written = sandbox.written()
    assert written["exit_code"] == 130
    assert {name: record["status"] for name, record in written["services"].items()} == {
        "slow": "cancelled",
        "next": "cancelled",
    }


@pytest.mark.anyio
async def test_a_record_that_cannot_be_written_is_found_before_anything_is_built(sandbox: Sandbox):
    sandbox.services("  app:\n", app="")

    with pytest.raises(UnwritableRecord):
        await events_of(sandbox.request(record=sandbox.root))

    assert not sandbox.started("app")


@pytest.mark.anyio
async def test_a_ledger_that_cannot_be_opened_is_found_before_anything_is_built(sandbox: Sandbox):
    sandbox.services("  app:\n", app="")
    (sandbox.root / ".buildorch").write_text("in the way")

    with pytest.raises(LedgerError):
        await events_of(sandbox.request(record=sandbox.root / "run.json"))

    assert not sandbox.started("app")


@pytest.mark.anyio
async def test_an_engine_that_does_not_answer_is_found_before_anything_is_built(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
):
    sandbox.services("  app:\n", app="")
    monkeypatch.setenv("DOCKER_HOST", "unix:///nonexistent/docker.sock")

    with pytest.raises(EngineUnreachable):
        await events_of(sandbox.request())

    assert not sandbox.started("app")


@pytest.mark.anyio
@pytest.mark.parametrize("jobs", [0, -1])
async def test_less_than_one_build_at_once_is_refused(sandbox: Sandbox, jobs: int):
    with pytest.raises(UsageError, match="builds at once are not possible"):
        await events_of(sandbox.request(jobs=jobs))


@pytest.mark.anyio
async def test_two_runs_in_one_project_do_not_get_in_each_others_way(sandbox: Sandbox):
    sandbox.services("  app:\n", app="sleep 0.05")
    reports: list[Report] = []

    async def run() -> None:
        reports.append(report_of(await events_of(sandbox.request())))

    async with anyio.create_task_group() as group:
        for _ in range(3):
            group.start_soon(run)

    assert [report.exit_code for report in reports] == [0, 0, 0]
    assert len({report.run_id for report in reports}) == 3


def test_the_plan_needs_no_engine(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("DOCKER_HOST", "unix:///nonexistent/docker.sock")
    sandbox.services("  app:\n", app="")

    plan = buildorch.make_plan(sandbox.request(overrides=("app.tags=[x]",)))

    assert [solve.references for solve in plan.solves] == [("shop/app:x",)]


# --- skipping


def keep(sandbox: Sandbox, *names: str) -> None:
    """The engine has the image under these services' names, as it has after a real build."""
    for name in names:
        sandbox.engine.images[f"shop/{name}:latest"] = sandbox.image


@pytest.mark.anyio
async def test_what_did_not_change_is_skipped_and_no_process_is_started(sandbox: Sandbox):
    sandbox.services("  app: {contexts: {b: service:base}}\n  base:\n", app="", base="")
    keep(sandbox, "app", "base")
    built = report_of(await events_of(sandbox.request()))
    for name in ("app", "base"):
        (sandbox.root / "services" / name / "argv.txt").unlink()

    events = await events_of(sandbox.request())

    report = report_of(events)
    assert [type(event) for event in events] == [RunStarted, ServiceFinished, ServiceFinished, RunFinished]
    assert [event.service for event in events if isinstance(event, ServiceFinished)] == ["base", "app"]
    assert (report.exit_code, statuses(report)) == (0, {"base": "skipped", "app": "skipped"})
    assert {record.reason for record in report.services.values()} == {"nothing changed"}
    assert not sandbox.started("app")
    assert not sandbox.started("base")
    for name, record in report.services.items():
        before = built.services[name]
        assert (record.digest, record.platforms, record.fingerprint, record.built_at) == (
            *(before.digest, before.platforms),
            *(before.fingerprint, before.built_at),
        )
    assert sandbox.written()["services"]["app"]["status"] == "skipped"


@pytest.mark.anyio
async def test_all_skips_are_in_the_ledger_before_the_first_is_announced(sandbox: Sandbox):
    sandbox.services("  app:\n  web:\n", app="", web="")
    keep(sandbox, "app", "web")
    await events_of(sandbox.request())
    found: list[dict[str, str]] = []

    async with stream(sandbox.request()) as events:
        async for event in events:
            if isinstance(event, ServiceFinished):
                with Ledger(sandbox.root / ".buildorch" / "ledger.db") as ledger:
                    found.append({entry.service: entry.record.status for entry in ledger.latest()})

    assert found == [{"app": "skipped", "web": "skipped"}] * 2


@pytest.mark.anyio
async def test_what_changed_is_built_beside_what_is_skipped_and_takes_the_skipped_image_as_its_base(sandbox: Sandbox):
    sandbox.services("  app: {contexts: {b: service:base}}\n  base:\n", app="", base="")
    keep(sandbox, "app", "base")
    await events_of(sandbox.request())
    (sandbox.root / "services" / "app" / "Dockerfile").write_text("FROM scratch\nENV A=1\n")

    report = report_of(await events_of(sandbox.request()))

    assert statuses(report) == {"base": "skipped", "app": "built"}
    assert report.services["app"].reason == "inputs changed: Dockerfile:2 ENV added"
    argv = (sandbox.root / "services" / "app" / "argv.txt").read_text().splitlines()
    assert f"--build-context=b=docker-image://shop/base:latest@{sandbox.image.digest}" in argv


@pytest.mark.anyio
async def test_an_engine_of_another_kind_builds_what_names_no_platform(sandbox: Sandbox):
    sandbox.services("  app:\n", app="")
    keep(sandbox, "app")
    await events_of(sandbox.request())
    info = {"ServerVersion": "28.0.0", "OSType": "linux", "Architecture": "aarch64"}
    driver = {"DriverStatus": [["driver-type", "io.containerd.snapshotter.v1"]]}
    sandbox.engine.info = json.dumps({**info, **driver}).encode()

    [record] = report_of(await events_of(sandbox.request())).services.values()

    assert (record.status, record.reason) == ("built", "inputs changed: platforms (/, now linux/aarch64)")


@pytest.mark.anyio
@pytest.mark.parametrize(("option", "reason"), [("force", "--force"), ("no_cache", "--no-cache")])
async def test_what_did_not_change_is_built_where_that_is_asked_for(sandbox: Sandbox, option: str, reason: str):
    sandbox.services("  app:\n", app="")
    keep(sandbox, "app")
    await events_of(sandbox.request())

    [record] = report_of(await events_of(sandbox.request(**{option: True}))).services.values()

    assert (record.status, record.reason, record.unchanged) == ("built", reason, True)


@pytest.mark.anyio
async def test_a_new_tag_on_an_unchanged_image_is_a_tag_and_no_build(sandbox: Sandbox):
    sandbox.services("  app:\n", app="")
    keep(sandbox, "app")
    await events_of(sandbox.request())

    [record] = report_of(await events_of(sandbox.request(overrides=("app.tags=[v2, latest]",)))).services.values()

    assert (record.status, record.reference) == ("skipped", "shop/app:v2")
    assert sandbox.engine.images["shop/app:v2"] is sandbox.image


@pytest.mark.anyio
async def test_a_skipped_image_is_judged_by_todays_rules(sandbox: Sandbox):
    sandbox.services("  app:\n", app="")
    keep(sandbox, "app")
    await events_of(sandbox.request())
    sandbox.services("  app: {size: {max: 10}}\n")

    report = report_of(await events_of(sandbox.request()))

    assert (report.exit_code, statuses(report)) == (3, {"app": "skipped"})


@pytest.mark.parametrize("names", [(), ("shop/app:latest",)], ids=["services", "an image"])
def test_a_check_after_a_run_judges_by_the_same_file(sandbox: Sandbox, names: tuple[str, ...]):
    sandbox.services("  app: {size: {max: 10}}\ndefaults: {size: {max: 10}}\n", app="")
    keep(sandbox, "app")
    asyncio.run(events_of(sandbox.request()))  # what it parsed is recalled where services are judged

    found = check(CheckRequest(file=sandbox.file, names=names))

    assert [(image.error, image.count("error")) for image in found.images] == [("", 1)]


@pytest.mark.anyio
async def test_a_stop_while_skipped_images_are_judged_again_leaves_the_rest_as_they_were(sandbox: Sandbox):
    sandbox.services("  {app: , web: }\n", app="", web="")
    keep(sandbox, "app", "web")
    await events_of(sandbox.request())
    stop, is_read, is_stopped = Stop(), threading.Event(), threading.Event()
    serve = content_store(sandbox.engine)

    def holds(connection: socket.socket) -> None:
        is_read.set()
        is_stopped.wait(30)
        serve(connection)

    async def interrupt() -> None:
        await anyio.to_thread.run_sync(is_read.wait)
        stop.request(exit_code=130)
        is_stopped.set()

    sandbox.engine.content = holds
    rules = "{policy: {contents: error}}"
    sandbox.services(f"  {{app: {rules}, web: {rules}}}\n")

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(interrupt)
        events = await events_of(sandbox.request(), stop=stop)

    document = sandbox.written()
    assert (report_of(events).exit_code, document["exit_code"]) == (130, 130)
    assert [record["status"] for record in document["services"].values()] == ["skipped", "cancelled"]


@pytest.mark.anyio
async def test_a_build_that_failed_last_time_is_told_by_the_image_before_it(sandbox: Sandbox):
    sandbox.services("  app:\n", app="")
    keep(sandbox, "app")
    await events_of(sandbox.request())
    (sandbox.root / "services" / "app" / "behave.sh").write_text("exit 1")
    failed = report_of(await events_of(sandbox.request(force=True)))

    report = report_of(await events_of(sandbox.request()))

    assert statuses(failed) == {"app": "failed"}
    assert statuses(report) == {"app": "skipped"}


@pytest.mark.anyio
async def test_after_an_engine_died_the_next_build_tells_of_steps_it_may_have_left_running(sandbox: Sandbox):
    lost = "echo 'ERROR: rpc error: code = Unavailable desc = error reading from server: EOF' >&2; exit 1"
    sandbox.services("  {app: , web: }\n", app=lost, web="")
    first = report_of(await events_of(sandbox.request()))
    (sandbox.root / "services" / "app" / "behave.sh").write_text("")

    events = await events_of(sandbox.request())
    third = report_of(await events_of(sandbox.request(force=True)))

    assert first.services["app"].error
    assert first.services["app"].error.kind == "engine_lost"
    told = [event.service for event in events if isinstance(event, StepWarned) and event.message == LEFT_RUNNING]
    assert told == ["app"]
    second = report_of(events).services
    assert [name for name, record in second.items() if LEFT_RUNNING in record.warnings] == ["app"]
    assert LEFT_RUNNING not in third.services["app"].warnings


@pytest.mark.anyio
async def test_nothing_that_speaks_against_a_skip_is_recorded_with_a_fingerprint(sandbox: Sandbox):
    sandbox.services("  app: {no_cache_filter: [x]}\n", app="")
    keep(sandbox, "app")

    reports = [report_of(await events_of(sandbox.request())) for _ in range(2)]

    assert [report.services["app"].fingerprint for report in reports] == [None, None]
    assert reports[1].services["app"].reason == "not provable: no_cache_filter has x built every time"


@pytest.mark.anyio
async def test_files_that_change_while_they_are_built_fail_the_service_and_are_not_believed_later(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("buildorch.execute.RETRY_DELAY_S", 0.01)
    sandbox.services("  app:\n", app="")
    folder = sandbox.root / "services" / "app"
    (folder / "Dockerfile").write_text("FROM scratch\nCOPY main.py /\n")
    (folder / "main.py").write_text("1")
    (folder / "behave.sh").write_text('echo >> "$context/main.py"')

    report = report_of(await events_of(sandbox.request()))

    record = report.services["app"]
    assert (report.exit_code, record.status, record.digest, record.fingerprint) == (1, "failed", None, None)
    assert record.error is not None
    assert (record.error.kind, record.attempts) == ("context_changed", 2)
    assert "main.py" in record.error.message
    with Ledger(sandbox.root / ".buildorch" / "ledger.db") as ledger:
        assert ledger.images() == {}


def test_no_value_of_an_argument_is_in_the_state_folder_or_in_what_is_printed(
    sandbox: Sandbox, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    # From the environment: what the services file itself says is no secret to whoever may read the folder beside it.
    sandbox.services("  app: {args: {TOKEN: '${HUNTER2_TOKEN}'}, secrets: [{id: a, env: HUNTER2}]}\n", app="")
    monkeypatch.setenv("HUNTER2_TOKEN", "hunter2-one")
    keep(sandbox, "app")
    changed = ["-f", str(sandbox.file), "--set", "app.args.TOKEN=hunter2-two"]

    codes = [
        main(["build-all", "-f", str(sandbox.file), "--progress", "plain"]),
        main(["explain", "app", *changed]),
        main(["explain", "app", "--format", "json", *changed]),
        main(["plan", *changed]),
    ]

    said = "".join(capsys.readouterr())
    assert (codes, "argument TOKEN" in said) == ([0, 0, 0, 0], True)
    assert "hunter2" not in said.lower()
    for file in (sandbox.root / ".buildorch").rglob("*"):
        assert file.is_dir() or b"hunter2" not in file.read_bytes().lower(), file.name
    with Ledger(sandbox.root / ".buildorch" / "ledger.db") as ledger:
        kept = ledger.snapshot("app")
    assert kept is not None
    assert b"hunter2" not in zlib.decompress(kept).lower()


def test_inputs_that_are_read_again_are_read_with_the_onbuild_of_what_they_build_on(sandbox: Sandbox):
    sandbox.services("  app: {contexts: {b: service:base}}\n  base:\n", app="", base="")
    services = sandbox.root / "services"
    (services / "base" / "Dockerfile").write_text("FROM scratch\nONBUILD COPY main.py /\n")
    (services / "app" / "Dockerfile").write_text("FROM b\n")
    (services / "app" / "main.py").write_text("1")
    request = sandbox.request()

    with opened(request, plan(request), ask_engine()) as at_hand:
        decided = at_hand.decide(request)["app"].inputs
        again = at_hand.reread(decided.solve)

    assert again.observed == decided.observed
    (services / "app" / "main.py").write_text("22")
    assert again.changed() == ("main.py",)


def test_explaining_goes_on_without_what_was_kept_of_the_last_inputs(sandbox: Sandbox):
    sandbox.services("  app:\n", app="")
    keep(sandbox, "app")
    buildorch.build(sandbox.file)
    with sqlite3.connect(sandbox.root / ".buildorch" / "ledger.db") as ledger:
        ledger.execute("UPDATE snapshots SET snapshot = x'00'")
    ledger.close()

    decided = preview(sandbox.request(overrides=("app.network=host",))).decided["app"]

    assert decided.reason == "inputs changed: what the last build read is not known"


def test_a_preview_builds_nothing_and_records_nothing(sandbox: Sandbox):
    sandbox.services("  app:\n", app="")

    [decided] = preview(sandbox.request()).decided.values()

    assert decided.reason == "first build"
    assert not sandbox.started("app")
    assert not sandbox.record.exists()
    with Ledger(sandbox.root / ".buildorch" / "ledger.db") as ledger:
        assert ledger.services() == []


@pytest.mark.parametrize("progress", ["plain", "json", "quiet"])
def test_every_view_shows_a_run_of_skips(sandbox: Sandbox, progress: str, capsys: pytest.CaptureFixture[str]):
    sandbox.services("  app:\n", app="")
    keep(sandbox, "app")
    buildorch.build(sandbox.file)

    code = main(["build-all", "-f", str(sandbox.file), "--progress", progress])

    said = capsys.readouterr()
    shown = {
        "plain": f"app | skipped, nothing changed: shop/app:latest {sandbox.image.digest}\n",
        "json": '"status":"skipped"',
        "quiet": "",
    }
    assert shown[progress] in said.err.replace('": "', '":"')
    assert (code, "1 skipped in " in said.out) == (0, True)


def test_what_is_expected_of_a_run_is_read_for_what_is_built_and_not_for_what_is_skipped(sandbox: Sandbox):
    sandbox.services("  app:\n  web: {contexts: {base: service:app}}\n", app="", web="")
    keep(sandbox, "app", "web")
    buildorch.build(sandbox.file)
    with runs.opened(sandbox.request()) as nothing:
        skipped = nothing.forecast()
    (sandbox.root / "services" / "web" / "Dockerfile").write_text("FROM scratch\nLABEL a=b\n")

    with runs.opened(sandbox.request()) as one:
        expected = one.forecast()

    assert skipped == Forecast()
    assert (expected.depends_on, [*expected.expected_s], [*expected.steps_s]) == ({"web": ("app",)}, ["web"], ["web"])


# --- two runs at once


@pytest.fixture
def others(sandbox: Sandbox) -> Iterator[Leases]:
    """The leases of another run."""
    (sandbox.root / ".buildorch").mkdir()
    leases = Leases(sandbox.root / ".buildorch" / "leases", "theirs")
    yield leases
    leases.release_all()


def ledger_rows(sandbox: Sandbox) -> list[Any]:
    with sqlite3.connect(sandbox.root / ".buildorch" / "ledger.db") as ledger:
        rows = ledger.execute("SELECT * FROM runs").fetchall() + ledger.execute("SELECT * FROM records").fetchall()
    ledger.close()
    return rows


@pytest.mark.anyio
async def test_the_second_of_two_equal_runs_waits_says_for_whom_and_skips_what_the_first_built(sandbox: Sandbox):
    sandbox.services("  app:\n", app='until [ -e "$context/go" ]; do sleep 0.01; done')
    keep(sandbox, "app")
    first: list[Event] = []
    second: list[Event] = []
    building = anyio.Event()

    async def run_first() -> None:
        async with soon(sandbox.request()) as events:
            async for event in events:
                first.append(event)
                if isinstance(event, SolveStarted):
                    building.set()

    async with anyio.create_task_group() as group:
        group.start_soon(run_first)
        await building.wait()
        async with soon(sandbox.request()) as events:
            async for event in events:
                second.append(event)
                if isinstance(event, LeaseAwaited):
                    await anyio.sleep(0.2)  # it is told once, however long it takes
                    (sandbox.root / "services" / "app" / "go").touch()

    assert [type(event) for event in second] == [LeaseAwaited, RunStarted, ServiceFinished, RunFinished]
    awaited = second[0]
    assert isinstance(awaited, LeaseAwaited)
    assert awaited.holder is not None
    assert (awaited.service, awaited.holder.run_id) == ("app", report_of(first).run_id)
    assert (report_of(first).exit_code, statuses(report_of(first))) == (0, {"app": "built"})
    assert (report_of(second).exit_code, statuses(report_of(second))) == (0, {"app": "skipped"})


@pytest.mark.anyio
async def test_a_service_is_let_go_when_its_record_is_there_and_not_when_the_run_ends(sandbox: Sandbox):
    sandbox.services("  quick:\n  slow:\n", quick="", slow='until [ -e "$context/go" ]; do sleep 0.01; done')
    keep(sandbox, "quick", "slow")
    reports: list[Report] = []

    async def run_all(done: anyio.Event) -> None:
        async with soon(sandbox.request()) as events:
            async for event in events:
                if isinstance(event, ServiceFinished) and event.service == "quick":
                    done.set()

    async with anyio.create_task_group() as group:
        quick_done = anyio.Event()
        group.start_soon(run_all, quick_done)
        await quick_done.wait()
        reports.append(report_of(await events_of(sandbox.request(services=("quick",), force=True, wait=False))))
        with pytest.raises(Busy):
            await events_of(sandbox.request(services=("slow",), wait=False))
        (sandbox.root / "services" / "slow" / "go").touch()

    assert [statuses(report) for report in reports] == [{"quick": "built"}]


@pytest.mark.anyio
async def test_after_a_wait_everything_is_read_again_also_the_services_file(sandbox: Sandbox, others: Leases):
    sandbox.services("  app: {tags: [one]}\n", app="")
    assert others.take(["app"]) is None
    events: list[Event] = []

    async with soon(sandbox.request()) as received:
        async for event in received:
            events.append(event)
            if isinstance(event, LeaseAwaited):
                sandbox.services("  app: {tags: [two]}\n  web:\n", app="", web="")
                (sandbox.root / "services" / "app" / "Dockerfile").write_text("FROM scratch\nENV A=1\n")
                others.release_all()

    report = report_of(events)
    assert isinstance(events[1], RunStarted)
    assert events[1].services == ("app", "web")
    assert statuses(report) == {"app": "built", "web": "built"}
    assert report.services["app"].reference == "shop/app:two"
    with Ledger(sandbox.root / ".buildorch" / "ledger.db") as ledger:
        assert b"ENV" in zlib.decompress(ledger.snapshot("app") or b"")


@pytest.mark.anyio
async def test_what_has_to_be_built_only_since_the_wait_is_waited_for_too(sandbox: Sandbox, others: Leases):
    sandbox.services("  app:\n  web:\n", app="", web="")
    keep(sandbox, "app", "web")
    await events_of(sandbox.request())
    (sandbox.root / "services" / "web" / "Dockerfile").write_text("FROM scratch\nENV A=1\n")
    assert others.take(["web"]) is None
    third = Leases(sandbox.root / ".buildorch" / "leases", "third")
    awaited: list[str] = []

    async with soon(sandbox.request()) as received:
        async for event in received:
            match event:
                case LeaseAwaited(service="web"):
                    (sandbox.root / "services" / "app" / "Dockerfile").write_text("FROM scratch\nENV A=1\n")
                    assert third.take(["app"]) is None
                    others.release_all()
                case LeaseAwaited(service="app"):
                    assert others.take(["web"]) is None  # it comes behind app, so it is free meanwhile
                    others.release_all()
                    third.release_all()
            if isinstance(event, LeaseAwaited):
                awaited.append(event.service)
            last = event

    assert awaited == ["web", "app"]
    assert statuses(report_of([last])) == {"app": "built", "web": "built"}


@pytest.mark.anyio
async def test_what_another_run_built_between_the_reading_and_the_lease_is_not_built_again(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
):
    sandbox.services("  app:\n", app="")
    keep(sandbox, "app")
    take = Leases.take
    reports: list[Report] = []

    def late(self: Leases, services: list[str]) -> LeaseAwaited | None:
        monkeypatch.setattr(Leases, "take", take)
        reports.append(buildorch.build(sandbox.file))
        return take(self, services)

    monkeypatch.setattr(Leases, "take", late)
    reports.append(report_of(await events_of(sandbox.request())))

    assert [statuses(report) for report in reports] == [{"app": "built"}, {"app": "skipped"}]


@pytest.mark.anyio
async def test_whom_a_run_waits_for_is_said_once_however_many_services_that_one_builds(
    sandbox: Sandbox, others: Leases
):
    sandbox.services("  app:\n  web:\n", app="", web="")
    assert others.take(["app"]) is None
    await anyio.sleep(0.01)
    assert others.take(["app", "web"]) is None
    awaited: list[str] = []

    async with soon(sandbox.request()) as received, anyio.create_task_group() as group:

        async def end_slowly() -> None:
            others.release("app")
            await anyio.sleep(0.2)
            others.release("web")

        async for event in received:
            if isinstance(event, LeaseAwaited):
                awaited.append(event.service)
                group.start_soon(end_slowly)

    assert awaited == ["app"]


@pytest.mark.anyio
async def test_runs_of_different_services_do_not_wait_for_each_other(sandbox: Sandbox, others: Leases):
    sandbox.services("  app:\n  web:\n", app="", web="")
    assert others.take(["web"]) is None

    report = report_of(await events_of(sandbox.request(services=("app",), wait=False)))

    assert statuses(report) == {"app": "built"}


@pytest.mark.anyio
async def test_a_run_in_which_nothing_is_built_takes_no_lease(sandbox: Sandbox, others: Leases):
    sandbox.services("  app:\n", app="")
    keep(sandbox, "app")
    await events_of(sandbox.request())
    assert others.take(["app"]) is None

    report = report_of(await events_of(sandbox.request(wait=False)))

    assert statuses(report) == {"app": "skipped"}


def test_a_command_in_which_nothing_is_built_does_not_even_load_what_takes_leases(sandbox: Sandbox):
    sandbox.services("  app:\n", app="")
    keep(sandbox, "app")
    buildorch.build(sandbox.file)
    code = (
        "import sys; from buildorch.cli import main\n"
        f"code = main(['build-all', '-f', {str(sandbox.file)!r}, '--progress', 'quiet'])\n"
        "print(code, 'buildorch.leases' in sys.modules, 'anyio' in sys.modules)"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert "1 skipped in" in done.stdout
    assert done.stdout.splitlines()[-1] == "0 False False"


@pytest.mark.anyio
async def test_a_run_that_is_not_to_wait_builds_nothing_and_names_who_builds(sandbox: Sandbox, others: Leases):
    sandbox.services("  app:\n  web:\n", app="", web="")
    keep(sandbox, "app")
    await events_of(sandbox.request(services=("app",)))
    assert others.take(["web"]) is None
    before = ledger_rows(sandbox)
    (sandbox.root / "services" / "app" / "argv.txt").unlink()

    with pytest.raises(Busy, match=rf"^web is being built by run theirs \(pid {os.getpid()} on ") as caught:
        await events_of(sandbox.request(wait=False, force=True))

    assert (caught.value.exit_code, caught.value.service) == (75, "web")
    assert not sandbox.started("app")
    assert ledger_rows(sandbox) == before
    assert others.take(["app", "web"]) is None, "it holds a lease still"


def test_the_command_that_is_not_to_wait_exits_with_75(
    sandbox: Sandbox, others: Leases, capsys: pytest.CaptureFixture[str]
):
    sandbox.services("  app:\n", app="")
    assert others.take(["app"]) is None

    code = main(["build", "app", "--no-wait", "-f", str(sandbox.file)])

    out, err = capsys.readouterr()
    assert (code, out) == (75, "")
    assert err.startswith(f"error: app is being built by run theirs (pid {os.getpid()} on ")
    assert "hint: try again later, or leave --no-wait out to wait for it" in err
    assert not sandbox.started("app")
    assert not sandbox.record.exists()


@pytest.mark.anyio
async def test_a_stop_ends_a_wait_at_once_with_the_record_of_a_cancelled_run(sandbox: Sandbox, others: Leases):
    sandbox.services("  app: {contexts: {b: service:base}}\n  base:\n", app="", base="")
    assert others.take(["app"]) is None
    stop = Stop()
    events: list[Event] = []

    with anyio.fail_after(5):
        async with stream(sandbox.request(), stop=stop) as received:
            async for event in received:
                events.append(event)
                if isinstance(event, LeaseAwaited):
                    stop.request(exit_code=143)

    assert [type(event) for event in events] == [
        LeaseAwaited,
        RunStarted,
        ServiceFinished,
        ServiceFinished,
        RunFinished,
    ]
    assert (report_of(events).exit_code, statuses(report_of(events))) == (
        143,
        {"base": "cancelled", "app": "cancelled"},
    )
    assert sandbox.written()["exit_code"] == 143
    assert not sandbox.started("base")


@pytest.mark.anyio
async def test_a_stream_that_is_left_during_a_wait_leaves_a_record(sandbox: Sandbox, others: Leases):
    sandbox.services("  app:\n", app="")
    assert others.take(["app"]) is None

    with anyio.fail_after(5):
        async with stream(sandbox.request()) as events:
            async for event in events:
                assert isinstance(event, LeaseAwaited)
                break

    written = sandbox.written()
    assert (written["exit_code"], written["services"]["app"]["status"]) == (130, "cancelled")


@pytest.mark.anyio
async def test_a_services_file_that_is_broken_during_a_wait_ends_the_run_with_a_record(
    sandbox: Sandbox, others: Leases
):
    sandbox.services("  app:\n", app="")
    assert others.take(["app"]) is None

    async def run() -> None:
        async with soon(sandbox.request()) as events:
            async for event in events:
                assert isinstance(event, LeaseAwaited)
                sandbox.file.write_text("version: 1\nproject: shop\nservices: {app: {colour: red}}\n")
                others.release_all()

    with pytest.raises(buildorch.ServicesFileError):
        await run()

    written = sandbox.written()
    assert (written["exit_code"], written["services"]["app"]["status"]) == (2, "cancelled")
    assert others.take(["app"]) is None, "it holds a lease still"


@pytest.mark.anyio
async def test_leases_that_cannot_be_taken_are_found_before_anything_is_built(sandbox: Sandbox):
    sandbox.services("  app:\n", app="")
    (sandbox.root / ".buildorch").mkdir()
    (sandbox.root / ".buildorch" / "leases").write_text("in the way")

    with pytest.raises(UsageError, match="the lease of app cannot be taken"):
        await events_of(sandbox.request())

    assert not sandbox.started("app")
    assert not sandbox.record.exists()


# --- the three doors


def by_call(sandbox: Sandbox) -> dict[str, Any]:
    report = buildorch.build(sandbox.file)
    return json.loads(report.to_json())  # type: ignore[no-any-return]


def by_call_on_trio(sandbox: Sandbox) -> dict[str, Any]:
    report = buildorch.build(sandbox.file, backend="trio")
    return json.loads(report.to_json())  # type: ignore[no-any-return]


def by_awaiting(sandbox: Sandbox) -> dict[str, Any]:
    report = anyio.run(buildorch.build_async, sandbox.request())
    return json.loads(report.to_json())  # type: ignore[no-any-return]


def by_command(sandbox: Sandbox) -> dict[str, Any]:
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = main(["build-all", "-f", str(sandbox.file), "--format", "json"])
    report: dict[str, Any] = json.loads(out.getvalue())
    assert code == report["exit_code"]
    assert "good | built" in err.getvalue().replace("  ", " ")
    return report


VOLATILE = {"run_id", "started_at", "finished_at", "built_at", "duration_s", "reason", "unchanged"}


def steady(value: Any) -> Any:
    """A record without what differs from run to run."""
    if isinstance(value, dict):
        return {key: steady(inner) for key, inner in value.items() if key not in VOLATILE}
    return [steady(inner) for inner in value] if isinstance(value, list) else value


@pytest.mark.parametrize("door", [by_call_on_trio, by_awaiting, by_command])
def test_every_door_gives_the_same_record_and_exit_code(sandbox: Sandbox, door: Callable[[Sandbox], dict[str, Any]]):
    failing = f"cat {DATA / 'failed_step.rawjson'} >&2; exit 1"
    sandbox.services("  bad:\n  good: {size: {max: 10}}\n", bad=failing, good="")

    through_the_door = door(sandbox)
    for file in (sandbox.root / ".buildorch").glob("ledger.db*"):
        file.unlink()  # else nothing would have changed

    assert steady(through_the_door) == steady(by_call(sandbox))


def test_a_bad_run_raises_where_that_was_asked_for(sandbox: Sandbox):
    sandbox.services("  app:\n", app="exit 1")

    with pytest.raises(buildorch.BuildFailed) as caught:
        buildorch.build(sandbox.file).raise_for_status()

    assert caught.value.exit_code == 1


# --- signals, through the command

SIGTERM = pytest.param(signal.SIGTERM, 143)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), SIGTERM])
def test_a_signal_ends_the_run_in_good_order(sandbox: Sandbox, number: signal.Signals, code: int):
    sandbox.services("  slow:\n", slow='echo $$ > "$context/pid"; sleep 60')
    pid_file = sandbox.root / "services" / "slow" / "pid"
    command = [sys.executable, "-m", "buildorch", "build-all", "-f", str(sandbox.file), "--progress", "quiet"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 10
        while not (pid_file.exists() and pid_file.read_text()) and time.monotonic() < deadline:
            time.sleep(0.01)

        process.send_signal(number)
        try:
            out, err = process.communicate(timeout=10)
        finally:
            process.kill()

    assert process.returncode == code
    assert "Traceback" not in err
    assert "1 cancelled in" in out
    assert sandbox.written()["exit_code"] == code
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid_file.read_text()), 0)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), SIGTERM])
def test_a_signal_ends_a_wait_at_once(sandbox: Sandbox, others: Leases, number: signal.Signals, code: int):
    sandbox.services("  app:\n", app="")
    assert others.take(["app"]) is None
    command = [sys.executable, "-m", "buildorch", "build-all", "-f", str(sandbox.file), "--progress", "plain"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        line = process.stderr.readline()
        process.send_signal(number)
        begun = time.monotonic()
        try:
            out, err = process.communicate(timeout=10)
        finally:
            process.kill()

    assert line.startswith("app | waiting for run theirs (pid ")
    assert time.monotonic() - begun < 1
    assert (process.returncode, "Traceback" in err, "1 cancelled in" in out) == (code, False, True)
    assert sandbox.written()["exit_code"] == code


def test_a_reader_that_goes_away_does_not_make_a_failed_build_a_good_one(sandbox: Sandbox):
    sandbox.services("  app:\n", app="exit 1")
    read, write = os.pipe()
    os.close(read)

    with os.fdopen(write, "w") as pipe:
        done = subprocess.run(
            [sys.executable, "-m", "buildorch", "build-all", "-f", str(sandbox.file), "--progress", "quiet"],
            stdout=pipe,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )

    assert (done.returncode, done.stderr) == (1, "")


def test_a_report_is_made_of_values_only(sandbox: Sandbox):
    sandbox.services("  app:\n", app="")

    report = buildorch.build(sandbox.file)

    assert dataclasses.asdict(report)["services"]["app"]["status"] == "built"


def test_a_reader_of_the_progress_that_goes_away_does_not_end_the_build(sandbox: Sandbox):
    sandbox.services("  app:\n", app="")
    read, write = os.pipe()
    os.close(read)

    with os.fdopen(write, "w") as pipe:
        done = subprocess.run(
            [sys.executable, "-m", "buildorch", "build-all", "-f", str(sandbox.file), "--progress", "plain"],
            stdout=subprocess.PIPE,
            stderr=pipe,
            text=True,
            check=False,
        )

    assert done.returncode == 0
    assert "1 built in" in done.stdout
    assert sandbox.written()["exit_code"] == 0
