"""Reading what a build left: the documents of an image, and of each layer its unpacked size and what else is asked.

In: a digest, and where its bytes are: the engine's content store, its graphdriver store, or a registry.
Out: `ImageDocuments`, for `buildorch.measure` and the rules. Touches: the engine's socket or the registry, and what is
remembered of layers: size and contents are properties of a layer's diff_id, so each layer is unpacked once, ever.
"""

from __future__ import annotations

import hashlib
import threading
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Protocol

from buildorch.engine import Containerd, Engine, read_blob, read_saved, read_saved_layers
from buildorch.errors import MalformedDocument
from buildorch.meanwhile import ahead
from buildorch.measure import ImageDocuments, PlatformDocuments
from buildorch.oci import (
    Descriptor,
    ImageConfig,
    ImageIndex,
    ImageManifest,
    ImageReference,
    checked_document,
    is_index,
    load_json,
)
from buildorch.registry import Repository
from buildorch.registry.waiting import retried
from buildorch.unpacking import drain, unpacked, verified
from buildorch.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, MutableMapping

    from buildorch.contents import LayerContents, LayerMemory

_LEAKED, _CLEAN = "leaked", "clean"


class Source(Protocol):
    """Where an image's bytes are."""

    def document(self, digest: str) -> bytes:
        """An index, manifest or config, whole."""

    def blob(self, digest: str) -> Iterator[bytes]:
        """A layer, in pieces."""


class EngineSource:
    """The containerd image store of an engine."""

    def __init__(self, engine: Engine, containerd: Containerd | None = None) -> None:
        """Read by the shorter way, where the engine's containerd may be asked."""
        self._engine, self._containerd = engine, containerd

    def document(self, digest: str) -> bytes:
        """An index, manifest or config."""
        return checked_document(self.blob(digest), digest)

    def blob(self, digest: str) -> Iterator[bytes]:
        """A layer."""
        return read_blob(self._engine, digest, self._containerd)


class RegistrySource:
    """One repository of a registry."""

    def __init__(self, reference: str) -> None:
        self._repository = Repository.of(ImageReference.parse(reference))

    def document(self, digest: str) -> bytes:
        """An index or manifest, or a config, which registries keep as a blob."""
        return self._repository.document(digest)

    def manifest(self, digest: str) -> bytes:
        """An index or manifest."""
        return self._repository.manifest(digest)

    def resolve(self, tag: str) -> str:
        """The digest a tag points at."""
        return f"sha256:{hashlib.sha256(self._repository.manifest(tag)).hexdigest()}"

    def blob(self, digest: str) -> Iterator[bytes]:
        """A layer."""
        return self._repository.blob(digest)


