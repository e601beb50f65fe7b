"""Which digest each base image has: its own, the lock file's, or its registry's of today.

In: references, a lock, the engine's mirrors. Out: a `Base` for each, or an `Unresolved` with the reason. Touches:
registries, all references at once, within a deadline of seconds however they behave.
"""

from __future__ import annotations

import os
import queue
import threading
import time
from typing import TYPE_CHECKING

from buildorch.bases.base import Base, Unresolved
from buildorch.bases.names import canonical
from buildorch.errors import EngineError, UsageError
from buildorch.oci import ImageReference
from buildorch.registry import HUB, Repository

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from buildorch.bases.lockfile import Lock

AT_ONCE = 16
ANSWER_S = 3.0
"""How long a registry may stay silent, in seconds: where several may have an image, each gets a chance."""
PATIENCE_S = 3.0
"""For how long a registry that fails for the moment is asked again, in seconds."""
DEADLINE_S = 5.0
"""How long a build waits for all of its base images together, in seconds."""


def resolve_bases(
    references: Iterable[str],
    *,
    lock: Lock | None,
    mirrors: Sequence[str] = (),
    frozen: bool = False,
    verify: bool = False,
    deadline_s: float = DEADLINE_S,
    environ: Mapping[str, str] = os.environ,
) -> dict[str, Base | Unresolved]:
    """The digest for each reference, as written: its own first, then the lock's, then its registry's.

    A tag is asked for once, however many references name it and however they write it.

    Args:
        references: as Dockerfiles write them.
        lock: what the lock file keeps; None where there is none.
        mirrors: the URLs that the engine asks before Docker Hub (`RegistryConfig.Mirrors` of its /info), in order.
        frozen: whether only references with a digest in them or in the lock will do; no registry is asked.
        verify: whether the manifest itself is fetched and its digest computed, rather than the registry's word taken.
            Docker Hub counts a fetch as a pull; a HEAD is free.
        deadline_s: how long to wait for all answers together.
        environ: where docker's configuration is found, and which proxy registries are asked through.

    Raises:
        UsageError: `frozen`, and the lock lacks some; all of them are named.
    """
    written = tuple(dict.fromkeys(references))
    parsed = {reference: _parse(reference) for reference in written}
    found: dict[str, Base | Unresolved] = {}
    asked: dict[str, ImageReference] = {}
    for reference, image in parsed.items():
        if isinstance(image, Unresolved):
            found[reference] = image
        elif image.digest:
            found[reference] = Base(str(image), image.digest, "reference")
        elif lock and (entry := lock.bases.get(str(image))):
            found[reference] = Base(str(image), entry.digest, "lock", entry.registry)
        else:
            asked[str(image)] = image
    if frozen and (missing := [name for name in written if not isinstance(found.get(name), Base)]):
        raise UsageError(
            f"not in buildorch.lock: {', '.join(missing)}",
            hint="run `buildorch lock` and commit the file, or build without --frozen",
        )
    answers = _ask_all(asked, mirrors=mirrors, verify=verify, deadline_s=deadline_s, environ=environ)
    return {reference: found.get(reference) or answers[str(parsed[reference])] for reference in written}


def _parse(reference: str) -> ImageReference | Unresolved:
    try:
        return ImageReference.parse(canonical(reference))
    except UsageError as error:
        return Unresolved(reference, str(error))


def _ask_all(
    images: Mapping[str, ImageReference],
    *,
    mirrors: Sequence[str],
    verify: bool,
    deadline_s: float,
    environ: Mapping[str, str],
) -> dict[str, Base | Unresolved]:
    """What the registries say, asked by at most `AT_ONCE` threads; who has not answered by the deadline is left behind.

    The threads are daemons and not an executor's: Python waits for those at its end, for as long as a registry sends
    a byte now and then.
    """
    waiting: queue.SimpleQueue[str] = queue.SimpleQueue()
    answers: queue.SimpleQueue[Base | Unresolved] = queue.SimpleQueue()
    end = time.monotonic() + deadline_s

    def work() -> None:
        while time.monotonic() < end:
            try:
                name = waiting.get_nowait()
            except queue.Empty:
                return
            answers.put(_ask(images[name], mirrors, verify=verify, environ=environ))

    for name in images:
        waiting.put(name)
    for _ in range(min(AT_ONCE, len(images))):
        threading.Thread(target=work, name="bases", daemon=True).start()
    found: dict[str, Base | Unresolved] = {}
    while len(found) < len(images):
        try:
            answer = answers.get(timeout=max(end - time.monotonic(), 0.0))
        except queue.Empty:
            break
        found[answer.reference] = answer
    late = f"there was no answer within {deadline_s:g} s"
    return {name: found.get(name) or Unresolved(name, late) for name in images}


def repositories(image: ImageReference, mirrors: Sequence[str], environ: Mapping[str, str]) -> list[Repository]:
    """Where an image may be, in the order in which dockerd asks: for Docker Hub's images its mirrors come first."""
    own = Repository.of(image, environ)
    hosts = [(host.strip("/"), scheme) for scheme, _, host in (url.rpartition("://") for url in mirrors)]
    places = [*(() if image.registry else hosts), (own.host, "")]
    return [
        Repository(host, own.name, environ, scheme=scheme, timeout_s=ANSWER_S, patience_s=PATIENCE_S)
        for host, scheme in places
    ]


def _ask(
    image: ImageReference, mirrors: Sequence[str], *, verify: bool, environ: Mapping[str, str]
) -> Base | Unresolved:
    """One tag's digest, from the first registry that has it, in the order in which dockerd asks them."""
    reasons = []
    for repository in repositories(image, mirrors, environ):
        host = repository.host
        try:
            digest = repository.digest(image.tag or "latest", verify=verify)
        except EngineError as error:
            reasons.append(error.told)
        else:
            return Base(str(image), digest, "registry", "docker.io" if host == HUB else host)
    return Unresolved(str(image), "; ".join(reasons))
