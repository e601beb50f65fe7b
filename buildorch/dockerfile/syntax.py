"""A Dockerfile's text -> its instructions, and the frontend it asks for.

In: text. Out: `Syntax` and `Instruction`. Touches nothing.

The syntax tree is e2b-dockerfile-utils', a port of BuildKit's own parser (`frontend/dockerfile/parser`). It parts with
BuildKit in two places, which are mended here: the sources of COPY and ADD are split at every blank (the library keeps
quoted and escaped blanks together), and what looks like a JSON array but is none is not taken for words, since versions
of BuildKit differ on it. A third, a heredoc below ONBUILD, is refused.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

from buildorch.values import dataclass

if TYPE_CHECKING:
    from e2b_dockerfile_utils import DockerfileInstruction

_BLANKS = re.compile(r"[\t\v\f\r ]+")
_OTHER_BLANK = re.compile(r"[^\S\t\n\v\f\r ]")
"""A blank that BuildKit splits words at in one place and not in another (`unicode.IsSpace` against its own pattern)."""
_TABS = re.compile(r"^\t+", re.MULTILINE)
_ONBUILD = re.compile(r"\s*ONBUILD\s*", re.IGNORECASE)
_DIRECTIVE = r"{}\s*(?P<key>[a-zA-Z][a-zA-Z0-9]*)\s*=\s*(?P<value>.+?)\s*$"
_DIRECTIVES = (re.compile(_DIRECTIVE.format("#")), re.compile(_DIRECTIVE.format("//")))
_KNOWN_DIRECTIVES = frozenset({"syntax", "escape", "check"})


@dataclass(frozen=True, slots=True)
class Instruction:
    """One instruction as it was written: for telling which one changed."""

    line: int
    """Of the file, from 1."""
    name: str
    """In capitals."""
    text: str
    """All its lines, with continuations, the comments between them, and heredocs; no line end behind the last."""


@dataclass(frozen=True, slots=True)
class Statement:
    """One instruction as BuildKit takes it apart; variables and quotes are as written."""

    line: int
    name: str
    flags: tuple[str, ...]
    words: tuple[str, ...]
    """The arguments; for ENV name, value and delimiter of each variable. Empty for ONBUILD."""
    is_json: bool
    is_sure: bool
    """Whether every version of BuildKit splits it into these words."""
    trigger: str
    """What ONBUILD holds."""
    heredocs: tuple[str, ...]
    """The texts of its heredocs, in order; without the tabs that `<<-` takes away."""


@dataclass(frozen=True, slots=True)
class Syntax:
    """A whole file."""

    statements: tuple[Statement, ...]
    instructions: tuple[Instruction, ...]
    escape: str


def parse(text: str) -> Syntax:
    """Take a Dockerfile apart.

    Raises:
        ValueError: it cannot be parsed, with the line; BuildKit says so too, or the parser here does not know it.
    """
    from e2b_dockerfile_utils import parse_dockerfile_ast  # noqa: PLC0415 - heavy, and only where a file is read

    try:
        tree = parse_dockerfile_ast(text)
    except RecursionError:
        raise ValueError("Dockerfile parse error: brackets are nested too deeply") from None
    lines = text.removeprefix("\ufeff").split("\n")
    return Syntax(
        statements=tuple(map(_statement, tree.instructions)),
        instructions=tuple(
            Instruction(
                node.start_line, node.name, "\n".join(lines[node.start_line - 1 : node.end_line]).removesuffix("\r")
            )
            for node in tree.instructions
        ),
        escape=tree.escape_token,
    )


def _statement(node: DockerfileInstruction) -> Statement:
    words, is_sure, trigger = tuple(node.args), True, ""
    if node.name == "ONBUILD":
        if "<<" in node.original:
            raise ValueError(f"line {node.start_line}: a heredoc in ONBUILD is not understood")
        trigger = _ONBUILD.sub("", node.original, count=1)
    if node.name in {"ADD", "COPY"} and not node.json:
        words = tuple(_BLANKS.split(" ".join(words))) if words else ()
        is_sure = not (words and words[0].startswith("[")) and not _OTHER_BLANK.search(node.original)
    heredocs = tuple(_TABS.sub("", one.content) if one.chomp else one.content for one in node.heredocs)
    return Statement(node.start_line, node.name, tuple(node.flags), words, node.json, is_sure, trigger, heredocs)


def heredoc_name(word: str) -> str | None:
    """The file that a word such as `<<EOF` stands for; None where it is an ordinary word."""
    if "<<" not in word:
        return None
    from e2b_dockerfile_utils import parse_heredoc  # noqa: PLC0415 - heavy, and only where a heredoc may be

    try:
        heredoc = parse_heredoc(word)
    except ValueError:  # a quote that does not end: BuildKit takes it for an ordinary word too
        return None
    return heredoc.name if heredoc else None


def frontend(text: str) -> str | None:
    """The image that a syntax directive hands the file to, as `parser.DetectSyntax` finds it.

    It stands in the first lines as `# syntax=`, or, for frontends with another language, as `// syntax=` or as
    `{"syntax": ...}`; a first line with `#!` is passed over.
    """
    text = text.removeprefix("\ufeff")
    if text.startswith("#!"):
        text = text.partition("\n")[2]
    for pattern in _DIRECTIVES:
        for line in text.split("\n"):
            match = pattern.match(line)
            key = match["key"].lower() if match else ""
            if not match or key not in _KNOWN_DIRECTIVES:
                break
            if key == "syntax":
                return match["value"].partition(" ")[0]
    if text.lstrip().startswith("{"):
        return _json_frontend(text)
    return None


def _json_frontend(text: str) -> str | None:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    value = found.get("syntax") if isinstance(found, dict) else None
    return value if isinstance(value, str) else None
