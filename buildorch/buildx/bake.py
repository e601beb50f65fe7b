"""What bake makes of bake files: `printed(...)`, by `docker buildx bake --print`.

In: files and names of targets. Out: the document that bake prints, or its error. Touches: one process, the files that
bake reads, and a socket that is there while it runs. No engine is needed.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from buildorch.buildx.argv import ENVIRONMENT
from buildorch.errors import BuildxMissing, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from buildorch.buildx.client import Buildx

DEADLINE_S = 60.0
"""A matrix of matrices can keep bake busy for ever."""
MOST_BYTES = 64 * 1024 * 1024
_MOST_LINES = 12


def printed(
    buildx: Buildx,
    files: Sequence[str],
    targets: Sequence[str],
    *,
    folder: Path,
    environ: Mapping[str, str] = os.environ,
) -> dict[str, Any]:
    """The targets, with variables, functions, inheritance and matrices worked off.

    Args:
        buildx: how it is started.
        files: paths from `folder`.
        targets: names, groups or globs; the group `default` if there is none.
        folder: where relative paths start.
        environ: what bake fills its variables in from.

    Raises:
        UsageError: bake cannot read the files, with its own words.
        BuildxMissing: it does not run.
    """
    # bake wants an agent to be there for `ssh = ["default"]`, and does not talk to it.
    with tempfile.TemporaryDirectory() as scratch, socket.socket(socket.AF_UNIX) as agent:
        agent.bind(f"{scratch}/agent")
        environment = {**environ, **ENVIRONMENT, "SSH_AUTH_SOCK": f"{scratch}/agent"}
        with (Path(scratch) / "out").open("w+b") as out:
            said = _run([*buildx.command, *words(files, targets)], out.fileno(), folder, environment)
            if said is not None:
                raise _unreadable(files, said)
            out.seek(0)
            return _document(out.read(MOST_BYTES + 1), files)


def words(files: Sequence[str], targets: Sequence[str]) -> list[str]:
    """Everything behind `docker buildx`; a file's name is never taken for stdin, nor a target's for an option."""
    return ["bake", "--print", "--progress=plain", *(f"--file=./{file}" for file in files), "--", *targets]


def _run(command: Sequence[str], out: int, folder: Path, environment: Mapping[str, str]) -> str | None:
    """None where all is well, else what bake said."""
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.PIPE,
            cwd=folder,
            env=environment,
            timeout=DEADLINE_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"ERROR: bake did not come to an end in {DEADLINE_S:.0f} s"
    except OSError as error:
        raise BuildxMissing(f"docker buildx does not run: {error.strerror}") from None
    return done.stderr.decode("utf-8", "replace") if done.returncode else None


def _unreadable(files: Sequence[str], said: str) -> UsageError:
    lines = said.partition("ERROR: ")[2].strip().splitlines() or said.strip().splitlines()[-1:] or ["it said nothing"]
    text = "\n".join(lines[:_MOST_LINES])
    return UsageError(f"docker buildx bake cannot read {', '.join(files)}: {text}", hint=_hint(text))


def _hint(text: str) -> str:
    if "failed to find target default" in text:
        return "there is no group or target `default`: name targets with --target, or all with --target '*'"
    if "failed to stat" in text or "agent config" in text:
        return "bake looks at the files of secrets and SSH keys: they must be there while it reads the file"
    return ""


def _document(data: bytes, files: Sequence[str]) -> dict[str, Any]:
    if len(data) > MOST_BYTES:
        raise UsageError(f"{', '.join(files)}: bake makes more than {MOST_BYTES} bytes of targets of it")
    try:
        document = json.loads(data)
    except ValueError as error:
        raise UsageError(f"docker buildx bake printed what is not JSON: {error}") from None
    return document if isinstance(document, dict) else {}
