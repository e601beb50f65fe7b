"""Which lock a Node.js project has, and what its package manager needs for an install.

In: a folder and its package.json. Out: `NodePackages`. Touches: the folder, for reading.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple

from buildorch.scaffold.found import NodeManager, Unfit
from buildorch.scaffold.reading import is_file, mapping, read_text

if TYPE_CHECKING:
    from pathlib import Path

_LOCKS: dict[str, NodeManager] = {"package-lock.json": "npm", "pnpm-lock.yaml": "pnpm", "yarn.lock": "yarn"}
_FOREIGN = ("bun.lock", "bun.lockb", "deno.lock", "npm-shrinkwrap.json")
_SETTINGS: dict[NodeManager, tuple[str, ...]] = {
    "npm": (".npmrc",),
    "pnpm": (".npmrc", "pnpm-workspace.yaml", ".pnpmfile.cjs"),
    "yarn": (".npmrc", ".yarnrc"),
}
_PNPM_OF_LOCK = {"5": "7", "6": "8", "9": "9"}
"""The format of pnpm's lock file -> the last major version of pnpm that is at home in it and runs on Node.js 20."""
_KNOWN = "init knows npm, pnpm and Yarn 1: write a lock with one of them, or the Dockerfile by hand"
_LOCK_HINT = "run `npm install --package-lock-only`, `pnpm install --lockfile-only` or `yarn install`"
_CREDENTIAL = re.compile(r"^[^#;\n]*_(?:auth|authToken|password)\s*=\s*(?!\$\{)\S", re.MULTILINE)
_SCRIPTS = ("preinstall", "install", "postinstall", "prepare", "preprepare", "postprepare")
_OWN = re.compile(r"(?:file|link|portal|patch):")


class NodePackages(NamedTuple):
    """How the packages are installed."""

    manager: NodeManager
    version: str
    """Of the manager, as npm takes it; empty for npm."""
    lock: str
    settings: tuple[str, ...]
    needs_sources: bool


def node_packages(folder: Path, about: dict[str, Any]) -> NodePackages:
    """The one lock of a project, and who wrote it.

    Args:
        folder: the project's.
        about: its package.json.

    Raises:
        Unfit: no lock, several, or an unknown manager's; a package of the workspace around it; a credential in .npmrc.
    """
    lock = _lock(folder)
    manager = _LOCKS[lock]
    wanted = {**mapping(about.get("dependencies")), **mapping(about.get("devDependencies"))}
    if near := next((name for name, version in wanted.items() if str(version).startswith("workspace:")), ""):
        hint = "init knows projects that stand alone: write the Dockerfile by hand"
        raise Unfit(folder, f"it depends on {near}, a package of the workspace around it", hint=hint)
    settings = tuple(name for name in _SETTINGS[manager] if is_file(folder / name))
    if _CREDENTIAL.search(read_text(folder, ".npmrc") or ""):
        hint = "write ${NPM_TOKEN} in its place, and give the install in the Dockerfile a build secret by hand"
        raise Unfit(folder, ".npmrc holds a credential", hint=hint)
    version = {"npm": "", "yarn": "1", "pnpm": _pnpm(folder, about)}[manager]
    if manager == "yarn" and "__metadata:" in (read_text(folder, lock) or ""):
        raise Unfit(folder, "yarn.lock is that of Yarn 2 or later, which init does not know", hint=_KNOWN)
    return NodePackages(manager, version, lock, settings, _needs_sources(folder, about, wanted))


def _lock(folder: Path) -> str:
    found = [name for name in _LOCKS if is_file(folder / name)]
    if len(found) > 1:
        raise Unfit(folder, f"it has several locks: {' and '.join(found)}", hint="keep that of the one in use")
    if found:
        read_text(folder, found[0])  # it must be one that a build can read
        return found[0]
    for name in _FOREIGN:
        if is_file(folder / name):
            raise Unfit(folder, f"it is locked by {name}, which init does not know", hint=_KNOWN)
    if above := next((parent for parent in folder.parents[:4] for name in _LOCKS if is_file(parent / name)), None):
        hint = "init knows projects that stand alone: give it a lock of its own, or write the Dockerfile by hand"
        raise Unfit(folder, f"it has no lock of its own, but there is one in {above}", hint=hint)
    raise Unfit(folder, "it depends on next, and no lock says which packages to install", hint=_LOCK_HINT)


def _pnpm(folder: Path, about: dict[str, Any]) -> str:
    """The version that package.json names, else one that is at home in the lock."""
    if named := re.match(r"pnpm@(\d+(?:\.\d+){0,2}(?:-[\w.]+)?)(?:\+|\Z)", str(about.get("packageManager"))):
        return named[1]
    written = re.search(r"^lockfileVersion: ['\"]?(\d+)", read_text(folder, "pnpm-lock.yaml") or "", re.MULTILINE)
    version = _PNPM_OF_LOCK.get(written[1] if written else "", "9")
    # pnpm 9 refuses a pnpm-workspace.yaml without packages, which pnpm 10 keeps its settings in.
    return "10" if version == "9" and is_file(folder / "pnpm-workspace.yaml") else version


def _needs_sources(folder: Path, about: dict[str, Any], wanted: dict[str, Any]) -> bool:
    has_script = any(name in mapping(about.get("scripts")) for name in _SCRIPTS)
    has_patch = "patchedDependencies" in mapping(about.get("pnpm")) or "patchedDependencies:" in (
        read_text(folder, "pnpm-workspace.yaml") or ""
    )
    return has_script or has_patch or any(_OWN.match(str(version)) for version in wanted.values())
