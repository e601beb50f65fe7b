"""What a Dockerfile declares and what a build of it reads.

In: a Dockerfile's text, and the solve's own parameters. Out: frozen values. Touches nothing.

`read` gives the stages that are built and what they declare, for the policy. `reads` gives what a build can see
(images, paths, remote sources), for the decision to skip it: there, whatever is not surely understood counts as read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from buildorch.lazy import names_of

if TYPE_CHECKING:
    from buildorch.dockerfile.commands import Mount
    from buildorch.dockerfile.reading import Reads, reads
    from buildorch.dockerfile.references import remote_is_pinned
    from buildorch.dockerfile.stages import Declaration, Dockerfile, Run, Stage, UsedImage, read
    from buildorch.dockerfile.syntax import Instruction

__all__ = [
    "Declaration",
    "Dockerfile",
    "Instruction",
    "Mount",
    "Reads",
    "Run",
    "Stage",
    "UsedImage",
    "read",
    "reads",
    "remote_is_pinned",
]

_HOMES = {
    "Declaration": "stages",
    "Dockerfile": "stages",
    "Instruction": "syntax",
    "Mount": "commands",
    "Reads": "reading",
    "Run": "stages",
    "Stage": "stages",
    "UsedImage": "stages",
    "read": "stages",
    "reads": "reading",
    "remote_is_pinned": "references",
}


if not TYPE_CHECKING:  # a type checker would take every name for one that is there
    __getattr__ = names_of(__name__, _HOMES)
