"""Everything that is looked at before a service is built or skipped: `read(Plan) -> Inputs` for each solve.

    Dockerfiles -> the images they name -> digests, all at once -> their triggers -> contexts

In: a plan, the lock, the engine's mirrors. Out: `Inputs`, with the solve held to the digests that were found.
Touches: Dockerfiles and contexts, the stat cache, registries, the environment; the key of the arguments' hashes.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import tempfile
from contextlib import suppress
from dataclasses import field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from buildorch import context, dockerfile
from buildorch.bases import Base, pinned, pins, resolve_bases
from buildorch.bases.pinning import SCHEME
from buildorch.changes import Instruction, Snapshot
from buildorch.dockerfile.references import without_credentials
from buildorch.fingerprint import Observed, keyed
from buildorch.plan import Folder
from buildorch.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from buildorch.bases import Lock, Unresolved
    from buildorch.context import ContextListing, StatCache
    from buildorch.dockerfile import Reads
    from buildorch.fingerprint import Fingerprint
    from buildorch.plan import Plan, Solve

KEY_FILE = "key"
_VARIABLES = {
    "BUILDX_BUILDER",
    "BUILDX_EXPERIMENTAL",
    "BUILDX_NO_DEFAULT_ATTESTATIONS",
    "BUILDX_NO_DEFAULT_LOAD",
    "DOCKER_DEFAULT_PLATFORM",
    "SOURCE_DATE_EPOCH",
}
"""What the client reads from the environment and lets change the image; BUILDKIT_* besides."""
_SHOWN_ONLY = {"BUILDKIT_COLORS", "BUILDKIT_PROGRESS", "BUILDKIT_TTY_LOG_LINES"}
"""Of BUILDKIT_*, what is about the client's own output."""
_VALUE_FLAGS = ("--add-host", "--allow", "--cgroup-parent", "--pull", "--shm-size", "--ulimit")
"""Flags for `buildx:` that bring in no input but their own value."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the inputs of every service of a run are read with."""

    cache: StatCache
    key: bytes
    lock: Lock | None = None
    frozen: bool = False
    mirrors: Sequence[str] = ()
    builder: str = ""
    """The builder that docker uses by default; empty for the engine's own."""
    onbuild: Callable[[Base, Sequence[str]], tuple[str, ...] | None] = lambda _base, _platforms: ()
    """The `OnBuild` of a base image for some platforms, None where its config cannot be read."""
    environ: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))


@dataclass(frozen=True, slots=True)
class Inputs:
    """What was read for one solve."""

    solve: Solve
    """Held to the digests of its base images, and to the real folders of its contexts."""
    observed: Observed
    instructions: tuple[Instruction, ...] = ()
    listings: Mapping[str, ContextListing] = field(default_factory=dict)
    """Context's name, empty for the main one -> what the build may read of it."""
    links: Mapping[Path, Path] = field(default_factory=dict)
    """Folder as it was given -> the real one that was read, where a link leads there."""

    def snapshot(self, fingerprint: Fingerprint) -> Snapshot:
        """The inputs in the detail that `explain` needs; reads the contexts' entries from the cache."""
        files = {
            name: {entry.path: entry.text() for entry in listing.contents()} for name, listing in self.listings.items()
        }
        rules = {name: listing.rules for name, listing in self.listings.items() if listing.rules}
        return Snapshot(fingerprint.inputs, files, self.instructions, rules)

    def changed(self) -> tuple[str, ...]:
        """The files that are not as they were when this was read: they came, went, or were written.

        Read again, not only looked at: two edits in one tick of the clock leave one state, but not one content.
        """
        found: list[str] = []
        for name, before in self.listings.items():
            now = before.again()
            paths = context.changed(before.state, now.state)
            if not paths and before.digest != now.digest:
                paths = before.differing(now)
            found.extend(f"{name}: {path}" if name else path for path in paths)
        # It was read before the contexts were: an edit in between is in their state already.
        dockerfile = self.solve.dockerfile
        if isinstance(dockerfile, Path) and _sha256(_bytes(dockerfile)) != self.observed.dockerfile:
            found.append(dockerfile.name)
        found.extend(f"{path} (a link)" for path, real in self.links.items() if _real(path) != real)
        return tuple(dict.fromkeys(found))


