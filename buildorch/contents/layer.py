"""One layer's contents as frozen values, and those as bytes.

In: nothing. Out: `Entry`, `Package`, `LayerContents`. Touches nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from buildorch.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Mapping

Kind = Literal["file", "folder", "symlink", "hardlink", "other", "whiteout", "opaque"]
PackageKind = Literal["deb", "apk", "python", "npm"]


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of a layer's tar, as it changes the root file system."""

    path: str
    """Below the root, without a slash at its begin or end; bytes that are no UTF-8 are surrogates. For a whiteout
    (`.wh.NAME`) the path it takes away, for an opaque one (`.wh..wh..opq`) the folder it empties."""
    kind: Kind
    """`other`: devices, fifos."""
    size: int = 0
    """Bytes of a file's content, 0 for all else."""
    mode: int = 0
    """The 12 permission bits."""
    uid: int = 0
    gid: int = 0
    target: str = ""
    """Where a link leads, as it is written."""
    digest: str = ""
    """The SHA-256 of a file's content, in hex."""
    is_private_key: bool = False
    """Whether a file begins as a private key in PEM or OpenSSH form does."""
    stored_bytes: int = 0
    """What it takes in the tar: headers, content and padding. Those of all entries together are the tar's size, but
    for its end."""


@dataclass(frozen=True, slots=True, order=True)
class Package:
    """One installed package that a layer's files tell of."""

    kind: PackageKind
    name: str
    version: str
    place: str
    """The file that says so, such as `var/lib/dpkg/status`."""


@dataclass(frozen=True, slots=True)
class LayerContents:
    """What one layer adds, changes and takes away."""

    unpacked_bytes: int
    """The size of the uncompressed layer tar."""
    entries: tuple[Entry, ...]
    """In the tar's order; of entries with one path the last holds."""
    users: Mapping[str, int] | None = None
    """User name -> number, as the layer's `etc/passwd` says; None where the layer has no such file."""
    packages: tuple[Package, ...] = ()
    """Sorted. What files of this layer tell: `var/lib/dpkg/status` tells of all deb packages again."""
