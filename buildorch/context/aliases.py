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
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

STATE_FOLDER = ".buildorch"
"""buildorch's own folder beside a services file: it changes with every run and is left out of stamps."""


def aliases(into: Path, *, service: str, folders: Iterable[Path]) -> dict[Path, Path]:
    """A link in `into` for each folder; the links go when the caller removes `into`.

    Args:
        into: an existing folder of the caller's own.
        service: the service's name, part of the links' names.
        folders: absolute folders.

    Returns:
        Folder -> link.
    """
    links: dict[Path, Path] = {}
    for folder in folders:
        real = os.path.realpath(folder)
        # The path keeps two checkouts of one repository apart, the stamp two states of one checkout.
        identity = hashlib.blake2b(f"{service}\0{real}\0{stamp(real)}".encode(errors="surrogateescape"), digest_size=10)
        link = into / f"{service}-{identity.hexdigest()}"
        if not link.is_symlink():
            link.symlink_to(real, target_is_directory=True)
        links[folder] = link
    return links


def stamp(folder: str | os.PathLike[str]) -> str:
    """A digest over path, inode, mode, size, mtime and ctime of everything below a folder; one lstat a file.

    What cannot be read, or goes away meanwhile, is left to BuildKit to complain about.
    """
    state = hashlib.blake2b(digest_size=16)
    waiting = [os.fspath(folder)]
    while waiting:
        current = waiting.pop()
        try:
            with os.scandir(current) as found:
                entries = sorted(found, key=lambda entry: entry.name)
        except OSError as error:
            state.update(f"{current}\0unreadable {error.errno}\n".encode(errors="surrogateescape"))
            continue
        for entry in entries:
            if entry.name == STATE_FOLDER:
                continue
            try:
                seen = entry.stat(follow_symlinks=False)
            except FileNotFoundError:
                continue
            known = f"{seen.st_ino} {seen.st_mode} {seen.st_size} {seen.st_mtime_ns} {seen.st_ctime_ns}"
            state.update(f"{entry.path}\0{known}\n".encode(errors="surrogateescape"))
            if entry.is_dir(follow_symlinks=False):
                waiting.append(entry.path)
    return state.hexdigest()
