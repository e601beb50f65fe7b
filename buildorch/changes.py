"""What changed between two builds of one service, by name: `compare(Snapshot, Snapshot) -> changes`.

In: what was kept of a build's inputs, and today's. Out: `Change` values, for `explain`, `plan` and the record's reason.
Touches nothing.

A snapshot holds no secret: build arguments are in it as keyed hashes, instructions as hashes.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from dataclasses import field
from typing import TYPE_CHECKING, Literal

from buildorch.quantities import some_of
from buildorch.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

DIGEST_SHOWN = len("sha256:") + 12
_KINDS = {"f": "a file", "d": "a folder", "l": "a symbolic link", "o": "a special file"}
_TOLD = {"engine", "buildx", "store", "platforms", "target", "network", "image", "output", "attestations", "format"}
"""Inputs whose values may be shown; the others are digests and hashes."""


@dataclass(frozen=True, slots=True)
class Instruction:
    """One instruction of a Dockerfile as a snapshot keeps it."""

    line: int
    name: str
    digest: str
    """Of its whole text."""

    @classmethod
    def of(cls, line: int, name: str, text: str) -> Instruction:
        """An instruction's text, hashed."""
        return cls(line, name, hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:32])


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The inputs of one build, in what detail `explain` needs."""

    inputs: Mapping[str, str]
    """As in `Fingerprint.inputs`."""
    files: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Context's name, empty for the main one -> path -> what is there, as `context.Content.text` has it."""
    instructions: tuple[Instruction, ...] = ()
    rules: Mapping[str, str] = field(default_factory=dict)
    """Context's name -> its ignore file's path and hash."""

    def to_bytes(self) -> bytes:
        """The snapshot for the ledger, compressed."""
        instructions = [[one.line, one.name, one.digest] for one in self.instructions]
        plain = {"inputs": dict(self.inputs), "files": self.files, "instructions": instructions, "rules": self.rules}
        return zlib.compress(json.dumps(plain, separators=(",", ":"), ensure_ascii=True).encode(), level=1)

    @classmethod
    def from_bytes(cls, data: bytes) -> Snapshot:
        """What `to_bytes` wrote.

        Raises:
            ValueError: it did not write this.
        """
        try:
            plain = json.loads(zlib.decompress(data))
            files = {name: dict(found) for name, found in plain["files"].items()}
            instructions = tuple(Instruction(*one) for one in plain["instructions"])
            return cls(dict(plain["inputs"]), files, instructions, dict(plain["rules"]))
        except (zlib.error, AttributeError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"not a snapshot: {error}") from None


@dataclass(frozen=True, slots=True)
class Change:
    """One input that is not what it was."""

    kind: Literal["added", "removed", "changed"]
    subject: str
    """What it is, for people: a path, `argument VERSION`, `base python:3.13-slim`, `Dockerfile:7 RUN`."""
    detail: str = ""
    """What about it, such as `mode 0644 to 0755`; empty where that it changed says it all."""

    def __str__(self) -> str:
        told = self.subject if self.kind == "changed" else f"{self.subject} {self.kind}"
        return f"{told} ({self.detail})" if self.detail else told


def compare(old: Snapshot, new: Snapshot) -> tuple[Change, ...]:
    """Everything that differs: ignore rules and files first, then instructions, then the other inputs by name."""
    rules = {change.subject: change for change in _rules(old, new)}
    files = (change for change in _files(old, new) if change.subject not in rules)
    return (*rules.values(), *files, *_instructions(old, new), *_inputs(old, new))


def summary(changes: Sequence[Change]) -> str:
    """A one-line reason."""
    return some_of(changes)


