"""DATABASE_URL as platforms and people write it."""

import pytest

from src.settings import DEFAULT_DATABASE_URL, Settings


@pytest.mark.parametrize("environment", [{}, {"DATABASE_URL": ""}])
def test_sqlite_file_of_the_image_is_the_default(environment: dict[str, str]) -> None:
    assert str(Settings.from_environment(environment).database_url) == DEFAULT_DATABASE_URL


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg2"])
def test_every_spelling_of_postgresql_gets_the_driver_the_image_has(scheme: str) -> None:
    url = Settings.from_environment({"DATABASE_URL": f"{scheme}://app:secret@db/tasks"}).database_url
    assert (url.drivername, url.host, url.database) == ("postgresql+psycopg2", "db", "tasks")


def test_url_that_cannot_be_read_is_refused_without_showing_its_password() -> None:
    with pytest.raises(ValueError, match="DATABASE_URL is not a database URL") as caught:
        Settings.from_environment({"DATABASE_URL": "app:secret@db/tasks"})
    assert "secret" not in str(caught.value)
