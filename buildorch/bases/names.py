"""The one name of a base image, however a Dockerfile writes it.

In: a reference. Out: the form that BuildKit compares. Touches nothing.

Source: `NamedContext` in moby/buildkit `frontend/dockerui/namedcontext.go` and `parseContextNames` in docker/buildx:
both sides of `--build-context` go through `reference.FamiliarString` and lose a `:latest`. Seen with buildx 0.29.1
(tests/engine/test_lock.py).
"""

from __future__ import annotations

from buildorch.dockerfile.references import familiar
from buildorch.errors import UsageError
from buildorch.oci import ImageReference


def canonical(reference: str) -> str:
    """`docker.io/library/python:3.13-slim` and `python:3.13-slim` -> `python:3.13-slim`; `:latest` is left out.

    A canonical reference without a registry is Docker Hub's.

    Raises:
        UsageError: the text is not an image reference.
    """
    ImageReference.parse(reference)
    return familiar(reference)


def key(reference: str) -> str:
    """The name to compare by: canonical, or the text itself where it is no reference."""
    try:
        return canonical(reference)
    except UsageError:
        return reference
