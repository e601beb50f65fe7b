"""The variables of a Dockerfile, as far as their values are surely known, and words with them filled in.

In: words and values. Out: words, or None where a value is not known. Touches nothing.

A stage starts with the environment of its base image, which no Dockerfile shows: there, a name that the file has not
set may have any value. The rules are those of BuildKit (`dockerfile2llb/convert.go`: `defaultArgs`, `buildMetaArgs`,
`dispatchArg`, `dispatchEnv`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import field, replace

from buildorch.values import dataclass

_SPECIAL = re.compile(r"[$'\"\\`]")
_BRACE = re.compile(r"\$\{")
_PLAIN_BRACE = re.compile(r"\$\{[A-Za-z_][A-Za-z0-9_]*(\}|:?[-+])")
"""The forms that mean the same in every version of BuildKit: not `?`, `#`, `%` and `/`."""
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_BUILD_NAMES = ("BUILDPLATFORM", "BUILDOS", "BUILDOSVERSION", "BUILDARCH", "BUILDVARIANT")
_TARGET_NAMES = ("TARGETPLATFORM", "TARGETOS", "TARGETOSVERSION", "TARGETARCH", "TARGETVARIANT", "TARGETSTAGE")
_PROXIES = frozenset({"http_proxy", "https_proxy", "ftp_proxy", "no_proxy", "all_proxy"})
_ARCHITECTURES = frozenset({"amd64", "arm64", "386", "ppc64le", "s390x", "riscv64", "mips64le", "loong64"})


@dataclass(frozen=True, slots=True)
class Variables:
    """What is known of the variables at one place of a Dockerfile."""

    values: Mapping[str, str | None] = field(default_factory=dict)
    """Name -> value; None where it may have any value, or none."""
    is_closed: bool = False
    """Whether a name that is not in `values` is surely unset."""

    def having(self, values: Mapping[str, str | None]) -> Variables:
        """These, with others set."""
        return replace(self, values={**self.values, **values})

    def expand(self, word: str, *, escape: str) -> str | None:
        """The word with variables filled in and quotes taken off; None where that is not surely known."""
        if not _SPECIAL.search(word):
            return word
        if "$" in word and not word.isascii():
            return None
        if any(not _PLAIN_BRACE.match(word, brace.start()) for brace in _BRACE.finditer(word)):
            return None
        from e2b_dockerfile_utils import ShellLex  # noqa: PLC0415 - heavy, and only where something is to be filled in

        try:
            return ShellLex(escape, env=_Lookup(self), skip_unset_env=False).process_word(word)
        except ValueError:  # a value is not known, or BuildKit will not take the word either
            return None


class _Lookup(Mapping[str, str]):
    """Variables as the lexer asks for them."""

    def __init__(self, variables: Variables) -> None:
        self._variables = variables

    def __getitem__(self, name: str) -> str:
        values = self._variables.values
        if name not in values and self._variables.is_closed:
            raise KeyError(name)
        value = values.get(name)
        if value is None:
            raise ValueError(f"the value of {name} is not known")
        return value

    def __iter__(self) -> Iterator[str]:
        return iter(self._variables.values)

    def __len__(self) -> int:
        return len(self._variables.values)


def predefined(platform: str, arguments: Mapping[str, str]) -> Variables:
    """What a FROM may name without an ARG: the builder's platform, which is not known here, and the target's.

    Args:
        platform: as `linux/arm64`; empty where the builder chooses.
        arguments: build arguments, which come before these values.
    """
    values: dict[str, str | None] = dict.fromkeys((*_BUILD_NAMES, *_TARGET_NAMES))
    os_name, _, rest = platform.partition("/")
    architecture, _, variant = rest.partition("/")
    # Only what containerd's platforms.Normalize leaves as it is: it turns linux/arm into linux/arm/v7, and others.
    if os_name == "linux" and architecture in _ARCHITECTURES and not variant:
        values |= {"TARGETPLATFORM": platform, "TARGETOS": os_name, "TARGETARCH": architecture, "TARGETVARIANT": ""}
    return Variables({name: arguments.get(name, value) for name, value in values.items()}, is_closed=True)


def declared(
    words: tuple[str, ...],
    before: Variables,
    *,
    arguments: Mapping[str, str],
    escape: str,
    inherited: Variables | None = None,
) -> Variables:
    """The variables behind an ARG.

    Args:
        words: `NAME` and `NAME=default`.
        before: the variables before it.
        arguments: build arguments, which come before a default.
        escape: the file's escape character.
        inherited: inside a stage, the ARGs before the first FROM, which an ARG without a default takes its value from.
    """
    now = before
    same_line: set[str] = set()
    for word in words:
        name, has_default, default = word.partition("=")
        if not _NAME.match(name):
            return Variables()  # a name that is itself to be filled in: any may have been meant
        if name in arguments and name != "SOURCE_DATE_EPOCH":
            now = now.having({name: arguments[name]})
        elif _is_set_by_the_client(name):
            now = now.having({name: None})
        elif has_default:
            # Whether a name of the same line is already set differs between versions of BuildKit.
            scope = before.having(dict.fromkeys(same_line))
            now = now.having({name: scope.expand(default, escape=escape)})
        elif inherited is not None and name in inherited.values:
            now = now.having({name: inherited.values[name]})
        same_line.add(name)
    return now


def assigned(words: tuple[str, ...], before: Variables, *, escape: str) -> Variables:
    """The variables behind an ENV; all its values are filled in with what was set before it."""
    values: dict[str, str | None] = {}
    for name, value in zip(words[0::3], words[1::3], strict=True):
        if not _NAME.match(name):
            return Variables()
        values[name] = before.expand(value, escape=escape)
    return before.having(values)


def _is_set_by_the_client(name: str) -> bool:
    """Whether docker's client adds this build argument by itself: from its configuration or the environment."""
    return name.lower() in _PROXIES or name == "SOURCE_DATE_EPOCH" or name.startswith("BUILDKIT_")
