"""A `Solve` -> the arguments and environment of its `docker buildx build`.

In: a solve, the aliases its folders go under, the images of the services it builds on. Out: an argument list.
Touches nothing.

Values stand behind `=` and the context behind `--`, so that nothing a services file says is read as another flag.
Flags as documented for buildx 0.17 and later (`docker buildx build --help`).
"""

from __future__ import annotations

import csv
import io
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from buildorch.plan import Solve

DEFAULTS = {
    # A build's client needs far less memory than this: without collecting garbage it takes 125 ms of CPU, not 155.
    "GOGC": "off",
    "GOMEMLIMIT": "256MiB",
}
"""For the client's own runtime (https://pkg.go.dev/runtime, Environment Variables), where the user says nothing."""
CROWDED = {
    **DEFAULTS,
    # Go's idle threads look for work, and take a tenth of a client's CPU time while other clients wait for the CPU.
    "GOMAXPROCS": "1",
}
"""The same where there are as many clients as CPUs."""
ENVIRONMENT = {
    # Provenance in the metadata file lists build arguments with their values (docker/buildx, build reference).
    "BUILDX_METADATA_PROVENANCE": "disabled",
    "DOCKER_CLI_HINTS": "false",
}


def runtime(*, at_once: int, cpus: int) -> Mapping[str, str]:
    """Variables for the client's own runtime, where the user says nothing.

    Args:
        at_once: how many clients run at once.
        cpus: how many CPUs this machine has for them.
    """
    return DEFAULTS if at_once < cpus else CROWDED


def environment(solve: Solve) -> dict[str, str]:
    """Variables to add to the environment of the solve's process."""
    attested = solve.spec.attestations
    if attested.provenance == "false" and not attested.sbom:
        # Only attestations hold what git says; without them two git processes a build are saved.
        return {**ENVIRONMENT, "BUILDX_GIT_INFO": "false"}
    return dict(ENVIRONMENT)


def arguments(
    solve: Solve, *, metadata_file: Path, aliases: Mapping[Path, Path], bases: Mapping[str, str], staged: bool = False
) -> list[str]:
    """Everything behind `docker buildx`.

    Args:
        solve: what to build.
        metadata_file: where buildx writes what came out.
        aliases: folder -> the path it is handed over under (facts: BuildKit mirrors a folder by its path's last part).
        bases: named context -> the reference of the service's image that it stands for.
        staged: whether it is pushed under its staging name alone, and nothing of it stays in the engine.
    """
    return [
        "build",
        *_flags(solve, metadata_file, aliases, bases, staged=staged),
        "--",
        _folder(solve.context, aliases),
    ]


def _flags(
    solve: Solve, metadata_file: Path, aliases: Mapping[Path, Path], bases: Mapping[str, str], *, staged: bool
) -> Iterator[str]:
    spec = solve.spec
    yield "--progress=rawjson"
    yield f"--metadata-file={metadata_file}"
    yield f"--file={_dockerfile(solve, aliases)}"
    yield from _destination(solve, staged=staged)
    if solve.builder:
        yield f"--builder={solve.builder}"
    if solve.platforms:
        yield f"--platform={','.join(solve.platforms)}"
    if spec.target:
        yield f"--target={spec.target}"
    if spec.network:
        yield f"--network={spec.network}"
    if solve.no_cache:
        yield "--no-cache"
    yield from (f"--no-cache-filter={stage}" for stage in spec.no_cache_filter)
    yield from (
        f"--build-arg={key}" if value is None else f"--build-arg={key}={value}" for key, value in spec.args.items()
    )
    yield from (f"--build-context={name}={_folder(context, aliases)}" for name, context in solve.contexts.items())
    yield from (f"--build-context={name}=docker-image://{reference}" for name, reference in bases.items())
    yield from (f"--build-context={name}={reference}" for name, reference in solve.pins.items())
    if solve.frontend:
        yield f"--build-arg=BUILDKIT_SYNTAX={solve.frontend}"
    yield from (f"--secret={_secret(secret.id, secret.file, secret.env, solve.root)}" for secret in spec.secrets)
    yield from (f"--ssh={key}" for key in spec.ssh)
    if solve.cache_import:
        yield from (f"--cache-from={source}" for source in spec.cache_from)
    yield from (f"--cache-to={sink}" for sink in spec.cache_to)
    yield from (f"--label={key}={value}" for key, value in spec.labels.items())
    yield from (f"--annotation={key}={value}" for key, value in spec.annotations.items())
    yield (
        "--provenance=false"
        if spec.attestations.provenance == "false"
        else f"--provenance=mode={spec.attestations.provenance}"
    )
    if spec.attestations.sbom:
        yield "--sbom=true"
    yield from spec.buildx


def _destination(solve: Solve, *, staged: bool) -> Iterator[str]:
    yield from (f"--tag={reference}" for reference in ((solve.staging,) if staged else solve.references))
    for output in solve.spec.outputs:
        yield f"--output={output},store=false" if staged and "store=" not in output else f"--output={output}"
    if not solve.spec.outputs:
        yield "--output=type=image,push=true,store=false" if staged else f"--{solve.output}"


def _dockerfile(solve: Solve, aliases: Mapping[Path, Path]) -> str:
    if isinstance(solve.context, Path):
        path = Path(solve.dockerfile)
        return str(aliases[path.parent] / path.name)
    return str(PurePosixPath(solve.dockerfile))


def _folder(context: Path | str, aliases: Mapping[Path, Path]) -> str:
    return str(aliases[context]) if isinstance(context, Path) else context


def _secret(secret_id: str, file: str | None, env: str | None, root: Path) -> str:
    fields = [f"id={secret_id}"]
    if file:
        fields.append(f"src={root / file}")
    if env:
        fields.append(f"env={env}")
    text = io.StringIO()
    csv.writer(text, lineterminator="").writerow(fields)
    return text.getvalue()
