"""The ledger's tables, version by version, and the checksums of their rows.

In: a connection. Out: the same, with the tables of `VERSION`. Touches: the database it is given.

Every row has the SHA-256 of its values. A record's also covers the checksum of the record before it, so that one which
was changed, taken out or put between others is found. It is no seal: who may write the file can compute all of them.
"""

from __future__ import annotations

import hashlib
import sqlite3

FAULTS = (sqlite3.Error, UnicodeDecodeError)
"""What a statement may raise: SQLite's message quotes a damaged schema, and the bytes of that may be no text."""

RECORD_SUM = """row_sum(
    (SELECT checksum FROM records AS earlier WHERE earlier.sequence = records.sequence - 1),
    records.sequence, records.run_id, records.service, records.status, records.digest, records.record
)"""
"""What a record's checksum must be."""
RUN_SUM = "row_sum(sequence, run_id, project, started_at, exit_code, duration_s)"
ROW_SUMS = {
    "layers": "row_sum(diff_id, unpacked_bytes)",
    "facts": "row_sum(key, value)",
    "snapshots": "row_sum(service, snapshot)",
    "intents": "row_sum(service, run_id)",
}
"""Table -> what a row's checksum must be, where rows stand alone."""
_VERSIONS = (
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
    f"""
CREATE TABLE intents (
    service TEXT PRIMARY KEY, run_id TEXT NOT NULL REFERENCES runs (run_id), checksum BLOB
) STRICT, WITHOUT ROWID;
ALTER TABLE runs ADD COLUMN checksum BLOB;
ALTER TABLE records ADD COLUMN checksum BLOB;
ALTER TABLE layers ADD COLUMN checksum BLOB;
ALTER TABLE facts ADD COLUMN checksum BLOB;
ALTER TABLE snapshots ADD COLUMN checksum BLOB;
UPDATE runs SET checksum = {RUN_SUM};
UPDATE layers SET checksum = {ROW_SUMS["layers"]};
UPDATE facts SET checksum = {ROW_SUMS["facts"]};
UPDATE snapshots SET checksum = {ROW_SUMS["snapshots"]};
""",  # noqa: S608 - constants
)
"""What each version adds to the one before."""
VERSION = len(_VERSIONS)


def prepare(db: sqlite3.Connection) -> None:
    """Let the connection compute checksums."""
    db.create_function("row_sum", -1, row_sum, deterministic=True)


def migrate(db: sqlite3.Connection, *, since: int) -> None:
    """Make the tables of `VERSION` of those of an earlier one, 0 for none; inside the caller's transaction."""
    for script in _VERSIONS[since:]:
        for statement in script.split(";"):
            db.execute(statement)
    if 0 < since < 3:
        chain(db)
    db.execute(f"PRAGMA user_version={VERSION}")


def chain(db: sqlite3.Connection) -> None:
    """Give every record its checksum, first to last: each covers the one before it."""
    for (sequence,) in db.execute("SELECT sequence FROM records ORDER BY sequence").fetchall():
        db.execute(f"UPDATE records SET checksum = {RECORD_SUM} WHERE sequence = ?", (sequence,))  # noqa: S608


def row_sum(*values: object) -> bytes:
    """The SHA-256 of a row's values; each goes in with its kind and length, so that no two rows have one text."""
    state = hashlib.sha256()
    for value in values:
        data = value if isinstance(value, bytes) else str(value).encode()
        state.update(b"%s:%d:" % (type(value).__name__.encode(), len(data)))
        state.update(data)
    return state.digest()
