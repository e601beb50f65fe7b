"""What a Dockerfile declares: its stages, and the images they start from.

In: a Dockerfile's text. Out: `Dockerfile`. Touches nothing.

This is the view for the policy: every stage counts, and what cannot be expanded is empty. `reading` is the strict one.
"""

from __future__ import annotations

import re

from buildorch.values import dataclass

_VARIABLE = re.compile(r"\$(?:\{(?P<braced>[A-Za-z_]\w*)(?::?-(?P<default>[^}]*))?\}|(?P<plain>[A-Za-z_]\w*))")


@dataclass(frozen=True, slots=True)
class Stage:
    """One `FROM`: its name (or number), what it starts from, and its line, from 1."""

    name: str
    base: str
    line: int
    from_stage: bool
    """Whether it starts from an earlier stage rather than an image."""


@dataclass(frozen=True, slots=True)
class Dockerfile:
    """The stages of a Dockerfile, in order."""

    stages: tuple[Stage, ...]

    @property
    def images(self) -> tuple[Stage, ...]:
        """The stages that start from an image other than scratch."""
        return tuple(stage for stage in self.stages if not stage.from_stage and stage.base != "scratch")


def read(text: str, arguments: dict[str, str]) -> Dockerfile:
    """Read a Dockerfile; `arguments` fill the ARGs that FROM lines name.

    Raises:
        ValueError: it cannot be parsed; BuildKit says so too, with more.
    """
    from e2b_dockerfile_utils import parse_dockerfile_ast  # noqa: PLC0415 - only where a policy asks

    defaults: dict[str, str] = {}
    stages: list[Stage] = []
    for instruction in parse_dockerfile_ast(text).instructions:
        match instruction.name.upper():
            case "ARG" if not stages:
                for word in instruction.args:
                    key, _, value = word.partition("=")
                    defaults[key] = arguments.get(key, value.strip("\"'"))
            case "FROM":
                words = [word for word in instruction.args if not word.startswith("--")]
                if words:
                    stages.append(_stage(words, stages, defaults, instruction.start_line))
            case _:
                pass
    return Dockerfile(tuple(stages))


def _stage(words: list[str], before: list[Stage], values: dict[str, str], line: int) -> Stage:
    base = _VARIABLE.sub(
        lambda match: values.get(match["braced"] or match["plain"]) or match["default"] or "", words[0]
    )
    name = words[2].lower() if len(words) > 2 and words[1].upper() == "AS" else str(len(before))
    known = {stage.name for stage in before}
    return Stage(name, base, line, from_stage=base.lower() in known)
