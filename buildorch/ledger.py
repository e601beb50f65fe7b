"""The ledger: every run and every service's record, in SQLite, kept for ever and never changed.

In: records. Out: records, layer sizes, facts about programs. Touches: one database file.

WAL with synchronous=FULL: once `commit` returns, the record survives a crash of the process and of the machine
(https://sqlite.org/pragma.html#pragma_synchronous). One row a service, in one transaction; rows are ordered by their
sequence number, not by a clock.
"""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Iterator, MutableMapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

from buildorch.errors import LedgerError
from buildorch.record import ServiceRecord, service_record_from_json, to_plain

if TYPE_CHECKING:
    from buildorch.record import Report

FILE_NAME = "ledger.db"
VERSION = 1
_SCHEMA = """
CREATE TABLE runs (
    run_id TEXT PRIMARY KEY, sequence INTEGER UNIQUE NOT NULL, project TEXT NOT NULL, started_at TEXT NOT NULL,
    exit_code INTEGER, duration_s REAL
) STRICT;
CREATE TABLE records (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT, run_id TEXT NOT NULL REFERENCES runs (run_id), service TEXT NOT NULL,
    status TEXT NOT NULL, digest TEXT, record TEXT NOT NULL, UNIQUE (run_id, service)
) STRICT;
CREATE INDEX records_by_service ON records (service, sequence);
CREATE TABLE layers (diff_id TEXT PRIMARY KEY, unpacked_bytes INTEGER NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE facts (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;
"""


@dataclass(frozen=True, slots=True)
class Entry:
    """One row: a service's record, and the run it belongs to."""

    sequence: int
    run_id: str
    started_at: str
    service: str
    record: ServiceRecord


