"""What was found out of a project: all that its Dockerfile needs.

In: nothing. Out: `FastApi`, `NextJs`. Touches nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from buildorch.errors import UsageError
from buildorch.values import dataclass

if TYPE_CHECKING:
    from pathlib import Path

PythonManager = Literal["pip", "uv", "poetry"]
NodeManager = Literal["npm", "pnpm", "yarn"]


class Unfit(UsageError):
    """A project is there, and something that its image needs is not, or is not understood."""

    def __init__(self, folder: Path, fact: str, *, hint: str) -> None:
        super().__init__(f"{folder}: {fact}", hint=hint)


@dataclass(frozen=True, slots=True, kw_only=True)
class FastApi:
    """A FastAPI application, and how its packages are installed."""

    folder: Path
    manager: PythonManager
    lock: str
    """The file that says which packages: `requirements.txt`, `uv.lock`, `poetry.lock`."""
    is_hashed: bool
    """Whether that file holds the packages' hashes."""
    application: str
    """As uvicorn takes it: `app.main:app`."""
    is_factory: bool
    """Whether that is a function which makes the application."""
    source: str
    """The folder that module names begin in, below the project's; empty for the project's own."""
    health: str
    """The path of a route that tells whether it is well; empty where none is known."""
    title: str
    description: str
    notes: tuple[str, ...] = ()
    """What was decided that may be wrong, for people."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NextJs:
    """A Next.js application, and how its packages are installed."""

    folder: Path
    manager: NodeManager
    manager_version: str
    """Of pnpm or yarn, as npm takes it; empty for npm, which the base image brings."""
    lock: str
    settings: tuple[str, ...]
    """What the manager reads beside package.json and the lock: `.npmrc`."""
    needs_sources: bool
    """Whether an install runs scripts, or takes patches and packages, of the project's own."""
    has_public: bool
    """Whether it has files that are served as they are."""
    config: str
    """The name of its configuration; the one to be made where it has none."""
    config_text: str
    """What is to stand in it; empty where it is as it should be."""
    health: str
    """The path of a route that tells whether it is well, or of its first page."""
    title: str
    description: str
    notes: tuple[str, ...] = ()
    """What was decided that may be wrong, for people."""


Found = FastApi | NextJs
