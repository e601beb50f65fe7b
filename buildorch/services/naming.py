"""What services call each other and their images.

In: a service. Out: names. Touches nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

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
