"""What scripts/engine and scripts/bases-rootfs ask of Debian: its own package source, and packages from a later suite.

Nothing is left in /etc/apt: a later suite is reached through a temporary apt configuration that reuses the URIs and the
Signed-By of the source this machine already trusts, and that apt alone sees.
"""

import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

POLICY_RC_D = Path("/usr/sbin/policy-rc.d")
ONE_LINE_SOURCE = re.compile(r"^deb\s+(?:\[(?P<options>[^\]]*)\]\s+)?(?P<uri>\S+)\s+(?P<suite>\S+)\s+(?P<components>.+)$")


class AptError(Exception):
    """apt cannot do what was asked; the message says what and why, for people."""


class Source:
    """One Debian package source, as it is written on this machine: where from, which suites, signed by whom."""

    def __init__(self, uris, suites, components, signed_by="", options=""):
        self.uris = uris
        self.suites = suites
        self.components = components
        self.signed_by = signed_by  # deb822 value, possibly a whole armoured key over several lines
        self.options = options  # what stood in [brackets] in a one-line source

    def deb822(self, suites=None, components=None):
        """This source as a deb822 stanza, for other suites if asked."""
        lines = [
            "Types: deb",
            "URIs: " + " ".join(self.uris),
            "Suites: " + " ".join(suites or self.suites),
            "Components: " + " ".join(components or self.components),
        ]
        if self.signed_by:
            lines.append("Signed-By:" + ("" if self.signed_by.startswith("\n") else " ") + self.signed_by)
        for option in self.options.split():
            key, _, value = option.partition("=")
            if key.lower() == "trusted":
                lines.append("Trusted: " + value)
            elif key.lower() == "signed-by":
                lines.append("Signed-By: " + value)
        return "\n".join(lines) + "\n"


def os_release():
    """/etc/os-release as a dict; empty where there is none."""
    try:
        text = Path("/etc/os-release").read_text(encoding="utf-8")
    except OSError:
        return {}
    pairs = (line.partition("=") for line in text.splitlines() if "=" in line)
    return {key: value.strip('"') for key, _, value in pairs}


def own_sources(apt_dir=Path("/etc/apt")):
    """The machine's sources of its own release's `main` packages, the release's first one first."""
    codename = os_release().get("VERSION_CODENAME", "")
    found = []
    for path in [apt_dir / "sources.list", *sorted((apt_dir / "sources.list.d").glob("*"))]:
        if path.suffix == ".sources":
            found += _deb822_sources(path.read_text(encoding="utf-8"))
        elif path.suffix == ".list" and path.exists():
            found += _one_line_sources(path.read_text(encoding="utf-8"))
    mine = [s for s in found if "main" in s.components and any(x.split("-")[0] == codename for x in s.suites)]
    return sorted(mine, key=lambda source: codename not in source.suites)


def _deb822_sources(text):
    for stanza in re.split(r"\n\s*\n", text):
        fields = {}
        key = ""
        for line in stanza.splitlines():
            if line.startswith("#"):
                continue
            if line[:1] in (" ", "\t") and key:
                fields[key] += "\n" + line
            elif ":" in line:
                key, _, value = line.partition(":")
                key = key.strip().lower()
                fields[key] = value.strip()
        if "deb" in fields.get("types", "").split() and fields.get("enabled", "yes").lower() not in ("no", "false"):
            yield Source(
                fields.get("uris", "").split(),
                fields.get("suites", "").split(),
                fields.get("components", "").split(),
                signed_by=fields.get("signed-by", ""),
            )


def _one_line_sources(text):
    for line in text.splitlines():
        match = ONE_LINE_SOURCE.match(line.strip())
        if match:
            yield Source(
                [match["uri"]], [match["suite"]], match["components"].split(), options=match["options"] or ""
            )


def install(packages, *, say, later_suite="", from_later=(), minimum=None):
    """Install `packages`, those in `from_later` from `later_suite` where this release's own are too old.

    :param minimum: {package: lowest version that will do}, for those in `from_later`
    :param say: called with each line a person should read
    :raises AptError: no apt, no own source, no candidate that is new enough, or apt failed
    """
    if not shutil.which("apt-get"):
        raise AptError("this machine has no apt-get")
    sources = own_sources()
    if not sources:
        raise AptError("no source of Debian's `main` packages is set up in /etc/apt")
    with tempfile.TemporaryDirectory(prefix="buildorch-apt-") as scratch:
        apt = _Apt(Path(scratch), sources)
        apt.update(later_suite)
        if later_suite:
            apt.choose(from_later, minimum or {}, later_suite)
        found = apt.candidates(packages)
        say("installing " + ", ".join("{} {}".format(name, found.get(name, "")).strip() for name in packages))
        apt.install(packages)


