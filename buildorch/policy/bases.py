"""`bases`: every image that a stage which is built starts or copies from is on the list.

In: a `Subject`. Out: an error for each that is not. Touches nothing.
"""

from __future__ import annotations

import fnmatch
from typing import TYPE_CHECKING

from buildorch.bases.names import key
from buildorch.policy.unread import unread
from buildorch.record import Finding

if TYPE_CHECKING:
    from collections.abc import Iterator

    from buildorch.policy.subject import Subject


def rule(subject: Subject) -> Iterator[Finding]:
    """Compare each image with the list."""
    allowed = subject.spec.policy.bases
    if allowed is None:
        return
    if subject.dockerfile is None:
        yield unread("bases", "base images", key="bases")
        return
    for image in subject.dockerfile.images:
        name = key(image.name.partition("@")[0])
        if not any(_is_meant(name, listed) for listed in allowed):
            yield Finding(
                rule="bases",
                severity="error",
                message=f"line {image.line} of the Dockerfile starts or copies from {name!r}, "
                f"not one of: {', '.join(allowed)}",
                hint="use an allowed base image, or add this one to policy.bases",
                line=image.line,
            )
    for line in subject.dockerfile.unknown_bases:
        yield Finding(
            rule="bases",
            severity="warning",
            message=f"the variables on line {line} of the Dockerfile are not known here, so its base is not judged",
            hint="give the ARG a default before the first FROM, or a value under args",
            line=line,
        )


def _is_meant(name: str, listed: str) -> bool:
    """Whether a name, which is canonical, is this one of the list or fits its glob: `python:*` takes `python` too."""
    forms = (name, f"{name}:latest") if ":" not in name.rpartition("/")[2] else (name,)
    return name == key(listed) or any(fnmatch.fnmatchcase(form, listed) for form in forms)
