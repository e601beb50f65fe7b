"""`end_of_life`: no image that a stage which is built starts or copies from is past its support.

In: a `Subject`, or the names of base images and a day. Out: a warning for each that is. Touches nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from buildorch.record import Finding

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from datetime import date

    from buildorch.policy.subject import Subject


def rule(subject: Subject) -> Iterator[Finding]:
    """Ask for each image of the Dockerfile."""
    if subject.dockerfile is not None:
        yield from past_support((image.name for image in subject.dockerfile.images), subject.today)


def past_support(names: Iterable[str], today: date) -> Iterator[Finding]:
    """The warnings for images of these names, each once: what `rule` finds, where a record alone is there to judge.

    Args:
        names: as a Dockerfile writes them.
        today: the day to judge at.
    """
    from buildorch.bases.lifetimes import end_of_life  # noqa: PLC0415 - not where nothing is judged

    for name in dict.fromkeys(names):
        if ended := end_of_life(name, today):
            yield Finding(
                rule="end_of_life",
                severity="warning",
                message=f"{name} is past its end of life since {ended}: nobody mends it",
                hint="start from a release that is still supported",
            )
