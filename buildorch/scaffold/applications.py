"""Finds the FastAPI application in a project's modules, by their syntax alone: nothing of it is imported or run.

In: a folder. Out: `Application`. Touches: the folder, for reading.
"""

from __future__ import annotations

import ast
import os
import re
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from buildorch.scaffold.found import Unfit
from buildorch.scaffold.reading import text_in

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

MOST_FILES = 5000
"""Of a project, that are looked into."""
_LEFT_OUT = frozenset(
    ("build", "dist", "docs", "env", "examples", "migrations", "node_modules", "site-packages", "test", "tests", "venv")
)
_LIKELY = ("main.py", "app.py", "api.py", "asgi.py", "server.py", "app/main.py", "src/main.py", "api/main.py")
_NAMES = ("app", "application", "api")
_FACTORIES = frozenset(("create_app", "make_app", "get_app", "build_app", "create_application", "get_application"))
_WORDS = ("FastAPI", *sorted(_FACTORIES))
_HEALTH = re.compile(r"/(?:api/)?(?:health|healthz|livez|live|ping|status)/?\Z")
_IMPORTABLE = re.compile(r"(?:[\w-]+/)*[\w-]+\.py\Z")


class Application(NamedTuple):
    """What uvicorn is to serve."""

    module: str
    name: str
    is_factory: bool
    source: str
    """The folder that the module's name begins in; empty for the project's own."""
    health: str
    """The path of one of its routes that tells whether it is well; empty where there is none."""
    others: tuple[str, ...]
    """Applications that were passed over, as `file:name`."""


class _Candidate(NamedTuple):
    file: str
    name: str
    is_factory: bool
    tree: ast.Module

    def rank(self) -> tuple[int, bool, int]:
        """The lower the likelier: by the file, then an application before a function, then by the name."""
        known = (
            _LIKELY.index(self.file) if self.file in _LIKELY else len(_LIKELY) + (not self.file.endswith("/main.py"))
        )
        return known, self.is_factory, _NAMES.index(self.name) if self.name in _NAMES else len(_NAMES)


def application_in(folder: Path) -> Application:
    """The one application that the sources hold, or the likeliest.

    Raises:
        Unfit: there is none, or it cannot be told which of several is to be served.
    """
    found = sorted(_candidates(folder), key=lambda one: (one.rank(), one.file, one.name))
    if not found:
        hint = "give a module one at its top level, or a function create_app() that returns it"
        raise Unfit(folder, "no module has an application, such as `app = FastAPI()`", hint=hint)
    first = found[0]
    if equal := [f"{one.file}:{one.name}" for one in found if one.rank() == first.rank()][1:]:
        named = " and ".join([f"{first.file}:{first.name}", *equal[:2]])
        raise Unfit(
            folder, f"there are several applications: {named}", hint="put the one to serve into main.py, as app"
        )
    source = _source(folder, first)
    module = first.file.removeprefix(f"{source}/" if source else "").removesuffix(".py").removesuffix("/__init__")
    return Application(
        module.replace("/", "."),
        first.name,
        first.is_factory,
        source,
        _health(first),
        tuple(f"{one.file}:{one.name}" for one in found[1:] if not one.is_factory),
    )


def _candidates(folder: Path) -> Iterator[_Candidate]:
    for file, tree in _modules(folder):
        for node in tree.body:
            match node:
                case (
                    ast.Assign(targets=[ast.Name(id=name)], value=ast.Call() as call)
                    | ast.AnnAssign(target=ast.Name(id=name), value=ast.Call() as call)
                ) if _called(call) == "FastAPI" or _called(call) in _FACTORIES:
                    yield _Candidate(file, name, is_factory=False, tree=tree)
                case ast.FunctionDef() if node.name in _FACTORIES and _makes_one(node):
                    yield _Candidate(file, node.name, is_factory=True, tree=tree)
                case _:
                    pass