@dataclass(frozen=True, slots=True)
class Hunted:
    """A build secret, to be looked for in layers."""

    secret: str
    """Its id."""
    texts: tuple[bytes, ...]
    """What gives it away: any of these."""
    mark: str
    """What stands for its value where an answer is remembered: a keyed hash."""


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked of layers besides their sizes."""

    contents: bool = False
    secrets: tuple[Hunted, ...] = ()


SIZES_ALONE = Question()


@dataclass(frozen=True, slots=True)
class Examined:
    """What is known of one layer."""

    unpacked_bytes: int
    contents: LayerContents | None = None
    leaked: frozenset[str] = frozenset()
    """The ids of the secrets that were found in it."""


class Facts(Protocol):
    """Where answers are remembered, as the ledger does."""

    def fact(self, key: str) -> str | None:
        """What was remembered."""

    def remember(self, key: str, value: str) -> None:
        """Remember it."""


class Layers:
    """What is known of layers, by diff_id; threads that need the same unknown layer read it once."""

    def __init__(
        self, sizes: MutableMapping[str, int], *, memory: LayerMemory | None = None, facts: Facts | None = None
    ) -> None:
        """Know these sizes, and what the memory and the facts hold."""
        self._sizes, self._memory, self._facts = sizes, memory, facts
        self._guard = threading.Lock()
        self._busy: dict[str, threading.Lock] = {}

    def examine(self, diff_id: str, examine: Callable[[Question], Examined], question: Question) -> Examined:
        """What is asked, from memory or by reading the layer with `examine`."""
        with self._guard:
            turn = self._busy.setdefault(diff_id, threading.Lock())
        with turn:
            known = self._known(diff_id, question)
            if known is None:
                known = self._read(examine, question)
                self._remember(diff_id, known, question)
                if not question.contents:
                    known = replace(known, contents=None)
            return known

    def _read(self, examine: Callable[[Question], Examined], question: Question) -> Examined:
        """What is asked, and what the layer holds: `diff` can name its files once the image is gone."""
        if question.contents or self._memory is None:
            return examine(question)
        try:
            return examine(replace(question, contents=True))
        except MalformedDocument:
            return examine(question)  # no rule looks into it: its size is enough

    def recall(self, diff_id: str) -> LayerContents | None:
        """What a layer holds, if that is remembered."""
        return self._memory.get(diff_id) if self._memory and diff_id else None

    def _known(self, diff_id: str, question: Question) -> Examined | None:
        size = self._sizes.get(diff_id)
        if size is None:
            return None
        contents = self._memory.get(diff_id) if self._memory and question.contents else None
        if question.contents and contents is None:
            return None
        leaked = set()
        for hunted in question.secrets:
            answer = self._facts.fact(_leak_key(diff_id, hunted)) if self._facts is not None else None
            if answer is None:
                return None
            if answer == _LEAKED:
                leaked.add(hunted.secret)
        return Examined(size, contents, frozenset(leaked))

    def _remember(self, diff_id: str, found: Examined, question: Question) -> None:
        self._sizes[diff_id] = found.unpacked_bytes
        if self._memory and found.contents:
            self._memory.put(diff_id, found.contents)
        if self._facts is not None:
            for hunted in question.secrets:
                answer = _LEAKED if hunted.secret in found.leaked else _CLEAN
                self._facts.remember(_leak_key(diff_id, hunted), answer)


def _leak_key(diff_id: str, hunted: Hunted) -> str:
    return f"leak {diff_id} {hunted.mark}"


def read_image(
    source: EngineSource | RegistrySource,
    digest: str,
    layers: Layers,
    ask: Callable[[ImageConfig], Question] = lambda _: SIZES_ALONE,
    *,
    wanted: Callable[[Descriptor], bool] = lambda _: True,
) -> ImageDocuments:
    """The documents of the image at `digest`.

    Args:
        source: where it is.
        digest: of its index, or of its only manifest.
        layers: what is known of layers.
        ask: what a platform's config makes one ask of its layers.
        wanted: which of an index's manifests are read.

    Raises:
        EngineError: the source cannot be reached, or what it holds is malformed.
    """
    read = source.manifest if isinstance(source, RegistrySource) else source.document
    root = read(digest)
    raw = load_json(root, "image manifest or index")
    if not is_index(raw):
        descriptor = Descriptor(str(raw.get("mediaType", "")), digest, len(root))
        return ImageDocuments(digest, None, (_platform(source, root, descriptor, layers, ask),))
    index = ImageIndex.from_json(raw)
    chosen = filter(wanted, index.manifests)
    platforms = tuple(_platform(source, read(one.digest), one, layers, ask) for one in chosen)
    return ImageDocuments(digest, digest, platforms)


def read_saved_image(
    engine: Engine, reference: str, ask: Callable[[ImageConfig], Question] = lambda _: SIZES_ALONE
) -> ImageDocuments:
    """The documents of an image on the graphdriver store, which keeps no manifest.

    Raises:
        EngineError: the engine cannot be reached or does not have the image.
    """
    saved = read_saved(engine.saved(reference))
    question = ask(saved.config)
    examined = tuple(map(Examined, saved.unpacked_bytes))
    if question != SIZES_ALONE:
        # The config decides what is asked of the layers, and may come behind them in the archive.
        examined = read_saved_layers(engine.saved(reference), saved, partial(_examined, question=question))
    platform = _documents(None, None, saved.config, saved.config_digest, examined)
    return ImageDocuments(saved.config_digest, None, (platform,))


def _platform(
    source: Source, raw: bytes, descriptor: Descriptor, layers: Layers, ask: Callable[[ImageConfig], Question]
) -> PlatformDocuments:
    manifest = ImageManifest.from_json(load_json(raw, "image manifest"))
    config = ImageConfig.from_json(load_json(source.document(manifest.config.digest), "image config"))
    if len(config.diff_ids) != len(manifest.layers):
        raise MalformedDocument("image", f"{descriptor.digest} and its config name different numbers of layers")
    question = ask(config)
    examined = tuple(
        layers.examine(diff_id, partial(_read_layer, source, layer, diff_id), question)
        for layer, diff_id in zip(manifest.layers, config.diff_ids, strict=True)
    )
    return _documents(manifest, descriptor, config, manifest.config.digest, examined)


def _documents(
    manifest: ImageManifest | None,
    descriptor: Descriptor | None,
    config: ImageConfig,
    config_digest: str,
    examined: tuple[Examined, ...],
) -> PlatformDocuments:
    contents = [one.contents for one in examined if one.contents]
    return PlatformDocuments(
        manifest=manifest,
        manifest_descriptor=descriptor,
        config=config,
        config_digest=config_digest,
        unpacked_bytes=tuple(one.unpacked_bytes for one in examined),
        contents=tuple(contents) if len(contents) == len(examined) else None,
        leaked=tuple(one.leaked for one in examined),
    )


def _read_layer(source: Source, layer: Descriptor, diff_id: str, question: Question) -> Examined:
    def attempt() -> Examined:
        # Fetched in one thread, unpacked in another, hashed and looked into here: most of each is C that needs no GIL.
        with ahead(source.blob(layer.digest)) as chunks:
            try:
                with ahead(unpacked(chunks, layer)) as pieces:
                    return _examined(verified(pieces, layer, diff_id), question=question)
            except MalformedDocument as error:
                drain(chunks)
                if layer.digest in error.fact:
                    raise
                raise MalformedDocument("layer", f"{layer.digest} is no tar that can be read: {error.fact}") from None

    return retried(attempt)


def _examined(pieces: Iterator[bytes], *, question: Question) -> Examined:
    """What is asked of a layer, in one pass over its uncompressed tar."""
    search = Search(question.secrets)
    if question.contents:
        from buildorch.contents import read  # noqa: PLC0415 - only where a rule asks for them

        contents = read(search.seen(pieces))
        return Examined(contents.unpacked_bytes, contents, search.found)
    size = sum(map(len, search.seen(pieces)))
    return Examined(size, None, search.found)


class Search:
    """Looks for secrets in a stream that somebody else reads."""

    def __init__(self, secrets: tuple[Hunted, ...]) -> None:
        """Look for these."""
        self._left = [(hunted.secret, text) for hunted in secrets for text in hunted.texts]
        self._overlap = max((len(text) for _, text in self._left), default=1) - 1
        self._found: set[str] = set()

    @property
    def found(self) -> frozenset[str]:
        """The ids of those that were seen so far."""
        return frozenset(self._found)

    def seen(self, pieces: Iterator[bytes]) -> Iterator[bytes]:
        """The pieces, looked through as they pass; a text may lie across two of them."""
        tail = b""
        for piece in pieces:
            if self._left:
                border = tail + piece[: self._overlap]
                self._found.update(secret for secret, text in self._left if text in piece or text in border)
                self._left = [(secret, text) for secret, text in self._left if secret not in self._found]
                tail = (border if len(piece) < self._overlap else piece)[-self._overlap :] if self._overlap else b""
            yield piece
