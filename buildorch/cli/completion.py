"""Shell completion: the script that a shell reads, and the words that only this project knows.

In: a shell's name; a services file's path, as far as it is typed. Out: a script; names of services. Touches: the
services file, for reading. While a shell waits nothing heavy is imported, and nothing is raised.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import click

from buildorch.cli import COMPLETE

if TYPE_CHECKING:
    from collections.abc import Iterator

SHELLS = ("bash", "zsh", "fish")
MOST_BYTES = 1024 * 1024
_KEY = re.compile(r"""( +)(?:"([\w.-]+)"|'([\w.-]+)'|([\w.-]+))\s*:(?:\s|\Z)""")


@click.command("completion", epilog="Example: buildorch completion fish > ~/.config/fish/completions/buildorch.fish")
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print the script that lets a shell complete commands, options and the names of services."""
    from click.shell_completion import BashComplete, FishComplete, ZshComplete  # noqa: PLC0415 - only here

    kind = {"bash": BashComplete, "zsh": ZshComplete, "fish": FishComplete}[shell]
    click.echo(kind(context.find_root().command, {}, "buildorch", COMPLETE).source())


def services(context: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
    """The services of the file that is named so far, which begin as what is typed and are not there yet."""
    path = context.params.get("file") or Path("services.yaml")
    given = {word for value in context.params.values() if isinstance(value, tuple) for word in value}
    return [name for name in _names(Path(path)) if name.startswith(incomplete) and name not in given]


def _names(path: Path) -> list[str]:
    try:
        with path.open("rb") as file:
            text = file.read(MOST_BYTES).decode("utf-8", "replace")
    except (OSError, ValueError):
        return []
    return list(dict.fromkeys(service_names(text)))


def service_names(text: str) -> Iterator[str]:
    """The keys below `services:` in block style, without a YAML parser: a shell waits for each key that is pressed."""
    indent, inside = "", False
    for line in text.splitlines():
        if line and not line[0].isspace() and not line.startswith("#"):
            inside, indent = re.match(r"services\s*:\s*(#.*)?\Z", line) is not None, ""
        elif inside and (found := _KEY.match(line)):
            indent = indent or found[1]
            if found[1] == indent:
                yield found[2] or found[3] or found[4]
