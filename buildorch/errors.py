"""The errors buildorch raises: every one names the subject and the fact, and carries the next step.

In: nothing. Out: exception classes. Touches nothing.

    BuildorchError                      exit code
    ├── UsageError                      2   the request cannot be carried out as it was put
    │   ├── ServicesFileError           2   every problem of one services file, each with its place
    │   ├── UnknownService              2
    │   ├── UnknownRun                  2
    │   ├── UnwritableRecord            2
    │   └── NoSuchPlatform              2
    ├── LedgerError                     2   the ledger cannot be opened, read or written
    ├── EngineError                     4   something outside cannot be reached; a retry may help
    │   ├── EngineUnreachable           4
    │   ├── BuildxMissing               4
    │   ├── BuilderNotFound             4
    │   ├── NoSuchImage                 4
    │   └── RegistryError               4
    ├── Busy                            75  another run builds the same, and this one was not to wait for it
    ├── HandoffRefused                  1, 3 or 4   an image is not handed over to a deploy
    ├── BuildFailed                     the run's   raised by `Report.raise_for_status`
    ├── MalformedDocument               4           an engine or a registry gave what its specification forbids
    └── InternalError                   70  a bug in buildorch

A failed build is not an exception: it is a `buildorch.record.Failure` in the service's record.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from buildorch.record import Report, ServiceRecord

EXIT_OK = 0
EXIT_BUILD_FAILED = 1
EXIT_USAGE = 2
EXIT_POLICY = 3
EXIT_UNREACHABLE = 4
EXIT_BUG = 70
EXIT_BUSY = 75
"""EX_TEMPFAIL of sysexits.h: nothing is wrong, try again later."""
EXIT_HANGUP = 129
EXIT_INTERRUPTED = 130
EXIT_TERMINATED = 143


class BuildorchError(Exception):
    """The root of the tree: `str(error)` is one clear message, `hint` the next step (may be empty)."""

    exit_code: ClassVar[int] = EXIT_BUG

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint

    @property
    def told(self) -> str:
        """The message, and behind it the next step in parentheses, where there is one."""
        return f"{self} ({self.hint})" if self.hint else str(self)


class UsageError(BuildorchError):
    """The request cannot be carried out as it was put: a wrong option, name or path."""

    exit_code = EXIT_USAGE


class Problem(NamedTuple):
    """One thing wrong in a services file, at a place people can jump to (lines and columns start at 1)."""

    source: str
    line: int
    column: int
    message: str
    hint: str = ""

    def __str__(self) -> str:
        where = f"{self.source}:{self.line}:{self.column}" if self.line else self.source
        return f"{where}: {self.message}" + (f" ({self.hint})" if self.hint else "")


class ServicesFileError(UsageError):
    """The services file cannot be used; `problems` lists everything found in it, in the file's order."""

    def __init__(self, problems: Iterable[Problem], *, hint: str = "") -> None:
        self.problems = tuple(sorted(set(problems)))
        super().__init__("\n".join(str(problem) for problem in self.problems), hint=hint)


class UnknownService(UsageError):
    """A service was asked for that the services file does not have."""

    def __init__(self, name: str, *, known: Iterable[str]) -> None:
        self.name, self.known = name, tuple(known)
        hint = did_you_mean(name, self.known) or f"the services are: {', '.join(self.known)}"
        super().__init__(f"there is no service {name!r}", hint=hint)


class UnknownRun(UsageError):
    """A run was asked for that the ledger does not have, or that did not come to its end; without a name, the last."""

    def __init__(self, run_id: str | None, *, where: str) -> None:
        self.run_id = run_id
        what = f"no run {run_id!r} that came to its end" if run_id else "no run that came to its end"
        super().__init__(
            f"there is {what} in {where}", hint="`buildorch ledger export` lists them; or name a run record's file"
        )


