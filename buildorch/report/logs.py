"""Events -> log entries, by structlog.

In: events. Out: log entries `noun.verb_past` with keys. Touches: the logger it is given.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from buildorch.events import (
    Event,
    LeaseAwaited,
    RunFinished,
    RunStarted,
    ServiceFinished,
    SolveRetried,
    SolveStarted,
    StepWarned,
)

if TYPE_CHECKING:
    from collections.abc import Callable


class LogView:
    """Logs what a run does; the logger is asked for with the first entry that is wanted."""

    def __init__(self, logger: Callable[[], Any], *, verbose: bool) -> None:
        self._make, self._verbose = logger, verbose
        self._logger: Any = None

    def update(self, event: Event) -> None:
        """Log the event where it is worth an entry."""
        match event:
            case LeaseAwaited():
                self._info("lease.awaited", service=event.service, holder=event.holder_text)
            case RunStarted():
                self._info("run.started", run_id=event.run_id, services=list(event.services), jobs=event.jobs)
            case SolveStarted():
                self._info("solve.started", service=event.service, attempt=event.attempt, reason=event.reason)
            case SolveRetried():
                self._warning(
                    "solve.retried",
                    service=event.service,
                    kind=str(event.failure.kind),
                    message=event.failure.message,
                )
            case StepWarned():
                self._info("step.warned", service=event.service, message=event.message, line=event.line)
            case ServiceFinished():
                record = event.record
                keys = {"service": event.service, "status": record.status, "digest": record.digest}
                if record.error:
                    keys |= {"kind": str(record.error.kind), "message": record.error.message}
                self._info("service.finished", **keys, duration_s=record.duration_s)
            case RunFinished():
                self._info("run.finished", exit_code=event.report.exit_code, duration_s=event.report.duration_s)
            case _:
                pass

    def _info(self, name: str, **keys: object) -> None:
        if self._verbose:
            self._log().info(name, **keys)

    def _warning(self, name: str, **keys: object) -> None:
        self._log().warning(name, **keys)

    def _log(self) -> Any:  # noqa: ANN401 - structlog's proxies are untyped until bound
        if self._logger is None:
            self._logger = self._make()
        return self._logger
