"""The OCI image documents, converted once: malformed input raises here, values are complete for ever after.

In: JSON documents, as text or parsed, and strings. Out: frozen values. Touches nothing.

Sources: OCI image specification v1.1 (`descriptor.md`, `image-index.md`, `manifest.md`, `config.md`); the
reference grammar of `distribution/reference`.
"""

from __future__ import annotations

import hashlib
import json
import re
from typing import TYPE_CHECKING, Any, Self

from buildorch.errors import MalformedDocument, UsageError, did_you_mean
from buildorch.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

INDEX_TYPES = frozenset(
    {
        "application/vnd.oci.image.index.v1+json",
        "application/vnd.docker.distribution.manifest.list.v2+json",
    }
)
MANIFEST_TYPES = frozenset(
    {
        "application/vnd.oci.image.manifest.v1+json",
        "application/vnd.docker.distribution.manifest.v2+json",
    }
)
MAX_DOCUMENT = 16 * 1024 * 1024
"""Most bytes of an index, a manifest or a config."""
ATTESTATION_ANNOTATION = "vnd.docker.reference.type"

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}\Z")
_PLATFORM = re.compile(r"(?P<os>[a-z0-9]+)/(?P<arch>[a-z0-9_]+)(/(?P<variant>[a-z0-9.]+))?\Z")
# What containerd takes for a system or an architecture, other spellings included (containerd/platforms, database.go).
_SYSTEMS = (
    *("aix", "android", "darwin", "dragonfly", "freebsd", "hurd", "illumos", "ios", "js", "linux", "macos", "nacl"),
    *("netbsd", "openbsd", "plan9", "solaris", "wasi", "wasip1", "windows", "zos"),
)
_ARCHITECTURES = (
    *("386", "aarch64", "amd64", "amd64p32", "arm", "arm64", "arm64be", "armbe", "armel", "armhf", "i386", "loong64"),
    *("mips", "mips64", "mips64le", "mips64p32", "mips64p32le", "mipsle", "ppc", "ppc64", "ppc64le", "riscv"),
    *("riscv64", "s390", "s390x", "sparc", "sparc64", "wasm", "x86_64"),
)
_PATH = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REFERENCE = re.compile(
    rf"(?:(?P<registry>(?:localhost|[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+|[A-Za-z0-9.-]+(?=:\d+/)|\[[0-9a-fA-F:]+\])(?::\d+)?)/)?"
    rf"(?P<repository>{_PATH}(?:/{_PATH})*)"
    r"(?::(?P<tag>[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}))?"
    r"(?:@(?P<digest>sha256:[0-9a-f]{64}))?\Z"
)


def parse_digest(text: object, *, kind: str = "digest") -> str:
    """`text` if it is a SHA-256 digest in the form of the specification.

    Raises:
        MalformedDocument: it is anything else.
    """
    if not isinstance(text, str) or not is_digest(text):
        raise MalformedDocument(kind, f"{text!r} is not a sha256 digest")
    return text


def is_digest(text: str) -> bool:
    """Whether a text is a SHA-256 digest in the form of the specification."""
    return bool(_DIGEST.match(text))


@dataclass(frozen=True, slots=True, order=True)
class Platform:
    """What an image runs on: `os/architecture[/variant]`."""

    os: str
    architecture: str
    variant: str = ""

    @classmethod
    def parse(cls, text: str) -> Self:
        """The platform `linux/amd64` or `linux/arm/v7` names.

        Raises:
            UsageError: the text is not a platform.
        """
        match = _PLATFORM.match(text)
        if not match:
            raise UsageError(f"{text!r} is not a platform", hint="write it as linux/amd64 or linux/arm64/v8")
        return cls(match["os"], match["arch"], match["variant"] or "")

    @classmethod
    def to_build(cls, text: str) -> Self:
        """A platform that an image is wanted for: BuildKit builds a mistyped one on the engine's own, under its name.

        Raises:
            UsageError: the text is not a platform, or there is no such system or architecture.
        """
        found = cls.parse(text)
        for word, known in ((found.os, _SYSTEMS), (found.architecture, _ARCHITECTURES)):
            if word not in known:
                hint = did_you_mean(word, known) or "write it as linux/amd64 or linux/arm64/v8"
                raise UsageError(f"{text!r} is not a platform that is known: {word!r}", hint=hint)
        return found

    def __str__(self) -> str:
        return "/".join(part for part in (self.os, self.architecture, self.variant) if part)


