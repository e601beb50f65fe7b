"""A target, of bake or out of a Compose file, -> what a services file says of it: `service_of(found, context)`.

In: a target's attributes in one form, their texts as a services file holds them. Out: a service's keys as plain
values, and what they do not say. Touches nothing.
"""

from __future__ import annotations

import posixpath
import re
from dataclasses import field
from typing import TYPE_CHECKING, Any

from buildorch.interop.exporting import SECRET_FIELDS
from buildorch.interop.flags import flags_of
from buildorch.interop.targets import entry, fields
from buildorch.interop.told import Told
from buildorch.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from buildorch.interop.targets import Attributes

_NOT_A_FOLDER = re.compile(r"[a-z][a-z0-9+.-]*://|git@|github\.com/|\$")
_IN_A_NAME = re.compile(r"[^a-z0-9._-]+")
_SECRET_ID = re.compile(r"[A-Za-z0-9_.-]+\Z")
_NETWORKS = ("default", "none", "host")
CACHE_ONLY = "type=cacheonly"


@dataclass(frozen=True, slots=True)
class Found:
    """One target as it stands in a file."""

    name: str
    attributes: Attributes
    source: str
    """The file, for people."""
    places: Mapping[str, str] = field(default_factory=dict)
    """Attribute -> where it stands, in a file whose lines are known."""

    def where(self, key: str) -> str:
        """Where an attribute stands, for people."""
        return self.places.get(key) or f"{self.source}: {self.name}.{key}"


@dataclass(frozen=True, slots=True)
class Folders:
    """Where a file's relative paths start, and where the services file's will."""

    source: str
    """Absolute: the folder of the file that is read."""
    root: str
    """Absolute: the folder of the services file to be."""

    def moved(self, text: str) -> str:
        """The same path, said from the services file's folder."""
        path = text.removeprefix("cwd://")
        if _NOT_A_FOLDER.match(path) or posixpath.isabs(path):
            return path
        return posixpath.relpath(posixpath.join(self.source, path), self.root)


@dataclass(frozen=True, slots=True)
class Draft:
    """One service of the services file to be."""

    name: str
    keys: Mapping[str, Any]
    """As they stand in the file; without those that say nothing."""
    description: str = ""
    inline: str = ""
    """The text of its Dockerfile, where it has none on the disk."""


def service_names(names: Iterable[str]) -> dict[str, str]:
    """Target -> service: lower-case letters, digits, and `.` `_` `-` between them; a name taken twice is numbered."""
    found: dict[str, str] = {}
    for name in names:
        base = _IN_A_NAME.sub("-", name.lower())[:120].strip("._-") or "target"
        wanted, count = base, 2
        while wanted in found.values():
            wanted, count = f"{base}-{count}", count + 1
        found[name] = wanted
    return found


def service_of(found: Found, names: Mapping[str, str], folders: Folders, *, linked: bool) -> tuple[Draft, list[Told]]:
    """What a services file says of a target, and what it does not.

    Args:
        found: the target.
        names: target -> service, of all targets that become services.
        folders: where relative paths start, before and after.
        linked: whether another target builds on it.
    """
    told: list[Told] = []
    keys = _keys(found, names, folders, told, linked=linked)
    given = found.attributes
    if call := given.get("call"):
        told.append(Told(found.where("call"), f"{call}: a service is always built"))
    draft = Draft(
        names[found.name],
        {key: value for key, value in keys.items() if value},
        given.get("description", ""),
        given.get("dockerfile-inline", ""),
    )
    return draft, told


def _keys(
    found: Found, names: Mapping[str, str], folders: Folders, told: list[Told], *, linked: bool
) -> dict[str, Any]:
    """A service's keys, in the order of its model; empty where the target says nothing."""
    given = found.attributes
    attestations, flags = _attestations(found, told)
    network = given.get("network")
    return {
        **_image(found, told),
        **_files(found, folders),
        "target": given.get("target"),
        "args": given.get("args"),
        "contexts": _contexts(found, names, folders, told),
        "secrets": _secrets(found, folders, told),
        "ssh": [_ssh(one, folders) for one in given.get("ssh", ())],
        "cache_from": _caches(found, "cache-from", folders, told),
        "cache_to": _caches(found, "cache-to", folders, told),
        "labels": given.get("labels"),
        "annotations": _annotations(found, told),
        "platforms": given.get("platforms"),
        "outputs": _outputs(found, folders, told, linked=linked),
        "network": network if network in _NETWORKS else None,
        "no_cache_filter": given.get("no-cache-filter"),
        "attestations": attestations,
        "buildx": [*_network(network), *flags_of(given), *flags],
    }


def _image(found: Found, told: list[Told]) -> dict[str, Any]:
    """One name and its tags: a service has no second name."""
    named = [_name_and_tag(tag) for tag in found.attributes.get("tags", ())]
    if not named:
        fact = "there is no tag: the image gets project/service:latest as its name"
        told.append(Told(found.where("tags"), fact, lost=False))
        return {}
    image = named[0][0]
    others = [f"{name}:{tag}" for name, tag in dict.fromkeys(named) if name != image]
    told += [Told(found.where("tags"), f"{one}: a service has one name, {image}") for one in others]
    return {"image": image, "tags": list(dict.fromkeys(tag for name, tag in named if name == image))}


