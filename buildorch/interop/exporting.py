"""A plan -> a JSON bake file: `bake(plan, file) -> Exported`.

In: a plan and the services file it is of. Out: the document, and what bake cannot say. Touches nothing.

A target is read off the very arguments that buildorch gives to `docker buildx build`, so the two cannot drift apart.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from buildorch.buildx.argv import arguments
from buildorch.interop.flags import target_of
from buildorch.interop.targets import entry, escaped, fields
from buildorch.interop.told import Told
from buildorch.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from buildorch.interop.targets import Attributes
    from buildorch.plan import Plan, Solve
    from buildorch.services import ServicesFile

NOT_IN_BAKE: Final[Mapping[str, str]] = {
    "builder": "a bake file names no builder: pass --builder to docker buildx bake",
    "retries": "bake tries nothing again",
    "timeout": "bake has no time limit",
    "timeouts": "bake has no time limits",
    "max_age": "bake keeps no record of when an image was built",
    "size": "bake measures no image",
    "policy": "bake judges no image",
}
"""Keys of a service that a bake target has nothing for, and why."""
SECRET_FIELDS: Final = frozenset({"token", "secret_access_key", "session_token"})
"""Fields of a cache that are secrets; buildx takes them from the environment (docs, cache backends gha and s3)."""
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_READ_AS_SOMETHING_ELSE = re.compile(r"-\Z|github\.com|git@|[^/]*:|~")
_UNSAFE = re.compile(r"[^A-Za-z0-9_-]")


@dataclass(frozen=True, slots=True)
class Exported:
    """A bake file, and what it cannot say."""

    document: Mapping[str, Any]
    told: tuple[Told, ...]


def bake(plan: Plan, file: ServicesFile) -> Exported:
    """The bake file of a plan, for `docker buildx bake` in the services file's folder."""
    names = target_names([solve.name for solve in plan.solves])
    told: list[Told] = []
    variables: dict[str, Any] = {}
    targets: dict[str, Any] = {}
    for solve in plan.solves:
        attributes, facts = target(solve, names)
        told += facts
        variables |= {name: {"default": None} for name in _from_environment(attributes)}
        targets[names[solve.name]] = _document(attributes)
    told += [
        Told(f"services.{name}", f"is the target {other}: a target's name takes no dot", lost=False)
        for name, other in names.items()
        if name != other
    ]
    told += _of_the_file(file)
    document = {"variable": variables, "group": {"default": {"targets": list(targets)}}, "target": targets}
    return Exported({key: value for key, value in document.items() if value}, tuple(told))


def target_names(names: Iterable[str]) -> dict[str, str]:
    """Service -> target: bake takes letters, digits, `_` and `-`, and puts `_` for a dot itself."""
    found: dict[str, str] = {}
    for name in names:
        wanted, count = _UNSAFE.sub("_", name), 2
        while wanted in found.values():
            wanted, count = f"{_UNSAFE.sub('_', name)}_{count}", count + 1
        found[name] = wanted
    return found


def target(solve: Solve, names: Mapping[str, str]) -> tuple[Attributes, list[Told]]:
    """One solve as a target's attributes in one form, and what they do not say."""
    aliases = {folder.path: folder.path for folder in solve.folders}
    words = arguments(solve, metadata_file=Path("-"), aliases=aliases, bases=solve.bases)
    attributes, unsaid = target_of(word for word in words[1:-2] if not word.startswith("--builder="))
    told = [Told(f"services.{solve.name}.buildx", f"{word}: no bake attribute says it") for word in unsaid]
    attributes["context"] = _from(solve.root, solve.context)
    if isinstance(solve.context, Path):
        attributes["dockerfile"] = posixpath.relpath(str(solve.dockerfile), str(solve.context))
    contexts = {name: _from(solve.root, value) for name, value in solve.contexts.items()}
    contexts |= {name: f"target:{names[service]}" for name, service in solve.bases.items()}
    if contexts:
        attributes["contexts"] = {**attributes.get("contexts", {}), **contexts}
    if "secret" in attributes:
        attributes["secret"] = [_secret(solve, text) for text in attributes["secret"]]
    for key in ("cache-from", "cache-to"):
        if key in attributes:
            attributes[key] = [_without_secrets(text, f"services.{solve.name}.{key}", told) for text in attributes[key]]
    told += _not_in_bake(solve, attributes)
    return attributes, told


def _from(root: Path, path: Path | str) -> str:
    """A folder as bake reads it in the services file's folder; what BuildKit reads itself stays as it is."""
    if not isinstance(path, Path):
        return path
    text = posixpath.relpath(str(path), str(root))
    return f"./{text}" if _READ_AS_SOMETHING_ELSE.match(text) else text


def _secret(solve: Solve, text: str) -> str:
    found = fields(text)
    if "src" in found:
        written = next(one.file for one in solve.spec.secrets if one.id == found["id"] and one.file)
        found["src"] = written
    return entry(found)


def _without_secrets(text: str, where: str, told: list[Told]) -> str:
    found = fields(text)
    for name in sorted(SECRET_FIELDS & found.keys()):
        told.append(Told(where, f"{name} is a secret: buildx takes it from the environment"))
        del found[name]
    return entry(found)


def _from_environment(attributes: Attributes) -> Iterator[str]:
    """Build arguments whose value is the environment's: a bake variable without a default, so that it is not kept."""
    args = attributes.get("args", {})
    yield from (name for name, value in args.items() if value is None and _VARIABLE.match(name))


def _not_in_bake(solve: Solve, attributes: Attributes) -> Iterator[Told]:
    for key, why in NOT_IN_BAKE.items():
        if key in solve.spec.model_fields_set or (key == "builder" and solve.builder):
            yield Told(f"services.{solve.name}.{key}", why)
    for name, value in attributes.get("args", {}).items():
        if value is None and not _VARIABLE.match(name):
            yield Told(f"services.{solve.name}.args.{name}", "no bake variable can have this name to take it from")


def _of_the_file(file: ServicesFile) -> Iterator[Told]:
    for name in file.builders:
        yield Told(f"builders.{name}", "bake has no limit for a builder: its own max-parallelism is one")
    for name in file.policies:
        yield Told(f"policies: {name}", "bake asks no rules")


def _document(attributes: Attributes) -> dict[str, Any]:
    """The attributes as a JSON bake file holds them, where every string is a template."""
    document = {key: _escape(value) for key, value in attributes.items() if key != "args"}
    args = attributes.get("args", {})
    known = {
        escaped(name): f"${{{name}}}" if value is None else escaped(value)
        for name, value in args.items()
        if value is not None or _VARIABLE.match(name)
    }
    return {**document, "args": known} if known else document


def _escape(value: Any) -> Any:  # noqa: ANN401 - JSON
    if isinstance(value, str):
        return escaped(value)
    if isinstance(value, list):
        return [_escape(one) for one in value]
    return {escaped(key): _escape(one) for key, one in value.items()} if isinstance(value, dict) else value
