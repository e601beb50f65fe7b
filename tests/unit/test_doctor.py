"""`buildorch doctor`: what is well, what is not, and what to do; with an engine, without one, and with one that is silent."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from fakes import FakeEngine, FakeRegistry, running_engine, running_registry
from test_build_cache import LS
from test_client import program

from buildorch import doctor
from buildorch.build_cache import Cached, Holding
from buildorch.buildx.builders import Builder, Node
from buildorch.cli import main
from buildorch.doctor import Check, examining, judging, known
from buildorch.doctor.asking import mirror_of, space_of
from buildorch.meanwhile import Meanwhile
from buildorch.registry import Greeting

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)
GB = 1000**3


def after(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


# Judging


@pytest.mark.parametrize(
    ("known_program", "version", "status", "words"),
    [
        (known.ENGINE, "28.5.2+dfsg4", "ok", "28.5.2"),
        (known.ENGINE, "24.0.9", "error", "25.0 or later"),
        (known.ENGINE, "99.1.0", "ok", "newer than the last that was tested (28.5, 2026-11)"),
        (known.BUILDX, "v0.17.0", "ok", "0.17.0"),
        (known.BUILDX, "0.13.1", "error", "0.17 or later"),
        (known.BUILDX, "v0", "error", "0.17 or later"),
        (known.BUILDX, "master", "warning", "no number"),
        (known.BUILDX, "", "warning", "no number"),
    ],
)
def test_a_version_is_held_against_those_that_are_known(
    known_program: known.Known, version: str, status: str, words: str
):
    check = known.judge_version(known_program, version)

    assert check.status == status
    assert words in f"{check.fact} {check.advice}"
    assert check.status == "ok" or check.advice


@pytest.mark.parametrize(
    ("said", "grain", "ahead"),
    [(0.5, 0, 0), (0, 0, 0), (1, 0, 0), (11, 0, 10), (-10, 0, -10), (-0.9, 1, 0), (-10, 1, -9)],
)
def test_a_clock_that_may_be_right_is_right(said: float, grain: float, ahead: float):
    assert judging.ahead_s(after(said), asked=NOW, answered=after(1), grain_s=grain) == ahead


@pytest.mark.parametrize(
    ("seconds", "status", "words"),
    [
        (0, "ok", "as that of"),
        (4.9, "ok", "as that of"),
        (6, "warning", "6 s ahead of"),
        (-400, "error", "400 s behind"),
    ],
)
def test_the_clock_that_is_furthest_off_is_told(seconds: float, status: str, words: str):
    check = judging.judge_clocks([judging.Clock("the engine", 0), judging.Clock("r.example", seconds)])

    assert check.status == status
    assert words in check.fact


@pytest.mark.parametrize(
    ("free", "inodes", "all_inodes", "status"),
    [
        (50 * GB, 900_000, 1_000_000, "ok"),
        (50 * GB, 0, 0, "ok"),  # btrfs has none to run out of
        (5 * GB, 900_000, 1_000_000, "warning"),
        (50 * GB, 40_000, 1_000_000, "warning"),
        (GB // 2, 900_000, 1_000_000, "error"),
        (50 * GB, 9_999, 1_000_000, "error"),
    ],
)
def test_bytes_and_inodes_both_can_run_out(free: int, inodes: int, all_inodes: int, status: str):
    space = judging.Space("/data", free, inodes, all_inodes)

    check = judging.judge_space("disk", space, least=GB, wanted=10 * GB, advice="free some")

    assert check.status == status
    assert check.advice == ("" if status == "ok" else "free some")


def test_a_store_that_cannot_hold_what_is_asked_for_is_an_error():
    assert judging.judge_store("containerd", several=["a"]).status == "ok"
    assert judging.judge_store("graphdriver", several=[]).status == "ok"
    check = judging.judge_store("graphdriver", several=["web"])
    assert check.status == "error"
    assert "web" in check.fact


def make_builder(name: str = "default", *, status: str = "running", current: bool = True, error: str = "") -> Builder:
    node = Node(
        name=name, endpoint="e", status=status, version="v0.25.1", platforms=("linux/amd64", "linux/386"), error=error
    )
    return Builder(name=name, driver="docker", is_current=current, nodes=(node,))


@pytest.mark.parametrize(
    ("builders", "wanted", "status", "words"),
    [
        ([make_builder()], {}, "ok", "1 known, default in use"),
        ([make_builder()], {"ci": ("web",)}, "error", "web want 'ci'"),
        ([make_builder(status="stopped")], {}, "warning", "does not run: stopped"),
        ([make_builder(error="no route")], {}, "error", "no route"),
        ([make_builder(), make_builder("old", current=False, status="stopped")], {}, "ok", "2 known"),
        ([make_builder(), make_builder("ci", current=False, status="stopped")], {"ci": ("web",)}, "warning", "ci does"),
        ([], {}, "ok", "none in use"),
    ],
)
def test_only_builders_that_are_used_matter(builders: list[Builder], wanted: dict[str, Any], status: str, words: str):
    check = judging.judge_builders(builders, wanted)

    assert check.status == status
    assert words in check.fact


def test_a_platform_nobody_builds_for_is_an_error_with_the_way_to_emulate_it():
    asked = {"linux/amd64": ("web",), "linux/arm64": ("api", "web")}

    check = judging.judge_platforms(make_builder(), asked)

    assert check.status == "error"
    assert "linux/arm64, which api, web want" in check.fact
    assert "--install arm64" in check.advice
    assert judging.judge_platforms(make_builder(), {"linux/amd64": ("web",)}).status == "ok"
    assert judging.judge_platforms(make_builder(status="inactive"), asked).status == "ok"


@pytest.mark.parametrize(
    ("status", "pushed", "login", "expected"),
    [
        (200, True, False, "ok"),
        (401, True, True, "ok"),
        (401, True, False, "warning"),
        (401, False, False, "ok"),
        (404, True, False, "error"),
        (503, False, False, "warning"),
    ],
)
def test_a_registry_is_judged_by_what_is_wanted_of_it(status: int, pushed: object, login: object, expected: str):
    greeting = Greeting(status, status == 401, None)

    check = judging.judge_registry(
        "r.example", greeting, needed="web go there", is_pushed_to=bool(pushed), has_login=bool(login)
    )

    assert check.status == expected
    assert (check.advice != "") == (expected != "ok")


def test_a_cache_that_could_make_room_is_told_where_room_is_wanted():
    records = (
        Cached(id="a", type="regular", size=3 * GB),
        Cached(id="b", type="exec.cachemount", size=GB, description='cached mount /c from exec x with id "/c"'),
    )
    held = Holding(builder="the engine", exact=True, records=records)

    assert judging.judge_cache(held, judging.Space("/d", 2 * GB, 0, 0)).status == "warning"
    check = judging.judge_cache(held, judging.Space("/d", 20 * GB, 0, 0))
    assert check == Check("cache", "ok", "4.0 GB on the engine, of them 1.0 GB in 1 cache mounts; 4.0 GB can go")
    large = (Cached(id="b", type="exec.cachemount", size=6 * GB, description='x with id "/big"'),)
    check = judging.judge_cache(Holding(builder="b", exact=True, records=large), None)
    assert check.status == "warning"
    assert "the mount big alone has 6.0 GB" in check.fact


# Asking


@pytest.mark.parametrize(
    ("url", "mirror"),
    [
        ("http://127.0.0.1:5000/", ("127.0.0.1:5000", "http")),
        ("https://user:word@m.example", ("m.example", "https")),
        ("http://[::1", ("", "")),
        ("", ("", "")),
    ],
)
def test_a_mirror_is_named_without_what_is_secret_of_it(url: str, mirror: tuple[str, str]):
    assert mirror_of(url) == mirror


def test_the_space_of_a_folder_that_is_not_there_yet_is_that_of_the_one_above(tmp_path: Path):
    found = space_of(tmp_path / "a" / "b")

    assert found is not None
    assert found.free > 0


def test_an_answer_that_is_late_is_told_and_not_waited_for():
    question: Meanwhile[None] = Meanwhile(lambda: time.sleep(0.5))

    check = examining._answer(question, "engine", time.monotonic() + 0.01)

    assert isinstance(check, Check)
    assert (check.status, check.fact) == ("error", "gave no answer in time")


# The command


@pytest.fixture(scope="module")
def engine() -> Iterator[FakeEngine]:
    with running_engine() as running:
        yield running


@pytest.fixture
def project(tmp_path: Path, engine: FakeEngine, registry: FakeRegistry, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A service that is pushed to the registry and built on one of its images, a docker-buildx, and the engine."""
    (tmp_path / "Dockerfile").write_text(f"FROM {registry.host}/base:1\n")
    (tmp_path / "services.yaml").write_text(
        f"version: 1\nproject: p\ndefaults: {{registry: '{registry.host}'}}\nservices: {{web: {{context: .}}}}\n"
    )
    (tmp_path / "ls").write_text(json.dumps(LS) + "\n")
    script = f"[ $1 = version ] && echo 'github.com/docker/buildx v0.29.1 x' || cat {tmp_path}/$1"
    program(tmp_path / "cli-plugins" / "docker-buildx", script)
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    monkeypatch.setenv("DOCKER_HOST", engine.endpoint)
    monkeypatch.chdir(tmp_path)
    said = {"ServerVersion": "28.5.2", "SystemTime": datetime.now(UTC).isoformat(), "RegistryConfig": {"Mirrors": []}}
    engine.info, engine.status = json.dumps(said).encode(), 0
    return tmp_path


