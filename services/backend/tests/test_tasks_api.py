"""The REST door: /tasks and /health."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from src.api.main import MAX_BODY_BYTES
from src.tasks.models import MAX_TITLE_LENGTH


def add(client: TestClient, title: str) -> int:
    """Add a task and return its number."""
    answer = client.post("/tasks", json={"title": title})
    assert answer.status_code == 201, answer.text
    return int(answer.json()["id"])


def test_added_task_is_listed_open_with_its_title_trimmed(client: TestClient) -> None:
    number = add(client, "  buy milk ")
    assert client.get("/tasks").json() == [{"id": number, "title": "buy milk", "done": False}]


def test_change_leaves_what_it_does_not_name(client: TestClient) -> None:
    number = add(client, "buy milk")
    client.patch(f"/tasks/{number}", json={"done": True})
    answer = client.patch(f"/tasks/{number}", json={"title": "buy oat milk"})
    assert answer.json() == {"id": number, "title": "buy oat milk", "done": True}


def test_empty_change_answers_the_task_as_it_is(client: TestClient) -> None:
    number = add(client, "buy milk")
    assert client.patch(f"/tasks/{number}", json={}).json() == {"id": number, "title": "buy milk", "done": False}


def test_deleted_task_is_gone_and_its_number_is_not_given_again(client: TestClient) -> None:
    number = add(client, "buy milk")
    assert client.delete(f"/tasks/{number}").status_code == 204
    assert client.get("/tasks").json() == []
    assert add(client, "buy bread") > number


@pytest.mark.parametrize("method", ["PATCH", "DELETE"])
def test_unknown_task_is_404_and_named(client: TestClient, method: str) -> None:
    answer = client.request(method, "/tasks/7", json={"done": True})
    assert (answer.status_code, answer.json()) == (404, {"detail": "there is no task 7"})


@pytest.mark.parametrize(
    "title", ["milk 🥛", "👩\u200d💻 review", "a\u00a0b", "x" * MAX_TITLE_LENGTH, "'; DROP TABLE tasks;--"]
)
def test_title_comes_back_as_it_was_sent(client: TestClient, title: str) -> None:
    add(client, title)
    [task] = client.get("/tasks").json()
    assert task["title"] == title


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{",
        b"{}",
        b'{"title": null}',
        b'{"title": 7}',
        b'{"title": "   "}',
        b'{"title": "two\\nlines"}',
        b'{"title": "nul \\u0000"}',
        b'{"title": "lone surrogate \\ud800"}',
        b'{"title": "not utf-8 \xff"}',
        b'{"title": ' + b"[" * 20_000,
        b'{"title": "' + b"x" * (MAX_TITLE_LENGTH + 1) + b'"}',
    ],
)
def test_bad_body_is_refused_and_stores_nothing(client: TestClient, body: bytes) -> None:
    answer = client.post("/tasks", content=body, headers={"content-type": "application/json"})
    assert answer.status_code in {400, 422}
    assert answer.json()["detail"]
    assert client.get("/tasks").json() == []


@pytest.mark.parametrize("number", ["0", "-1", "milk", str(2**31), "9" * 30])
def test_number_no_task_can_have_is_422(client: TestClient, number: str) -> None:
    assert client.delete(f"/tasks/{number}").status_code == 422


@pytest.mark.parametrize("path", ["/tasks", "/mcp"])
def test_body_over_the_limit_is_413(client: TestClient, path: str) -> None:
    assert client.post(path, content=b" " * (MAX_BODY_BYTES + 1)).status_code == 413


def test_page_is_cut_by_limit_and_offset(client: TestClient) -> None:
    for title in ("a", "b", "c"):
        add(client, title)
    page = client.get("/tasks", params={"limit": 1, "offset": 1}).json()
    assert [task["title"] for task in page] == ["b"]
    assert client.get("/tasks", params={"limit": 501}).status_code == 422


def test_tasks_added_at_once_are_all_kept(client: TestClient) -> None:
    with ThreadPoolExecutor(8) as pool:
        numbers = list(pool.map(lambda index: add(client, f"task {index}"), range(40)))
    assert len(set(numbers)) == len(client.get("/tasks").json()) == 40


def test_health_names_the_database(client: TestClient) -> None:
    answer = client.get("/health")
    assert (answer.status_code, answer.json()) == (200, {"status": "ok", "database": "sqlite"})


@pytest.mark.parametrize("path", ["/health", "/tasks"])
def test_missing_database_is_503_with_one_message(client_without_database: TestClient, path: str) -> None:
    answer = client_without_database.get(path)
    assert answer.status_code == 503
    assert answer.json() == {"detail": "the database does not answer; try again in a moment"}


def test_backend_finds_a_database_that_comes_later(client_without_database: TestClient, tmp_path: Path) -> None:
    assert client_without_database.get("/health").status_code == 503
    (tmp_path / "missing").mkdir()
    assert client_without_database.get("/health").status_code == 200