def _name_and_tag(text: str) -> tuple[str, str]:
    """`registry:5000/name:tag` -> name and tag; a colon inside of `${...}` is none of them."""
    depth, colon = 0, -1
    for at, char in enumerate(text):
        depth += (char == "{") - (char == "}")
        if not depth and char in ":/":
            colon = at if char == ":" else -1
    return (text, "latest") if colon < 0 else (text[:colon], text[colon + 1 :])


def _files(found: Found, folders: Folders) -> dict[str, Any]:
    context = folders.moved(found.attributes.get("context", "."))
    dockerfile = found.attributes.get("dockerfile", "Dockerfile")
    if dockerfile.startswith("cwd://"):
        place = posixpath.join(folders.source, dockerfile.removeprefix("cwd://"))
        dockerfile = posixpath.relpath(place, posixpath.join(folders.root, context))
    return {
        "context": context,
        "dockerfile": None if dockerfile == "Dockerfile" else dockerfile,
    }


def _contexts(found: Found, names: Mapping[str, str], folders: Folders, told: list[Told]) -> dict[str, str]:
    contexts = {}
    for name, value in found.attributes.get("contexts", {}).items():
        target = value.removeprefix("target:")
        if target == value:
            contexts[name] = folders.moved(value)
        elif target in names:
            contexts[name] = f"service:{names[target]}"
        else:
            told.append(Told(found.where("contexts"), f"{name}: there is no {target!r} that is built"))
    return contexts


def _secrets(found: Found, folders: Folders, told: list[Told]) -> list[dict[str, str]]:
    secrets = []
    for text in found.attributes.get("secret", ()):
        given = fields(text)
        secret = {"id": given.get("id", "")}
        if not _SECRET_ID.match(secret["id"]):
            told.append(Told(found.where("secret"), f"{secret['id']!r}: an id has letters, digits and . _ -"))
            continue
        if given.get("type") == "env" and "env" not in given and "src" in given:
            given["env"] = given.pop("src")
        if "src" in given:
            secret["file"] = folders.moved(given["src"])
        if "env" in given:
            secret["env"] = given["env"]
        secrets.append(secret)
        others = given.keys() - {"id", "src", "env", "type"}
        told += [Told(found.where("secret"), f"{secret['id']}: {one} is not said") for one in sorted(others)]
    return secrets


def _ssh(text: str, folders: Folders) -> str:
    name, equals, paths = text.partition("=")
    return f"{name}={','.join(folders.moved(path) for path in paths.split(','))}" if equals else text


def _caches(found: Found, key: str, folders: Folders, told: list[Told]) -> list[str]:
    caches = []
    for text in found.attributes.get(key, ()):
        given = fields(text)
        for name in sorted(SECRET_FIELDS & given.keys()):
            told.append(Told(found.where(key), f"{name} is a secret: buildx takes it from the environment"))
            del given[name]
        for name in ("src", "dest") if given.get("type") == "local" else ():
            if name in given:
                given[name] = folders.moved(given[name])
        caches.append(entry(given))
    return caches


def _annotations(found: Found, told: list[Told]) -> dict[str, str]:
    annotations: dict[str, str] = {}
    for text in found.attributes.get("annotations", ()):
        name, _, value = text.partition("=")
        if name in annotations:
            told.append(Told(found.where("annotations"), f"{name} is given twice, and the last holds", lost=False))
        annotations[name] = value
    return annotations


def _outputs(found: Found, folders: Folders, told: list[Told], *, linked: bool) -> list[str]:
    given = found.attributes.get("output", [])
    if given == [CACHE_ONLY] and linked:
        fact = "bake keeps it in its cache alone; here it is an image too, which others build on"
        told.append(Told(found.where("output"), fact, lost=False))
        return []
    # Loading is what a build does where nothing is said.
    return [] if given == ["type=docker"] else [_output(text, folders) for text in given]


def _output(text: str, folders: Folders) -> str:
    given = fields(text)
    if given.get("dest", "-") != "-":
        given["dest"] = folders.moved(given["dest"])
    return entry(given)


def _network(network: str | None) -> list[str]:
    return [f"--network={network}"] if network and network not in _NETWORKS else []


def _attestations(found: Found, told: list[Told]) -> tuple[dict[str, Any], list[str]]:
    """The key `attestations`, and flags for what it cannot say."""
    keys: dict[str, Any] = {}
    flags: list[str] = []
    said = set()
    for text in found.attributes.get("attest", ()):
        given = fields(text)
        kind = given.pop("type", "")
        said.add(kind)
        if given.pop("disabled", "") == "true":
            continue
        mode = given.pop("mode", "min") if kind == "provenance" else ""
        if kind == "provenance":
            keys["provenance"] = mode
        if kind == "sbom" and not given:
            keys["sbom"] = True
        elif given or kind not in {"provenance", "sbom"}:
            flags.append(_attestation_flag(kind, mode, given))
    if "provenance" not in said:
        fact = "buildx attests provenance where nothing is said; a service does not"
        told.append(Told(found.where("attest"), fact, lost=False))
    return keys, flags


def _attestation_flag(kind: str, mode: str, given: dict[str, str]) -> str:
    """The last --provenance holds, so that one in `buildx` stands in for the one that the key makes."""
    if kind == "provenance":
        return f"--provenance={entry({'mode': mode, **given})}"
    return f"--sbom={entry(given)}" if kind == "sbom" else f"--attest={entry({'type': kind, **given})}"
