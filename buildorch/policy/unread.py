"""What a rule says where there is no Dockerfile for it to read.

In: the rule. Out: a warning. Touches nothing.
"""

from __future__ import annotations

from buildorch.record import Finding


def unread(rule: str, things: str, *, key: str) -> Finding:
    """A warning that something of the Dockerfile is not judged.

    Args:
        rule: whose finding it is.
        things: what is not judged, as `stages`.
        key: of the policy, which asks for it.
    """
    return Finding(
        rule=rule,
        severity="warning",
        message=f"the Dockerfile cannot be read here, so its {things} are not judged",
        hint=f"keep the Dockerfile in a local context, or drop {key} for this service",
    )
