"""The ledger: every run and every service's record, in SQLite, kept for ever and never changed.

In: records, and a path. Out: records, and what is damaged. Touches: one database file.

`store` writes and reads it, `schema` says what its tables are and how a row is told from a damaged one, `verification`
looks for damage and mends it.
"""

from buildorch.ledger.store import BUSY_S, FILE_NAME, EndedRun, Entry, Ledger

__all__ = ["BUSY_S", "FILE_NAME", "EndedRun", "Entry", "Ledger"]
