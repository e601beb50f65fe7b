"""An OCI registry over HTTP.

In: references and digests. Out: bytes, and what a registry says of itself. Touches: the network, docker's configuration
for logins, and a credential helper's process where docker is set up with one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from buildorch.lazy import names_of

if TYPE_CHECKING:
    from buildorch.registry.asking import Greeting, greet
    from buildorch.registry.credentials import HUB, has_login
    from buildorch.registry.repository import Repository

__all__ = ["HUB", "Greeting", "Repository", "greet", "has_login"]

_HOMES = {
    "HUB": "credentials",
    "Greeting": "asking",
    "Repository": "repository",
    "greet": "asking",
    "has_login": "credentials",
}


if not TYPE_CHECKING:  # a type checker would take every name for one that is there
    __getattr__ = names_of(__name__, _HOMES)
