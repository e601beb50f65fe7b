"""The command: bad input gets one clear error, the right exit code, and never a traceback."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from fakes import install_buildx, make_image, running_engine
from jsonschema import Draft202012Validator

from buildorch import record
from buildorch.cli import main
from buildorch.ledger import Ledger
from buildorch.testing import make_digest, make_failure, make_record

SERVICES = "version: 1\nproject: shop\nservices:\n  backend:\n  frontend: {contexts: {base: service:backend}}\n"


@dataclass
class Said:
    """What a command wrote, and its exit code."""

    code: int
    out: str
    err: str


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project of two services, and the current folder."""
    for name in ("backend", "frontend"):
        (tmp_path / "services" / name).mkdir(parents=True)
        (tmp_path / "services" / name / "Dockerfile").write_text("FROM scratch\n")
    (tmp_path / "services.yaml").write_text(SERVICES)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*arguments: str, **environ: str) -> Said:
    """The command in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "buildorch", *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **environ},
    )
    assert "Traceback" not in done.stdout + done.stderr
    return Said(done.returncode, done.stdout, done.stderr)


@pytest.fixture
def called(capsys: pytest.CaptureFixture[str]):
    """The command in this process: quicker, where a process of its own shows nothing more."""

    def call(*arguments: str) -> Said:
        code = main(arguments)
        captured = capsys.readouterr()
        assert "Traceback" not in captured.out + captured.err
        return Said(code, captured.out, captured.err)

    return call


@pytest.mark.proof
def test_no_engine_exits_with_4_and_says_what_to_run(root: Path):
    said = run("build-all")

    assert said.code == 4
    assert "error: no Docker engine answers at unix:///nonexistent/docker.sock: there is no such socket\n" in said.err
    assert "hint: start Docker, or set DOCKER_HOST" in said.err
    assert said.out == ""


def test_an_unknown_service_exits_with_2_and_the_nearest_name(root: Path, called):
    said = called("build", "backnd")

    assert (said.code, said.out) == (2, "")
    assert said.err == "error: there is no service 'backnd'\nhint: did you mean 'backend'?\n"


BOMB = "x0: &x0 [a]\n" + "".join(f"x{at}: &x{at} [{f'*x{at - 1}, ' * 10}]\n" for at in range(1, 9))


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (b"", "services.yaml:1:1: the file is empty: a mapping with version, project and services was expected"),
        (b"- a\n", "services.yaml:1:1: this is a list: a mapping with version, project and services was expected"),
        (b"\x7fELF\0\1\2", "services.yaml:1:1: this is not text: it holds control characters"),
        (b"\xff\xfe\xfd", "services.yaml:1:1: this is not UTF-8 text (is it a services file at all?)"),
        (BOMB.encode(), "services.yaml:6:5: its aliases expand to more than 200,000 values"),
    ],
    ids=["empty", "list", "binary", "not utf-8", "bomb"],
)
def test_a_file_that_is_no_services_file_is_one_clear_error(root: Path, called, content: bytes, error: str):
    (root / "services.yaml").write_bytes(content)

    said = called("build-all")

    assert (said.code, said.out) == (2, "")
    assert said.err == f"error: {error}\n"
    assert not (root / ".buildorch").exists()


def test_every_problem_of_a_file_is_a_line_of_its_own(root: Path, called):
    (root / "services.yaml").write_text(
        "version: 1\nproject: shop\nservices:\n  a: {tragte: x}\n  b: {context: gone}\n"
    )

    said = called("plan")

    assert said.code == 2
    assert said.err.splitlines() == [
        "error: services.yaml:4:7: unknown key 'tragte' (did you mean 'target'?)",
        "error: services.yaml:5:16: the context gone does not exist",
    ]


def test_a_missing_services_file_exits_with_2(root: Path, called):
    said = called("build-all", "-f", "other.yaml")

    assert said.code == 2
    assert said.err.startswith("error: the services file other.yaml cannot be read: No such file or directory\nhint: ")


def test_a_missing_dockerfile_is_found_before_the_engine_is_asked(root: Path, called):
    (root / "services" / "frontend" / "Dockerfile").unlink()

    said = called("build-all")

    assert said.code == 2
    assert said.err == "error: services.yaml:5:13: there is no Dockerfile at services/frontend/Dockerfile\n"


def test_an_unwritable_record_is_found_before_the_engine_is_asked(root: Path, called):
    said = called("build-all", "--record", "services.yaml/run.json")

    assert said.code == 2
    error, hint = said.err.splitlines()
    assert error.startswith("error: the run record cannot be written to services.yaml/run.json: ")
    assert hint == "hint: name a writable file with --record FILE"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("build-all", "--pus"), "No such option '--pus'"),
        (("build-all", "--push=x"), "--push"),
        (("biuld",), "No such command 'biuld'"),
        (("build",), "Missing argument"),
        (("build-all", "-j", "many"), "'many' is not a valid integer"),
        (("build-all", "--progress", "loud"), "'loud' is not one of"),
        (("history",), "Missing argument"),
    ],
)
def test_a_wrong_argument_exits_with_2_and_is_named(root: Path, called, arguments: tuple[str, ...], said: str):
    answer = called(*arguments)

    assert answer.code == 2
    assert said in answer.err


def test_a_mistyped_option_is_answered_with_the_right_one(root: Path, called):
    assert "--push" in called("build-all", "--pus").err


@pytest.mark.parametrize("jobs", ["0", "-3"])
def test_less_than_one_build_at_once_exits_with_2(root: Path, called, jobs: str):
    said = called("build-all", f"-j{jobs}")

    assert (said.code, said.err.splitlines()[0]) == (2, f"error: {jobs} builds at once are not possible")


@pytest.mark.parametrize("override", ["nonsense", "other.target=x", "backend.tragte=x", "backend.tags=[", "a.b"])
def test_a_wrong_override_exits_with_2(root: Path, called, override: str):
    said = called("plan", "--set", override)

    assert said.code == 2
    assert said.err.startswith("error: ")


@pytest.mark.parametrize(
    "arguments", [("build", "\x1b[2Jevil"), ("plan", "-f", "\x1b[2Jevil"), ("plan", "--set", "\x1b[2J.a=b")]
)
def test_control_characters_in_an_argument_do_not_reach_the_terminal(root: Path, called, arguments: tuple[str, ...]):
    said = called(*arguments)

    assert said.code == 2
    assert "\x1b" not in said.err


def test_the_plan_needs_no_engine_and_lists_services_in_order(root: Path, called):
    said = called("plan", "frontend")

    assert said.code == 0
    assert [line.split()[0] for line in said.out.splitlines()] == ["SERVICE", "backend", "frontend"]
    assert "WHAT AND WHY" not in said.out
    [note] = said.err.splitlines()
    assert note.startswith("note: what would be skipped is not known: no Docker engine answers at ")


def test_control_characters_in_the_engines_address_do_not_reach_the_terminal(
    root: Path, called, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    install_buildx(tmp_path / "docker", replay=tmp_path)
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    monkeypatch.setenv("DOCKER_HOST", "unix:///\x1b]0;evil\x07")

    said = called("plan")

    assert (said.code, "evil" in said.err) == (0, True)
    assert not {"\x1b", "\x07"} & set(said.out + said.err)


def test_explaining_needs_an_engine(root: Path, called):
    said = called("explain", "backend")

    assert (said.code, said.out) == (4, "")
    assert said.err.startswith("error: no Docker engine answers at ")


def test_an_unknown_service_cannot_be_explained(root: Path, called):
    assert called("explain", "backnd").err == "error: there is no service 'backnd'\nhint: did you mean 'backend'?\n"


@pytest.fixture
def built(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The project, built once on an engine that has its images."""
    config = tmp_path / "docker"
    image = make_image()
    install_buildx(config, replay=Path(__file__).with_name("data") / "executed.rawjson", digest=image.digest)
    (root / "services" / "backend" / "Dockerfile").write_text("FROM scratch\nCOPY main.py /\n")
    (root / "services" / "backend" / "main.py").write_text("1")
    monkeypatch.setenv("DOCKER_CONFIG", str(config))
    with running_engine() as engine:
        engine.images = {f"shop/{name}:latest": image for name in ("backend", "frontend")}
        monkeypatch.setenv("DOCKER_HOST", engine.endpoint)
        assert main(["build-all", "--progress", "quiet"]) == 0
        yield root


