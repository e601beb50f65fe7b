"""Fakes and makers for tests of programs that use buildorch; the suite checks each against the real thing.

In: what a test wants. Out: values and a `FakeSolver`. Touches nothing.
"""

from __future__ import annotations

import hashlib
from dataclasses import field
from pathlib import Path
from typing import TYPE_CHECKING

import anyio

from buildorch.events import StepFinished, StepStarted, now
from buildorch.measure import ImageFacts
from buildorch.plan import Plan, Selection, resolve
from buildorch.record import EngineFacts, Failure, FailureKind, Layer, PlatformRecord, ServiceRecord, Solved, Steps
from buildorch.services import parse
from buildorch.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from anyio.abc import ObjectSendStream

    from buildorch.events import Event
    from buildorch.plan import Solve


def make_digest(seed: str) -> str:
    """A digest that is the same for the same seed."""
    return f"sha256:{hashlib.sha256(seed.encode()).hexdigest()}"


def make_plan(graph: Mapping[str, Iterable[str]], *, root: Path = Path("/project"), keys: str = "") -> Plan:
    """A plan of services that build on each other: `{"app": ["base"], "base": []}`.

    Args:
        graph: service -> the services it builds on.
        root: where the services file would be.
        keys: YAML put under `defaults`, such as `retries: 0`.
    """
    lines = ["version: 1", "project: test", f"defaults: {{{keys}}}", "services:"]
    for name, bases in graph.items():
        contexts = ", ".join(f"{base}-image: service:{base}" for base in bases)
        lines.append(f"  {name}: {{contexts: {{{contexts}}}}}")
    return resolve(parse("\n".join(lines), "services.yaml"), Selection(), root=root)


def make_failure(kind: FailureKind = FailureKind.STEP_FAILED, *, transient: bool = False) -> Failure:
    """A failure of some kind."""
    return Failure(kind=kind, message=f"made up: {kind}", transient=transient)


def make_platform(
    *, unpacked: Iterable[int] = (1000,), compressed: Iterable[int] = (400,), user: str = "1000"
) -> PlatformRecord:
    """One platform's record with layers of these sizes, in bytes; manifest and config weigh nothing here."""
    sizes = list(zip(unpacked, compressed, strict=True))
    layers = tuple(
        Layer(
            digest=make_digest(f"layer {at}"), compressed_bytes=small, unpacked_bytes=large, created_by=f"COPY {at} /"
        )
        for at, (large, small) in enumerate(sizes)
    )
    return PlatformRecord(
        manifest_digest=make_digest("manifest"),
        config_digest=make_digest("config"),
        compressed_bytes=sum(small for _, small in sizes),
        unpacked_bytes=sum(large for large, _ in sizes),
        user=user,
        layers=layers,
    )


def make_facts(platform: PlatformRecord | None = None) -> ImageFacts:
    """An image of one platform, linux/amd64."""
    return ImageFacts(make_digest("manifest"), None, {"linux/amd64": platform or make_platform()}, ())


def make_record(status: str = "built", *, error: Failure | None = None, digest: str | None = None) -> ServiceRecord:
    """A service's record."""
    return ServiceRecord(
        status=status,  # type: ignore[arg-type]  # tests pass the literals
        reason="first build",
        reference="test/app:latest",
        references=("test/app:latest",),
        digest=digest,
        platforms={"linux/amd64": make_platform()} if digest else {},
        error=error,
    )


def make_engine_facts() -> EngineFacts:
    """An engine's facts."""
    return EngineFacts(
        version="28.0.0", buildx="0.29.1", store="containerd", endpoint="unix:///run/docker.sock", cpus=2
    )


@dataclass()
class FakeSolver:
    """A `buildorch.execute.Solver` that builds nothing: every solve takes `seconds` and ends as it is told.

    `outcomes` maps a service to what its attempts give, one after another; the last one repeats. A service without an
    entry succeeds.
    """

    outcomes: Mapping[str, Iterable[Solved | Failure]] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)
    started: list[str] = field(default_factory=list)
    """Services in the order their attempts started."""
    cancelled: list[str] = field(default_factory=list)
    running: int = 0
    most_running: int = 0

    async def solve(
        self, solve: Solve, bases: Mapping[str, Solved], events: ObjectSendStream[Event]
    ) -> Solved | Failure:
        """Pretend to build; raises KeyError where a base is missing, as a scheduler must never let happen."""
        for base in solve.depends_on:
            bases[base]
        attempt = self.started.count(solve.name)
        self.started.append(solve.name)
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        try:
            vertex, name = make_digest(solve.name), "[1/1] COPY . /"
            await events.send(StepStarted(service=solve.name, vertex=vertex, name=name, step=True, index=1, total=1))
            await anyio.sleep(self.seconds.get(solve.name, 0))
            await events.send(
                StepFinished(
                    service=solve.name,
                    vertex=vertex,
                    name=name,
                    step=True,
                    cached=False,
                    started_at=now(),
                    duration_s=0.0,
                )
            )
        except BaseException:
            self.cancelled.append(solve.name)
            raise
        finally:
            self.running -= 1
        told = list(self.outcomes.get(solve.name, ()))
        if told:
            return told[min(attempt, len(told) - 1)]
        digest = make_digest(f"image of {solve.name}")
        return Solved(name=solve.references[0], digest=digest, pinned=True, steps=Steps(total=1, executed=1))
