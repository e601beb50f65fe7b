"""Reading images: layers of every packing, documents by their digests, from an engine's store and from a registry."""

from __future__ import annotations

import gzip
import hashlib
import random
import threading
import time
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

import pytest
import tars
import zstandard
from fakes import FakeEngine, FakeRegistry, digest_of, make_image
from hypothesis import given
from hypothesis import strategies as st

from buildorch.contents import LayerMemory
from buildorch.engine import Engine
from buildorch.errors import EngineError, EngineUnreachable, MalformedDocument
from buildorch.inspection import (
    SIZES_ALONE,
    EngineSource,
    Examined,
    Layers,
    Question,
    RegistrySource,
    read_image,
    read_saved_image,
)
from buildorch.measure import measure
from buildorch.oci import Descriptor
from buildorch.unpacking import PIECE, unpacked, verified

NOISE = random.Random(7).randbytes(200_000)


def chunks(data: bytes, size: int) -> Iterator[bytes]:
    return (data[at : at + size] for at in range(0, len(data), size))


def size_of(blob: bytes, raw: bytes, *, chunk: int = 1000) -> int:
    layer = Descriptor("", digest_of(blob), len(blob))
    return sum(map(len, verified(unpacked(chunks(blob, chunk), layer), layer, digest_of(raw))))


