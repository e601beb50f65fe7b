"""A services file that was parsed before, and is the same: recalled without the libraries that parse and check it.

In: a parsed file, or a text that `remembered` made of one. Out: that text, or services with equal attributes. Touches
nothing.

What pydantic and the YAML parser take to start and to work, 60 ms, is a third of a run in which nothing changed. A file
is recalled only where the same code would read the same text with the same result: see `key_of`. Values of variables
are never kept: a file that names one which is set is parsed every time.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from buildorch.services.model import Service, ServicesFile

_PARTS = ("attestations", "policy", "size", "timeouts")
"""A service's keys whose values have attributes; other mappings are mappings."""


class Consulted(Mapping[str, str]):
    """Variables that take note of which of them were asked for."""

    def __init__(self, variables: Mapping[str, str]) -> None:
        """Stand for these variables."""
        self._variables = variables
        self.names: set[str] = set()

    def __getitem__(self, name: str) -> str:
        self.names.add(name)
        return self._variables[name]

    def __contains__(self, name: object) -> bool:
        self.names.add(str(name))
        return name in self._variables

    def __iter__(self) -> Iterator[str]:
        return iter(self._variables)

    def __len__(self) -> int:
        return len(self._variables)


class Recalled:
    """A value with attributes, as a model of `buildorch.services` has them; it cannot change."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        """Have these attributes."""
        self.__dict__.update(values)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{name} cannot be set: a service does not change")


class _RecalledFile(Recalled):
    """As `ServicesFile`, its services over the defaults already."""

    services: Mapping[str, Service]

    def merged(self, name: str) -> Service:
        return self.services[name]


def key_of(data: bytes, stamps: Sequence[str]) -> str:
    """What a remembered file belongs to: its bytes, and the stamps of the code that read them."""
    state = hashlib.sha256()
    for part in (data, *(stamp.encode() for stamp in stamps)):
        state.update(b"%d:" % len(part))
        state.update(part)
    return state.hexdigest()


def remembered(file: ServicesFile, key: str, consulted: Consulted) -> str | None:
    """The text to keep of a file; None where a variable that is set stands in it."""
    if any(name in consulted for name in tuple(consulted.names)):
        return None
    services = {name: file.merged(name).model_dump(mode="json") for name in file.services}
    builders = {name: builder.model_dump(mode="json") for name, builder in file.builders.items()}
    kept = {
        "key": key,
        "unset": sorted(consulted.names),
        "project": file.project,
        "builders": builders,
        "policies": list(file.policies),
        "services": services,
    }
    return json.dumps(kept, separators=(",", ":"))


def recall(text: str, key: str, variables: Mapping[str, str]) -> ServicesFile | None:
    """The file that a text was made of; None where it belongs to another, or cannot be read."""
    try:
        kept = json.loads(text)
        if kept["key"] != key or any(name in variables for name in kept["unset"]):
            return None
        services = {name: Recalled(_service(values)) for name, values in kept["services"].items()}
        builders = {name: Recalled(values) for name, values in kept["builders"].items()}
        found = _RecalledFile(
            {
                "project": kept["project"],
                "builders": builders,
                "policies": tuple(kept["policies"]),
                "services": services,
            }
        )
        return cast("ServicesFile", found)
    except (AttributeError, KeyError, TypeError, ValueError):
        return None


def _service(values: Mapping[str, Any]) -> dict[str, Any]:
    found = {name: _plain(value) for name, value in values.items()}
    for name in _PARTS:
        if found[name] is not None:
            found[name] = Recalled(found[name])
    if found["policy"].smoke is not None:
        found["policy"] = Recalled({**vars(found["policy"]), "smoke": Recalled(found["policy"].smoke)})
    found["secrets"] = tuple(Recalled(secret) for secret in found["secrets"])
    return found


def _plain(value: Any) -> Any:  # noqa: ANN401 - whatever JSON holds
    if isinstance(value, list):
        return tuple(_plain(item) for item in value)
    return {name: _plain(item) for name, item in value.items()} if isinstance(value, dict) else value
