"""The build sections of a Compose file -> the targets found in them: `targets_found(text, source)`.

In: the text of a Compose file. Out: `Found`s and `Told`s, each with line and column. Touches nothing.

Source: the Compose Build Specification (compose-spec, build.md and schema/compose-spec.json) and the `x-bake` extension
of docker/buildx bake/compose.go. bake's own reading of a Compose file is not used: with buildx 0.29 it passes over
`isolation`, `privileged`, `entitlements`, a secret's `target`, and `image` where there are `tags`, gives the limit
`nproc: 3` as `0:0`, and fills variables in, so that their values would be kept. Variables stay as they are here: a
services file writes them the same way.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from buildorch.errors import Problem, ServicesFileError, UsageError
from buildorch.interop.importing import Found
from buildorch.interop.targets import canonical, entry
from buildorch.interop.told import Told
from buildorch.services.yaml_nodes import Node, compose
from buildorch.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

_YES: Final = frozenset({"true", "yes", "on", "1"})
_NO: Final = frozenset({"false", "no", "off", "0", ""})
_ADDRESS = re.compile(r"[=:]")

_TEXTS: Final[Mapping[str, str]] = {
    "context": "context",
    "dockerfile": "dockerfile",
    "dockerfile_inline": "dockerfile-inline",
    "network": "network",
    "shm_size": "shm-size",
    "target": "target",
}
_LISTS: Final[Mapping[str, str]] = {
    "cache_from": "cache-from",
    "cache_to": "cache-to",
    "entitlements": "entitlements",
    "platforms": "platforms",
}
_MAPPINGS: Final[Mapping[str, str]] = {"args": "args", "labels": "labels"}
_FLAGS: Final[Mapping[str, str]] = {"no_cache": "no-cache", "pull": "pull"}
_X_BAKE: Final[Mapping[str, str]] = {
    "cache-from": "cache-from",
    "cache-to": "cache-to",
    "contexts": "contexts",
    "no-cache": "no-cache",
    "no-cache-filter": "no-cache-filter",
    "output": "output",
    "platforms": "platforms",
    "pull": "pull",
    "secret": "secret",
    "ssh": "ssh",
    "tags": "tags",
}
_BUILDING: Final = ("build", "extends", "image", "platform")
"""Keys of a service that have to do with its build; all others say how it runs."""


@dataclass(frozen=True, slots=True)
class Composed:
    """What stands in a Compose file."""

    project: str
    """Its `name`; empty where it has none."""
    found: tuple[Found, ...]
    told: tuple[Told, ...]


def targets_found(text: str, source: str) -> Composed:
    """The services of a Compose file that have a build section.

    Raises:
        ServicesFileError: it is not YAML, or no mapping with services.
    """
    root, problems = compose(text, source)
    if problems:
        raise ServicesFileError(problems)
    top = _entries(root)
    services = _entries(top.get("services"))
    if not services:
        raise ServicesFileError([Problem(source, 1, 1, "there are no services: a Compose file was expected")])
    told = list(_of_the_file(top, source))
    built = {name: node for name, node in services.items() if "build" in _entries(node)}
    reader = _Reader(source, _entries(top.get("secrets")), told)
    found = tuple(reader.service(name, node) for name, node in built.items())
    others = [name for name in services if name not in built]
    if others:
        told.append(Told(source, f"without a build section, and left out: {', '.join(others)}", lost=False))
    return Composed(_text(top.get("name")) or "", found, tuple(told))


def _of_the_file(top: Mapping[str, Node], source: str) -> Iterator[Told]:
    if "include" in top:
        fact = "other files are not followed: flatten them first with `docker compose config`"
        yield Told(f"{source}:{top['include'].line}: include", fact)
    running: dict[str, None] = {}
    for node in _entries(top.get("services")).values():
        running |= dict.fromkeys(key for key in _entries(node) if key not in _BUILDING)
    if running:
        fact = f"says how a service runs, not how it is built: {', '.join(running)}"
        yield Told(source, fact, lost=False)


def _entries(node: Node | None) -> dict[str, Node]:
    return {key: value for key, (_, value) in node.entries.items()} if node and node.entries else {}


def _text(node: Node | None) -> str | None:
    return node.text if node else None


class _Reader:
    """Reads one file's services; holds what was told of them."""

    def __init__(self, source: str, secrets: Mapping[str, Node], told: list[Told]) -> None:
        self.source, self.secrets, self.told = source, secrets, told

    def where(self, node: Node, path: str) -> str:
        return f"{self.source}:{node.line}:{node.column}: {path}"

    def lost(self, node: Node, path: str, fact: str) -> None:
        self.told.append(Told(self.where(node, path), fact))

    def service(self, name: str, node: Node) -> Found:
        """One service with a build section, as a target."""
        keys = _entries(node)
        build = keys["build"]
        given: dict[str, Any] = {"context": build.text} if build.text is not None else {}
        places: dict[str, str] = {}
        for key, value in self.mapping(build, f"{name}.build").items() if build.text is None else ():
            path = f"{name}.build.{key}"
            before = dict(given)
            self.attribute(given, key, value, path)
            places |= {one: self.where(value, path) for one in given if given[one] != before.get(one)}
        if "x-bake" in (extras := _entries(build)):
            self.x_bake(given, extras["x-bake"], f"{name}.build.x-bake", places)
        self.around(given, keys, name, places)
        try:
            return Found(name, canonical(given, printed=False)[0], self.source, places)
        except UsageError as error:
            raise ServicesFileError([Problem(self.source, build.line, build.column, str(error))]) from None

    def around(self, given: dict[str, Any], keys: Mapping[str, Node], name: str, places: dict[str, str]) -> None:
        """What a service says of its build outside of its build section."""
        for key in ("image", "platform"):
            if key in keys:
                self.text(keys[key], f"{name}.{key}")
        if image := _text(keys.get("image")):
            # Compose gives the image its own name and all of its tags.
            given["tags"] = list(dict.fromkeys([image, *given.get("tags", ())]))
            places.setdefault("tags", self.where(keys["image"], f"{name}.image"))
        if (platform := _text(keys.get("platform"))) and not given.get("platforms"):
            given["platforms"] = [platform]
            places["platforms"] = self.where(keys["platform"], f"{name}.platform")
        if "extends" in keys:
            fact = "is not followed: flatten it first with `docker compose config`"
            self.lost(keys["extends"], f"{name}.extends", fact)

    def attribute(self, given: dict[str, Any], key: str, node: Node, path: str) -> None:
        """One attribute of a build section."""
        readers: dict[str, Callable[[dict[str, Any], Node, str], None]] = {
            "additional_contexts": self.contexts,
            "extra_hosts": self.hosts,
            "isolation": self.isolation,
            "privileged": self.privileged,
            "provenance": self.provenance,
            "sbom": self.sbom,
            "secrets": self.build_secrets,
            "ssh": self.ssh,
            "tags": self.tags,
            "ulimits": self.ulimits,
        }
        if key in _TEXTS:
            given[_TEXTS[key]] = self.text(node, path)
        elif key in _LISTS:
            given[_LISTS[key]] = self.texts(node, path)
        elif key in _MAPPINGS:
            pairs = self.pairs(node, path)
            given[_MAPPINGS[key]] = {name: value if key == "args" else value or "" for name, value in pairs.items()}
        elif key in _FLAGS:
            given[_FLAGS[key]] = self.flag(node, path)
        elif key in readers:
            readers[key](given, node, path)
        elif key != "x-bake":
            fact = "is an extension, which means something to another program"
            told = Told(self.where(node, path), fact, lost=False)
            self.told.append(told if key.startswith("x-") else Told(self.where(node, path), "no such key is known"))

    def text(self, node: Node, path: str) -> str | None:
        if node.entries is not None or node.items is not None:
            self.lost(node, path, f"a text was expected, this is {node.kind}")
        return node.text

    def texts(self, node: Node, path: str) -> list[str]:
        """A list of texts; one text alone is a list of its words, as in x-bake."""
        if node.text is not None:
            return node.text.split()
        for item in node.items or ():
            if item.text is None:
                self.lost(item, path, f"a text was expected, this is {item.kind}")
        if node.entries is not None:
            self.lost(node, path, "a list was expected, this is a mapping")
        return [item.text for item in node.items or () if item.text is not None]

    def pairs(self, node: Node, path: str) -> dict[str, str | None]:
        """`[A=1, B]` or `{A: 1, B: }`."""
        if node.entries is None:
            found = {}
            for text in self.texts(node, path):
                name, equals, given = text.partition("=")
                found[name] = given if equals else None
            return found
        return {name: self.text(value, f"{path}.{name}") for name, value in _entries(node).items()}

    def flag(self, node: Node, path: str) -> bool:
        text = (self.text(node, path) or "").lower()
        if text not in _YES | _NO:
            self.lost(node, path, f"{node.text!r}: true or false was expected")
        return text in _YES

    def contexts(self, given: dict[str, Any], node: Node, path: str) -> None:
        pairs = self.pairs(node, path).items()
        given["contexts"] = {name: re.sub(r"\Aservice:", "target:", value or "") for name, value in pairs}

    def hosts(self, given: dict[str, Any], node: Node, path: str) -> None:
        if node.entries is None:
            for text in self.texts(node, path):
                parts = _ADDRESS.split(text, maxsplit=1)
                _append(given, parts[0], parts[1] if len(parts) > 1 else "")
            return
        for name, value in _entries(node).items():
            addresses = self.texts(value, f"{path}.{name}") if value.items is not None else [value.text or ""]
            for address in addresses:
                _append(given, name, address)

    def isolation(self, given: dict[str, Any], node: Node, path: str) -> None:  # noqa: ARG002 - one of the readers
        if node.text not in {None, "default"}:
            self.lost(node, path, f"{node.text}: BuildKit has no isolation to choose")

    def privileged(self, given: dict[str, Any], node: Node, path: str) -> None:  # noqa: ARG002
        if self.flag(node, path):
            fact = "BuildKit has no privileged build: entitlements with RUN --security=insecure are its way"
            self.lost(node, path, fact)

    def provenance(self, given: dict[str, Any], node: Node, path: str) -> None:
        self.attestation(given, "provenance", node, path)

    def sbom(self, given: dict[str, Any], node: Node, path: str) -> None:
        self.attestation(given, "sbom", node, path)

    def attestation(self, given: dict[str, Any], kind: str, node: Node, path: str) -> None:
        """`true`, `false`, or the attestation's own parameters."""
        text = self.text(node, path) or ""
        if text.lower() in _YES | _NO:
            text = "" if text.lower() in _YES else ",disabled=true"
        given.setdefault("attest", []).append(f"type={kind}{',' if text and text[0] != ',' else ''}{text}")

    def mapping(self, node: Node, path: str) -> dict[str, Node]:
        if node.entries is None and node.kind != "null":
            self.lost(node, path, f"a mapping was expected, this is {node.kind}")
        return _entries(node)

    def build_secrets(self, given: dict[str, Any], node: Node, path: str) -> None:
        if node.items is None and node.kind != "null":
            self.lost(node, path, f"a list was expected, this is {node.kind}")
        for item in node.items or ():
            if secret := self.secret(item, path):
                given.setdefault("secret", []).append(secret)

    def secret(self, node: Node, path: str) -> str | None:
        """One secret: its id is `target` or its name; where it comes from stands at the top of the file."""
        long = {key: value.text or "" for key, value in _entries(node).items()}
        name = long.get("source", "") if node.entries is not None else node.text or ""
        for key in sorted(long.keys() - {"source", "target"}):
            self.lost(node, path, f"{name}.{key}: a build's secret has none, RUN --mount says it")
        defined = self.secrets.get(name)
        origin = {key: value.text or "" for key, value in _entries(defined).items()}
        known = {"file": "src", "environment": "env"}
        if not origin.keys() & known.keys():
            self.lost(node, path, f"{name}: neither a file nor an environment variable is given for it")
            return None
        for key in sorted(origin.keys() - known.keys() - {"name"}):
            self.lost(defined or node, f"secrets.{name}", f"{key}: a build's secret has none")
        return entry({"id": long.get("target") or name} | {known[key]: origin[key] for key in known if key in origin})

    def ssh(self, given: dict[str, Any], node: Node, path: str) -> None:
        given["ssh"] = [name if value is None else f"{name}={value}" for name, value in self.pairs(node, path).items()]

    def tags(self, given: dict[str, Any], node: Node, path: str) -> None:
        given["tags"] = self.texts(node, path)

    def ulimits(self, given: dict[str, Any], node: Node, path: str) -> None:
        for name, value in self.mapping(node, path).items():
            limits = _entries(value)
            soft = _text(limits.get("soft")) if limits else self.text(value, f"{path}.{name}")
            hard = _text(limits.get("hard")) if limits else soft
            if soft or hard:
                given.setdefault("ulimits", []).append(f"{name}={soft or hard}:{hard or soft}")
            else:
                self.lost(value, f"{path}.{name}", "a number, or soft and hard were expected")

    def x_bake(self, given: dict[str, Any], node: Node, path: str, places: dict[str, str]) -> None:
        """What Compose's own keys did not say when bake was made: merged with them, as bake does."""
        for key, value in self.mapping(node, path).items():
            if key not in _X_BAKE:
                self.lost(value, f"{path}.{key}", "bake knows no such key here, and passes it over")
                continue
            places[key] = self.where(value, f"{path}.{key}")
            if key in _FLAGS.values():
                given[key] = self.flag(value, path)
            elif key == "contexts":
                own = given.get("contexts", {})
                self.contexts(given, value, path)
                given["contexts"] |= own
            else:
                given[key] = [*given.get(key, ()), *self.texts(value, path)]


def _append(given: dict[str, Any], host: str, address: str) -> None:
    hosts = given.setdefault("extra-hosts", {})
    address = address.removeprefix("[").removesuffix("]")
    hosts[host] = f"{hosts[host]},{address}" if host in hosts else address
