"""Small text files of a project that may be anybody's.

In: paths. Out: text, and what TOML and JSON hold. Touches: those files, where they are in the project's folder.
"""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

from buildorch.scaffold.found import Unfit

MOST_BYTES = 8 * 1024 * 1024
"""Of one file: a lock of some thousand packages takes 2 MB."""
_MEND = "mend it, and run init again"


def is_file(path: Path) -> bool:
    """Whether a regular file is there that can be looked at; a link to one counts."""
    try:
        return path.is_file()
    except OSError:
        return False


def text_in(path: Path, folder: Path) -> str | None:
    """A file's text; None where it is outside the folder, no regular file, too large, or no UTF-8."""
    try:
        if not path.resolve().is_relative_to(folder) or not path.is_file() or path.stat().st_size > MOST_BYTES:
            return None
        return path.read_bytes().decode("utf-8-sig")  # its line ends as they are
    except (OSError, UnicodeDecodeError, RuntimeError):  # RuntimeError: links that lead in a circle
        return None


def read_text(folder: Path, name: str) -> str | None:
    """A file's text; None where it is not there.

    Args:
        folder: the project's, resolved.
        name: of a file in it.

    Raises:
        Unfit: it leads out of the folder, is too large, or is no text.
    """
    path = folder / name
    if not is_file(path):
        return None
    if not path.resolve().is_relative_to(folder):
        hint = "a build could not read it: copy it there"
        raise Unfit(folder, f"{name} leads out of the project's folder", hint=hint)
    text = text_in(path, folder)
    if text is None:
        raise Unfit(folder, f"{name} is no UTF-8 text of at most {MOST_BYTES} bytes", hint=_MEND)
    return text


def read_toml(folder: Path, name: str) -> dict[str, Any]:
    """What a TOML file holds; nothing where it is not there.

    Raises:
        Unfit: it is no TOML.
    """
    try:
        return tomllib.loads(read_text(folder, name) or "")
    except (ValueError, RecursionError) as error:
        raise Unfit(folder, f"{name} is not TOML: {error}", hint=_MEND) from None


def read_json(folder: Path, name: str) -> dict[str, Any]:
    """What a JSON file's object holds; nothing where it is not there.

    Raises:
        Unfit: it is no JSON object.
    """
    text = read_text(folder, name)
    try:
        raw = json.loads(text) if text is not None else {}
    except (ValueError, RecursionError) as error:
        raise Unfit(folder, f"{name} is not JSON: {error}", hint=_MEND) from None
    if not isinstance(raw, dict):
        raise Unfit(folder, f"{name} is not a JSON object", hint=_MEND)
    return raw


def mapping(value: object) -> dict[str, Any]:
    """A mapping as it is, anything else as an empty one."""
    return value if isinstance(value, dict) else {}


def words(value: object, default: str) -> str:
    """A text that says something as it is, else the default."""
    return value if isinstance(value, str) and value.strip() else default
