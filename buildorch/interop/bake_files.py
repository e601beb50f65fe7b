"""What bake printed of its files -> the targets found in them, and what bake itself passed over.

In: the document of `docker buildx bake --print`, and the text of the files. Out: `Found`s and `Told`s. Touches
nothing.

bake ignores an attribute that it does not know, in HCL as in JSON, so the files are looked at for names too: seen with
buildx 0.29 on a target with `unknown-thing = 1`, which exits with 0 and says nothing.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from buildorch.interop.importing import Found
from buildorch.interop.targets import KNOWN, RESOLVED, canonical
from buildorch.interop.told import Told

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_TOKEN = re.compile(
    r"""(?P<skip>\s+|\#[^\n]*|//[^\n]*|/\*.*?\*/)"""
    r"""|(?P<heredoc><<-?(?P<word>\w+)\r?\n.*?^[ \t]*(?P=word)[ \t]*$)"""
    r"""|(?P<text>"(?:[^"\\$%]|\\.|[$%](?!\{)|\$\$\{|%%\{)*")"""
    r"""|(?P<template>")"""
    r"""|(?P<name>[A-Za-z_][\w-]*)"""
    r"""|(?P<other>.)""",
    re.DOTALL | re.MULTILINE,
)
_NEWLINE = "\n"
_OPEN, _CLOSE = frozenset("{[("), frozenset("}])")


def targets_found(document: Mapping[str, Any], source: str) -> tuple[list[Found], list[Told]]:
    """The targets that bake printed, their texts as a services file holds them."""
    found, told = [], []
    for name, target in document.get("target", {}).items():
        attributes, unknown = canonical(target)
        found.append(Found(name, _as_in_a_services_file(attributes), source))
        told += [Told(f"{source}: {name}.{key}", "this version knows no such attribute") for key in unknown]
    groups = [name for name in document.get("group", {}) if name != "default"]
    told += [Told(f"{source}: group.{name}", "a services file has no groups", lost=False) for name in groups]
    return found, told


def _as_in_a_services_file(value: Any) -> Any:  # noqa: ANN401 - plain data
    """A dollar sign stands twice there."""
    if isinstance(value, str):
        return value.replace("$", "$$")
    if isinstance(value, list):
        return [_as_in_a_services_file(one) for one in value]
    return {key: _as_in_a_services_file(one) for key, one in value.items()} if isinstance(value, dict) else value


def passed_over(text: str, source: str) -> Iterator[Told]:
    """Attributes of targets in a bake file that bake itself passes over without a word."""
    line = counted = 0
    for block, target, key, at in _attributes(text):
        if block == "target" and key and key not in KNOWN | RESOLVED:
            line, counted = line + text.count(_NEWLINE, counted, at), at
            where = f"{source}:{line + 1}" if at else source
            yield Told(f"{where}: {target}.{key}", "bake knows no such attribute, and passes it over")


def variables(text: str) -> list[str]:
    """The variables of a bake file, which bake fills in from the environment where they are set there."""
    return list(dict.fromkeys(name for block, name, _, _ in _attributes(text) if block == "variable"))


def _attributes(text: str) -> Iterator[tuple[str, str, str, int]]:
    """Block, its name, and each attribute in it with its offset, 0 where that is not known; "" for the block itself."""
    return _in_json(text) if text.lstrip()[:1] in {"{", "["} else _in_hcl(text)


def _in_json(text: str) -> Iterator[tuple[str, str, str, int]]:
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        return  # bake has its own words for it
    for block in ("target", "variable"):
        parts = document.get(block) if isinstance(document, dict) else None
        for part in parts if isinstance(parts, list) else [parts]:
            for name, bodies in part.items() if isinstance(part, dict) else ():
                for body in bodies if isinstance(bodies, list) else [bodies]:
                    keys = body if isinstance(body, dict) else ()
                    yield from ((block, name, key, 0) for key in ("", *keys))


def _in_hcl(text: str) -> Iterator[tuple[str, str, str, int]]:
    depth, block, before = 0, ("", ""), ("", "")
    for kind, word, at in _tokens(text):
        if kind == "other" and word in _OPEN:
            if depth == 0 and word == "{":
                block = before
                yield *block, "", 0
            depth += 1
        elif kind == "other" and word in _CLOSE:
            depth -= 1
        elif word == "=" and depth == 1:
            yield *block, before[1], at
        before = (before[1], word.strip('"'))


def _tokens(text: str) -> Iterator[tuple[str, str, int]]:
    """The words of an HCL file, without comments; a text that holds templates is passed over whole."""
    at = 0
    while match := _TOKEN.match(text, at):
        kind = match.lastgroup or "other"
        at = match.end()
        if match["template"]:
            at = _after_template(text, at)
        elif not match["skip"] and not match["heredoc"]:
            yield ("other" if match["other"] else kind), match[0], match.start()


def _after_template(text: str, at: int) -> int:
    """Where a quoted text ends that holds `${...}` or `%{...}`, in which further texts may stand."""
    braces = [0]
    """How many braces are open in each text or template around here; none in a text."""
    while at < len(text) and braces:
        at = _in_a_text(text, at, braces) if braces[-1] == 0 else _in_a_template(text, at, braces)
    return at


def _in_a_text(text: str, at: int, braces: list[int]) -> int:
    if text.startswith(("$${", "%%{"), at):
        return at + 3
    if text.startswith(("${", "%{"), at):
        braces.append(1)
        return at + 2
    if text[at] == '"':
        braces.pop()
    return at + (2 if text[at] == "\\" else 1)


def _in_a_template(text: str, at: int, braces: list[int]) -> int:
    if text[at] == '"':
        braces.append(0)
    elif text[at] in "{}":
        braces[-1] += 1 if text[at] == "{" else -1
        if braces[-1] == 0:
            braces.pop()
    return at + 1
