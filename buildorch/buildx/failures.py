"""What a failed build says -> a classified `Failure`.

In: the text and vertexes of a build's progress, and its exit code. Out: `Failure`. Touches nothing.

The error of the vertex that failed counts before the text buildx prints last. `TREATMENTS` is all there is to know
about a kind: how it is told, whether it is tried again, what the run exits with, what people are told to do. Patterns
are BuildKit 0.20 to 0.26 and buildx 0.17 to 0.29; what none of them matches is `other`, with the text as it was.
"""

from __future__ import annotations

import dataclasses
import re
from types import MappingProxyType
from typing import TYPE_CHECKING

from buildorch.errors import EXIT_BUILD_FAILED, EXIT_UNREACHABLE
from buildorch.record import Failure, FailureKind
from buildorch.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Mapping

    from buildorch.buildx.progress import Progress


@dataclass(frozen=True, slots=True, kw_only=True)
class Treatment:
    """How one kind of failure is recognised, and what comes of it."""

    patterns: tuple[str, ...] = ()
    """Regular expressions, any of which tells it; none where it is not told by a build's text."""
    transient: bool = False
    """Whether the same build is tried again, as often as `retries` allows."""
    exit_code: int = EXIT_BUILD_FAILED
    """What the run exits with for it alone."""
    hint: str = ""
    """The next step, where the failure itself does not know a better one."""


# The first that matches counts: races say "not found" too, registries cut connections as engines do, and what stands
# in quotes is the user's own text, which may say anything.
TREATMENTS: Mapping[FailureKind, Treatment] = MappingProxyType(
    {
        FailureKind.STEP_FAILED: Treatment(
            hint="the step's last lines are above; --progress plain shows all of them",
        ),
        FailureKind.OUT_OF_MEMORY: Treatment(
            hint="the kernel killed the step: give the engine more memory, or build fewer at once (-j)",
        ),
        FailureKind.INPUT_MISSING: Treatment(
            patterns=(
                r"failed to calculate checksum of ref \S+: \".*\": not found",
                r"failed to read dockerfile: open .*no such file",
                r"target stage .* could not be found",
                r"unable to prepare context",
                r"failed to get build context",
                r"resolve : lstat .*no such file",
                r"failed to stat .*no such file",
                r"secret [^:\n]*: not found",
                r"unset ssh forward key",
                r"failed to convert agent config",
            ),
            hint="check the path in the Dockerfile, the context and its .dockerignore",
        ),
        FailureKind.ENGINE_RACE: Treatment(
            patterns=(
                r"inconsistent graph state",
                r"lease \S* ?(?:not found|does not exist)",
                r"parent snapshot \S+ does not exist",
                r"failed to prepare extraction snapshot",
            ),
            transient=True,
            hint="a known race in the engine, gone on a second try; run the same command again",
        ),
        FailureKind.NO_SPACE: Treatment(
            patterns=(r"no space left on device", r"ENOSPC", r"disk quota exceeded", r"507 Insufficient Storage"),
            hint="free the disk that the message names, the engine's with `buildorch cache prune`; where that fails or "
            "frees nothing, restart the engine: it can hold on to what it had no space for",
        ),
        FailureKind.RATE_LIMITED: Treatment(
            patterns=(r"429 Too Many Requests", r"toomanyrequests", r"rate limit", r"invalid response status 429"),
            transient=True,
            exit_code=EXIT_UNREACHABLE,
            hint="wait, or log in: registries limit anonymous pulls",
        ),
        FailureKind.AUTH: Treatment(
            patterns=(
                r"401 Unauthorized",
                r"403 Forbidden",
                r"invalid response status 40[13]",
                r"authorization failed",
                r"insufficient_scope",
                r"authentication required",
                r"(?:pull )?access denied",
                r"authorization status: 40[13]",
                r"failed to fetch \w+ token: .*: 4(?!29)\d\d ",
                r"no basic auth credentials",
                r"Authentication failed for",
                r"could not read Username",
                r"Permission denied \(publickey",
            ),
            hint="log in with `docker login`, and check that the account may read and write there",
        ),
        FailureKind.BUILDER_MISSING: Treatment(
            patterns=(r"no builder \"[^\"]*\" found",),
            exit_code=EXIT_UNREACHABLE,
            hint="list the builders with `docker buildx ls`",
        ),
        FailureKind.ENGINE_LOST: Treatment(
            patterns=(
                r"Cannot connect to the Docker daemon",
                r"code = Unavailable",
                r"connection error: desc",
                r"error reading from server: EOF",
                r"failed to (?:dial|list workers)",
                r"closing transport",
                r"(?:read|write) unix .*(?:broken pipe|connection reset by peer|EOF)",
            ),
            exit_code=EXIT_UNREACHABLE,
            hint="the engine went away during the build; start it again and run the same command",
        ),
        FailureKind.ENGINE_FROZEN: Treatment(
            exit_code=EXIT_UNREACHABLE,
            hint="look at the engine: `docker version` must answer; restart it, and run the same command again",
        ),
        # Not transient: containerd keeps what it downloaded, and meets it again without asking (seen with 28.5).
        FailureKind.DAMAGED: Treatment(
            patterns=(r"unexpected commit (?:digest|size)",),
            exit_code=EXIT_UNREACHABLE,
            hint="look at what stands between the engine and the registry; the engine keeps the damaged download for a "
            "while, and tells the same until it has dropped it",
        ),
        FailureKind.REGISTRY: Treatment(
            patterns=(
                r"unexpected status(?: from \w+ request to \S+)?: 5\d\d",
                r"invalid response status 5\d\d",
                r"failed to do request",
                r"connection refused",
                r"connection reset by peer",
                r"broken pipe",
                r"i/o timeout",
                r"TLS handshake timeout",
                r"no such host",
                r"server misbehaving",
                r"unexpected EOF",
                r": EOF\s*$",
                r"transport connection broken",
                r"unable to decode token response",
                r"Failed to connect to",
                r"Could not resolve host",
            ),
            transient=True,
            exit_code=EXIT_UNREACHABLE,
            hint="the registry did not answer properly; trying again may help",
        ),
        FailureKind.NOT_FOUND: Treatment(
            patterns=(
                r"failed to resolve source metadata for .*: not found",
                r"manifest unknown",
                r": not found\s*$",
                r"404 Not Found",
                r"invalid response status 404",
                r"repository does not exist",
                r"no match for platform in manifest",
            ),
            hint="check the image's name and tag, and that this network reaches its registry",
        ),
        FailureKind.INTERNAL: Treatment(
            patterns=(r"code = Internal", r"failed to solve: Internal:", r"panic: ", r"goroutine \d+ \["),
            hint="a bug in BuildKit or buildx, by its own words: look for the message among their issues",
        ),
        FailureKind.CANCELLED: Treatment(
            patterns=(r"context canceled", r"code = Canceled"),
            hint="run the same command again",
        ),
        FailureKind.TIMED_OUT: Treatment(
            hint="raise `timeout` in the services file, or find the slow step in the record",
        ),
        FailureKind.BLOCKED: Treatment(hint="see the error of the service that it builds on"),
        FailureKind.UNMEASURED: Treatment(
            exit_code=EXIT_UNREACHABLE,
            hint="run it again; the build itself is cached",
        ),
        FailureKind.UNPUBLISHED: Treatment(
            exit_code=EXIT_UNREACHABLE,
            hint="run it again: it is named then, and not built",
        ),
        FailureKind.CONTEXT_CHANGED: Treatment(
            transient=True,
            hint="leave the files alone while they are built, or let .dockerignore leave them out",
        ),
        FailureKind.OTHER: Treatment(
            hint="the message is docker buildx's own: it names what it refuses, in the Dockerfile or the services file",
        ),
    }
)
_COMPILED = {
    kind: re.compile("|".join(treatment.patterns), re.MULTILINE | re.IGNORECASE)
    for kind, treatment in TREATMENTS.items()
    if treatment.patterns
}
# Greedy: the command may hold anything, these words too.
_STEP = re.compile(
    r"(?:failed to build: )?(?:failed to solve: )?process \".*\" did not complete successfully: (?P<why>.*)", re.DOTALL
)
_EXIT_CODE = re.compile(r"exit code: (\d+)")
_KILLED = 137
_INTERNAL_EXIT = 100
"""What buildx exits with for gRPC's Internal (docker/buildx, cmd/buildx/main.go)."""


