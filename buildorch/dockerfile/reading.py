"""What a build of a Dockerfile reads: images, parts of its contexts, and what nobody can promise to be the same again.

In: the text and the solve's own parameters. Out: `Reads`. Touches nothing.

Why: a build may be skipped only if nothing changed that it could read. So every answer here may be too large and none
too small: what is not surely understood reads everything, or keeps the service from being skipped, with the reason.
The rules are those of BuildKit's `dockerfile2llb/convert.go` and its neighbours, and were tried on an engine.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from types import MappingProxyType

from buildorch.dockerfile import syntax
from buildorch.dockerfile.graph import Found, graph, walk
from buildorch.dockerfile.syntax import Instruction, Syntax
from buildorch.values import dataclass

_SBOM_CONTEXT = "BUILDKIT_SBOM_SCAN_CONTEXT"
_NOTHING: Mapping[str, Sequence[str]] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Reads:
    """What one build can see."""

    images: tuple[str, ...]
    """Images that are looked up in a registry or a store, as written, with variables filled in. Not stages, not
    `scratch`, and not what a named context stands for."""
    bases: tuple[str, ...]
    """Those of `images`, and those named contexts, that a stage starts from. If the config of one of them has
    `OnBuild`, BuildKit runs that here, and all else holds only if it was given as `onbuild`."""
    paths: tuple[str, ...] | None
    """What is read of the main context: files, and folders with all that is below them, relative, sorted, none inside
    another. A symbolic link on the way to one, or at its end, is followed. None: everything; (): nothing."""
    named: Mapping[str, tuple[str, ...] | None]
    """The same for each named context that is used."""
    frontend: str | None
    """The image that reads the file in place of the engine's own frontend; then `paths` and `named` are everything."""
    unpinned: tuple[str, ...]
    """For people, each with its line: why equal inputs do not promise an equal image. Such a service is not skipped."""
    instructions: tuple[Instruction, ...]
    """The file's instructions in order, all stages; empty if it cannot be parsed."""
    triggers: tuple[str, ...]
    """What ONBUILD leaves in the image for builds on top of it: the `onbuild` of those."""


def reads(
    text: str,
    *,
    arguments: Mapping[str, str],
    target: str | None = None,
    contexts: Collection[str] = (),
    platforms: Sequence[str] = (),
    onbuild: Mapping[str, Sequence[str]] = _NOTHING,
) -> Reads:
    """What a build of a Dockerfile reads. Never raises: a text that cannot be parsed reads everything.

    Args:
        text: the Dockerfile.
        arguments: the build arguments, with their values.
        target: the stage that is built; None for the last.
        contexts: the names of the named contexts, as they are given to buildx.
        platforms: what is built for, as `linux/amd64`; empty where the builder chooses.
        onbuild: `OnBuild` of the configs of those in `bases` that have one, by their name there.
    """
    # An empty BUILDKIT_SYNTAX counts as given, and fails: the key is looked for, not the value.
    given = arguments.get("BUILDKIT_SYNTAX")
    frontend = syntax.frontend(text) if given is None else given.strip().partition(" ")[0]
    found, file = Found(), Syntax((), (), "\\")
    triggers: tuple[str, ...] = ()
    try:
        file = syntax.parse(text)
    except ValueError as error:
        found.not_understood(0, str(error))
    else:
        for platform in platforms or ("",):
            stages = graph(file, arguments=arguments, contexts=contexts, platform=platform, onbuild=onbuild)
            triggers = walk(stages, target or "", found=found)
    everything = found.reads_everything or frontend is not None
    named = dict.fromkeys(contexts) if everything else {name: _outermost(paths) for name, paths in found.named.items()}
    # A scan for an SBOM reads the whole context, and can be asked for by an ARG.
    scanned = _SBOM_CONTEXT in arguments or _SBOM_CONTEXT in text
    return Reads(
        images=tuple(found.images),
        bases=tuple(found.bases),
        paths=None if everything or scanned else _outermost(found.paths),
        named=MappingProxyType(named),
        frontend=frontend,
        unpinned=tuple(reason for _, reason in sorted(found.unpinned)),
        instructions=file.instructions,
        triggers=triggers,
    )


def _outermost(paths: set[str] | None) -> tuple[str, ...] | None:
    """The paths that lie in no other of them."""
    if paths is None:
        return None
    found: list[str] = []
    # With the slash behind them, what is below a folder follows right behind the folder.
    for path in sorted(paths, key=lambda path: f"{path}/"):
        if not found or not path.startswith(f"{found[-1]}/"):
            found.append(path)
    return tuple(sorted(found))
