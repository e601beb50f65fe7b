"""`stages`: the image is built in at least so many stages, and leaves one of them behind.

In: a `Subject`. Out: an error where there are fewer, or where two or more are wanted and the image consists of all.
Touches nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from buildorch.policy.unread import unread
from buildorch.record import Finding

if TYPE_CHECKING:
    from collections.abc import Iterator

    from buildorch.dockerfile import Dockerfile
    from buildorch.policy.subject import Subject


def rule(subject: Subject) -> Iterator[Finding]:
    """Count the stages that are built, and those that the image consists of."""
    wanted = subject.spec.policy.min_stages
    if wanted is None:
        return
    if subject.dockerfile is None:
        yield unread("stages", "stages", key="min_stages")
    else:
        yield from _judge(subject.dockerfile, wanted)


def _judge(dockerfile: Dockerfile, wanted: int) -> Iterator[Finding]:
    stages, final = dockerfile.stages, dockerfile.final
    if len(stages) < wanted:
        yield Finding(
            rule="stages",
            severity="error",
            message=f"the image is built in {len(stages)} stage(s), at least {wanted} are wanted",
            hint="build in one stage and copy what runs into another; a stage that nothing needs is not built",
            line=stages[0].line if stages else None,
        )
    elif wanted > 1 and len(final) == len(stages):
        yield Finding(
            rule="stages",
            severity="error",
            message=f"the final stage is the build stage: the image consists of all {len(stages)} stages, "
            "with what only the build needs",
            hint="start the last stage FROM a base image, and COPY --from the build stage what runs",
            line=final[-1].line,
        )
