"""Which programs an engine needs, in which versions, and getting those that are missing from Debian."""

from __future__ import annotations

import os
import re
import shutil
import subprocess

from .places import EngineError, say

PROGRAMS = ("dockerd", "containerd", "runc", "docker-registry", "docker", "iptables", "ip")
MINIMUM_ENGINE = (27, 0)  # the first whose BuildKit is at home in the containerd store
MINIMUM_BUILDX = (0, 17)

LATER_SUITE = "forky"  # Debian 12 has no buildx; this suite's packages install on it
FROM_LATER_SUITE = ("docker.io", "docker-cli", "docker-buildx", "containerd", "docker-registry", "tini-static")
PACKAGES = (*FROM_LATER_SUITE, "runc", "iptables", "iproute2", "ca-certificates")
MINIMUM_PACKAGES = {"docker.io": "27", "docker-cli": "27", "docker-buildx": "0.17", "containerd": "1.7"}


def require() -> None:
    """See that every program is there and new enough; install what is missing where that can be done.

    Raises:
        EngineError: something is missing and cannot be installed here, or is too old.
    """
    missing = [program for program in PROGRAMS if not which(program)]
    if not missing and not buildx_version():
        missing = ["docker buildx"]
    if missing:
        _install(missing)
    _require_versions()


def _install(missing: list[str]) -> None:
    what = ", ".join(missing)
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        raise EngineError(
            f"no Docker engine answers, and none can be started here: {what} not found.\n"
            f"Start Docker (Engine {dotted(MINIMUM_ENGINE)}, buildx {dotted(MINIMUM_BUILDX)}, or later) and set "
            f"DOCKER_HOST, or let root install these packages of Debian: {' '.join(PACKAGES)}"
        )
    from . import debian  # noqa: PLC0415  only who installs pays for the import

    say(f"not found: {what}; installing packages")
    try:
        found = debian.install(PACKAGES, later_suite=LATER_SUITE, from_later=FROM_LATER_SUITE, minimum=MINIMUM_PACKAGES)
    except EngineError as error:
        raise EngineError(f"{error}\nInstall by hand: {' '.join(PACKAGES)}") from None
    say(f"installed {', '.join(f'{name} {version}' for name, version in found.items())}")


def _require_versions() -> None:
    engine = version_in(output(which("dockerd"), "--version"))
    if engine < MINIMUM_ENGINE:
        raise EngineError(f"{which('dockerd')} is {dotted(engine)}; {dotted(MINIMUM_ENGINE)} or later is needed")
    buildx = buildx_version()
    if buildx < MINIMUM_BUILDX:
        found = f"is {dotted(buildx)}" if buildx else "finds no buildx"
        raise EngineError(f"`{which('docker')} buildx version` {found}; {dotted(MINIMUM_BUILDX)} or later is needed")


def buildx_version() -> tuple[int, ...]:
    """(major, minor) of the plugin that the `docker` first on PATH finds; () when it finds none."""
    return version_in(output(which("docker"), "buildx", "version"))


def version_in(text: str) -> tuple[int, ...]:
    """(major, minor) of the first version in a text; () when there is none."""
    match = re.search(r"(\d+)\.(\d+)", text)
    return (int(match.group(1)), int(match.group(2))) if match else ()


def dotted(version: tuple[int, ...]) -> str:
    """A version as people write it."""
    return ".".join(str(part) for part in version) or "of no known version"


def which(program: str) -> str:
    """Where a program is, the directories of root's programs looked in too; empty when it is nowhere."""
    return shutil.which(program) or shutil.which(program, path="/usr/local/sbin:/usr/sbin:/sbin") or ""


def output(*command: str) -> str:
    """What a command prints; empty when it fails or is not there."""
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=False)
    except OSError:
        return ""
    return done.stdout if done.returncode == 0 else ""
