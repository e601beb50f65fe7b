"""Shell completion: asked of real shells, and quiet whatever the services file is."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from test_imports import HEAVY, loaded_by

from buildorch.cli import main
from buildorch.cli.completion import service_names

SERVICES = """\
version: 1
services: # those of the shop
  # web: is none
  web-shop:
    context: web
  "web-admin": {context: admin}
  'backend':
defaults:
  web-default: no
"""
ASKED = {
    "bash": "COMP_WORDS=({words}); COMP_CWORD={at}; COMPREPLY=(); _buildorch_completion buildorch; printf '%s\\n' \"${{COMPREPLY[@]}}\"",
    # zsh's completion system runs in its line editor alone: what is handed to it is printed here.
    "zsh": "words=({words}); CURRENT={at}+1; _buildorch_completion",
    "fish": 'complete --do-complete "{words}"',
}
BEFORE = {
    "bash": 'eval "$(buildorch completion bash)"',
    "zsh": 'compdef() {}; compadd() { print -l -- $completions }; _describe() { print -l -- ${(@)${(@P)3}%%:*} }; eval "$(buildorch completion zsh)"',
    "fish": "buildorch completion fish | source",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, repository: Path) -> Path:
    """A project with a services file, and a command `buildorch` in `bin`."""
    folder = tmp_path_factory.mktemp("project")
    (folder / "services.yaml").write_text(SERVICES)
    program = folder / "bin" / "buildorch"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nPYTHONPATH="{repository}" exec "{sys.executable}" -m buildorch "$@"\n')
    program.chmod(0o755)
    return folder


@pytest.mark.proof
@pytest.mark.parametrize("shell", ASKED)
def test_a_real_shell_completes_commands_and_the_names_of_services(shell: str, folder: Path):
    if not shutil.which(shell):
        pytest.skip(f"there is no {shell} here")
    script = "\n".join(
        [
            BEFORE[shell],
            ASKED[shell].format(words="buildorch bui", at=1),
            "echo ---",
            ASKED[shell].format(words="buildorch build backend web-", at=3),
        ]
    )

    environment = {**os.environ, "PATH": f"{folder / 'bin'}:{os.environ['PATH']}"}
    done = subprocess.run(
        [shell, "-c", script], cwd=folder, env=environment, capture_output=True, text=True, check=True
    )

    commands, _, services = done.stdout.partition("---\n")
    assert {line.split("\t")[0] for line in commands.split("\n") if line} == {"build", "build-all", "builders"}
    assert set(services.split()) == {"web-shop", "web-admin"}
    assert done.stderr == ""


def completed(monkeypatch: pytest.MonkeyPatch, words: str) -> int:
    monkeypatch.setenv("BUILDORCH_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", words)
    monkeypatch.setenv("COMP_CWORD", str(len(words.split(" ")) - 1))
    monkeypatch.setattr("buildorch.cli.nobody_reads", lambda _: None)
    return main([])


def test_the_file_that_is_named_is_asked_and_a_name_is_completed_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    (tmp_path / "other.yaml").write_text("services:\n  one:\n  other:\n  two:\n")
    monkeypatch.chdir(tmp_path)

    assert completed(monkeypatch, "buildorch build -f other.yaml one o") == 0

    assert capsys.readouterr() == ("plain,other\n", "")


@pytest.mark.parametrize(
    "data", [None, b"", b"\xff\xfe\0", b"services: [\n", b"services:\n  - a\n  x y: 1\n", b"[" * 5000]
)
def test_a_services_file_that_is_none_completes_nothing_and_says_nothing(
    data: bytes | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    if data is not None:
        (tmp_path / "services.yaml").write_bytes(data)
    monkeypatch.chdir(tmp_path)

    assert completed(monkeypatch, "buildorch build w") == 0

    assert capsys.readouterr() == ("\n", "")


def test_only_the_keys_of_services_are_names():
    assert [*service_names(SERVICES)] == ["web-shop", "web-admin", "backend"]


@pytest.mark.proof
def test_completing_imports_nothing_heavy(folder: Path):
    loaded = loaded_by(
        "import os, buildorch.cli\n"
        f"os.chdir({str(folder)!r})\n"
        "os.environ |= {'BUILDORCH_COMPLETE': 'bash_complete', 'COMP_WORDS': 'buildorch build w', 'COMP_CWORD': '2'}\n"
        "buildorch.cli.nobody_reads = lambda _: None\n"
        "buildorch.cli.main([])"
    )

    assert "plain,web-shop" in loaded
    assert loaded & (HEAVY - {"click"}) == set()
