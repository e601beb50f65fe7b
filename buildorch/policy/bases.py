"""`bases`: every image that a FROM names is on the list.

In: a `Subject`. Out: an error for each that is not. Touches nothing.
"""

from __future__ import annotations

import fnmatch
from typing import TYPE_CHECKING

from buildorch.record import Finding

if TYPE_CHECKING:
    from collections.abc import Iterator

    from buildorch.policy.subject import Subject


def rule(subject: Subject) -> Iterator[Finding]:
    """Compare each FROM with the list; named contexts are not images of that name and are passed over."""
    allowed = subject.spec.policy.bases
    if allowed is None:
        return
    if subject.dockerfile is None:
        yield Finding(
            rule="bases",
            severity="warning",
            message="the Dockerfile cannot be read here, so its base images are not judged",
            hint="keep the Dockerfile in a local context, or drop bases for this service",
        )
        return
    for stage in subject.dockerfile.images:
        name = stage.base.removeprefix("docker.io/").removeprefix("library/").split("@", 1)[0]
        if stage.base not in subject.spec.contexts and not any(fnmatch.fnmatchcase(name, glob) for glob in allowed):
            yield Finding(
                rule="bases",
                severity="error",
                message=f"line {stage.line} of the Dockerfile starts from {name!r}, not one of: {', '.join(allowed)}",
                hint="use an allowed base image, or add this one to policy.bases",
            )
