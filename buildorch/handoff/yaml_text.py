"""YAML text -> nodes that know which characters they are made of, one document after another.

In: text. Out: `Node` trees. Touches nothing.

Built on ruamel.yaml's parser events. Aliases are never expanded: they point, so that a bomb of them weighs what its
text does. Documents are told apart by their markers first (YAML 1.2, section 9.1.2: no content may hold one), so that
only those that matter are parsed: ruamel.yaml reads some 200 kB a second.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple

from buildorch.errors import Problem, UsageError
from buildorch.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_DEPTH = 100
MAX_DOCUMENT = 4 * 1024 * 1024
"""Most characters of one document that is parsed: a cluster itself takes 3 MiB at most (kube-apiserver's limit)."""
TEMPLATE_HINT = "is it a template? Resolve what comes out of it: `helm template ... | buildorch resolve -`"
_MARKER = re.compile(r"^---(?=[ \t\r\n]|\Z)", re.MULTILINE)
_DIRECTIVE = re.compile(r"^%", re.MULTILINE)


@dataclass(slots=True)
class Node:
    """A scalar (`text`), a list (`items`), a mapping (`entries`) or an alias (`target`)."""

    start: int
    end: int
    """Its first character in the whole text, and the one after its last; of lists and mappings only the start."""
    line: int
    column: int
    """Where it starts, from 1."""
    text: str | None = None
    items: list[Node] | None = None
    entries: dict[str, Node] | None = None
    target: Node | None = None


class Document(NamedTuple):
    """A part of a text that holds one document."""

    start: int
    end: int
    line: int
    """Its first line, from 1."""


def documents(text: str) -> Iterator[Document]:
    """The documents of a text, between their `---` markers; all as one where a directive may hold for a later part."""
    starts = [0] if _DIRECTIVE.search(text) else [0, *(match.start() for match in _MARKER.finditer(text))]
    line = 1
    for start, end in zip(starts, [*starts[1:], len(text)], strict=True):
        if end > start:
            yield Document(start, end, line)
        line += text.count("\n", start, end)


def compose(text: str, document: Document, source: str) -> list[Node]:
    """The roots of the document; several where directives keep documents together.

    Raises:
        UsageError: it is not YAML, or too large or too deep.
    """
    from ruamel.yaml import YAML  # noqa: PLC0415 - 20 ms, paid where a file is read
    from ruamel.yaml.error import MarkedYAMLError, YAMLError  # noqa: PLC0415
    from ruamel.yaml.reader import ReaderError  # noqa: PLC0415

    part = text[document.start : document.end]
    if len(part) > MAX_DOCUMENT:
        raise problem(source, document.line, 1, f"this document is larger than {MAX_DOCUMENT // 1024**2} MiB")
    composer = _Composer(document, source)
    try:
        return composer.roots(YAML(typ="safe", pure=True).parse(part))
    except ReaderError as error:
        line = document.line + part.count("\n", 0, error.position)
        raise problem(source, line, 1, "this is not text: it holds control characters") from None
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line, mark.column + 1) if mark else (0, 1)
        fact = ", ".join(one for one in (error.context, error.problem) if one)
        hint = TEMPLATE_HINT if "{{" in part else ""
        raise problem(source, document.line + line, column, f"this is not YAML: {fact}", hint=hint) from None
    except (YAMLError, ValueError, OverflowError, AssertionError) as error:
        # The latter are ruamel.yaml's own slips: an escape past the last character, a %YAML line it does not know.
        fact = (str(error).splitlines() or [type(error).__name__])[0]
        raise problem(source, document.line, 1, f"this is not YAML: {fact}") from None


def problem(source: str, line: int, column: int, message: str, *, hint: str = "") -> UsageError:
    """The error for one place of a file."""
    return UsageError(str(Problem(source, line, column, message)), hint=hint)


class _Composer:
    """Events to nodes, with a stack of its own: text decides how deep it goes."""

    def __init__(self, document: Document, source: str) -> None:
        self.document, self.source = document, source
        self.anchors: dict[str, Node] = {}

    def roots(self, events: Iterator[Any]) -> list[Node]:
        found: list[Node] = []
        for event in events:
            if type(event).__name__ == "DocumentStartEvent":
                self.anchors.clear()
                found.append(self.tree(events))
        return found

    def tree(self, events: Iterator[Any]) -> Node:
        """The next node, with all in it."""
        open_: list[tuple[Node, str | None, list[Node]]] = []
        for event in events:
            kind = type(event).__name__
            if kind in {"SequenceEndEvent", "MappingEndEvent"}:
                node, anchor, inner = open_.pop()
                self.fill(node, inner)
            else:
                node, anchor, inner = self.node(kind, event), getattr(event, "anchor", None), []
                if kind in {"SequenceStartEvent", "MappingStartEvent"}:
                    open_.append((node, anchor, inner))
                    if len(open_) > MAX_DEPTH:
                        raise self.problem(node, f"values are nested deeper than {MAX_DEPTH}")
                    continue
            # An anchor is known only once its node is whole, so no node can hold itself.
            if anchor and node.target is None:
                self.anchors[anchor] = node
            if not open_:
                return node
            open_[-1][2].append(node)
        raise AssertionError  # a parser ends every node it starts

    def node(self, kind: str, event: Any) -> Node:  # noqa: ANN401
        start, end = event.start_mark, event.end_mark
        node = Node(
            self.document.start + start.index,
            self.document.start + end.index,
            self.document.line + start.line,
            start.column + 1,
        )
        if kind == "ScalarEvent":
            node.text = str(event.value)
        elif kind == "AliasEvent":
            node.target = self.anchors.get(event.anchor)
            if node.target is None:
                raise self.problem(node, f"the alias *{event.anchor} has no anchor before it")
        elif kind == "SequenceStartEvent":
            node.items = []
        else:
            node.entries = {}
        return node

    def fill(self, node: Node, inner: list[Node]) -> None:
        if node.items is not None:
            node.items = inner
            return
        entries: dict[str, Node] = {}
        for key, value in zip(inner[::2], inner[1::2], strict=True):
            name = resolved(key).text
            if name is None:
                continue  # no key of Kubernetes is anything but a text, but `{{ }}` is read as one that is
            if name in entries:
                raise self.problem(key, f"the key {name!r} is given twice")
            entries[name] = value
        node.entries = entries

    def problem(self, node: Node, message: str) -> UsageError:
        return problem(self.source, node.line, node.column, message)


def resolved(node: Node) -> Node:
    """The node itself, or the one an alias stands for, which is never an alias."""
    return node.target or node