def test_the_plan_says_what_would_be_done_and_why(built: Path, called, capsys: pytest.CaptureFixture[str]):
    capsys.readouterr()
    (built / "services" / "backend" / "main.py").write_text("22")

    said = called("plan")

    head, backend, frontend = said.out.splitlines()
    assert (said.code, said.err, head.endswith("WHAT AND WHY")) == (0, "", True)
    assert backend.endswith("build: inputs changed: main.py")
    assert frontend.endswith("build: a service it builds on is built: backend")


@pytest.mark.proof
@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((), "skip: nothing changed"),
        (("--force",), "build: --force"),
        (("--no-cache",), "build: --no-cache"),
        (("--set", "backend.network=host"), "build: inputs changed: network (none, now host)"),
        (("--push",), 'build: inputs changed: output (["load"], now ["push"])'),
        (("--frozen",), "skip: nothing changed"),
    ],
)
def test_options_count_in_a_plan_as_in_a_build(
    built: Path, called, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], told: str
):
    capsys.readouterr()

    assert called("plan", "backend", *arguments).out.splitlines()[1].endswith(told)


def test_every_changed_input_is_explained_a_line_each(built: Path, called, capsys: pytest.CaptureFixture[str]):
    capsys.readouterr()
    backend = built / "services" / "backend"
    (backend / "main.py").chmod(0o755)
    (backend / "Dockerfile").write_text("FROM scratch\nCOPY main.py /\nUSER 7\n")

    said = called("explain", "backend", "frontend", "--set", "backend.args.VERSION=1")

    assert said.out.splitlines() == [
        "backend: build: inputs changed: main.py (mode 0644 to 0755), Dockerfile:3 USER added, argument VERSION added",
        "  ~ main.py (mode 0644 to 0755)",
        "  + Dockerfile:3 USER",
        "  + argument VERSION",
        "frontend: build: a service it builds on is built: backend",
    ]


