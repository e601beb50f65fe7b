"""Names of images and addresses of remote sources, compared and judged as BuildKit does.

In: text. Out: text and answers. Touches nothing.

Sources: `reference.ParseNormalizedNamed` and `FamiliarString` (distribution/reference), BuildKit's
`dockerui/namedcontext.go`, `dfgitutil.ParseGitRef` and `gitutil.ParseURL`.
"""

from __future__ import annotations

import posixpath
import re

_COMMIT = re.compile(r"(?:[0-9a-f]{40}|[0-9a-f]{64})\Z")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}\Z|sha384:[0-9a-f]{96}\Z|sha512:[0-9a-f]{128}\Z")
_SCHEME = re.compile(r"[A-Za-z0-9+.-]+://")
_SCP = re.compile(r"[^/]+@[^/]+:")
_WILDCARD = re.compile(r"[*?\[\\]")


def familiar(image: str) -> str:
    """The one name of an image that may be written in several ways: `docker.io/library/python:latest` is `python`.

    It is the name under which a named context is looked up.
    """
    host, slash, rest = image.partition("/")
    if not slash or (not re.search(r"[.:]", host) and host != "localhost" and host.lower() == host):
        host, rest = "docker.io", image
    if host not in {"docker.io", "index.docker.io"}:
        return image.removesuffix(":latest")
    official = rest.removeprefix("library/")
    return (rest if "/" in official else official).removesuffix(":latest")


def is_remote(source: str) -> bool:
    """Whether ADD fetches a source rather than copying it: a URL, or git's `user@host:path`."""
    return bool(_SCHEME.match(source) or _SCP.match(source))


def remote_is_pinned(url: str) -> bool:
    """Whether a context or an ADD given by this URL always gives the same files: git, at a full commit hash.

    `#HASH`, `#HASH:folder`, and the query's `ref`, `commit` and `checksum` count; a branch, a tag and a short hash do
    not. A file behind http is never pinned by its URL.
    """
    if not _is_git(url):
        return False
    address, _, fragment = url.partition("#")
    if _COMMIT.match(fragment.partition(":")[0]):
        return True
    from urllib.parse import parse_qs  # noqa: PLC0415 - few services read from git

    query = parse_qs(address.partition("?")[2])
    # A ref in the fragment beside a commit in the query is fetched and then compared: the build fails if it moved.
    return any(len(query.get(key, ())) == 1 and _COMMIT.match(query[key][0]) for key in ("commit", "checksum", "ref"))


def checksum_pins(checksum: str) -> bool:
    """Whether an ADD with this checksum always gives the same files, or fails: a digest, or for git a full hash."""
    return bool(_DIGEST.match(checksum) or _COMMIT.match(checksum))


def _is_git(url: str) -> bool:
    """Behind http only what ends in `.git` is a repository; `github.com/...` is one, for contexts."""
    if url.startswith("github.com/"):
        return True
    if not _SCHEME.match(url):
        return bool(_SCP.match(url))
    from urllib.parse import urlsplit  # noqa: PLC0415 - few services read from git

    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    return parts.scheme in {"git", "ssh"} or (parts.scheme in {"http", "https"} and parts.path.endswith(".git"))


def without_credentials(source: str) -> str:
    """The source, with a user and password in its URL left out: for messages."""
    return re.sub(r"(?<=://)[^/@]*@", "", source)


def prefix(source: str, *, with_parents: bool = False) -> str | None:
    """The largest part of a context that COPY reads for a source; None where it is the whole.

    Args:
        source: after variables.
        with_parents: the folders on the way are copied with their modes too (`--parents`).
    """
    if not source.isprintable() or any("\ud800" <= character <= "\udfff" for character in source):
        return None
    parts = source.split("/")
    for index, part in enumerate(parts):
        if _WILDCARD.search(part):
            if ".." in parts:
                return None
            parts = parts[:index]
            break
    # BuildKit cleans a path before it looks at the files: `..` never leaves the context.
    clean = posixpath.normpath("/" + "/".join(parts)).strip("/")
    if with_parents:
        clean = clean.partition("/")[0]
    return clean or None
