"""`buildorch export bake` and `buildorch import`, without an engine; a small program stands in for buildx."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable, Sequence
from pathlib import Path

import bake_rows
import pytest

from buildorch.buildx import bake
from buildorch.buildx.client import Buildx
from buildorch.cli import main
from buildorch.errors import BuildxMissing, UsageError
from buildorch.services import parse
from buildorch.services.yaml_nodes import MAX_BYTES

COMPOSE = "services: {web: {image: 'w:1', build: {context: web}}}\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of the test's own, which is the current one."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def buildx(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Make a program that is found as buildx, and writes down what it is started with."""

    def make(script: str) -> Path:
        plugin = tmp_path / "docker" / "cli-plugins" / "docker-buildx"
        plugin.parent.mkdir(parents=True)
        seen = tmp_path / "seen"
        plugin.write_text(f'#!/bin/sh\nprintf "%s\\n" "$PWD" "$@" >>{seen}\n{script}\n')
        plugin.chmod(0o755)
        monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
        return seen

    return make


def printing(*targets: str) -> str:
    document = {"group": {"default": {"targets": targets}}, "target": {name: {"tags": [name]} for name in targets}}
    return f"echo '{json.dumps(document)}'"


def run(*words: str | Path) -> int:
    return main([str(word) for word in words])


# Export


def test_a_plan_is_printed_as_a_bake_file(folder: Path, capsys: pytest.CaptureFixture[str]):
    file = bake_rows.make_project(folder)

    assert run("export", "bake", "image", "-f", file) == 0

    out, err = capsys.readouterr()
    assert json.loads(out)["group"] == {"default": {"targets": ["image"]}}
    assert err == ""


def test_what_bake_cannot_say_is_told_beside_it(folder: Path, capsys: pytest.CaptureFixture[str]):
    file = bake_rows.make_project(folder)
    (file.parent / "buildorch.lock").write_text("")

    assert run("export", "bake", "image", "-f", file, "--set", "*.timeout=20m", "--push", "-o", "x.json") == 0

    target = json.loads((folder / "x.json").read_text())["target"]["image"]
    assert target["output"] == ["type=registry"]
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        "lost: services.image.timeout: bake has no time limit",
        "lost: buildorch.lock: bake takes base images as the builder finds them",
    ]


@pytest.mark.parametrize("command", [("export", "bake", "-f", "project/services.yaml"), ("import", "compose.yaml")])
def test_a_file_that_is_there_is_only_written_over_by_force(
    command: Sequence[str], folder: Path, capsys: pytest.CaptureFixture[str]
):
    bake_rows.make_project(folder)
    (folder / "compose.yaml").write_text(COMPOSE)
    (folder / "out").write_text("mine")

    assert run(*command, "-o", "out") == 2
    assert (folder / "out").read_text() == "mine"
    assert "error: out is there already\nhint: name another file with -o" in capsys.readouterr().err
    assert run(*command, "-o", "out", "--force") == 0
    assert (folder / "out").read_text() != "mine"


# Import of Compose files


