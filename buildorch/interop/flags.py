"""The arguments of `docker buildx build` <-> the attributes of a bake target.

In: words of a command line, or attributes. Out: the other. Touches nothing.

Source: `docker buildx build --help` of 0.17 and later, and commands/build.go of docker/buildx for what a flag comes to.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from buildorch.interop.targets import HOST_NETWORK, Attributes, canonical

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

_TEXTS: Final[Mapping[str, str]] = {
    "--call": "call",
    "--file": "dockerfile",
    "--network": "network",
    "--shm-size": "shm-size",
    "--target": "target",
}
_LISTS: Final[Mapping[str, str]] = {
    "--allow": "entitlements",
    "--annotation": "annotations",
    "--attest": "attest",
    "--cache-from": "cache-from",
    "--cache-to": "cache-to",
    "--no-cache-filter": "no-cache-filter",
    "--output": "output",
    "--secret": "secret",
    "--ssh": "ssh",
    "--tag": "tags",
    "--ulimit": "ulimits",
}
_MAPPINGS: Final[Mapping[str, str]] = {
    "--add-host": "extra-hosts",
    "--build-arg": "args",
    "--build-context": "contexts",
    "--label": "labels",
}
_FLAGS: Final[Mapping[str, str]] = {"--no-cache": "no-cache", "--pull": "pull"}
_OUTPUTS: Final[Mapping[str, str]] = {"--load": "type=docker", "--push": "type=registry"}
_ATTESTATIONS: Final = ("--provenance", "--sbom")
_OURS: Final = ("--progress", "--metadata-file")
_YES: Final = ("true", "1", "t")
_NO: Final = ("false", "0", "f")


def target_of(words: Iterable[str]) -> tuple[Attributes, tuple[str, ...]]:
    """The attributes that a bake target needs to build as these words do, and the words that no attribute says."""
    found: dict[str, Any] = {}
    attested: dict[str, str] = {}
    unsaid = []
    for word in words:
        flag, equals, value = word.partition("=")
        if flag in _ATTESTATIONS and equals:
            attested[flag] = _attestation(flag.removeprefix("--"), value)
        elif flag not in _OURS and not (_with_value(found, flag, value) if equals else _alone(found, flag)):
            unsaid.append(word)
    found["attest"] = [*attested.values(), *found.get("attest", [])]
    return canonical(found, printed=False)[0], tuple(unsaid)


def _with_value(found: dict[str, Any], flag: str, value: str) -> bool:
    """Take `--flag=value`, if an attribute says it."""
    if flag in _TEXTS:
        found[_TEXTS[flag]] = value
    elif flag in _LISTS:
        found.setdefault(_LISTS[flag], []).append(value)
    elif flag in _MAPPINGS:
        _add(found.setdefault(_MAPPINGS[flag], {}), flag, value)
    elif flag in _FLAGS:
        found[_FLAGS[flag]] = value.lower() not in _NO
    elif flag == "--platform":
        found.setdefault("platforms", []).extend(value.split(","))
    else:
        return False
    return True


def _alone(found: dict[str, Any], flag: str) -> bool:
    """Take `--flag`, if an attribute says it."""
    if flag in _FLAGS:
        found[_FLAGS[flag]] = True
    elif flag in _OUTPUTS:
        found.setdefault("output", []).append(_OUTPUTS[flag])
    elif flag == "--check":
        found["call"] = "check"
    else:
        return False
    return True


def _add(mapping: dict[str, str | None], flag: str, value: str) -> None:
    """One more entry; a build argument without a value is taken from the environment."""
    name, equals, text = value.partition("=")
    if flag == "--add-host":
        if not equals:
            name, _, text = value.partition(":")
        known = mapping.get(name)
        mapping[name] = f"{known},{text}" if known else text
    else:
        mapping[name] = text if equals or flag != "--build-arg" else None


def _attestation(kind: str, value: str) -> str:
    """What --provenance and --sbom are short for (`CanonicalizeAttest` in docker/buildx util/buildflags)."""
    if value.lower() in _YES:
        return f"type={kind}"
    return f"type={kind},disabled=true" if value.lower() in _NO else f"type={kind},{value}"


def flags_of(attributes: Attributes) -> Iterator[str]:
    """Flags for the attributes that a services file has no key for: its `buildx` list takes them."""
    yield from (f"--{key}" for key in ("no-cache", "pull") if attributes.get(key))
    if size := attributes.get("shm-size"):
        yield f"--shm-size={size}"
    yield from (f"--ulimit={limit}" for limit in attributes.get("ulimits", ()))
    host = attributes.get("network") == "host"
    for name in attributes.get("entitlements", ()):
        if not (host and name == HOST_NETWORK):  # buildx build allows it by itself
            yield f"--allow={name}"
    for name, addresses in attributes.get("extra-hosts", {}).items():
        yield from (f"--add-host={name}={address}" for address in str(addresses or "").split(","))
