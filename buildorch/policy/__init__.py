"""The rules an image must keep: `judge(subject) -> findings`. One rule a file, each a pure function.

In: an image's platforms, its Dockerfile's stages and the service's own words. Out: findings, errors first.
Touches nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from buildorch.policy import bases, size, stages, user
from buildorch.policy.subject import Subject

if TYPE_CHECKING:
    from buildorch.record import Finding

__all__ = ["RULES", "Subject", "judge"]

RULES = (size.rule, user.rule, stages.rule, bases.rule)


def judge(subject: Subject) -> tuple[Finding, ...]:
    """Every finding of every rule, errors before warnings."""
    found = [finding for rule in RULES for finding in rule(subject)]
    return tuple(sorted(found, key=lambda finding: finding.severity != "error"))
