"""Text -> `ServicesFile`, or every problem of the text at once, each at its line and column.

In: the bytes or text of a services file, the variables it may name, overrides of single keys.
Out: `ServicesFile`. Touches nothing; `buildorch.project` reads the file.
"""

from __future__ import annotations

import fnmatch
import graphlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from buildorch.errors import Problem, ServicesFileError, UsageError, did_you_mean
from buildorch.services.interpolation import InterpolationError, interpolate
from buildorch.services.model import Service, ServicesFile
from buildorch.services.naming import dependencies, image_name
from buildorch.services.yaml_nodes import Node, compose
from buildorch.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from pydantic_core import ErrorDetails

    from buildorch.services.overrides import Override

Path = tuple[str | int, ...]

_EXPECTED = {
    "string_type": "a text was expected",
    "tuple_type": "a list was expected",
    "mapping_type": "a mapping was expected",
    "dict_type": "a mapping was expected",
    "model_type": "a mapping was expected",
    "model_attributes_type": "a mapping was expected",
    "int_parsing": "a whole number was expected",
    "int_type": "a whole number was expected",
    "bool_parsing": "true or false was expected",
    "string_too_short": "this must not be empty",
    "too_short": "at least one entry was expected",
}


class Places:
    """Where each value of a services file stands, for problems that are found after parsing."""

    def __init__(self, source: str, root: Node) -> None:
        self.source, self._root = source, root

    def problem(self, path: Path, message: str, *, hint: str = "", at_key: bool = False) -> Problem:
        """A problem at the value (or its key) that `path` leads to, or at the nearest thing around it."""
        line, column = _find(self._root, path, at_key=at_key)
        return Problem(self.source, line, column, message, hint)


@dataclass(frozen=True, slots=True)
class Parsed:
    """What could be made of a text: the file if there was no problem, else the services that were whole."""

    file: ServicesFile | None
    whole: Mapping[str, Service]
    """Services without a problem of their own, over the defaults."""
    problems: tuple[Problem, ...]
    places: Places | None


def parse(
    text: str, source: str, *, variables: Mapping[str, str] | None = None, overrides: Sequence[Override] = ()
) -> ServicesFile:
    """The services file in `text`.

    Raises:
        ServicesFileError: with every problem found, in the file's order.
    """
    parsed = examine(text, source, variables=variables, overrides=overrides)
    if parsed.file is None:
        raise ServicesFileError(parsed.problems)
    return parsed.file


def examine(
    text: str, source: str, *, variables: Mapping[str, str] | None = None, overrides: Sequence[Override] = ()
) -> Parsed:
    """Everything that can be said of `text`; never raises for what stands in it."""
    root, problems = compose(text, source)
    if root is None or root.entries is None:
        if not problems:
            fact = "the file is empty" if root is None or root.text == "" else f"this is {root.kind}"
            where = (root.line, root.column) if root else (1, 1)
            problems = [Problem(source, *where, f"{fact}: a mapping with version, project and services was expected")]
        return Parsed(None, {}, tuple(problems), None)
    for override in overrides:
        _apply(root, override)
    places = Places(source, root)
    unfilled: list[Problem] = []
    data = _plain(root, variables or {}, unfilled, source)
    data = {key: value for key, value in data.items() if not key.startswith("x-")}
    file, bad, wrong = _validate(data, places)
    # A value whose variable is missing is not wrong a second time for being empty.
    without = {(problem.line, problem.column) for problem in unfilled}
    problems += [*unfilled, *(problem for problem in wrong if (problem.line, problem.column) not in without)]
    whole: dict[str, Service] = {}
    if file is not None:
        whole = {name: file.merged(name) for name in file.services if name not in bad}
        problems.extend(_between_services(file, whole, set(data["services"]), places))
    return Parsed(None if problems else file, whole, tuple(problems), places)


def _validate(data: dict[str, Any], places: Places) -> tuple[ServicesFile | None, set[str], list[Problem]]:
    """The file without the services that have problems of their own, the names of those, and the problems."""
    try:
        return ServicesFile.model_validate(data), set(), []
    except ValidationError as error:
        details = _of_their_own(error.errors(include_url=False, include_input=False))
    problems = [_problem(detail, data, places) for detail in details]
    bad = {str(detail["loc"][1]) for detail in details if detail["loc"][0] == "services" and len(detail["loc"]) > 2}
    services = data.get("services")
    if len(bad) == 0 or not isinstance(services, dict) or not services.keys() - bad:
        return None, bad, problems
    rest = {**data, "services": {name: value for name, value in services.items() if name not in bad}}
    try:
        return ServicesFile.model_validate(rest), bad, problems
    except ValidationError:
        return None, bad, problems


def _of_their_own(details: Sequence[ErrorDetails]) -> list[ErrorDetails]:
    """Those that follow from no other: a list of which no entry can be used is also said to be empty."""
    lists = {detail["loc"][:-1] for detail in details}
    return [detail for detail in details if detail["type"] != "too_short" or detail["loc"] not in lists]


