"""Writing and reading the ledger: what is committed is durable, and what is read is as it was written.

In: records. Out: records, layer sizes, facts about programs. Touches: one database file.

WAL with synchronous=FULL: once `commit` returns, the record survives a crash of the process and of the machine
(https://sqlite.org/pragma.html#pragma_synchronous). One row a service, in one transaction; rows are ordered by their
sequence number, not by a clock.
"""

from __future__ import annotations

import fcntl
import json
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Self

from buildorch.errors import LedgerError
from buildorch.ledger import schema
from buildorch.record import ServiceRecord, service_record_from_json, to_plain
from buildorch.values import dataclass

if TYPE_CHECKING:
    from buildorch.record import Report

FILE_NAME = "ledger.db"
BUSY_S = 30.0
"""How long to wait for another process that writes."""
SPACE_BYTES = 16 * 1024 * 1024
"""Free space below which no build is begun: its record might have no place. A record is some tens of kB."""
_BEGIN = """INSERT INTO runs (run_id, sequence, project, started_at)
VALUES (?, (SELECT coalesce(max(sequence), 0) + 1 FROM runs), ?, ?)"""
_ENTRIES = "SELECT r.sequence, r.run_id, started_at, service, record FROM records r JOIN runs USING (run_id)"
_IMAGES = f"""SELECT records.sequence, service, record, records.checksum IS {schema.RECORD_SUM}
FROM records JOIN runs USING (run_id)
WHERE records.sequence IN (SELECT max(sequence) FROM records WHERE digest IS NOT NULL GROUP BY service)"""  # noqa: S608
_STEP_DURATIONS = """SELECT sequence, json_extract(step.value, '$.name'), sum(json_extract(step.value, '$.duration_s')),
min(json_extract(step.value, '$.cached')) FROM (
    SELECT sequence, record FROM records WHERE service = ? AND status = 'built' ORDER BY sequence DESC LIMIT ?
), json_each(record, '$.timeline') AS step GROUP BY 1, 2 ORDER BY 1 DESC"""
DAMAGED_HINT = "`buildorch ledger verify` finds all that is damaged; with --repair it saves the rest"
BUILDS_THAT_TELL = 5
"""How many of a service's builds say how long the next may take."""
BUILDS_THAT_TELL_OF_STEPS = 20
"""More, as most steps come from the cache in most builds."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One row: a service's record, and the run it belongs to."""

    sequence: int
    run_id: str
    started_at: str
    service: str
    record: ServiceRecord


@dataclass(frozen=True, slots=True)
class EndedRun:
    """What the ledger knows of a run that came to its end, beside its records."""

    run_id: str
    project: str
    started_at: str
    duration_s: float
    exit_code: int


