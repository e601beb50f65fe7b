"""An application on a database of its own for each test."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from src.api.main import create_app
from src.settings import Settings


def client_on(database_url: str) -> TestClient:
    """A client of a new application; enter it to start the application."""
    return TestClient(create_app(Settings.from_environment({"DATABASE_URL": database_url})))


@pytest.fixture
def client(tmp_path: Path) -> Iterator[TestClient]:
    """The application on an empty SQLite file."""
    with client_on(f"sqlite:///{tmp_path}/tasks.db") as client:
        yield client


@pytest.fixture
def client_without_database(tmp_path: Path) -> Iterator[TestClient]:
    """The application on a SQLite file whose directory does not exist."""
    with client_on(f"sqlite:///{tmp_path}/missing/tasks.db") as client:
        yield client
