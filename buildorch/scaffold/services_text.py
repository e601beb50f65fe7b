"""Entries for services.yaml: a new file, or lines put into one that is there, every other byte of which stays.

In: the text of a services file, if there is one, and entries. Out: its new text. Touches nothing.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

from buildorch.errors import UsageError
from buildorch.scaffold.rendering import NODE_BASE, PYTHON_BASE
from buildorch.services import examine
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
        yield f"{indent}{self.name}:\n"
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
    before = examine(text, source, variables=variables)
    if before.file is None:
        from buildorch.errors import ServicesFileError  # noqa: PLC0415 - as `parse` raises it

        raise ServicesFileError(before.problems)
    lines = text.splitlines(keepends=True)
    place = _place(lines)
    if place is not None:
        at, indent = place
        head = lines[:at]
        if head and not head[-1].endswith("\n"):
            head[-1] += "\n"
        added = "".join([*head, *(line for entry in entries for line in entry.lines(indent)), *lines[at:]])
        after = examine(added, source, variables=variables)
        names = {entry.name for entry in entries}
        if after.file and {name: one for name, one in after.file.services.items() if name not in names} == dict(
            before.file.services
        ):
            return added
    wanted = "".join(line for entry in entries for line in entry.lines("  "))
    raise UsageError(
        f"{source}: the services are written in a form that nothing can be added to", hint=f"add by hand:\n{wanted}"
    )


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
    """A plain scalar where YAML reads it as that text, else a quoted one."""
    plain = _PLAIN.match(text) and not re.match(r"[\d.]|(?:true|false|null|yes|no|on|off)\Z", text, re.IGNORECASE)
    return text if plain or text == "." else json.dumps(text, ensure_ascii=False)
