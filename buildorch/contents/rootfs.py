"""The root file system that the layers of one image make together.

In: the layers' contents, lowest first. Out: its entries by path, and which of each layer's own are among them.
Touches nothing.

Sources: OCI image specification, `layer.md`, "Applying Changesets" and "Whiteouts"; containerd, archive/tar.go, for
what lies behind symbolic links: the folders of a path are followed within the root, its last name is not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from buildorch.errors import MalformedDocument

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from buildorch.contents.layer import Entry, LayerContents

MAX_NODES = 8_000_000
"""Files and folders of one image, with the folders no entry names: what a hostile image may make of its paths."""
_MAX_LINKS = 40
"""Symbolic links followed on one way: MAXSYMLINKS of Linux."""


def rootfs(layers: Sequence[LayerContents]) -> dict[str, Entry]:
    """The entries of the final root file system by their place in it, folders before what they hold.

    A place is the entry's own path, unless a folder of that is a symbolic link. Folders that no entry names are left
    out; an upper entry without its folders' entries makes such.

    Raises:
        MalformedDocument: there are more of them than any image has.
    """
    return {path: node.entry for path, node in _applied(layers).walk() if node.entry}


def survivors(layers: Sequence[LayerContents]) -> list[set[str]]:
    """For each layer the paths of its own entries that no later entry, whiteout or opaque folder took away or replaced.

    Raises:
        MalformedDocument: there are more of them than any image has.
    """
    found: list[set[str]] = [set() for _ in layers]
    for _, node in _applied(layers).walk():
        if node.entry:
            found[node.layer].add(node.entry.path)
    return found


def _applied(layers: Sequence[LayerContents]) -> _Tree:
    tree = _Tree()
    for index, layer in enumerate(layers):
        for entry in layer.entries:
            tree.apply(entry, index)
    return tree


class _Node:
    """What is at one path, as the layers so far leave it."""

    __slots__ = ("entry", "layer")

    def __init__(self, entry: Entry | None, layer: int) -> None:
        self.entry = entry
        """None for a folder that is there because of what it holds."""
        self.layer = layer
        """The layer that says what it is."""

    @property
    def target(self) -> str:
        """Where it leads, if it is a symbolic link."""
        return self.entry.target if self.entry is not None and self.entry.kind == "symlink" else ""


class _Folder(_Node):
    """A folder."""

    __slots__ = ("held", "own_since")

    def __init__(self, entry: Entry | None, layer: int) -> None:
        super().__init__(entry, layer)
        self.held: dict[str, _Node] = {}
        self.own_since = layer
        """It holds nothing of a layer below this one, so it need not be looked through for such again."""


class _Tree:
    """A root file system in the making."""

    def __init__(self) -> None:
        self._root = _Folder(None, 0)
        self._last = ("", self._root)
        """A path and the folder there: tars have a folder's entries one behind the other."""
        self._count = 1

    def apply(self, entry: Entry, layer: int) -> None:
        """Apply one entry; a layer's whiteouts take away only what layers below it have, wherever they stand in it."""
        above, _, name = entry.path.rpartition("/")
        if entry.kind in {"opaque", "whiteout"}:
            self._last = ("", self._root)
        if entry.kind == "opaque":
            _hide(_lower(self._folder(entry.path, None), layer), layer)
        elif entry.kind == "whiteout":
            folder = self._folder(above, None)
            _hide([(folder, name)] if name in folder.held else [], layer)
        elif name:
            if self._last[0] != above:
                self._last = (above, self._folder(above, layer))
            self._put(self._last[1], name, entry, layer)
        else:
            self._root.entry, self._root.layer = entry, layer

    def walk(self) -> Iterator[tuple[str, _Node]]:
        """Every node with its path, folders before what they hold."""
        left: list[tuple[str, _Node]] = [("", self._root)]
        while left:
            path, node = left.pop()
            yield path, node
            if isinstance(node, _Folder):
                above = f"{path}/" if path else ""
                left += [(above + name, child) for name, child in reversed(node.held.items())]

    def _put(self, folder: _Folder, name: str, entry: Entry, layer: int) -> None:
        """A folder keeps what it holds where another folder takes its place; all else is replaced whole."""
        before = folder.held.get(name)
        if isinstance(before, _Folder) and entry.kind == "folder":
            before.entry, before.layer = entry, layer
        else:
            self._add(folder, name, (_Folder if entry.kind == "folder" else _Node)(entry, layer))

    def _add(self, folder: _Folder, name: str, node: _Node) -> None:
        self._count += 1
        if self._count > MAX_NODES:
            raise MalformedDocument("image", f"its layers have more than {MAX_NODES} paths, the most that are read")
        folder.held[name] = node

    def _folder(self, path: str, made_by: int | None) -> _Folder:
        """The folder at a path, behind the symbolic links on the way to it.

        Where there is none, the layer `made_by` makes it, as runtimes do for what goes into it; without such a layer it
        is one of its own that holds nothing.
        """
        way, left, links = [self._root], path.split("/")[::-1], 0
        while left:
            name = left.pop()
            if name == "..":
                del way[max(1, len(way) - 1) :]
            if name in {"", ".", ".."}:
                continue
            node = way[-1].held.get(name)
            if node is not None and node.target and links < _MAX_LINKS:
                links += 1
                left += node.target.split("/")[::-1]
                del way[1 if node.target.startswith("/") else len(way) :]
            elif isinstance(node, _Folder):
                way.append(node)
            else:
                made = _Folder(None, made_by or 0)
                if made_by is None:
                    return made
                self._add(way[-1], name, made)
                way.append(made)
        return way[-1]


def _hide(places: list[tuple[_Folder, str]], layer: int) -> None:
    """Take away what layers below this one have at these places; what this one has stays, and the folders above it."""
    left, seen = [*places], []
    while left:
        folder, name = left.pop()
        node = folder.held[name]
        seen.append((folder, name, node))
        if isinstance(node, _Folder):
            left += _lower(node, layer)
    for folder, name, node in reversed(seen):
        if node.layer < layer:
            if isinstance(node, _Folder) and node.held:
                node.entry, node.layer = None, layer
            else:
                del folder.held[name]


def _lower(folder: _Folder, layer: int) -> list[tuple[_Folder, str]]:
    """Where a folder may hold something of a layer below this one, once a layer: it is to be hidden."""
    if folder.own_since >= layer:
        return []
    folder.own_since = layer
    return [(folder, name) for name in folder.held]
