"""`init`: finds projects, and writes what builds them; all of it, or nothing.

In: an `InitRequest`. Out: `Written`. Touches: the projects' folders, and the services file.
"""

from __future__ import annotations

import os
import re
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from buildorch.bases.lifetimes import end_of_life
from buildorch.errors import UsageError
from buildorch.oci import ImageReference
from buildorch.project import write_atomically
from buildorch.scaffold import discovery, rendering
from buildorch.scaffold.found import FastApi, Found, NextJs
from buildorch.scaffold.services_text import Entry, added_text, new_text
from buildorch.services import ServicesFile, parse
from buildorch.services.yaml_nodes import MAX_BYTES, decode
from buildorch.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

_NAME = re.compile(r"[^a-z0-9]+")
_MARK = "\ufeff"
"""UTF-8's byte order mark, which a services file may begin with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InitRequest:
    """What `init` is to do."""

    file: Path = Path("services.yaml")
    folders: tuple[Path, ...] = ()
    """Where the projects are; none: wherever they are found."""
    python_base: str = rendering.PYTHON_BASE
    node_base: str = rendering.NODE_BASE
    force: bool = False
    """Whether files that are there are written over."""
    dry_run: bool = False


@dataclass(frozen=True, slots=True)
class Written:
    """What was written, or would be."""

    services: Mapping[str, Found]
    texts: Mapping[Path, str]
    """The file's path -> its text; the services file's last."""


class _Before(NamedTuple):
    """A services file as it was."""

    mark: str
    text: str
    file: ServicesFile


def init(request: InitRequest) -> Written:
    """Find the projects, and write their files and the services file's entries.

    Raises:
        UsageError: there is no project, one lacks what its image needs, or a file is there or cannot be written.
        ServicesFileError: the services file has problems.
    """
    for base in (request.python_base, request.node_base):
        ImageReference.parse(base)
    root = request.file.resolve().parent
    if not root.is_dir():
        raise UsageError(f"there is no folder {root}", hint="name a services file in the project's folder with -f")
    before = _before(request.file)
    known = {} if before is None else _contexts(before.file, root)
    projects = (
        discovery.named(root, request.folders, known, again=request.force)
        if request.folders
        else discovery.below(root, known)
    )
    services = _named(projects, known)
    texts = _project_texts(request, services, project=before.file.project if before else _fit(root.name, "project"))
    _require_free(texts, services, force=request.force)
    entries = [_entry(name, found, root, request) for name, found in services.items() if found.folder not in known]
    if entries:
        texts[request.file] = _services_text(request, before, entries, root)
    if not request.dry_run:
        _write(texts)
    return Written(services, texts)


def _before(path: Path) -> _Before | None:
    """The services file, if it is there.

    Raises:
        UsageError: it cannot be read.
        ServicesFileError: it has problems.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        if path.is_symlink():
            raise UsageError(f"{path} is a link that leads nowhere", hint="remove it, and run init again") from None
        return None
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}", hint="name a services file with -f") from None
    text = decode(data, str(path))
    mark = _MARK if data.startswith(_MARK.encode()) else ""
    return _Before(mark, text, parse(text, str(path), variables=os.environ))


def _contexts(file: ServicesFile, root: Path) -> dict[Path, str]:
    """The folders that have a service already, and its name."""
    return {(root / (one.context or f"services/{name}")).resolve(): name for name, one in file.services.items()}


def _named(projects: Sequence[Found], known: Mapping[Path, str]) -> dict[str, Found]:
    """A name for each, after its folder."""
    named: dict[str, Found] = {}
    for found in projects:
        base = _fit(found.folder.name, "app")
        name, number = known.get(found.folder, base), 2
        while name in named or (found.folder not in known and name in known.values()):
            name, number = f"{base}-{number}", number + 1
        named[name] = found
    return named


def _fit(text: str, default: str) -> str:
    """A project's or a service's name."""
    return _NAME.sub("-", text.lower()).strip("-") or default


def _base(found: Found, request: InitRequest) -> str:
    return request.python_base if isinstance(found, FastApi) else request.node_base


def _project_texts(request: InitRequest, services: Mapping[str, Found], *, project: str) -> dict[Path, str]:
    folders = [found.folder for found in services.values()]
    texts: dict[Path, str] = {}
    for name, found in services.items():
        inner = [one.relative_to(found.folder).as_posix() for one in folders if found.folder in one.parents]
        base = _base(found, request)
        for file, text in rendering.files(found, cache=f"{project}-{name}", base=base, others=inner).items():
            texts[found.folder / file] = text
    return texts


def _entry(name: str, found: Found, root: Path, request: InitRequest) -> Entry:
    """docs/adr/0001 decides the sizes."""
    base = _base(found, request)
    largest, wanted = ("500MB", "450MB") if isinstance(found, FastApi) else ("300MB", "280MB")
    end = end_of_life(base, datetime.now(UTC).date())
    why = f"init wrote {base}, whose support ended on {end}; move to a later release" if end else ""
    context = found.folder.relative_to(root).as_posix()
    return Entry(name=name, context=context, max_bytes=largest, target_bytes=wanted, rules_off=why)


def _services_text(request: InitRequest, before: _Before | None, entries: Sequence[Entry], root: Path) -> str:
    source = str(request.file)
    if before is not None:
        return before.mark + added_text(before.text, source, entries, variables=os.environ)
    text = new_text(_fit(root.name, "project"), entries, bases=(request.python_base, request.node_base))
    parse(text, source, variables=os.environ)
    return text


def _require_free(paths: Iterable[Path], services: Mapping[str, Found], *, force: bool) -> None:
    """Refuse to write over what somebody wrote, and through what leads elsewhere.

    Raises:
        UsageError: a file is there, or is a link.
    """
    paths = list(paths)
    if links := [path for path in paths if path.is_symlink()]:
        raise UsageError(f"{links[0]} is a link", hint="remove it, or write the file it leads to by hand")
    changed = {one.folder / one.config for one in services.values() if isinstance(one, NextJs)}
    if not force and (there := [str(path) for path in paths if path not in changed and path.exists()]):
        hint = "--force writes over it; git keeps what it was"
        raise UsageError(f"{' and '.join(there)} is there already", hint=hint)


def _write(texts: Mapping[Path, str]) -> None:
    """Write every file; where one cannot be written, or an interrupt comes, those before it are as they were.

    Raises:
        UsageError: one cannot be written.
    """
    with ExitStack() as undo:
        for path, text in texts.items():
            _write_one(path, text, undo)
        undo.pop_all()


def _write_one(path: Path, text: str, undo: ExitStack) -> None:
    def unwritable(_: str, reason: str) -> UsageError:  # by the name it was given: a link leads to another
        hint = "nothing was written; see to that, and run init again"
        return UsageError(f"{path} cannot be written: {reason}", hint=hint)

    try:
        undo.callback(_put_back, path, path.read_bytes() if path.exists() else None)
        target, mode = path.resolve(), _mode(path)
    except OSError as error:
        raise unwritable("", error.strerror or str(error)) from None
    write_atomically(target, text, mode=mode, unwritable=unwritable)


def _mode(path: Path) -> int:
    return path.stat().st_mode & 0o777 if path.exists() else 0o644


def _put_back(path: Path, content: bytes | None) -> None:
    if content is None:
        path.unlink(missing_ok=True)
    else:
        path.write_bytes(content)
