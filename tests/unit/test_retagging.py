"""A new name on an image that is there is a tag, wherever it is."""

from __future__ import annotations

from pathlib import Path

import pytest
from fakes import FakeEngine, FakeRegistry, make_image

from buildorch.engine import Engine
from buildorch.errors import EngineError, RegistryError
from buildorch.plan import Selection, Solve, resolve
from buildorch.retagging import retag
from buildorch.services import parse
from buildorch.testing import make_digest

NO_ENGINE = Engine("unix:///nonexistent/docker.sock")


def make_solve(service: str = "{}", *, push: bool = False) -> Solve:
    file = parse(f"version: 1\nproject: team\nservices: {{app: {service}}}", "services.yaml")
    return resolve(file, Selection(output="push" if push else "load"), root=Path("/project")).solves[0]


def test_in_the_engine_every_name_names_the_image_by_its_digest(engine: FakeEngine):
    image = engine.images["any"] = make_image(index=True)

    retag(make_solve(), image.digest, ["team/app:a", "team/app:b"], engine=Engine(engine.endpoint))

    assert engine.images.keys() == {"any", "team/app:a", "team/app:b"}
    assert engine.images["team/app:b"] is image


def test_a_registry_with_a_port_in_its_name_is_no_tag(engine: FakeEngine):
    image = engine.images["any"] = make_image()

    retag(make_solve(), image.digest, ["localhost:5000/team/app:v1"], engine=Engine(engine.endpoint))

    assert "localhost:5000/team/app:v1" in engine.images


def test_an_image_that_the_engine_does_not_have_is_told(engine: FakeEngine):
    with pytest.raises(EngineError, match="No such image"):
        retag(make_solve(), make_digest("gone"), ["team/app:a"], engine=Engine(engine.endpoint))


@pytest.mark.parametrize("index", [False, True])
@pytest.mark.parametrize("login", ["", "token", "basic"])
def test_in_a_registry_the_manifest_is_put_again_as_it_is(
    registry: FakeRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, login: str, *, index: bool
):
    import base64
    import json

    auth = base64.b64encode(b"user:password").decode()
    (tmp_path / "config.json").write_text(json.dumps({"auths": {registry.host: {"auth": auth}}}))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    image = registry.image = make_image(index=index)
    registry.login, registry.tags = login, {}
    before = dict(image.blobs)

    retag(make_solve(push=True), image.digest, [f"{registry.host}/team/app:{tag}" for tag in "ab"], engine=NO_ENGINE)

    assert registry.tags == {"a": image.digest, "b": image.digest}
    assert image.blobs == before


def test_the_type_of_the_manifest_stays_what_it_is(registry: FakeRegistry):
    image = registry.image = make_image(index=True)

    retag(make_solve(push=True), image.digest, [f"{registry.host}/team/app:a"], engine=NO_ENGINE)

    assert registry.media_type == "application/vnd.oci.image.index.v1+json"


def test_a_token_for_reading_is_not_tried_for_writing(registry: FakeRegistry):
    image = registry.image = make_image(index=True)
    registry.login, registry.scoped, registry.tags = "token", True, {}

    retag(make_solve(push=True), image.digest, [f"{registry.host}/team/app:{tag}" for tag in "ab"], engine=NO_ENGINE)

    assert registry.tags == {"a": image.digest, "b": image.digest}
    assert sum(path.startswith("/token") for path, _ in registry.asked) == 2


def test_each_name_that_moved_is_told(registry: FakeRegistry):
    image = registry.image = make_image()
    registry.tags, registry.refuses = {}, "/manifests/b"
    moved: list[str] = []
    names = [f"{registry.host}/team/app:{tag}" for tag in "abc"]

    with pytest.raises(RegistryError):
        retag(make_solve(push=True), image.digest, names, engine=NO_ENGINE, moved=moved.append)

    assert moved == names[:1]


@pytest.mark.parametrize("status", [403, 500])
def test_a_registry_that_refuses_is_told(registry: FakeRegistry, status: int):
    image = registry.image = make_image()
    registry.status = status

    with pytest.raises(RegistryError, match=str(status)):
        retag(make_solve(push=True), image.digest, [f"{registry.host}/team/app:a"], engine=NO_ENGINE)


def test_an_image_that_the_registry_does_not_have_is_told(registry: FakeRegistry):
    registry.image = make_image()

    with pytest.raises(RegistryError, match="404"):
        retag(make_solve(push=True), make_digest("gone"), [f"{registry.host}/team/app:a"], engine=NO_ENGINE)


def test_an_output_that_pushes_is_named_in_its_registry(registry: FakeRegistry):
    image = registry.image = make_image()
    registry.tags = {}

    retag(make_solve("{outputs: ['type=registry']}"), image.digest, [f"{registry.host}/team/app:a"], engine=NO_ENGINE)

    assert registry.tags == {"a": image.digest}
