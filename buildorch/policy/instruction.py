"""The instruction that made a layer, in few words.

In: `created_by` of a config's history. Out: text. Touches nothing.
"""

from __future__ import annotations

import re

LONGEST = 80
_ARGUMENTS = re.compile(r"\|\d+ .*?(?= /\S+ -\S*c |\Z)", re.DOTALL)
"""How BuildKit writes the build arguments of a RUN: `RUN |1 VERSION=1.2 /bin/sh -c make`. Their values are no news."""


def shortened(created_by: str) -> str:
    """The instruction in one line of at most `LONGEST` characters."""
    without = _ARGUMENTS.sub("", created_by.removesuffix("# buildkit"), count=1)
    text = " ".join(without.split()) or "an unnamed instruction"
    return text if len(text) <= LONGEST else text[: LONGEST - 3] + "..."
