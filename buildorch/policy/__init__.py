"""The rules an image must keep: `judge(subject) -> findings`. One rule a file, each a pure function.

In: an image's platforms, what its Dockerfile declares and the service's own words. Out: findings, errors first.
Touches nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from buildorch.lazy import names_of

if TYPE_CHECKING:
    from buildorch.policy.rules import RULES, errors_first, judge
    from buildorch.policy.subject import FoundSecret, Image, Subject, Trial

__all__ = ["RULES", "FoundSecret", "Image", "Subject", "Trial", "errors_first", "judge"]

_HOMES = {
    "RULES": "rules",
    "FoundSecret": "subject",
    "Image": "subject",
    "Subject": "subject",
    "Trial": "subject",
    "errors_first": "rules",
    "judge": "rules",
}


if not TYPE_CHECKING:  # a type checker would take every name for one that is there
    __getattr__ = names_of(__name__, _HOMES)