def failure(kind: FailureKind, message: str) -> Failure:
    """A failure that is treated as its kind is."""
    treatment = TREATMENTS[kind]
    return Failure(
        kind=kind,
        message=message,
        hint=treatment.hint,
        exit_code=treatment.exit_code,
        transient=treatment.transient,
    )


def classify(progress: Progress, exit_code: int) -> Failure:
    """Why a build that exited with `exit_code` has no image."""
    vertex, text = progress.failed, progress.message
    own = vertex.error if vertex else ""
    unknown = FailureKind.INTERNAL if exit_code == _INTERNAL_EXIT else FailureKind.OTHER
    found = [kind for kind in (_kind(own), _kind(text)) if kind]
    # A vertex is cancelled for many a reason: what buildx says last tells it.
    kind = next((kind for kind in found if kind is not FailureKind.CANCELLED), found[0] if found else unknown)
    file, line = progress.excerpt or ("", None)
    return dataclasses.replace(
        failure(kind, _fact(own or text, exit_code)),
        stage=vertex.stage if vertex else "",
        step=vertex.name[:2000] if vertex else "",
        dockerfile=file,
        line=line,
        log=tuple(vertex.tail) if vertex else (),
    )


def _kind(text: str) -> FailureKind | None:
    if step := _STEP.match(text):
        return _step_kind(step["why"])
    return next((kind for kind, pattern in _COMPILED.items() if pattern.search(text)), None)


def _step_kind(why: str) -> FailureKind:
    """A step failed by itself, but where the engine had no room or memory for it, went away, or was told to stop."""
    if _COMPILED[FailureKind.CANCELLED].search(why):
        return FailureKind.CANCELLED  # a step that is stopped is killed, with 137
    if match := _EXIT_CODE.match(why):
        return FailureKind.OUT_OF_MEMORY if int(match[1]) == _KILLED else FailureKind.STEP_FAILED
    outer = (FailureKind.NO_SPACE, FailureKind.ENGINE_LOST)
    return next((kind for kind in outer if _COMPILED[kind].search(why)), FailureKind.STEP_FAILED)


def _fact(text: str, exit_code: int) -> str:
    if (step := _STEP.match(text)) and (match := _EXIT_CODE.fullmatch(step["why"].strip())):
        return f"the step exited with {match[1]}"
    first = (
        text.strip().splitlines()[0]
        if text.strip()
        else f"docker buildx build exited with {exit_code} and said nothing"
    )
    return first.removeprefix("failed to build: ").removeprefix("failed to solve: ")[:2000]
