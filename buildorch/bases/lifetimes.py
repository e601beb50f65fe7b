"""When a base image's project stops mending it.

In: a reference and a day. Out: the day its support ended. Touches nothing.

The dates are the projects' own, as published when the table was taken (`TAKEN`): Python's release cycle (a month; its
last day stands here), the Node.js release schedule, Debian's LTS (the official images follow it), and Alpine's
releases. Projects do move them, seldom and by little: a warning rests on them, never an exit code.
"""

from __future__ import annotations

import re
from datetime import date
from typing import TYPE_CHECKING

from buildorch.bases.names import canonical
from buildorch.errors import UsageError
from buildorch.oci import ImageReference

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

TAKEN = date(2026, 11, 25)
"""The day the table was taken."""

END_OF_LIFE: Mapping[str, Mapping[str, date]] = {
    # https://devguide.python.org/versions/
    "python": {
        "3.9": date(2025, 10, 31),
        "3.10": date(2026, 10, 31),
        "3.11": date(2027, 10, 31),
        "3.12": date(2028, 10, 31),
        "3.13": date(2029, 10, 31),
        "3.14": date(2030, 10, 31),
    },
    # https://github.com/nodejs/Release, schedule.json
    "node": {
        "16": date(2023, 9, 11),
        "17": date(2022, 6, 1),
        "18": date(2025, 4, 30),
        "19": date(2023, 6, 1),
        "20": date(2026, 4, 30),
        "21": date(2024, 6, 1),
        "22": date(2027, 4, 30),
        "23": date(2025, 6, 1),
        "24": date(2028, 4, 30),
    },
    # https://wiki.debian.org/LTS
    "debian": {
        "10": date(2024, 6, 30),
        "11": date(2026, 8, 31),
        "12": date(2028, 6, 30),
        "13": date(2030, 6, 30),
    },
    # https://alpinelinux.org/releases/
    "alpine": {
        "3.17": date(2024, 11, 22),
        "3.18": date(2025, 5, 9),
        "3.19": date(2025, 11, 1),
        "3.20": date(2026, 4, 1),
        "3.21": date(2026, 11, 1),
        "3.22": date(2027, 5, 1),
    },
}
"""Project -> version -> the last day of its support."""

_CODENAMES = {
    "buster": ("debian", "10"),
    "bullseye": ("debian", "11"),
    "bookworm": ("debian", "12"),
    "trixie": ("debian", "13"),
    "gallium": ("node", "16"),
    "hydrogen": ("node", "18"),
    "iron": ("node", "20"),
    "jod": ("node", "22"),
    "krypton": ("node", "24"),
}
_ALPINE = re.compile(r"alpine(\d+\.\d+)\Z")
_VERSION = re.compile(r"(\d+)(?:\.(\d+))?(?:\.\d+)*\Z")


def end_of_life(reference: str, today: date) -> date | None:
    """The day on which the support of an official image ended; None where it has not, or nothing is known.

    All that the tag names counts: `python:3.13-slim-bullseye` is as old as its Debian. A tag that moves with the
    releases (`python:3`, `node:lts`, `debian:stable`) has no end.

    Args:
        reference: as a Dockerfile writes it. An image of these names elsewhere than on Docker Hub counts where its
            path ends in `library/NAME`, as in mirrors of the hub.
        today: the day to judge at; on the last day of support there is still some.
    """
    try:
        parsed = ImageReference.parse(canonical(reference))
    except UsageError:
        return None
    folder, _, project = parsed.repository.rpartition("/")
    official = not parsed.registry and not folder
    mirrored = bool(parsed.registry) and f"/{folder}".endswith("/library")
    if project not in END_OF_LIFE or not (official or mirrored):
        return None
    past = [end for end in _ends(project, parsed.tag) if end < today]
    return min(past, default=None)


def _ends(project: str, tag: str) -> Iterator[date]:
    first, *rest = tag.split("-")
    if version := _VERSION.match(first):
        # A project counts either by its first number (Node.js, Debian) or by the first two (Python, Alpine).
        for name in (version[1], f"{version[1]}.{version[2]}"):
            if name in END_OF_LIFE[project]:
                yield END_OF_LIFE[project][name]
    for word in (first, *rest):
        if alpine := _ALPINE.match(word):
            if alpine[1] in END_OF_LIFE["alpine"]:
                yield END_OF_LIFE["alpine"][alpine[1]]
        elif word in _CODENAMES:
            system, release = _CODENAMES[word]
            yield END_OF_LIFE[system][release]
