"""`build_checks`: what BuildKit itself warns of, as findings.

In: a `Subject`. Out: a finding for each warning. Touches nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from buildorch.record import Finding

if TYPE_CHECKING:
    from collections.abc import Iterator

    from buildorch.policy.subject import Subject


def rule(subject: Subject) -> Iterator[Finding]:
    """Hand on each warning, in its own words."""
    severity = subject.spec.policy.build_checks
    if severity is None:
        return
    for warning in subject.warnings:
        hint = "each check has a page on https://docs.docker.com/reference/build-checks/"
        yield Finding(rule="build_checks", severity=severity, message=warning, hint=hint)