def read(plan: Plan, surroundings: Surroundings) -> dict[str, Inputs]:
    """The inputs of every solve of a plan, by service.

    Raises:
        UsageError: `frozen`, and the lock lacks base images.
    """
    # A registry that does not answer is waited for once a base, not once a service.
    surroundings = dataclasses.replace(surroundings, onbuild=cache(surroundings.onbuild))
    found = {solve.name: _dockerfile(_at_its_real_place(solve), surroundings) for solve in plan.solves}
    images = [reference for one in found.values() for reference in _images(one)]
    bases = resolve_bases(images, lock=surroundings.lock, mirrors=surroundings.mirrors, frozen=surroundings.frozen)
    triggers: dict[str, tuple[str, ...]] = {}
    inputs: dict[str, Inputs] = {}
    for solve in plan.solves:
        one = _with_triggers(found[solve.name], bases, triggers, surroundings)
        triggers[solve.name] = one.reads.triggers if one.reads else ()
        inputs[solve.name] = dataclasses.replace(_inputs(one, bases, surroundings), links=_links(solve, one.solve))
    return inputs


def key(folder: Path) -> bytes:
    """The secret that the hashes of build arguments are made with: made once, kept beside the ledger, never shared."""
    path = folder / KEY_FILE
    if not path.exists():
        # It is there whole or not at all: hashes made with a part of it, or with nothing, would hide nothing.
        with tempfile.NamedTemporaryFile(dir=folder, prefix=f".{KEY_FILE}.") as file:
            file.write(os.urandom(32))
            file.flush()
            os.fsync(file.fileno())
            with suppress(FileExistsError):  # another run was first: its key holds
                path.hardlink_to(file.name)
    return path.read_bytes()


def variables(secret: bytes, environ: Mapping[str, str]) -> dict[str, str]:
    """What the docker client takes from the environment and hands on, hashed."""
    return {
        name: keyed(secret, value)
        for name, value in environ.items()
        if name in _VARIABLES or (name.startswith("BUILDKIT_") and name not in _SHOWN_ONLY)
    }


@dataclass(frozen=True, slots=True)
class _Read:
    """One solve's Dockerfile, and what it says."""

    solve: Solve
    text: str | None
    digest: str
    arguments: Mapping[str, str]
    reads: Reads | None


def _at_its_real_place(solve: Solve) -> Solve:
    """The same, with folders that no link leads to any more: one that is moved meanwhile moves no build."""
    contexts = {name: _real(value) if isinstance(value, Path) else value for name, value in solve.contexts.items()}
    if not isinstance(solve.context, Path):
        return dataclasses.replace(solve, contexts=contexts)
    file = Path(solve.dockerfile)
    return dataclasses.replace(
        solve, context=_real(solve.context), dockerfile=_real(file.parent) / file.name, contexts=contexts
    )


def _links(given: Solve, read: Solve) -> dict[Path, Path]:
    """Folder as it was given -> where it really is, for those that differ."""
    pairs = [(given.contexts[name], found) for name, found in read.contexts.items() if isinstance(found, Path)]
    if isinstance(read.context, Path):
        pairs += [(given.context, read.context), (Path(given.dockerfile).parent, Path(read.dockerfile).parent)]
    return {Path(asked): found for asked, found in pairs if asked != found}


def _real(path: Path) -> Path:
    return Path(os.path.realpath(path))


