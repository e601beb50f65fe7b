"""Which packages a Python project wants, who locked them, and what of it init can install.

In: a folder. Out: `Packages`. Touches: the folder, for reading.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple

from buildorch.scaffold.found import PythonManager, Unfit
from buildorch.scaffold.reading import is_file, mapping, read_text, read_toml

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_LOCKS: dict[str, PythonManager] = {"uv.lock": "uv", "poetry.lock": "poetry"}
_FOREIGN = {
    "pdm.lock": "pdm export --prod -o requirements.txt",
    "Pipfile.lock": "pipenv requirements --hash > requirements.txt",
}
"""Locks of managers that init does not know -> how they become one that it does."""
_LOCK_HINT = "run `uv lock`, `poetry lock`, or `pip-compile --generate-hashes -o requirements.txt`"
_USUAL = ("requirements.lock", "requirements.txt")
_FOR_DEVELOPERS = re.compile(r"dev|test|lint|doc|ci\b", re.IGNORECASE)
_FASTAPI = re.compile(r"^\s*[\"']?fastapi(?![\w.-])", re.MULTILINE | re.IGNORECASE)
_UVICORN = re.compile(
    r"^\s*uvicorn(?![\w.-])|^name = \"uvicorn\"|^\s*fastapi(?:-cli)?\[[^\]]*\b(?:standard|all)\b",
    re.MULTILINE | re.IGNORECASE,
)
_ELSEWHERE = re.compile(r"^(?:-r|--requirement|-c|--constraint)[ =]?\s*(?P<file>\S+)")
_NO_INDEX = re.compile(r"^(?:-e\b|--editable\b|\.{0,2}/)|(?:^|@\s*)(?:git|hg|svn|bzr)\+|(?:^|@\s*)file:")
_SOURCES = frozenset({"registry", "legacy"})
"""Where uv's and Poetry's locks may have a package from: an index."""


class Packages(NamedTuple):
    """The packages of a project that depends on FastAPI."""

    manager: PythonManager
    lock: str
    is_hashed: bool


def packages_in(folder: Path, about: dict[str, Any]) -> Packages | None:
    """Who installs and from which file; None where FastAPI is not among the dependencies.

    Args:
        folder: the project's.
        about: what its pyproject.toml says, of the project table and of Poetry's.

    Raises:
        Unfit: no lock or several, no uvicorn, or a package that is in no index.
    """
    declared = any(map(_FASTAPI.match, _declared(about.get("dependencies"))))
    declared = declared or bool(_FASTAPI.search(read_text(folder, "Pipfile") or ""))
    chosen = _chosen(folder, declared=declared)
    if chosen is None:
        return None
    manager, lock = chosen
    text = read_text(folder, lock) or ""
    if not _UVICORN.search(text):
        raise Unfit(folder, f"{lock} has no uvicorn", hint="add uvicorn to the dependencies: it serves the application")
    if strange := next(_strange(folder, manager, lock, text), ""):
        raise Unfit(
            folder, f"{lock} has {strange}", hint="init knows packages of an index: write the Dockerfile by hand"
        )
    return Packages(manager, lock, manager != "pip" or "--hash=" in text)


def _declared(dependencies: object) -> tuple[str, ...]:
    """Of `["fastapi>=0.1"]`, or of Poetry's `{fastapi: "^0.1"}`."""
    return tuple(map(str, dependencies)) if isinstance(dependencies, list | dict) else ()


def _chosen(folder: Path, *, declared: bool) -> tuple[PythonManager, str] | None:
    """The manager and its lock."""
    locks = [name for name in _LOCKS if declared and is_file(folder / name)]
    if len(locks) > 1:
        raise Unfit(folder, f"it has several locks: {' and '.join(locks)}", hint="keep that of the one in use")
    if locks:
        return _LOCKS[locks[0]], locks[0]
    if requirements := _requirements(folder, declared=declared):
        return "pip", requirements
    if not declared:
        return None
    for name, command in _FOREIGN.items():
        if is_file(folder / name):
            raise Unfit(folder, f"it is locked by {name}, which init does not know", hint=f"run `{command}`")
    raise Unfit(folder, "it depends on fastapi, and no lock says which packages to install", hint=_LOCK_HINT)


def _requirements(folder: Path, *, declared: bool) -> str:
    """The file that pip is to read: one of the usual names, or the only other one that names FastAPI."""
    for name in _USUAL:
        text = read_text(folder, name)
        if text and (declared or _FASTAPI.search(text)):
            return name
    others = [path.name for path in sorted(folder.glob("requirements*.txt")) if not _FOR_DEVELOPERS.search(path.name)]
    fit = [name for name in others if _FASTAPI.search(read_text(folder, name) or "")]
    if len(fit) > 1:
        raise Unfit(
            folder,
            f"several files name fastapi: {' and '.join(fit)}",
            hint="call that to install from requirements.txt",
        )
    return fit[0] if fit else ""


def _strange(folder: Path, manager: PythonManager, lock: str, text: str) -> Iterator[str]:
    """What pip could not install from that file alone, and an index."""
    if manager == "pip":
        for line in map(str.strip, text.splitlines()):
            if named := _ELSEWHERE.match(line):
                yield f"another file in it, {named['file']}"
            elif _NO_INDEX.search(line):
                yield f"a package that is in no index: {line}"
        return
    packages = read_toml(folder, lock).get("package")
    for package in packages if isinstance(packages, list) else ():
        source = mapping(mapping(package).get("source"))
        kinds = {source.get("type", "legacy")} if manager == "poetry" else source.keys()
        is_own = manager == "uv" and "." in source.values()
        if source and not is_own and not _SOURCES.issuperset(map(str, kinds)):
            yield f"a package that is in no index: {mapping(package).get('name')}"
