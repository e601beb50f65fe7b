"""What services call each other, their images and the rules of their policies.

In: a service. Out: names. Touches nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from buildorch.errors import did_you_mean

if TYPE_CHECKING:
    from buildorch.services.model import Service

SERVICE_PREFIX = "service:"


def dependencies(service: Service) -> dict[str, str]:
    """Named context -> service, for the contexts that are other services' images."""
    return {
        name: value.removeprefix(SERVICE_PREFIX)
        for name, value in service.contexts.items()
        if value.startswith(SERVICE_PREFIX)
    }


STAGING_TAG = "buildorch-staging"
"""What an image is pushed under before it gets its names. One for ever, so that tags do not pile up in a registry."""


def image_name(project: str, name: str, service: Service) -> str:
    """The image's name without a tag: `image`, or [registry/]project/service."""
    if service.image:
        return service.image
    prefix = f"{service.registry.rstrip('/')}/" if service.registry else ""
    return f"{prefix}{project}/{name}"


RULE_NAMES = (
    "size",
    "user",
    "stages",
    "bases",
    "pinned",
    "end_of_life",
    "cache_mounts",
    "contents",
    "secrets",
    "healthcheck",
    "exec_form",
    "labels",
    "build_checks",
    "smoke",
)
"""The rules that a policy may switch off: those of `buildorch.policy`, which is above this package."""


def rule_name(text: str) -> str:
    """`text` if it is the name of a rule, or that of a policy of one's own, `package.module:function`.

    Raises:
        ValueError: it is not, with the nearest that is.
    """
    if text not in RULE_NAMES and ":" not in text:
        hint = did_you_mean(text, RULE_NAMES) or f"the rules are: {', '.join(RULE_NAMES)}"
        raise ValueError(f"there is no rule {text!r} ({hint})")
    return text
