"""A click group whose commands may live in modules of their own, loaded when they are called for.

In: names, and where each command is. Out: click commands. Touches: nothing but imports.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Final

import click

if TYPE_CHECKING:
    from collections.abc import Mapping

ELSEWHERE: Final[Mapping[str, tuple[str, str]]] = {
    "builders": ("buildorch.cli.builders", "builders"),
    "cache": ("buildorch.cli.caching", "cache"),
    "compare": ("buildorch.cli.comparing", "compare"),
    "completion": ("buildorch.cli.completion", "completion"),
    "doctor": ("buildorch.cli.doctoring", "doctor"),
    "export": ("buildorch.cli.interop", "export"),
    "images": ("buildorch.cli.handing_over", "images"),
    "import": ("buildorch.cli.interop", "import_command"),
    "init": ("buildorch.cli.starting", "init"),
    "report": ("buildorch.cli.reporting", "report"),
    "resolve": ("buildorch.cli.handing_over", "resolve"),
}
"""Each command that is not in `commands.py`: its module and its name there. A build pays for none of them."""


class App(click.Group):
    """The command; its own commands first, then those from elsewhere."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Every command's name, sorted."""
        return sorted([*super().list_commands(ctx), *ELSEWHERE])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of that name, its module loaded."""
        if place := ELSEWHERE.get(cmd_name):
            command: click.Command = getattr(import_module(place[0]), place[1])
            return command
        return super().get_command(ctx, cmd_name)
