"""Finds a Next.js project: its packages, its configuration, and a page that tells whether it is well.

In: a folder. Out: `NextJs`. Touches: the folder, for reading. Nothing of the project is run.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from buildorch.scaffold.found import NextJs, Unfit
from buildorch.scaffold.node_packages import node_packages
from buildorch.scaffold.reading import mapping, read_json, read_text, words

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

OLDEST = 13
"""The first major version whose standalone server is like today's: it takes HOSTNAME and PORT."""
CONFIGS = ("next.config.js", "next.config.mjs", "next.config.ts")
"""Where there are several, Next.js reads the first of these: CONFIG_FILES in its constants."""
STANDALONE = "output: 'standalone'"
NEW_CONFIG = f"/** @type {{import('next').NextConfig}} */\nexport default {{ {STANDALONE} }}\n"
_IS_STANDALONE = re.compile(r"""\boutput['"]?\s*:\s*['"`]standalone['"`]""")
_OUTPUT = re.compile(r"\boutput['\"]?\s*:")
_PLACE = "/* config options here */"
"""Where create-next-app 15 and later puts a setting that somebody asked for."""
_UNTOUCHED = re.compile(r"(?P<head>\bnextConfig\b[^={]*=\s*\{)(?P<settings>(?:\s*reactStrictMode: true,)?)\s*\}")
"""The object that create-next-app 14 writes, for its App Router and for its Pages Router."""
_COMMENTS = re.compile(r"/\*.*?\*/|(?<![:'\"`])//[^\n]*", re.DOTALL)
_HEALTH = re.compile(r"(?:\([^/]*\)/)*(?P<path>(?:api/)?(?:\([^/]*\)/)*(?:health|healthz|livez|ping))/route\.[jt]sx?\Z")


def nextjs_in(folder: Path) -> NextJs | None:
    """The Next.js application of a folder; None where the folder does not depend on next.

    Args:
        folder: the project's, resolved.

    Raises:
        Unfit: it does, and there is no lock, more than one, or a configuration that gives no standalone output.
    """
    about = read_json(folder, "package.json")
    version = {**mapping(about.get("devDependencies")), **mapping(about.get("dependencies"))}.get("next")
    if version is None:
        return None
    major = re.search(r"\d+", str(version))
    if major and int(major[0][:4]) < OLDEST:
        raise Unfit(
            folder, f"it is of Next.js {major[0]}", hint=f"init knows Next.js {OLDEST} and later: write by hand"
        )
    if "build" not in mapping(about.get("scripts")):
        raise Unfit(folder, "package.json has no script `build`", hint='add "build": "next build" to its scripts')
    packages = node_packages(folder, about)
    config, text, has_base_path = _config(folder)
    title = words(about.get("name"), folder.name).rpartition("/")[2]
    return NextJs(
        folder=folder,
        manager=packages.manager,
        manager_version=packages.version,
        lock=packages.lock,
        settings=packages.settings,
        needs_sources=packages.needs_sources,
        has_public=(folder / "public").is_dir(),
        config=config,
        config_text=text,
        health="/" if has_base_path else next(_health(folder), "/"),
        title=title,
        description=words(about.get("description"), f"{title}, a Next.js application"),
    )


def _config(folder: Path) -> tuple[str, str, bool]:
    """The configuration's name, its new text where it gives no standalone output, and whether paths have a prefix."""
    name = next((name for name in CONFIGS if (folder / name).is_file()), "")
    if not name:
        return "next.config.mjs", NEW_CONFIG, False
    text = read_text(folder, name) or ""
    said = _COMMENTS.sub("", text)
    has_base_path = bool(re.search(r"\bbasePath\b", said))
    if re.search(r"\bdistDir\b", said):
        raise Unfit(folder, f"{name} has a distDir", hint="take it out: the image is made of .next/standalone")
    if _IS_STANDALONE.search(said):
        return name, "", has_base_path
    if not _OUTPUT.search(said) and (made := _with_output(text)):
        return name, made, has_base_path
    raise Unfit(
        folder,
        f"{name} does not give standalone output, which the image is made of",
        hint=f"set {STANDALONE} in the configuration, and run init again",
    )


def _with_output(text: str) -> str:
    """The text of a new project's configuration with standalone output; empty where it is another's."""
    end = "\r\n" if "\r\n" in text else "\n"
    if text.count(_PLACE) == 1:
        return text.replace(_PLACE, f"{_PLACE}{end}  {STANDALONE},")
    if len(_UNTOUCHED.findall(text)) == 1:
        return _UNTOUCHED.sub(rf"\g<head>{end}  {STANDALONE},\g<settings>{end}}}", text)
    return ""


def _health(folder: Path) -> Iterator[str]:
    """Paths of routes for health checks; the names of route groups, in brackets, are no part of them."""
    for root in ("app", "src/app"):
        for place in sorted((folder / root).glob("**/route.*")):
            if found := _HEALTH.match(place.relative_to(folder / root).as_posix()):
                yield "/" + re.sub(r"\([^/]*\)/", "", found["path"])
    for root in ("pages/api", "src/pages/api"):
        for name in ("health", "healthz"):
            if any((folder / root).glob(f"{name}.[jt]s")):
                yield f"/api/{name}"
