"""Finds a FastAPI application: its packages, its module, and a route for its health.

In: a folder. Out: `FastApi`. Touches: the folder, for reading. Nothing of the project is imported or run.
"""

from __future__ import annotations

import ast
import os
import re
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from buildorch.scaffold.found import FastApi, PythonManager, Unfit
from buildorch.scaffold.reading import read_text, text_in

if TYPE_CHECKING:
    from collections.abc import Iterator

REQUIREMENTS = ("requirements.lock", "requirements.txt")
MOST_FILES = 5000
"""Of a project, that are looked into."""
_LEFT_OUT = frozenset({"node_modules", "tests", "test", "venv", "env", "site-packages", "__pycache__", "docs", "build"})
_LIKELY = ("main.py", "app.py", "app/main.py", "src/main.py", "api/main.py", "asgi.py", "server.py")
_NAMES_FASTAPI = re.compile(r"^\s*fastapi\b(?!-)", re.MULTILINE | re.IGNORECASE)
_NAMES_UVICORN = re.compile(r"\buvicorn\b|\bfastapi(?:-cli)?\[standard", re.IGNORECASE)
_HEALTH = re.compile(r"/(?:api/)?(?:health|healthz|livez|live|ping|status)/?\Z")


class _Application(NamedTuple):
    file: str
    name: str
    is_factory: bool


def fastapi_in(folder: Path) -> FastApi | None:
    """The FastAPI application of a folder; None where the folder does not depend on FastAPI.

    Raises:
        Unfit: it does, and there is no lock, no uvicorn, or not one application to start.
    """
    about = _pyproject(folder)
    packages = _packages(folder, about)
    if packages is None:
        return None
    manager, lock, text = packages
    if not _NAMES_UVICORN.search(text):
        raise Unfit(folder, f"{lock} has no uvicorn", hint="add uvicorn to the dependencies: it serves the application")
    found = _application(folder)
    source = _source(folder, found.file)
    module = found.file.removeprefix(f"{source}/" if source else "").removesuffix(".py").removesuffix("/__init__")
    return FastApi(
        folder=folder,
        manager=manager,
        lock=lock,
        is_hashed=manager != "pip" or "--hash=" in text,
        application=f"{module.replace('/', '.')}:{found.name}",
        is_factory=found.is_factory,
        source=source,
        health=_health(folder),
        title=str(about.get("name") or folder.name),
        description=str(about.get("description") or "") or f"{about.get('name') or folder.name}, a FastAPI service",
    )


def _pyproject(folder: Path) -> dict[str, Any]:
    """What pyproject.toml says of the project, in the standard's words or in Poetry's."""
    text = read_text(folder, "pyproject.toml")
    if text is None:
        return {}
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise Unfit(folder, f"pyproject.toml is not TOML: {error}", hint="mend it, and run init again") from None
    project, tool = raw.get("project"), raw.get("tool")
    poetry = tool.get("poetry") if isinstance(tool, dict) else None
    about = {**(poetry if isinstance(poetry, dict) else {}), **(project if isinstance(project, dict) else {})}
    return {**about, "dependencies": _names(about.get("dependencies"))}


def _names(dependencies: object) -> tuple[str, ...]:
    """Of `["fastapi>=0.1"]`, or of Poetry's `{fastapi: "^0.1"}`."""
    if isinstance(dependencies, list):
        return tuple(str(one) for one in dependencies)
    return tuple(map(str, dependencies)) if isinstance(dependencies, dict) else ()


def _packages(folder: Path, about: dict[str, Any]) -> tuple[PythonManager, str, str] | None:
    """Who installs, from which file, and its text; None where FastAPI is not among the dependencies."""
    declared = any(_NAMES_FASTAPI.match(one) for one in about.get("dependencies", ()))
    locks: dict[str, PythonManager] = {"uv.lock": "uv", "poetry.lock": "poetry"}
    if declared:
        for lock, manager in locks.items():
            if text := read_text(folder, lock):
                return manager, lock, text
    for lock in REQUIREMENTS:
        text = read_text(folder, lock)
        if text and (declared or _NAMES_FASTAPI.search(text)):
            return "pip", lock, text
    if declared:
        raise Unfit(
            folder,
            "it depends on fastapi, and no lock says which packages to install",
            hint="run `uv lock`, `poetry lock`, or `pip-compile --generate-hashes -o requirements.txt`",
        )
    return None


def _application(folder: Path) -> _Application:
    """The one application that the sources hold."""
    found = sorted(_applications(folder), key=lambda one: (one.is_factory, _rank(one.file), one.file))
    if not found:
        raise Unfit(
            folder,
            "no module has an application, such as `app = FastAPI()`",
            hint="give a module one at its top level, or a function create_app() that returns it",
        )
    first = found[0]
    equal = [one for one in found if (one.is_factory, _rank(one.file)) == (first.is_factory, _rank(first.file))]
    if len(equal) > 1:
        named = " and ".join(f"{one.file}:{one.name}" for one in equal[:3])
        raise Unfit(folder, f"there are several applications: {named}", hint="put the one to serve into main.py")
    return first


def _rank(file: str) -> int:
    return _LIKELY.index(file) if file in _LIKELY else len(_LIKELY) + (not file.endswith("/main.py"))


def _applications(folder: Path) -> Iterator[_Application]:
    for file, tree in _modules(folder, "FastAPI"):
        for node in tree.body:
            match node:
                case ast.Assign(targets=[ast.Name(id=name)], value=ast.Call() as call) if _is_fastapi(call):
                    yield _Application(file, name, is_factory=False)
                case ast.AnnAssign(target=ast.Name(id=name), value=ast.Call() as call) if _is_fastapi(call):
                    yield _Application(file, name, is_factory=False)
                case ast.FunctionDef(name="create_app" | "make_app" | "get_app" | "build_app" as name) if any(
                    isinstance(inner, ast.Call) and _is_fastapi(inner) for inner in ast.walk(node)
                ):
                    yield _Application(file, name, is_factory=True)
                case _:
                    pass


def _is_fastapi(call: ast.Call) -> bool:
    """Whether it is `FastAPI(...)` or `fastapi.FastAPI(...)`."""
    return (call.func.id if isinstance(call.func, ast.Name) else getattr(call.func, "attr", "")) == "FastAPI"


def _modules(folder: Path, word: str) -> Iterator[tuple[str, ast.Module]]:
    """The project's own modules that hold a word, by their paths; those that are no Python serve nothing."""
    count = 0
    for place, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if name not in _LEFT_OUT and not name.startswith("."))
        for name in sorted(files):
            if not name.endswith(".py") or (text := text_in(Path(place) / name)) is None or word not in text:
                continue
            count += 1
            if count > MOST_FILES:
                return
            try:
                yield Path(place, name).relative_to(folder).as_posix(), ast.parse(text)
            except (SyntaxError, ValueError, RecursionError):
                continue


def _source(folder: Path, file: str) -> str:
    """Where its module's name begins: `src` holds packages where it is none itself."""
    inner = file.startswith("src/") and file.count("/") > 1
    return "src" if inner and not (folder / "src" / "__init__.py").is_file() else ""


def _health(folder: Path) -> str:
    """The first route whose path is that of a health check."""
    for _, tree in _modules(folder, ".get("):
        for node in ast.walk(tree):
            match node:
                case ast.Call(func=ast.Attribute(attr="get"), args=[ast.Constant(value=str(path)), *_]) if (
                    _HEALTH.match(path)
                ):
                    return path
                case _:
                    pass
    return ""
