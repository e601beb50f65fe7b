"""The MCP door: the same tasks as tools for a language model, or for any MCP client."""

from collections.abc import Iterator
from contextlib import contextmanager

from mcp.server import MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp_types import ToolAnnotations

from src.database import Database, DatabaseUnavailable
from src.tasks.models import TaskId, TaskTitle, TaskView
from src.tasks.repository import TaskNotFound, TaskRepository


def create_mcp_server(database: Database) -> MCPServer:
    """A server with the tools add_task, list_tasks, complete_task and delete_task."""
    server = MCPServer(
        "tasks",
        version="0.1.0",
        instructions="A list of tasks. Call list_tasks first: the other tools name a task by its number.",
    )

    @contextmanager
    def tasks() -> Iterator[TaskRepository]:
        # Only a ToolError's own words reach the client; anything else is a crash to it.
        try:
            with database.session() as session:
                yield TaskRepository(session)
        except (TaskNotFound, DatabaseUnavailable) as error:
            raise ToolError(str(error)) from error

    @server.tool()
    def add_task(title: TaskTitle) -> TaskView:
        """Add an open task and return it with its number."""
        with tasks() as repository:
            return repository.add(title)

    @server.tool(annotations=ToolAnnotations(read_only_hint=True))
    def list_tasks() -> list[TaskView]:
        """List the first 500 tasks, open and done, in the order they were added."""
        with tasks() as repository:
            return repository.list()

    @server.tool(annotations=ToolAnnotations(destructive_hint=False, idempotent_hint=True))
    def complete_task(task_id: TaskId) -> TaskView:
        """Mark a task as done."""
        with tasks() as repository:
            return repository.change(task_id, done=True)

    @server.tool(annotations=ToolAnnotations(destructive_hint=True))
    def delete_task(task_id: TaskId) -> str:
        """Delete a task for ever."""
        with tasks() as repository:
            repository.delete(task_id)
        return f"deleted task {task_id}"

    return server
