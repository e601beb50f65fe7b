"""Whether recorded images are still at their destination: what is decided, and how stores and registries are asked."""

from __future__ import annotations

import dataclasses
import json
import os
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fakes import (
    FakeContainerd,
    FakeEngine,
    FakeRegistry,
    Image,
    make_image,
    running_registry,
)

from buildorch.engine import Engine, EngineInfo, containerd, containerd_of, full_name, stored
from buildorch.errors import EngineUnreachable
from buildorch.oci import ImageReference
from buildorch.presence import (
    Held,
    Part,
    Presence,
    Wanted,
    in_engine,
    in_registries,
    judge,
    registries,
)
from buildorch.presence.wanted import wanted
from buildorch.testing import make_digest, make_platform, make_record

INDEX, OTHER = make_digest("index"), make_digest("other")
AMD = Part("linux/amd64", make_digest("amd manifest"), make_digest("amd config"))
ARM = Part("linux/arm64", make_digest("arm manifest"), make_digest("arm config"), (make_digest("arm layer"),))
IMAGE = Wanted("tasks/backend:latest", INDEX, (AMD, ARM))


def held(named: str | None, *, reachable: bool = True, without: str | None = None) -> Held:
    return Held("the engine's store", named, reachable, IMAGE.contents - {without})


def of(image: Image, reference: str = "team/app:v1") -> Wanted:
    layers = tuple(layer["digest"] for layer in json.loads(image.blobs[image.manifest_digest])["layers"])
    return Wanted(reference, image.digest, (Part("linux/amd64", image.manifest_digest, image.config_digest, layers),))


# --- the decision


def test_an_image_that_is_named_and_whole_is_present():
    assert judge(IMAGE, held(INDEX)) == Presence("present")


@pytest.mark.parametrize(
    ("store", "state", "reason"),
    [
        (
            held(None, reachable=False),
            "gone",
            "image gone: tasks/backend:latest is not in the engine's store",
        ),
        (
            held(OTHER, reachable=False),
            "gone",
            f"image gone: tasks/backend:latest now names {OTHER[:19]}, not {INDEX[:19]}",
        ),
        (
            held(INDEX, without=ARM.manifest),
            "gone",
            "image gone: linux/arm64 of tasks/backend:latest is no longer complete in the engine's store",
        ),
        (
            held(INDEX, without=AMD.config),
            "gone",
            "image gone: linux/amd64 of tasks/backend:latest is no longer complete in the engine's store",
        ),
        (
            held(INDEX, without=ARM.layers[0]),
            "gone",
            "image gone: linux/arm64 of tasks/backend:latest is no longer complete in the engine's store",
        ),
        (
            held(INDEX, without=INDEX),
            "gone",
            "image gone: tasks/backend:latest is no longer complete in the engine's store",
        ),
        (
            held(None, without=AMD.manifest),
            "gone",
            "image gone: linux/amd64 of tasks/backend:latest is no longer complete in the engine's store",
        ),
        (
            held(None),
            "untagged",
            f"tasks/backend:latest is not in the engine's store, but the image is there as {INDEX[:19]}",
        ),
        (
            held(OTHER),
            "untagged",
            f"tasks/backend:latest now names {OTHER[:19]}, not {INDEX[:19]}, but the image is there as {INDEX[:19]}",
        ),
    ],
)
def test_an_image_that_is_not_as_recorded_is_told_with_what_happened_to_it(store: Held, state: str, reason: str):
    assert judge(IMAGE, store) == Presence(state, reason)  # type: ignore[arg-type]


def test_every_name_of_a_record_is_wanted_with_its_platforms():
    platform = make_platform()
    record = dataclasses.replace(
        make_record(digest=INDEX), references=("a:1", "a:latest"), platforms={"linux/amd64": platform}
    )

    found = wanted(record)

    layers = tuple(layer.digest for layer in platform.layers)
    part = Part("linux/amd64", platform.manifest_digest, platform.config_digest, layers)
    assert found == (Wanted("a:1", INDEX, (part,)), Wanted("a:latest", INDEX, (part,)))
    assert found[0].contents == {INDEX, platform.manifest_digest, platform.config_digest, *layers}


def test_a_record_without_a_digest_wants_nothing():
    assert wanted(dataclasses.replace(make_record(), digest=None)) == ()


