"""What was read of each context before, in one SQLite file, so that unchanged files are not opened again.

In: keys and what was found under them. Out: the same, or nothing. Touches: one database file.

It is a cache and no more: deleted, damaged, of another version, unwritable or busy, it answers "nothing", and what it
did not keep is read again. Its faults are nobody's news. SQLite does not see a flipped bit, so every row carries a
digest of its own; and nothing is flushed to the disk, since a power cut costs no more than reading again.
"""

from __future__ import annotations

import hashlib
import sqlite3
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Self

from buildorch.context.folder_state import decode_paths, encode_paths
from buildorch.context.ignore import Verdicts
from buildorch.values import dataclass

if TYPE_CHECKING:
    from pathlib import Path

FILE_NAME = "contexts.db"
VERSION = 1
BUSY_S = 0.5
"""How long to wait for another process that writes: reading the files again takes no longer."""
KEPT_S = 60 * 60 * 24 * 90
"""How long rows are kept: folders go and ignore rules change, and nothing else removes what was under them."""
_SCHEMA = """
CREATE TABLE IF NOT EXISTS contexts (
    key BLOB PRIMARY KEY, written INTEGER, settled INTEGER, stamp BLOB, digest BLOB, excluded BLOB, pruned BLOB,
    head_check BLOB, files_check BLOB, files BLOB
)
"""
_PASSING = {
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_AUTH,
    sqlite3.SQLITE_NOMEM,
}
"""What says nothing against the file itself."""
_FAULTS = (sqlite3.Error, UnicodeDecodeError)
"""The second where a message of SQLite's quotes a damaged schema whose bytes are no text."""


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of one context."""

    stamp: str
    """Of the state in which it was read."""
    settled: bool
    """Whether that state can only be this content's: no file was too fresh when it was read."""
    digest: str
    verdicts: Verdicts


class StatCache:
    """An open cache; threads may share it. Close it, or use it as a context manager."""

    def __init__(self, path: Path) -> None:
        """Open the cache at `path`, or go on without one: this never fails."""
        self.path = path
        self._turn = threading.Lock()
        self._db: sqlite3.Connection | None = None
        self._tidied = self._restarted = False
        with suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._db = _opened(path)
        except _FAULTS as error:
            self._recover(error)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; a closed cache knows nothing."""
        with self._turn:
            if self._db is not None:
                self._db.close()
            self._db, self._restarted = None, True

    def known(self, key: bytes) -> Known | None:
        """What is known of a context, without its files."""
        found = self._ask(
            "SELECT stamp, settled, digest, excluded, pruned, head_check FROM contexts WHERE key = ?", (key,)
        )
        if not found:
            return None
        *head, check = found[0]
        if check != _check(key, *head):
            return None
        stamp, settled, digest, excluded, pruned = head
        verdicts = Verdicts(frozenset(decode_paths(excluded)), frozenset(decode_paths(pruned)))
        return Known(stamp.decode(), bool(settled), digest.decode(), verdicts)

    def files(self, key: bytes) -> bytes | None:
        """What was kept of a context's files, as it was given."""
        found = self._ask("SELECT files, files_check FROM contexts WHERE key = ?", (key,))
        if not found or found[0][1] != _check(key, found[0][0]):
            return None
        files: bytes = found[0][0]
        return files

    def keep(self, key: bytes, known: Known, *, files: bytes) -> None:
        """Keep what was found of a context, in place of what was known."""
        now = int(time.time())
        head = (
            known.stamp.encode(),
            int(known.settled),
            known.digest.encode(),
            encode_paths(known.verdicts.excluded),
            encode_paths(known.verdicts.pruned),
        )
        if not self._tidied:
            self._tidied = True
            self._ask("DELETE FROM contexts WHERE written < ?", (now - KEPT_S,))
        self._ask(
            "INSERT OR REPLACE INTO contexts "
            "(key, written, stamp, settled, digest, excluded, pruned, head_check, files_check, files) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (key, now, *head, _check(key, *head), _check(key, files), files),
        )

    def _ask(self, statement: str, values: tuple[object, ...]) -> list[tuple[Any, ...]]:
        with self._turn:
            if self._db is None:
                return []
            try:
                return self._db.execute(statement, values).fetchall()
            except _FAULTS as error:
                self._recover(error)
                return []

    def _recover(self, error: sqlite3.Error | UnicodeDecodeError) -> None:
        """Start afresh, once, where the file itself is at fault."""
        if self._db is not None and _is_passing(error):
            return
        if self._db is not None:
            self._db.close()
            self._db = None
        if self._restarted or _is_passing(error):
            return
        self._restarted = True
        with suppress(OSError, *_FAULTS):
            _remove(self.path)
            self._db = _opened(self.path)


def _opened(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
    try:
        db.execute("PRAGMA synchronous=OFF")
        if not _is_made(db):
            db.execute("PRAGMA journal_mode=WAL")  # readers never wait for a writer; it stays with the file
            db.execute(_SCHEMA)
            db.execute(f"PRAGMA user_version={VERSION}")
    except BaseException:
        db.close()
        raise
    return db


def _is_made(db: sqlite3.Connection) -> bool:
    (version,) = db.execute("PRAGMA user_version").fetchone()
    if version not in {0, VERSION}:
        raise _OtherVersion
    return bool(version == VERSION)


class _OtherVersion(sqlite3.DatabaseError):
    """The file is another version's."""


def _is_passing(error: sqlite3.Error | UnicodeDecodeError) -> bool:
    if isinstance(error, _OtherVersion | UnicodeDecodeError):
        return False
    code = getattr(error, "sqlite_errorcode", None)
    return code is None or code & 0xFF in _PASSING


def _remove(path: Path) -> None:
    for name in (path.name, f"{path.name}-wal", f"{path.name}-shm"):
        path.with_name(name).unlink(missing_ok=True)


def _check(*values: object) -> bytes:
    digest = hashlib.blake2b(digest_size=16)
    for value in values:
        data = value if isinstance(value, bytes) else repr(value).encode()
        digest.update(len(data).to_bytes(8, "big"))
        digest.update(data)
    return digest.digest()
