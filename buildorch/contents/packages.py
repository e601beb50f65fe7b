"""Which packages and users the files of an image tell of.

In: a file's path and bytes. Out: `Package`s, or users' numbers. Touches nothing.

The files are written by whoever made the image. What cannot be read in them is passed over: nothing here raises.

Sources: dpkg(1) and deb-control(5); apk-v2(5) for apk's database; Python's core metadata specification; npm's
package.json documentation.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

from buildorch.contents.layer import Package, PackageKind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    Parser = Callable[[bytes, str], tuple[Package, ...]]

USERS = "etc/passwd"
MAX_WORD = 256
"""Characters of a name or version; longer ones are none."""
_FIELD = re.compile(rb"^(package|status|version|name):(.*)$", re.IGNORECASE | re.MULTILINE).findall
_LETTER = re.compile(rb"^([PV]):(.*)$", re.MULTILINE).findall
_PARAGRAPHS = re.compile(rb"\n(?:[ \t\r]*\n)+").split


def parser_of(path: str) -> Parser | None:
    """What reads the packages out of the file at this path; None where it is not one that tells of packages."""
    folder, _, base = path.rpartition("/")
    if base in _BY_NAME:
        fits, parser = _BY_NAME[base]
        return parser if fits(path) else None
    if folder == "var/lib/dpkg/status.d":
        return deb
    return python if base.endswith(".egg-info") else None


def deb(data: bytes, place: str) -> tuple[Package, ...]:
    """The installed packages of dpkg's status; files of `status.d`, as distroless has them, leave the Status out."""
    needs_status = place.endswith("/status")
    return _told(
        ("deb", fields.get("package"), fields.get("version", ""), place)
        for fields in map(_fields, _PARAGRAPHS(data))
        if (fields["status"].split()[-1:] == ["installed"] if "status" in fields else not needs_status)
    )


def apk(data: bytes, place: str) -> tuple[Package, ...]:
    """The packages of apk's database: all in it are installed."""
    paragraphs = ({name: _text(value) for name, value in reversed(_LETTER(one))} for one in _PARAGRAPHS(data))
    return _told(("apk", fields.get(b"P"), fields.get(b"V", ""), place) for fields in paragraphs)


def python(data: bytes, place: str) -> tuple[Package, ...]:
    """The one package of a METADATA or PKG-INFO file."""
    fields = _fields(_PARAGRAPHS(data, 1)[0])
    return _told([("python", fields.get("name"), fields.get("version", ""), place)])


def npm(data: bytes, place: str) -> tuple[Package, ...]:
    """The one package of a package.json."""
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        return ()
    if not isinstance(found, dict):
        return ()
    version = found.get("version")
    return _told([("npm", found.get("name"), version if isinstance(version, str) else "", place)])


def users(data: bytes) -> Mapping[str, int]:
    """The users of a passwd(5) file; of two of one name the first holds, as getpwnam(3) has it."""
    found: dict[str, int] = {}
    for line in data.split(b"\n"):
        fields = line.split(b":")
        if len(fields) >= 3 and (name := _text(fields[0])) and _is_word(name) and _is_id(fields[2]):
            found.setdefault(name, int(fields[2]))
    return found


def _fields(paragraph: bytes) -> dict[str, str]:
    """The fields that are asked for here, by their names in small letters; of two of one name the first holds."""
    return {name.decode().lower(): _text(value) for name, value in reversed(_FIELD(paragraph))}


def _told(found: Iterable[tuple[PackageKind, object, str, str]]) -> tuple[Package, ...]:
    return tuple(
        Package(kind, name, version, place)
        for kind, name, version, place in found
        if isinstance(name, str) and _is_word(name) and (not version or _is_word(version))
    )


def _is_id(field: bytes) -> bool:
    return field.isdigit() and len(field) <= 10 and int(field) < 1 << 32


def _is_word(text: str) -> bool:
    return 0 < len(text) <= MAX_WORD and text.isprintable()


def _text(value: bytes) -> str:
    return value.strip().decode(errors="replace")


def _fits(pattern: str) -> Callable[[str], object]:
    return re.compile(pattern, re.DOTALL).fullmatch


_BY_NAME: Mapping[str, tuple[Callable[[str], object], Parser]] = {
    "status": (_fits("var/lib/dpkg/status"), deb),
    "installed": (_fits("(?:usr/)?lib/apk/db/installed"), apk),
    "METADATA": (_fits(r".*\.dist-info/METADATA"), python),
    "PKG-INFO": (_fits(r".*\.egg-info/PKG-INFO"), python),
    "package.json": (_fits(r"(?:.*/)?node_modules/(?:@[^/]+/)?[^/.@][^/]*/package\.json"), npm),
}
"""A file's name -> what its whole path has to be, and what reads it."""
