"""Entries for services.yaml: a new file, or lines put into one that is there, every other byte of which stays.

In: the text of a services file, if there is one, and entries. Out: its new text. Touches nothing.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

from buildorch.errors import UsageError
from buildorch.scaffold.rendering import NODE_BASE, PYTHON_BASE
from buildorch.services import examine, parse
from buildorch.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

_POLICY = f"""\
  # Slim bases, built in stages, run by a user who is not root; what ships is what runs.
  policy:
    user: non-root
    min_stages: 2
    bases: ["{PYTHON_BASE}", "{NODE_BASE}"]
    cache_mounts: error
    contents: error
    healthcheck: error
    exec_form: error
    build_checks: error
    labels: [org.opencontainers.image.title, org.opencontainers.image.description]
"""
_PLAIN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_./-]*\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """What a services file is to say of one service."""

    name: str
    context: str
    """Relative to the services file."""
    max_bytes: str
    target_bytes: str
    rules_off: str = ""
    """Why `end_of_life` is off; empty where it is on."""

    def lines(self, indent: str) -> Iterable[str]:
        """Its lines, below `services:`."""
        yield f"{indent}{_scalar(self.name)}:\n"
        yield f"{indent}{indent}context: {_scalar(self.context)}\n"
        yield f"{indent}{indent}size: {{max: {self.max_bytes}, target: {self.target_bytes}}}\n"
        if self.rules_off:
            yield f"{indent}{indent}policy: {{off: {{end_of_life: {json.dumps(self.rules_off)}}}}}\n"


def new_text(project: str, entries: Sequence[Entry], *, bases: Sequence[str] = ()) -> str:
    """A services file that has only these.

    Args:
        project: its name.
        entries: its services.
        bases: base images beside the usual ones.
    """
    policy = _POLICY
    for base in bases:
        if f'"{base}"' not in policy:
            policy = policy.replace(f'"{NODE_BASE}"]', f'"{NODE_BASE}", "{base}"]')
    services = "".join(line for entry in entries for line in entry.lines("  "))
    return f"version: 1\nproject: {_scalar(project)}\ndefaults:\n{policy}services:\n{services}"


def added_text(text: str, source: str, entries: Sequence[Entry], *, variables: Mapping[str, str]) -> str:
    """The text with entries behind its last service; `variables` fill in what it names.

    Raises:
        UsageError: nothing can be put there without a change of what is there already; the hint holds the lines.
        ServicesFileError: it has problems as it is.
    """
    before = parse(text, source, variables=variables)
    lines = text.splitlines(keepends=True)
    if place := _place(lines):
        added = _put_in(lines, place, entries)
        after = examine(added, source, variables=variables).file
        if after and {*after.services} == {*before.services, *(entry.name for entry in entries)}:
            kept = {name: after.services[name] for name in before.services}
            if after.model_copy(update={"services": kept}) == before:
                return added
    wanted = "".join(line for entry in entries for line in entry.lines("  "))
    fact = "the services are written in a form that nothing can be added to"
    raise UsageError(f"{source}: {fact}", hint=f"add by hand:\n{wanted}")


def _put_in(lines: Sequence[str], place: tuple[int, str], entries: Sequence[Entry]) -> str:
    at, indent = place
    end = "\r\n" if lines[0].endswith("\r\n") else "\n"
    before = "".join(lines[:at])
    new = "".join(line.replace("\n", end) for entry in entries for line in entry.lines(indent))
    return (before if before.endswith("\n") else before + end) + new + "".join(lines[at:])


def _place(lines: Sequence[str]) -> tuple[int, str] | None:
    """Behind which line the block of services ends, and how its names are indented; None where it is no block."""
    begin = next((at for at, line in enumerate(lines) if re.match(r"services:\s*(#.*)?$", line)), None)
    if begin is None:
        return None
    end, indent = begin + 1, ""
    for at in range(begin + 1, len(lines)):
        line = lines[at]
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        space = line[: len(line) - len(line.lstrip())]
        if not space:
            break
        indent = indent or space
        end = at + 1
    return end, indent or "  "


def _scalar(text: str) -> str:
    """A plain scalar where YAML reads it as that text, else a quoted one, in which no variable is filled in."""
    plain = _PLAIN.match(text) and not re.match(r"[\d.]|(?:true|false|null|yes|no|on|off)\Z", text, re.IGNORECASE)
    return text if plain or text == "." else json.dumps(text, ensure_ascii=False).replace("$", "$$")
