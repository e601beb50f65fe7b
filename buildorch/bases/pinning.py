"""How a build is held to digests: a named context for each base image.

In: what `resolve_bases` found. Out: `--build-context` names and values. Touches nothing.

Source: "Replace a remote image" in Docker's `docker buildx build --build-context`; the Dockerfile stays as it is. What
BuildKit does with it was seen on a real engine: tests/engine/test_lock.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from buildorch.bases.base import Base
from buildorch.bases.names import key

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from buildorch.bases.base import Unresolved

SCHEME = "docker-image://"


def pins(bases: Mapping[str, Base | Unresolved], *, stages: Collection[str] = ()) -> dict[str, str]:
    """Context name -> `docker-image://REFERENCE@DIGEST`, for every image that has a digest it does not name itself.

    One name holds for every way to write the reference, in FROM, COPY --from and RUN --mount=from. The tag stays in
    the value, as provenance names what it is given.

    Args:
        bases: reference -> what it resolved to.
        stages: the names of the Dockerfile's stages. A named context stands in for a stage of its name too, so an
            image without tag that shares its name with a stage (`FROM nginx AS nginx`) must stay without a pin.
    """
    taken = {stage.lower() for stage in stages}
    return {
        base.reference: f"{SCHEME}{base.reference}@{base.digest}"
        for base in bases.values()
        if isinstance(base, Base) and base.origin != "reference" and base.reference not in taken
    }


def pinned(context: str, bases: Mapping[str, Base | Unresolved]) -> str:
    """The value of a named context with its digest, where it is an image that resolved; else as it is.

    BuildKit does not look up a context's own value among the contexts, so a pin beside it would not hold.
    """
    if not context.startswith(SCHEME):
        return context
    wanted = key(context.removeprefix(SCHEME))
    return pins(bases).get(wanted, context)
