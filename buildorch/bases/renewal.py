"""What becomes of the lock file: which images it gains, loses, keeps, and which of those have moved since.

In: the lock, the images the Dockerfiles name, what registries say. Out: a `Renewal`. Touches nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from buildorch.bases.base import Base
from buildorch.bases.lockfile import Entry, Lock
from buildorch.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping
    from datetime import datetime

    from buildorch.bases.base import Unresolved


@dataclass(frozen=True, slots=True)
class Renewal:
    """A lock file as it should be, and how it differs from what is there."""

    lock: Lock
    added: tuple[str, ...]
    """Images that the file did not have."""
    updated: tuple[str, ...]
    """Images that were to be updated, and whose digest is another now."""
    removed: tuple[str, ...]
    """Images of the file that no Dockerfile names any more."""
    missing: Mapping[str, str]
    """Images that should be written and whose digest nobody gives -> why."""
    moved: Mapping[str, Base]
    """Kept images -> what their tag names now, where that is another digest."""
    unknown: Mapping[str, str]
    """Kept images of which no registry says whether they moved -> why."""

    @property
    def is_current(self) -> bool:
        """Whether the file fits the Dockerfiles as it is."""
        return not (self.added or self.updated or self.removed or self.missing)


def renew(
    old: Lock,
    names: Iterable[str],
    *,
    today: Mapping[str, Base | Unresolved],
    update: Collection[str] = (),
    now: datetime,
) -> Renewal:
    """The renewed lock file.

    An image to update whose digest is still the same keeps its entry as it is, so that a file only differs where a
    base does.

    Args:
        old: what the file holds.
        names: the images that Dockerfiles name, canonical, without those that name a digest themselves.
        today: what registries say of each of them.
        update: the images whose entries are to be renewed.
        now: the time of the answers.
    """
    kept: dict[str, Entry] = {}
    written: dict[str, Entry] = {}
    missing: dict[str, str] = {}
    moved: dict[str, Base] = {}
    unknown: dict[str, str] = {}
    for name in dict.fromkeys(names):
        answer, entry = today[name], old.bases.get(name)
        if entry:
            kept[name] = entry
        if not isinstance(answer, Base):
            (unknown if entry and name not in update else missing)[name] = answer.reason
        elif entry is None or (name in update and answer.digest != entry.digest):
            written[name] = Entry(answer.digest, answer.registry, now)
        elif answer.digest != entry.digest:
            moved[name] = answer
    return Renewal(
        lock=Lock({**kept, **written}),
        added=tuple(name for name in written if name not in old.bases),
        updated=tuple(name for name in written if name in old.bases),
        removed=tuple(name for name in old.bases if name not in kept),
        missing=missing,
        moved=moved,
        unknown=unknown,
    )
