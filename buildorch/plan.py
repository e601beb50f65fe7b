"""Which services to build, in which order, under which names: `resolve(ServicesFile, Selection) -> Plan`.

In: a services file and what was asked for. Out: a `Plan` of `Solve`s in dependency order. Touches nothing: paths are
only computed, never looked at.
"""

from __future__ import annotations

import graphlib
import re
from dataclasses import field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from buildorch.errors import UnknownService, UsageError
from buildorch.oci import Platform
from buildorch.services import STAGING_TAG, dependencies, image_name
from buildorch.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from buildorch.services import Service, ServicesFile

Output = Literal["load", "push"]
Publish = Literal["each", "all-or-none"]
_REMOTE = re.compile(r"(https?|git|ssh)://|git@|github\.com/")
_CONTEXT_SCHEME = re.compile(r"(docker-image|oci-layout|target|https?|git|ssh)://|git@")
_NOT_IN_A_TAG = re.compile(r"[^A-Za-z0-9_.-]+")


@dataclass(frozen=True, slots=True)
class Revision:
    """The commit the sources stand at: its full SHA, the branch (empty when detached), and whether files differ."""

    sha: str
    branch: str
    dirty: bool

    @property
    def tag(self) -> str:
        """The first 12 digits of the SHA, with `-dirty` where files differ: an image never bears a commit it is not."""
        return self.sha[:12] + ("-dirty" if self.dirty else "")


@dataclass(frozen=True, slots=True)
class Selection:
    """What was asked for: services (none for all), and what holds for every one of them."""

    services: tuple[str, ...] = ()
    output: Output = "load"
    platforms: tuple[str, ...] = ()
    builder: str | None = None
    no_cache: bool = False


@dataclass(frozen=True, slots=True)
class Folder:
    """A folder that a build reads, and what it reads of it."""

    path: Path
    """Absolute."""
    dockerfile: Path | None = None
    """The Dockerfile whose own ignore file holds for this folder, where it is the build's main context."""
    only: tuple[str, ...] = ()
    """The only files read of it, where it is there for the Dockerfile alone; all that is not ignored if empty."""


@dataclass(frozen=True, slots=True)
class Solve:
    """One `docker buildx build`: one service on one builder."""

    name: str
    spec: Service
    """The service over the file's defaults."""
    references: tuple[str, ...]
    """The names the image gets, `name:tag`; the first is the one the record names."""
    context: Path | str
    """An absolute folder, or a URL BuildKit reads itself."""
    dockerfile: Path | str
    """An absolute file, or a path inside a remote context."""
    contexts: Mapping[str, Path | str]
    """Named contexts: an absolute folder, or what BuildKit reads itself; services are in `bases`."""
    bases: Mapping[str, str]
    """Named context -> the service whose image it is."""
    platforms: tuple[str, ...]
    builder: str | None
    output: Output
    no_cache: bool
    root: Path
    """The services file's folder: what relative paths start from."""
    pins: Mapping[str, str] = field(default_factory=dict)
    """Base image -> `docker-image://` with the digest the build is held to; the Dockerfile stays as it is written."""
    frontend: str = ""
    """The Dockerfile's `# syntax` image with the digest the build is held to; empty where it needs none."""
    cache_import: bool = True
    """Whether `cache_from` is used; the engine's races can lie in what it imports."""

    @property
    def folders(self) -> tuple[Folder, ...]:
        """The local folders this solve hands to BuildKit."""
        named = [Folder(context) for context in self.contexts.values() if isinstance(context, Path)]
        if not isinstance(self.context, Path):
            return tuple(named)
        dockerfile = Path(self.dockerfile)
        context = Folder(self.context, dockerfile)
        if any(folder.path == dockerfile.parent for folder in (context, *named)):
            return (context, *named)
        # BuildKit gets the Dockerfile's folder as a context of its own.
        names = (dockerfile.name, f"{dockerfile.name}.dockerignore", ".dockerignore")
        return (context, Folder(dockerfile.parent, only=names), *named)

    @property
    def destination(self) -> Literal["registry", "engine", "nowhere"]:
        """Where the image can be read after the build."""
        outputs = self.spec.outputs
        if not outputs:
            return "registry" if self.output == "push" else "engine"
        if any("type=registry" in output or "push=true" in output for output in outputs):
            return "registry"
        loaded = (one for one in outputs if one.startswith(("type=docker", "type=image")) and "dest=" not in one)
        return "engine" if any(loaded) else "nowhere"

    @property
    def is_only_pushed(self) -> bool:
        """Whether its image goes to a registry and nowhere else."""
        if not self.spec.outputs:
            return self.output == "push"
        return all(
            ("type=registry" in output or "push=true" in output) and "store=true" not in output
            for output in self.spec.outputs
        )

    @property
    def staging(self) -> str:
        """The name its image is pushed under before it gets its own."""
        return f"{self.references[0].rpartition(':')[0]}:{STAGING_TAG}"

    @property
    def depends_on(self) -> tuple[str, ...]:
        """The services that must be built first."""
        return tuple(dict.fromkeys(self.bases.values()))


