"""Running one solve: a process group of its own, its progress as events, and its end as an outcome.

In: a `Solve`. Out: events on a stream, then `Solved` or `Failure`. Touches: one process and one temporary folder, and
through what it is given the engine, for the answer to a ping.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from dataclasses import field
from pathlib import Path
from subprocess import DEVNULL
from typing import TYPE_CHECKING, Any

import anyio
import anyio.to_thread

from buildorch.buildx.argv import arguments, environment, runtime
from buildorch.buildx.deadlines import Heard, until_hopeless
from buildorch.buildx.failures import classify
from buildorch.buildx.progress import Progress
from buildorch.context import aliases
from buildorch.errors import EXIT_UNREACHABLE, first_own
from buildorch.record import Failure, FailureKind, Solved
from buildorch.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from anyio.abc import ObjectSendStream, Process

    from buildorch.buildx.client import Buildx
    from buildorch.events import Event
    from buildorch.plan import Solve

CHUNK = 64 * 1024
REPEAT_S = 0.2
"""Between two signals: one sent within 90 ms of the start is swallowed by the docker client."""
GRACE_S = 1.2
"""How long a build may take to end by itself once it was told to."""


@dataclass(frozen=True, slots=True)
class BuildxSolver:
    """Solves by `docker buildx build`; a `buildorch.execute.Solver`."""

    buildx: Buildx
    folder: Path
    """An existing temporary folder of the run's own, for aliases and metadata files."""
    is_frozen: Callable[[], bool] = lambda: False
    """Whether the engine takes a question and gives no answer."""
    is_staged: Callable[[Solve], bool] = lambda _: False
    """Whether a service is pushed under its staging name alone."""
    at_once: int = 1
    """How many builds there are at the same time."""
    environ: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))

    async def solve(
        self, solve: Solve, bases: Mapping[str, Solved], events: ObjectSendStream[Event]
    ) -> Solved | Failure:
        """Build one service; on cancellation the whole process group is stopped before this returns.

        Args:
            solve: what to build.
            bases: service -> what it was built to, for everything the solve builds on.
            events: where the build's progress goes.
        """
        links = await anyio.to_thread.run_sync(_aliases, self.folder, solve)
        metadata_file = self.folder / f"{solve.name}.metadata.json"
        metadata_file.unlink(missing_ok=True)
        images = {name: bases[service].reference for name, service in solve.bases.items()}
        staged = self.is_staged(solve)
        argv = arguments(solve, metadata_file=metadata_file, aliases=links, bases=images, staged=staged)
        progress = Progress(solve.name)
        try:
            ended = await self._watched([*_tied_to_us(), *self.buildx.command, *argv], solve, progress, events)
        except OSError as error:
            return Failure(
                kind=FailureKind.BUILDER_MISSING,
                message=f"docker buildx cannot be started: {error}",
                hint="install Docker's client with its buildx plugin (docker-buildx)",
                exit_code=EXIT_UNREACHABLE,
            )
        if isinstance(ended, Failure):
            return ended
        if ended != 0:
            return classify(progress, ended)
        metadata = _read(metadata_file)
        if metadata is None:
            return Failure(
                kind=FailureKind.OTHER,
                message="docker buildx build exited with 0 but wrote no metadata",
                hint="run it again with --progress plain to see what it did",
            )
        return _solved(solve, progress, metadata, bases)

    async def _watched(
        self, command: list[str], solve: Solve, progress: Progress, events: ObjectSendStream[Event]
    ) -> int | Failure:
        """The process's exit code; or why it was ended, where it could not have come to its end by itself."""
        heard = Heard()
        hopeless: Failure | None = None
        exit_code = 0
        try:
            async with anyio.create_task_group() as group:

                async def end_if_hopeless() -> None:
                    nonlocal hopeless
                    hopeless = await until_hopeless(progress, heard, solve.spec.timeouts, self._is_frozen)
                    group.cancel_scope.cancel()

                group.start_soon(end_if_hopeless)
                exit_code = await self._run(command, solve, progress, heard, events)
                group.cancel_scope.cancel()
        except BaseExceptionGroup as errors:
            raise first_own(errors) from None
        return hopeless or exit_code

    async def _is_frozen(self) -> bool:
        return await anyio.to_thread.run_sync(self.is_frozen, abandon_on_cancel=True)

    async def _run(
        self, command: list[str], solve: Solve, progress: Progress, heard: Heard, events: ObjectSendStream[Event]
    ) -> int:
        # asyncio, cancelled while it starts a process, kills that process alone and forgets what it has started itself.
        with anyio.CancelScope(shield=True):
            process = await anyio.open_process(
                command,
                stdin=DEVNULL,
                stdout=DEVNULL,
                cwd=solve.root,
                env={**runtime(at_once=self.at_once, cpus=os.cpu_count() or 1), **self.environ, **environment(solve)},
                start_new_session=True,
            )
        try:
            async with process:
                try:
                    await _relay(process, progress, heard, events)
                    return await process.wait()
                except BaseException:
                    with anyio.CancelScope(shield=True):
                        await _stop(process)
                    raise
        finally:
            if process.returncode is None:
                _signal(process, signal.SIGKILL)


async def _relay(process: Process, progress: Progress, heard: Heard, events: ObjectSendStream[Event]) -> None:
    """Pass on what the build prints until it closes its stderr."""
    stream = process.stderr
    if stream is None:
        return
    while True:
        try:
            chunk = await stream.receive(CHUNK)
        except anyio.EndOfStream:
            break
        told = progress.feed(chunk)
        heard.hear(progress.news)
        for event in told:
            await events.send(event)
    for event in progress.close():
        await events.send(event)


async def _stop(process: Process) -> None:
    """End the whole process group: SIGTERM, again and again within the grace period, then SIGKILL."""
    with anyio.move_on_after(GRACE_S):
        while process.returncode is None:
            _signal(process, signal.SIGTERM)
            with anyio.move_on_after(REPEAT_S):
                await process.wait()
    _signal(process, signal.SIGKILL)
    await process.wait()


def _signal(process: Process, number: signal.Signals) -> None:
    try:
        os.killpg(process.pid, number)
    except (ProcessLookupError, PermissionError):
        return  # the group is gone: what was asked for


def _tied_to_us() -> list[str]:
    """On Linux: a build dies when buildorch does, even by SIGKILL (prctl(2), PR_SET_PDEATHSIG)."""
    setpriv = shutil.which("setpriv") if sys.platform == "linux" else None
    return [setpriv, "--pdeathsig", "TERM", "--"] if setpriv else []


def _aliases(folder: Path, solve: Solve) -> dict[Path, Path]:
    return aliases(folder, service=solve.name, folders=solve.folders)


def _read(path: Path) -> dict[str, Any] | None:
    try:
        loaded = json.loads(path.read_bytes())
    except (FileNotFoundError, ValueError):
        return None
    return loaded if isinstance(loaded, dict) else None


def _solved(solve: Solve, progress: Progress, metadata: dict[str, Any], bases: Mapping[str, Solved]) -> Solved:
    digest, config = metadata.get("containerimage.digest"), metadata.get("containerimage.config.digest")
    own = {name: bases[service].digest for name, service in solve.bases.items()}
    return Solved(
        name=solve.references[0],
        digest=str(digest) if digest else None,
        # On the graphdriver store what is called the image's digest is its config's.
        pinned=bool(digest) and digest != config,
        bases={**progress.bases, **{name: found for name, found in own.items() if found}},
        steps=progress.steps,
        warnings=tuple(progress.warnings),
    )
