"""`labels`: the image has the labels that are asked for.

In: a `Subject`. Out: an error for each that is missing or empty. Touches nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from buildorch.record import Finding

if TYPE_CHECKING:
    from collections.abc import Iterator

    from buildorch.policy.subject import Subject


def rule(subject: Subject) -> Iterator[Finding]:
    """Look at each platform's config."""
    for name, image in subject.images.items():
        for label in subject.spec.policy.labels:
            value = image.config.labels.get(label)
            if not (value or "").strip():
                yield Finding(
                    rule="labels",
                    severity="error",
                    message=f"{name}: the label {label} is {'missing' if value is None else 'empty'}",
                    hint="set it under labels in the services file, or by LABEL in the Dockerfile's last stage",
                )