class Ledger:
    """An open ledger; threads may share it. Close it, or use it as a context manager."""

    def __init__(self, path: Path) -> None:
        """Open the ledger at `path`, making it and its folder where there is none.

        Raises:
            LedgerError: it cannot be opened, is not a ledger, or is of a later version.
        """
        self.path = path
        self._turn = threading.Lock()
        self._open = ExitStack()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._open.enter_context(held_open(path))
            ignore = path.parent / ".gitignore"
            if not ignore.exists():
                ignore.write_text("# made by buildorch\n*\n")
            self._db = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
            try:
                _write_ahead(self._db)
                self._db.execute("PRAGMA synchronous=FULL")
                schema.prepare(self._db)
                self._migrate()
            except BaseException:
                self.close()
                raise
        except (OSError, *schema.FAULTS) as error:
            self._open.close()
            raise LedgerError(
                f"the ledger {path} cannot be opened: {error}",
                hint="make its folder writable; of a damaged file `buildorch ledger verify --repair` saves what it can",
            ) from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; nothing is lost if this never happens."""
        self._db.close()
        self._open.close()

    def begin(self, run_id: str, *, project: str, started_at: str) -> None:
        """Note that a run begins; its exit code stays null until `finish`, for ever if it is killed."""
        self._write_all(
            [
                (_BEGIN, (run_id, project, started_at)),
                (f"UPDATE runs SET checksum = {schema.RUN_SUM} WHERE run_id = ?", (run_id,)),  # noqa: S608
            ]
        )

    def require_space(self) -> None:
        """See that the records of a build will have a place.

        Raises:
            LedgerError: the file system of the ledger is as good as full.
        """
        there = os.statvfs(self.path.parent)
        free = there.f_bavail * there.f_frsize
        if free < SPACE_BYTES:
            raise LedgerError(
                f"there is no space for the ledger: {self.path.parent} has {free} bytes free, {SPACE_BYTES} are wanted",
                hint="free some space on its disk, then run it again",
            )

    def intend(self, run_id: str, abandoned: Mapping[str, ServiceRecord]) -> dict[str, str]:
        """Note what a run is about to build, before it does; `commit` takes each note away with its record.

        Whoever calls this holds the services' leases. So a note that is there already is of a run that was killed: it
        gets a record that says so.

        Args:
            run_id: the run that begins to build.
            abandoned: service to be built -> the record of a run that was killed before it had one.

        Returns:
            Service -> the run that was killed before it recorded it.
        """
        killed: dict[str, str] = {}

        def note(db: sqlite3.Connection) -> None:
            for service, record in abandoned.items():
                for (before,) in db.execute("SELECT run_id FROM intents WHERE service = ?", (service,)).fetchall():
                    killed[service] = before
                    for statement, values in _insert(before, service, record):
                        db.execute(statement, values)
                db.execute(
                    "INSERT OR REPLACE INTO intents VALUES (?, ?, row_sum(?, ?))", (service, run_id, service, run_id)
                )

        self._transact(note)
        return killed

    def commit(self, run_id: str, service: str, record: ServiceRecord, *, snapshot: bytes | None = None) -> None:
        """Make one record durable, with what `explain` needs of its inputs; it may be announced once this returns.

        A service has one snapshot, that of its last image: nothing else is compared with.
        """
        statements = [*_insert(run_id, service, record)]
        if snapshot is not None:
            values = (service, snapshot)
            statements.append(("INSERT OR REPLACE INTO snapshots VALUES (?, ?, row_sum(?, ?))", (*values, *values)))
        self._write_all(statements)

    def commit_all(self, run_id: str, records: Mapping[str, ServiceRecord]) -> None:
        """Make the records of several services durable, all or none: one wait for the disk instead of many."""
        self._write_all([one for service, record in records.items() for one in _insert(run_id, service, record)])

    def finish(self, report: Report) -> None:
        """Note how a run ended."""
        self._write_all(
            [
                (
                    "UPDATE runs SET exit_code = ?, duration_s = ? WHERE run_id = ?",
                    (report.exit_code, report.duration_s, report.run_id),
                ),
                (f"UPDATE runs SET checksum = {schema.RUN_SUM} WHERE run_id = ?", (report.run_id,)),  # noqa: S608
            ]
        )

    def latest(self) -> list[Entry]:
        """Each service's last record, by name."""
        return self._entries(
            "SELECT max(r.sequence), r.run_id, started_at, service, record FROM records r JOIN runs USING (run_id) "
            "GROUP BY service ORDER BY service",
            (),
        )

    def history(self, service: str, *, limit: int, until: str = "~") -> list[Entry]:
        """A service's last records, the newest first; those alone of runs that began no later than `until`."""
        return self._entries(
            f"{_ENTRIES} WHERE service = ? AND started_at <= ? ORDER BY r.sequence DESC LIMIT ?",
            (service, until, limit),
        )

    def of_run(self, run_id: str) -> list[Entry]:
        """A run's records, in the order they were committed; none where there is no such run."""
        return self._entries(
            f"{_ENTRIES} WHERE run_id = ? ORDER BY r.sequence",
            (run_id,),
        )

    def ended_run(self, run_id: str | None = None) -> EndedRun | None:
        """A run that came to its end, the last one by default; None where there is no such run, or it was killed."""
        query = "SELECT run_id, project, started_at, duration_s, exit_code FROM runs WHERE exit_code IS NOT NULL"
        rows = self._read(f"{query} AND (? IS NULL OR run_id = ?) ORDER BY sequence DESC LIMIT 1", (run_id, run_id))
        return EndedRun(*rows[0]) if rows else None  # type: ignore[arg-type]  # the table is STRICT

    def before(self, entry: Entry) -> Entry | None:
        """The last record of the service before this one that has another image."""
        rows = self._entries(
            f"{_ENTRIES} WHERE service = ? AND r.sequence < ? AND digest IS NOT NULL AND digest IS NOT ? "
            "ORDER BY r.sequence DESC LIMIT 1",
            (entry.service, entry.sequence, entry.record.digest),
        )
        return rows[0] if rows else None

    def services(self) -> list[str]:
        """Every service that has a record."""
        return [str(row[0]) for row in self._read("SELECT DISTINCT service FROM records ORDER BY service", ())]

    def images(self) -> dict[str, ServiceRecord]:
        """Each service's last record that has an image: what a skip rests on, so each is held to its checksum.

        Raises:
            LedgerError: a record is not as it was written.
        """
        images: dict[str, ServiceRecord] = {}
        for sequence, service, record, intact in self._read(_IMAGES, ()):
            if not intact:
                raise damaged(self.path, f"row {sequence}, a record of {service}, is not as it was written")
            images[str(service)] = self._record(record, service, sequence)
        return images

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

    def step_durations(self, services: Iterable[str]) -> dict[str, dict[str, float | None]]:
        """Service -> each step of its last build -> the seconds it took at most when it was executed.

        Null for a step that came from the cache in all of the last builds: that says nothing of what it takes.
        """
        return {service: steps for service in services if (steps := self._step_durations(service))}

    def _step_durations(self, service: str) -> dict[str, float | None]:
        newest: object = None
        steps: dict[str, float | None] = {}
        for sequence, name, seconds, cached in self._read(_STEP_DURATIONS, (service, BUILDS_THAT_TELL_OF_STEPS)):
            newest = newest or sequence
            if sequence != newest and name not in steps:
                continue
            before = steps.setdefault(str(name), None)
            if not cached:
                steps[str(name)] = max(before or 0.0, float(str(seconds)))
        return steps

    def snapshot(self, service: str) -> bytes | None:
        """What was kept of the inputs of a service's last image."""
        rows = self._read(_intact("SELECT snapshot FROM snapshots WHERE service = ?", "snapshots"), (service,))
        return bytes(rows[0][0]) if rows and isinstance(rows[0][0], bytes) else None

    @property
    def layer_sizes(self) -> MutableMapping[str, int]:
        """diff_id -> unpacked bytes, for every layer ever unpacked."""
        return _LayerSizes(self)

    def fact(self, key: str) -> str | None:
        """What was remembered under a key, such as the version of a program that has not changed since."""
        rows = self._read(_intact("SELECT value FROM facts WHERE key = ?", "facts"), (key,))
        return str(rows[0][0]) if rows else None

    def remember(self, key: str, value: str) -> None:
        """Remember a fact."""
        self._write("INSERT OR REPLACE INTO facts VALUES (?, ?, row_sum(?, ?))", (key, value, key, value))

    def _migrate(self) -> None:
        (version,) = self._db.execute("PRAGMA user_version").fetchone()
        if version > schema.VERSION:
            raise LedgerError(
                f"the ledger {self.path} is of version {version}, this buildorch knows {schema.VERSION}",
                hint="use the newer buildorch that wrote it",
            )
        if version == schema.VERSION:
            return
        # Two processes may meet here: the second finds the tables made once the first has let go of the lock.
        self._db.execute("BEGIN IMMEDIATE")
        (version,) = self._db.execute("PRAGMA user_version").fetchone()
        schema.migrate(self._db, since=version)
        self._db.execute("COMMIT")

    def _write(self, statement: str, values: tuple[object, ...]) -> None:
        self._write_all([(statement, values)])

    def _write_all(self, statements: Sequence[tuple[str, tuple[object, ...]]]) -> None:
        """All of them or none, durable once this returns."""

        def write(db: sqlite3.Connection) -> None:
            for statement, values in statements:
                db.execute(statement, values)

        self._transact(write)

    def _transact(self, write: Callable[[sqlite3.Connection], None]) -> None:
        """What `write` does, or none of it; durable once this returns."""
        try:
            with self._turn:
                self._db.execute("BEGIN IMMEDIATE")
                try:
                    write(self._db)
                    self._db.execute("COMMIT")
                except BaseException:
                    if self._db.in_transaction:
                        self._db.execute("ROLLBACK")
                    raise
        except schema.FAULTS as error:
            raise LedgerError(
                f"the ledger {self.path} cannot be written: {error}",
                hint="see whether its disk is full; what is in it stays readable",
            ) from None

    def _read(self, statement: str, values: tuple[object, ...]) -> list[tuple[object, ...]]:
        try:
            with self._turn:
                return self._db.execute(statement, values).fetchall()
        except schema.FAULTS as error:
            raise LedgerError(f"the ledger {self.path} cannot be read: {error}", hint="is the file damaged?") from None

    def _entries(self, statement: str, values: tuple[object, ...]) -> list[Entry]:
        entries = []
        for sequence, run_id, started_at, service, record in self._read(statement, values):
            parsed = self._record(record, service, sequence)
            entries.append(Entry(int(str(sequence)), str(run_id), str(started_at), str(service), parsed))
        return entries

    def _record(self, text: object, service: object, sequence: object) -> ServiceRecord:
        try:
            return service_record_from_json(str(text))
        except ValueError:
            raise LedgerError(
                f"the ledger {self.path} holds a record of {service} that cannot be read (row {sequence})",
                hint=DAMAGED_HINT,
            ) from None