class UnwritableRecord(UsageError):
    """The run record's path cannot be written; found before any build starts."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(
            f"the run record cannot be written to {path}: {reason}",
            hint="name a writable file with --record FILE",
        )


class LedgerError(BuildorchError):
    """The ledger cannot be opened, read or written."""

    exit_code = EXIT_USAGE


class EngineError(BuildorchError):
    """Something outside buildorch cannot be reached or will not answer; trying again may help."""

    exit_code = EXIT_UNREACHABLE


class EngineUnreachable(EngineError):
    """No Docker engine answers at the endpoint in use."""

    def __init__(self, endpoint: str, reason: str) -> None:
        self.endpoint = endpoint
        super().__init__(
            f"no Docker engine answers at {endpoint}: {reason}",
            hint="start Docker, or set DOCKER_HOST or a docker context; "
            "in buildorch's own repository `scripts/engine up` starts a private one, "
            'and `eval "$(scripts/engine env)"` names it to a shell',
        )


class BuildxMissing(EngineError):
    """There is no docker client, or it has no buildx plugin."""

    def __init__(self, fact: str) -> None:
        super().__init__(fact, hint="install Docker's client with its buildx plugin (docker-buildx)")


class BuilderNotFound(EngineError):
    """The buildx builder that was asked for does not exist."""

    def __init__(self, name: str, *, known: Iterable[str]) -> None:
        self.name, self.known = name, tuple(known)
        super().__init__(
            f"there is no builder {name!r} (there are: {', '.join(self.known) or 'none'})",
            hint=f"create it with `docker buildx create --name {name}`, or pass another --builder",
        )


class RegistryError(EngineError):
    """A registry refused, failed, or does not hold what was asked for."""

    def __init__(
        self, message: str, *, hint: str = "", transient: bool = False, missing: bool = False, after_s: float = 0.0
    ) -> None:
        super().__init__(message, hint=hint)
        self.transient = transient
        """Whether the same question may be answered if it is asked again."""
        self.missing = missing
        """Whether it does not hold what was asked for."""
        self.after_s = after_s
        """How long the registry wants to be left alone first, in seconds: its Retry-After; 0 where it does not say."""


class Busy(BuildorchError):
    """Another run builds a service that was to be built, and this one was not to wait for it."""

    exit_code = EXIT_BUSY

    def __init__(self, service: str, *, holder: str) -> None:
        self.service = service
        super().__init__(
            f"{service} is being built by {holder}, so nothing was built",
            hint="try again later, or leave --no-wait out to wait for it",
        )


class HandoffRefused(BuildorchError):
    """Images are not handed over to a deploy; `facts` says of each service why."""

    def __init__(self, facts: Mapping[str, str], *, hint: str, exit_code: int) -> None:
        self.facts = dict(facts)
        self.exit_code = exit_code  # type: ignore[misc]  # what is wrong decides, not the class
        super().__init__("\n".join(f"{name}: {fact}" for name, fact in self.facts.items()), hint=hint)


class BuildFailed(BuildorchError):
    """A run did not end with exit code 0; `report` is its record."""

    def __init__(self, report: Report) -> None:
        self.report = report
        self.exit_code = report.exit_code  # type: ignore[misc]  # the run's own, not the class's
        bad = [name for name, record in report.services.items() if record.error or not _clean(record)]
        super().__init__(f"the run {report.run_id} exited with {report.exit_code}: {', '.join(bad)}")


def _clean(record: ServiceRecord) -> bool:
    return all(finding.severity != "error" for finding in record.findings)


class NoSuchImage(EngineError):
    """Neither the engine nor the registry of its name has an image."""


class NoSuchPlatform(UsageError):
    """An image has no manifest for a platform."""


class MalformedDocument(EngineError):
    """A document breaks its specification: an OCI index, manifest or config, or an engine's answer."""

    def __init__(self, kind: str, fact: str) -> None:
        super().__init__(f"malformed {kind}: {fact}")
        self.fact = fact


class InternalError(BuildorchError):
    """A state buildorch holds to be impossible: a bug in buildorch."""


def first_own(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    """The error to show for a group: the first of buildorch's own, then an interrupt, then whatever is alone in it."""
    found: BaseException = errors.subgroup(BuildorchError) or errors.subgroup(KeyboardInterrupt) or errors
    alone = found is errors
    while isinstance(found, BaseExceptionGroup):
        if alone and len(found.exceptions) > 1:
            return errors
        found = found.exceptions[0]
    return found


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A suggestion for a mistyped word, or an empty string where nothing is near."""
    import difflib  # noqa: PLC0415 - only for those who mistype

    near = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f"did you mean {near[0]!r}?" if near else ""