def _called(call: ast.Call) -> str:
    """`FastAPI` of `FastAPI(...)` and of `fastapi.FastAPI(...)`."""
    return call.func.id if isinstance(call.func, ast.Name) else str(getattr(call.func, "attr", ""))


def _makes_one(function: ast.FunctionDef) -> bool:
    """Whether it calls FastAPI, and can be called without an argument."""
    arguments = function.args
    required = len(arguments.posonlyargs) + len(arguments.args) - len(arguments.defaults)
    if required > 0 or None in arguments.kw_defaults:
        return False
    return any(isinstance(node, ast.Call) and _called(node) == "FastAPI" for node in ast.walk(function))


def _modules(folder: Path) -> Iterator[tuple[str, ast.Module]]:
    """The project's own modules that may hold an application, by their paths; what is no Python serves nothing."""
    for file in _files(folder):
        text = text_in(folder / file, folder)
        if text is None or not any(word in text for word in _WORDS):
            continue
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # about the project's own strings
                yield file, ast.parse(text)
        except (SyntaxError, ValueError, RecursionError, MemoryError):  # MemoryError: nested too deep for the parser
            continue


def _files(folder: Path) -> Iterator[str]:
    """Python files whose modules have a name."""
    count = 0
    for place, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if name not in _LEFT_OUT and not name.startswith((".", "__")))
        for name in sorted(files):
            path = Path(place, name).relative_to(folder).as_posix()
            if _IMPORTABLE.match(path):
                count += 1
                if count > MOST_FILES:
                    return
                yield path


def _source(folder: Path, found: _Candidate) -> str:
    """Where its module's name begins: where most of what it imports is found, else `src` if that is no package."""
    parents = found.file.split("/")[:-1]
    roots = ["/".join(parents[:depth]) for depth in range(len(parents) + 1)]
    depth = max((node.level for node in _from(found.tree)), default=0)
    fit = [root for at, root in enumerate(roots) if len(parents) - at >= depth and not _is_package(folder, root)]
    if not fit:
        return ""
    usual = "src" if "src" in fit and len(parents) > 1 else ""
    imported = {*_imports(found.tree)}
    return max(fit, key=lambda root: (sum(_holds(folder / root, name) for name in imported), root == usual))


def _is_package(folder: Path, root: str) -> bool:
    return bool(root) and (folder / root / "__init__.py").is_file()


def _holds(root: Path, name: str) -> bool:
    return (root / f"{name}.py").is_file() or (root / name).is_dir()


def _from(tree: ast.Module) -> Iterator[ast.ImportFrom]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom))


def _imports(tree: ast.Module) -> Iterator[str]:
    """The first word of each name that is imported from the top."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
    yield from (str(node.module).partition(".")[0] for node in _from(tree) if not node.level)


def _health(found: _Candidate) -> str:
    """The first of its own routes whose path is that of a health check: one of a router may have a prefix before it."""
    owner: ast.AST = found.tree
    names = {found.name}
    if found.is_factory:
        owner = next(node for node in found.tree.body if isinstance(node, ast.FunctionDef) and node.name == found.name)
        names = {*_assigned(owner)}
    for node in ast.walk(owner):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            for path in _routes(node.decorator_list, names):
                if _HEALTH.match(path):
                    return path
    return ""


def _assigned(owner: ast.AST) -> Iterator[str]:
    """The names of FastAPI applications within a function."""
    for node in ast.walk(owner):
        match node:
            case (
                ast.Assign(targets=[ast.Name(id=name)], value=ast.Call() as call)
                | ast.AnnAssign(target=ast.Name(id=name), value=ast.Call() as call)
            ) if _called(call) == "FastAPI":
                yield name
            case _:
                pass


def _routes(decorators: Iterable[ast.expr], names: set[str]) -> Iterator[str]:
    """The paths of `@app.get(path)`."""
    for decorator in decorators:
        match decorator:
            case ast.Call(
                func=ast.Attribute(value=ast.Name(id=name), attr="get"), args=[ast.Constant(value=str(path)), *_]
            ) if name in names:
                yield path
            case _:
                pass