class _Apt:
    """apt with a configuration of its own in a scratch directory; only dpkg's database is the machine's."""

    def __init__(self, scratch, sources):
        scratch.chmod(0o755)  # apt downloads as the user _apt
        self.sources = sources
        self.parts = scratch / "sources.list.d"
        self.preferences = scratch / "preferences"
        for directory in (self.parts, scratch / "lists" / "partial", scratch / "cache" / "archives" / "partial"):
            directory.mkdir(parents=True)
        self.preferences.write_text("", encoding="utf-8")
        own = "\n".join(source.deb822() for source in sources)
        (self.parts / "own.sources").write_text(own, encoding="utf-8")
        self.options = []
        for key, value in {
            "Dir::Etc::sourcelist": "/dev/null",
            "Dir::Etc::sourceparts": self.parts,
            "Dir::Etc::preferences": self.preferences,
            "Dir::Etc::preferencesparts": "/dev/null",
            "Dir::State::lists": scratch / "lists",
            "Dir::Cache": scratch / "cache",
            "Acquire::Languages": "none",
            "Acquire::Retries": "3",
        }.items():
            self.options += ["-o", "{}={}".format(key, value)]

    def run(self, tool, *arguments):
        environment = dict(os.environ, DEBIAN_FRONTEND="noninteractive", LC_ALL="C")
        command = [tool, *self.options, *arguments]
        done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if done.returncode:
            raise AptError("`{} {}` failed:\n{}".format(tool, " ".join(arguments), _tail(done.stdout)))
        return done.stdout

    def update(self, later_suite):
        """Fetch the package lists, with the later suite's if this machine's source has that suite."""
        if not later_suite:
            self.run("apt-get", "update")
            return
        later = self.parts / "later.sources"
        later.write_text(self.sources[0].deb822([later_suite], ["main"]), encoding="utf-8")
        try:
            self.run("apt-get", "update", "--error-on=any")
        except AptError:
            later.unlink()
            self.run("apt-get", "update")

    def choose(self, packages, minimum, later_suite):
        """Pin `packages` to the later suite unless this release's own will do."""
        for pinned in ([], packages):
            self._pin(later_suite, pinned)
            found = self.candidates(packages)
            old = [name for name in packages if not _at_least(found.get(name, ""), minimum.get(name, "0"))]
            if not old:
                return
        wanted = ", ".join(
            "{} >= {} (found {})".format(name, minimum.get(name, "0"), found.get(name) or "none") for name in old
        )
        raise AptError("neither this release nor the suite {} has {}".format(later_suite, wanted))

    def _pin(self, suite, packages):
        pins = "Package: *\nPin: release n={0}\nPin-Priority: 50\n".format(suite)
        if packages:
            pins += "\nPackage: {1}\nPin: release n={0}\nPin-Priority: 600\n".format(suite, " ".join(packages))
        self.preferences.write_text(pins, encoding="utf-8")

    def candidates(self, packages):
        """{package: the version apt would install}; a package apt does not know is missing."""
        found = {}
        name = ""
        for line in self.run("apt-cache", "policy", *packages).splitlines():
            if not line.startswith(" "):
                name = line.rstrip(":")
            elif line.strip().startswith("Candidate:"):
                found[name] = line.split(":", 1)[1].strip()
        return {name: version for name, version in found.items() if version != "(none)"}

    def install(self, packages):
        """Install without starting any of the packages' own services."""
        with _no_services():
            self.run("apt-get", "install", "--yes", "--no-install-recommends", *packages)


class _no_services:
    """While open, a package that is installed does not start its service (Debian's policy-rc.d protocol)."""

    def __enter__(self):
        self.ours = not POLICY_RC_D.exists()
        if self.ours:
            POLICY_RC_D.write_text("#!/bin/sh\nexit 101\n", encoding="utf-8")
            POLICY_RC_D.chmod(0o755)

    def __exit__(self, *_exception):
        if self.ours:
            POLICY_RC_D.unlink()


def _at_least(version, minimum):
    if not version:
        return False
    return subprocess.run(["dpkg", "--compare-versions", version, "ge", minimum]).returncode == 0


def _tail(text, lines=15):
    return "\n".join(text.strip().splitlines()[-lines:])
