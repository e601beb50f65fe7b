"""A database URL -> sessions on a database that has our tables."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Any

from sqlalchemy import URL, create_engine, event, text
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlmodel import Session, SQLModel

logger = logging.getLogger(__name__)

# Any constant does: it only has to be the same in every replica.
_SCHEMA_LOCK_KEY = 20_260_103

_CONNECT_TIMEOUT_SECONDS = 5


class DatabaseUnavailable(Exception):
    """The database did not answer. A later request may find it back."""

    def __init__(self) -> None:
        super().__init__("the database does not answer; try again in a moment")


class Database:
    """One engine and its pool, shared by every request of the process."""

    def __init__(self, url: URL) -> None:
        self._engine = create_engine(url, pool_pre_ping=True, connect_args=_connect_args(url))
        self._schema_lock = Lock()
        self._has_schema = False
        if url.get_backend_name() == "sqlite":
            event.listen(self._engine, "connect", _let_sqlite_readers_pass_a_writer)

    @property
    def kind(self) -> str:
        """`sqlite` or `postgresql`."""
        return self._engine.dialect.name

    @contextmanager
    def session(self) -> Iterator[Session]:
        """A session for one unit of work; what was not committed is rolled back.

        The tables are made on first use and not at start-up, so that a backend which starts
        before its database is unhealthy for a while instead of crashing in a loop.

        :raises DatabaseUnavailable: no connection, no free one in the pool, or a lost one.
        """
        try:
            self._create_tables_once()
            with Session(self._engine, expire_on_commit=False) as session:
                yield session
        except (OperationalError, InterfaceError, PoolTimeoutError) as error:
            # The first line only: the others repeat the statement and the values in it.
            logger.warning("database.failed error=%r", str(error).partition("\n")[0])
            raise DatabaseUnavailable from error

    def ping(self) -> None:
        """Ask the database for one row.

        :raises DatabaseUnavailable: it did not give it.
        """
        with self.session() as session:
            session.connection().execute(text("SELECT 1"))

    def close(self) -> None:
        """Close the pooled connections."""
        self._engine.dispose()

    def _create_tables_once(self) -> None:
        with self._schema_lock:
            if self._has_schema:
                return
            with self._engine.begin() as connection:
                if self.kind == "postgresql":
                    # Two replicas that start together would both see no table and both create it.
                    connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _SCHEMA_LOCK_KEY})
                SQLModel.metadata.create_all(connection)
            self._has_schema = True


def _connect_args(url: URL) -> dict[str, Any]:
    if url.get_backend_name() == "postgresql":
        return {"connect_timeout": _CONNECT_TIMEOUT_SECONDS}
    return {"timeout": _CONNECT_TIMEOUT_SECONDS}


def _let_sqlite_readers_pass_a_writer(connection: Any, _record: object) -> None:
    connection.execute("PRAGMA journal_mode=WAL")
