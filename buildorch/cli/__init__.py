"""The command's entry: arguments in, exit code out. The only place with broad catches.

In: the command line. Out: an exit code. Touches: stdout, stderr.
"""

from __future__ import annotations

import gc
import os
import sys
from typing import TYPE_CHECKING, NoReturn, TextIO

from buildorch import errors

if TYPE_CHECKING:
    from collections.abc import Sequence

GARBAGE = 50_000
"""New objects between two searches for unused circles of them; Python's own 700 is for programs that run for long."""
COMPLETE = "BUILDORCH_COMPLETE"
"""The variable by which the scripts of `buildorch completion` ask for words."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code (docs/reference/exit-codes.md); never a traceback.

    With BUILDORCH_DEBUG=1 a bug's traceback is shown.
    """
    try:
        return _run(argv)
    except KeyboardInterrupt:
        return errors.EXIT_INTERRUPTED
    except Exception as error:
        if os.environ.get("BUILDORCH_DEBUG"):
            raise
        _say(f"error: a bug in buildorch: {type(error).__name__}: {error}")
        _say("hint: please report it, with what BUILDORCH_DEBUG=1 shows")
        return errors.EXIT_BUG


def console() -> NoReturn:
    """The command as a process of its own: `main`, set up for a program that ends soon."""
    # It makes many objects that stay, and few circles: looking for those would cost it 25 ms, most of them at its end.
    gc.set_threshold(GARBAGE)
    # pydantic would look through every installed package for plugins, 5 ms; buildorch's models are its own.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    code = main()
    gc.freeze()
    sys.exit(code)


def nobody_reads(stream: TextIO) -> None:
    """What is written to the stream from here on goes nowhere: its reader went away."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _run(argv: Sequence[str] | None) -> int:
    import click  # noqa: PLC0415 - inside, so that an interrupt during imports ends quietly too

    from buildorch.cli.commands import app  # noqa: PLC0415

    try:
        result = app.main(args=argv, prog_name="buildorch", standalone_mode=False, complete_var=COMPLETE)
    except click.exceptions.Abort:
        return errors.EXIT_INTERRUPTED
    except SystemExit:
        # click's way to say that the reader went away, as in `buildorch show | head`, or that a shell has its words.
        nobody_reads(sys.stdout)
        return errors.EXIT_OK
    except click.ClickException as error:
        error.show()
        return errors.EXIT_USAGE
    except errors.BuildorchError as error:
        from buildorch.report.text import printable  # noqa: PLC0415

        for line in str(error).splitlines():
            _say(f"error: {printable(line)}")
        if error.hint:
            _say(f"hint: {printable(error.hint)}")
        return error.exit_code
    return result if isinstance(result, int) else errors.EXIT_OK


def _say(line: str) -> None:
    print(line, file=sys.stderr)  # noqa: T201 - the command's own words
