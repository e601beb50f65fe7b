"""Finds a FastAPI project: its packages, its application, and a route for its health.

In: a folder. Out: `FastApi`. Touches: the folder, for reading. Nothing of the project is imported or run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from buildorch.scaffold.applications import Application, application_in
from buildorch.scaffold.found import FastApi
from buildorch.scaffold.python_packages import Packages, packages_in
from buildorch.scaffold.reading import mapping, read_toml, words

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def fastapi_in(folder: Path) -> FastApi | None:
    """The FastAPI application of a folder; None where the folder does not depend on FastAPI.

    Args:
        folder: the project's, resolved.

    Raises:
        Unfit: it does, and there is no lock, no uvicorn, or not one application to start.
    """
    about = _about(read_toml(folder, "pyproject.toml"))
    packages = packages_in(folder, about)
    if packages is None:
        return None
    found = application_in(folder)
    title = words(about.get("name"), folder.name)
    return FastApi(
        folder=folder,
        manager=packages.manager,
        lock=packages.lock,
        is_hashed=packages.is_hashed,
        application=f"{found.module}:{found.name}",
        is_factory=found.is_factory,
        source=found.source,
        health=found.health,
        title=title,
        description=words(about.get("description"), f"{title}, a FastAPI service"),
        notes=tuple(_notes(packages, found)),
    )


def _about(pyproject: dict[str, Any]) -> dict[str, Any]:
    """What it says of the project, in the standard's words over Poetry's own."""
    poetry = mapping(mapping(pyproject.get("tool")).get("poetry"))
    return {**poetry, **mapping(pyproject.get("project"))}


def _notes(packages: Packages, found: Application) -> Iterator[str]:
    if not packages.is_hashed:
        yield f"{packages.lock} has no hashes to hold the index to: write it with pip-compile --generate-hashes"
    if found.others:
        yield f"it serves {found.module}:{found.name}, and there is also {' and '.join(found.others[:3])}"
    if not found.health:
        yield "it has no route such as /health of its own, so HEALTHCHECK only sees that something listens"