def test_an_explanation_as_json_is_complete(built: Path, called, capsys: pytest.CaptureFixture[str]):
    capsys.readouterr()
    (built / "services" / "backend" / "main.py").unlink()

    document = json.loads(called("explain", "backend", "--format", "json").out)

    assert document["schema"] == "buildorch.explain/1"
    fingerprint = document["services"]["backend"].pop("fingerprint")
    assert (fingerprint[:7], len(fingerprint)) == ("sha256:", 71)
    assert document["services"] == {
        "backend": {
            "action": "build",
            "reason": "inputs changed: main.py removed",
            "changes": [{"kind": "removed", "subject": "main.py", "detail": ""}],
        }
    }


def test_a_plan_as_json_holds_what_would_be_done(built: Path, called, capsys: pytest.CaptureFixture[str]):
    capsys.readouterr()

    document = json.loads(called("plan", "--format", "json").out)

    backend = document["services"]["backend"]
    assert (backend["action"], backend["reason"], backend["changes"]) == ("skip", "nothing changed", [])
    assert backend["references"] == ["shop/backend:latest"]


def test_frozen_refuses_what_the_lock_lacks(built: Path, called, capsys: pytest.CaptureFixture[str]):
    capsys.readouterr()
    (built / "services" / "backend" / "Dockerfile").write_text("FROM debian:13\n")

    said = called("build-all", "--frozen")

    assert said.code == 2
    assert said.err.splitlines()[0] == "error: not in buildorch.lock: debian:13"


def test_the_plan_as_json_is_what_the_library_gives(root: Path, called):
    import buildorch

    said = called("plan", "--format", "json", "--set", "*.tags=[x]", "--push")

    request = buildorch.BuildRequest(overrides=("*.tags=[x]",), output="push")
    assert json.loads(said.out) == buildorch.make_plan(request).to_json()


def test_the_services_file_may_be_named_by_the_environment(root: Path, called, monkeypatch: pytest.MonkeyPatch):
    (root / "other.yaml").write_text("version: 1\nproject: other\nservices: {backend: }\n")
    monkeypatch.setenv("BUILDORCH_FILE", "other.yaml")

    assert "other/backend:latest" in called("plan").out