@pytest.mark.parametrize(
    ("reference", "name"),
    [
        ("app", "docker.io/library/app:latest"),
        ("team/app:v1", "docker.io/team/app:v1"),
        ("docker.io/app:v1", "docker.io/library/app:v1"),
        ("index.docker.io/team/app:v1", "docker.io/team/app:v1"),
        ("localhost:5000/app:v1", "localhost:5000/app:v1"),
        ("ghcr.io/team/app:v1", "ghcr.io/team/app:v1"),
    ],
)
def test_an_image_has_its_full_name_in_containerd(reference: str, name: str):
    assert full_name(ImageReference.parse(reference)) == name


# --- an engine


def asked(engine: FakeEngine, *images: Wanted) -> tuple[Presence, ...]:
    its = Engine(engine.endpoint)
    return in_engine(images, its, info=its.info())


def states(presences: tuple[Presence, ...]) -> list[str]:
    return [presence.state for presence in presences]


def test_an_engines_containerd_is_asked_once_for_all_names_and_once_for_all_digests(
    engine: FakeEngine, store: FakeContainerd
):
    one, two = make_image(index=True), make_image(layers=[b"two"])
    store.hold("docker.io/team/app:v1", one)
    store.hold("127.0.0.1:5000/two:latest", two)

    found = asked(engine, of(one), of(two, "127.0.0.1:5000/two"))

    assert states(found) == ["present", "present"]
    assert [(method, namespace) for method, namespace, _ in store.asked] == [
        ("Images/List", "moby"),
        ("Content/List", "moby"),
    ]
    assert engine.asked == ["/info"]


