"""This machine's Debian package source, and getting packages from it, from a later suite if need be.

Nothing is left in /etc/apt. A later suite is reached through a temporary apt configuration that reuses the URIs and the
Signed-By of the source this machine trusts already, and that only the apt started here sees.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from .places import EngineError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

POLICY_RC_D = Path("/usr/sbin/policy-rc.d")
ONE_LINE = re.compile(r"deb\s+(?:\[(?P<options>[^\]]*)\]\s+)?(?P<uri>\S+)\s+(?P<suite>\S+)\s+(?P<components>.+)")


class Source:
    """One package source as it is written on this machine: from where, which suites, signed by whom."""

    def __init__(self, uris: list[str], suites: list[str], components: list[str], options: Mapping[str, str]) -> None:
        self.uris = uris
        self.suites = suites
        self.components = components
        self.signed_by = options.get("signed-by", "")  # a path, a fingerprint, or a whole key over several lines
        self.trusted = options.get("trusted", "")

    def deb822(self, suites: Iterable[str] = (), *, signed_by: bool = True) -> str:
        """A stanza for `suites` of this source, its own if none are named, with the component main."""
        lines = [
            "Types: deb",
            f"URIs: {' '.join(self.uris)}",
            f"Suites: {' '.join(suites or self.suites)}",
            "Components: main",
        ]
        if self.signed_by and signed_by:
            lines.append(f"Signed-By: {self.signed_by}")
        if self.trusted:
            lines.append(f"Trusted: {self.trusted}")
        return "\n".join(lines) + "\n"


def codename() -> str:
    """The name of the release that runs here: bookworm; empty where that is not known."""
    with contextlib.suppress(OSError):
        match = re.search(r'^VERSION_CODENAME="?(\w+)', Path("/etc/os-release").read_text("utf-8"), re.MULTILINE)
        return match.group(1) if match else ""
    return ""


def own_sources(apt: Path = Path("/etc/apt")) -> list[Source]:
    """The sources of this release's `main`, that of the release itself before those of its updates.

    Raises:
        EngineError: there is none.
    """
    found: list[Source] = []
    for path in (apt / "sources.list", *sorted((apt / "sources.list.d").glob("*"))):
        if path.suffix == ".sources":
            found += _in_deb822(path.read_text("utf-8"))
        elif path.suffix == ".list" and path.exists():
            found += _in_lines(path.read_text("utf-8"))
    release = codename()
    own = [
        source
        for source in found
        if "main" in source.components and any(suite.split("-")[0] == release for suite in source.suites)
    ]
    if not own:
        raise EngineError(f"no package source of this release's `main` is set up in {apt}")
    return sorted(own, key=lambda source: release not in source.suites)


def _in_deb822(text: str) -> Iterator[Source]:
    for stanza in re.split(r"\n\s*\n", text):
        fields: dict[str, str] = {}
        key = ""
        for line in stanza.splitlines():
            if line[:1] in (" ", "\t") and key:
                fields[key] += f"\n{line}"
            elif ":" in line and not line.startswith("#"):
                key, _, value = line.partition(":")
                key = key.strip().lower()
                fields[key] = value.strip()
        if "deb" in fields.get("types", "").split() and fields.get("enabled", "yes") not in ("no", "false"):
            uris, suites, components = (fields.get(name, "").split() for name in ("uris", "suites", "components"))
            yield Source(uris, suites, components, fields)


def _in_lines(text: str) -> Iterator[Source]:
    for line in text.splitlines():
        match = ONE_LINE.match(line.strip())
        if match:
            options = dict(option.lower().partition("=")[::2] for option in (match["options"] or "").split())
            yield Source([match["uri"]], [match["suite"]], match["components"].split("#")[0].split(), options)


def install(
    packages: Sequence[str],
    *,
    later_suite: str = "",
    from_later: Sequence[str] = (),
    minimum: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """Install packages; those `from_later` come from the later suite where this release's own are too old.

    Args:
        packages: all that shall be there at the end.
        later_suite: the name of a suite of the same source.
        from_later: those of `packages` that belong together and may come from it.
        minimum: the lowest version that will do, for those in `from_later`.

    Returns:
        The version of each package that was installed or was there.

    Raises:
        EngineError: no apt, no source, no version that will do, or apt failed.
    """
    if not shutil.which("apt-get"):
        raise EngineError("this machine has no apt-get")
    with tempfile.TemporaryDirectory(prefix="buildorch-apt-") as scratch:
        apt = _Apt(Path(scratch), own_sources())
        apt.update(later_suite)
        if later_suite:
            apt.choose(from_later, minimum or {}, later_suite)
        versions = apt.candidates(packages)
        apt.install(packages)
        return versions


class _Apt:
    """apt with a configuration of its own; only the database of what is installed is the machine's."""

    def __init__(self, scratch: Path, sources: list[Source]) -> None:
        scratch.chmod(0o755)  # apt downloads as a user of its own
        self.first_source = sources[0]
        self.later_sources = scratch / "sources.list.d" / "later.sources"
        self.later_problem = ""
        self.preferences = scratch / "preferences"
        for directory in ("sources.list.d", "lists/partial", "cache/archives/partial"):
            (scratch / directory).mkdir(parents=True)
        own = "\n".join(source.deb822() for source in sources)
        (scratch / "sources.list.d" / "own.sources").write_text(own, "utf-8")
        self.preferences.write_text("", "utf-8")
        self.options = [
            f"-o{key}={value}"
            for key, value in {
                "Dir::Etc::sourcelist": "/dev/null",
                "Dir::Etc::sourceparts": scratch / "sources.list.d",
                "Dir::Etc::preferences": self.preferences,
                "Dir::Etc::preferencesparts": "/dev/null",
                "Dir::State::lists": scratch / "lists",
                "Dir::Cache": scratch / "cache",
                "Acquire::Languages": "none",
                "Acquire::Retries": "3",
            }.items()
        ]

    def _run(self, *command: str) -> str:
        done = subprocess.run(
            [command[0], *self.options, *command[1:]],
            env=dict(os.environ, DEBIAN_FRONTEND="noninteractive", LC_ALL="C"),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        if done.returncode:
            tail = "\n".join(done.stdout.strip().splitlines()[-15:])
            raise EngineError(f"`{' '.join(command)}` failed:\n{tail}")
        return done.stdout

    def update(self, later_suite: str) -> None:
        """Fetch the lists of packages, the later suite's too if this machine's source has that suite."""
        if later_suite:
            self.later_sources.write_text(self.first_source.deb822([later_suite]), "utf-8")
            try:
                self._run("apt-get", "update", "--error-on=any")
            except EngineError as error:
                self.later_problem = f"\n{error}"
                self.later_sources.unlink()
            else:
                return
        self._run("apt-get", "update")

    def choose(self, packages: Sequence[str], minimum: Mapping[str, str], later_suite: str) -> None:
        """Take `packages` from the later suite unless this release's own will do."""
        found: dict[str, str] = {}
        for pinned in ((), packages):
            self._pin(later_suite, pinned)
            found = self.candidates(packages)
            if all(_will_do(found.get(name, ""), minimum.get(name, "0")) for name in packages):
                return
        asked = ", ".join(f"{name} {version} (found {found.get(name, 'none')})" for name, version in minimum.items())
        where = f"in its own suite or in {later_suite}"
        raise EngineError(f"this machine's package source does not have, {where}: {asked}{self.later_problem}")

    def _pin(self, suite: str, packages: Sequence[str]) -> None:
        pins = f"Package: *\nPin: release n={suite}\nPin-Priority: 50\n"
        if packages:
            pins += f"\nPackage: {' '.join(packages)}\nPin: release n={suite}\nPin-Priority: 600\n"
        self.preferences.write_text(pins, "utf-8")

    def candidates(self, packages: Sequence[str]) -> dict[str, str]:
        """The version apt would install of each package; those it does not know are left out."""
        policy = self._run("apt-cache", "policy", *packages)
        found = re.findall(r"^(\S+):\n  Installed: .*\n  Candidate: (.+)$", policy, re.MULTILINE)
        return {name: version for name, version in found if version != "(none)"}

    def install(self, packages: Sequence[str]) -> None:
        """Install, without starting the services that the packages bring."""
        with _no_services():
            self._run("apt-get", "install", "--yes", "--no-install-recommends", *packages)


def _will_do(version: str, minimum: str) -> bool:
    comparison = ["dpkg", "--compare-versions", version or "0", "ge", minimum]
    return bool(version) and subprocess.run(comparison, check=False).returncode == 0


@contextlib.contextmanager
def _no_services() -> Iterator[None]:
    """While open, no package that is installed starts its service (Debian's policy-rc.d)."""
    if POLICY_RC_D.exists():
        yield
        return
    POLICY_RC_D.write_text("#!/bin/sh\nexit 101\n", "utf-8")
    POLICY_RC_D.chmod(0o755)
    try:
        yield
    finally:
        POLICY_RC_D.unlink()