def two_members(pack: Callable[[bytes], bytes]) -> Callable[[bytes], bytes]:
    return lambda raw: pack(raw[: len(raw) // 3]) + pack(raw[len(raw) // 3 :])


PACKINGS = {
    "plain tar": lambda raw: raw,
    "gzip": gzip.compress,
    "gzip of two members": two_members(gzip.compress),
    "zstd": zstandard.compress,
    "zstd of two frames": two_members(zstandard.compress),
}


@pytest.mark.parametrize("packing", PACKINGS)
@pytest.mark.parametrize(
    "raw", [b"tar" * 1000, bytes(PIECE), bytes(2 * PIECE + 1), NOISE], ids=["small", "piece", "zeros", "noise"]
)
def test_a_layer_is_unpacked_whatever_it_is_packed_with(packing: str, raw: bytes):
    assert size_of(PACKINGS[packing](raw), raw) == len(raw)


@pytest.mark.parametrize("packing", PACKINGS)
def test_an_empty_layer_has_no_bytes(packing: str):
    assert size_of(PACKINGS[packing](b""), b"") == 0


@pytest.mark.parametrize("packing", PACKINGS)
@given(chunk=st.integers(1, 700), length=st.integers(0, 2000))
def test_the_chunks_borders_do_not_change_the_size(packing: str, chunk: int, length: int):
    raw = NOISE[:length]

    assert size_of(PACKINGS[packing](raw), raw, chunk=chunk) == length


@pytest.mark.parametrize("packing", ["gzip", "gzip of two members", "zstd"])
@pytest.mark.parametrize("cut", [1, 9, 500])
def test_a_layer_that_is_cut_off_is_refused(packing: str, cut: int):
    blob = PACKINGS[packing](NOISE)

    with pytest.raises(MalformedDocument, match="malformed layer: "):
        size_of(blob[:-cut], NOISE)


def test_a_layer_with_a_flipped_bit_is_refused():
    blob = bytearray(gzip.compress(NOISE))
    blob[1000] ^= 1

    with pytest.raises(MalformedDocument, match="malformed layer: "):
        size_of(bytes(blob), NOISE)


def test_rubbish_behind_a_gzip_member_is_refused():
    with pytest.raises(MalformedDocument, match="cannot be unpacked"):
        size_of(gzip.compress(b"x") + b"rubbish", b"x")


def test_a_layer_that_is_not_the_one_its_config_names_is_refused():
    with pytest.raises(MalformedDocument, match=f"does not unpack to {digest_of(b'other')}"):
        size_of(gzip.compress(b"tar"), b"other")


def test_a_layer_that_unpacks_to_more_than_is_read_is_given_up_there(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("buildorch.unpacking.MAX_UNPACKED", 1000)
    raw = bytes(1001)

    assert size_of(gzip.compress(raw[:1000]), raw[:1000]) == 1000
    with pytest.raises(MalformedDocument, match="unpacks to more than 1000 bytes"):
        size_of(gzip.compress(raw), raw)


@pytest.mark.proof
@pytest.mark.parametrize("packing", ["gzip", "zstd"])
def test_a_layer_of_zeros_is_unpacked_in_pieces(packing: str):
    if packing == "gzip":
        packer = zlib.compressobj(wbits=31)
        blob = b"".join(packer.compress(bytes(PIECE)) for _ in range(40)) + packer.flush()
    else:
        zstd = zstandard.ZstdCompressor().compressobj()
        blob = b"".join(zstd.compress(bytes(PIECE)) for _ in range(40)) + zstd.flush()
    state = hashlib.sha256()
    for _ in range(40):
        state.update(bytes(PIECE))
    tracemalloc.start()
    layer = Descriptor("", digest_of(blob), len(blob))
    try:
        pieces = verified(unpacked(iter([blob]), layer), layer, f"sha256:{state.hexdigest()}")
        size = sum(map(len, pieces))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert size == 40 * PIECE
    assert peak < 8 * PIECE


def test_threads_that_need_the_same_layer_unpack_it_once():
    unpacked: list[str] = []
    layers = Layers({})
    ready = threading.Barrier(8)
    got: list[int] = []

    def unpack(_: Question) -> Examined:
        unpacked.append("once")
        time.sleep(0.02)
        return Examined(42)

    def measure_it() -> None:
        ready.wait()
        got.append(layers.examine("sha256:a", unpack, SIZES_ALONE).unpacked_bytes)

    threads = [threading.Thread(target=measure_it) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert got == [42] * 8
    assert unpacked == ["once"]


def test_different_layers_are_unpacked_side_by_side():
    layers = Layers({})
    both = threading.Barrier(2, timeout=5)

    def unpack(_: Question) -> Examined:
        both.wait()
        return Examined(1)

    threads = [
        threading.Thread(target=layers.examine, args=(name, unpack, SIZES_ALONE)) for name in ("sha256:a", "sha256:b")
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert not both.broken


def test_a_size_that_is_remembered_is_not_measured_again():
    layers = Layers({"sha256:a": 7})

    assert layers.examine("sha256:a", lambda _: pytest.fail("unpacked again"), SIZES_ALONE) == Examined(7)


def test_a_layer_that_could_not_be_unpacked_is_tried_again():
    layers = Layers({})

    def broken(_: Question) -> Examined:
        raise MalformedDocument("layer", "cut off")

    with pytest.raises(MalformedDocument):
        layers.examine("sha256:a", broken, SIZES_ALONE)

    assert layers.examine("sha256:a", lambda _: Examined(3), SIZES_ALONE) == Examined(3)


@pytest.mark.parametrize("index", [False, True])
def test_an_image_is_read_from_an_engines_content_store(engine: FakeEngine, *, index: bool):
    image = engine.images["app"] = make_image(layers=[b"one", NOISE], index=index)

    documents = read_image(EngineSource(Engine(engine.endpoint)), image.digest, Layers({}))

    facts = measure(documents)
    platform = facts.platforms["linux/amd64"]
    assert (facts.digest, facts.index_digest) == (image.digest, image.digest if index else None)
    assert platform.manifest_digest == image.manifest_digest
    assert platform.compressed_bytes == image.compressed_bytes
    assert platform.unpacked_bytes == image.unpacked_bytes
    assert [layer.created_by for layer in platform.layers] == ["COPY 0 / # buildkit", "COPY 1 / # buildkit"]


def test_what_a_layer_holds_is_remembered_though_only_its_size_is_asked(engine: FakeEngine, tmp_path: Path):
    image = engine.images["app"] = make_image(tars=[tars.member("one") + tars.END])
    layers = Layers({}, memory=LayerMemory(tmp_path))

    [platform] = read_image(EngineSource(Engine(engine.endpoint)), image.digest, layers).platforms

    assert platform.contents is None
    found = layers.recall(platform.config.diff_ids[0])
    assert found is not None
    assert [entry.path for entry in found.entries] == ["one"]


def test_a_layer_that_cannot_be_looked_into_is_measured_where_no_rule_asks_for_more(engine: FakeEngine, tmp_path: Path):
    image = engine.images["app"] = make_image(tars=[b"no tar" * 1000])
    layers = Layers({}, memory=LayerMemory(tmp_path))

    [platform] = read_image(EngineSource(Engine(engine.endpoint)), image.digest, layers).platforms

    assert platform.unpacked_bytes == (6000,)
    assert layers.recall(platform.config.diff_ids[0]) is None


def test_a_layer_whose_size_is_known_is_not_fetched(engine: FakeEngine):
    image = engine.images["app"] = make_image()
    source, known = EngineSource(Engine(engine.endpoint)), {}
    read_image(source, image.digest, Layers(known))
    before = len(engine.asked)

    read_image(source, image.digest, Layers(known))

    assert len(engine.asked) - before == 2, "manifest and config, and no layer"


def test_a_document_that_is_not_what_its_digest_says_is_refused(engine: FakeEngine):
    image = engine.images["app"] = make_image()
    image.blobs[image.manifest_digest] += b" "

    with pytest.raises(MalformedDocument, match="has another digest"):
        read_image(EngineSource(Engine(engine.endpoint)), image.digest, Layers({}))


def test_a_manifest_and_a_config_with_different_numbers_of_layers_are_refused(engine: FakeEngine):
    one, two = make_image(layers=[b"a"]), make_image(layers=[b"a", b"b"])
    mixed = one.blobs[one.manifest_digest].replace(
        f'"{one.config_digest}", "size": {len(one.blobs[one.config_digest])}'.encode(),
        f'"{two.config_digest}", "size": {len(two.blobs[two.config_digest])}'.encode(),
    )
    one.blobs = {**one.blobs, **two.blobs, digest_of(mixed): mixed}
    engine.images["app"] = one

    with pytest.raises(MalformedDocument, match="different numbers of layers"):
        read_image(EngineSource(Engine(engine.endpoint)), digest_of(mixed), Layers({}))


def test_an_image_the_engine_does_not_have_is_an_error_of_the_engines(engine: FakeEngine):
    with pytest.raises(EngineUnreachable, match=r"it does not give sha256:.*: content sha256:.*: not found"):
        read_image(EngineSource(Engine(engine.endpoint)), digest_of(b"nothing"), Layers({}))


@pytest.mark.parametrize("index", [False, True])
def test_an_image_is_read_from_a_registry(registry: FakeRegistry, *, index: bool):
    image = registry.image = make_image(layers=[b"one", NOISE], index=index)
    source = RegistrySource(f"{registry.host}/team/app:v1")

    documents = read_image(source, source.resolve("v1"), Layers({}))

    facts = measure(documents)
    assert facts.digest == image.digest
    assert facts.platforms["linux/amd64"].compressed_bytes == image.compressed_bytes
    assert facts.platforms["linux/amd64"].unpacked_bytes == image.unpacked_bytes


@pytest.mark.parametrize("fault", ["cut", "spoilt", 503])
def test_a_layer_that_breaks_off_or_is_another_is_fetched_and_measured_anew(
    registry: FakeRegistry, monkeypatch: pytest.MonkeyPatch, fault: Literal["cut", "spoilt"] | int
):
    monkeypatch.setattr("buildorch.registry.waiting.PATIENCE_S", 60.0)
    image = registry.image = make_image(layers=[NOISE])
    source = RegistrySource(f"{registry.host}/team/app:v1")
    blob = source.blob

    def failing_once(digest: str) -> Iterator[bytes]:
        if not registry.first and len(registry.asked) == 2:
            registry.first = [fault]
        return blob(digest)

    monkeypatch.setattr(source, "blob", failing_once)

    facts = measure(read_image(source, image.digest, Layers({})))

    assert facts.platforms["linux/amd64"].unpacked_bytes == image.unpacked_bytes
    assert len(registry.asked) == 4, "manifest, config, and the layer twice"


@pytest.mark.parametrize("packing", [bytes, lambda tar: gzip.compress(tar, 0)])
def test_a_layer_that_is_spoilt_on_its_way_is_fetched_anew_though_its_tar_is_told_first(
    registry: FakeRegistry, monkeypatch: pytest.MonkeyPatch, packing: Callable[[bytes], bytes]
):
    monkeypatch.setattr("buildorch.registry.waiting.PATIENCE_S", 60.0)
    half = 512 * 2000
    layer = tars.member("one", bytes(half)) + tars.member("two", bytes(half - 512)) + tars.END  # its middle is a header
    image = registry.image = make_image(tars=[layer], pack=packing)
    source = RegistrySource(f"{registry.host}/team/app:v1")
    blob, faults = source.blob, [["spoilt"], []]

    def spoilt_once(digest: str) -> Iterator[bytes]:
        if len(registry.asked) >= 2:  # manifest and config
            registry.first = faults.pop(0)
        return blob(digest)

    def slowly(pieces: Iterator[bytes], layer: Descriptor, diff_id: str) -> Iterator[bytes]:
        for piece in verified(pieces, layer, diff_id):
            time.sleep(0.01)  # so that who unpacks has met the blob's end
            yield piece

    monkeypatch.setattr(source, "blob", spoilt_once)
    monkeypatch.setattr("buildorch.inspection.verified", slowly)

    read = read_image(source, image.digest, Layers({}), lambda _: Question(contents=True))

    assert faults == []
    assert [entry.path for entry in read.platforms[0].contents[0].entries] == ["one", "two"]


@pytest.mark.parametrize("contents", [False, True])
def test_what_does_not_unpack_to_its_diff_id_is_no_part_of_an_image(engine: FakeEngine, *, contents: bool):
    said = bytes(512) + tars.END
    image = engine.images["app"] = make_image(
        tars=[said], pack=lambda _: gzip.compress(tars.member("other") + tars.END)
    )

    with pytest.raises(MalformedDocument, match=f"does not unpack to {digest_of(said)}"):
        read_image(
            EngineSource(Engine(engine.endpoint)), image.digest, Layers({}), lambda _: Question(contents=contents)
        )


def test_a_registry_that_gives_other_bytes_is_refused(registry: FakeRegistry):
    image = registry.image = make_image()
    image.blobs[image.config_digest] += b" "

    with pytest.raises(EngineError, match="and sent sha256:"):
        read_image(RegistrySource(f"{registry.host}/team/app"), image.digest, Layers({}))


def test_an_image_is_read_from_a_store_that_keeps_no_manifests(engine: FakeEngine):
    image = engine.images["app"] = make_image(layers=[b"one", b"two"])

    facts = measure(read_saved_image(Engine(engine.endpoint), "test/app:latest"))

    platform = facts.platforms["linux/amd64"]
    assert (facts.digest, platform.config_digest) == (image.config_digest, image.config_digest)
    assert (platform.unpacked_bytes, platform.compressed_bytes) == (image.unpacked_bytes, None)
