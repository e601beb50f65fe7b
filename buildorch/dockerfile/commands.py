"""Where COPY, ADD and RUN read from, and what is mounted for a RUN.

In: one instruction and the variables at its place. Out: `Source` and `Mount` values. Touches nothing.

Sources: BuildKit's `instructions/parse.go`, `instructions/commands_runmount.go`, `dockerfile2llb/convert_copy.go` and
`dockerfile2llb/convert_runmount.go`.
"""

from __future__ import annotations

import posixpath
import re
from typing import TYPE_CHECKING

from buildorch.dockerfile import references
from buildorch.dockerfile.syntax import heredoc_name
from buildorch.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from buildorch.dockerfile.syntax import Statement
    from buildorch.dockerfile.variables import Variables

_NUMBER = re.compile(r"[+-]?[0-9]+\Z", re.ASCII)
_TO_FILL_IN = re.compile(r"[$'\"\\`]")
_COPY_FLAGS = frozenset({"from", "chown", "chmod", "link", "parents", "exclude"})
_ADD_FLAGS = frozenset({"chown", "chmod", "link", "exclude", "checksum", "keep-git-dir", "unpack"})
_RUN_FLAGS = frozenset({"mount", "network", "security", "device"})
_MOUNT_TYPES = frozenset({"bind", "cache", "tmpfs", "secret", "ssh"})
_MOUNT_KEYS = frozenset(
    {"type", "from", "source", "src", "target", "dst", "destination", "readonly", "ro", "readwrite", "rw", "required"}
    | {"id", "sharing", "size", "mode", "uid", "gid", "env"}
)


@dataclass(frozen=True, slots=True)
class Source:
    """One thing an instruction reads, or why that is not known."""

    origin: str | None = None
    """What `from=` names: a stage, an image or a named context; None for the main context."""
    path: str | None = None
    """Inside the origin; None for all of it."""
    may_be_number: bool = False
    """Whether an origin may be a stage's number: in COPY it may, in a mount it is an image's name."""
    problem: str = ""
    reads_anything: bool = False
    """Whether what the problem is about may read anything, and not only give another result another time."""


@dataclass(frozen=True, slots=True)
class Mount:
    """One mount of a RUN, with BuildKit's defaults; what is None is not said, or has variables that are not known."""

    kind: str | None
    """`bind`, `cache`, `tmpfs`, `secret` or `ssh`."""
    target: str | None
    """One that does not start with a slash is below the working directory."""
    id: str | None
    """A cache is known by it in every build on a builder; a cache without one is known by its target."""
    sharing: str | None
    """Of a cache: `shared`, `private` or `locked`; None for all else."""


def is_number(origin: str) -> bool:
    """Whether BuildKit takes the origin of a COPY for a stage's number."""
    return _NUMBER.match(origin) is not None


def copied(statement: Statement, scope: Variables, *, escape: str) -> Iterator[Source]:
    """What a COPY or ADD reads."""
    is_add = statement.name == "ADD"
    flags = dict(_split(flag) for flag in statement.flags)
    unknown = sorted(flags.keys() - (_ADD_FLAGS if is_add else _COPY_FLAGS))
    origin = flags.get("from") or None
    if unknown:
        yield _not_understood(f"the flag --{unknown[0]} of {statement.name} is not known")
    if not statement.is_sure:
        yield _not_understood(f"versions of BuildKit take this {statement.name} apart in different ways")
    if origin and _TO_FILL_IN.search(origin):
        yield _not_understood(f"--from={origin} cannot be filled in")
        return
    reads_nothing = True
    for word in statement.words[:-1]:
        if not statement.is_json and heredoc_name(word) is not None:
            continue
        reads_nothing = False
        value = scope.expand(word, escape=escape)
        if is_add and (value is None or references.is_remote(value)):
            yield from _added(word, value, checksum=scope.expand(flags.get("checksum", ""), escape=escape) or "")
        else:
            path = None if value is None else references.prefix(value, with_parents="parents" in flags)
            yield Source(origin, path, may_be_number=True)
    if origin and reads_nothing:  # all its sources are heredocs: BuildKit looks the origin up nevertheless
        yield Source(origin, may_be_number=True)


def _added(word: str, value: str | None, *, checksum: str) -> Iterator[Source]:
    """What an ADD reads that is not surely a local file; `word` is as written and `value` filled in."""
    shown = references.without_credentials(word)
    if value is None and not references.is_remote(word):
        yield _not_understood(f"ADD {shown} cannot be filled in, it may be remote")
    elif not references.checksum_pins(checksum) and not (value and references.remote_is_pinned(value)):
        yield Source(problem=f"ADD {shown} has no --checksum, and is not a full commit hash of a git repository")


def mounted(statement: Statement, scope: Variables, *, escape: str) -> Iterator[Source]:
    """What the mounts of a RUN read."""
    for flag in statement.flags:
        name, value = _split(flag)
        if name not in _RUN_FLAGS:
            yield _not_understood(f"the flag --{name} of RUN is not known")
        elif name == "mount":
            yield from _mount(value, scope, escape=escape)


def mounts(statement: Statement, scope: Variables, *, escape: str) -> Iterator[Mount]:
    """The mounts of a RUN, as far as they are understood."""
    for flag in statement.flags:
        name, value = _split(flag)
        if name == "mount":
            yield _described(_fields(value), scope, escape=escape)


def _described(fields: Mapping[str, str], scope: Variables, *, escape: str) -> Mount:
    def value(*keys: str, default: str = "") -> str | None:
        return scope.expand(next((fields[key] for key in keys if fields.get(key)), default), escape=escape)

    kind, target, name = value("type", default="bind"), value("target", "dst", "destination"), value("id")
    is_cache = kind is not None and kind.lower() == "cache"
    clean = "/" * target.startswith("/") + posixpath.normpath(target).lstrip("/") if target else None
    sharing = value("sharing", default="shared") if is_cache else None
    return Mount(
        kind=kind and kind.lower(),
        target=clean,
        id=clean if is_cache and name == "" else name or None,
        sharing=sharing and sharing.lower(),
    )


def _mount(text: str, scope: Variables, *, escape: str) -> Iterator[Source]:
    fields = _fields(text)
    kind = fields.get("type", "bind").lower()
    origin = fields.get("from", "")
    # BuildKit reads CSV; a quoted field starts with its quote, so that its key is not known here.
    if fields.keys() - _MOUNT_KEYS or kind not in _MOUNT_TYPES or _TO_FILL_IN.search(origin):
        yield _not_understood(f"--mount={text} is not understood")
    elif kind == "bind" or (origin and kind != "tmpfs"):
        value = scope.expand(_source(fields), escape=escape)
        yield Source(origin or None, None if value is None else references.prefix(value))


def _fields(text: str) -> dict[str, str]:
    return {key.lower(): value for key, _, value in (part.partition("=") for part in text.split(","))}


def _source(fields: Mapping[str, str]) -> str:
    """The mount's `source`, however it is spelled; the folder above both where it is given twice."""
    given = [fields[key] for key in ("source", "src") if key in fields]
    return given[0] if len(given) == 1 else "/"


def _split(flag: str) -> tuple[str, str]:
    name, _, value = flag.removeprefix("--").partition("=")
    return name, value


def _not_understood(problem: str) -> Source:
    return Source(problem=problem, reads_anything=True)
