"""Environment variables -> Settings. The only module that reads the environment."""

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

DEFAULT_DATABASE_URL = "sqlite:////var/lib/tasks/tasks.db"


@dataclass(frozen=True)
class Settings:
    """What one process is told from outside."""

    database_url: URL

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> "Settings":
        """Read `DATABASE_URL`; unset or empty means the SQLite file of the image.

        :raises ValueError: the value is not a database URL. The message leaves the value
            out, because it may hold a password.
        """
        return cls(database_url=_database_url(environment.get("DATABASE_URL") or DEFAULT_DATABASE_URL))


def _database_url(text: str) -> URL:
    # Hosting platforms hand out postgres://, which SQLAlchemy dropped; and for a bare
    # postgresql:// SQLAlchemy 2.1 takes psycopg 3, while this image has psycopg2.
    if text.startswith("postgres://"):
        text = text.replace("postgres://", "postgresql://", 1)
    try:
        url = make_url(text)
    except ArgumentError:
        raise ValueError("DATABASE_URL is not a database URL such as postgresql://user:password@host/name") from None
    return url.set(drivername="postgresql+psycopg2") if url.drivername == "postgresql" else url
