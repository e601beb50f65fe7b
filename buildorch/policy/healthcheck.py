"""`healthcheck`: the image says how to see that it is well.

In: a `Subject`. Out: a finding where its config has no HEALTHCHECK, or has one switched off. Touches nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from buildorch.record import Finding

if TYPE_CHECKING:
    from collections.abc import Iterator

    from buildorch.policy.subject import Subject


def rule(subject: Subject) -> Iterator[Finding]:
    """Look at each platform's config."""
    severity = subject.spec.policy.healthcheck
    if severity is None:
        return
    for name, image in subject.images.items():
        check = image.config.healthcheck
        if not check or check[0] == "NONE":
            yield Finding(
                rule="healthcheck",
                severity=severity,
                message=f"{name}: the image has " + ("its HEALTHCHECK switched off" if check else "no HEALTHCHECK"),
                hint='add one to the Dockerfile\'s last stage, such as HEALTHCHECK CMD ["/app/healthy"]',
            )