def _between_services(
    file: ServicesFile, whole: Mapping[str, Service], known: set[str], places: Places
) -> Iterator[Problem]:
    """What can only be seen over several services: missing and circular dependencies, names given twice."""
    graph: dict[str, list[str]] = {}
    taken: dict[str, str] = {}
    for name, service in whole.items():
        for context, wanted in dependencies(service).items():
            if wanted in known:
                graph.setdefault(name, []).append(wanted)
                continue
            hint = did_you_mean(wanted, known)
            yield places.problem(("services", name, "contexts", context), f"there is no service {wanted!r}", hint=hint)
        for tag in service.tags:
            reference = f"{image_name(file.project, name, service)}:{tag}"
            other = taken.setdefault(reference, name)
            if other != name:
                fact = f"the service {other!r} gives the tag {reference} too"
                yield places.problem(("services", name), fact, at_key=True)
        if len(set(service.tags)) != len(service.tags):
            yield places.problem(("services", name, "tags"), "a tag is given twice")
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        cycle: list[str] = list(reversed(error.args[1]))
        fact = f"the services build on each other in a circle: {' -> '.join(cycle)}"
        yield places.problem(("services", cycle[0], "contexts"), fact, at_key=True)


def _problem(detail: ErrorDetails, data: dict[str, Any], places: Places) -> Problem:
    path = tuple(part for part in detail["loc"] if part != "[key]")
    kind, last = detail["type"], detail["loc"][-1] if detail["loc"] else ""
    if kind == "extra_forbidden":
        known = _known_keys(path)
        hint = did_you_mean(str(last), known) or f"known keys: {', '.join(known)}"
        return places.problem(path, f"unknown key {last!r}", hint=hint, at_key=True)
    if kind == "missing":
        return places.problem(path[:-1], f"the key {last!r} is missing")
    if kind == "value_error":
        return places.problem(path, detail["msg"].removeprefix("Value error, "), at_key=last == "[key]")
    if kind == "string_pattern_mismatch":
        return places.problem(path, f"{_value(data, path)!r} is not a name that can be used here", at_key=last == "[key]")
    if kind == "literal_error":
        expected = detail["ctx"]["expected"].replace("'", "")
        return places.problem(path, f"{expected} was expected, for {_dotted(path)}")
    if kind in _EXPECTED:
        return places.problem(path, f"{_EXPECTED[kind]}, for {_dotted(path)}")
    return places.problem(path, f"{_dotted(path)}: {detail['msg']}")


def _known_keys(path: Path) -> list[str]:
    """The keys that may stand where `path`'s last part stands."""
    if len(path) == 1:
        return list(ServicesFile.model_fields)
    inner = path[1:] if path[0] == "defaults" else path[2:]
    model: Any = Service
    for part in inner[:-1]:
        field = model.model_fields.get(part) if isinstance(part, str) else None
        if field is None:
            continue
        model = next((a for a in (field.annotation, *getattr(field.annotation, "__args__", ())) if hasattr(a, "model_fields")), model)
    return list(model.model_fields)


def _dotted(path: Path) -> str:
    return ".".join(map(str, path))


def _value(data: object, path: Path) -> object:
    """The value at `path`, or the path's last part where it leads to a key."""
    for part in path:
        if isinstance(data, dict) and part in data:
            data = data[part]
        elif isinstance(data, list) and isinstance(part, int) and part < len(data):
            data = data[part]
        else:
            return part
    return data if isinstance(data, str | int | float) else path[-1]


def _plain(node: Node, variables: Mapping[str, str], problems: list[Problem], source: str) -> Any:  # noqa: ANN401
    """The node as plain data, variables filled in."""
    if node.entries is not None:
        return {key: _plain(value, variables, problems, source) for key, (_, value) in node.entries.items()}
    if node.items is not None:
        return [_plain(item, variables, problems, source) for item in node.items]
    if node.text is None:
        return None
    try:
        return interpolate(node.text, variables)
    except InterpolationError as error:
        problems.append(Problem(source, node.line, node.column, str(error)))
        return ""


def _find(node: Node, path: Iterable[str | int], *, at_key: bool) -> tuple[int, int]:
    place = (node.line, node.column)
    for part in path:
        if node.entries is not None and isinstance(part, str) and part in node.entries:
            key, node = node.entries[part]
            place = (key.line, key.column) if at_key else (node.line, node.column)
        elif node.items is not None and isinstance(part, int) and part < len(node.items):
            node = node.items[part]
            place = (node.line, node.column)
        else:
            break
    return place


def _apply(root: Node, override: Override) -> None:
    services = (root.entries or {}).get("services")
    names = list(services[1].entries or ()) if services else []
    chosen = [name for name in names if fnmatch.fnmatchcase(name, override.pattern)]
    if not chosen or services is None:
        hint = did_you_mean(override.pattern, names) or f"the services are: {', '.join(names)}"
        raise UsageError(f"--set {override.pattern}: there is no such service", hint=hint)
    value, problems = compose(override.value, f"--set {override.pattern}.{'.'.join(override.path)}")
    if problems:
        raise ServicesFileError(problems)
    inside = _own(root.entries or {}, "services")
    for name in chosen:
        entries = _own(inside, name)
        for key in override.path[:-1]:
            entries = _own(entries, key)
        entries[override.path[-1]] = (Node(0, 0), value or Node(0, 0, text=""))


def _own(entries: dict[str, tuple[Node, Node]], key: str) -> dict[str, tuple[Node, Node]]:
    """The mapping under `key`, copied: with an alias or a merge key the same node stands in other services too."""
    place, node = entries.get(key, (Node(0, 0), Node(0, 0)))
    inner = dict(node.entries or {})
    entries[key] = (place, Node(node.line, node.column, entries=inner))
    return inner
