"""What a failed build says -> a classified `Failure`.

In: the text and vertexes of a build's progress, and its exit code. Out: `Failure`. Touches nothing.

The vertex's own error counts before the text buildx prints last. Patterns are BuildKit 0.20 to 0.26 and buildx 0.17 to
0.29; what none of them matches is `other`, with the text as it was.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from buildorch.errors import EXIT_BUILD_FAILED, EXIT_UNREACHABLE
from buildorch.record import Failure, FailureKind

if TYPE_CHECKING:
    from buildorch.buildx.progress import Progress

# Order matters: the engine's races say "not found" too, and a push can be refused for many reasons.
_PATTERNS: dict[FailureKind, tuple[str, ...]] = {
    FailureKind.ENGINE_RACE: (
        r"inconsistent graph state",
        r"lease \S* ?(?:not found|does not exist)",
        r"parent snapshot \S+ does not exist",
        r"failed to prepare extraction snapshot",
    ),
    FailureKind.ENGINE_LOST: (
        r"Cannot connect to the Docker daemon",
        r"code = Unavailable",
        r"connection error: desc",
        r"error reading from server: EOF",
        r"failed to (?:dial|list workers)",
        r"closing transport",
        r"broken pipe",
    ),
    FailureKind.BUILDER_MISSING: (r"no builder \"[^\"]*\" found",),
    FailureKind.NO_SPACE: (r"no space left on device", r"ENOSPC", r"disk quota exceeded"),
    FailureKind.RATE_LIMITED: (r"429 Too Many Requests", r"toomanyrequests", r"rate limit"),
    FailureKind.AUTH: (
        r"401 Unauthorized",
        r"403 Forbidden",
        r"authorization failed",
        r"insufficient_scope",
        r"authentication required",
        r"(?:pull )?access denied",
        r"failed to authorize",
    ),
    FailureKind.INPUT_MISSING: (
        r"failed to calculate checksum of ref .*: not found",
        r"failed to compute cache key",
        r"failed to read dockerfile",
        r"open Dockerfile.*no such file",
        r"target stage .* could not be found",
        r"unable to prepare context",
    ),
    FailureKind.REGISTRY: (
        r"unexpected status(?: from \w+ request to \S+)?: 5\d\d",
        r"connection refused",
        r"connection reset by peer",
        r"i/o timeout",
        r"TLS handshake timeout",
        r"no such host",
        r"server misbehaving",
        r"failed to do request",
        r"unexpected EOF",
    ),
    FailureKind.NOT_FOUND: (
        r"failed to resolve source metadata for .*: not found",
        r"manifest unknown",
        r": not found\s*$",
        r"repository does not exist",
    ),
}
_COMPILED = {kind: re.compile("|".join(patterns), re.MULTILINE | re.IGNORECASE) for kind, patterns in _PATTERNS.items()}
_EXIT_CODE = re.compile(r"did not complete successfully: exit code: (\d+)")
_TRANSIENT = {FailureKind.ENGINE_RACE, FailureKind.REGISTRY, FailureKind.RATE_LIMITED}
_UNREACHABLE = {
    FailureKind.ENGINE_LOST,
    FailureKind.BUILDER_MISSING,
    FailureKind.REGISTRY,
    FailureKind.RATE_LIMITED,
}
_HINTS = {
    FailureKind.STEP_FAILED: "the step's last lines are above; --progress plain shows all of them",
    FailureKind.OUT_OF_MEMORY: "the kernel killed the step: give the engine more memory, or build fewer at once (-j)",
    FailureKind.NO_SPACE: "free the engine's disk, for example with `docker buildx prune`",
    FailureKind.INPUT_MISSING: "check the path in the Dockerfile, the context and its .dockerignore",
    FailureKind.AUTH: "log in with `docker login`, and check that the account may read and write there",
    FailureKind.NOT_FOUND: "check the image's name and tag, and that this network reaches its registry",
    FailureKind.RATE_LIMITED: "wait, or log in: registries limit anonymous pulls",
    FailureKind.REGISTRY: "the registry did not answer properly; trying again may help",
    FailureKind.ENGINE_LOST: "the engine went away during the build; start it again and run the same command",
    FailureKind.ENGINE_RACE: "a known race in the engine, gone on a second try; run the same command again",
    FailureKind.BUILDER_MISSING: "list the builders with `docker buildx ls`",
}


def classify(progress: Progress, exit_code: int) -> Failure:
    """Why a build that exited with `exit_code` has no image."""
    vertex, text = progress.failed, progress.message
    own = vertex.error if vertex else ""
    kind = _kind(own) or _kind(text) or FailureKind.OTHER
    file, line = progress.excerpt or ("", None)
    fact = _fact(own or text, exit_code)
    return Failure(
        kind=kind,
        message=fact,
        hint=_HINTS.get(kind, ""),
        exit_code=EXIT_UNREACHABLE if kind in _UNREACHABLE else EXIT_BUILD_FAILED,
        transient=kind in _TRANSIENT,
        stage=vertex.stage if vertex else "",
        step=vertex.name[:2000] if vertex else "",
        dockerfile=file,
        line=line,
        log=tuple(vertex.tail) if vertex else (),
    )


def _kind(text: str) -> FailureKind | None:
    if match := _EXIT_CODE.search(text):
        return FailureKind.OUT_OF_MEMORY if match[1] == "137" else FailureKind.STEP_FAILED
    return next((kind for kind, pattern in _COMPILED.items() if pattern.search(text)), None)


def _fact(text: str, exit_code: int) -> str:
    if match := _EXIT_CODE.search(text):
        return f"the step exited with {match[1]}"
    first = (
        text.strip().splitlines()[0]
        if text.strip()
        else f"docker buildx build exited with {exit_code} and said nothing"
    )
    return first.removeprefix("failed to build: ").removeprefix("failed to solve: ")[:2000]