@dataclass(frozen=True, slots=True)
class Plan:
    """The solves of one run in dependency order: a service stands after everything it builds on."""

    project: str
    solves: tuple[Solve, ...]
    limits: Mapping[str, int] = field(default_factory=dict)
    """Builder -> how many of its solves may run at once; a builder without an entry takes what `-j` allows."""
    policies: tuple[str, ...] = ()
    """Rules of one's own, as `package.module:function`."""

    def to_json(self) -> dict[str, Any]:
        """The plan as `plan --format json` prints it."""
        return {
            "schema": "buildorch.plan/1",
            "project": self.project,
            "services": {
                solve.name: {
                    "references": list(solve.references),
                    "context": str(solve.context),
                    "dockerfile": str(solve.dockerfile),
                    "target": solve.spec.target,
                    "platforms": list(solve.platforms),
                    "output": list(solve.spec.outputs) or solve.output,
                    "builder": solve.builder,
                    "depends_on": list(solve.depends_on),
                }
                for solve in self.solves
            },
        }


def resolve(
    file: ServicesFile, selection: Selection, *, root: Path, revision: Revision | None = None, date: str = ""
) -> Plan:
    """The plan for the selected services and everything they build on.

    Args:
        file: the services file.
        selection: what was asked for.
        root: the absolute folder that relative paths start from.
        revision: the git commit, for {git_sha} and {git_branch}; None where there is none.
        date: today as YYYYMMDD (UTC), for {date}.

    Raises:
        UnknownService: a selected name is not in the file.
        UsageError: a tag names the git commit where there is none.
    """
    for name in selection.services:
        if name not in file.services:
            raise UnknownService(name, known=file.services)
    merged = {name: file.merged(name) for name in file.services}
    graph = {name: tuple(dependencies(service).values()) for name, service in merged.items()}
    wanted = _with_dependencies(selection.services or tuple(file.services), graph)
    # static_order is stable for equal input: dependencies first, else the file's own order.
    order = graphlib.TopologicalSorter({name: graph[name] for name in merged if name in wanted}).static_order()
    words = {"date": date}
    if revision:
        words |= {
            "git_sha": revision.tag,
            "git_branch": _NOT_IN_A_TAG.sub("-", revision.branch).strip("-.") or "detached",
        }
    platforms = tuple(str(Platform.to_build(text)) for text in selection.platforms)
    return Plan(
        file.project,
        tuple(
            _solve(file.project, name, merged[name], selection, platforms=platforms, root=root, words=words)
            for name in order
        ),
        limits={name: builder.jobs for name, builder in file.builders.items()},
        policies=file.policies,
    )


def _solve(
    project: str,
    name: str,
    spec: Service,
    selection: Selection,
    *,
    platforms: tuple[str, ...],
    root: Path,
    words: Mapping[str, str],
) -> Solve:
    image = image_name(project, name, spec)
    raw = spec.context or f"services/{name}"
    context = raw if _REMOTE.match(raw) else _absolute(root, raw)
    dockerfile = spec.dockerfile or "Dockerfile"
    bases = dependencies(spec)
    return Solve(
        name=name,
        spec=spec,
        references=tuple(dict.fromkeys(f"{image}:{_tag(tag, words, name)}" for tag in spec.tags)),
        context=context,
        dockerfile=_absolute(context, dockerfile) if isinstance(context, Path) else dockerfile,
        contexts={
            key: value if _CONTEXT_SCHEME.match(value) else _absolute(root, value)
            for key, value in spec.contexts.items()
            if key not in bases
        },
        bases=bases,
        platforms=platforms or spec.platforms,
        builder=selection.builder or spec.builder,
        output=selection.output,
        no_cache=selection.no_cache,
        root=root,
    )


def _absolute(root: Path, text: str) -> Path:
    """`text` from `root`, with `.` and `..` taken out as text: nothing on the disk is looked at."""
    parts: list[str] = []
    path = root / text
    for part in path.parts[1:]:
        if part == "..":
            del parts[-1:]
        else:
            parts.append(part)
    return Path(path.anchor, *parts)


def _tag(template: str, words: Mapping[str, str], name: str) -> str:
    tag = template
    for placeholder in re.findall(r"\{([a-z_]+)\}", template):
        if placeholder not in words:
            raise UsageError(
                f"{name}: the tag {template!r} names the git commit, and there is none",
                hint="commit first, or give other tags: --set '*.tags=[latest]'",
            )
        tag = tag.replace(f"{{{placeholder}}}", words[placeholder])
    if tag == STAGING_TAG:
        raise UsageError(
            f"{name}: the tag {template!r} is {tag}, which buildorch itself pushes under",
            hint="give another tag: --set '*.tags=[latest]'",
        )
    if len(tag) > 128:
        raise UsageError(f"{name}: the tag {tag!r} is longer than 128 characters")
    return tag


def _with_dependencies(names: Iterable[str], graph: Mapping[str, tuple[str, ...]]) -> set[str]:
    wanted: set[str] = set()
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        if name not in wanted:
            wanted.add(name)
            waiting.extend(graph[name])
    return wanted
