"""One path of a context as BuildKit is given it, and the digest over all of them.

In: paths and their lstats. Out: `Content` values, their text, one digest. Touches: the file system, for reading.

What counts is what can change an image (measured with buildx 0.29.1 and BuildKit in Docker 28.5.2): path, type, the 12
mode bits, the target of a link, the bytes of a file, its `security.capability`, the number of a device, and which names
are hard links to one file: a layer holds the first of them and links to it. A socket becomes an empty file. mtime,
owner, inode and other extended attributes do not count.
"""

from __future__ import annotations

import hashlib
import os
import stat
import time
from dataclasses import dataclass  # made for every file: what it costs to make one counts for more
from typing import TYPE_CHECKING, Literal, NamedTuple

from buildorch.context.folder_state import Seen, seen_of

if TYPE_CHECKING:
    from collections.abc import Iterable

Kind = Literal["file", "directory", "symlink", "other"]
_LETTERS: dict[Kind, str] = {"file": "f", "directory": "d", "symlink": "l", "other": "o"}
_KINDS = {letter: kind for kind, letter in _LETTERS.items()}
_TYPES: dict[int, Kind] = {stat.S_IFREG: "file", stat.S_IFDIR: "directory", stat.S_IFLNK: "symlink"}

FORMAT = b"buildorch.context/1"
"""Goes into every digest; another number whenever equal files are to have another digest."""
MARGIN_NS = 2_000_000_000
"""How much older than its reading a file's times must be for its state to be trusted: a change in the same tick of the
clock leaves no trace. Ticks are 1 to 10 ms in kernels; times are kept to 2 s on FAT, 1 s on HFS+, ext3 and some NFS."""
TRIES = 3
UNREADABLE = "unreadable"
"""In place of a digest: the file cannot be read, or went away. BuildKit sends an empty file, or fails."""
_PIECE = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Content:
    """One path of a context, without what cannot change an image."""

    path: str
    """Relative to the context, with slashes."""
    kind: Kind
    mode: int
    """The 12 mode bits."""
    digest: str
    """A file's SHA-256 in hex, a link's target, `fifo`, `socket` or a device as `char 1:3`; or `unreadable`."""
    capability: str = ""
    """`security.capability`, in hex; empty where there is none."""
    size: int = 0
    """A file's bytes; 0 for all else."""
    link: str = ""
    """The first path that is a hard link to the same file; empty where this is the first."""

    def text(self) -> str:
        """One line for storing, without the path: kind, octal mode, size, capability, length of `digest`, both names.

        The same for as long as what it says is the same, whatever the file's times, owner and place.
        """
        fixed = f"{_LETTERS[self.kind]} {self.mode:04o} {self.size} {self.capability or '-'} {len(self.digest)}"
        return f"{fixed} {self.digest}{self.link and f' {self.link}'}"

    @classmethod
    def parse(cls, path: str, text: str) -> Content:
        """What `text` made a text of.

        Raises:
            ValueError: it is no such text.
        """
        try:
            letter, mode, size, capability, length, rest = text.split(" ", 5)
            kind, split = _KINDS[letter], int(length)
        except (KeyError, ValueError):
            raise ValueError(f"not the text of a context's entry: {text!r}") from None
        digest, link = rest[:split], rest[split:].removeprefix(" ")
        return cls(path, kind, int(mode, 8), digest, "" if capability == "-" else capability, int(size), link)


class Row(NamedTuple):
    """What reading one path came to, with the state it was read in: what the cache keeps of it."""

    path: str
    seen: Seen
    settled: bool
    """Whether nothing else can have the same state."""
    value: str
    """`Content.digest`."""
    capability: str
    link: str

    def content(self) -> Content:
        """The row without its state."""
        mode = self.seen[1]
        kind = _TYPES.get(stat.S_IFMT(mode), "other")
        size = self.seen[2] if kind == "file" else 0
        return Content(self.path, kind, stat.S_IMODE(mode), self.value, self.capability, size, self.link)


def digest_of(contents: Iterable[Content], *, rules: bytes = b"") -> str:
    """The SHA-256 over a context, in hex.

    Args:
        contents: in the order of the walk.
        rules: the ignore rules, where it is not known what they leave out.
    """
    digest = hashlib.sha256(FORMAT)
    digest.update(_field(rules))
    for one in contents:
        fields = (one.path, one.kind, f"{one.mode:o}", str(one.size), one.digest, one.capability, one.link)
        digest.update(b"".join([_field(field.encode(errors="surrogateescape")) for field in fields]))
    return digest.hexdigest()


def _field(data: bytes) -> bytes:
    return len(data).to_bytes(8, "big") + data


def read_row(full: str, path: str, seen: Seen) -> Row:
    """Read what is at `full`, whose lstat was `seen`; again where that changed meanwhile.

    The row's state is the one its content belongs to. After some tries it is `seen`, unsettled, with what came last.
    """
    state, value, capability = seen, UNREADABLE, ""
    for _ in range(TRIES):
        began = time.time_ns()
        try:
            value, capability = _value(full, state)
        except OSError:
            value, capability = UNREADABLE, ""
        try:
            after = seen_of(os.lstat(full))
        except OSError:
            break
        if after == state:
            # A file of the future is never older than its reading.
            settled = value != UNREADABLE and max(state[3], state[4]) + MARGIN_NS < began
            return Row(path, state, settled, value, capability, "")
        state = after
    return Row(path, seen, settled=False, value=value, capability=capability, link="")


def _value(full: str, seen: Seen) -> tuple[str, str]:
    """(`Content.digest`, `Content.capability`) of what has this lstat."""
    kind = stat.S_IFMT(seen[1])
    if kind == stat.S_IFREG:
        return _sha256(full, seen[2]), _capability(full)
    if kind == stat.S_IFLNK:
        return os.readlink(full), ""  # noqa: PTH115 - Path would clean the target
    if kind in {stat.S_IFCHR, stat.S_IFBLK}:
        device = os.lstat(full).st_rdev
        return f"{'char' if kind == stat.S_IFCHR else 'block'} {os.major(device)}:{os.minor(device)}", ""
    return {stat.S_IFDIR: "", stat.S_IFIFO: "fifo", stat.S_IFSOCK: "socket"}.get(kind, "unknown"), ""


def _sha256(full: str, size: int) -> str:
    """The SHA-256 of a regular file. What took its place meanwhile is neither followed nor waited for."""
    digest = hashlib.sha256()
    file = os.open(full, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        piece = min(size + 1, _PIECE)
        while data := os.read(file, piece):
            digest.update(data)
    finally:
        os.close(file)
    return digest.hexdigest()


def _capability(full: str) -> str:
    if not hasattr(os, "getxattr"):
        return ""  # file capabilities are Linux's own
    try:
        return os.getxattr(full, "security.capability", follow_symlinks=False).hex()
    except OSError:
        return ""
