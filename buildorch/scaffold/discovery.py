"""Which projects init is to write for: those that are named, or all that are found.

In: folders. Out: `Found` projects, sorted by where they are. Touches: the folders, for reading.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from buildorch.errors import UsageError
from buildorch.scaffold.fastapi import fastapi_in
from buildorch.scaffold.found import Found, Unfit
from buildorch.scaffold.nextjs import nextjs_in

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

PLACES = ("", "*", "services/*", "apps/*", "packages/*")
"""Where projects are looked for, below the services file's folder."""


def below(root: Path, known: Mapping[Path, str]) -> tuple[Found, ...]:
    """Every project at the usual places that has no service yet.

    Args:
        root: the services file's folder, resolved.
        known: folders that have a service, and its name.

    Raises:
        UsageError: there is none, or something is not as it should be in one or several.
    """
    folders = sorted({*_candidates(root)} - known.keys())
    found = _each(project_in, folders)
    if not found:
        raise UsageError(
            f"no FastAPI or Next.js project without a service was found in {root}, nor in its "
            + ", ".join(place for place in PLACES if place),
            hint="name its folder: buildorch init path/to/project",
        )
    return found


def _candidates(root: Path) -> Iterator[Path]:
    for place in PLACES:
        for folder in root.glob(place) if place else [root]:
            hidden = folder != root and (folder.name.startswith(".") or folder.name == "node_modules")
            if not hidden and folder.is_dir() and (resolved := folder.resolve()).is_relative_to(root):
                yield resolved


def named(root: Path, folders: Sequence[Path], known: Mapping[Path, str], *, again: bool) -> tuple[Found, ...]:
    """The projects in folders that were named.

    Args:
        root: the services file's folder, resolved.
        folders: as they were named.
        known: folders that have a service, and its name.
        again: whether those are written for once more.

    Raises:
        UsageError: one is no folder, is not below the root, has a service, or holds no project that is understood.
    """

    def one(folder: Path) -> Found:
        resolved = folder.resolve()
        if not resolved.is_dir():
            raise UsageError(f"there is no folder {folder}", hint="name the folder of a FastAPI or Next.js project")
        if not resolved.is_relative_to(root):
            raise UsageError(f"{folder} is not below {root}", hint="name the services file above it with -f")
        if resolved in known and not again:
            hint = "--force writes its Dockerfile and .dockerignore again"
            raise UsageError(f"{folder} has a service already: {known[resolved]}", hint=hint)
        if found := project_in(resolved):
            return found
        hint = "init looks for fastapi in requirements.txt or pyproject.toml, and for next in package.json"
        raise UsageError(f"{folder} is no FastAPI or Next.js project", hint=hint)

    return _each(one, {folder.resolve(): folder for folder in folders}.values())


def project_in(folder: Path) -> Found | None:
    """The project of a folder, if there is one.

    Raises:
        Unfit: something is not as it should be, its path among that, or it is both.
    """
    next_js, fast_api = nextjs_in(folder), fastapi_in(folder)
    if (next_js or fast_api) and not str(folder).isprintable():
        raise Unfit(folder, "its path has characters that no services file can have", hint="rename it")
    if next_js and fast_api:
        hint = "move one into a folder of its own: an image has one of them"
        raise Unfit(folder, "it is a Next.js and a FastAPI project at once", hint=hint)
    return next_js or fast_api


def _each(find: Callable[[Path], Found | None], folders: Iterable[Path]) -> tuple[Found, ...]:
    """What is found in each folder; all that is wrong is told at once."""
    found, wrong = [], []
    for folder in folders:
        try:
            if one := find(folder):
                found.append(one)
        except UsageError as error:
            wrong.append(error)
    if len(wrong) == 1:
        raise wrong[0]
    if wrong:
        hint = "mend these, or name the folders to write for: buildorch init FOLDER..."
        raise UsageError("\n".join(error.told for error in wrong), hint=hint)
    return tuple(found)
