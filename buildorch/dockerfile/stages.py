"""What the stages that a target is built from declare: for the policy.

In: a Dockerfile's text, and the solve's own parameters. Out: `Dockerfile`. Touches nothing.

It is read as `reading` reads it, from the same `graph`. Where that counts what is not surely understood as read, this
leaves it out or says that it is not known: a build that came to its end has shown that BuildKit understands the file.
"""

from __future__ import annotations

import shlex
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Literal

from buildorch.dockerfile import commands, syntax
from buildorch.dockerfile.commands import Mount
from buildorch.dockerfile.graph import Found, Graph, graph, walk
from buildorch.dockerfile.shell import SHELLS
from buildorch.dockerfile.syntax import Statement, heredoc_name
from buildorch.values import dataclass


@dataclass(frozen=True, slots=True)
class Stage:
    """One FROM that is built."""

    index: int
    """Its number in the file, from 0."""
    name: str
    """In small letters; its number where it has no name."""
    line: int
    """Of its FROM, from 1."""
    base: str | None
    """What it starts from, with variables filled in; None where they are not known."""


@dataclass(frozen=True, slots=True)
class UsedImage:
    """An image that the file names."""

    name: str
    """As the file writes it, with variables filled in."""
    line: int
    """The first that names it, from 1."""


@dataclass(frozen=True, slots=True)
class Run:
    """One RUN."""

    line: int
    stage: str
    """The name of its stage, or its number as text."""
    mounts: tuple[Mount, ...]
    command: str
    """The text that a shell gets: with its lines joined, or of the heredoc that is the script. The words of a JSON form
    are quoted as a shell would need them. A heredoc that another program gets as its input is left out."""


@dataclass(frozen=True, slots=True)
class Declaration:
    """A variable that an ARG or ENV sets."""

    kind: Literal["ARG", "ENV"]
    name: str
    line: int
    value: str | None
    """As it is written: quotes stand in it, and variables are not filled in. None where an ARG has no default."""


@dataclass(frozen=True, slots=True)
class Dockerfile:
    """What a target is built from.

    Stages that it does not need, and those that a named context stands for, are nowhere here: they are not built.
    """

    stages: tuple[Stage, ...]
    """In the file's order."""
    final: tuple[Stage, ...]
    """Those of `stages` that the image consists of: the target, and what it starts from, and so on; in the file's
    order."""
    images: tuple[UsedImage, ...]
    """What a stage starts from, copies from or mounts from, by line. Not stages, not `scratch`, and not what a named
    context stands for."""
    unknown_bases: tuple[int, ...]
    """Lines of the FROMs whose variables are not known."""
    runs: tuple[Run, ...]
    """In the file's order; what ONBUILD holds is not among them."""
    declared: tuple[Declaration, ...]
    """The ARGs before the first FROM, then what the stages set, in the file's order; not what ONBUILD holds."""


def read(
    text: str,
    *,
    arguments: Mapping[str, str],
    target: str | None = None,
    contexts: Collection[str] = (),
    platforms: Sequence[str] = (),
) -> Dockerfile:
    """Read a Dockerfile for the target that is built. What base images hold for ONBUILD is not known here.

    Args:
        text: the Dockerfile.
        arguments: the build arguments, with their values, also those that come from the environment.
        target: the stage that is built; None for the last.
        contexts: the names of the named contexts, as they are given to buildx.
        platforms: what is built for; the first is read for, and where others would have other images, those are missed.
            Empty where the builder chooses: then TARGETARCH and its like are not known.

    Raises:
        ValueError: it cannot be parsed, or has no such target; BuildKit says so too, with more.
    """
    file = syntax.parse(text)
    found = Found()
    parts = graph(file, arguments=arguments, contexts=contexts, platform=platforms[0] if platforms else "", onbuild={})
    if parts.misplaced:
        raise ValueError("line {}: {}".format(*parts.misplaced[0]))
    start = parts.start(target or "")
    walk(parts, target or "", found=found)
    stages = {index: _stage(parts, index) for index in sorted(found.reached)}
    return Dockerfile(
        stages=tuple(stages.values()),
        final=tuple(stages[index] for index in sorted(_chain(parts, start))),
        images=tuple(UsedImage(*one) for one in sorted(found.images.items(), key=lambda one: one[1]) if one[0]),
        unknown_bases=tuple(stage.line for stage in stages.values() if stage.base is None),
        runs=tuple(
            Run(
                statement.line,
                stages[index].name,
                tuple(commands.mounts(statement, scope, escape=parts.escape)),
                _command(statement),
            )
            for index, statement, scope in sorted(found.runs, key=lambda run: run[1].line)
        ),
        declared=tuple(_declared(file.statements, parts, stages)),
    )


def _stage(parts: Graph, index: int) -> Stage:
    stage = parts.stages[index]
    # BuildKit refuses a base that is empty: its ARG got a value that is not known here.
    return Stage(index, stage.name or str(index), stage.line, stage.base or None)


def _chain(parts: Graph, start: int) -> Iterator[int]:
    """The numbers of the stages whose layers the image has."""
    at: int | None = start
    while at is not None and parts.stages[at].context is None:
        yield at
        at = parts.stages[at].parent


def _command(statement: Statement) -> str:
    if statement.is_json:
        return shlex.join(statement.words)
    text = " ".join(statement.words)
    if not statement.heredocs:
        return text
    # BuildKit makes a heredoc that stands alone the script; a shell beside it gets it as its input.
    program, *rest = [word for word in text.split() if heredoc_name(word) is None] or ["sh"]
    is_script = program.rpartition("/")[2] in SHELLS and all(
        word.startswith("-") or word == "pipefail" for word in rest
    )
    return "".join(statement.heredocs) if is_script else text


def _declared(statements: Sequence[Statement], parts: Graph, stages: Mapping[int, Stage]) -> Iterator[Declaration]:
    for statement in statements:
        if statement.name == "FROM":
            break
        yield from _declarations(statement)
    for index in stages:
        for statement in parts.stages[index].statements:
            yield from _declarations(statement)


def _declarations(statement: Statement) -> Iterator[Declaration]:
    if statement.name == "ARG":
        for word in statement.words:
            name, has_default, default = word.partition("=")
            yield Declaration("ARG", name, statement.line, default if has_default else None)
    elif statement.name == "ENV":
        for name, value in zip(statement.words[0::3], statement.words[1::3], strict=True):
            yield Declaration("ENV", name, statement.line, value)
