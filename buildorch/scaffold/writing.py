"""`init`: finds projects, and writes what builds them; all of it, or nothing.

In: an `InitRequest`. Out: `Written`. Touches: the projects' folders, and the services file.
"""

from __future__ import annotations

import os
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from buildorch.bases.lifetimes import end_of_life
from buildorch.errors import UsageError
from buildorch.project import write_atomically
from buildorch.scaffold import rendering
from buildorch.scaffold.fastapi import fastapi_in
from buildorch.scaffold.found import FastApi, Found
from buildorch.scaffold.nextjs import nextjs_in
from buildorch.scaffold.services_text import Entry, added_text, new_text
from buildorch.services import parse
from buildorch.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

PLACES = ("", "*", "services/*", "apps/*", "packages/*")
"""Where projects are looked for, below the services file's folder."""
_NAME = re.compile(r"[^a-z0-9]+")


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


def init(request: InitRequest) -> Written:
    """Find the projects, and write their files and the services file's entries.

    Raises:
        UsageError: there is no project, one lacks what its image needs, or a file is there already.
        ServicesFileError: the services file has problems.
    """
    root = request.file.resolve().parent
    text = request.file.read_text(encoding="utf-8") if request.file.is_file() else None
    known = {} if text is None else _contexts(text, str(request.file), root)
    projects = [*_projects(request, root, known)]
    if not projects:
        raise UsageError(
            f"no FastAPI or Next.js project without a service was found below {root}",
            hint="name its folder: buildorch init path/to/project",
        )
    services = _named(projects, taken=frozenset(known.values()))
    texts: dict[Path, str] = {}
    entries = []
    for name, found in services.items():
        base = request.python_base if isinstance(found, FastApi) else request.node_base
        for file, content in rendering.files(found, name=name, base=base).items():
            texts[found.folder / file] = content
        entries.append(_entry(name, found, root, base=base))
    kept = {one.folder / one.config for one in projects if not isinstance(one, FastApi)}
    _require_free([path for path in texts if path not in kept], force=request.force)
    bases = (request.python_base, request.node_base)
    texts[request.file] = (
        new_text(_project_name(root), entries, bases=bases)
        if text is None
        else added_text(text, str(request.file), entries, variables=os.environ)
    )
    parse(texts[request.file], str(request.file), variables=os.environ)
    if not request.dry_run:
        _write(texts)
    return Written(services, texts)


def _contexts(text: str, source: str, root: Path) -> dict[Path, str]:
    """The contexts that have a service already, and its name."""
    file = parse(text, source, variables=os.environ)
    return {(root / (one.context or f"services/{name}")).resolve(): name for name, one in file.services.items()}


def _projects(request: InitRequest, root: Path, known: Mapping[Path, str]) -> Iterator[Found]:
    if request.folders:
        for folder in request.folders:
            yield _named_project(folder, root, known)
        return
    seen = set()
    for place in PLACES:
        for folder in sorted(root.glob(place)) if place else [root]:
            resolved = folder.resolve()
            fits = folder.is_dir() and not folder.name.startswith(".") and resolved.is_relative_to(root)
            if not fits or resolved in known or resolved in seen or folder.name == "node_modules":
                continue
            if found := _project(resolved):
                seen.add(resolved)
                yield found
                if not place:
                    return  # a project that is the whole folder has no others in it


def _named_project(folder: Path, root: Path, known: Mapping[Path, str]) -> Found:
    resolved = folder.resolve()
    if not resolved.is_dir():
        raise UsageError(f"there is no folder {folder}", hint="name the folder of a FastAPI or Next.js project")
    if not resolved.is_relative_to(root):
        raise UsageError(f"{folder} is not below {root}", hint="name the services file above it with -f")
    if resolved in known:
        raise UsageError(f"{folder} has a service already: {known[resolved]}", hint="change its Dockerfile by hand")
    found = _project(resolved)
    if found is None:
        raise UsageError(
            f"{folder} is no FastAPI or Next.js project",
            hint="init looks for fastapi in requirements.txt or pyproject.toml, and for next in package.json",
        )
    return found


def _project(folder: Path) -> Found | None:
    return nextjs_in(folder) or fastapi_in(folder)


def _named(projects: Sequence[Found], *, taken: frozenset[str]) -> dict[str, Found]:
    """A name for each, after its folder."""
    named: dict[str, Found] = {}
    for found in projects:
        base = _NAME.sub("-", found.folder.name.lower()).strip("-") or "app"
        name, number = base, 2
        while name in named or name in taken:
            name, number = f"{base}-{number}", number + 1
        named[name] = found
    return named


def _project_name(root: Path) -> str:
    return _NAME.sub("-", root.name.lower()).strip("-") or "project"


def _entry(name: str, found: Found, root: Path, *, base: str) -> Entry:
    """docs/adr/0001 decides the sizes."""
    largest, wanted = ("500MB", "450MB") if isinstance(found, FastApi) else ("300MB", "280MB")
    end = end_of_life(base, datetime.now(UTC).date())
    why = f"init wrote {base}, whose support ended on {end}; move to a later release" if end else ""
    context = found.folder.relative_to(root).as_posix()
    return Entry(name=name, context=context, max_bytes=largest, target_bytes=wanted, rules_off=why)


def _require_free(paths: Sequence[Path], *, force: bool) -> None:
    """Refuse to write over what somebody wrote, and through what leads elsewhere.

    Raises:
        UsageError: a file is there, or is a link.
    """
    if links := [path for path in paths if path.is_symlink()]:
        raise UsageError(f"{links[0]} is a link", hint="remove it, or write the file it leads to by hand")
    if not force and (there := [str(path) for path in paths if path.exists()]):
        raise UsageError(
            f"{' and '.join(there)} is there already", hint="--force writes over it; git keeps what it was"
        )


def _write(texts: Mapping[Path, str]) -> None:
    """Write every file, the services file last; where one cannot be written, those before it are as they were."""
    before = {path: path.read_bytes() if path.exists() else None for path in texts}
    done: list[Path] = []
    try:
        for path, text in texts.items():
            write_atomically(path, text)
            done.append(path)
    except UsageError:
        for path in done:
            content = before[path]
            path.unlink() if content is None else path.write_bytes(content)
        raise