@dataclass(frozen=True, slots=True)
class ImageReference:
    """`[registry/]repository[:tag][@digest]`, as it was written: no default registry, library/ or tag is added."""

    registry: str
    repository: str
    tag: str = ""
    digest: str = ""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a reference by the grammar of `distribution/reference`.

        Raises:
            UsageError: the text is not an image reference.
        """
        match = _REFERENCE.match(text)
        if not match or len(text) > 512:
            raise UsageError(f"{text!r} is not an image reference", hint="write it as [registry/]name[:tag]")
        return cls(match["registry"] or "", match["repository"], match["tag"] or "", match["digest"] or "")

    @property
    def name(self) -> str:
        """The reference without tag and digest."""
        return f"{self.registry}/{self.repository}" if self.registry else self.repository

    def __str__(self) -> str:
        return self.name + (f":{self.tag}" if self.tag else "") + (f"@{self.digest}" if self.digest else "")


@dataclass(frozen=True, slots=True)
class Descriptor:
    """A pointer to content: its type, digest and size in bytes (`descriptor.md`)."""

    media_type: str
    digest: str
    size: int
    platform: Platform | None = None
    is_attestation: bool = False

    @classmethod
    def from_json(cls, raw: object) -> Self:
        """Read a descriptor.

        Raises:
            MalformedDocument: a field is missing or of the wrong type.
        """
        fields = _mapping(raw, "descriptor")
        size = fields.get("size")
        if not isinstance(size, int) or size < 0:
            raise MalformedDocument("descriptor", f"its size is {size!r}")
        platform = _mapping(fields.get("platform") or {}, "descriptor's platform")
        annotations = _mapping(fields.get("annotations") or {}, "descriptor's annotations")
        return cls(
            media_type=str(fields.get("mediaType", "")),
            digest=parse_digest(fields.get("digest"), kind="descriptor"),
            size=size,
            platform=Platform(
                str(platform.get("os", "")),
                str(platform.get("architecture", "")),
                str(platform.get("variant", "")),
            )
            if platform
            else None,
            # BuildKit marks attestation manifests twice (buildkit docs/attestations/attestation-storage.md).
            is_attestation=ATTESTATION_ANNOTATION in annotations or platform.get("os") == "unknown",
        )


@dataclass(frozen=True, slots=True)
class ImageIndex:
    """The manifests of one image, one a platform; attestation manifests are left out (`image-index.md`)."""

    manifests: tuple[Descriptor, ...]

    @classmethod
    def from_json(cls, raw: object) -> Self:
        """Read an index.

        Raises:
            MalformedDocument: it has no list of manifests.
        """
        entries = _mapping(raw, "image index").get("manifests")
        if not isinstance(entries, list):
            raise MalformedDocument("image index", "it has no list of manifests")
        return cls(tuple(d for d in map(Descriptor.from_json, entries) if not d.is_attestation))


@dataclass(frozen=True, slots=True)
class ImageManifest:
    """One platform's image: its config and its layers, lowest first (`manifest.md`)."""

    config: Descriptor
    layers: tuple[Descriptor, ...]

    @classmethod
    def from_json(cls, raw: object) -> Self:
        """Read an image manifest.

        Raises:
            MalformedDocument: config or layers are missing.
        """
        fields = _mapping(raw, "image manifest")
        layers = _list(fields, "layers")
        if layers is None:
            raise MalformedDocument("image manifest", "it has no list of layers")
        return cls(Descriptor.from_json(fields.get("config")), tuple(map(Descriptor.from_json, layers)))


