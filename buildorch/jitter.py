"""A little chance in every pause, so that many who wait for the same do not come back at once.

In: seconds. Out: seconds. Touches the operating system's random numbers, and not those of the module `random`: these,
and what they are after a seed, are the importing program's.
"""

from __future__ import annotations

import random

_OWN = random.SystemRandom()


def jittered(longest_s: float) -> float:
    """A pause of at least half of `longest_s`, in seconds, and never the same."""
    return longest_s * _OWN.uniform(0.5, 1.0)
