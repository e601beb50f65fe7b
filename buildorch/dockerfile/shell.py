"""The commands of a shell text, as far as they can be seen without running it.

In: the text of a RUN, an ENTRYPOINT or a CMD. Out: each simple command's words. Touches nothing.

Source: POSIX.1-2017, volume "Shell & Utilities", chapter 2. Nothing is expanded: a variable, a substitution and a glob
stay as they are written. What stands in a substitution and in a heredoc is not looked at. A text that is no shell's
gives words nobody asks for, and no error.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

Words = tuple[str, ...]

SHELLS = frozenset({"sh", "ash", "bash", "dash", "ksh", "mksh", "zsh"})
"""Programs that take commands as `sh` does, by their name without a folder."""

_BETWEEN = re.compile(
    r"""[ \t\r\f\v]+|\\\r?\n|\#[^\n]*
    |(?P<heredoc>\d*+<<-?(?!<))
    |(?P<redirection>\d*+(?:<<<|>>|>\||<>|[<>]&?)|&>>?)
    |(?P<end>&&|\|\||\|&|[;&|()\n])""",
    re.VERBOSE,
)
"""What stands between words. A `#` in a word is part of it, and no comment."""
_PIECE = re.compile(
    r"""(?P<quoted>'[^']*+'?|"(?:\\.|[^"\\])*+"?)
    |(?P<joined>\\\r?\n)
    |(?P<escaped>\\.)
    |(?P<substitution>\$\(|`)
    |[^ \t\r\f\v\n'"\\`$;&|()<>]+|[$\\]""",
    re.VERBOSE | re.DOTALL,
)
"""One piece of a word. Whatever is not between words starts one."""
_PARENTHESIS = re.compile(r"""\\.|'[^']*+'?|"(?:\\.|[^"\\])*+"?|[()]""", re.DOTALL)
_BACKQUOTE = re.compile(r"\\.|`", re.DOTALL)
_ESCAPED = re.compile(r'\\([$`"\\\n])')
_ASSIGNMENT = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\+?=")
_RESERVED = frozenset({"!", "{", "}", "if", "then", "elif", "else", "fi", "while", "until", "do", "done"})
_WRAPPERS = frozenset({"sudo", "exec", "env", "command", "time", "nohup"})
_WITH_A_WORD = frozenset({"-u", "--user", "--unset", "-g", "--group", "-C", "--chdir", "-a"})
"""Options of the wrappers whose value is a word of its own."""


def programs(text: str) -> Iterator[Words]:
    """What the text starts: each command without what only leads to it, and with its program's name alone.

    `sudo`, `exec`, `env` and their like are taken off, and the text that a shell gets by `-c` is looked into, once.
    """
    if text.startswith("#!") and not any(map(_is_shell, text.partition("\n")[0][2:].split())):
        return  # a heredoc that another program runs
    for command in commands(text):
        words = _unwrapped(command)
        inner = script(words)
        for found in (words,) if inner is None else map(_unwrapped, commands(inner)):
            if found:
                yield (found[0].rpartition("/")[2], *found[1:])


def commands(text: str) -> Iterator[Words]:
    """The simple commands of a text in order, without quotes, redirections, and variables set for one command."""
    for words in _split(text):
        start = next(
            (at for at, word in enumerate(words) if word not in _RESERVED and not _ASSIGNMENT.match(word)), None
        )
        if start is not None:
            yield tuple(words[start:])


def script(words: Sequence[str]) -> str | None:
    """The text that a shell gets by `-c`; None where the words start none."""
    if not words or not _is_shell(words[0]):
        return None
    rest, has_text = iter(words[1:]), False
    for word in rest:
        if word[:1] not in {"-", "+"}:
            return word if has_text else None
        if not word.startswith("--"):
            has_text = has_text or "c" in word
            if word.endswith(("o", "O")):
                next(rest, None)  # the name of a shell's option, as in `-o pipefail`
    return None


def _is_shell(program: str) -> bool:
    return program.rpartition("/")[2] in SHELLS


def _unwrapped(words: Words) -> Words:
    """The words without `sudo`, `env` and their like in front."""
    while words and words[0].rpartition("/")[2] in _WRAPPERS:
        at = 1
        while at < len(words) and (words[at].startswith("-") or _ASSIGNMENT.match(words[at])):
            at += 2 if words[at] in _WITH_A_WORD else 1
        words = words[at:]
    return words


def _split(text: str) -> Iterator[list[str]]:
    """The words of each simple command, reserved words and assignments among them."""
    words: list[str] = []
    ends: list[str] = []  # of the heredocs whose text starts on the next line
    operator: str | None = None  # what the next word belongs to, if it is no argument
    at = 0
    while at < len(text):
        between = _BETWEEN.match(text, at)
        if between is None:
            word, at = _word(text, at)
            if operator != "redirection":
                (ends if operator == "heredoc" else words).append(word)
            operator = None
            continue
        at = between.end()
        if between.lastgroup == "end":
            yield words
            words, operator = [], None
            if between[0] == "\n":
                at, ends = _behind_heredocs(text, at, ends), []
        elif between.lastgroup:
            operator = between.lastgroup
    yield words


def _word(text: str, at: int) -> tuple[str, int]:
    """The word that starts at a place, without quotes, and where it ends."""
    pieces: list[str] = []
    while piece := _PIECE.match(text, at):
        at, found = piece.end(), piece[0]
        match piece.lastgroup:
            case "quoted":
                inner = found[1:].removesuffix(found[0])
                found = inner if found[0] == "'" else _ESCAPED.sub(r"\1", inner)
            case "joined":
                found = ""
            case "escaped":
                found = found[1:]
            case "substitution":
                at = _closed(text, at, _BACKQUOTE if found == "`" else _PARENTHESIS)
                found = text[piece.start() : at]
            case _:
                pass
        pieces.append(found)
    return "".join(pieces), at


def _closed(text: str, at: int, pattern: re.Pattern[str]) -> int:
    """Where a substitution ends whose inside starts at a place; the text's end where it does not."""
    depth = 1
    for found in pattern.finditer(text, at):
        if found[0] in {")", "`"}:
            depth -= 1
        elif found[0] == "(":
            depth += 1
        if not depth:
            return found.end()
    return len(text)


def _behind_heredocs(text: str, at: int, ends: Sequence[str]) -> int:
    """Where the line behind the heredocs starts that start at a line."""
    for end in ends:
        line = ""
        while at < len(text) and line != end:
            stop = text.find("\n", at)
            stop = len(text) if stop < 0 else stop
            line, at = text[at:stop].lstrip("\t"), stop + 1
    return at
