"""A folder -> what a build reads of it: `read(folder, cache)`.

In: a `Folder` and a `StatCache`. Out: a `ContextListing`. Touches: the file system, and the cache.

A walk gives the folder's state, at one lstat a path. If that is the state in which the folder was read before, and it
can be no other content's, the digest is the one from before and no file is opened. Else the files whose own state is
not known are read. As git does with its index, a file that was written just before it was read is not trusted to be the
same next time, since a second change in the same tick of the clock cannot be seen
(https://git-scm.com/docs/racy-git).

What no stat cache sees: a file changed through a mapping whose page was dirty already, and a clock that was set back to
the very nanosecond.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from dataclasses import field
from typing import TYPE_CHECKING

from buildorch.context import content
from buildorch.context.content import Content, Row
from buildorch.context.ignore import MATCHER
from buildorch.context.listing import ignore_file, walk
from buildorch.context.stat_cache import Known, StatCache
from buildorch.values import dataclass

if TYPE_CHECKING:
    from buildorch.context.folder_state import State
    from buildorch.context.ignore import IgnoreRules
    from buildorch.context.listing import IgnoreFile
    from buildorch.plan import Folder


@dataclass(frozen=True, slots=True)
class ContextListing:
    """What a build reads of one folder."""

    digest: str
    """SHA-256 in hex, over every entry's path, kind, mode, target, capability, size and contents."""
    state: State
    """The state the digest belongs to, for `changed` after the build."""
    own: tuple[str, ...]
    """buildorch's own folders that BuildKit is given with the rest: the digest says nothing of them."""
    rules: str
    """The ignore file that holds, its path and its SHA-256; empty where there is none. What it leaves out is all that
    counts for the digest: this is for people."""
    _folder: Folder = field(repr=False)
    _used: tuple[str, ...] | None = field(repr=False)
    _cache: StatCache = field(repr=False, compare=False)
    _key: bytes = field(repr=False, compare=False)
    _files: bytes | None = field(repr=False, compare=False)
    """What the files came to, where they were read just now."""

    def again(self) -> ContextListing:
        """The same folder, read as it is now."""
        return read(self._folder, self._cache, used=self._used)

    def contents(self) -> tuple[Content, ...]:
        """Every entry, parents before what they hold: from this reading or the cache.

        Where the cache does not have them any more the folder is read again, as it is now.
        """
        files = self._files if self._files is not None else self._cache.files(self._key)
        rows = _rows(files)
        contents = tuple(row.content() for row in rows)
        rules = ignore_file(self._folder)
        if self._files is None and content.digest_of(contents, rules=_disputed(rules, rules.rules())) != self.digest:
            found = walk(self._folder, rules.rules(), used=self._used, ignore=rules).state
            return tuple(row.content() for row in _read_rows(self._folder, found, known={}))
        return contents

    def differing(self, other: ContextListing) -> tuple[str, ...]:
        """The paths whose contents differ in another listing of it; the folder itself where none is known to."""
        return tuple(sorted({one.path for one in {*self.contents()} ^ {*other.contents()}})) or (".",)


def read(folder: Folder, cache: StatCache, *, used: tuple[str, ...] | None = None) -> ContextListing:
    """What a build reads of a folder.

    Args:
        folder: the folder; its ignore file holds as BuildKit applies it, and `only` has it read for these names alone.
        cache: what was read before.
        used: the paths that the build reads, from the context: these, what is below them, and the folders above them
            count. None for all of it, () for nothing. All of it counts where one of them is, or is reached through, a
            symbolic link: BuildKit follows it to wherever in the context it leads.
    """
    ignore = ignore_file(folder)
    key = _key(folder, ignore, used)
    known = cache.known(key)
    found = None
    if known is not None and known.settled:
        found = walk(folder, known.verdicts, used=used, ignore=ignore)
        if found.state.stamp == known.stamp:
            return ContextListing(known.digest, found.state, found.own, ignore.named, folder, used, cache, key, None)
    rules = ignore.rules()
    if found is None or not rules.leave_out_nothing:
        found = walk(folder, rules, used=used, ignore=ignore)
    before = cache.files(key) if known is not None else None
    rows = _read_rows(folder, found.state, known={row.path: row for row in _rows(before)})
    state = found.state.with_seen([row.seen for row in rows])
    digest = content.digest_of((row.content() for row in rows), rules=_disputed(ignore, rules))
    files = json.dumps(rows, separators=(",", ":")).encode()
    now = Known(state.stamp, all(row.settled for row in rows), digest, found.verdicts)
    if now != known or files != before:
        cache.keep(key, now, files=files)
    return ContextListing(digest, state, found.own, ignore.named, folder, used, cache, key, files)


def _key(folder: Folder, ignore: IgnoreFile, used: tuple[str, ...] | None) -> bytes:
    """Under what a context is kept: its real path, and all that decides which of its files count."""
    used_text = None if used is None else sorted(set(used))
    rules = ignore.data.hex() if ignore.data is not None else ignore.readable
    text = [content.FORMAT.decode(), MATCHER, os.path.realpath(folder.path), sorted(folder.only), used_text, rules]
    return hashlib.blake2b(json.dumps(text).encode(), digest_size=20).digest()


def _disputed(ignore: IgnoreFile, rules: IgnoreRules) -> bytes:
    """The rules themselves, where BuildKit may go by them and we do not."""
    return (ignore.data or b"unreadable") if rules.disputed else b""


def _rows(files: bytes | None) -> list[Row]:
    """What the cache kept of the files; nothing where it is not what was given to it."""
    if files is None:
        return []
    return [
        Row(path, (seen[0], seen[1], seen[2], seen[3], seen[4]), settled, value, capability, link)
        for path, seen, settled, value, capability, link in json.loads(files)
    ]


def _read_rows(folder: Folder, state: State, *, known: dict[str, Row]) -> list[Row]:
    """Every entry of a state with its content: the known one where the state is the same and can be trusted."""
    rows = []
    first: dict[int, str] = {}
    top = os.fspath(folder.path)
    for path, seen in state.entries():
        full = f"{top}/{path}"
        row = known.get(path)
        if stat.S_ISDIR(seen[1]):
            rows.append(Row(path, seen, settled=True, value="", capability="", link=""))
            continue
        if row is None or not row.settled or row.seen != seen:
            row = content.read_row(full, path, seen)
        # The first name of an inode, as BuildKit takes it: in the order of the walk, of what is not left out.
        other = first.setdefault(row.seen[0], path)
        link = other if other != path and _has_more_names(full) else ""
        rows.append(row._replace(link=link))
    return rows


def _has_more_names(full: str) -> bool:
    """Whether it is a hard link: across file systems two files may have one inode number by chance."""
    try:
        return os.lstat(full).st_nlink > 1
    except OSError:
        return False
