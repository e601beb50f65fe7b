"""Which files of a context BuildKit is given: the rules of .dockerignore, as BuildKit applies them.

In: the bytes of an ignore file. Out: `IgnoreRules`, or the `Verdicts` they came to before. Touches nothing.

Matching is e2b-dockerfile-utils', a port of moby/patternmatcher; reading the file is here, as moby's
`ignorefile.ReadAll` does it (byte order mark, CRLF, cleaning), since the library takes patterns. Where a file holds
what the two are known to see differently, nothing is ignored: more files count than need to, never fewer.
tests/engine/test_ignore.py has BuildKit itself judge.
"""

from __future__ import annotations

import posixpath
import re
from typing import TYPE_CHECKING

from buildorch.values import dataclass

if TYPE_CHECKING:
    from e2b_dockerfile_utils import PatternMatcher

MATCHER = "e2b-dockerfile-utils 0.1.1"
"""Whose verdicts these are: remembered verdicts hold for this version of the library only."""
_BOM = b"\xef\xbb\xbf"
_DISPUTED = re.compile(r"\[[^\]]*(\[|&&|--|\|\||~~)|\\[A-Za-z0-9]")
"""In a bracket, what Python's regular expressions may come to read as set operations; and an escaped letter or digit,
which BuildKit hands on to Go's regular expressions, where `\\a` is not the letter a."""


@dataclass(frozen=True, slots=True)
class IgnoreRules:
    """What one context leaves out; paths are relative to the context, with slashes."""

    matcher: PatternMatcher | None = None
    """None where nothing is left out."""
    disputed: bool = False
    """Nothing is left out because it is not known what BuildKit leaves out: the rules themselves count."""

    @property
    def leave_out_nothing(self) -> bool:
        """Whether no path has to be asked about."""
        return self.matcher is None

    def excludes(self, path: str) -> bool:
        """Whether the path itself is left out; a folder may still be sent for what is below it."""
        return self.matcher is not None and self.matcher.matches(path)

    def may_include_below(self, folder: str) -> bool:
        """Whether something below an excluded folder may be included again."""
        return self.matcher is not None and self.matcher.may_match_under(folder)


@dataclass(frozen=True, slots=True)
class Verdicts:
    """What rules said of the paths of one walk, to be walked again without them.

    Matching costs more than the lstat. A verdict depends on the rules and the path alone, so for known paths these are
    the rules' own. A path that is not known counts as included: a walk that meets one comes to another state than the
    one remembered, and is done again with the rules.
    """

    excluded: frozenset[str] = frozenset()
    pruned: frozenset[str] = frozenset()
    """Excluded folders with nothing included below."""

    @property
    def leave_out_nothing(self) -> bool:
        """Whether no path has to be asked about."""
        return not self.excluded

    def excludes(self, path: str) -> bool:
        """Whether the path was left out."""
        return path in self.excluded

    def may_include_below(self, folder: str) -> bool:
        """Whether something below an excluded folder may be included: yes, where it was not asked."""
        return folder not in self.pruned


def parse_rules(data: bytes) -> IgnoreRules:
    """The rules in an ignore file.

    Raises:
        ValueError: BuildKit will not take the file either: a pattern is malformed.
    """
    patterns = _patterns(data)
    if any(map(_is_disputed, patterns)):
        return IgnoreRules(disputed=True)
    if not patterns:
        return IgnoreRules()
    from e2b_dockerfile_utils import PatternMatcher  # noqa: PLC0415 - only where there is an ignore file

    return IgnoreRules(PatternMatcher(list(patterns)))


def _patterns(data: bytes) -> tuple[str, ...]:
    """The cleaned patterns of moby/patternmatcher `ignorefile.ReadAll`."""
    found = []
    for raw in data.removeprefix(_BOM).split(b"\n"):
        # What is not UTF-8 must still match file names that are not.
        line = raw.removesuffix(b"\r").decode("utf-8", "surrogateescape")
        if line.startswith("#"):
            continue
        pattern = line.strip()
        if not pattern:
            continue
        inverted = pattern.startswith("!")
        if inverted:
            pattern = pattern[1:].strip()
        if pattern:
            pattern = posixpath.normpath(pattern.replace("//", "/"))
            if len(pattern) > 1 and pattern.startswith("/"):
                pattern = pattern[1:]
        found.append(f"!{pattern}" if inverted else pattern)
    return tuple(found)


def _is_disputed(pattern: str) -> bool:
    """Whether the library and BuildKit part ways: `!` patterns that clean to the context itself, odd brackets."""
    inverted_root = pattern.startswith("!") and pattern[1:].strip("/") in {"", "."}
    return inverted_root or _DISPUTED.search(pattern) is not None
