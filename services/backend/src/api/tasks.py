"""The REST door: /tasks."""

from collections.abc import Iterator
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request, status

from src.database import Database
from src.tasks.models import NewTask, TaskChange, TaskId, TaskView
from src.tasks.repository import MAX_PAGE, TaskRepository

router = APIRouter(prefix="/tasks", tags=["tasks"])


def _repository(request: Request) -> Iterator[TaskRepository]:
    database: Database = request.app.state.database
    with database.session() as session:
        yield TaskRepository(session)


Repository = Annotated[TaskRepository, Depends(_repository)]


@router.get("")
def list_tasks(
    tasks: Repository,
    limit: Annotated[int, Query(ge=1, le=MAX_PAGE)] = MAX_PAGE,
    offset: Annotated[int, Query(ge=0, le=2**31 - 1)] = 0,
) -> list[TaskView]:
    """Tasks in the order they were added."""
    return tasks.list(limit=limit, offset=offset)


@router.post("", status_code=status.HTTP_201_CREATED)
def add_task(new: NewTask, tasks: Repository) -> TaskView:
    """Add an open task."""
    return tasks.add(new.title)


@router.patch("/{task_id}")
def change_task(task_id: TaskId, change: TaskChange, tasks: Repository) -> TaskView:
    """Rename a task, complete it, or open it again."""
    return tasks.change(task_id, title=change.title, done=change.done)


@router.delete("/{task_id}", status_code=status.HTTP_204_NO_CONTENT)
def delete_task(task_id: TaskId, tasks: Repository) -> None:
    """Delete a task."""
    tasks.delete(task_id)
