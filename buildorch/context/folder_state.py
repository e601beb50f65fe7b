"""The state of a folder's files, packed: whether anything changed without opening a file, and what did.

In: paths and their lstats. Out: a `State`, and the difference between two. Touches nothing.
"""

from __future__ import annotations

import hashlib
import marshal
from operator import attrgetter
from typing import TYPE_CHECKING, NamedTuple

from buildorch.values import dataclass

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable

Seen = tuple[int, int, int, int, int]
"""inode, mode, size, mtime and ctime (ns): what changes whenever a file does, since only the clock sets ctime."""
seen_of: Callable[[os.stat_result], Seen] = attrgetter("st_ino", "st_mode", "st_size", "st_mtime_ns", "st_ctime_ns")
_MARSHAL_VERSION = 2
"""The last that writes equal numbers as equal bytes: later ones refer back to objects that happen to be shared."""


class Entry(NamedTuple):
    """One path of a context and what lstat(2) says of it."""

    path: str
    """Relative to the context, with slashes."""
    seen: Seen


@dataclass(frozen=True, slots=True)
class State:
    """The state of all that a build reads of one folder, packed: 100,000 files take some 10 MB.

    Two states of one folder that are equal are the same files with the same contents, as far as a file system tells.
    """

    paths: bytes
    """In the order of the walk, with a NUL between two."""
    seen: bytes
    """Their lstats, in the same order."""
    above: tuple[str, ...]
    """Folders that count only for being above what is read."""
    beside: tuple[Entry, ...]
    """What is no part of the context, but decides what BuildKit is given of it, or shows what came and went in it."""

    @property
    def stamp(self) -> str:
        """A digest over the path, inode, mode, size, mtime and ctime of every entry, without what is beside them."""
        digest = hashlib.blake2b(len(self.paths).to_bytes(8, "big"), digest_size=16)
        digest.update(self.paths)
        digest.update(self.seen)
        return digest.hexdigest()

    def entries(self) -> list[Entry]:
        """The entries, parents before what they hold."""
        return list(map(Entry, decode_paths(self.paths), marshal.loads(self.seen)))  # noqa: S302 - made in this process

    def with_seen(self, seen: list[Seen]) -> State:
        """The state with other lstats of the same paths."""
        return State(self.paths, marshal.dumps(seen, _MARSHAL_VERSION), self.above, self.beside)


def pack(paths: Iterable[str], seen: list[Seen], *, above: tuple[str, ...], beside: tuple[Entry, ...]) -> State:
    """A state of these paths and their lstats, in the same order."""
    return State(encode_paths(paths), marshal.dumps(seen, _MARSHAL_VERSION), above, beside)


def changed(before: State, after: State) -> tuple[str, ...]:
    """The paths that came, went, or are not what they were; nearly free where nothing did.

    The folders' own times count: nothing else shows a file that came after `before` and was gone before `after`. The
    times of a folder above what is read do not, since anything may come and go in it.
    """
    if before == after:
        return ()
    old, new = _all_seen(before), _all_seen(after)
    above = {*before.above, *after.above}
    return tuple(
        sorted(
            path
            for path in old.keys() | new.keys()
            if old.get(path) != new.get(path)
            and not (path in above and path in old and path in new and old[path][0][:2] == new[path][0][:2])
        )
    )


def _all_seen(whole: State) -> dict[str, list[Seen]]:
    found: dict[str, list[Seen]] = {}
    for path, seen in (*whole.entries(), *whole.beside):
        found.setdefault(path, []).append(seen)
    return found


def encode_paths(paths: Iterable[str]) -> bytes:
    """Paths as bytes, with a NUL between two, which no path holds."""
    return "\0".join(paths).encode(errors="surrogateescape")


def decode_paths(data: bytes) -> list[str]:
    """What `encode_paths` was given."""
    return data.decode(errors="surrogateescape").split("\0") if data else []
