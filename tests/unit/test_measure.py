from __future__ import annotations

import pytest

from buildorch.errors import MalformedDocument
from buildorch.measure import STAND_IN_LABEL, ImageDocuments, PlatformDocuments, measure
from buildorch.oci import Descriptor, ImageConfig, ImageManifest, Platform
from buildorch.testing import make_digest

ONE, TWO = make_digest("one"), make_digest("two")


def descriptor(seed: str, size: int) -> Descriptor:
    return Descriptor("", make_digest(seed), size)


def config(*, architecture: str = "amd64", labels: dict[str, str] | None = None) -> ImageConfig:
    return ImageConfig(Platform("linux", architecture), "app", labels or {}, (ONE, TWO), ("ADD one", "RUN two"))


MANIFEST = ImageManifest(descriptor("config", 7), (descriptor("blob one", 100), descriptor("blob two", 50)))


def image(*platforms: PlatformDocuments) -> ImageDocuments:
    return ImageDocuments(make_digest("index"), make_digest("index"), platforms)


def test_the_compressed_size_is_config_and_layers_and_manifest():
    documents = PlatformDocuments(MANIFEST, descriptor("manifest", 3), config(), make_digest("config"), (400, 200))

    platform = measure(image(documents)).platforms["linux/amd64"]

    assert platform.compressed_bytes == 7 + 100 + 50 + 3
    assert platform.manifest_digest == make_digest("manifest")


def test_the_unpacked_size_is_the_sum_of_the_layers_tars():
    documents = PlatformDocuments(MANIFEST, descriptor("manifest", 3), config(), make_digest("config"), (400, 200))

    platform = measure(image(documents)).platforms["linux/amd64"]

    assert platform.unpacked_bytes == 600
    assert [
        (layer.digest, layer.compressed_bytes, layer.unpacked_bytes, layer.created_by) for layer in platform.layers
    ] == [
        (make_digest("blob one"), 100, 400, "ADD one"),
        (make_digest("blob two"), 50, 200, "RUN two"),
    ]


def test_each_platform_is_measured_for_itself():
    facts = measure(
        image(
            PlatformDocuments(MANIFEST, descriptor("m1", 1), config(), make_digest("config"), (4, 2)),
            PlatformDocuments(MANIFEST, descriptor("m2", 2), config(architecture="arm64"), make_digest("c2"), (40, 20)),
        )
    )

    assert {name: platform.unpacked_bytes for name, platform in facts.platforms.items()} == {
        "linux/amd64": 6,
        "linux/arm64": 60,
    }


def test_a_store_without_manifests_knows_no_compressed_size():
    documents = PlatformDocuments(None, None, config(), make_digest("config"), (400, 200))

    platform = measure(image(documents)).platforms["linux/amd64"]

    assert (platform.compressed_bytes, platform.manifest_digest, platform.unpacked_bytes) == (None, None, 600)
    assert [layer.digest for layer in platform.layers] == [ONE, TWO]


def test_an_image_on_a_stand_in_says_for_which_official_image_it_stands():
    labels = {STAND_IN_LABEL: "python:3.13-slim"}
    documents = PlatformDocuments(None, None, config(labels=labels), make_digest("config"), (1, 1))

    assert measure(image(documents)).stand_ins == ("python:3.13-slim",)


@pytest.mark.parametrize(
    ("manifest", "unpacked"), [(MANIFEST, (1,)), (ImageManifest(MANIFEST.config, MANIFEST.layers[:1]), (1, 1))]
)
def test_documents_that_name_different_numbers_of_layers_are_refused(
    manifest: ImageManifest, unpacked: tuple[int, ...]
):
    documents = PlatformDocuments(manifest, descriptor("m", 1), config(), make_digest("config"), unpacked)

    with pytest.raises(MalformedDocument, match="different numbers of layers"):
        measure(image(documents))


def test_two_platforms_of_one_name_are_told_apart():
    one = PlatformDocuments(None, None, config(), make_digest("config"), (1, 2))

    assert [*measure(image(one, one)).platforms] == ["linux/amd64", "linux/amd64 #2"]
