"""What a context holds for BuildKit: every file, folder and link that is not ignored, with its state.

In: a folder and its rules. Out: a `State`, and what the rules said of its paths. Touches: the file system, only names
and states: one lstat a path, and the ignore file.
"""

from __future__ import annotations

import hashlib
import os
import posixpath
import stat
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from buildorch.context.folder_state import Entry, Seen, State, pack, seen_of
from buildorch.context.ignore import IgnoreRules, Verdicts, parse_rules
from buildorch.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from buildorch.plan import Folder

STATE_FOLDER = ".buildorch"
"""buildorch's own folder beside a services file: it changes with every run and is never part of a context's state."""
_OWN_FILES = ("ledger.db", "run.json", "contexts.db")
"""A folder of that name that holds none of these is somebody else's, and BuildKit is given it."""

Wanted = dict[str, "Wanted | None"]
"""Name -> what is wanted below it; None for all of it."""


class IgnoreFile(NamedTuple):
    """The ignore file that holds for a folder, or that none does."""

    data: bytes | None
    """None where there is none, or it cannot be read."""
    entry: Entry | None
    readable: bool = True

    @property
    def named(self) -> str:
        """Its path and the SHA-256 of its bytes; empty where there is none."""
        if self.data is None or self.entry is None:
            return ""
        return f"{self.entry.path} {hashlib.sha256(self.data).hexdigest()}"

    def rules(self) -> IgnoreRules:
        """Its rules; where BuildKit will not take the file, and says why, nothing is left out."""
        if self.data is None:
            return IgnoreRules(disputed=not self.readable)
        try:
            return parse_rules(self.data)
        except ValueError:
            return IgnoreRules(disputed=True)


@dataclass(frozen=True, slots=True)
class Walk:
    """What one walk came to."""

    state: State
    verdicts: Verdicts
    """What the rules said on the way."""
    own: tuple[str, ...]
    """buildorch's own folders that BuildKit would be given, and that the state leaves out."""


def state(folder: Folder, *, used: tuple[str, ...] | None = None) -> State:
    """The state of what a build reads of a folder; see `buildorch.context.reading.read` for `used`."""
    ignore = ignore_file(folder)
    return walk(folder, ignore.rules(), used=used, ignore=ignore).state


def rules_for(folder: Path, dockerfile: Path | None = None) -> IgnoreRules:
    """The ignore rules of a context: `<Dockerfile>.dockerignore` where there is one, even empty, else `.dockerignore`.

    Raises:
        OSError: the file is there and cannot be read.
        ValueError: a pattern is malformed.
    """
    for candidate in _ignore_files(folder, dockerfile):
        try:
            return parse_rules(candidate.read_bytes())
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
            continue
    return IgnoreRules()


def ignore_file(folder: Folder) -> IgnoreFile:
    """The ignore file of a folder, read."""
    if folder.only:
        return IgnoreFile(None, None)
    for candidate in _ignore_files(folder.path, folder.dockerfile):
        try:
            with candidate.open("rb") as file:
                entry = Entry(_label(candidate, folder.path), seen_of(os.fstat(file.fileno())))
                return IgnoreFile(file.read(), entry)
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
            continue
        except OSError:
            return IgnoreFile(None, None, readable=False)
    return IgnoreFile(None, None)


def _ignore_files(folder: Path, dockerfile: Path | None) -> list[Path]:
    own = [dockerfile.with_name(f"{dockerfile.name}.dockerignore")] if dockerfile is not None else []
    return [*own, folder / ".dockerignore"]


def _label(file: Path, folder: Path) -> str:
    return file.relative_to(folder).as_posix() if file.is_relative_to(folder) else str(file)


def entries(folder: str | os.PathLike[str], rules: IgnoreRules) -> Iterator[Entry]:
    """Every entry below a folder that BuildKit would be given, parents before what they hold.

    An ignored folder is there where something below it is included again. What goes away meanwhile, or cannot be read,
    is passed over: the build itself will say so.
    """
    found = _Found()
    _collect(os.fspath(folder), rules, None, found)
    yield from map(Entry, found.paths, found.seen)


def walk(folder: Folder, rules: IgnoreRules | Verdicts, *, used: tuple[str, ...] | None, ignore: IgnoreFile) -> Walk:
    """What a build reads of a folder, by the rules; `ignore` is where they come from."""
    top = os.fspath(folder.path)
    wanted = wanted_below(folder.only or used)
    found = _Found()
    if not _collect(top, rules, wanted, found):
        # BuildKit follows a link in what it is asked for, to anywhere in the context: all of it counts.
        wanted, found = None, _Found()
        _collect(top, rules, None, found)
    beside = dict.fromkeys(found.lacking) if not folder.only else {}
    if wanted is None and not folder.only:
        beside[""] = None
    near = [entry for path in beside for entry in _seen_now(path or ".", os.path.join(top, path))]  # noqa: PTH118 - speed
    if ignore.entry is not None:
        near.append(ignore.entry)
    if folder.dockerfile is not None:
        near.extend(_seen_now(_label(folder.dockerfile, folder.path), os.fspath(folder.dockerfile)))
    above = tuple(path for path in found.above if path not in beside)
    whole = pack(found.paths, found.seen, above=above, beside=tuple(near))
    return Walk(whole, Verdicts(frozenset(found.excluded), frozenset(found.pruned)), tuple(found.own))


