"""Compose-style variables in a text: `$VAR ${VAR} ${VAR:-default} ${VAR-default} ${VAR:?message} ${VAR:+other} $$`.

In: a text and a mapping of variables. Out: the text with its variables filled in. Touches nothing.

Source: the Compose specification, `12-interpolation.md`. A variable that is not set and has no default is an error
here, where Compose warns and goes on with an empty text: an image name with a hole in it helps nobody.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_OPERATOR = re.compile(r":-|:\?|:\+|-|\?|\+")
MAX_DEPTH = 50


class InterpolationError(ValueError):
    """A variable is written wrongly, or is not set and must be."""


def interpolate(text: str, variables: Mapping[str, str]) -> str:
    """`text` with every variable replaced by its value.

    Raises:
        InterpolationError: a variable is not set and has no default, or the form is wrong.
    """
    filled, end = _fill(text, 0, variables, depth=0)
    assert end == len(text)  # noqa: S101 - without a closing brace to look for, the whole text is read
    return filled


def _fill(text: str, start: int, variables: Mapping[str, str], *, depth: int) -> tuple[str, int]:
    """The text from `start` to its end or, inside of `depth` braces, to the one that closes it; and where that was."""
    if depth > MAX_DEPTH:
        raise InterpolationError(f"variables are nested deeper than {MAX_DEPTH}")
    parts: list[str] = []
    at = start
    while at < len(text):
        char = text[at]
        if depth and char == "}":
            return "".join(parts), at
        if char != "$":
            parts.append(char)
            at += 1
        elif text.startswith("$$", at):
            parts.append("$")
            at += 2
        elif text.startswith("${", at):
            value, at = _braced(text, at + 2, variables, depth=depth + 1)
            parts.append(value)
        elif match := _NAME.match(text, at + 1):
            parts.append(_required(match[0], variables))
            at = match.end()
        else:
            raise InterpolationError(f"a lone $ in {text!r}: write $$ for a dollar sign")
    if depth:
        raise InterpolationError(f"a ${{ is never closed in {text!r}")
    return "".join(parts), at


def _braced(text: str, start: int, variables: Mapping[str, str], *, depth: int) -> tuple[str, int]:
    match = _NAME.match(text, start)
    if not match:
        raise InterpolationError(f"a variable's name must follow ${{ in {text!r}")
    name, at = match[0], match.end()
    if text.startswith("}", at):
        return _required(name, variables), at + 1
    operator = _OPERATOR.match(text, at)
    if not operator:
        raise InterpolationError(f"after ${{{name} one of }} :- - :? ? :+ + must follow in {text!r}")
    value = variables[name] if name in variables else None
    present = bool(value) if operator[0].startswith(":") else value is not None
    # The side that is not used may name variables that are not set, as in a shell.
    unused = _Anything() if present != operator[0].endswith("+") else variables
    word, at = _fill(text, operator.end(), unused, depth=depth)
    if operator[0].endswith("+"):
        return (word if present else ""), at + 1
    if present:
        return value or "", at + 1
    if operator[0].endswith("?"):
        raise InterpolationError(f"the variable {name} must be set" + (f": {word}" if word else ""))
    return word, at + 1


def _required(name: str, variables: Mapping[str, str]) -> str:
    try:
        return variables[name]
    except KeyError:
        raise InterpolationError(
            f"the variable {name} is not set: set it, or give a default with ${{{name}:-default}}"
        ) from None


class _Anything(dict[str, str]):
    """Every name is set, to something: for the branch that is read only to find its end."""

    def __contains__(self, name: object) -> bool:
        return True

    def __missing__(self, name: str) -> str:
        return name
