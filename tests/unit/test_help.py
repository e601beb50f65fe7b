"""Every command's help: an example that parses, lines that fit a terminal, and a man page that says the same."""

from __future__ import annotations

import re
import runpy
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from buildorch.cli.commands import app


def contexts(context: click.Context) -> Iterator[click.Context]:
    """A command's context and those of all below it."""
    yield context
    command = context.command
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            assert inner is not None
            yield from contexts(click.Context(inner, parent=context, info_name=name))


def all_contexts(width: int | None = None) -> dict[str, click.Context]:
    root = click.Context(app, info_name="buildorch", terminal_width=width, **app.context_settings)
    return {context.command_path: context for context in contexts(root)}


COMMANDS = all_contexts()


@pytest.mark.parametrize("path", COMMANDS)
def test_a_commands_example_is_one_of_its_own_and_parses(path: str):
    epilog = COMMANDS[path].command.epilog or ""
    assert epilog.startswith(f"Example: {path}")

    words = shlex.split(re.split(r" [|>] ", epilog.removeprefix("Example: "))[0])
    context = app.make_context(words[0], words[1:])
    while isinstance(context.command, click.Group):
        name, command, rest = context.command.resolve_command(context, [*context._protected_args, *context.args])
        assert command is not None
        context = command.make_context(name, rest, parent=context)


@pytest.mark.parametrize("width", [80, 100])
def test_help_stays_within_the_width_of_a_terminal(width: int):
    helps = {path: context.get_help() for path, context in all_contexts(width).items()}

    assert {path: line for path, text in helps.items() for line in text.splitlines() if len(line) > width} == {}


def test_the_man_page_is_what_the_commands_say(repository: Path):
    script = runpy.run_path(str(repository / "scripts" / "write-man"))

    assert (repository / "docs" / "man" / "buildorch.1").read_text("utf-8") == script["page"]()


def test_the_man_page_names_every_command_and_option(repository: Path):
    page = (repository / "docs" / "man" / "buildorch.1").read_text("utf-8").replace("\\-", "-")

    for path, context in COMMANDS.items():
        if isinstance(context.command, click.Group):
            continue
        assert f"\n.B {path}\n" in page
        for parameter in context.command.params:
            assert not isinstance(parameter, click.Option) or parameter.opts[-1] in page


@pytest.mark.proof
@pytest.mark.skipif(not shutil.which("groff"), reason="there is no groff here")
def test_groff_reads_the_man_page_without_a_warning(repository: Path):
    page = repository / "docs" / "man" / "buildorch.1"

    done = subprocess.run(["groff", "-ww", "-man", "-Tutf8", str(page)], capture_output=True, text=True, check=True)

    assert done.stderr == ""
    assert "build-all" in re.sub(r"\x1b\[\d+m|.\x08", "", done.stdout)


def test_lines_that_troff_would_take_for_requests_are_text(repository: Path):
    roff = runpy.run_path(str(repository / "scripts" / "write-man"))["roff"]

    assert roff(".buildorch\n'a' \\n") == "\\&.buildorch\n\\&'a' \\en"