def wanted_below(prefixes: tuple[str, ...] | None) -> Wanted | None:
    """The prefixes as a tree, cleaned as BuildKit cleans a source path: it starts at the context, and stays in it."""
    if prefixes is None:
        return None
    tree: Wanted = {}
    for prefix in prefixes:
        *folders, last = posixpath.normpath(f"/{prefix}").strip("/").split("/")
        if not last:
            return None
        here: Wanted | None = tree
        for name in folders:
            here = here.setdefault(name, {}) if here is not None else None
        if here is not None:
            here[last] = None
    return tree


_Child = tuple[str, Seen, bool, "Wanted | None"]
"""Path, lstat, whether it counts only if something below it does, and what is wanted below it."""
_TYPE_BITS = 0o170000


class _Found:
    """What a walk gathers on its way."""

    __slots__ = ("above", "excluded", "lacking", "own", "paths", "pruned", "seen")

    def __init__(self) -> None:
        self.paths: list[str] = []
        self.seen: list[Seen] = []
        self.excluded: list[str] = []
        self.pruned: list[str] = []
        self.above: list[str] = []
        self.own: list[str] = []
        """buildorch's own folders that BuildKit would be given: they change with every run, and do not count."""
        self.lacking: list[str] = []
        """Folders in which something wanted is not there."""


def _collect(top: str, rules: IgnoreRules | Verdicts, wanted: Wanted | None, found: _Found) -> bool:
    """Walk below `top`, depth first; False as soon as something wanted is reached through a link.

    A stack of its own, not recursion: a path may be 2,000 folders deep.
    """
    waiting: list[_Child] = []  # folders around here that count only if something below them does
    level = _level(top, "", rules, wanted, found)
    stack = [(iter(level or ()), 0)]
    while stack and level is not None:
        children, held = stack[-1]
        for child in children:
            path, seen, hollow, below = child
            if hollow:
                waiting.append(child)
            else:
                for above in waiting:
                    found.paths.append(above[0])
                    found.seen.append(above[1])
                waiting.clear()
                found.paths.append(path)
                found.seen.append(seen)
            if seen[1] & _TYPE_BITS == stat.S_IFDIR:
                level = _level(f"{top}/{path}", f"{path}/", rules, below, found)
                stack.append((iter(level or ()), max(len(waiting) - 1, 0)))
                break
        else:
            stack.pop()
            del waiting[held:]
    return level is not None


def _level(
    folder: str, prefix: str, rules: IgnoreRules | Verdicts, wanted: Wanted | None, found: _Found
) -> list[_Child] | None:
    """What counts of one folder's children; None where one that is wanted is a link."""
    children = _children(folder, prefix, wanted, found)
    if wanted is not None:
        return _narrowed(children, prefix, rules, wanted, found)
    children = [child for child in children if not _is_own(child[0], folder) or _noted(prefix + child[0], rules, found)]
    if rules.leave_out_nothing:
        return [(prefix + name, seen, False, None) for name, seen in children]
    level: list[_Child] = []
    for name, seen in children:
        path = prefix + name
        if not rules.excludes(path):
            level.append((path, seen, False, None))
        elif _may_hold_more(path, seen, rules, found):
            level.append((path, seen, True, None))
    return level


def _narrowed(
    children: list[tuple[str, Seen]], prefix: str, rules: IgnoreRules | Verdicts, wanted: Wanted, found: _Found
) -> list[_Child] | None:
    level: list[_Child] = []
    for name, seen in children:
        path, below = prefix + name, wanted[name]
        kind = seen[1] & _TYPE_BITS
        if kind == stat.S_IFLNK:
            return None
        excluded = rules.excludes(path)
        if excluded and not _may_hold_more(path, seen, rules, found):
            continue
        if below is not None and kind != stat.S_IFDIR:
            found.lacking.append(prefix.rstrip("/"))
            continue
        if below is not None:
            found.above.append(path)
        level.append((path, seen, excluded or below is not None, below))
    return level


def _may_hold_more(path: str, seen: Seen, rules: IgnoreRules | Verdicts, found: _Found) -> bool:
    """Whether an excluded path is a folder that may hold something included."""
    found.excluded.append(path)
    if seen[1] & _TYPE_BITS != stat.S_IFDIR:
        return False
    if rules.may_include_below(path):
        return True
    found.pruned.append(path)
    return False


def _children(folder: str, prefix: str, wanted: Wanted | None, found: _Found) -> list[tuple[str, Seen]]:
    """The names in a folder and their lstats, sorted: all that are there, or those that are wanted."""
    try:
        if wanted is None:
            with os.scandir(folder) as there:
                children = [(child.name, seen_of(child.stat(follow_symlinks=False))) for child in there]
            children.sort()
            return children
    except OSError:
        pass  # perhaps one that went away meanwhile: one by one
    try:
        names = sorted(os.listdir(folder) if wanted is None else wanted)  # noqa: PTH208 - names are all it takes
    except OSError:
        return []
    children = []
    for name in names:
        try:
            children.append((name, seen_of(os.lstat(f"{folder}/{name}"))))
        except OSError:
            if wanted is not None:
                found.lacking.append(prefix.rstrip("/"))
    return children


def _is_own(name: str, folder: str) -> bool:
    """Whether it is buildorch's own state folder."""
    return name == STATE_FOLDER and any(os.path.lexists(f"{folder}/{STATE_FOLDER}/{name}") for name in _OWN_FILES)


def _noted(path: str, rules: IgnoreRules | Verdicts, found: _Found) -> bool:
    """Take note of buildorch's own folder, which never counts; False."""
    (found.excluded if rules.excludes(path) else found.own).append(path)
    return False


def _seen_now(label: str, path: str) -> list[Entry]:
    with suppress(OSError):
        return [Entry(label, seen_of(os.stat(path)))]  # noqa: PTH116 - speed
    return []
