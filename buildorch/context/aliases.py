"""Folder -> an alias whose name no other service's folder has.

In: the folders of one service. Out: symbolic links to them in a given folder. Touches: the file system.

Why: BuildKit keeps a mirror of each local context under a key made of the last part of its path, and sends a file
again only if its size or mtime differs. Two services whose folders are both called `app` get each other's files, and an
edit that keeps size and mtime ships the old bytes (moby/buildkit#4817, #2592); a folder whose mode alone changed stays
cached (#7176). So the last part of an alias holds what the folder is for, and a stamp over the state of all its files:
inode, size, mtime, ctime and mode. ctime cannot be set back, so a name comes again only for files that did not change.
"""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING

from buildorch.context.listing import state

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from buildorch.plan import Folder


def aliases(into: Path, *, service: str, folders: Iterable[Folder]) -> dict[Path, Path]:
    """A link in `into` for each folder; the links go when the caller removes `into`.

    Args:
        into: an existing folder of the caller's own.
        service: the service's name, part of the links' names.
        folders: what the service reads.

    Returns:
        Folder -> link.
    """
    links: dict[Path, Path] = {}
    for folder in folders:
        real = os.path.realpath(folder.path)
        # The path keeps two checkouts of one repository apart, the stamp two states of one checkout.
        identity = hashlib.blake2b(
            f"{service}\0{real}\0{stamp(folder)}".encode(errors="surrogateescape"), digest_size=10
        )
        link = into / f"{service}-{identity.hexdigest()}"
        if not link.is_symlink():
            link.symlink_to(real, target_is_directory=True)
        links[folder.path] = link
    return links


def stamp(folder: Folder) -> str:
    """A digest over the path, inode, mode, size, mtime and ctime of all that a build reads; one lstat a file."""
    return state(folder).stamp
