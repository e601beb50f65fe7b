"""Finds a Next.js application: its packages, its configuration, and a page that tells whether it is well.

In: a folder. Out: `NextJs`. Touches: the folder, for reading. Nothing of the project is run.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from buildorch.scaffold.found import NextJs, NodeManager, Unfit
from buildorch.scaffold.reading import read_text

if TYPE_CHECKING:
    from pathlib import Path

CONFIGS = ("next.config.ts", "next.config.mjs", "next.config.js", "next.config.cjs")
STANDALONE = "output: 'standalone'"
NEW_CONFIG = f"/** @type {{import('next').NextConfig}} */\nexport default {{ {STANDALONE} }}\n"
_IS_STANDALONE = re.compile(r"""\boutput\s*:\s*['"`]standalone['"`]""")
_UNTOUCHED = re.compile(r"(?P<head>\b(?:nextConfig|config)\b[^={]*=\s*\{)(?:\s*/\*\s*config options here\s*\*/)?\s*\}")
"""An object without a setting, as create-next-app writes it: Next.js 15 and later put a remark into it."""
_COMMENTS = re.compile(r"/\*.*?\*/|(?<![:'\"`])//[^\n]*", re.DOTALL)
_HEALTH = re.compile(r"(?:^|/)(?P<path>(?:api/)?(?:health|healthz|livez|ping))/route\.[jt]sx?\Z")
_LOCKS: dict[str, NodeManager] = {"package-lock.json": "npm", "pnpm-lock.yaml": "pnpm", "yarn.lock": "yarn"}
_PNPM_OF_LOCK = {"6": "8", "9": "9"}
"""The format of pnpm's lock file -> the last major version of pnpm that is at home in it and runs on Node.js 20."""


def nextjs_in(folder: Path) -> NextJs | None:
    """The Next.js application of a folder; None where the folder does not depend on next.

    Raises:
        Unfit: it does, and there is no lock, more than one, or a configuration that gives no standalone output.
    """
    about = _package(folder)
    dependencies = about.get("dependencies")
    if not isinstance(dependencies, dict) or "next" not in dependencies:
        return None
    scripts = about.get("scripts")
    if not isinstance(scripts, dict) or "build" not in scripts:
        raise Unfit(folder, "package.json has no script `build`", hint='add "build": "next build" to its scripts')
    lock, manager, version = _lock(folder, about)
    config, text = _config(folder)
    title = str(about.get("name") or folder.name).rpartition("/")[2]
    return NextJs(
        folder=folder,
        manager=manager,
        manager_version=version,
        lock=lock,
        has_public=(folder / "public").is_dir(),
        config=config,
        config_text=text,
        health=_health(folder),
        title=title,
        description=str(about.get("description") or "") or f"{title}, a Next.js application",
    )


def _package(folder: Path) -> dict[str, Any]:
    text = read_text(folder, "package.json")
    if text is None:
        return {}
    try:
        raw = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Unfit(folder, f"package.json is not JSON: {error}", hint="mend it, and run init again") from None
    return raw if isinstance(raw, dict) else {}


def _lock(folder: Path, about: dict[str, Any]) -> tuple[str, NodeManager, str]:
    """The lock file, who wrote it, and the major version of that one where the base image does not bring it."""
    found = [name for name in _LOCKS if (folder / name).is_file()]
    if not found:
        raise Unfit(
            folder,
            "it depends on next, and no lock says which packages to install",
            hint="run `npm install --package-lock-only`, `pnpm install --lockfile-only` or `yarn install`",
        )
    if len(found) > 1:
        raise Unfit(folder, f"it has several locks: {' and '.join(found)}", hint="keep that of the one in use")
    [lock] = found
    text = read_text(folder, lock) or ""
    manager = _LOCKS[lock]
    if manager == "yarn":
        if "__metadata:" in text:
            raise Unfit(folder, "yarn.lock is that of Yarn 2 or later, which init does not know", hint="write by hand")
        return lock, manager, "1"
    if manager == "pnpm":
        named = re.match(r"pnpm@(\d+)", str(about.get("packageManager") or ""))
        written = re.search(r"^lockfileVersion: ['\"]?(\d+)", text, re.MULTILINE)
        return lock, manager, named[1] if named else _PNPM_OF_LOCK.get(written[1] if written else "", "9")
    return lock, manager, ""


def _config(folder: Path) -> tuple[str, str]:
    """The configuration's name, and its new text where it does not give standalone output yet."""
    name = next((name for name in CONFIGS if (folder / name).is_file()), "")
    if not name:
        return "next.config.mjs", NEW_CONFIG
    text = read_text(folder, name) or ""
    if _IS_STANDALONE.search(_COMMENTS.sub("", text)):
        return name, ""
    if len(_UNTOUCHED.findall(text)) == 1:
        return name, _UNTOUCHED.sub(rf"\g<head>\n  {STANDALONE},\n}}", text)
    raise Unfit(
        folder,
        f"{name} does not give standalone output, which the image is made of",
        hint=f"add {STANDALONE} to the configuration, and run init again",
    )


def _health(folder: Path) -> str:
    """A route for health checks, or the first page."""
    for root in ("app", "src/app"):
        for place in sorted((folder / root).glob("**/route.*")) if (folder / root).is_dir() else ():
            if found := _HEALTH.search(place.relative_to(folder / root).as_posix()):
                return f"/{found['path']}"
    for root in ("pages/api", "src/pages/api"):
        for name in ("health", "healthz"):
            if any((folder / root).glob(f"{name}.[jt]s")):
                return f"/api/{name}"
    return "/"
