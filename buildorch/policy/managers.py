"""Package managers: which commands of theirs download, and where they keep what they downloaded.

In: the words of a command. Out: the `Manager` whose download it is. Touches nothing.

Sources: the managers' own manuals, and "Optimize cache usage in builds" in Docker's documentation.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from buildorch.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_VERSION = re.compile(r"[0-9.]+\Z")
_NOTHING_DOWNLOADED = frozenset({"--offline", "--no-index", "-mod=vendor", "--help", "-h", "--version"})


@dataclass(frozen=True, slots=True)
class Manager:
    """One package manager."""

    place: str
    """Where root's cache is by default; a hint names it."""
    downloading: frozenset[str]
    """Subcommands that download, of one word or two; an empty one stands for a command without any."""
    valued: frozenset[str] = frozenset()
    """Options before the subcommand whose value is a word of its own."""
    sparing: frozenset[str] = frozenset()
    """Words that make it download nothing, or keep nothing of it by the manager's own rule."""
    any_command: bool = False
    """Whether every subcommand downloads what it needs."""


def _manager(
    place: str, downloading: str, *, valued: str = "", sparing: str = "", bare: bool = False, any_command: bool = False
) -> Manager:
    commands = {command.replace("_", " ") for command in downloading.split()} | ({""} if bare else set())
    return Manager(place, frozenset(commands), frozenset(valued.split()), frozenset(sparing.split()), any_command)


_APT = _manager(
    "/var/cache/apt",
    "install update upgrade dist-upgrade full-upgrade build-dep satisfy",
    valued="-o --option -t --target-release --default-release -c --config-file -a --host-architecture",
    sparing="--print-uris -s --simulate --dry-run",
)
_DNF = _manager(
    "/var/cache/dnf",
    "install update upgrade groupinstall group_install module_install builddep reinstall makecache distro-sync",
    valued="-c --config -x --exclude --repo --repoid --installroot --releasever --setopt --enablerepo --disablerepo",
    sparing="-C --cacheonly",
)
_MAVEN = _manager("/root/.m2", "", valued="-f --file -s --settings -pl --projects -P", sparing="-o", any_command=True)
_GRADLE = _manager("/root/.gradle", "", valued="-p --project-dir -g -b -c -I --init-script", any_command=True)
_NPM = "install i add ci clean-install install-clean update"

_MANAGERS: Mapping[str, Manager] = {
    "apt": _APT,
    "apt-get": _APT,
    "apk": _manager(
        "/var/cache/apk",
        "add upgrade",
        valued="-X --repository -p --root --arch --cache-dir --keys-dir --repositories-file",
        sparing="--no-cache",
    ),
    "dnf": _DNF,
    "yum": _DNF,
    "microdnf": _DNF,
    "tdnf": _DNF,
    "pip": _manager(
        "/root/.cache/pip",
        "install download wheel",
        valued="--python --log --proxy --retries --timeout --cache-dir --cert --trusted-host",
    ),
    "uv": _manager(
        "/root/.cache/uv",
        "pip_install pip_sync sync tool_install add",
        valued="--project --directory --cache-dir --python -p --config-file --color",
    ),
    "poetry": _manager("/root/.cache/pypoetry", "install sync add update", valued="-C --directory -P --project"),
    "pipenv": _manager("/root/.cache/pipenv", "install sync update", valued="--python"),
    "npm": _manager("/root/.npm", _NPM, valued="--prefix -C --cache --registry --loglevel -w --workspace --userconfig"),
    "yarn": _manager(
        "/usr/local/share/.cache/yarn",
        "install add global_add",
        valued="--cwd --cache-folder --registry",
        sparing="-v",
        bare=True,
    ),
    "pnpm": _manager("/root/.local/share/pnpm/store", f"{_NPM} fetch", valued="-C --dir -F --filter --store-dir"),
    "bun": _manager("/root/.bun/install/cache", "install i add ci", valued="--cwd"),
    "go": _manager("/root/go/pkg/mod", "build install get mod_download mod_tidy mod_vendor", valued="-C"),
    "cargo": _manager(
        "/usr/local/cargo/registry",
        "build b install fetch vendor chef_cook",
        valued="--color --config -C -Z",
        sparing="--frozen",
    ),
    "mvn": _MAVEN,
    "mvnw": _MAVEN,
    "gradle": _GRADLE,
    "gradlew": _GRADLE,
    "composer": _manager("/root/.composer/cache", "install update require create-project", valued="-d --working-dir"),
    "gem": _manager("/root/.local/share/gem", "install update"),
    "bundle": _manager(
        "/usr/local/bundle/cache",
        "install update",
        valued="--gemfile --path --jobs -j --retry",
        sparing="--local -v",
        bare=True,
    ),
    "dotnet": _manager("/root/.nuget/packages", "restore"),
}


def downloading(words: Sequence[str]) -> tuple[str, str, Manager] | None:
    """The manager whose download a command is: its name, the subcommand and what is known of it.

    Args:
        words: a command without what leads to it; its program without a folder.
    """
    words = _as_installed(words)
    name = _VERSION.sub("", words[0])
    manager = _MANAGERS.get(name)
    if manager is None or not (manager.sparing | _NOTHING_DOWNLOADED).isdisjoint(words):
        return None
    first, second = _subcommands(words[1:], manager)
    if manager.any_command:
        return (name, first, manager) if first else None
    found = next((command for command in (first, f"{first} {second}") if command in manager.downloading), None)
    return None if found is None else (name, found, manager)


def _as_installed(words: Sequence[str]) -> Sequence[str]:
    """`python3 -m pip install` as `pip install`."""
    if words[0].startswith("python") and "-m" in words[:-1]:
        return words[words.index("-m") + 1 :]
    return words


def _subcommands(words: Sequence[str], manager: Manager) -> tuple[str, str]:
    """The first two words that are neither options nor their values; empty where there are fewer."""
    found: list[str] = []
    rest = iter(words)
    for word in rest:
        if word in manager.valued:
            next(rest, None)
        elif not word.startswith(("-", "+")):
            found.append(word)
    return (*found, "", "")[0], (*found, "", "")[1]
