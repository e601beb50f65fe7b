"""Which base images a plan's Dockerfiles and named contexts name.

In: solves. Out: references, as written. Touches: the Dockerfiles.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from buildorch import dockerfile
from buildorch.bases.pinning import SCHEME
from buildorch.errors import UsageError

if TYPE_CHECKING:
    from buildorch.plan import Solve


def named(solve: Solve) -> tuple[str, ...]:
    """The base images of one solve, as written: those its Dockerfile takes, and those its named contexts are.

    An image that a named context stands in for is not one of them. A Dockerfile in a remote context cannot be read
    here, so its images are not known.

    Raises:
        UsageError: the Dockerfile cannot be read.
    """
    inside = (
        context.removeprefix(SCHEME)
        for context in solve.contexts.values()
        if isinstance(context, str) and context.startswith(SCHEME)
    )
    return tuple(dict.fromkeys((*in_dockerfile(solve), *inside)))


def in_dockerfile(solve: Solve) -> tuple[str, ...]:
    """The images that its Dockerfile takes, as written; none where it is in a remote context.

    Raises:
        UsageError: the Dockerfile cannot be read.
    """
    if not isinstance(solve.dockerfile, Path):
        return ()
    try:
        text = solve.dockerfile.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        fact = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise UsageError(
            f"{solve.name}: its base images are not known, as {solve.dockerfile} cannot be read: {fact}",
            hint="mend the Dockerfile, or name another with `dockerfile`",
        ) from None
    return dockerfile.reads(
        text,
        arguments={name: value for name, value in solve.spec.args.items() if value is not None},
        target=solve.spec.target,
        contexts=(*solve.contexts, *solve.bases),
        platforms=solve.platforms,
    ).images
