"""A bake target's attributes in one form, however they were written.

In: a target as `docker buildx bake --print` or a JSON bake file has it. Out: plain values that compare equal where
bake would do the same. Touches nothing.

Source: `Target` in docker/buildx bake/bake.go, and util/buildflags for caches, outputs, attestations, secrets and SSH,
which bake takes as text or as objects and prints as objects since 0.20.
"""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING, Any

from buildorch.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

Attributes = dict[str, Any]
"""A bake attribute's name -> a text, `True`, a list of texts, or a mapping of texts (None for one without a value)."""

TEXTS = ("description", "context", "dockerfile", "dockerfile-inline", "target", "network", "shm-size", "call")
FLAGS = ("pull", "no-cache")
LISTS = ("tags", "platforms", "annotations", "no-cache-filter", "ulimits", "entitlements")
MAPPINGS = ("args", "labels", "contexts", "extra-hosts")
ENTRIES = ("cache-from", "cache-to", "output", "attest", "secret", "ssh")
KNOWN = frozenset((*TEXTS, *FLAGS, *LISTS, *MAPPINGS, *ENTRIES))
"""Every attribute that a target has once bake has resolved it."""
RESOLVED = frozenset({"inherits", "matrix", "name"})
"""Attributes that bake itself has worked off in what it prints."""
HOST_NETWORK = "network.host"

_ESCAPED = ("annotations", "args", "dockerfile-inline", "extra-hosts", "labels")
_ORDER = ("type", "id", "ref", "src", "env")
_ALONE = {"cache-from": ("registry", "ref"), "cache-to": ("registry", "ref"), "output": ("local", "dest")}
_OTHER_NAMES = {"secret": {"source": "src"}}


def escaped(text: str) -> str:
    """`text` as a JSON bake file has to hold it, where strings are templates (HCL's JSON syntax)."""
    return text.replace("${", "$${").replace("%{", "%%{")


def unescaped(text: str) -> str:
    """What `escaped` was made of."""
    return text.replace("$${", "${").replace("%%{", "%{")


def fields(text: str) -> dict[str, str]:
    """`type=registry,ref=x` -> its fields; a word without `=` is its own key, with nothing behind it.

    Raises:
        UsageError: it cannot be read so.
    """
    try:
        row = next(csv.reader([text]), [])
    except csv.Error as error:
        raise UsageError(f"{text!r} is not a list of KEY=VALUE: {error}") from None
    return {key.strip().lower(): value for key, _, value in (field.partition("=") for field in row)}


def entry(values: Mapping[str, str]) -> str:
    """The fields as one text in one order, quoted where a value holds a comma."""
    known = [key for key in _ORDER if key in values]
    row = [f"{key}={values[key]}" for key in (*known, *sorted(values.keys() - set(known)))]
    text = io.StringIO()
    csv.writer(text, lineterminator="").writerow(row)
    return text.getvalue()


def canonical(target: Mapping[str, Any], *, printed: bool = True) -> tuple[Attributes, tuple[str, ...]]:
    """The attributes in one form, without those that say nothing; and the names of those that are not known.

    Args:
        target: one target of a bake document.
        printed: whether bake printed it: it escapes some texts, so that its output is a bake file again.
    """
    found: Attributes = {}
    for key, value in target.items():
        if key in KNOWN and value not in (None, False, "", [], {}):
            plain = _unescape(value) if printed and key in _ESCAPED else value
            found[key] = _canonical(key, plain)
    if found.get("call") == "build":
        del found["call"]
    # RUN steps on the host's network are an entitlement that bake adds by itself.
    if found.get("network") == "host":
        others = [one for one in found.get("entitlements", []) if one != HOST_NETWORK]
        found["entitlements"] = [*others, HOST_NETWORK]
    unknown = tuple(key for key, value in target.items() if key not in KNOWN | RESOLVED and value is not None)
    return {key: value for key, value in found.items() if value not in ([], {})}, unknown


def _unescape(value: Any) -> Any:  # noqa: ANN401 - JSON
    if isinstance(value, str):
        return unescaped(value)
    if isinstance(value, list):
        return [_unescape(one) for one in value]
    return {key: _unescape(one) for key, one in value.items()} if isinstance(value, dict) else value


def _canonical(key: str, value: Any) -> Any:  # noqa: ANN401 - JSON
    if key in ENTRIES:
        read = (_ssh(one) if key == "ssh" else entry(_fields(key, one)) for one in value)
        return _once(read)
    if key in LISTS:
        return _once(map(str, value))
    if key in MAPPINGS:
        return {str(name): None if one is None else str(one) for name, one in value.items()}
    return value if key in FLAGS else str(value)


def _once(values: Iterable[str]) -> list[str]:
    return [one for one in dict.fromkeys(values) if one]


def _fields(key: str, value: Any) -> dict[str, str]:  # noqa: ANN401 - JSON
    """One cache, output, attestation or secret, as its fields."""
    if isinstance(value, dict):
        found = {name: _text(one) for name, one in value.items() if one is not None}
    elif key in _ALONE and "=" not in value:
        kind, name = _ALONE[key]
        found = {"type": "tar" if value == "-" else kind, name: value}
    else:
        found = fields(value)
    for other, name in _OTHER_NAMES.get(key, {}).items():
        if other in found:
            found[name] = found.pop(other)
    if key == "attest" and found.get("disabled") == "false":
        del found["disabled"]
    return found


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _ssh(value: Any) -> str:  # noqa: ANN401 - JSON
    if not isinstance(value, dict):
        return str(value)
    paths = ",".join(map(str, value.get("paths") or ()))
    return f"{value.get('id', 'default')}={paths}" if paths else str(value.get("id", "default"))