def examined(capsys: pytest.CaptureFixture[str]) -> tuple[int, dict[str, tuple[str, str]]]:
    """The exit code, and each check's status and fact by its name."""
    code = main(["doctor", "--format", "json"])
    document = json.loads(capsys.readouterr().out)
    assert document["schema"] == "buildorch.doctor/1"
    assert document["exit_code"] == code
    return code, {one["name"]: (one["status"], one["fact"]) for one in document["checks"]}


def test_where_all_is_well_every_check_says_so(
    project: Path, capsys: pytest.CaptureFixture[str], registry: FakeRegistry
):
    code, checks = examined(capsys)

    assert code == 0
    assert {name for name, (status, _) in checks.items() if status == "error"} == set()
    assert [*checks] == [
        "services file", "engine", "store", "buildx", "builders", "project's disk", "cache",
        f"registry {registry.host}", "clock",
    ]  # fmt: skip
    assert checks[f"registry {registry.host}"][1].endswith("web go there, " + f"{registry.host}/base:1 come from there")


def test_a_line_a_check_with_what_to_do(project: Path, registry: FakeRegistry, capsys: pytest.CaptureFixture[str]):
    registry.login = "basic"
    registry.account = "user:the-password"

    assert main(["doctor"]) == 0

    lines = capsys.readouterr().out.splitlines()
    [line] = [line for line in lines if f"registry {registry.host}" in line]
    assert line.startswith("warning")
    assert line.endswith(f"hint: docker login {registry.host}")
    assert all(line.split()[0] in {"ok", "warning", "error"} for line in lines)