def test_a_compose_file_is_imported_without_buildx(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setenv("PATH", "/nonexistent")
    (folder / "compose.yaml").write_text(f"name: Shop One\n{COMPOSE}")

    assert run("import", "compose.yaml") == 0

    file = parse(capsys.readouterr().out, "services.yaml")
    assert (file.project, file.services["web"].image, file.services["web"].context) == ("shop-one", "w", "web")


def test_something_lost_is_exit_code_1_unless_it_may_be(folder: Path, capsys: pytest.CaptureFixture[str]):
    (folder / "c.yml").write_text("services: {web: {image: w, build: {privileged: true}}}")

    assert run("import", "c.yml") == 1
    assert "lost: c.yml:1:48: web.build.privileged: " in capsys.readouterr().err
    assert run("import", "c.yml", "--allow-lost", "-o", "services.yaml", "--project", "mine") == 0
    assert parse((folder / "services.yaml").read_text(), "s").project == "mine"


def test_a_dockerfile_in_the_file_becomes_a_file_beside_the_services_file(folder: Path):
    (folder / "c.yaml").write_text(
        'services: {web: {image: w, build: {context: web/app, dockerfile_inline: "FROM x\\nENV A=$$B\\n"}}}'
    )
    (folder / "deploy").mkdir()

    assert run("import", "c.yaml", "-o", "deploy/services.yaml") == 0

    assert (folder / "deploy" / "web.Dockerfile").read_text() == "FROM x\nENV A=$B\n"
    service = parse((folder / "deploy" / "services.yaml").read_text(), "s").services["web"]
    assert (service.context, service.dockerfile) == ("../web/app", "../../deploy/web.Dockerfile")
    assert run("import", "c.yaml", "-o", "deploy/other.yaml") == 2  # the Dockerfile is there
    assert not (folder / "deploy" / "other.yaml").exists()


def test_on_stdout_a_dockerfile_in_the_file_is_lost_with_the_way_to_keep_it(
    folder: Path, capsys: pytest.CaptureFixture[str]
):
    (folder / "c.yaml").write_text("services: {web: {image: w, build: {dockerfile_inline: FROM x}}}")

    assert run("import", "c.yaml") == 1

    assert "-o FILE writes it beside the services file" in capsys.readouterr().err


def test_a_service_is_imported_with_what_it_builds_on(folder: Path, capsys: pytest.CaptureFixture[str]):
    (folder / "c.yaml").write_text(
        "services: {a: {image: a, build: .}, b: {image: b, build: {additional_contexts: {x: 'service:a'}}},"
        " c: {image: c, build: .}}"
    )

    assert run("import", "c.yaml", "--target", "b") == 0
    assert list(parse(capsys.readouterr().out, "s").services) == ["a", "b"]
    assert run("import", "c.yaml", "--target", "bb") == 2
    assert "did you mean 'b'" in capsys.readouterr().err


def test_services_that_build_on_each_other_in_a_circle_are_refused(folder: Path, capsys: pytest.CaptureFixture[str]):
    (folder / "c.yaml").write_text(
        "services: {a: {image: a, build: {additional_contexts: {x: 'service:b'}}},"
        " b: {image: b, build: {additional_contexts: {x: 'service:a'}}}}"
    )

    assert run("import", "c.yaml", "-o", "services.yaml") == 2

    assert "in a circle: a -> b -> a" in capsys.readouterr().err
    assert not (folder / "services.yaml").exists()


def test_what_is_told_cannot_drive_the_terminal(folder: Path, capsys: pytest.CaptureFixture[str]):
    (folder / "c.yaml").write_text('services: {a: {image: a, build: {"\\a\\e]0;x": 1}}}')

    assert run("import", "c.yaml") == 1

    err = capsys.readouterr().err
    assert not {"\033", "\a"} & set(err)
    assert "no such key is known" in err


def test_a_variable_that_is_not_set_is_told_and_stays_one(folder: Path, capsys: pytest.CaptureFixture[str]):
    (folder / "c.yaml").write_text("services: {a: {image: 'a:$NOT_SET_ANYWHERE', build: .}}")

    assert run("import", "c.yaml") == 0

    out, err = capsys.readouterr()
    assert "- $NOT_SET_ANYWHERE\n" in out
    assert "note: c.yaml: the variable NOT_SET_ANYWHERE is not set" in err


@pytest.mark.parametrize(
    ("name", "content", "words", "fact"),
    [
        ("c.yaml", "services: {a: {image: a}}", [], "no service has a build section"),
        ("c.yaml", "services: [", [], "this is not YAML"),
        ("c.yaml", COMPOSE, ["other.yaml"], "only one Compose file"),
        ("c.yaml", COMPOSE, ["x.hcl"], "bake passes over some attributes of a Compose file"),
        ("c.yaml", COMPOSE, ["--from", "bake"], "bake passes over some attributes of a Compose file"),
        ("c.yaml", COMPOSE, ["x"], "bake files or a Compose file were expected"),
        ("c.txt", COMPOSE, [], "say which with --from"),
        ("big.yaml", "#" * (MAX_BYTES + 1), [], "larger than 4 MiB"),
        ("big.hcl", "#" * (MAX_BYTES + 1), [], "larger than 4 MiB"),
        ("c.yaml", b"\xff\xfe\x00", [], "error"),
        ("missing.hcl", None, [], "missing.hcl cannot be read: No such file"),
        ("c.yaml", COMPOSE, ["--project", "No Name"], "is not a name that can be used here"),
        ("c.yaml", COMPOSE, ["-o", "no/such/folder/s.yaml"], "cannot be written"),
    ],
)
def test_what_cannot_be_imported_is_exit_code_2_with_a_reason(
    name: str,
    content: str | bytes | None,
    words: list[str],
    fact: str,
    folder: Path,
    capsys: pytest.CaptureFixture[str],
):
    if content is not None:
        (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)

    assert run("import", name, *words) == 2

    out, err = capsys.readouterr()
    assert fact in err
    assert "Traceback" not in err
    assert out == ""


# Import of bake files


def test_bake_is_started_in_the_files_folder_with_names_that_are_no_options(
    folder: Path, buildx: Callable[[str], Path], capsys: pytest.CaptureFixture[str]
):
    (folder / "sub").mkdir()
    (folder / "sub" / "-.hcl").write_text('variable "HOME" {}\n')
    seen = buildx(printing("web"))

    assert run("import", "sub/-.hcl", "--target", "--list", "-o", "services.yaml") == 0

    words = ["bake", "--print", "--progress=plain", "--file=./-.hcl", "--", "--list"]
    assert seen.read_text().splitlines() == [str(folder / "sub"), *words]
    assert parse((folder / "services.yaml").read_text(), "s").services["web"].context == "sub"
    assert (
        "note: sub/-.hcl: bake filled variables in from the environment as it is now: HOME" in capsys.readouterr().err
    )


def test_targets_that_bake_builds_only_by_name_are_named(
    folder: Path, buildx: Callable[[str], Path], capsys: pytest.CaptureFixture[str]
):
    (folder / "docker-bake.json").write_text('{"target": {"web": {"pul": true}}}')
    seen = buildx(f'case "$*" in *"-- *") {printing("web", "test")};; *) {printing("web")};; esac')

    assert run("import", "docker-bake.json") == 1

    assert seen.read_text().count("--print") == 2
    err = capsys.readouterr().err
    assert "lost: docker-bake.json: web.pul: bake knows no such attribute" in err
    assert "left out, as bake does where no target is named: test (--target NAME takes one)" in err


def test_a_target_that_bake_cannot_read_and_was_not_asked_for_is_no_error(
    folder: Path, buildx: Callable[[str], Path], capsys: pytest.CaptureFixture[str]
):
    (folder / "x.hcl").write_text("")
    buildx(f'case "$*" in *"-- *") echo "ERROR: failed to stat key" >&2; exit 1;; *) {printing("web")};; esac')

    assert run("import", "x.hcl") == 0

    err = capsys.readouterr().err
    assert "outside of `default` is not known: docker buildx bake cannot read x.hcl: failed to stat key\n" in err


@pytest.mark.parametrize(
    ("said", "error"),
    [
        ("#1 reading\nERROR: x.hcl:3,1-1: Missing expression", "cannot read x.hcl: x.hcl:3,1-1: Missing expression\n"),
        ("ERROR: failed to find target default", "hint: there is no group or target `default`"),
        ("ERROR: failed to stat key: no such file", "hint: bake looks at the files of secrets"),
        ("", "it said nothing"),
        ("\033[2Jodd", "odd"),
    ],
)
def test_what_bake_says_is_the_error(
    said: str, error: str, folder: Path, buildx: Callable[[str], Path], capsys: pytest.CaptureFixture[str]
):
    (folder / "x.hcl").write_text("")
    (folder / "said").write_text(said)
    buildx(f"cat {folder}/said >&2; exit 1")

    assert run("import", "x.hcl") == 2

    err = capsys.readouterr().err
    assert error in err
    assert "\033" not in err


def test_bake_finds_an_agent_it_may_look_at(tmp_path: Path):
    (tmp_path / "bake").write_text('#!/bin/sh\n[ -S "$SSH_AUTH_SOCK" ] && echo "{\\"target\\": {}}"\n')
    (tmp_path / "bake").chmod(0o755)

    assert bake.printed(Buildx((str(tmp_path / "bake"),)), ["x"], [], folder=tmp_path, environ={}) == {"target": {}}


@pytest.mark.proof
@pytest.mark.parametrize(
    ("script", "fact"),
    [
        ("echo '{'", "not JSON"),
        ("sleep 60", "did not come to an end"),
        ("head -c 2000 /dev/zero", "more than 1000 bytes"),
    ],
)
def test_what_bake_must_not_print_or_take_for_ever_is_an_error(
    script: str, fact: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(bake, "MOST_BYTES", 1000)
    monkeypatch.setattr(bake, "DEADLINE_S", 0.3)
    (tmp_path / "bake").write_text(f"#!/bin/sh\nexec {script}\n")
    (tmp_path / "bake").chmod(stat.S_IRWXU)

    with pytest.raises(UsageError, match=fact):
        bake.printed(
            Buildx((str(tmp_path / "bake"),)), ["x"], [], folder=tmp_path, environ={"PATH": os.environ["PATH"]}
        )


def test_a_program_that_does_not_start_is_no_buildx(tmp_path: Path):
    with pytest.raises(BuildxMissing):
        bake.printed(Buildx((str(tmp_path / "none"),)), ["x"], [], folder=tmp_path)
