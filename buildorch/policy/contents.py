"""`contents`: no layer holds what an image does not run: compilers, package caches, .git, .env, private keys, tests.

In: a `Subject` with its layers. Out: a finding for each kind of thing in each layer. Touches nothing.

A file that a later layer deletes is still in the layer below it: everybody who pulls the image gets it.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from buildorch.contents.rootfs import survivors
from buildorch.policy.instruction import shortened
from buildorch.quantities import human_bytes, some_of
from buildorch.record import Finding

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from buildorch.contents import Entry
    from buildorch.policy.subject import Image, Subject
    from buildorch.record import Severity

_DEPENDENCIES = re.compile(r"/(?:site-packages|dist-packages|node_modules|vendor|gems)/")
"""What others publish: their tests and example keys are no secret, and not this image's to tidy."""
_SYSTEM = re.compile(r"(?:usr|lib|lib64|var|etc|bin|sbin)/|opt/venv/")
_COMPILERS = r"gcc|g\+\+|cc|c\+\+|clang|clang\+\+|tcc|gfortran|rustc|cargo|javac|ghc|kotlinc|go"
KINDS = {
    "a compiler": re.compile(
        rf"/bin/(?:[a-z0-9_]+-[a-z0-9]+-[a-z0-9-]+-)?(?:{_COMPILERS})(?:-[0-9.]+)?$"
        r"|/(?:lib|libexec)/gcc/[^/]+/[^/]+/cc1(?:plus)?$"
    ),
    "a package cache": re.compile(
        r"^/var/cache/(?:apt/.+|apk/.+|dnf/.+|yum/.+|pacman/.+)$|^/var/lib/apt/lists/.+$"
        r"|/\.cache/(?:pip|uv|pypoetry|yarn|go-build|pipenv)/|/\.npm/_cacache/|/\.yarn/cache/"
        r"|/\.(?:cargo/registry|gradle/caches|m2/repository)/|/\.next/cache/|/go/pkg/mod/cache/"
    ),
    "a git repository": re.compile(r"/\.git(?:$|/)"),
    "an .env file": re.compile(r"/\.env(?:\.(?!example$|sample$|template$|dist$|defaults$)[^/]+)?$"),
    "tests": re.compile(r"/(?:tests?|__tests__|__mocks__|e2e)/"),
}
"""What is looked for, by path, with a slash before it: `re` searches fast for what begins with a fixed letter."""
KEY = "a private key"
_HINTS = {
    "a compiler": "build in an earlier stage, and copy only what runs into the last",
    "a package cache": "run the package manager with --mount=type=cache, so that its cache is in no layer",
    "a git repository": "put .git into .dockerignore",
    "an .env file": "put .env* into .dockerignore, and set variables when the container starts",
    "tests": "put them into .dockerignore, or copy only the folders that run",
    KEY: "withdraw the key, and use a build secret or mount it when the container starts",
}


def rule(subject: Subject) -> Iterator[Finding]:
    """Judge each platform's layers."""
    level = subject.spec.policy.contents
    if level is None:
        return
    for platform, image in subject.images.items():
        if image.layers is None:
            yield Finding(
                rule="contents",
                severity="warning",
                message=f"{platform}: what is in its layers is not known",
                hint="`buildorch check` reads them",
            )
        else:
            yield from _judge(platform, image, level)


def _judge(platform: str, image: Image, level: Severity) -> Iterator[Finding]:
    layers = image.layers or ()
    told = [_by_kind(contents.entries) for contents in layers]
    if not any(told):
        return
    for at, (found, left) in enumerate(zip(told, survivors(layers), strict=True)):
        for kind, entries in found.items():
            yield Finding(
                rule="contents",
                severity=level,
                message=f"{platform}: {kind}: {_facts(entries)}, in the layer of "
                f"{shortened(image.facts.layers[at].created_by)}{_deleted(entries, left)}",
                hint=_HINTS[kind],
            )


def _by_kind(entries: Sequence[Entry]) -> dict[str, list[Entry]]:
    found: dict[str, list[Entry]] = {}
    for entry in entries:
        if entry.kind in {"file", "hardlink", "symlink"} and (kind := kind_of(entry)):
            found.setdefault(kind, []).append(entry)
    return found


def kind_of(entry: Entry) -> str:
    """What an entry is that should be in no image; empty where nothing speaks against it."""
    path = f"/{entry.path}"
    if _DEPENDENCIES.search(path):
        return ""
    if entry.is_private_key:
        return KEY
    kind = next((kind for kind, pattern in KINDS.items() if pattern.search(path)), "")
    if kind == "a package cache" and not entry.size:
        return ""  # a lock, or the mark of an empty folder
    return "" if kind == "tests" and _SYSTEM.match(entry.path) else kind


def _facts(entries: Sequence[Entry]) -> str:
    paths = some_of([f"/{entry.path}" for entry in entries])
    size = sum(entry.size for entry in entries)
    return f"{paths} ({human_bytes(size)})" if size else paths


def _deleted(entries: Sequence[Entry], left: frozenset[str] | set[str]) -> str:
    gone = sum(entry.path not in left for entry in entries)
    if not gone:
        return ""
    said = "a later layer deletes it" if gone == len(entries) == 1 else f"later layers delete {gone} of {len(entries)}"
    return f"; {said}, and it is pulled all the same"
