"""Targets -> drafts of services -> the text of a services file that parses: `drafted`, then `services_file`.

In: the targets found in a file, the project's name. Out: YAML text, and what had to be left out of it. Touches nothing.
"""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING, Any

from buildorch.interop.importing import service_names, service_of
from buildorch.interop.told import Told
from buildorch.services.interpolation import InterpolationError, interpolate
from buildorch.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from buildorch.interop.importing import Draft, Folders, Found

_UNPRINTABLE = re.compile(r"[^\x20-\x7e\xa0-\ud7ff\ue000-\ufffd]")
WIDTH = 4096


@dataclass(frozen=True, slots=True)
class Written:
    """A services file to be, and what is not in it."""

    text: str
    told: tuple[Told, ...]


def drafted(found: Sequence[Found], folders: Folders) -> tuple[list[Draft], list[Told]]:
    """A draft of each target, but of those that build what another one builds under the same name."""
    told: list[Told] = []
    first: dict[str, str] = {}
    names = service_names(one.name for one in found)
    chosen = []
    for one in found:
        other = first.setdefault(repr(one.attributes) if one.attributes.get("tags") else one.name, one.name)
        if other == one.name:
            chosen.append(one)
        else:
            names[one.name] = names[other]
            told.append(Told(f"{one.source}: {one.name}", f"builds what {other} builds, and is left out", lost=False))
    linked = {value for one in found for value in one.attributes.get("contexts", {}).values()}
    drafts = []
    for one in chosen:
        draft, facts = service_of(one, names, folders, linked=f"target:{one.name}" in linked)
        drafts.append(draft)
        told += facts
        if draft.name != one.name:
            told.append(Told(f"{one.source}: {one.name}", f"is the service {draft.name}", lost=False))
    return drafts, told


def unset(drafts: Sequence[Draft], variables: Mapping[str, str]) -> list[str]:
    """What is still to be said before the services file can be used: its variables that are not set."""
    facts: dict[str, None] = {}
    for text in (text for draft in drafts for text in _texts(draft.keys)):
        try:
            interpolate(text, variables)
        except InterpolationError as error:
            facts[str(error)] = None
    return list(facts)


def _texts(value: Any) -> Iterator[str]:  # noqa: ANN401 - plain data
    if isinstance(value, str):
        yield value
    elif isinstance(value, list | dict):
        for one in value.values() if isinstance(value, dict) else value:
            yield from _texts(one)


def services_file(
    drafts: Sequence[Draft], *, project: str, source: str, variables: Mapping[str, str], dockerfiles: Mapping[str, str]
) -> Written:
    """The text of the services file.

    Args:
        drafts: its services.
        project: its name.
        source: the file they are from, for people.
        variables: what `${...}` in them may be filled in from, to see whether a value can be used.
        dockerfiles: service -> the Dockerfile written for it, relative to its context.
    """
    told: list[Told] = []
    taken: dict[str, str] = {}
    services: dict[str, Any] = {}
    for draft in drafts:
        keys = dict(draft.keys)
        if draft.name in dockerfiles:
            keys["dockerfile"] = dockerfiles[draft.name]
        where = f"{source}: {draft.name}"
        fitting = dict(_fitting(keys, where, variables, told))
        services[draft.name] = _own_tags(draft.name, fitting, where, taken, told)
    descriptions = {draft.name: draft.description for draft in drafts if draft.description}
    return Written(_yaml(project, services, descriptions), tuple(told))


def _own_tags(name: str, keys: dict[str, Any], where: str, taken: dict[str, str], told: list[Told]) -> dict[str, Any]:
    """The keys without tags that another service gives: two images cannot have one name."""
    image = keys.get("image")
    if image is None:
        return keys
    tags = keys.get("tags", ["latest"])
    free = [tag for tag in tags if taken.setdefault(f"{image}:{tag}", name) == name]
    others = [f"{image}:{tag}" for tag in tags if tag not in free]
    told += [Told(f"{where}.tags", f"{one} is given by {taken[one]} too") for one in others]
    rest = {key: value for key, value in keys.items() if key not in {"image", "tags"}}
    return {"image": image, "tags": free, **rest} if free else rest


def _fitting(
    keys: Mapping[str, Any], where: str, variables: Mapping[str, str], told: list[Told]
) -> Iterator[tuple[str, Any]]:
    """The keys, and of lists the entries, that a services file takes."""
    for key, value in keys.items():
        parts = [[one] for one in value] if isinstance(value, list) else [value]
        good = []
        for part in parts:
            if fact := _misfit(key, part, variables):
                shown = part[0] if isinstance(part, list) else part
                told.append(Told(f"{where}.{key}", f"{shown!r}: {fact}"))
            else:
                good.append(part)
        if good:
            yield key, [one for part in good for one in part] if isinstance(value, list) else good[0]


def _misfit(key: str, value: Any, variables: Mapping[str, str]) -> str:  # noqa: ANN401 - plain data
    """Why a services file does not take this value; empty where it does, or where a variable decides it later."""
    from pydantic import ValidationError  # noqa: PLC0415 - the model's, loaded for an import alone

    from buildorch.services.model import Service  # noqa: PLC0415

    try:
        Service.model_validate({key: _filled(value, variables)})
    except InterpolationError:
        return ""
    except ValidationError as error:
        return str(error.errors(include_url=False, include_input=False)[0]["msg"]).removeprefix("Value error, ")
    return ""


def _filled(value: Any, variables: Mapping[str, str]) -> Any:  # noqa: ANN401 - plain data
    if isinstance(value, str):
        return interpolate(value, variables)
    if isinstance(value, dict):
        return {key: _filled(one, variables) for key, one in value.items()}
    return [_filled(one, variables) for one in value] if isinstance(value, list) else value


def _yaml(project: str, services: Mapping[str, Any], descriptions: Mapping[str, str]) -> str:
    from ruamel.yaml import YAML  # noqa: PLC0415 - its writer is for an import alone
    from ruamel.yaml.comments import CommentedMap  # noqa: PLC0415

    listed = CommentedMap(services)
    for name, description in descriptions.items():
        # A comment is the only place that a description has here.
        listed.yaml_set_comment_before_after_key(name, before=_UNPRINTABLE.sub(" ", description), indent=2)
    yaml = YAML()
    yaml.width = WIDTH
    text = io.StringIO()
    yaml.dump({"version": 1, "project": project, "services": listed}, text)
    return text.getvalue()
