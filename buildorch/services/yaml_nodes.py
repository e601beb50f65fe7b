"""YAML text -> a tree of nodes that know their places.

In: text. Out: `Node` trees and the problems found. Touches nothing.

Built on ruamel.yaml's parser events (YAML 1.2), so that size, depth and alias expansion are bounded before anything is
expanded. A scalar keeps its text as written: `1.10` stays `1.10`, and only an unquoted `null`, `~` or nothing at all
is null. The model decides what a text means.
"""

from __future__ import annotations

from dataclasses import field
from typing import TYPE_CHECKING, Any

from buildorch.errors import Problem, ServicesFileError
from buildorch.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_BYTES = 4 * 1024 * 1024
TOO_LARGE = "the file is larger than 4 MiB"
MAX_DEPTH = 50
MAX_NODES = 200_000


@dataclass(slots=True)
class Node:
    """A scalar (`text`), a list (`items`) or a mapping (`entries`), at a line and column that start at 1."""

    line: int
    column: int
    text: str | None = None
    items: list[Node] | None = None
    entries: dict[str, tuple[Node, Node]] | None = None
    """key -> (the key's node, the value's node)"""
    weight: int = field(default=1)
    """nodes in this tree once every alias is expanded"""
    height: int = field(default=1)
    """levels in this tree once every alias is expanded"""

    @property
    def kind(self) -> str:
        """What a person would call it."""
        if self.entries is not None:
            return "a mapping"
        if self.items is not None:
            return "a list"
        return "null" if self.text is None else "a text"

    def grow(self, inner: list[Node]) -> None:
        """Count what stands inside."""
        self.weight += sum(node.weight for node in inner)
        self.height += max((node.height for node in inner), default=0)


def decode(data: bytes, source: str) -> str:
    """The text of a services file: UTF-8, with or without a byte order mark.

    Raises:
        ServicesFileError: the bytes are not UTF-8, so this is no text file, or are too many.
    """
    if len(data) > MAX_BYTES:
        raise ServicesFileError([Problem(source, 1, 1, TOO_LARGE)])
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = data[: error.start]
        line, column = before.count(b"\n") + 1, error.start - before.rfind(b"\n")
        problem = Problem(source, line, column, "this is not UTF-8 text", "is it a services file at all?")
        raise ServicesFileError([problem]) from None


class _Stop(Exception):  # noqa: N818 - control flow: nothing after this place can be read
    def __init__(self, line: int, column: int, message: str, hint: str = "") -> None:
        self.line, self.column, self.message, self.hint = line, column, message, hint


def compose(text: str, source: str) -> tuple[Node | None, list[Problem]]:
    """The one document in `text`, and every problem of its form.

    The node is None where nothing could be made of the text.
    """
    if len(text) > MAX_BYTES or len(text.encode(errors="replace")) > MAX_BYTES:
        return None, [Problem(source, 1, 1, TOO_LARGE)]
    from ruamel.yaml import YAML  # noqa: PLC0415 - 20 ms, paid where a file is read
    from ruamel.yaml.error import MarkedYAMLError, YAMLError  # noqa: PLC0415
    from ruamel.yaml.reader import ReaderError  # noqa: PLC0415

    composer = _Composer(source)
    try:
        return composer.document(YAML(typ="safe", pure=True).parse(text)), composer.problems
    except _Stop as stop:
        problem = Problem(source, stop.line, stop.column, stop.message, stop.hint)
    except ReaderError as error:
        problem = Problem(source, *_place(text, error.position), "this is not text: it holds control characters")
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        fact = ", ".join(part for part in (error.context, error.problem) if part)
        problem = Problem(source, line, column, f"this is not YAML: {fact}")
    except YAMLError as error:
        problem = Problem(source, 1, 1, f"this is not YAML: {str(error).splitlines()[0]}")
    except (ValueError, OverflowError, AssertionError) as error:
        # ruamel.yaml's own slips: an escape past the last character, a %YAML line with a number it does not know.
        problem = Problem(source, composer.line, 1, f"this is not YAML: {error}")
    return None, [*composer.problems, problem]


def _place(text: str, position: int) -> tuple[int, int]:
    before = text[:position]
    return before.count("\n") + 1, position - before.rfind("\n")