def _rules(old: Snapshot, new: Snapshot) -> Iterator[Change]:
    """Ignore files that are not as they were, where what they leave out counts."""
    for context in sorted(old.rules.keys() | new.rules.keys()):
        name = f"context {context}".rstrip()
        before, after = old.rules.get(context, ""), new.rules.get(context, "")
        if before == after or old.inputs.get(name) == new.inputs.get(name):
            continue
        prefix = f"{context}: " if context else ""
        path, path_now = before.rpartition(" ")[0], after.rpartition(" ")[0]
        if path == path_now:
            yield Change("changed", prefix + path, "ignore rules")
            continue
        if path:
            yield Change("removed", prefix + path, "ignore rules")
        if path_now:
            yield Change("added", prefix + path_now, "ignore rules")


def _files(old: Snapshot, new: Snapshot) -> Iterator[Change]:
    for context in sorted(old.files.keys() | new.files.keys()):
        before, after = old.files.get(context, {}), new.files.get(context, {})
        prefix = f"{context}: " if context else ""
        for path in sorted(before.keys() | after.keys()):
            if path not in before:
                yield Change("added", prefix + path)
            elif path not in after:
                yield Change("removed", prefix + path)
            elif before[path] != after[path]:
                yield Change("changed", prefix + path, _file_detail(before[path], after[path]))


def _file_detail(before: str, after: str) -> str:
    """`f 0644 12 - 64 <sha>` and another such text -> what differs beyond the bytes."""
    (kind, mode, _, capability, _, rest), (kind_now, mode_now, _, capability_now, _, rest_now) = (
        text.split(" ", 5) for text in (before, after)
    )
    if kind != kind_now:
        return f"{_KINDS.get(kind, kind)}, now {_KINDS.get(kind_now, kind_now)}"
    told = []
    if mode != mode_now:
        told.append(f"mode {mode} to {mode_now}")
    if capability != capability_now:
        told.append("its capabilities")
    if kind == "l" and rest != rest_now:
        told.append(f"link to {rest}, now to {rest_now}")
    elif rest != rest_now and told:
        told.append("its contents")
    return ", ".join(told)


def _instructions(old: Snapshot, new: Snapshot) -> Iterator[Change]:
    if old.inputs.get("dockerfile") == new.inputs.get("dockerfile"):
        return
    file = new.inputs.get("dockerfile", "").partition(" ")[0] or "Dockerfile"
    before, after = ([f"{one.name} {one.digest}" for one in snapshot.instructions] for snapshot in (old, new))
    import difflib  # noqa: PLC0415 - only where a Dockerfile changed

    steps = difflib.SequenceMatcher(None, before, after, autojunk=False).get_opcodes()
    found = False
    for tag, first, last, first_now, last_now in steps:
        if tag == "equal":
            continue
        found = True
        gone, come = old.instructions[first:last], new.instructions[first_now:last_now]
        if [one.name for one in gone] == [one.name for one in come]:
            yield from (Change("changed", f"{file}:{one.line} {one.name}") for one in come)
            continue
        yield from (Change("removed", f"{file}:{one.line} {one.name}", "the line it had") for one in gone)
        yield from (Change("added", f"{file}:{one.line} {one.name}") for one in come)
    if not found:
        yield Change("changed", file, "comments, layout or its name")


def _inputs(old: Snapshot, new: Snapshot) -> Iterator[Change]:
    for name in sorted(old.inputs.keys() | new.inputs.keys()):
        before, after = old.inputs.get(name), new.inputs.get(name)
        if before == after or name == "dockerfile":
            continue
        context = name.removeprefix("context").strip() if name.startswith("context") else None
        if context is not None and _of(context, old) != _of(context, new):
            continue  # its files or its rules are named already
        if before is None:
            yield Change("added", name)
        elif after is None:
            yield Change("removed", name)
        else:
            yield Change("changed", name, _input_detail(name, before, after))


def _of(context: str, snapshot: Snapshot) -> tuple[Mapping[str, str], str]:
    return snapshot.files.get(context, {}), snapshot.rules.get(context, "")


def _input_detail(name: str, before: str, after: str) -> str:
    if name in _TOLD:
        return f"{before or 'none'}, now {after or 'none'}"
    if name.startswith("base "):
        return f"{before[:DIGEST_SHOWN]}, now {after[:DIGEST_SHOWN]}"
    return ""
