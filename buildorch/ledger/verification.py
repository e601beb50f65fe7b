"""Whether a ledger is as it was written, and saving what is: `verify(path)`, `repair(path)`, `lines(path)`.

In: a ledger's path. Out: what is damaged; every run and record as one JSON object a line. Touches: the file; `repair`
writes a new one, and keeps the damaged one beside it.
"""

from __future__ import annotations

import json
import os
import sqlite3
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any

from buildorch.errors import LedgerError
from buildorch.ledger import schema
from buildorch.ledger.store import BUSY_S, Ledger, damaged, held_open
from buildorch.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

_COLUMNS = {
    "runs": ("sequence", "run_id", "project", "started_at", "exit_code", "duration_s"),
    "records": ("sequence", "run_id", "service", "status", "digest", "record"),
    "layers": ("diff_id", "unpacked_bytes"),
    "facts": ("key", "value"),
    "snapshots": ("service", "snapshot"),
    "intents": ("service", "run_id"),
}
"""Table -> its columns without the checksum, the key first; tables in the order in which rows may be added."""
_MOST_MISSING = 10_000
"""Rows looked for one by one behind the last one that could be read."""


@dataclass(frozen=True, slots=True)
class Damage:
    """One thing that is not as it was written."""

    table: str
    row: str
    """The row's sequence number or key; empty where it is not one row."""
    what: str

    def __str__(self) -> str:
        return f"{self.table} {self.row}: {self.what}" if self.row else f"{self.table}: {self.what}"


@dataclass(frozen=True, slots=True)
class Verified:
    """What was looked at, and what of it is damaged."""

    runs: int
    records: int
    damages: tuple[Damage, ...]


@dataclass(frozen=True, slots=True)
class Repaired:
    """What a repair saved, and where the damaged file is."""

    runs: int
    records: int
    given_up: tuple[Damage, ...]
    damaged: Path


def verify(path: Path) -> Verified:
    """Look at every row of a ledger.

    Raises:
        LedgerError: it is in use, of another version, or no ledger.
    """
    with _opened(path) as db:
        return _verified(db)


def repair(path: Path) -> Repaired:
    """Write a new ledger of all that is as it was written; the damaged one stays beside it.

    Killed at any moment, the ledger is the damaged one or the new one, whole.

    Raises:
        LedgerError: as `verify`; or the new ledger cannot be written.
    """
    draft = path.with_name(f"{path.name}.repairing")
    kept = _unused(path)
    try:
        with held_open(path, alone=True):
            with _opened(path) as db:
                _remove(draft)
                given_up = tuple(_copy(db, draft))
                with _opened(draft) as new:
                    found = _verified(new)
                _empty_the_log(db)
            os.link(path, kept)
            draft.replace(path)
            _remove(draft)
            _sync(path.parent)
    except BlockingIOError:
        raise LedgerError(f"the ledger {path} is in use", hint="wait until no build runs, and repair it then") from None
    except (OSError, *schema.FAULTS) as error:
        raise LedgerError(
            f"the ledger {path} cannot be repaired: {error}", hint="see whether its disk is full; nothing was changed"
        ) from None
    return Repaired(found.runs, found.records, given_up, kept)


def lines(path: Path) -> Iterator[str]:
    """Every run, each followed by its records, as JSON objects with `kind`; in the order they were written.

    Raises:
        LedgerError: as `verify`.
    """
    with _opened(path) as db:
        try:
            damages = _verified(db).damages
            if damages:
                raise damaged(path, str(damages[0]))
            for run in db.execute(f"SELECT {', '.join(_COLUMNS['runs'])} FROM runs ORDER BY sequence"):  # noqa: S608
                yield json.dumps({"kind": "run", **dict(zip(_COLUMNS["runs"], run, strict=True))}, ensure_ascii=False)
                records = "SELECT sequence, run_id, service, record FROM records WHERE run_id = ? ORDER BY sequence"
                for sequence, run_id, service, text in db.execute(records, (run[1],)):
                    keys = {"kind": "record", "sequence": sequence, "run_id": run_id, "service": service}
                    yield json.dumps({**keys, "record": json.loads(text)}, ensure_ascii=False)
        except (*schema.FAULTS, ValueError) as error:
            raise damaged(path, str(error)) from None


@contextmanager
def _opened(path: Path) -> Iterator[sqlite3.Connection]:
    """The file of a ledger of this version, for reading."""
    if not path.exists():
        raise LedgerError(
            f"there is no ledger at {path}", hint="build something first, or name the services file with -f"
        )
    try:
        with closing(sqlite3.connect(path, timeout=BUSY_S, isolation_level=None)) as db:
            schema.prepare(db)
            (version,) = db.execute("PRAGMA user_version").fetchone()
            if version != schema.VERSION:
                raise LedgerError(
                    f"the ledger {path} is of version {version}, not {schema.VERSION}",
                    hint="an older one is taken on by the next build; a newer one needs the buildorch that wrote it",
                )
            yield db
    except schema.FAULTS as error:
        raise LedgerError(
            f"{path} cannot be read as a ledger: {error}", hint="move it away: the next build starts a new one"
        ) from None


def _verified(db: sqlite3.Connection) -> Verified:
    damages = list(_structure(db))
    for table in _COLUMNS:
        damages += _damaged_rows(table, _rows(db, table))
    damages += _missing(db)
    return Verified(_count(db, "runs"), _count(db, "records"), tuple(damages))


