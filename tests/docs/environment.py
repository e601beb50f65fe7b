"""Which environment variables the code reads and sets, found in its syntax.

A variable is read where its name is asked of a mapping whose name ends in `environ`, where click is told it (`envvar=`), where
one of the names in NAMED holds it, and where a call of INDIRECT reads it for us.
"""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

from pages import ROOT

NAMED = {"_VARIABLES", "_SHOWN_ONLY", "COMPLETE"}
"""Module-level names that hold names of variables which are read."""
SETTINGS = {"DEFAULTS", "CROWDED", "ENVIRONMENT"}
"""Module-level mappings of variables that are set for a process."""
INDIRECT = {
    r"shutil\.which\(": ("PATH",),
    r"tempfile\.(?:mkdtemp|TemporaryDirectory|NamedTemporaryFile)\((?![^)]*dir=)": ("TMPDIR",),
    r"shutil\.get_terminal_size\(": ("COLUMNS", "LINES"),
    r"create_default_context\(\)|connect = http\.client\.HTTPSConnection": ("SSL_CERT_FILE", "SSL_CERT_DIR"),
    r"\bConsole\(file=": ("NO_COLOR",),
}
"""What a library reads for the code that calls it."""
_ABOUT = re.compile(
    r"environ|envvar|\b(?:DEFAULTS|CROWDED|ENVIRONMENT|COMPLETE|_VARIABLES|_SHOWN_ONLY) =", re.IGNORECASE
)
_NAME = re.compile(r"[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)*\Z")


@cache
def read() -> Mapping[str, set[str]]:
    """Variable -> the files that read it, those below `buildorch/` without that folder, all tests as `tests`."""
    found: dict[str, set[str]] = defaultdict(set)
    for path in _sources():
        for name in _read_by(path):
            found[name].add(_place(path))
    return found


@cache
def written() -> Mapping[str, set[str]]:
    """Variable -> the files of the package that set it for themselves or for a process."""
    found: dict[str, set[str]] = defaultdict(set)
    for path in _asking("buildorch"):
        for name in _written_by(ast.parse(path.read_text())):
            found[name].add(_place(path))
    return found


def whole() -> set[str]:
    """The package's files that ask for names which are not in the code, or give all of `os.environ` away to be asked."""
    found = set()
    for path in _asking("buildorch"):
        tree = ast.parse(path.read_text())
        given = any(_gives(node) for node in ast.walk(tree))
        asked = any(key is not None and not _names(key) and not _looped(tree, key) for key in _keys(tree))
        if given or asked:
            found.add(_place(path))
    return found


def _gives(node: ast.AST) -> bool:
    match node:
        case ast.keyword(arg="variables", value=value):
            return ast.unparse(value) == "os.environ"
        case ast.Call(func=ast.Name(id="Consulted")):
            return True
    return False


def _sources() -> Iterator[Path]:
    yield from (ROOT / name for name in ("Makefile", "services.yaml", "services/bases/services.yaml"))
    for folder in ("buildorch", "scripts", "bench", "tests"):
        yield from _python(folder)


def _python(folder: str) -> Iterator[Path]:
    found = sorted((ROOT / folder).rglob("*.py"))
    if folder == "scripts":
        found += [path for path in (ROOT / folder).iterdir() if path.is_file() and b"env python" in path.read_bytes()]
    yield from found


def _asking(folder: str) -> Iterator[Path]:
    """Those whose text could have to do with the environment: to parse all would take two seconds."""
    return (path for path in _python(folder) if _ABOUT.search(path.read_text()))


def _place(path: Path) -> str:
    below = path.relative_to(ROOT)
    if below.parts[0] == "tests":
        return "tests"
    return str(below.relative_to("buildorch")) if below.parts[0] == "buildorch" else str(below)


def _read_by(path: Path) -> Iterator[str]:
    text = path.read_text()
    if path.name == "Makefile":
        yield from re.findall(r"^([A-Z]+) \?=", text, re.MULTILINE)
    elif path.suffix == ".yaml":
        yield from re.findall(r"\$\{([A-Z_]+)", text)
    elif "tests" in path.relative_to(ROOT).parts:
        yield from re.findall(r"environ(?:\.get\(|\[)\"(BUILDORCH_\w+|CI)\"", text)
    else:
        if _ABOUT.search(text):
            tree = ast.parse(text)
            for key in _keys(tree):
                yield from _names(key) or _looped(tree, key)
            yield from _declared(tree)
        if path.is_relative_to(ROOT / "buildorch"):
            for pattern, names in INDIRECT.items():
                if re.search(pattern, text):
                    yield from names


def _keys(tree: ast.AST) -> Iterator[ast.expr]:
    """What is asked of the environment, as it stands."""
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Attribute(value=base, attr="get" | "setdefault" | "pop"), args=[key, *_]):
                pass
            case ast.Subscript(value=base, slice=key, ctx=ast.Load()):
                pass
            case ast.Compare(left=key, ops=[ast.In() | ast.NotIn()], comparators=[base]):
                pass
            case _:
                continue
        if isinstance(base, ast.Name | ast.Attribute) and ast.unparse(base).lower().endswith("environ"):
            yield key


def _names(node: ast.AST) -> list[str]:
    """The names of variables that are written out in an expression."""
    texts = [one.value for one in ast.walk(node) if isinstance(one, ast.Constant) and isinstance(one.value, str)]
    return [text for text in texts if _NAME.match(text)]


def _looped(tree: ast.AST, key: ast.expr) -> list[str]:
    """The names that a comprehension's variable stands for, where they are written out."""
    loops = [node for node in ast.walk(tree) if isinstance(node, ast.comprehension)]
    same = [loop for loop in loops if ast.unparse(loop.target) == ast.unparse(key) and isinstance(loop.iter, ast.Tuple)]
    return [name for loop in same for name in _names(loop.iter)]


def _declared(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        match node:
            case ast.keyword(arg="envvar", value=value):
                yield from _names(value)
            case ast.Assign(targets=[ast.Name(id=name)], value=value) if name in NAMED:
                yield from _names(value)
            case ast.comprehension(iter=ast.Call(func=ast.Attribute(value=base, attr="items")), ifs=conditions):
                if _is_environ(base):
                    yield from (f"{name}*" for one in conditions for name in _prefixes(one))


def _prefixes(condition: ast.expr) -> list[str]:
    return re.findall(r"startswith\('([A-Z_]+_)'\)", ast.unparse(condition))


def _written_by(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Attribute(value=base, attr="setdefault"), args=[key, *_]) if _is_environ(base):
                yield from _names(key)
            case ast.Subscript(value=base, slice=key, ctx=ast.Store()) if _is_environ(base):
                yield from _names(key)
            case ast.Dict(keys=keys, values=values) if any(
                key is None and _is_environ(value) for key, value in zip(keys, values, strict=True)
            ):
                yield from (name for key in keys if key is not None for name in _names(key))
            case ast.Assign(targets=[ast.Name(id=name)], value=ast.Dict(keys=keys)) if name in SETTINGS:
                yield from (name for key in keys if key is not None for name in _names(key))


def _is_environ(node: ast.expr) -> bool:
    return ast.unparse(node).lower().endswith(("environ", "environment"))
