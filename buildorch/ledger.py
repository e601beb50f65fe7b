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
import time
from collections.abc import Iterable, Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

from buildorch.errors import LedgerError
from buildorch.record import ServiceRecord, service_record_from_json, to_plain

if TYPE_CHECKING:
    from buildorch.record import Report

FILE_NAME = "ledger.db"
BUSY_S = 30.0
"""How long to wait for another process that writes."""
BUILDS_THAT_TELL = 5
"""How many of a service's builds say how long the next may take."""
_SCHEMAS = (
    """
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
""",
    """
CREATE TABLE snapshots (service TEXT PRIMARY KEY, snapshot BLOB NOT NULL) STRICT, WITHOUT ROWID;
CREATE INDEX images_by_service ON records (service, sequence) WHERE digest IS NOT NULL;
""",
)
"""What each version adds to the one before."""
VERSION = len(_SCHEMAS)


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
            self._db = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
            try:
                _write_ahead(self._db)
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

    def commit(self, run_id: str, service: str, record: ServiceRecord, *, snapshot: bytes | None = None) -> None:
        """Make one record durable, with what `explain` needs of its inputs; it may be announced once this returns.

        A service has one snapshot, that of its last image: nothing else is compared with.
        """
        statements = [_insert(run_id, service, record)]
        if snapshot is not None:
            statements.append(("INSERT OR REPLACE INTO snapshots VALUES (?, ?)", (service, snapshot)))
        self._write_all(statements)

    def commit_all(self, run_id: str, records: Mapping[str, ServiceRecord]) -> None:
        """Make the records of several services durable, all or none: one wait for the disk instead of many."""
        self._write_all([_insert(run_id, service, record) for service, record in records.items()])

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

    def images(self) -> dict[str, ServiceRecord]:
        """Each service's last record that has an image: what a skip would rest on."""
        rows = self._entries(
            "SELECT max(r.sequence), r.run_id, started_at, service, record FROM records r JOIN runs USING (run_id) "
            "WHERE digest IS NOT NULL GROUP BY service",
            (),
        )
        return {entry.service: entry.record for entry in rows}

    def durations(self, services: Iterable[str]) -> dict[str, float]:
        """Service -> the seconds its longest of the last few builds took, for those that were built before.

        The longest, because how much of the next one is cached is not known before it.
        """
        found: dict[str, float] = {}
        for service in services:
            rows = self._read(
                "SELECT json_extract(record, '$.duration_s') FROM records WHERE service = ? AND status = 'built' "
                "ORDER BY sequence DESC LIMIT ?",
                (service, BUILDS_THAT_TELL),
            )
            if rows:
                found[service] = max(float(str(row[0])) for row in rows)
        return found

    def snapshot(self, service: str) -> bytes | None:
        """What was kept of the inputs of a service's last image."""
        rows = self._read("SELECT snapshot FROM snapshots WHERE service = ?", (service,))
        return bytes(rows[0][0]) if rows and isinstance(rows[0][0], bytes) else None

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
        for script in _SCHEMAS[version:]:
            for statement in script.split(";"):
                self._db.execute(statement)
        self._db.execute(f"PRAGMA user_version={VERSION}")
        self._db.execute("COMMIT")

    def _write(self, statement: str, values: tuple[object, ...]) -> None:
        self._write_all([(statement, values)])

    def _write_all(self, statements: Sequence[tuple[str, tuple[object, ...]]]) -> None:
        """All of them or none, durable once this returns."""
        try:
            with self._turn:
                if len(statements) == 1:
                    self._db.execute(*statements[0])
                    return
                self._db.execute("BEGIN IMMEDIATE")
                try:
                    for statement, values in statements:
                        self._db.execute(statement, values)
                    self._db.execute("COMMIT")
                except BaseException:
                    if self._db.in_transaction:
                        self._db.execute("ROLLBACK")
                    raise
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


def _write_ahead(db: sqlite3.Connection) -> None:
    """Turn the write-ahead log on; of several that make a ledger at once, all but one wait here.

    SQLite refuses this pragma at once where another connection is at work, whatever the timeout says
    (https://sqlite.org/c3ref/busy_handler.html: where waiting could be a deadlock, the handler is not called).
    """
    end = time.monotonic() + BUSY_S
    while True:
        try:
            db.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > end:
                raise
            time.sleep(0.005)
        else:
            return


def _insert(run_id: str, service: str, record: ServiceRecord) -> tuple[str, tuple[object, ...]]:
    return (
        "INSERT INTO records (run_id, service, status, digest, record) VALUES (?, ?, ?, ?, ?)",
        (run_id, service, record.status, record.digest, json.dumps(to_plain(record), ensure_ascii=False)),
    )


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