def _structure(db: sqlite3.Connection) -> Iterator[Damage]:
    """What SQLite itself finds."""
    try:
        found = [str(row[0]) for row in db.execute("PRAGMA integrity_check")]
    except schema.FAULTS as error:
        found = [str(error)]
    yield from (Damage("file", "", what) for what in found if what != "ok")


def _damaged_rows(table: str, rows: Iterable[tuple[tuple[Any, ...], bool]]) -> Iterator[Damage]:
    for row, intact in rows:
        if not row:
            yield Damage(table, "", "some of it cannot be read")
        elif not intact:
            named = f" (a record of {row[2]} in run {row[1]})" if table == "records" else ""
            yield Damage(table, str(row[0]), f"not as it was written{named}")


def _rows(db: sqlite3.Connection, table: str) -> Iterator[tuple[tuple[Any, ...], bool]]:
    """Every row that can be read, and whether it is as it was written; an empty one where some cannot be read."""
    key = _COLUMNS[table][0]
    query = f"SELECT {', '.join(_COLUMNS[table])}, checksum IS {_sum(table)} FROM {table}"  # noqa: S608
    last = 0
    try:
        for *row, intact in db.execute(f"{query} ORDER BY {key}"):
            yield tuple(row), bool(intact)
            last = row[0]
    except schema.FAULTS:
        yield (), False
    else:
        return
    if table not in {"runs", "records"} or not _is_legible(db):
        return  # the others' keys are names: what comes behind cannot be asked for, and will be found out again
    for sequence in range(last + 1, last + _MOST_MISSING):
        try:
            found = db.execute(f"{query} WHERE {key} = ?", (sequence,)).fetchone()
        except schema.FAULTS:
            continue
        if found:
            yield tuple(found[:-1]), bool(found[-1])


def _is_legible(db: sqlite3.Connection) -> bool:
    """Whether SQLite understands what tables there are."""
    try:
        db.execute("SELECT name FROM sqlite_master").fetchall()
    except schema.FAULTS:
        return False
    return True


def _sum(table: str) -> str:
    return {"runs": schema.RUN_SUM, "records": schema.RECORD_SUM}.get(table) or schema.ROW_SUMS[table]


def _missing(db: sqlite3.Connection) -> Iterator[Damage]:
    """Rows that are gone: numbers have no gaps, the last record's is noted, and each record has its run."""
    for table in ("runs", "records"):
        try:
            there = [row[0] for row in db.execute(f"SELECT sequence FROM {table} ORDER BY sequence")]  # noqa: S608
            noted = db.execute("SELECT seq FROM sqlite_sequence WHERE name = ?", (table,)).fetchone()
        except schema.FAULTS:
            return  # told already
        last = max([*there[-1:], *(noted or ())], default=0)
        yield from (Damage(table, str(gone), "missing") for gone in sorted({*range(1, last + 1)} - {*there}))
    lost = "SELECT DISTINCT run_id FROM records WHERE run_id NOT IN (SELECT run_id FROM runs) ORDER BY run_id"
    yield from (Damage("runs", run_id, "missing, though it has records") for (run_id,) in db.execute(lost))


def _count(db: sqlite3.Connection, table: str) -> int:
    try:
        return int(db.execute(f"SELECT count(*) FROM {table}").fetchone()[0])  # noqa: S608
    except schema.FAULTS:
        return 0


def _copy(db: sqlite3.Connection, draft: Path) -> Iterator[Damage]:
    """Write every row that is as it was written into a new ledger; those that are not."""
    Ledger(draft).close()
    with closing(sqlite3.connect(draft, isolation_level=None)) as new:
        schema.prepare(new)
        new.execute("PRAGMA synchronous=FULL")
        new.execute("BEGIN IMMEDIATE")
        for table, columns in _COLUMNS.items():
            insert = f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})"  # noqa: S608
            rows = list(_rows(db, table))
            yield from _damaged_rows(table, rows)
            kept = [row for row, intact in rows if intact]
            if table in {"records", "intents"}:
                runs = {row[0] for row in new.execute("SELECT run_id FROM runs")}
                yield from (Damage(table, str(row[0]), "its run is lost") for row in kept if row[1] not in runs)
                kept = [row for row in kept if row[1] in runs]
            if table in {"runs", "records"}:  # numbered anew, so that there are no gaps
                kept = [(number, *row[1:]) for number, row in enumerate(kept, 1)]
            new.executemany(insert, kept)
            if table != "records":
                new.execute(f"UPDATE {table} SET checksum = {_sum(table)}")  # noqa: S608
        schema.chain(new)
        new.execute("COMMIT")
        new.execute("PRAGMA journal_mode=DELETE")  # the whole of it in one file, which is what is renamed


def _empty_the_log(db: sqlite3.Connection) -> None:
    """Take in the write-ahead log: SQLite would take what is left of it for the new file's."""
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _remove(path: Path) -> None:
    for name in (path.name, f"{path.name}-wal", f"{path.name}-shm", f"{path.name}.lock"):
        path.with_name(name).unlink(missing_ok=True)


def _unused(path: Path) -> Path:
    """A name beside `path` that nothing has."""
    number = 1
    while (kept := path.with_name(f"{path.name}.damaged-{number}")).exists():
        number += 1
    return kept


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
