"""What is on the disk around a services file: its text, its folders, the git commit, the record's place.

In: paths. Out: a services file, a revision, checks. Touches: the file system, and one git process.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from buildorch import __version__
from buildorch.context.listing import STATE_FOLDER
from buildorch.errors import Problem, ServicesFileError, UnwritableRecord, UsageError
from buildorch.plan import Plan, Revision, Solve
from buildorch.services.memory import Consulted, key_of, recall, remembered
from buildorch.services.yaml_nodes import MAX_BYTES, decode
from buildorch.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from buildorch.services import Override, Parsed, Places, ServicesFile

MEMORY_FILE = "services.{name}.json"
"""In the state folder: what was parsed of a services file of that name. It can be deleted at any time."""


@dataclass(frozen=True, slots=True)
class Project:
    """A services file that was read, with its folder and the places of its values."""

    file: ServicesFile
    root: Path
    places: Callable[[], Places | None]
    """Where its values stand; a file that was recalled is parsed for it."""
    kept: Path | None = None
    """Where the next run looks for what was parsed."""
    memory: str | None = None
    """What is to be kept there; None where it is there already, or may not be."""

    @property
    def state(self) -> Path:
        """The folder of the ledger and, by default, of the run record."""
        return self.root / STATE_FOLDER

    def remember(self) -> None:
        """Keep what was parsed for the next run, in a state folder that is there."""
        if self.kept and self.memory:
            with suppress(UnwritableRecord):  # a shortcut, and no more
                write_atomically(self.kept, self.memory, mode=0o600)


def read(
    path: Path,
    *,
    overrides: Sequence[Override] = (),
    variables: Mapping[str, str] | None = None,
    memory: bool = False,
) -> Project:
    """The project whose services file is at `path`.

    Args:
        path: the services file.
        overrides: keys that replace what stands in it.
        variables: what its `${...}` are filled in from; the environment by default.
        memory: whether services that were parsed before may be recalled: they have a model's attributes, and are none.

    Raises:
        UsageError: there is no such file, or it cannot be read.
        ServicesFileError: with every problem of the file: its form, its values, and what it names that is not there.
    """
    source = os.path.relpath(path) if path.is_absolute() else str(path)
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        hint = "name it with -f FILE, or run this in the folder that holds it" if not path.exists() else ""
        raise UsageError(f"the services file {source} cannot be read: {error.strerror}", hint=hint) from None
    root = Path(os.path.realpath(path.parent))
    consulted = Consulted(os.environ if variables is None else variables)

    def parse() -> Parsed:
        from buildorch.services.parsing import examine  # noqa: PLC0415 - loads pydantic, for a file that is not known

        return examine(decode(data, source), source, variables=consulted, overrides=overrides)

    kept = root / STATE_FOLDER / MEMORY_FILE.format(name=path.name)
    key = key_of(data, _code_stamps()) if memory and not overrides else ""
    if key and (recalled := _recalled(kept, key, consulted)):
        return Project(recalled, root, lambda: parse().places)
    parsed = parse()
    if parsed.file is None:
        found = list(parsed.problems)
        if parsed.places is not None:
            for name, service in parsed.whole.items():
                found.extend(
                    one.problem(parsed.places) for one in _missing(name, root, service.context, service.dockerfile)
                )
        raise ServicesFileError(found)
    to_keep = remembered(parsed.file, key, consulted) if key else None
    return Project(parsed.file, root, lambda: parsed.places, kept, to_keep)


def _recalled(kept: Path, key: str, variables: Mapping[str, str]) -> ServicesFile | None:
    try:
        return recall(kept.read_text("utf-8"), key, variables)
    except (OSError, ValueError):
        return None


def _code_stamps() -> list[str]:
    """What changes whenever the code that parses a services file does: its own files, and what is installed."""
    own = sorted(Path(__file__).with_name("services").glob("*.py"))
    installed = [Path(entry) for entry in sys.path if entry.endswith(("site-packages", "dist-packages"))]
    stamps = [f"{path} {seen.st_size} {seen.st_mtime_ns}" for path in (*own, *installed) if (seen := _stat(path))]
    return [__version__, sys.version, *stamps]


def _stat(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except OSError:
        return None


def require_inputs(project: Project, plan: Plan) -> None:
    """Make sure that every folder and Dockerfile of the plan is there.

    Raises:
        ServicesFileError: naming all that are not.
    """
    missing = [one for solve in plan.solves for one in _missing_inputs(solve, project.root)]
    places = project.places() if missing else None
    if places is not None:
        raise ServicesFileError([one.problem(places) for one in missing])


class _Missing(NamedTuple):
    """Something that the services file names and that is not there."""

    path: tuple[str | int, ...]
    """Of the value that names it."""
    message: str
    hint: str = ""

    def problem(self, places: Places) -> Problem:
        return places.problem(self.path, self.message, hint=self.hint)


def _missing_inputs(solve: Solve, root: Path) -> Iterator[_Missing]:
    here: tuple[str | int, ...] = ("services", solve.name)
    yield from _missing(solve.name, root, solve.spec.context, solve.spec.dockerfile)
    for name, context in solve.contexts.items():
        if isinstance(context, Path) and not context.is_dir():
            yield _Missing((*here, "contexts", name), f"the folder {context} of the context {name!r} does not exist")
    for at, secret in enumerate(solve.spec.secrets):
        if secret.file and not (root / secret.file).is_file():
            yield _Missing((*here, "secrets", at), f"the file {secret.file} of the secret {secret.id!r} does not exist")


def _missing(name: str, root: Path, context: str | None, dockerfile: str | None) -> Iterator[_Missing]:
    here = ("services", name)
    text = context or f"services/{name}"
    if "://" in text or text.startswith(("git@", "github.com/")):
        return
    folder = root / text
    if not folder.is_dir():
        fact = "is not a folder" if folder.exists() else "does not exist"
        hint = "" if context else "a service without `context` has it in services/NAME"
        yield _Missing((*here, "context"), f"the context {text} {fact}", hint)
    elif not (folder / (dockerfile or "Dockerfile")).is_file():
        shown = os.path.normpath(os.path.join(text, dockerfile or "Dockerfile"))  # noqa: PTH118 - as the file wrote it
        yield _Missing((*here, "dockerfile" if dockerfile else "context"), f"there is no Dockerfile at {shown}")


def revision(root: Path) -> tuple[Revision | None, str]:
    """The git commit of the sources, and where there is none, why."""
    command = [
        "git",
        "-C",
        str(root),
        "status",
        "--porcelain=v2",
        "--branch",
        "-z",
        "--untracked-files=normal",
    ]
    environ = {**os.environ, "GIT_OPTIONAL_LOCKS": "0", "LC_ALL": "C"}
    try:
        done = subprocess.run(command, capture_output=True, env=environ, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return None, f"git does not run: {error}"
    if done.returncode != 0:
        said = done.stderr.decode("utf-8", "replace").strip().splitlines()
        return None, said[0] if said else f"git exited with {done.returncode}"
    head: dict[str, str] = {}
    dirty = False
    for field in done.stdout.decode("utf-8", "replace").split("\0"):
        if field.startswith("# "):
            key, _, value = field[2:].partition(" ")
            head[key] = value
        elif field:
            dirty = True
    if head.get("branch.oid", "(initial)") == "(initial)":
        return None, "there is no commit yet"
    branch = head.get("branch.head", "")
    return Revision(head["branch.oid"], "" if branch == "(detached)" else branch, dirty), ""


def require_writable(record: Path) -> None:
    """Make sure that the run record can be written, by making and removing a file beside it.

    Raises:
        UnwritableRecord: it cannot.
    """
    try:
        is_folder = record.is_dir()
        record.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=record.parent, prefix=f".{record.name}."):
            pass
    except OSError as error:
        raise UnwritableRecord(str(record), error.strerror or str(error)) from None
    if is_folder:
        raise UnwritableRecord(str(record), "it is a folder")


def read_bounded(path: Path, *, most_bytes: int, hint: str) -> bytes:
    """The bytes of a file that somebody named.

    Args:
        path: the file.
        most_bytes: how many it may have; a whole number of MiB.
        hint: what to name or do in its place.

    Raises:
        UsageError: it cannot be read, or has more.
    """
    try:
        with path.open("rb") as file:
            data = file.read(most_bytes + 1)
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}", hint=hint) from None
    if len(data) > most_bytes:
        raise UsageError(f"{path} is larger than {most_bytes // 1024**2} MiB", hint=hint)
    return data


def write_atomically(
    path: Path,
    text: str,
    *,
    mode: int = 0o644,
    unwritable: Callable[[str, str], UsageError] = UnwritableRecord,
) -> None:
    """Put `text` in place of what `path` holds: a reader sees the old text or the new one, never a part.

    Args:
        path: the file.
        text: what it is to hold.
        mode: its mode.
        unwritable: path, and why it cannot be written -> the error: whoever writes knows what the file is.

    Raises:
        UsageError: that error.
    """
    temporary = None
    try:
        with tempfile.NamedTemporaryFile(
            "w", encoding="utf-8", dir=path.parent, prefix=f".{path.name}.", delete=False
        ) as file:
            temporary = Path(file.name)
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(mode)
        temporary.replace(path)
    except OSError as error:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
        raise unwritable(str(path), error.strerror or str(error)) from None
