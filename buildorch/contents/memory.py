"""What layers hold, remembered by diff_id in one folder, so that each layer is read once.

In: a diff_id and its `LayerContents`. Out: the same, or nothing. Touches: one folder, a file a layer.

It is a cache and no more: what is missing, damaged, cut off, of another version or cannot be written is nobody's news,
and costs reading the layer again. A file carries a SHA-256 over its diff_id and its content, since no file system sees
a flipped bit; and nothing is flushed to the disk, since a power cut costs no more than reading again.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from buildorch.contents.columns import NAMES, columns_of, entries_of
from buildorch.contents.layer import LayerContents, Package
from buildorch.oci import is_digest

if TYPE_CHECKING:
    from pathlib import Path

SUFFIX = ".layer"
KEPT_S = 60 * 60 * 24 * 90
"""How long a file is kept that nobody asks for."""
ABANDONED_S = 60 * 60
"""How long a half-written one is kept: its writer is dead by then."""
_MAGIC = b"buildorch layer 1\n"
"""The 1 is the version of the format: with another, these files are not read, and go when their time has passed."""
_HALF = ".half"
_HEAD = len(_MAGIC) + hashlib.sha256().digest_size
_tidied: set[Path] = set()
"""The folders this process has looked through for what nobody asks for any more."""


class LayerMemory:
    """What is remembered in one folder; threads and processes may share it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def get(self, diff_id: str) -> LayerContents | None:
        """What the layer holds, where that is known. This never fails."""
        if not is_digest(diff_id):
            return None
        path = self._path(diff_id)
        try:
            data = path.read_bytes()
        except OSError:
            return None
        found = _opened(data, diff_id)
        if found is not None:
            with suppress(OSError):
                os.utime(path)  # asked for, so it is kept
        return found

    def put(self, diff_id: str, contents: LayerContents) -> None:
        """Remember what the layer holds, if the folder can be written. This never fails."""
        if not is_digest(diff_id):
            return
        path = self._path(diff_id)
        half = path.with_suffix(f".{secrets.token_hex(8)}{_HALF}")
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._tidy()
            half.write_bytes(_sealed(contents, diff_id))
            half.replace(path)
        except OSError:
            with suppress(OSError):
                half.unlink(missing_ok=True)

    def _path(self, diff_id: str) -> Path:
        return self._folder / f"{diff_id.removeprefix('sha256:')}{SUFFIX}"

    def _tidy(self) -> None:
        """Remove what nobody asks for and what was never finished, once a process."""
        if self._folder in _tidied:
            return
        _tidied.add(self._folder)
        now = time.time()
        for path in [*self._folder.glob(f"*{SUFFIX}"), *self._folder.glob(f"*{_HALF}")]:
            kept_s = KEPT_S if path.suffix == SUFFIX else ABANDONED_S
            with suppress(OSError):
                if path.stat().st_mtime < now - kept_s:
                    path.unlink()


def _sealed(contents: LayerContents, diff_id: str) -> bytes:
    from zlib_ng import zlib_ng  # noqa: PLC0415 - only where a layer was read; faster than zlib

    document = {
        "unpacked_bytes": contents.unpacked_bytes,
        "users": None if contents.users is None else dict(contents.users),
        "packages": [[one.kind, one.name, one.version, one.place] for one in contents.packages],
        "entries": columns_of(contents.entries),
    }
    data: bytes = zlib_ng.compress(json.dumps(document, separators=(",", ":")).encode(), 1)
    return _MAGIC + _digest(diff_id, data) + data


def _opened(data: bytes, diff_id: str) -> LayerContents | None:
    """What `_sealed` was given; None for anything else."""
    from zlib_ng import zlib_ng  # noqa: PLC0415 - only where a layer is known; faster than zlib

    if not data.startswith(_MAGIC) or data[len(_MAGIC) : _HEAD] != _digest(diff_id, data[_HEAD:]):
        return None
    try:
        document = json.loads(zlib_ng.decompress(data[_HEAD:]))
        entries = entries_of([document["entries"][name] for name in NAMES])
        told = tuple(Package(*values) for values in document["packages"])
        return LayerContents(document["unpacked_bytes"], entries, document["users"], told)
    except (zlib_ng.error, ValueError, TypeError, LookupError, RecursionError):  # type: ignore[misc]  # a wrong stub
        return None  # whole, but not by this version of the format


def _digest(diff_id: str, data: bytes) -> bytes:
    digest = hashlib.sha256(diff_id.encode())
    digest.update(data)
    return digest.digest()