@pytest.mark.parametrize("command", ["show", "history"])
def test_without_a_ledger_there_is_nothing_to_show(root: Path, called, command: str):
    said = called(*([command, "backend"] if command == "history" else [command]))

    assert said.code == 2
    assert "there is no ledger at" in said.err
    assert "hint: build something first" in said.err


@pytest.fixture
def recorded(root: Path) -> Path:
    with Ledger(root / ".buildorch" / "ledger.db") as ledger:
        for at in range(3):
            ledger.begin(f"r{at}", project="shop", started_at=f"2026-01-3{at}T12:00:00.000Z")
            ledger.commit(f"r{at}", "backend", make_record(digest=make_digest(str(at))))
        ledger.commit("r2", "frontend", make_record("failed", error=make_failure()))
    return root


def test_show_lists_each_services_last_record(recorded: Path, called):
    lines = called("show").out.splitlines()

    assert [line.split()[0] for line in lines] == ["SERVICE", "backend", "frontend"]
    assert make_digest("2")[:19] in lines[1]


def test_show_as_json_is_complete(recorded: Path, called):
    entries = json.loads(called("show", "--format", "json").out)

    assert [(entry["service"], entry["run_id"]) for entry in entries] == [("backend", "r2"), ("frontend", "r2")]
    schema = {**record.run_schema(), "$ref": "#/$defs/ServiceRecord"}
    for key in ("properties", "required", "type"):
        schema.pop(key, None)
    for entry in entries:
        Draft202012Validator(schema).validate(entry["record"])


def test_history_lists_one_services_records_the_newest_first(recorded: Path, called):
    lines = called("history", "backend", "--limit", "2").out.splitlines()

    assert [line.split()[0] for line in lines[1:3]] == ["2026-01-32", "2026-01-31"]
    assert lines[3].startswith("unpacked linux/amd64: ")


def test_the_history_of_an_unknown_service_is_answered_with_the_nearest_name(recorded: Path, called):
    said = called("history", "backand")

    assert (said.code, said.err.splitlines()[1]) == (2, "hint: did you mean 'backend'?")


def test_a_ledger_that_is_no_database_is_an_error_of_its_own(recorded: Path, called):
    (recorded / ".buildorch" / "ledger.db").write_bytes(b"rubbish" * 1000)

    said = called("show")

    assert said.code == 2
    assert "file is not a database" in said.err


@pytest.mark.parametrize("which", ["services", "run", "events", "check"])
def test_a_schema_is_printed_as_it_is_published(which: str, called, repository: Path):
    said = called("schema", which)

    assert said.out == (repository / "docs" / "schemas" / f"{which}.schema.json").read_text()


@pytest.mark.proof
def test_the_module_and_the_console_script_are_the_same_command(root: Path):
    script = Path(sys.executable).with_name("buildorch")
    by_script = subprocess.run([script, "plan"], capture_output=True, text=True, check=True).stdout

    assert run("plan").out == by_script


@pytest.mark.proof
def test_a_reader_that_goes_away_is_no_error(root: Path):
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w") as pipe:
        done = subprocess.run(
            [sys.executable, "-m", "buildorch", "schema"], stdout=pipe, stderr=subprocess.PIPE, text=True, check=False
        )

    assert (done.returncode, done.stderr) == (0, "")


def test_a_bug_is_told_as_one_and_exits_with_70(root: Path, called, monkeypatch: pytest.MonkeyPatch):
    from buildorch import preparing

    def broken(_request: object) -> None:
        raise ZeroDivisionError("by nought")

    monkeypatch.setattr(preparing, "plan", broken)

    said = called("plan")

    assert said.code == 70
    assert said.err.splitlines() == [
        "error: a bug in buildorch: ZeroDivisionError: by nought",
        "hint: please report it, with what BUILDORCH_DEBUG=1 shows",
    ]


def test_help_names_every_command(called):
    said = called("--help")

    assert said.code == 0
    for command in ("build", "build-all", "plan", "show", "history", "schema"):
        assert f"\n  {command} " in said.out


def test_the_version_is_the_packages(called):
    import buildorch

    assert called("--version").out.strip() == f"buildorch, version {buildorch.__version__}"