class _Composer:
    """Turns one document's parser events into nodes; holds the anchors seen and the problems found."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.problems: list[Problem] = []
        self.anchors: dict[str, Node] = {}
        self.read = 0
        self.line = 1

    def document(self, events: Iterator[Any]) -> Node | None:
        root = None
        for event in events:
            match type(event).__name__:
                case "DocumentStartEvent" if root is not None:
                    self.problem(event, "a second document starts here", "keep one document a file")
                    return root
                case "ScalarEvent" | "MappingStartEvent" | "SequenceStartEvent" | "AliasEvent":
                    root = self.node(event, events, 1)
                case _:
                    continue
        return root

    def problem(self, event: Any, message: str, hint: str = "") -> None:  # noqa: ANN401 - ruamel's events are untyped
        mark = event.start_mark
        self.problems.append(Problem(self.source, mark.line + 1, mark.column + 1, message, hint))

    def node(self, event: Any, events: Iterator[Any], depth: int) -> Node:  # noqa: ANN401
        line, column = event.start_mark.line + 1, event.start_mark.column + 1
        self.line = line
        self.read += 1
        if self.read > MAX_NODES:
            raise _Stop(line, column, f"the file holds more than {MAX_NODES:,} values")
        if depth > MAX_DEPTH:
            raise _Stop(line, column, f"values are nested deeper than {MAX_DEPTH}")
        kind = type(event).__name__
        if kind == "AliasEvent":
            return self.alias(event, line, column, depth)
        node = Node(line, column)
        if kind == "ScalarEvent":
            node.text = _scalar(event)
        elif kind == "SequenceStartEvent":
            node.items = list(self.items(events, depth))
            node.grow(node.items)
        else:
            node.entries = {}
            self.fill(node.entries, events, depth)
            node.grow([value for _, value in node.entries.values()])
        if node.weight > MAX_NODES:
            raise _Stop(line, column, f"its aliases expand to more than {MAX_NODES:,} values")
        # An anchor is known only once its node is whole, so no node can hold itself.
        if event.anchor:
            self.anchors[event.anchor] = node
        return node

    def alias(self, event: Any, line: int, column: int, depth: int) -> Node:  # noqa: ANN401
        known = self.anchors.get(event.anchor)
        if known is None:
            raise _Stop(line, column, f"the alias *{event.anchor} has no anchor before it")
        if depth + known.height - 1 > MAX_DEPTH:
            raise _Stop(line, column, f"values are nested deeper than {MAX_DEPTH} once *{event.anchor} is expanded")
        return known

    def items(self, events: Iterator[Any], depth: int) -> Iterator[Node]:
        for event in events:
            if type(event).__name__ == "SequenceEndEvent":
                return
            yield self.node(event, events, depth + 1)

    def fill(self, entries: dict[str, tuple[Node, Node]], events: Iterator[Any], depth: int) -> None:
        merged: list[tuple[str, tuple[Node, Node]]] = []
        for event in events:
            if type(event).__name__ == "MappingEndEvent":
                break
            key = self.node(event, events, depth + 1)
            value = self.node(next(events), events, depth + 1)
            if value.kind == "null" and value.line > key.line:
                # Nothing stands behind the colon: its place is the key's, not that of whatever comes next.
                value.line, value.column = key.line, key.column
            if key.text is None:
                self.problem(event, f"a key must be a text, this is {key.kind}")
            elif key.text == "<<":
                merged.extend(self.merged(event, value))
            elif key.text in entries:
                first = entries[key.text][0].line
                self.problem(event, f"the key {key.text!r} is given twice", f"it stands first on line {first}")
            else:
                entries[key.text] = (key, value)
        for name, entry in merged:
            entries.setdefault(name, entry)

    def merged(self, event: Any, value: Node) -> list[tuple[str, tuple[Node, Node]]]:  # noqa: ANN401
        """The entries that `<<: *one` or `<<: [*one, *two]` brings in."""
        sources = value.items if value.items is not None else [value]
        if any(source.entries is None for source in sources):
            self.problem(event, "<< takes a mapping or a list of mappings")
        # These are copied, where an alias is only pointed at: they count as if they stood here.
        self.read += sum(len(source.entries or ()) for source in sources)
        if self.read > MAX_NODES:
            mark = event.start_mark
            raise _Stop(mark.line + 1, mark.column + 1, f"its aliases expand to more than {MAX_NODES:,} values")
        return [entry for source in sources for entry in (source.entries or {}).items()]


def _scalar(event: Any) -> str | None:  # noqa: ANN401
    plain = event.style is None and event.implicit[0]
    return None if plain and event.value in {"", "~", "null", "Null", "NULL"} else str(event.value)
