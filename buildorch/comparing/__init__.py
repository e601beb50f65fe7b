"""Variants of one service, built one after another in isolation, and put beside each other.

In: a `CompareRequest`. Out: a stream of events whose last is the `Comparison`. Touches: what `buildorch.preparing`
reads, the engine, the registry that was named, and a temporary folder; nothing of the service's own, and nothing is
recorded. BuildKit's cache keeps the steps it executed, as it does of every build.
"""

from buildorch.comparing.bench import Bench, CompareRequest, opened
from buildorch.comparing.running import stream
from buildorch.comparing.variants import Variant, parse_all

__all__ = ["Bench", "CompareRequest", "Variant", "opened", "parse_all", "stream"]
