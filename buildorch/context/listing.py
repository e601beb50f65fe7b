"""What a context holds for BuildKit: every file, folder and link that is not ignored, with its state.

In: a folder and its rules. Out: `Entry` values in a fixed order. Touches: the file system, only names and states.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING

from buildorch.context.ignore import IgnoreRules, parse_rules

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

STATE_FOLDER = ".buildorch"
"""buildorch's own folder beside a services file: it changes with every run and is never part of a context's state."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One path of a context and what lstat(2) says of it."""

    path: str
    """Relative to the context, with slashes."""
    state: os.stat_result

    @property
    def identity(self) -> str:
        """What changes whenever the file does: ctime cannot be set back by anything but the clock."""
        seen = self.state
        return f"{seen.st_ino} {seen.st_mode} {seen.st_size} {seen.st_mtime_ns} {seen.st_ctime_ns}"


def rules_for(folder: Path, dockerfile: Path | None = None) -> IgnoreRules:
    """The ignore rules of a context: `<Dockerfile>.dockerignore` where there is one, even empty, else `.dockerignore`.

    Raises:
        ValueError: a pattern is malformed.
    """
    candidates = [folder / ".dockerignore"]
    if dockerfile is not None:
        candidates.insert(0, dockerfile.with_name(f"{dockerfile.name}.dockerignore"))
    for candidate in candidates:
        try:
            return parse_rules(candidate.read_bytes())
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
            continue
    return IgnoreRules()


def entries(folder: str | os.PathLike[str], rules: IgnoreRules) -> Iterator[Entry]:
    """Every entry below a folder that BuildKit would be given, parents before what they hold.

    An ignored folder is there where something below it is included again. What goes away meanwhile, or cannot be read,
    is passed over: the build itself will say so.
    """
    yield from _below(os.fspath(folder), "", rules)


def _below(folder: str, prefix: str, rules: IgnoreRules) -> Iterator[Entry]:
    try:
        with os.scandir(folder) as found:
            children = sorted(found, key=lambda child: child.name)
    except OSError:
        return
    for child in children:
        if child.name == STATE_FOLDER:
            continue
        path = prefix + child.name
        try:
            seen = child.stat(follow_symlinks=False)
        except OSError:
            continue
        is_folder = stat.S_ISDIR(seen.st_mode)
        if not rules.excludes(path):
            yield Entry(path, seen)
            if is_folder:
                yield from _below(child.path, f"{path}/", rules)
        elif is_folder and rules.may_include_below(path):
            below = list(_below(child.path, f"{path}/", rules))
            if below:
                yield Entry(path, seen)
                yield from below