class Ledger:
    """An open ledger; threads may share it. Close it, or use it as a context manager."""

    def __init__(self, path: Path) -> None:
        """Open the ledger at `path`, making it and its folder where there is none.

        Raises:
            LedgerError: it cannot be opened, is not a ledger, or is of a later version.
        """
        self.path = path
        self._turn = threading.Lock()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            ignore = path.parent / ".gitignore"
            if not ignore.exists():
                ignore.write_text("# made by buildorch\n*\n")
            self._db = sqlite3.connect(path, timeout=30, isolation_level=None, check_same_thread=False)
            try:
                self._db.execute("PRAGMA journal_mode=WAL")
                self._db.execute("PRAGMA synchronous=FULL")
                self._migrate()
            except BaseException:
                self._db.close()
                raise
        except (OSError, sqlite3.Error) as error:
            raise LedgerError(
                f"the ledger {path} cannot be opened: {error}",
                hint="make its folder writable; a damaged ledger can be moved away, its records are then gone",
            ) from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; nothing is lost if this never happens."""
        self._db.close()

    def begin(self, run_id: str, *, project: str, started_at: str) -> None:
        """Note that a run begins; its exit code stays null until `finish`, for ever if it is killed."""
        self._write(
            "INSERT INTO runs (run_id, sequence, project, started_at) "
            "VALUES (?, (SELECT coalesce(max(sequence), 0) + 1 FROM runs), ?, ?)",
            (run_id, project, started_at),
        )

    def commit(self, run_id: str, service: str, record: ServiceRecord) -> None:
        """Make one service's record durable; it may be announced once this returns."""
        self._write(
            "INSERT INTO records (run_id, service, status, digest, record) VALUES (?, ?, ?, ?, ?)",
            (run_id, service, record.status, record.digest, json.dumps(to_plain(record), ensure_ascii=False)),
        )

    def finish(self, report: Report) -> None:
        """Note how a run ended."""
        self._write(
            "UPDATE runs SET exit_code = ?, duration_s = ? WHERE run_id = ?",
            (report.exit_code, report.duration_s, report.run_id),
        )

    def latest(self) -> list[Entry]:
        """Each service's last record, by name."""
        return self._entries(
            "SELECT max(r.sequence), r.run_id, started_at, service, record FROM records r JOIN runs USING (run_id) "
            "GROUP BY service ORDER BY service",
            (),
        )

    def history(self, service: str, *, limit: int) -> list[Entry]:
        """A service's last records, the newest first."""
        return self._entries(
            "SELECT r.sequence, r.run_id, started_at, service, record FROM records r JOIN runs USING (run_id) "
            "WHERE service = ? ORDER BY r.sequence DESC LIMIT ?",
            (service, limit),
        )

    def services(self) -> list[str]:
        """Every service that has a record."""
        return [str(row[0]) for row in self._read("SELECT DISTINCT service FROM records ORDER BY service", ())]

    @property
    def layer_sizes(self) -> MutableMapping[str, int]:
        """diff_id -> unpacked bytes, for every layer ever unpacked."""
        return _LayerSizes(self)

    def fact(self, key: str) -> str | None:
        """What was remembered under a key, such as the version of a program that has not changed since."""
        rows = self._read("SELECT value FROM facts WHERE key = ?", (key,))
        return str(rows[0][0]) if rows else None

    def remember(self, key: str, value: str) -> None:
        """Remember a fact."""
        self._write("INSERT OR REPLACE INTO facts VALUES (?, ?)", (key, value))

    def _migrate(self) -> None:
        (version,) = self._db.execute("PRAGMA user_version").fetchone()
        if version > VERSION:
            raise LedgerError(
                f"the ledger {self.path} is of version {version}, this buildorch knows {VERSION}",
                hint="use the newer buildorch that wrote it",
            )
        if version == VERSION:
            return
        # Two processes may meet here: the second finds the tables made once the first has let go of the lock.
        self._db.execute("BEGIN IMMEDIATE")
        (version,) = self._db.execute("PRAGMA user_version").fetchone()
        if version == 0:
            for statement in _SCHEMA.split(";"):
                self._db.execute(statement)
            self._db.execute(f"PRAGMA user_version={VERSION}")
        self._db.execute("COMMIT")

    def _write(self, statement: str, values: tuple[object, ...]) -> None:
        try:
            with self._turn:
                self._db.execute(statement, values)
        except sqlite3.Error as error:
            raise LedgerError(f"the ledger {self.path} cannot be written: {error}", hint="is the disk full?") from None

    def _read(self, statement: str, values: tuple[object, ...]) -> list[tuple[object, ...]]:
        try:
            with self._turn:
                return self._db.execute(statement, values).fetchall()
        except sqlite3.Error as error:
            raise LedgerError(f"the ledger {self.path} cannot be read: {error}", hint="is the file damaged?") from None

    def _entries(self, statement: str, values: tuple[object, ...]) -> list[Entry]:
        entries = []
        for sequence, run_id, started_at, service, record in self._read(statement, values):
            try:
                parsed = service_record_from_json(str(record))
            except ValueError:
                raise LedgerError(
                    f"the ledger {self.path} holds a record of {service} that cannot be read (row {sequence})",
                    hint="move the ledger away to start a new one",
                ) from None
            entries.append(Entry(int(str(sequence)), str(run_id), str(started_at), str(service), parsed))
        return entries


class _LayerSizes(MutableMapping[str, int]):
    """The layers table as a mapping, as far as measuring needs it."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def __getitem__(self, diff_id: str) -> int:
        rows = self._ledger._read("SELECT unpacked_bytes FROM layers WHERE diff_id = ?", (diff_id,))  # noqa: SLF001
        if not rows:
            raise KeyError(diff_id)
        return int(str(rows[0][0]))

    def __setitem__(self, diff_id: str, size: int) -> None:
        self._ledger._write("INSERT OR REPLACE INTO layers VALUES (?, ?)", (diff_id, size))  # noqa: SLF001

    def __delitem__(self, diff_id: str) -> None:
        self._ledger._write("DELETE FROM layers WHERE diff_id = ?", (diff_id,))  # noqa: SLF001

    def __iter__(self) -> Iterator[str]:
        return iter([str(row[0]) for row in self._ledger._read("SELECT diff_id FROM layers", ())])  # noqa: SLF001

    def __len__(self) -> int:
        return len(list(iter(self)))
