"""Where an entry of a layer's tar belongs, and what its name makes of it.

In: names as a tar writes them. Out: paths below the root. Touches nothing.

Sources: OCI image specification, `layer.md`, "Representing Changes"; containerd, archive/tar.go, for what the
specification leaves open (AUFS's own files, names that no whiteout can have).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from buildorch.errors import MalformedDocument

if TYPE_CHECKING:
    from buildorch.contents.layer import Kind

MAX_PATH = 4096
"""Bytes of a path: PATH_MAX of Linux."""
_SHOWN = 120
"""Characters of a path that a message shows."""
_WHITEOUT, _AUFS, _OPAQUE = ".wh.", ".wh..wh.", ".wh..wh..opq"


def below_root(name: bytes) -> str:
    """The path of an entry, or of what a hard link names: `./a//b/`, `/a/b` and `a/x/../b` are all `a/b`.

    Raises:
        MalformedDocument: it leads out of the root, or is no path.
    """
    path = text_of(name)
    return _cleaned(path) if _may_be_odd(path) else path


def text_of(name: bytes) -> str:
    """A path, or where a symbolic link leads, as it is written.

    Raises:
        MalformedDocument: it is no path.
    """
    path = name.decode(errors="surrogateescape")
    if len(name) > MAX_PATH:
        raise MalformedDocument("layer", f"the path {shown(path)} is longer than {MAX_PATH} B")
    if not path or "\0" in path:
        raise MalformedDocument("layer", f"the path {shown(path)} is none")
    return path


def change(path: str, kind: Kind) -> tuple[Kind, str] | None:
    """What an entry of this kind at a path below the root is, and of which path: a whiteout says so by its name alone.

    Returns:
        None for what AUFS keeps for itself.

    Raises:
        MalformedDocument: it is a whiteout of no name, or a root that is no folder.
    """
    if _WHITEOUT not in path:
        if not path and kind != "folder":
            raise MalformedDocument("layer", "its root is not a folder")
        return kind, path
    folder, slash, base = path.rpartition("/")
    if base == _OPAQUE:
        return "opaque", folder
    if path.startswith(_AUFS) or base.startswith(_AUFS):
        return None
    if not base.startswith(_WHITEOUT):
        return kind, path
    gone = base.removeprefix(_WHITEOUT)
    if gone in {"", ".", ".."}:
        raise MalformedDocument("layer", f"the path {shown(path)} is a whiteout of no name")
    return "whiteout", f"{folder}{slash}{gone}"


def shown(path: str) -> str:
    """A path for a message: quoted, escaped where it is not printable, and cut short."""
    return repr(path if len(path) <= _SHOWN else f"{path[:_SHOWN]}...")


def _may_be_odd(path: str) -> bool:
    """Whether it may have parts that `Entry.path` has not: nearly no path has."""
    return "//" in path or "./" in path or path.startswith("/") or path.endswith(("/", "."))


def _cleaned(path: str) -> str:
    parts: list[str] = []
    for part in path.split("/"):
        if part == "..":
            if not parts:
                raise MalformedDocument("layer", f"the path {shown(path)} leads out of the root")
            parts.pop()
        elif part not in {"", "."}:
            parts.append(part)
    return "/".join(parts)
