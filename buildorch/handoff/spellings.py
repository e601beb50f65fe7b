"""How people write a service's image in a deploy's files: with its registry or without, with any tag or digest.

In: services and their repositories. Out: the service that a text means. Touches nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from buildorch.errors import UsageError
from buildorch.oci import ImageReference
from buildorch.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_HUB = frozenset({"docker.io", "index.docker.io"})
_OFFICIAL = "library/"


@dataclass(frozen=True, slots=True)
class Spellings:
    """The names that mean one of some services."""

    repositories: Mapping[str, str]
    """Service -> `[registry/]name`."""

    def of(self, service: str) -> tuple[str, ...]:
        """How its image may be written: in full, and without the registry where that can mean no other service."""
        full = self.repositories[service]
        short = ImageReference.parse(full).repository
        others = [name for other, name in self.repositories.items() if other != service]
        taken = any(short in {name, ImageReference.parse(name).repository} for name in others)
        return tuple(dict.fromkeys((full,) if taken else (full, short)))

    def service(self, text: str) -> str | None:
        """The service whose image a text names; None for any other image, and for what is no image.

        Raises:
            UsageError: several services have their images in that repository.
        """
        try:
            name = _key(text)
        except UsageError:
            return None
        found = [service for service, repository in self.repositories.items() if _key(repository) == name]
        if not found:
            found = [service for service in self.repositories if name in map(_key, self.of(service))]
        if len(found) > 1:
            raise UsageError(
                f"{text} may be the image of {' or '.join(found)}: they share a repository",
                hint="give each service an `image` of its own",
            )
        return found[0] if found else None

    def words(self) -> frozenset[str]:
        """What stands in every text that names a service's image."""
        return frozenset(
            ImageReference.parse(name).repository.removeprefix(_OFFICIAL) for name in self.repositories.values()
        )

    def all(self) -> Iterator[tuple[str, str]]:
        """Every service with each of its spellings.

        Raises:
            UsageError: two services have one.
        """
        seen: dict[str, str] = {}
        for service in self.repositories:
            for name in self.of(service):
                if name in seen:
                    raise UsageError(
                        f"{name} is the image of {seen[name]} and of {service}, and a deploy cannot tell them apart",
                        hint="give each service an `image` of its own",
                    )
                seen[name] = service
                yield service, name


def _key(text: str) -> str:
    """A repository without what Docker Hub's may go without.

    Raises:
        UsageError: the text is not an image reference.
    """
    reference = ImageReference.parse(text)
    if reference.registry in _HUB or not reference.registry:
        return reference.repository.removeprefix(_OFFICIAL)
    return reference.name