@dataclass(frozen=True, slots=True)
class ImageConfig:
    """What an image runs as, and how its layers were made (`config.md`).

    `created_by` holds one instruction a layer, in the order of `diff_ids`: history entries that made no layer are
    left out. It is empty strings where the history does not match the layers.
    """

    platform: Platform
    user: str
    labels: Mapping[str, str]
    diff_ids: tuple[str, ...]
    created_by: tuple[str, ...]
    entrypoint: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    """`Cmd`: what is started, or the entrypoint's arguments."""
    environment: tuple[str, ...] = ()
    """`NAME=value`."""
    healthcheck: tuple[str, ...] | None = None
    """`Test` of Docker's `Healthcheck`: `("CMD", ...)`, `("CMD-SHELL", text)`, `("NONE",)`; None where it has none."""
    ports: tuple[str, ...] = ()
    """`ExposedPorts`, such as `8000/tcp`."""
    history: tuple[str, ...] = ()
    """`created_by` of every entry of the history, of those without a layer too."""

    @classmethod
    def from_json(cls, raw: object) -> Self:
        """Read an image config.

        Raises:
            MalformedDocument: the root file system is missing.
        """
        fields = _mapping(raw, "image config")
        diff_ids = _list(_mapping(fields.get("rootfs"), "image config's rootfs"), "diff_ids")
        if diff_ids is None:
            raise MalformedDocument("image config", "its rootfs has no diff_ids")
        inner = _mapping(fields.get("config") or {}, "image config's config")
        labels = _mapping(inner.get("Labels") or {}, "image config's labels")
        history = fields.get("history") or []
        if not isinstance(history, list):
            raise MalformedDocument("image config", "its history is not a list")
        entries = [_mapping(entry, "image config's history") for entry in history]
        made = [str(entry.get("created_by", "")) for entry in entries if not entry.get("empty_layer")]
        healthcheck = _mapping(inner.get("Healthcheck") or {}, "image config's healthcheck")
        return cls(
            platform=Platform(
                str(fields.get("os", "")), str(fields.get("architecture", "")), str(fields.get("variant", ""))
            ),
            user=str(inner.get("User") or ""),
            labels={str(key): str(value) for key, value in labels.items()},
            diff_ids=tuple(parse_digest(entry, kind="diff_id") for entry in diff_ids),
            created_by=tuple(made) if len(made) == len(diff_ids) else ("",) * len(diff_ids),
            entrypoint=_words(inner, "Entrypoint"),
            command=_words(inner, "Cmd"),
            environment=_words(inner, "Env"),
            healthcheck=_words(healthcheck, "Test") or None,
            ports=tuple(map(str, _mapping(inner.get("ExposedPorts") or {}, "image config's ports"))),
            history=tuple(str(entry.get("created_by", "")) for entry in entries),
        )


def is_index(raw: Mapping[str, Any]) -> bool:
    """Whether a document lists manifests; an OCI index may leave its media type out (`image-index.md`)."""
    return raw.get("mediaType") in INDEX_TYPES or "manifests" in raw


def checked_document(chunks: Iterable[bytes], digest: str) -> bytes:
    """A small document, whole and with the digest it was asked by.

    Raises:
        MalformedDocument: it is larger than `MAX_DOCUMENT`, or has another digest.
    """
    data = bytearray()
    for chunk in chunks:
        data += chunk
        if len(data) > MAX_DOCUMENT:
            raise MalformedDocument("document", f"{digest} is larger than {MAX_DOCUMENT} bytes")
    if f"sha256:{hashlib.sha256(data).hexdigest()}" != digest:
        raise MalformedDocument("document", f"what came for {digest} has another digest")
    return bytes(data)


def load_json(data: bytes, kind: str) -> dict[str, Any]:
    """A JSON object out of bytes.

    Raises:
        MalformedDocument: the bytes are not a JSON object.
    """
    try:
        raw = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise MalformedDocument(kind, str(error)) from None
    return dict(_mapping(raw, kind))


def _list(fields: Mapping[str, Any], key: str) -> list[Any] | None:
    """The list under a key; BuildKit writes null for the layers of an image that has none (`FROM scratch` alone)."""
    found = fields.get(key, "")
    return [] if found is None else found if isinstance(found, list) else None


def _words(fields: Mapping[str, Any], key: str) -> tuple[str, ...]:
    """The strings under a key; none where it is missing or null."""
    found = fields.get(key) or []
    if not isinstance(found, list):
        raise MalformedDocument("image config", f"its {key} is not a list")
    return tuple(map(str, found))


def _mapping(raw: object, kind: str) -> Mapping[str, Any]:
    if not isinstance(raw, dict):
        raise MalformedDocument(kind, "it is not a JSON object")
    return raw
