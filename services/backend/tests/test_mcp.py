"""The MCP door, spoken to as a plain JSON-RPC client does."""

from typing import Any

import pytest
from fastapi.testclient import TestClient


def call(client: TestClient, tool: str, **arguments: object) -> dict[str, Any]:
    """Call a tool and return its CallToolResult."""
    answer = client.post(
        "/mcp",
        json={"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": tool, "arguments": arguments}},
        headers={"accept": "application/json, text/event-stream"},
    )
    assert answer.status_code == 200, answer.text
    result: dict[str, Any] = answer.json()["result"]
    return result


def test_task_added_by_tool_is_seen_by_both_doors(client: TestClient) -> None:
    added = call(client, "add_task", title="buy milk")["structuredContent"]
    assert call(client, "list_tasks")["structuredContent"] == {"result": [added]}
    assert client.get("/tasks").json() == [added]


def test_tools_complete_and_delete_a_task_added_over_rest(client: TestClient) -> None:
    number = client.post("/tasks", json={"title": "buy milk"}).json()["id"]
    assert call(client, "complete_task", task_id=number)["structuredContent"]["done"] is True
    assert not call(client, "delete_task", task_id=number)["isError"]
    assert client.get("/tasks").json() == []


@pytest.mark.parametrize("tool", ["complete_task", "delete_task"])
def test_unknown_task_is_an_error_the_model_can_read(client: TestClient, tool: str) -> None:
    result = call(client, tool, task_id=7)
    assert result["isError"]
    assert result["content"][0]["text"].endswith("there is no task 7")


@pytest.mark.parametrize("title", ["", " ", "two\nlines", "x" * 201, 7])
def test_bad_title_is_refused_and_stores_nothing(client: TestClient, title: object) -> None:
    assert call(client, "add_task", title=title)["isError"]
    assert client.get("/tasks").json() == []


def test_missing_database_is_an_error_the_model_can_read(client_without_database: TestClient) -> None:
    result = call(client_without_database, "list_tasks")
    assert result["isError"]
    assert "the database does not answer" in result["content"][0]["text"]


def test_a_client_that_begins_with_a_handshake_is_served(client: TestClient) -> None:
    answer = client.post(
        "/mcp",
        json={
            "jsonrpc": "2.0",
            "id": 1,
            "method": "initialize",
            "params": {
                "protocolVersion": "2025-06-18",
                "capabilities": {},
                "clientInfo": {"name": "test", "version": "0"},
            },
        },
        headers={"accept": "application/json, text/event-stream"},
    )
    assert answer.json()["result"]["serverInfo"]["name"] == "tasks"
