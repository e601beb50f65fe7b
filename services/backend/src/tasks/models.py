"""The task as it is stored, as it is sent in, and as it is shown."""

import unicodedata
from typing import Annotated

from pydantic import AfterValidator, Field, StringConstraints
from sqlmodel import Field as Column
from sqlmodel import SQLModel

MAX_TITLE_LENGTH = 200
"""Characters of a title, counted after surrounding white space is cut off."""

MAX_TASK_ID = 2**31 - 1
"""The largest value of PostgreSQL's INTEGER, the type of the id column."""


# Control characters, line and paragraph separators: PostgreSQL refuses NUL, and a terminal obeys
# escape sequences. str.isprintable() would also refuse joined emoji and no-break spaces.
_NOT_ON_ONE_LINE = frozenset({"Cc", "Zl", "Zp"})


def _one_line(title: str) -> str:
    if any(unicodedata.category(character) in _NOT_ON_ONE_LINE for character in title):
        raise ValueError("a title is one line without control characters")
    return title


TaskTitle = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=1, max_length=MAX_TITLE_LENGTH),
    AfterValidator(_one_line),
]
TaskId = Annotated[int, Field(ge=1, le=MAX_TASK_ID)]


class Task(SQLModel, table=True):
    """A row of the table `tasks`."""

    __tablename__ = "tasks"
    # SQLite would give a deleted task's number to the next one; "done 3" must not change its meaning.
    __table_args__ = {"sqlite_autoincrement": True}

    id: int | None = Column(default=None, primary_key=True)
    title: str = Column(max_length=MAX_TITLE_LENGTH)
    done: bool = False


class TaskView(SQLModel):
    """A stored task as both doors show it."""

    id: int
    title: str
    done: bool


class NewTask(SQLModel):
    """What `POST /tasks` takes."""

    title: TaskTitle


class TaskChange(SQLModel):
    """What `PATCH /tasks/{id}` takes; a field that is left out stays as it is."""

    title: TaskTitle | None = None
    done: bool | None = None
