"""Every rule by its name, and the one that asks them all.

In: a `Subject`. Out: findings, errors first. Touches nothing.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

from buildorch.policy import (
    bases,
    build_checks,
    cache_mounts,
    contents,
    end_of_life,
    exec_form,
    healthcheck,
    labels,
    pinned,
    secrets,
    size,
    smoke,
    stages,
    user,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from buildorch.policy.subject import Subject
    from buildorch.record import Finding

RULES: Mapping[str, Callable[[Subject], Iterator[Finding]]] = MappingProxyType(
    {
        "size": size.rule,
        "user": user.rule,
        "stages": stages.rule,
        "bases": bases.rule,
        "pinned": pinned.rule,
        "end_of_life": end_of_life.rule,
        "cache_mounts": cache_mounts.rule,
        "contents": contents.rule,
        "secrets": secrets.rule,
        "healthcheck": healthcheck.rule,
        "exec_form": exec_form.rule,
        "labels": labels.rule,
        "build_checks": build_checks.rule,
        "smoke": smoke.rule,
    }
)
"""Rule by its name, which its findings bear, in the order in which they are asked."""


def judge(subject: Subject) -> tuple[Finding, ...]:
    """Every finding of every rule that is not off, errors before warnings."""
    off = subject.spec.policy.off
    found = [finding for name, rule in RULES.items() if name not in off for finding in rule(subject)]
    return errors_first(found)


def errors_first(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Errors before warnings, else in their order."""
    return tuple(sorted(findings, key=lambda finding: finding.severity != "error"))
