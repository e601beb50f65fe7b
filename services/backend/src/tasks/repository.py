"""The questions asked of the table `tasks`. Every method is one statement, so none can race another."""

from sqlalchemy import delete, update
from sqlmodel import Session, col, select

from src.tasks.models import Task, TaskView

MAX_PAGE = 500
"""The most tasks one answer holds."""


class TaskNotFound(LookupError):
    """No task has this number; it may have been deleted."""

    def __init__(self, task_id: int) -> None:
        super().__init__(f"there is no task {task_id}")
        self.task_id = task_id


class TaskRepository:
    """The tasks of one session. A change is committed before the method returns."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def list(self, *, limit: int = MAX_PAGE, offset: int = 0) -> "list[TaskView]":
        """Tasks in the order they were added, at most `limit` of them."""
        rows = self._session.exec(select(Task).order_by(col(Task.id)).limit(limit).offset(offset))
        return [TaskView.model_validate(row) for row in rows]

    def add(self, title: str) -> TaskView:
        """Store an open task."""
        task = Task(title=title)
        self._session.add(task)
        self._session.commit()
        return TaskView.model_validate(task)

    def change(self, task_id: int, *, title: str | None = None, done: bool | None = None) -> TaskView:
        """Set what is not None.

        :raises TaskNotFound:
        """
        changes = {name: value for name, value in (("title", title), ("done", done)) if value is not None}
        if changes:
            statement = update(Task).where(col(Task.id) == task_id).values(**changes).returning(Task)
            task = self._session.execute(statement).scalar_one_or_none()
            self._session.commit()
        else:
            task = self._session.get(Task, task_id)
        if task is None:
            raise TaskNotFound(task_id)
        return TaskView.model_validate(task)

    def delete(self, task_id: int) -> None:
        """Forget a task.

        :raises TaskNotFound:
        """
        deleted = self._session.execute(delete(Task).where(col(Task.id) == task_id).returning(col(Task.id)))
        found = deleted.scalar_one_or_none() is not None
        self._session.commit()
        if not found:
            raise TaskNotFound(task_id)