def damaged(path: Path, what: str) -> LedgerError:
    """The error of a ledger that is not as it was written."""
    return LedgerError(
        f"the ledger {path} is damaged: {what}",
        hint=DAMAGED_HINT,
    )


@contextmanager
def held_open(path: Path, *, alone: bool = False) -> Iterator[None]:
    """Hold a ledger open, as many may at once; or alone, to put another file in its place.

    SQLite would take the write-ahead log of the file that was there before for that of the new one.

    Raises:
        BlockingIOError: it is to be held alone, and others have it open.
        OSError: the lock file beside the ledger cannot be written.
    """
    descriptor = os.open(path.with_name(f"{path.name}.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB if alone else fcntl.LOCK_SH)
        yield
    finally:
        os.close(descriptor)


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


def _intact(query: str, table: str) -> str:
    """The query without rows that are not as they were written: what is kept to save time is done without."""
    return f"{query} AND checksum IS {schema.ROW_SUMS[table]}"


def _insert(run_id: str, service: str, record: ServiceRecord) -> Iterator[tuple[str, tuple[object, ...]]]:
    """The statements that add a record, and take away the note that it was to come."""
    yield (
        "INSERT INTO records (run_id, service, status, digest, record) VALUES (?, ?, ?, ?, ?)",
        (run_id, service, record.status, record.digest, json.dumps(to_plain(record), ensure_ascii=False)),
    )
    yield f"UPDATE records SET checksum = {schema.RECORD_SUM} WHERE sequence = last_insert_rowid()", ()  # noqa: S608
    yield "DELETE FROM intents WHERE service = ? AND run_id = ?", (service, run_id)


class _LayerSizes(MutableMapping[str, int]):
    """The layers table as a mapping, as far as measuring needs it."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def __getitem__(self, diff_id: str) -> int:
        query = _intact("SELECT unpacked_bytes FROM layers WHERE diff_id = ?", "layers")
        rows = self._ledger._read(query, (diff_id,))  # noqa: SLF001
        if not rows:
            raise KeyError(diff_id)
        return int(str(rows[0][0]))

    def __setitem__(self, diff_id: str, size: int) -> None:
        self._ledger._write("INSERT OR REPLACE INTO layers VALUES (?, ?, row_sum(?, ?))", (diff_id, size) * 2)  # noqa: SLF001

    def __delitem__(self, diff_id: str) -> None:
        self._ledger._write("DELETE FROM layers WHERE diff_id = ?", (diff_id,))  # noqa: SLF001

    def __iter__(self) -> Iterator[str]:
        return iter([str(row[0]) for row in self._ledger._read("SELECT diff_id FROM layers", ())])  # noqa: SLF001

    def __len__(self) -> int:
        return len(list(iter(self)))
