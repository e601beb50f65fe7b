"""The stages of a Dockerfile, which of them are built for a target, and what those read.

In: a `Syntax` and the solve's parameters. Out: `Graph`, and from it additions to a `Found`. Touches nothing.

Reachability and names are BuildKit's (`convert.go`: `buildDispatchStates`, `resolveTarget`, `addReachableStages`,
`resolveStages`, `dispatchStates.addState`): FROM looks a stage up among those above it, COPY and RUN among all, the
last of a name; a named context stands for a stage of its name and for an image of its name.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import field

from buildorch.dockerfile import commands, references, syntax, variables
from buildorch.dockerfile.syntax import Statement, Syntax
from buildorch.dockerfile.variables import Variables
from buildorch.values import dataclass


@dataclass(slots=True)
class Found:
    """What was found so far, over all stages and platforms; it only grows."""

    images: dict[str, int] = field(default_factory=dict)
    """Image -> the first line that names it."""
    bases: dict[str, None] = field(default_factory=dict)
    paths: set[str] | None = field(default_factory=set)
    """None: everything."""
    named: dict[str, set[str] | None] = field(default_factory=dict)
    unpinned: set[tuple[int, str]] = field(default_factory=set)
    reads_everything: bool = False
    reached: set[int] = field(default_factory=set)
    """Numbers of the stages that are built."""
    runs: list[tuple[int, Statement, Variables]] = field(default_factory=list)
    """Every RUN of those: its stage's number, itself, and the variables at its place; triggers' are not among them."""

    def name_image(self, image: str, line: int) -> None:
        """Count an image that is named on a line."""
        self.images[image] = min(line, self.images.get(image, line))

    def read(self, context: str | None, path: str | None) -> None:
        """Count a path of a named context, or of the main one (None); path None is all of it."""
        paths = self.paths if context is None else self.named.get(context, set())
        paths = None if path is None or paths is None else paths | {path}
        if context is None:
            self.paths = paths
        else:
            self.named[context] = paths

    def cannot_promise(self, line: int, reason: str) -> None:
        """Note why equal inputs do not promise an equal image; line 0 is no line."""
        self.unpinned.add((line, f"line {line}: {reason}" if line else reason))

    def not_understood(self, line: int, reason: str) -> None:
        """Note something that may read anything."""
        self.cannot_promise(line, reason)
        self.reads_everything = True


@dataclass(frozen=True, slots=True)
class Stage:
    """One FROM and what stands below it."""

    line: int
    name: str
    """In small letters; empty where it has none."""
    base: str | None
    """With variables filled in; None where they are not known."""
    parent: int | None
    """The number of the stage it starts from."""
    context: str | None
    """The named context that stands for the whole stage."""
    statements: tuple[Statement, ...]

    @property
    def triggers(self) -> tuple[str, ...]:
        """What its ONBUILD instructions hold."""
        return tuple(statement.trigger for statement in self.statements if statement.name == "ONBUILD")


@dataclass(frozen=True, slots=True)
class Graph:
    """All stages of a file, and what they are built with."""

    stages: tuple[Stage, ...]
    names: Mapping[str, int]
    """Name -> the last stage of that name."""
    shared: Variables
    """The ARGs before the first FROM."""
    arguments: Mapping[str, str]
    contexts: Mapping[str, str]
    """Familiar name -> the name it was given."""
    onbuild: Mapping[str, Sequence[str]]
    escape: str
    misplaced: tuple[tuple[int, str], ...]
    """Lines that BuildKit refuses, and why."""

    def start(self, target: str) -> int:
        """The number of the stage that is built for a target; the last for none.

        Raises:
            ValueError: there is no such stage.
        """
        if not self.stages:
            raise ValueError("the Dockerfile has no FROM")
        # BuildKit knows targets by name only: a number is refused, unlike in COPY --from.
        found = self.names.get(target.lower()) if target else len(self.stages) - 1
        if found is None:
            raise ValueError(f"the target {target!r} is not a stage of the Dockerfile")
        return found

    def context_for(self, image: str) -> str | None:
        """The named context that stands for an image."""
        return self.contexts.get(references.familiar(image))


def graph(
    file: Syntax,
    *,
    arguments: Mapping[str, str],
    contexts: Collection[str],
    platform: str,
    onbuild: Mapping[str, Sequence[str]],
) -> Graph:
    """Find the stages of a file and what each starts from."""
    by_familiar = {references.familiar(name): name for name in contexts}
    shared = variables.predefined(platform, arguments)
    names: dict[str, int] = {}
    heads: list[tuple[int, str, str | None, int | None, str | None]] = []
    bodies: list[list[Statement]] = []
    misplaced: list[tuple[int, str]] = []
    for statement in file.statements:
        if statement.name == "FROM":
            words = statement.words
            if len(words) not in {1, 3}:
                misplaced.append((statement.line, "FROM is not understood"))
                continue
            base = shared.expand(words[0], escape=file.escape)
            name = words[2].lower() if len(words) == 3 else ""
            context = by_familiar.get(references.familiar(name)) if name not in {"", "scratch", "context"} else None
            # Without a named context of its name, a stage starts from the last stage above that has its base's name.
            heads.append((statement.line, name, base, names.get(base) if base else None, context))
            bodies.append([])
            if name:
                names[name] = len(heads) - 1
        elif bodies:
            bodies[-1].append(statement)
        elif statement.name == "ARG":
            shared = variables.declared(statement.words, shared, arguments=arguments, escape=file.escape)
        else:
            misplaced.append((statement.line, f"{statement.name} before the first FROM is not understood"))
    stages = (Stage(*head, tuple(body)) for head, body in zip(heads, bodies, strict=True))
    return Graph(
        stages=tuple(stages),
        names=names,
        shared=shared,
        arguments=arguments,
        contexts=by_familiar,
        onbuild=onbuild,
        escape=file.escape,
        misplaced=tuple(misplaced),
    )


def walk(stages: Graph, target: str, *, found: Found) -> tuple[str, ...]:
    """Add to `found` what a build of the target reads, and return the triggers that its image keeps."""
    for line, reason in stages.misplaced:
        found.not_understood(line, reason)
    try:
        start = stages.start(target)
    except ValueError as error:
        found.not_understood(0, str(error))
        return ()
    ends: dict[int, Variables] = {}
    pending = [start]
    while pending:
        chain: list[int] = []
        at: int | None = pending.pop()
        while at is not None and at not in ends and at not in chain:
            chain.append(at)
            at = None if stages.stages[at].context else stages.stages[at].parent
        for index in reversed(chain):
            ends[index] = _read_stage(stages, index, ends=ends, found=found, pending=pending)
    return stages.stages[start].triggers


def _read_stage(
    stages: Graph, index: int, *, ends: Mapping[int, Variables], found: Found, pending: list[int]
) -> Variables:
    """Add what one stage reads, and the stages it copies from to `pending`; return its variables at its end."""
    stage = stages.stages[index]
    if stage.context is not None:
        # It is the target, or another stage starts from it: all of the context is in the image.
        found.read(stage.context, None)
        found.bases[stage.context] = None
        return Variables()
    found.reached.add(index)
    scope, triggers = _start(stages, stage, ends=ends, found=found)
    for trigger in triggers:
        try:
            statements = syntax.parse(trigger).statements
        except ValueError as error:
            found.not_understood(stage.line, f"ONBUILD {trigger!r} of its base: {error}")
            continue
        for statement in statements:
            scope = _read(stages, statement, scope, found=found, pending=pending, line=stage.line)
            if statement.name in {"ARG", "ENV"}:
                # Whether triggers of a stage in the same file run differs between versions of BuildKit.
                names = statement.words[0::3] if statement.name == "ENV" else statement.words
                scope = scope.having({name.partition("=")[0]: None for name in names})
    for statement in stage.statements:
        if statement.name == "RUN":
            found.runs.append((index, statement, scope))
        scope = _read(stages, statement, scope, found=found, pending=pending, line=statement.line)
    return scope


def _start(
    stages: Graph, stage: Stage, *, ends: Mapping[int, Variables], found: Found
) -> tuple[Variables, Sequence[str]]:
    """The variables a stage starts with and the triggers of its base, which run first."""
    if stage.base is None:
        found.not_understood(stage.line, "the variables of FROM cannot be filled in here")
        return Variables(), ()
    if stage.parent is not None:
        parent = stages.stages[stage.parent]
        return ends[stage.parent], (*stages.onbuild.get(parent.context or "", ()), *parent.triggers)
    if stage.base == "scratch":
        # BuildKit sets PATH where an image has none, and nothing else.
        return Variables({"PATH": None}, is_closed=True), ()
    base = stages.context_for(stage.base)
    if base is None:
        base = stage.base
        found.name_image(base, stage.line)
    else:
        found.read(base, None)
    found.bases[base] = None
    return Variables(), stages.onbuild.get(base, ())


def _read(
    stages: Graph, statement: Statement, scope: Variables, *, found: Found, pending: list[int], line: int
) -> Variables:
    """Add what one instruction reads; return the variables behind it."""
    match statement.name:
        case "ARG":
            return variables.declared(
                statement.words, scope, arguments=stages.arguments, escape=stages.escape, inherited=stages.shared
            )
        case "ENV":
            return variables.assigned(statement.words, scope, escape=stages.escape)
        case "COPY" | "ADD":
            sources = commands.copied(statement, scope, escape=stages.escape)
        case "RUN":
            sources = commands.mounted(statement, scope, escape=stages.escape)
        case _:
            return scope
    for source in sources:
        if source.problem:
            note = found.not_understood if source.reads_anything else found.cannot_promise
            note(line, source.problem)
        elif source.origin is None:
            found.read(None, source.path)
        else:
            _read_origin(stages, source, found=found, pending=pending, line=line)
    return scope


def _read_origin(stages: Graph, source: commands.Source, *, found: Found, pending: list[int], line: int) -> None:
    """Add what `from=` names: a stage, a named context, or an image."""
    origin = source.origin or ""
    index = stages.names.get(origin.lower())
    if source.may_be_number and commands.is_number(origin):
        index = int(origin)
        if not 0 <= index < len(stages.stages):
            found.not_understood(line, f"there is no stage {origin}")
            return
    if index is None:
        context = stages.context_for(origin)
        if context is None and origin != "scratch":
            found.name_image(origin, line)
    else:
        context = stages.stages[index].context
        if context is None:
            pending.append(index)
    if context is not None:
        found.read(context, source.path)
