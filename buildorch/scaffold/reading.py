"""Small text files of a project.

In: paths. Out: text. Touches: those files, where they are in the project's folder.
"""

from __future__ import annotations

from pathlib import Path

from buildorch.scaffold.found import Unfit

MOST_BYTES = 8 * 1024 * 1024
"""Of one file: a lock of some thousand packages takes 2 MB."""


def read_text(folder: Path, name: str) -> str | None:
    """A file's text; None where it is not there.

    Raises:
        Unfit: it leads out of the folder, is too large, or is no text.
    """
    path = folder / name
    if not path.is_file():
        return None
    if not path.resolve().is_relative_to(folder.resolve()):
        raise Unfit(
            folder, f"{name} leads out of the project's folder", hint="a build could not read it: copy it there"
        )
    text = text_in(path)
    if text is None:
        raise Unfit(folder, f"{name} is no text of at most {MOST_BYTES} bytes", hint="mend it, and run init again")
    return text


def text_in(path: Path) -> str | None:
    """A file's text; None where it is too large, or no text that can be read."""
    try:
        if path.stat().st_size > MOST_BYTES:
            return None
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError):
        return None