def _dockerfile(solve: Solve, surroundings: Surroundings) -> _Read:
    environ = surroundings.environ
    arguments = {
        name: environ[name] if value is None else value
        for name, value in solve.spec.args.items()
        if value is not None or name in environ
    }
    data = _bytes(solve.dockerfile) if isinstance(solve.dockerfile, Path) else None
    if data is None:
        return _Read(solve, None, "", arguments, None)
    text = data.decode("utf-8-sig", "surrogateescape")
    return _Read(solve, text, _sha256(data), arguments, _reads(solve, text, arguments, {}))


def _bytes(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except OSError:
        return None


def _sha256(data: bytes | None) -> str:
    """Its SHA-256 in hex; empty for nothing."""
    return "" if data is None else hashlib.sha256(data).hexdigest()


def _reads(solve: Solve, text: str, arguments: Mapping[str, str], onbuild: Mapping[str, Sequence[str]]) -> Reads:
    return dockerfile.reads(
        text,
        arguments=arguments,
        target=solve.spec.target,
        contexts=(*solve.contexts, *solve.bases),
        platforms=solve.platforms,
        onbuild=onbuild,
    )


def _images(one: _Read) -> Iterable[str]:
    """Every image reference whose digest counts."""
    if one.reads is None:
        return ()
    frontend = (one.reads.frontend,) if one.reads.frontend else ()
    values = (value for value in one.solve.contexts.values() if isinstance(value, str))
    contexts = (value.removeprefix(SCHEME) for value in values if value.startswith(SCHEME))
    return (*one.reads.images, *contexts, *frontend)


def _with_triggers(
    one: _Read, bases: Mapping[str, Base | Unresolved], triggers: Mapping[str, Sequence[str]], around: Surroundings
) -> _Read:
    """The same, read again with what ONBUILD in its base images adds."""
    if one.reads is None or one.text is None:
        return one
    onbuild: dict[str, Sequence[str]] = {}
    for name in one.reads.bases:
        service = one.solve.bases.get(name)
        if service is not None:
            onbuild[name] = triggers.get(service, ())
        elif isinstance(base := bases.get(_reference(one.solve, name)), Base):
            onbuild[name] = around.onbuild(base, one.solve.platforms) or ()
    onbuild = {name: found for name, found in onbuild.items() if found}
    if not onbuild:
        return one
    return dataclasses.replace(one, reads=_reads(one.solve, one.text, one.arguments, onbuild))


def _reference(solve: Solve, name: str) -> str:
    """The image that a base is: itself, or what the named context of that name stands for."""
    value = solve.contexts.get(name)
    return value.removeprefix(SCHEME) if isinstance(value, str) else name


def _inputs(one: _Read, bases: Mapping[str, Base | Unresolved], around: Surroundings) -> Inputs:
    own = {reference: bases[reference] for reference in dict.fromkeys(_images(one))}
    solve = _pinned(one, own)
    folders = _folders(one)
    listings = {name: context.read(folder, around.cache, used=used) for name, (folder, used) in folders.items()}
    sent = [f"{name}: {path}" if name else path for name, listing in listings.items() for path in listing.own]
    caches = solve.spec.cache_from, solve.spec.cache_to
    observed = Observed(
        contexts={name: listing.digest for name, listing in listings.items()},
        dockerfile=one.digest,
        bases={name: base.digest for name, base in own.items() if isinstance(base, Base)},
        arguments={name: keyed(around.key, value) for name, value in one.arguments.items()},
        remotes={name: keyed(around.key, value) for name, value in solve.contexts.items() if isinstance(value, str)},
        caches=keyed(around.key, json.dumps(caches)) if any(caches) else "",
        flags=keyed(around.key, json.dumps(solve.spec.buildx)) if solve.spec.buildx else "",
        unproven=(
            *_unproven(one, own, around),
            *(
                f"{path} is sent along and changes with every run: put **/.buildorch into .dockerignore"
                for path in sent
            ),
        ),
    )
    instructions = one.reads.instructions if one.reads else ()
    return Inputs(
        solve,
        observed,
        tuple(Instruction.of(found.line, found.name, found.text) for found in instructions),
        listings,
    )


def _pinned(one: _Read, own: Mapping[str, Base | Unresolved]) -> Solve:
    """The solve, held to the digests: images by named contexts, a frontend by the argument that names it."""
    solve, reads = one.solve, one.reads
    if reads is None:
        return solve
    frontend = own.get(reads.frontend) if reads.frontend else None
    images = {reference: base for reference, base in own.items() if reference != reads.frontend}
    contexts = {name: pinned(value, own) if isinstance(value, str) else value for name, value in solve.contexts.items()}
    return dataclasses.replace(
        solve,
        contexts=contexts,
        pins={name: value for name, value in pins(images, stages=_stages(reads)).items() if name not in contexts},
        frontend=f"{reads.frontend}@{frontend.digest}"
        if isinstance(frontend, Base) and frontend.origin != "reference"
        else "",
    )


def _stages(reads: Reads) -> set[str]:
    """The names that the Dockerfile gives its stages."""
    froms = (instruction.text.split() for instruction in reads.instructions if instruction.name.upper() == "FROM")
    return {words[-1].lower() for words in froms if len(words) > 3 and words[-2].lower() == "as"}


def _folders(one: _Read) -> dict[str, tuple[Folder, tuple[str, ...] | None]]:
    """The local contexts that the build reads, and which paths of each."""
    solve, reads = one.solve, one.reads
    found: dict[str, tuple[Folder, tuple[str, ...] | None]] = {}
    if isinstance(solve.context, Path):
        used = reads.paths if reads else None
        found[""] = (Folder(solve.context, Path(solve.dockerfile)), used)
    for name, value in solve.contexts.items():
        if isinstance(value, Path) and (reads is None or name in reads.named):
            found[name] = (Folder(value), reads.named[name] if reads else None)
    return found


def _unproven(one: _Read, own: Mapping[str, Base | Unresolved], around: Surroundings) -> Iterator[str]:
    """Why equal inputs would not promise an equal image."""
    solve, spec = one.solve, one.solve.spec
    yield from (
        one.reads.unpinned if one.reads else ("its Dockerfile cannot be read here, so neither can what it takes",)
    )
    yield from (f"{base.reference}: {base.reason}" for base in own.values() if not isinstance(base, Base))
    yield from _unproven_images(one, own, around)
    if builder := solve.builder or around.builder:
        yield f"the version of the builder {builder} is not known"
    if around.environ.get("BUILDX_GIT_LABELS"):
        yield "BUILDX_GIT_LABELS has the commit written into its labels"
    if len(spec.outputs) > 1:
        yield "only one of its outputs can be looked for"
    if spec.no_cache_filter:
        yield f"no_cache_filter has {', '.join(spec.no_cache_filter)} built every time"
    flags = (word.partition("=")[0] for word in spec.buildx if word.startswith("-"))
    yield from (f"what {flag} brings in is not known" for flag in flags if flag not in _VALUE_FLAGS)


def _unproven_images(one: _Read, own: Mapping[str, Base | Unresolved], around: Surroundings) -> Iterator[str]:
    """Images and remote contexts that may be others next time."""
    solve, reads = one.solve, one.reads
    if reads is None:
        return
    for name, value in solve.contexts.items():
        if isinstance(value, str) and not value.startswith(SCHEME) and not dockerfile.remote_is_pinned(value):
            yield f"the context {name} is {without_credentials(value)}, which may change unseen"
    for name in reads.bases:
        base = own.get(_reference(solve, name))
        if isinstance(base, Base) and around.onbuild(base, solve.platforms) is None:
            yield f"{name}: its config cannot be read, so neither can its ONBUILD"
    if reads.frontend and "BUILDKIT_SYNTAX" in solve.spec.args and "@" not in reads.frontend:
        yield "BUILDKIT_SYNTAX names a frontend without its digest"
