"""`pinned`: every image that a stage which is built starts or copies from is held to a digest.

In: a `Subject`. Out: a finding for each that is not: its tag may name another image tomorrow. Touches nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from buildorch.policy.unread import unread
from buildorch.record import Finding

if TYPE_CHECKING:
    from collections.abc import Iterator

    from buildorch.policy.subject import Subject

_HINT = "run `buildorch lock` and keep buildorch.lock, or write NAME@sha256:... in the Dockerfile"


def rule(subject: Subject) -> Iterator[Finding]:
    """Look for each image's digest, in its name and among those that the build was held to."""
    severity = subject.spec.policy.pinned
    if severity is None:
        return
    if subject.dockerfile is None:
        yield unread("pinned", "base images", key="pinned")
        return
    for image in subject.dockerfile.images:
        if "@sha256:" not in image.name and image.name not in subject.pinned:
            message = f"line {image.line} of the Dockerfile starts or copies from {image.name!r} without a digest"
            yield Finding(rule="pinned", severity=severity, message=message, hint=_HINT, line=image.line)
    for line in subject.dockerfile.unknown_bases:
        message = (
            f"the base on line {line} of the Dockerfile has variables that are not known here, and may have no digest"
        )
        yield Finding(rule="pinned", severity="warning", message=message, hint=_HINT, line=line)
