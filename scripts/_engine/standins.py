"""The stand-ins for the hub's base images: whether they are needed, whether they are current, and building them.

They live in the registry on the loopback address that the engine has as its mirror of the hub, where
`FROM python:3.13-slim` finds them. A label tells a stand-in from an image that somebody else put there. Beside its own
tag each has a second one, named after what it was made from, which tells a current one from an old one.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import http
import json
import os
import re
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING

from . import rootfs
from .mirror import Mirror
from .packages import output, which
from .places import EngineError, say

if TYPE_CHECKING:
    from collections.abc import Iterator

HUB = "https://registry-1.docker.io/v2/"
HUB_TIMEOUT_S = 3.0
REPOSITORY = rootfs.BASES.parents[1]
PYTHON = REPOSITORY / ".venv" / "bin" / "python"
SERVICES_FILE = rootfs.BASES / "services.yaml"
RECORD = REPOSITORY / ".buildorch" / "bases.json"
TAGS = {"library/debian": "trixie-slim", "library/python": "3.13-slim", "library/node": "20-alpine"}
EXIT_BUILD_FAILED = 1
LABEL = "io.buildorch.stand-in"
MADE_FROM = "made-from-"


def provide() -> None:
    """See that base images can be had: from the hub, or else from stand-ins in the engine's mirror.

    Raises:
        EngineError: the stand-ins were needed, could have been built, and were not.
    """
    address = loopback_mirror()
    mirror = Mirror(address) if address else None
    if mirror:
        os.environ.setdefault("BUILDORCH_LOCAL_REGISTRY", address)
    if hub_answers():
        if mirror:
            _forget(mirror)
    elif mirror:
        _see_to(mirror)
    else:
        say("warning: no hub answers, and the engine has no mirror on a loopback address to put stand-ins into")


def _see_to(mirror: Mirror) -> None:
    """Build the stand-ins unless the mirror has what is needed."""
    with _one_at_a_time():
        try:
            made_from = MADE_FROM + inputs_digest()[:16]
        except EngineError as error:
            say(f"warning: no hub answers, and no stand-ins can be made here: {error}")
            return
        states = {repository: _state(mirror, repository, made_from) for repository in TAGS}
        if set(states.values()) <= {"current", "another's"}:
            return
        if "another's" in states.values():
            say(f"warning: no hub answers; {mirror.address} is left as it is, not all in it are stand-ins: {states}")
            return
        _build(mirror, made_from)


def _state(mirror: Mirror, repository: str, made_from: str) -> str:
    """What the mirror has for a base image: nothing, an image that is another's, a stand-in that is old or current."""
    digest = mirror.digest(repository, TAGS[repository])
    if not digest:
        return "missing"
    if digest == mirror.digest(repository, made_from):
        return "current"
    return "old" if LABEL in mirror.labels(repository, digest) else "another's"


def hub_answers() -> bool:
    """Whether Docker's hub answers within HUB_TIMEOUT_S. In a thread, because no timeout bounds the name's look-up."""
    answers: list[bool] = []

    def ask() -> None:
        try:
            urllib.request.urlopen(HUB, timeout=HUB_TIMEOUT_S).close()
        except urllib.error.HTTPError as error:
            answers.append(error.code == http.HTTPStatus.UNAUTHORIZED)  # who are you: the hub's usual answer
        except OSError:
            return
        else:
            answers.append(True)

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(HUB_TIMEOUT_S)
    return any(answers)


def loopback_mirror() -> str:
    """host:port of the engine's mirror of the hub, if it is on a loopback address and answers here; else empty."""
    mirrors = json.loads(output(which("docker"), "info", "--format", "{{json .RegistryConfig.Mirrors}}") or "null")
    for mirror in mirrors or ():
        match = re.fullmatch(r"http://((?:127\.[\d.]+|localhost|\[::1\]):\d+)/?", mirror)
        if match and Mirror(match.group(1)).answers():
            return match.group(1)
    return ""


def inputs_digest() -> str:
    """The digest of all that the stand-ins are made from."""
    digest = hashlib.sha256()
    for path in _committed():
        digest.update(f"{path.relative_to(rootfs.BASES)}\0{path.stat().st_mode:o}\0".encode())
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    digest.update(rootfs.rootfs_stamp().encode())
    digest.update(rootfs.ca_bundle().read_bytes())
    return digest.hexdigest()


def _committed() -> list[Path]:
    """The files of services/bases without those made there: the root filesystem, the CA bundle, buildorch's ledger."""
    bases = rootfs.BASES
    made = (bases / ".buildorch", bases / "machine", *(bases / "debian").glob("rootfs*"))
    return sorted(path for path in bases.rglob("*") if path.is_file() and not {path, *path.parents} & {*made})


def _build(mirror: Mirror, made_from: str) -> None:
    """Build and push the stand-ins with the project's own tool."""
    if not PYTHON.exists():
        raise EngineError("the stand-ins for base images are built by buildorch itself; run `make setup` first")
    say("no hub answers: building stand-ins for " + ", ".join(f"{r.split('/')[1]}:{t}" for r, t in TAGS.items()))
    rootfs.prepare()
    RECORD.parent.mkdir(exist_ok=True)
    command = [str(PYTHON), "-m", "buildorch", "build-all", "-f", str(SERVICES_FILE), "--push", "--record", str(RECORD)]
    exit_code = _run(command, mirror)
    if exit_code == EXIT_BUILD_FAILED:
        say("the stand-ins were not built; trying once more, as package registries have their bad moments")
        exit_code = _run(command, mirror)
    if exit_code:
        raise EngineError("the stand-ins for base images were not built", exit_code=exit_code)
    for repository, tag in TAGS.items():
        mirror.tag(repository, tag, made_from)


def _run(command: list[str], mirror: Mirror) -> int:
    """The exit code of a build into the mirror; what it prints goes to stderr."""
    environment = dict(os.environ, BUILDORCH_LOCAL_REGISTRY=mirror.address)
    return subprocess.run(command, cwd=REPOSITORY, env=environment, stdout=sys.stderr, check=False).returncode


def _forget(mirror: Mirror) -> None:
    """Delete the stand-ins, so that the engine asks the hub for what it answers now."""
    for repository, tag in TAGS.items():
        tags = mirror.tags(repository)
        digests = {mirror.digest(repository, one) for one in tags if one == tag or one.startswith(MADE_FROM)}
        stand_ins = {one for one in digests if LABEL in mirror.labels(repository, one)}
        for digest in stand_ins:
            mirror.delete(repository, digest)
        if stand_ins:
            say(f"the hub answers: deleted the stand-in for {repository.split('/')[1]}:{tag}")


@contextlib.contextmanager
def _one_at_a_time() -> Iterator[None]:
    """Hold the lock that whoever builds stand-ins from this clone takes."""
    descriptor = os.open(rootfs.BASES, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
