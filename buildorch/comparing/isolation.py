"""Names of its own for everything that one build of a comparison makes, so that it touches nothing of the service.

In: a `Solve`. Out: a `Solve`. Touches nothing.

Three names keep a build apart, as seen with Docker Engine 28.5 (tests/engine/test_compare.py):

- its image's tag;
- `BUILDKIT_CACHE_MOUNT_NS`, which puts its cache mounts beside the service's (Dockerfile reference, "BuildKit built-in
  build args"). BuildKit does not count it among what a step depends on;
- the name of a host, by `--add-host`, which it does: every RUN, and all that follows one, is a step that BuildKit has
  never executed, and the service's own steps stay what they are. With `--no-cache` BuildKit would execute the service's
  own steps again, and give the service the new result from then on: another digest, though nothing changed.

A COPY or ADD ahead of the first RUN may so come from the cache.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Final

from buildorch.services import Service
from buildorch.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from buildorch.plan import Solve

REPOSITORY: Final = "buildorch-compare"
_BEYOND = ("--cache-to", "--cache-from", "--no-cache", "--no-cache-filter", "--tag")
"""Flags a services file may have under `buildx` that reach what is not the build's own."""


@dataclass(frozen=True, slots=True)
class Isolation:
    """The names of one variant's builds."""

    service: str
    word: str
    """The comparison's own, which no other has."""
    number: int
    """The variant's."""

    @property
    def mark(self) -> str:
        """What its cache mounts, its steps and its contexts are told from others' by."""
        return f"{prefix(self.word)}{self.number}"

    def name(self, what: str, *, registry: str = "") -> str:
        """The name of an image: `buildorch-compare/SERVICE:WORD-NUMBER-WHAT`, in the registry if there is one."""
        place = f"{registry.rstrip('/')}/" if registry else ""
        return f"{place}{REPOSITORY}/{self.service}:{self.word}-{self.number}-{what}"


def prefix(word: str) -> str:
    """How the marks of all variants of one comparison begin."""
    return f"compare-{word}-"


def isolated(solve: Solve, names: Isolation, reference: str, *, output: str = "") -> Solve:
    """The solve under names of its own, once: a second try would be timed too, with caches that the first one filled.

    Args:
        solve: one variant.
        names: its names.
        reference: the image's name.
        output: in place of loading it into the engine.
    """
    own = [flag for flag in solve.spec.buildx if flag.partition("=")[0] not in _BEYOND]
    changes = {
        "args": {**solve.spec.args, "BUILDKIT_CACHE_MOUNT_NS": names.mark},
        "buildx": (*own, f"--add-host={names.mark}:127.0.0.1"),
        "no_cache_filter": (),
        "retries": 0,
    }
    solve = dataclasses.replace(solve, name=names.mark, spec=solve.spec.model_copy(update=changes))
    return apart(solve, reference, output=output)


def apart(solve: Solve, reference: str, *, output: str = "") -> Solve:
    """The solve with another name for its image, and without caches that outlast it; its steps are the service's own.

    So are built the services that the compared one builds on.
    """
    changes = {"outputs": (output,) if output else (), "cache_to": (), "cache_from": ()}
    spec = solve.spec.model_copy(update=changes)
    return dataclasses.replace(solve, references=(reference,), output="load", no_cache=False, spec=spec)


def bases_dockerfile(images: Sequence[str], mark: str) -> str:
    """A Dockerfile that has BuildKit fetch and unpack these images, so that no build of a variant waits for them."""
    stages = (f"FROM {image} AS base{at}\nCOPY Dockerfile /{mark}" for at, image in enumerate(images))
    copies = (f"COPY --from=base{at} /{mark} /{at}" for at in range(len(images)))
    return "\n".join([f"# {mark}", *stages, "FROM scratch", *copies, ""])


def bases_solve(solve: Solve, names: Isolation, folder: Path) -> Solve:
    """The build of `bases_dockerfile`, which stands in `folder`; nothing comes out of it."""
    return dataclasses.replace(
        solve,
        name=names.mark,
        spec=Service(outputs=("type=cacheonly",), timeouts=solve.spec.timeouts, timeout=solve.spec.timeout),
        references=(names.name("bases"),),
        context=folder,
        dockerfile=folder / "Dockerfile",
        contexts={},
        bases={},
        pins={},
    )
