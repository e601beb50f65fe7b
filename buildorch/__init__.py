"""buildorch: many container images with BuildKit at once, measured and recorded.

    import buildorch

    report = buildorch.build()                              # services.yaml here, every service
    report = buildorch.build("services.yaml", services=("backend",), output="push")
    report = await buildorch.build_async()                  # the same, on asyncio or trio

    async with buildorch.stream(buildorch.BuildRequest()) as events:
        async for event in events:                          # the last one is RunFinished
            ...

Public names are loaded where they are first used: `import buildorch` alone costs a few milliseconds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from buildorch.api import build, build_async, check, images, make_plan
    from buildorch.errors import BuildFailed, BuildorchError, EngineError, ServicesFileError, UsageError
    from buildorch.events import Event, RunFinished, ServiceFinished
    from buildorch.execute import Stop
    from buildorch.handoff.pinned import PinnedImage
    from buildorch.pipeline import BuildRequest, stream
    from buildorch.plan import Plan
    from buildorch.policy import Subject
    from buildorch.record import Failure, Finding, Report, ServiceRecord
    from buildorch.replaying import replay

__version__ = "0.1.0"

_HOMES = {
    "BuildFailed": "errors",
    "BuildRequest": "pipeline",
    "BuildorchError": "errors",
    "EngineError": "errors",
    "Event": "events",
    "Failure": "record",
    "Finding": "record",
    "Report": "record",
    "RunFinished": "events",
    "ServiceFinished": "events",
    "ServiceRecord": "record",
    "ServicesFileError": "errors",
    "Stop": "execute",
    "Subject": "policy",
    "UsageError": "errors",
    "build": "api",
    "build_async": "api",
    "check": "api",
    "images": "api",
    "make_plan": "api",
    "Plan": "plan",
    "PinnedImage": "handoff.pinned",
    "replay": "replaying",
    "stream": "pipeline",
}

__all__ = [
    "BuildFailed",
    "BuildRequest",
    "BuildorchError",
    "EngineError",
    "Event",
    "Failure",
    "Finding",
    "PinnedImage",
    "Plan",
    "Report",
    "RunFinished",
    "ServiceFinished",
    "ServiceRecord",
    "ServicesFileError",
    "Stop",
    "Subject",
    "UsageError",
    "__version__",
    "build",
    "build_async",
    "check",
    "images",
    "make_plan",
    "replay",
    "stream",
]


if not TYPE_CHECKING:  # a type checker would take every name for one that is there

    def __getattr__(name: str) -> object:
        from buildorch.lazy import names_of  # noqa: PLC0415 - and this too

        return names_of(__name__, _HOMES)(name)


def __dir__() -> list[str]:
    return sorted(__all__)
