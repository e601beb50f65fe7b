"""Keys of services given on the command line: `Override.parse("SERVICE.KEY=VALUE")`.

In: text. Out: `Override`. Touches nothing.
"""

from __future__ import annotations


from buildorch.errors import UsageError
from buildorch.values import dataclass


@dataclass(frozen=True, slots=True)
class Override:
    """`--set SERVICE.KEY=VALUE`: one key of the services that the pattern names, given on the command line."""

    pattern: str
    path: tuple[str, ...]
    value: str

    @classmethod
    def parse(cls, text: str) -> Override:
        """Read `SERVICE.KEY[.KEY...]=VALUE`; the value is YAML, so `[a, b]` is a list.

        Raises:
            UsageError: the form is wrong.
        """
        left, equals, value = text.partition("=")
        pattern, *path = left.split(".")
        if not equals or not pattern or not path or not all(path):
            raise UsageError(f"--set {text!r} is not SERVICE.KEY=VALUE", hint="for example --set backend.target=test")
        # An argument's or a label's name may hold dots itself.
        if path[0] in {"args", "labels", "annotations", "contexts"} and len(path) > 2:
            path = [path[0], ".".join(path[1:])]
        return cls(pattern, tuple(path), value)