def test_many_digests_are_sought_in_the_list_of_all(
    engine: FakeEngine, store: FakeContainerd, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(containerd, "MAX_FILTERS", 1)
    image = make_image(index=True)
    store.hold("docker.io/team/app:v1", image)

    assert states(asked(engine, of(image))) == ["present"]
    assert store.asked[1][2] == []


def test_containerd_tells_an_image_that_lost_its_name_a_part_or_all(engine: FakeEngine, store: FakeContainerd):
    whole, broken, gone = (make_image(index=True, layers=[name]) for name in (b"1", b"2", b"3"))
    store.hold("docker.io/team/other:v1", whole)
    store.hold("docker.io/team/app:broken", broken)
    store.hold("docker.io/team/app:moved", whole)
    store.contents.remove(broken.manifest_digest)

    found = asked(
        engine,
        of(whole, "team/app:unnamed"),
        of(broken, "team/app:broken"),
        of(gone, "team/app:gone"),
        of(gone, "team/app:moved"),
    )

    assert states(found) == ["untagged", "gone", "gone", "gone"]
    assert "linux/amd64 of team/app:broken is no longer complete" in found[1].reason
    assert found[2].reason == "image gone: team/app:gone is not in the engine's store"
    assert f"team/app:moved now names {whole.digest[:19]}" in found[3].reason


def test_containerd_tells_an_image_that_lost_a_layer_though_its_documents_are_there(
    engine: FakeEngine, store: FakeContainerd
):
    image = make_image(index=True)
    store.hold("docker.io/team/app:v1", image)
    store.contents -= {layer for part in of(image).parts for layer in part.layers}

    assert states(asked(engine, of(image))) == ["gone"]


def test_content_that_no_image_names_does_not_make_an_image_present(engine: FakeEngine, store: FakeContainerd):
    image = make_image(index=True)
    store.hold("docker.io/team/app:v1", image)
    del store.images["docker.io/team/app:v1"]

    assert states(asked(engine, of(image))) == ["gone"]


def test_nothing_asked_is_nothing_answered(engine: FakeEngine, store: FakeContainerd):
    assert asked(engine) == ()
    assert store.asked == []


def with_another_id(info: EngineInfo) -> EngineInfo:
    return dataclasses.replace(info, identity="another")


def over_tcp(info: EngineInfo) -> EngineInfo:
    return dataclasses.replace(info, endpoint=info.endpoint.replace("unix://", "tcp://127.0.0.1:2375"))


def on_a_graphdriver(info: EngineInfo) -> EngineInfo:
    return dataclasses.replace(info, store="graphdriver")


def without_its_data_root(info: EngineInfo) -> EngineInfo:
    return dataclasses.replace(info, data_root="/nonexistent")


def without_its_socket(info: EngineInfo) -> EngineInfo:
    return dataclasses.replace(info, containerd=f"{info.data_root}/engine-id")


@pytest.mark.parametrize(
    "elsewhere", [with_another_id, over_tcp, on_a_graphdriver, without_its_data_root, without_its_socket]
)
def test_a_containerd_that_may_not_be_the_engines_own_is_not_asked(
    engine: FakeEngine, store: FakeContainerd, elsewhere: Callable[[EngineInfo], EngineInfo]
):
    info = Engine(engine.endpoint).info()

    assert containerd_of(info) is not None
    assert containerd_of(elsewhere(info)) is None


def test_an_engine_without_an_id_is_not_taken_for_one_on_this_machine(engine: FakeEngine, store: FakeContainerd):
    (Path(store.address).parent / "engine-id").write_text("")

    assert containerd_of(dataclasses.replace(Engine(engine.endpoint).info(), identity="")) is None


def test_a_containerd_behind_a_socket_that_is_not_dockerds_is_not_asked(
    engine: FakeEngine, store: FakeContainerd, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(containerd, "_DAEMON", "dockerd")

    assert containerd_of(Engine(engine.endpoint).info()) is None


def closes(connection: socket.socket) -> None:
    """End the connection at once."""


def speaks_rubbish(connection: socket.socket) -> None:
    connection.sendall(b"\0\0\1\4\0\0\0\0\0x")
    connection.recv(65536)


@pytest.mark.parametrize("broken", [closes, speaks_rubbish])
def test_where_containerd_gives_no_answer_the_engine_itself_is_asked(
    engine: FakeEngine, store: FakeContainerd, broken: Callable[[socket.socket], None]
):
    image = make_image(index=True)
    engine.images["team/app:v1"], store.broken = image, broken

    assert states(asked(engine, of(image))) == ["present"]
    assert "/images/team/app:v1/json?manifests=1" in engine.asked


@pytest.mark.parametrize(
    "answer",
    [
        b"\x0a\x01\xff",
        b"\x0a\x02\x0a\x05",
        b"\x0a\x00",
        b"\x0a\x04\x0a\x02\xff\xff",
        b"\x0a\x7f\x0a\x01x\x1a\x03\x12\x01d",
    ],
)
def test_an_answer_of_containerd_that_cannot_be_read_is_refused(
    store: FakeContainerd, monkeypatch: pytest.MonkeyPatch, answer: bytes
):
    monkeypatch.setattr(store, "answer", lambda *_: b"\0\0\0\0" + bytes([len(answer)]) + answer)

    with pytest.raises(EngineUnreachable, match="malformed"):
        stored(containerd.Containerd(store.address, "moby"), ["x"], roots=[], digests=[])


def test_an_engine_tells_an_image_that_lost_its_name_a_part_or_all(engine: FakeEngine):
    whole, broken, gone = (make_image(index=True, layers=[name]) for name in (b"1", b"2", b"3"))
    engine.images |= {"team/app:v1": whole, "team/app:broken": broken, "team/app:moved": whole}
    engine.unavailable.add(broken.manifest_digest)

    found = asked(
        engine,
        of(whole),
        of(whole, "team/app:unnamed"),
        of(broken, "team/app:broken"),
        of(gone, "team/app:gone"),
        of(gone, "team/app:moved"),
    )

    assert states(found) == ["present", "untagged", "gone", "gone", "gone"]
    assert "linux/amd64 of team/app:broken is no longer complete" in found[2].reason
    assert f"team/app:moved now names {whole.digest[:19]}" in found[4].reason


def test_answers_stand_in_the_order_of_the_questions(engine: FakeEngine):
    images = {f"team/app:{at}": make_image(layers=[bytes([at])]) for at in range(20)}
    engine.images |= images
    for at in (3, 12):
        del engine.images[f"team/app:{at}"]

    found = asked(engine, *(of(image, name) for name, image in images.items()))

    assert [at for at, state in enumerate(states(found)) if state != "present"] == [3, 12]


def test_an_engine_that_does_not_say_which_platforms_are_whole_leaves_it_open(engine: FakeEngine):
    image = make_image(index=True)
    engine.images["team/app:v1"], engine.says_platforms = image, False

    [found] = asked(engine, of(image))

    assert found.state == "unknown"
    assert "engine 28.0.0 does not say which platforms are complete" in found.reason


def test_the_graphdriver_store_names_an_image_by_its_config(engine: FakeEngine):
    image = make_image()
    engine.store = "graphdriver"
    engine.images["team/app:v1"] = image
    recorded = Wanted("team/app:v1", image.config_digest, (Part("linux/amd64", None, image.config_digest, ("tar",)),))

    found = asked(engine, recorded, dataclasses.replace(recorded, reference="team/app:v2"), of(image))

    assert states(found) == ["present", "untagged", "gone"]


@pytest.mark.parametrize("status", [400, 500])
def test_an_engine_that_fails_leaves_it_open_with_its_words(engine: FakeEngine, status: int):
    engine.status = status

    [found] = asked(engine, of(make_image()))

    assert found.state == "unknown"
    assert f"gave {status}: not now" in found.reason


def test_an_engine_that_is_gone_leaves_it_open(engine: FakeEngine):
    info = Engine(engine.endpoint).info()

    [found] = in_engine([of(make_image())], Engine("unix:///nonexistent/docker.sock"), info=info)

    assert (found.state, "there is no such socket" in found.reason) == ("unknown", True)


# --- a registry


@pytest.fixture
def registry() -> Iterator[FakeRegistry]:
    with running_registry() as running:
        running.image = make_image(index=True, layers=[b"x" * 5000])
        running.keeps = True
        yield running


def in_registry(registry: FakeRegistry, *tags: str, image: Image | None = None, configs: bool = True) -> list[Presence]:
    image = image or registry.image
    assert image is not None
    names = [f"{registry.host}/team/app:{tag}" for tag in tags or ("v1",)]
    environ = {"HOME": "/nonexistent"}
    return list(in_registries([of(image, name) for name in names], configs=configs, environ=environ))


def test_a_registry_is_asked_for_the_tag_each_manifest_and_each_config_over_one_connection(registry: FakeRegistry):
    image = registry.image
    assert image is not None

    [found] = in_registry(registry)

    assert found == Presence("present")
    assert [path for path, _ in registry.asked] == [
        "/v2/team/app/manifests/v1",
        f"/v2/team/app/manifests/{image.manifest_digest}",
        f"/v2/team/app/blobs/{image.config_digest}",
    ]
    assert (set(registry.methods), registry.connections) == ({"HEAD"}, 1)


def test_configs_need_not_be_asked_for(registry: FakeRegistry):
    assert [found.state for found in in_registry(registry, configs=False)] == ["present"]
    assert not [path for path, _ in registry.asked if "/blobs/" in path]


@pytest.mark.parametrize("part", ["manifest_digest", "config_digest"])
def test_an_image_of_which_the_registry_lost_a_part_is_gone(registry: FakeRegistry, part: str):
    image = registry.image
    assert image is not None
    name = f"{registry.host}/team/app:v1"
    whole = of(image, name)
    del image.blobs[getattr(image, part)]

    [found] = in_registries([whole])

    assert found.state == "gone"
    assert f"linux/amd64 of {name} is no longer complete in the registry" in found.reason


def test_an_image_of_one_manifest_is_asked_for_by_its_tag_and_its_config(registry: FakeRegistry):
    registry.image = make_image()

    assert [found.state for found in in_registry(registry)] == ["present"]
    assert len(registry.asked) == 2


def test_a_tag_that_is_gone_or_names_another_image_is_told_apart_from_an_image_that_is_gone(registry: FakeRegistry):
    image = registry.image
    assert image is not None
    registry.tags = {"v1": image.digest, "moved": image.manifest_digest}

    found = in_registry(registry, "v1", "moved", "none")
    lost = in_registry(registry, "v1", "none", image=make_image(layers=[b"never pushed"]))

    assert [one.state for one in found] == ["present", "untagged", "untagged"]
    assert [one.state for one in lost] == ["gone", "gone"]
    assert f"now names {image.digest[:19]}" in lost[0].reason
    assert lost[1].reason == f"image gone: {registry.host}/team/app:none is not in the registry {registry.host}"


@pytest.mark.parametrize("silence", ["no digest", "no HEAD"])
def test_where_a_registry_does_not_say_the_digest_the_manifest_is_fetched_and_hashed(
    registry: FakeRegistry, silence: str
):
    if silence == "no digest":
        registry.said = ""
    else:
        registry.head_status = 405

    found = in_registry(registry, configs=False)

    assert [one.state for one in found] == ["present"]
    assert "GET" in registry.methods


def test_a_token_is_fetched_once_for_all_of_a_repositorys_images(registry: FakeRegistry):
    registry.login = "token"

    found = in_registry(registry, "v1", "v2", "v3")

    assert [one.state for one in found] == ["present"] * 3
    assert len([path for path, _ in registry.asked if path.startswith("/token")]) == 1


def test_a_blob_that_is_kept_elsewhere_is_there_though_its_address_is_not_followed(registry: FakeRegistry):
    registry.redirect = True

    assert [one.state for one in in_registry(registry)] == ["present"]
    assert not [path for path, _ in registry.asked if path.startswith("/elsewhere/")]


@pytest.mark.parametrize("status", [401, 403, 429, 500])
def test_a_registry_that_refuses_leaves_it_open(registry: FakeRegistry, status: int):
    registry.status = status

    [found] = in_registry(registry)

    assert found.state == "unknown"
    assert f"whether {registry.host}/team/app:v1 is still there cannot be told: {registry.host} " in found.reason


@pytest.mark.parametrize("path", ["manifests/v1", "manifests/sha256:", "blobs/"])
def test_a_registry_that_refuses_one_question_leaves_it_open(registry: FakeRegistry, path: str):
    registry.refuses = path

    [found] = in_registry(registry)

    assert (found.state, f"gave 403 for team/app/{path}" in found.reason) == ("unknown", True)


def test_a_registry_that_closes_its_connections_is_asked_over_new_ones(registry: FakeRegistry):
    registry.keeps = False

    assert [one.state for one in in_registry(registry, "v1", "v2")] == ["present", "present"]
    assert registry.connections == 6


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_registry_that_fails_for_the_moment_is_asked_again(
    registry: FakeRegistry, monkeypatch: pytest.MonkeyPatch, status: int
):
    monkeypatch.setattr("buildorch.presence.registries.PATIENCE_S", 3.0)
    registry.first = [status, status]

    assert in_registry(registry) == [Presence("present")]


def test_a_connection_that_is_reset_is_made_again(registry: FakeRegistry):
    registry.first = ["reset"]

    assert in_registry(registry) == [Presence("present")]


def test_the_patience_with_a_registry_is_one_for_all_its_images(
    registry: FakeRegistry, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("buildorch.presence.registries.PATIENCE_S", 3.0)
    pauses: list[float] = []
    monkeypatch.setattr("buildorch.presence.registries.time.sleep", pauses.append)
    registry.head_status = 503

    found = in_registry(registry, *["v1"] * 50)

    assert {one.state for one in found} == {"unknown"}
    assert 0.5 < sum(pauses) <= 3.0


def test_a_registry_that_keeps_quiet_is_waited_for_once(registry: FakeRegistry, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(registries, "TIMEOUT_S", 0.05)
    registry.silent_s = 0.3

    found = in_registry(registry, "v1", "v2", "v3")

    assert [one.state for one in found] == ["unknown"] * 3
    assert len(registry.asked) == 1
    assert found[0].reason.endswith(f"the registry at {registry.host} does not answer: timed out")


@pytest.mark.parametrize("answer", [b"", b"rubbish\r\n\r\n", b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 200"])
def test_a_registry_that_does_not_speak_http_leaves_it_open(answer: bytes):
    with socket.create_server(("127.0.0.1", 0)) as server:
        host = f"127.0.0.1:{server.getsockname()[1]}"
        closing = in_thread(lambda: answer_twice(server, answer))

        [found] = in_registries([of(make_image(), f"{host}/team/app:v1")], environ=os.environ)

        closing()
    assert found.state == "unknown"
    assert f"the registry at {host} does not answer: " in found.reason


def test_an_answer_that_breaks_off_is_none_though_the_digest_came():
    image = make_image()
    with socket.create_server(("127.0.0.1", 0)) as server:
        host = f"127.0.0.1:{server.getsockname()[1]}"
        answer = f"HTTP/1.1 200 OK\r\nDocker-Content-Digest: {image.digest}\r\n".encode()
        closing = in_thread(lambda: answer_twice(server, answer))

        [found] = in_registries([of(image, f"{host}/team/app:v1")], configs=False, environ=os.environ)

        closing()
    assert found.state == "unknown"


def answer_twice(server: socket.socket, answer: bytes) -> None:
    """On a connection each: what breaks is asked once more."""
    for _ in range(2):
        connection, _ = server.accept()
        with connection:
            connection.recv(65536)
            connection.sendall(answer)


def in_thread(work: Callable[[], None]) -> Callable[[], None]:
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread.join


@pytest.mark.parametrize("host", ["127.0.0.1:1", "127.0.0.1:99999", "localhost:1"])
def test_a_registry_that_is_not_there_leaves_it_open(host: str):
    [found] = in_registries([of(make_image(), f"{host}/team/app:v1")])

    assert found.state == "unknown"
