"""Whether a service must be built: inputs -> `Fingerprint`, and that beside the last record -> build or skip, and why.

In: a solve, what was read of its contexts and Dockerfile, the digests of what it builds on, the last record.
Out: `Fingerprint`, `Decision`. Touches nothing.

A fingerprint holds everything that can change the image or its attestations (docs/explanation/skipping.md lists it).
Not in it: tags, mtimes, owners, the context root's own mode, where the checkout lies, and what a build reads without
BuildKit knowing it: secrets' values, cache mounts, the network, the clock.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from dataclasses import field
from typing import TYPE_CHECKING

from buildorch.quantities import some_of
from buildorch.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from buildorch.plan import Solve
    from buildorch.record import ServiceRecord

FORMAT = "1"
"""Raised whenever the same inputs would give another digest: every service is then built once more."""


@dataclass(frozen=True, slots=True)
class Environment:
    """What a build takes from around it, the same for every service of a run."""

    engine: str
    """The engine's version."""
    buildx: str
    store: str
    """The engine's kind of image store."""
    variables: Mapping[str, str] = field(default_factory=dict)
    """Variables the docker client reads and hands on, such as SOURCE_DATE_EPOCH; values are keyed hashes here."""
    platform: str = ""
    """What the engine builds for where nobody says; the same registry may be pushed to from engines of two kinds."""
    proxies: str = ""
    """The keyed hash of the proxy settings the client turns into build arguments; empty for none."""


@dataclass(frozen=True, slots=True)
class Observed:
    """What was read for one solve."""

    contexts: Mapping[str, str]
    """Context's name, empty for the main one -> the digest of all the build may read of it."""
    dockerfile: str
    """SHA-256 of the Dockerfile's bytes."""
    bases: Mapping[str, str]
    """Image reference -> the digest it resolves to."""
    arguments: Mapping[str, str] = field(default_factory=dict)
    """Build argument that has a value -> the value's keyed hash."""
    remotes: Mapping[str, str] = field(default_factory=dict)
    """Named context that BuildKit reads itself -> the keyed hash of its address, which may hold a password."""
    caches: str = ""
    """The keyed hash of where caches are kept, which may hold keys to get in; empty for none."""
    flags: str = ""
    """The keyed hash of the flags that are handed on as they are; empty for none."""
    unproven: tuple[str, ...] = ()
    """For people: why equal inputs do not promise an equal image; empty where they do."""


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """The digest of a solve's inputs, and the inputs by name."""

    digest: str
    inputs: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Build:
    """Build it."""

    reason: str


@dataclass(frozen=True, slots=True)
class Skip:
    """Its image is there and would come out the same."""

    record: ServiceRecord
    """The record of the build that made the image."""


Decision = Build | Skip


def keyed(key: bytes, value: str) -> str:
    """A hash that shows whether a value changed and not what it is: build arguments may be secret."""
    return hmac.new(key, value.encode("utf-8", "surrogateescape"), hashlib.sha256).hexdigest()


def compute(solve: Solve, observed: Observed, *, environment: Environment, services: Mapping[str, str]) -> Fingerprint:
    """The fingerprint of one solve.

    Args:
        solve: what is to be built.
        observed: what was read for it.
        environment: the versions and settings it would be built with.
        services: service it builds on -> what identifies that service's image.
    """
    inputs = dict(_inputs(solve, observed, environment, services))
    state = hashlib.sha256()
    for name in sorted(inputs):
        for part in (name, inputs[name]):
            data = part.encode("utf-8", "surrogateescape")
            # A length before each part: no two sets of inputs run together to the same bytes.
            state.update(b"%d:" % len(data))
            state.update(data)
    return Fingerprint(f"sha256:{state.hexdigest()}", inputs)


def _inputs(
    solve: Solve, observed: Observed, environment: Environment, services: Mapping[str, str]
) -> Iterator[tuple[str, str]]:
    spec = solve.spec
    yield "format", FORMAT
    yield "engine", environment.engine
    yield "buildx", environment.buildx
    yield "store", environment.store
    yield from ((f"variable {name}", value) for name, value in environment.variables.items())
    if environment.proxies:
        yield "proxies", environment.proxies
    # The file's own name stands in provenance; its folder does not.
    yield "dockerfile", f"{str(solve.dockerfile).rpartition('/')[2]} {observed.dockerfile}"
    yield from ((f"context {name}".rstrip(), digest) for name, digest in observed.contexts.items())
    yield from ((f"base {reference}", digest) for reference, digest in observed.bases.items())
    yield from ((f"service {name}", f"{service} {services.get(service, '')}") for name, service in solve.bases.items())
    yield from ((f"remote context {name}", value) for name, value in observed.remotes.items())
    yield "image", solve.references[0].rpartition(":")[0]
    yield "output", json.dumps(spec.outputs or [solve.output])
    yield "platforms", ",".join(solve.platforms) or environment.platform
    yield "target", spec.target or ""
    yield "network", spec.network or ""
    yield "attestations", f"provenance={spec.attestations.provenance} sbom={spec.attestations.sbom}"
    yield from ((f"label {name}", value) for name, value in spec.labels.items())
    yield from ((f"annotation {name}", value) for name, value in spec.annotations.items())
    yield from ((f"argument {name}", value) for name, value in observed.arguments.items())
    yield from ((f"secret {secret.id}", "") for secret in spec.secrets)
    yield from ((f"ssh {text.partition('=')[0]}", "") for text in spec.ssh)
    if observed.caches:
        yield "caches", observed.caches
    if observed.flags:
        yield "flags", observed.flags


def decide(
    now: Fingerprint,
    last: ServiceRecord | None,
    *,
    never: str = "first build",
    unproven: Sequence[str] = (),
    asked: str = "",
    changes: str = "",
    gone: str = "",
    expired: str = "",
    building: Iterable[str] = (),
) -> Decision:
    """Build or skip: skip only on proof, and any doubt builds and says why.

    Args:
        now: the fingerprint of today's inputs.
        last: the last record that has an image.
        never: why there is no such record.
        unproven: why equal inputs do not promise an equal image.
        asked: why the user wants it built whatever came before.
        changes: what changed since `last`, for people, where the fingerprints differ.
        gone: why the last image is not, or not surely, at its destination any more.
        expired: why the last image is too old.
        building: the services it builds on that are built in this run.
    """
    if last is None:
        return Build(never)
    if asked:
        return Build(asked)
    doubts = _doubts(now, last, unproven=unproven, changes=changes, gone=gone, expired=expired, building=building)
    doubt = next(doubts, None)
    return Skip(last) if doubt is None else Build(doubt)


def _doubts(
    now: Fingerprint,
    last: ServiceRecord,
    *,
    unproven: Sequence[str],
    changes: str,
    gone: str,
    expired: str,
    building: Iterable[str],
) -> Iterator[str]:
    """Why the last image is not proven to be what a build would give, the most telling reason first."""
    if unproven:
        yield f"not provable: {some_of(unproven)}"
    elif built := list(building):
        yield f"a service it builds on is built: {some_of(built)}"
    elif last.fingerprint is None:
        yield "the last build left no fingerprint"
    elif last.fingerprint != now.digest:
        yield f"inputs changed: {changes}"
    if gone:
        yield gone
    if expired:
        yield expired
