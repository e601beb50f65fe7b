"""Where an image is that was built some time, and what is read of it."""

from __future__ import annotations

import pytest
from fakes import FakeEngine, FakeRegistry, make_image

from buildorch.engine import Engine
from buildorch.errors import NoSuchImage, NoSuchPlatform
from buildorch.finding_images import locate, read
from buildorch.inspection import Layers
from buildorch.judging import Means
from buildorch.settle import Images

OLD, NEW = make_image(layers=[b"old"], index=True), make_image(layers=[b"new"], index=True)


@pytest.fixture
def images(engine: FakeEngine) -> Images:
    at = Engine(engine.endpoint)
    return Images(at, "containerd", Layers({}), Means(engine=at, key=b"key"))


def test_an_image_is_the_one_of_its_digest_and_not_what_its_tag_has_become(engine: FakeEngine, images: Images):
    engine.images = {"team/app:v1": NEW, "an/older:name": OLD}

    found = locate("team/app:v1", images, digest=OLD.digest)

    assert (found.digest, locate("team/app:v1", images).digest) == (OLD.digest, NEW.digest)
    assert read(found, images).platforms[0].config_digest == OLD.config_digest


def test_in_a_registry_it_is_the_one_of_its_digest_too(registry: FakeRegistry, images: Images):
    registry.image = NEW
    NEW.blobs.update(OLD.blobs)
    registry.tags = {"v1": NEW.digest}
    name = f"{registry.host}/team/app:v1"

    found = locate(name, images, digest=OLD.digest)

    assert (found.digest, found.inspected, locate(name, images).digest) == (OLD.digest, None, NEW.digest)
    assert read(found, images).platforms[0].config_digest == OLD.config_digest


def test_a_tag_that_is_there_does_not_stand_for_a_digest_that_is_gone(registry: FakeRegistry, images: Images):
    registry.image = make_image(layers=[b"another"])
    gone = "sha256:" + "0" * 64

    with pytest.raises(NoSuchImage, match=f"{gone}.*is not in the engine, and not in a registry"):
        locate(f"{registry.host}/team/app:v1", images, digest=gone)


def test_of_an_image_only_the_platforms_that_were_asked_for_are_read(engine: FakeEngine, images: Images):
    engine.images["app:v1"] = NEW
    found = locate("app:v1", images)

    assert [str(one.config.platform) for one in read(found, images, platforms=["linux/amd64"]).platforms] == [
        "linux/amd64"
    ]
    with pytest.raises(NoSuchPlatform, match="has nothing for linux/s390x") as caught:
        read(found, images, platforms=["linux/s390x"])
    assert "linux/amd64" in caught.value.hint