def test_a_login_is_seen_and_never_shown(project: Path, registry: FakeRegistry, capsys: pytest.CaptureFixture[str]):
    registry.login = "basic"
    (project / "config.json").write_text(json.dumps({"auths": {registry.host: {"auth": "c2VjcmV0OnNlY3JldA=="}}}))

    assert main(["doctor"]) == 0

    out = capsys.readouterr().out
    assert "docker has a login for it" in out
    assert "c2VjcmV0" not in out


def without_engine(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere/docker.sock")


def without_buildx(project: Path, _: pytest.MonkeyPatch) -> None:
    program(project / "cli-plugins" / "docker-buildx", "echo broken >&2; exit 1")


def old_buildx(project: Path, _: pytest.MonkeyPatch) -> None:
    program(project / "cli-plugins" / "docker-buildx", f"[ $1 = version ] && echo 'x v0.13.1 y' || cat {project}/ls")


def with_bad_file(project: Path, _: pytest.MonkeyPatch) -> None:
    (project / "services.yaml").write_text("version: 9\n")


def with_foreign_platform(project: Path, _: pytest.MonkeyPatch) -> None:
    text = (project / "services.yaml").read_text()
    (project / "services.yaml").write_text(text.replace("context: .", "context: ., platforms: [linux/s390x]"))


def with_a_gone_registry(project: Path, _: pytest.MonkeyPatch) -> None:
    text = (project / "services.yaml").read_text()
    (project / "services.yaml").write_text(text.replace("context: .", "context: ., image: 127.0.0.1:1/p/web"))


@pytest.mark.parametrize(
    ("spoil", "bad"),
    [
        (without_engine, {"engine"}),
        (without_buildx, {"buildx", "builders"}),
        (old_buildx, {"buildx"}),
        (with_bad_file, {"services file"}),
        (with_foreign_platform, {"platforms"}),
        (with_a_gone_registry, {"registry 127.0.0.1:1"}),
    ],
)
def test_what_is_wrong_is_an_error_and_the_rest_is_looked_at_all_the_same(
    project: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    spoil: Callable[[Path, pytest.MonkeyPatch], None],
    bad: set[str],
):
    spoil(project, monkeypatch)

    code, checks = examined(capsys)

    assert code == 4
    assert {name for name, (status, _) in checks.items() if status == "error"} == bad
    assert {"services file", "engine", "buildx", "builders", "project's disk"} <= set(checks)


def test_without_a_services_file_the_machine_is_looked_at(project: Path, capsys: pytest.CaptureFixture[str]):
    (project / "services.yaml").unlink()

    code, checks = examined(capsys)

    assert code == 0
    assert checks["services file"][1].startswith("there is none at services.yaml")


def test_a_mirror_answers_in_the_hubs_place(
    project: Path, engine: FakeEngine, registry: FakeRegistry, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):  # fmt: skip
    monkeypatch.setattr(examining, "HUB", registry.host)  # stands for a hub that nobody reaches
    registry.status = 503
    with running_registry() as mirror:
        said = {"ServerVersion": "28.5.2", "RegistryConfig": {"Mirrors": [f"http://{mirror.host}/"]}}
        engine.info = json.dumps(said).encode()

        _, checks = examined(capsys)

    assert checks[f"registry {mirror.host}"] == ("ok", "answers without a login; the engine's mirror of Docker Hub")
    status, fact = checks[f"registry {registry.host}"]
    assert status == "ok"
    assert fact.endswith("the engine's mirror answers in its place")


@pytest.mark.proof
def test_an_engine_and_a_registry_that_never_answer_are_not_waited_for(
    project: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    with socket.socket(socket.AF_UNIX) as silent, socket.create_server(("127.0.0.1", 0)) as mute:
        silent.bind(str(tmp_path / "silent.sock"))
        silent.listen()
        monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/silent.sock")
        text = (project / "services.yaml").read_text()
        host = f"127.0.0.1:{mute.getsockname()[1]}"
        (project / "services.yaml").write_text(text.replace("context: .", f"context: ., image: {host}/p/web"))
        began = time.monotonic()

        found = doctor.examine(Path("services.yaml"), within_s=0.3)

        assert time.monotonic() - began < 2
    silence = {check.name for check in found.checks if check.fact.startswith("gave no answer in time")}
    assert silence == {"engine", f"registry {host}"}
    assert found.exit_code == 4


def test_a_registry_with_another_clock_is_told(project: Path, engine: FakeEngine, capsys: pytest.CaptureFixture[str]):
    late = datetime.now(UTC) - timedelta(hours=1)
    engine.info = json.dumps({"ServerVersion": "28.5.2", "SystemTime": late.isoformat()}).encode()

    code, checks = examined(capsys)

    assert code == 4
    status, fact = checks["clock"]
    assert status == "error"
    assert "that of the engine is 3600 s behind" in fact or "3599 s behind" in fact


@pytest.mark.parametrize(
    ("answer", "code", "status"),
    [
        (b"", 4, "error"),
        (b"[]", 4, "error"),
        (b'{"ServerVersion": 7, "SystemTime": [1], "RegistryConfig": 3}', 0, "warning"),
    ],
)
def test_an_engine_that_answers_nonsense_is_no_traceback(
    project: Path, engine: FakeEngine, capsys: pytest.CaptureFixture[str], answer: bytes, code: int, status: str
):
    engine.info = answer

    ended, checks = examined(capsys)

    assert (ended, checks["engine"][0]) == (code, status)
