"""The Dockerfiles of a plan's services as BuildKit would build them, each read once.

In: `Solve`s. Out: `Dockerfile`s, and what one says beside the others. Touches: the Dockerfiles, and the environment,
where build arguments take their values from there.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from buildorch.dockerfile import Dockerfile
    from buildorch.plan import Solve


class PlanDockerfiles:
    """What the Dockerfiles say, each read where it is first asked for; threads may share it."""

    def __init__(self, solves: Sequence[Solve] = ()) -> None:
        """Know these services: their cache mounts are compared."""
        self._solves = tuple(solves)
        self._read: dict[str, Dockerfile | None] = {}
        self._sharings: dict[str, dict[str, str]] | None = None

    def of(self, solve: Solve) -> Dockerfile | None:
        """The service's Dockerfile, where it is a local file; BuildKit has judged its syntax."""
        if solve.name not in self._read:
            self._read[solve.name] = _read(solve)
        return self._read[solve.name]

    def mounts_elsewhere(self, service: str) -> dict[str, dict[str, str]]:
        """Id of a cache mount -> service other than this one -> how that shares it."""
        found: dict[str, dict[str, str]] = {}
        for other, mounts in self._all_sharings().items():
            for mount, sharing in mounts.items():
                if other != service:
                    found.setdefault(mount, {})[other] = sharing
        return found

    def _all_sharings(self) -> dict[str, dict[str, str]]:
        from buildorch.policy.cache_mounts import sharings  # noqa: PLC0415 - only where a rule asks

        if self._sharings is None:
            files = {solve.name: self.of(solve) for solve in self._solves}
            self._sharings = {name: sharings(file) for name, file in files.items() if file}
        return self._sharings


def arguments_of(solve: Solve) -> dict[str, str]:
    """The build arguments that have a value, in the services file or else in the environment."""
    values = {key: os.environ.get(key) if value is None else value for key, value in solve.spec.args.items()}
    return {key: value for key, value in values.items() if value is not None}


def _read(solve: Solve) -> Dockerfile | None:
    if not isinstance(solve.dockerfile, Path):
        return None
    from buildorch import dockerfile  # noqa: PLC0415 - a run that skips everything reads none

    try:
        return dockerfile.read(
            solve.dockerfile.read_text("utf-8-sig"),
            arguments=arguments_of(solve),
            target=solve.spec.target,
            contexts=(*solve.contexts, *solve.bases),
            platforms=solve.platforms,
        )
    except (OSError, ValueError):
        return None
