"""`stages`: the Dockerfile has at least so many stages.

In: a `Subject`. Out: an error where it has fewer. Touches nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from buildorch.record import Finding

if TYPE_CHECKING:
    from collections.abc import Iterator

    from buildorch.policy.subject import Subject


def rule(subject: Subject) -> Iterator[Finding]:
    """Count the stages."""
    wanted = subject.spec.policy.min_stages
    if wanted is None:
        return
    if subject.dockerfile is None:
        yield Finding(
            rule="stages",
            severity="warning",
            message="the Dockerfile cannot be read here, so its stages are not judged",
            hint="keep the Dockerfile in a local context, or drop min_stages for this service",
        )
    elif len(subject.dockerfile.stages) < wanted:
        yield Finding(
            rule="stages",
            severity="error",
            message=f"the Dockerfile has {len(subject.dockerfile.stages)} stage(s), at least {wanted} are wanted",
            hint="build in one stage and copy what runs into another",
        )
