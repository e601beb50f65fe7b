"""The engine over its socket: facts, saved images, blobs; and what it says when it breaks."""

from __future__ import annotations

import json
import socket
import socketserver
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import h2.config
import h2.connection
import pytest
from fakes import (
    FakeContainerd,
    FakeEngine,
    content_message,
    digest_of,
    make_image,
    saved_archive,
    tar_of,
)
from hypothesis import given
from hypothesis import strategies as st

from buildorch.engine import Engine, containerd_of, read_blob, read_saved
from buildorch.engine.content import _data
from buildorch.engine.frames import LARGEST, Frames
from buildorch.engine.grpc import WINDOW, Messages
from buildorch.errors import EXIT_UNREACHABLE, EngineError, EngineUnreachable, MalformedDocument


@pytest.mark.parametrize("store", ["containerd", "graphdriver"])
def test_an_engine_says_its_version_its_store_and_its_cpus(engine: FakeEngine, store: str):
    engine.store = store

    facts = Engine(engine.endpoint).info().facts("0.29.1")

    assert (facts.version, facts.buildx, facts.store, facts.cpus) == ("28.0.0", "0.29.1", store, 2)
    assert facts.endpoint == engine.endpoint


@pytest.mark.parametrize("answer", [b"[]", b"not json", b""])
def test_an_answer_that_is_no_json_object_is_refused(engine: FakeEngine, answer: bytes):
    engine.info = answer

    with pytest.raises(MalformedDocument, match="malformed answer to /info"):
        Engine(engine.endpoint).info().facts("x")


@pytest.mark.parametrize("odd", [None, -7, 1.5, [], [["driver-type"]], {"driver-type": "x"}, True, [None]])
@pytest.mark.parametrize("registries", [lambda odd: odd, lambda odd: {"Mirrors": odd}])
def test_what_an_engine_says_in_another_form_is_taken_as_not_said(
    engine: FakeEngine, odd: object, registries: Callable[[object], object]
):
    words = ("DriverStatus", "NCPU", "Containerd", "ID", "OSType", "Architecture", "ServerVersion", "DockerRootDir")
    engine.info = json.dumps(dict.fromkeys(words, odd) | {"RegistryConfig": registries(odd)}).encode()

    info = Engine(engine.endpoint).info()

    assert (info.store, str(info.cpus), info.version, info.platform) == ("graphdriver", "1", "", "/")
    assert (info.identity, info.data_root, info.containerd, info.mirrors) == ("", "", "", ())


def refused(endpoint: str) -> EngineUnreachable:
    with pytest.raises(EngineUnreachable) as caught:
        Engine(endpoint).info().facts("x")
    assert caught.value.exit_code == EXIT_UNREACHABLE
    assert "start Docker, or set DOCKER_HOST" in caught.value.hint
    return caught.value


def test_no_socket_is_told_by_its_endpoint(tmp_path: Path):
    endpoint = f"unix://{tmp_path}/none.sock"

    assert str(refused(endpoint)) == f"no Docker engine answers at {endpoint}: there is no such socket"


def test_a_socket_that_nobody_listens_on_is_told():
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        port = holder.getsockname()[1]

        assert str(refused(f"tcp://127.0.0.1:{port}")).endswith("nothing listens there")


def test_an_engine_that_takes_a_question_and_gives_no_answer_is_frozen(tmp_path: Path):
    with socket.socket(socket.AF_UNIX) as stopped:
        stopped.bind(str(tmp_path / "stopped.sock"))
        stopped.listen(0)
        asked = Engine(f"unix://{tmp_path}/stopped.sock")

        assert [asked.is_frozen(timeout_s=0.05) for _ in range(3)] == [True] * 3  # the third finds the queue full


def test_an_engine_that_answers_or_is_gone_is_not_frozen(engine: FakeEngine, tmp_path: Path):
    assert not Engine(engine.endpoint).is_frozen(timeout_s=5)
    assert not Engine(f"unix://{tmp_path}/none.sock").is_frozen(timeout_s=5)


@pytest.mark.parametrize("endpoint", ["ssh://host", "npipe:////./pipe/x", "nonsense", "tcp://"])
def test_an_endpoint_of_another_kind_is_refused(endpoint: str):
    assert str(refused(endpoint)).endswith("buildorch speaks to unix:// and tcp:// endpoints")


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"", "Remote end closed connection without response"),
        (b"rubbish\r\n\r\n", "rubbish"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{", "IncompleteRead"),
        (b'HTTP/1.1 500 Oh\r\nContent-Length: 17\r\n\r\n{"message": "no"}', "/info gave 500: no"),
        (b"HTTP/1.1 500 Oh\r\nContent-Length: 2\r\n\r\n\xff\xff", "/info gave 500: \ufffd\ufffd"),
    ],
)
def test_an_engine_that_breaks_off_or_fails_is_told(answer: bytes, said: str):
    with answering(lambda connection: connection.sendall(answer)) as endpoint:
        assert said in str(refused(endpoint))


class answering:  # noqa: N801 - a context manager, used like one of contextlib's
    """An endpoint whose every connection is handled by a function once the request is there."""

    def __init__(self, handle: Callable[[socket.socket], None]) -> None:
        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                self.request.recv(65536)
                handle(self.request)

        self._server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)

    def __enter__(self) -> str:
        self._thread.start()
        return f"tcp://127.0.0.1:{self._server.server_address[1]}"

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def test_tls_files_that_cannot_be_read_are_told(tmp_path: Path):
    environ = {"DOCKER_TLS_VERIFY": "1", "DOCKER_CERT_PATH": str(tmp_path)}

    with pytest.raises(EngineUnreachable, match=f"its TLS files in {tmp_path} cannot be read"):
        Engine.at("tcp://127.0.0.1:2376", environ)


def test_a_unix_socket_needs_no_tls_files(tmp_path: Path):
    assert Engine.at("unix:///x", {"DOCKER_TLS_VERIFY": "1", "DOCKER_CERT_PATH": str(tmp_path)}).tls is None


def test_a_blob_is_read_whole_over_many_messages(engine: FakeEngine):
    image = make_image(layers=[bytes(range(256)) * 3000])
    big = bytes(1_500_000)
    image.blobs[digest_of(big)] = big
    engine.images["app"] = image

    assert b"".join(read_blob(Engine(engine.endpoint), digest_of(big))) == big


def test_a_blob_that_is_larger_than_the_window_is_read_whole(engine: FakeEngine):
    image = make_image()
    big = bytes(2 * WINDOW)
    image.blobs[digest_of(big)] = big
    engine.images["app"] = image

    assert sum(map(len, read_blob(Engine(engine.endpoint), digest_of(big)))) == len(big)


def test_a_blob_that_is_not_there_is_told_with_the_stores_words(engine: FakeEngine):
    with pytest.raises(EngineUnreachable, match="it does not give sha256:x: content sha256:x: not found"):
        list(read_blob(Engine(engine.endpoint), "sha256:x"))


BIG = bytes(range(256)) * 4000


@pytest.fixture
def big(engine: FakeEngine) -> str:
    """A blob that the engine gives."""
    image = make_image()
    image.blobs[digest_of(BIG)] = BIG
    engine.images["app"] = image
    return digest_of(BIG)


def shortest(engine: FakeEngine, digest: str) -> Iterator[bytes]:
    """The blob by the shortest way."""
    asked = Engine(engine.endpoint)
    return read_blob(asked, digest, containerd_of(asked.info()))


def test_a_blob_comes_from_the_engines_own_containerd(engine: FakeEngine, store: FakeContainerd):
    store.blobs[digest_of(BIG)] = BIG  # which the engine itself has not

    assert b"".join(shortest(engine, digest_of(BIG))) == BIG
    assert store.asked == [("Content/Read", "moby", [])]


def test_an_engine_elsewhere_gives_a_blob_itself(engine: FakeEngine, big: str):
    assert b"".join(shortest(engine, big)) == BIG


def breaks_off(connection: socket.socket) -> None:
    """Speak HTTP/2, and no further."""
    connection.recv(100)
    connection.sendall(b"\0\0\0\4\0\0\0\0\0")


@pytest.mark.parametrize("broken", [None, breaks_off], ids=["it has no such blob", "it breaks off"])
def test_where_containerd_gives_no_blob_the_engine_itself_is_asked(
    engine: FakeEngine, store: FakeContainerd, big: str, broken: Callable[[socket.socket], None] | None
):
    store.broken = broken

    assert b"".join(shortest(engine, big)) == BIG


def test_a_blob_that_nobody_gives_is_told_in_the_engines_words(engine: FakeEngine, store: FakeContainerd):
    with pytest.raises(EngineUnreachable, match="it does not give sha256:x: content sha256:x: not found"):
        list(shortest(engine, "sha256:x"))


def begins(connection: socket.socket) -> h2.connection.H2Connection:
    """Give the first message of a blob."""
    link = _link()
    link.receive_data(connection.recv(65536))
    link.send_headers(1, [(":status", "200"), ("content-type", "application/grpc")])
    link.send_data(1, content_message(b"begin", 0))
    connection.sendall(link.data_to_send())
    return link


@pytest.mark.proof
def test_a_containerd_that_is_slow_once_it_answers_has_the_engines_own_time(
    engine: FakeEngine, store: FakeContainerd, monkeypatch: pytest.MonkeyPatch
):
    def dawdles(connection: socket.socket) -> None:
        """Give the second message late."""
        link = begins(connection)
        time.sleep(0.5)
        link.send_data(1, content_message(b" end", 5))
        link.send_headers(1, [("grpc-status", "0")], end_stream=True)
        connection.sendall(link.data_to_send())
        connection.recv(65536)

    store.broken = dawdles
    monkeypatch.setattr("buildorch.engine.containerd.TIMEOUT_S", 0.25)

    assert b"".join(shortest(engine, "sha256:x")) == b"begin end"


def test_a_containerd_that_goes_in_the_middle_of_a_blob_is_told_and_nothing_is_read_twice(
    engine: FakeEngine, store: FakeContainerd, big: str
):
    def goes(connection: socket.socket) -> None:
        """Give the first message alone."""
        begins(connection)

    store.broken = goes
    taken: list[bytes] = []

    with pytest.raises(EngineUnreachable, match=f"(while sending|reading) {big}"):
        taken.extend(shortest(engine, big))

    assert taken == [b"begin"]


def _link() -> h2.connection.H2Connection:
    link = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False, header_encoding="utf-8"))
    link.initiate_connection()
    return link


def _wait_for_request(connection: socket.socket, link: h2.connection.H2Connection) -> None:
    connection.sendall(link.data_to_send())
    while not link.streams:
        link.receive_data(connection.recv(65536))


def closes(connection: socket.socket) -> None:
    """End the connection at once."""


def speaks_rubbish(connection: socket.socket) -> None:
    connection.sendall(b"\0\0\1\4\0\0\0\0\0x")  # a SETTINGS frame of one byte
    connection.recv(65536)


def breaks_off(connection: socket.socket) -> None:
    link = _link()
    _wait_for_request(connection, link)
    link.send_headers(1, [(":status", "200")])
    link.send_data(1, content_message(b"half", 0)[:5])
    connection.sendall(link.data_to_send())


def resets(connection: socket.socket) -> None:
    link = _link()
    _wait_for_request(connection, link)
    link.reset_stream(1)
    connection.sendall(link.data_to_send())
    connection.recv(65536)


def refuses(connection: socket.socket) -> None:
    link = _link()
    _wait_for_request(connection, link)
    link.send_headers(1, [(":status", "503")], end_stream=True)
    connection.sendall(link.data_to_send())
    connection.recv(65536)


def sends_a_frame_too_large(connection: socket.socket) -> None:
    link = _link()
    _wait_for_request(connection, link)
    link.send_headers(1, [(":status", "200")])
    connection.sendall(link.data_to_send() + frame(0, 0, 1, b"")[3:].rjust(9, b"\xff"))
    connection.recv(65536)


def sends_data_before_its_head(connection: socket.socket) -> None:
    link = _link()
    _wait_for_request(connection, link)
    connection.sendall(link.data_to_send() + frame(0, 0, 1, b"x"))
    connection.recv(65536)


def garbles(connection: socket.socket) -> None:
    link = _link()
    _wait_for_request(connection, link)
    link.send_headers(1, [(":status", "200")])
    link.send_data(1, b"\0\0\0\0\1\xff", end_stream=True)
    connection.sendall(link.data_to_send())
    connection.recv(65536)


@pytest.mark.parametrize(
    ("behaviour", "said"),
    [
        (closes, "it closed the connection while sending sha256:x|reading sha256:x: "),
        (speaks_rubbish, "it broke HTTP/2 while sending sha256:x"),
        (breaks_off, "it closed the connection while sending sha256:x|reading sha256:x: "),
        (resets, "it broke off while sending sha256:x"),
        (refuses, "it does not give sha256:x: gRPC status 0"),
        (sends_a_frame_too_large, "it broke HTTP/2 while sending sha256:x: .*it has 16777215 bytes"),
        (sends_data_before_its_head, "it broke HTTP/2 while sending sha256:x"),
        (garbles, "a message ends in the middle of a number"),
    ],
)
def test_a_content_store_that_breaks_is_an_error_and_never_a_blob(
    engine: FakeEngine, behaviour: Callable[[socket.socket], None], said: str
):
    engine.content = behaviour

    with pytest.raises((EngineUnreachable, MalformedDocument), match=said):
        list(read_blob(Engine(engine.endpoint), "sha256:x"))


def test_an_engine_that_does_not_speak_the_protocol_is_told():
    with (
        answering(lambda connection: connection.sendall(b"HTTP/1.1 404 Not Found\r\n\r\n")) as endpoint,
        pytest.raises(EngineUnreachable, match="it does not speak h2c on /grpc"),
    ):
        list(read_blob(Engine(endpoint), "sha256:x"))


def test_an_engine_that_is_not_there_gives_no_blob(tmp_path: Path):
    with pytest.raises(EngineUnreachable, match="there is no such socket"):
        list(read_blob(Engine(f"unix://{tmp_path}/none.sock"), "sha256:x"))


def test_an_engine_says_its_containerd_its_data_root_and_its_mirrors(engine: FakeEngine):
    engine.info = json.dumps(
        {
            "ID": "the-id",
            "DockerRootDir": "/data",
            "RegistryConfig": {"Mirrors": ["http://127.0.0.1:5000/"]},
            "Containerd": {"Address": "/run/containerd.sock", "Namespaces": {"Containers": "moby"}},
        }
    ).encode()

    info = Engine(engine.endpoint).info()

    assert (info.containerd, info.namespace) == ("/run/containerd.sock", "moby")
    assert (info.identity, info.data_root, info.mirrors) == ("the-id", "/data", ("http://127.0.0.1:5000/",))


@pytest.mark.parametrize(
    "answer", [{}, {"Containerd": None, "RegistryConfig": None}, {"Containerd": {"Namespaces": 7}}]
)
def test_an_older_engine_says_less(engine: FakeEngine, answer: dict[str, object]):
    engine.info = json.dumps(answer).encode()

    info = Engine(engine.endpoint).info()

    assert (info.containerd, info.namespace, info.identity, info.mirrors) == ("", "", "", ())


def test_an_image_gets_a_second_name_by_its_digest(engine: FakeEngine):
    image = engine.images["team/app:v1"] = make_image(index=True)

    Engine(engine.endpoint).tag(image.digest, "127.0.0.1:5000/team/app", tag="v2")

    assert engine.images["127.0.0.1:5000/team/app:v2"] is image


def test_an_image_that_cannot_be_tagged_is_told_with_the_engines_words(engine: FakeEngine):
    with pytest.raises(EngineError, match="does not name sha256:x app:v2: No such image"):
        Engine(engine.endpoint).tag("sha256:x", "app", tag="v2")


@pytest.mark.parametrize(
    "answer",
    [b"{}", b'{"Id": 7}', b'{"Id": "sha256:x", "Manifests": {}}', b'{"Id": "sha256:x", "Manifests": [7]}', b"[]", b"{"],
)
def test_an_answer_that_is_no_image_is_refused(answer: bytes):
    head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(answer)}\r\n\r\n".encode()

    with (
        answering(lambda connection: connection.sendall(head + answer)) as endpoint,
        pytest.raises(MalformedDocument),
    ):
        list(Engine(endpoint).inspect(["app:v1"]))


@given(pieces=st.lists(st.binary(max_size=300), max_size=5), cut=st.integers(1, 50))
def test_messages_are_cut_out_of_the_stream_wherever_its_frames_end(pieces: list[bytes], cut: int):
    stream = b"".join(content_message(piece, at) for at, piece in enumerate(pieces))
    messages = Messages()

    read = [_data(message) for at in range(0, len(stream), cut) for message in messages.feed(stream[at : at + cut])]

    assert read == pieces


def frame(kind: int, flags: int, stream: int, body: bytes) -> bytes:
    return len(body).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + body


@given(
    sent=st.lists(
        st.tuples(
            st.sampled_from([0, 0, 1, 8]),
            st.sampled_from([0, 0, 1]),
            st.sampled_from([0, 3, 5]),
            st.binary(max_size=40),
        ),
        max_size=6,
    ),
    cut=st.integers(1, 60),
)
def test_frames_are_cut_out_wherever_the_stream_was_cut(sent: list[tuple[int, int, int, bytes]], cut: int):
    received = b"".join(frame(*one) for one in sent)
    frames = Frames()
    frames.stream = 3

    found = [one for at in range(0, len(received), cut) for one in frames.cut(received[at : at + cut])]

    data = [one[3] for one in sent if one[:3] == (0, 0, 3)]
    assert b"".join(one for one in found if isinstance(one, memoryview)) == b"".join(data)
    assert [one for one in found if isinstance(one, bytes)] == [frame(*one) for one in sent if one[:3] != (0, 0, 3)]


def test_data_is_taken_only_where_a_stream_is_named():
    assert [*Frames().cut(frame(0, 0, 0, b"x"))] == [frame(0, 0, 0, b"x")]


def test_a_frame_that_is_larger_than_it_may_be_is_refused_by_its_head():
    frames = Frames()
    frames.stream = 3
    head = (LARGEST + 1).to_bytes(3, "big") + bytes([0, 0]) + (3).to_bytes(4, "big")

    with pytest.raises(MalformedDocument, match="131073 bytes, where 131072 are the most"):
        list(frames.cut(head))


@given(st.binary(max_size=40))
def test_any_message_is_read_or_refused_and_nothing_else(message: bytes):
    try:
        data = _data(message)
    except MalformedDocument:
        return
    assert data in message


def chunked(data: bytes, size: int = 4096) -> Iterator[bytes]:
    return (data[at : at + size] for at in range(0, len(data), size))


@pytest.mark.parametrize("size", [1, 511, 4096, 1 << 20])
def test_a_saved_image_is_read_to_its_config_and_the_sizes_of_its_layers(size: int):
    image = make_image(layers=[b"one", b"two" * 5000])

    saved = read_saved(chunked(saved_archive(image), size))

    assert saved.config_digest == image.config_digest
    assert saved.unpacked_bytes == tuple(map(len, image.layers))
    assert saved.config.user == "1000"


def test_a_saved_image_of_an_older_engine_names_its_config_by_a_file():
    image = make_image()
    archive = tar_of(
        {
            "abc/layer.tar": image.layers[0],
            f"{image.config_digest[7:]}.json": image.blobs[image.config_digest],
            "manifest.json": json.dumps(
                [{"Config": f"{image.config_digest[7:]}.json", "Layers": ["abc/layer.tar"]}]
            ).encode(),
        }
    )

    saved = read_saved(chunked(archive))

    assert (saved.config_digest, saved.unpacked_bytes) == (image.config_digest, (len(image.layers[0]),))


def test_a_layer_saved_as_a_link_to_an_equal_one_has_that_ones_size(tmp_path: Path):
    import tarfile

    image = make_image(layers=[b"same", b"same"])
    path = tmp_path / "saved.tar"
    with tarfile.open(path, "w") as archive:
        for name, data in {
            "a/layer.tar": image.layers[0],
            "c.json": image.blobs[image.config_digest],
            "manifest.json": json.dumps([{"Config": "c.json", "Layers": ["a/layer.tar", "b/layer.tar"]}]).encode(),
        }.items():
            file = tmp_path / "member"
            file.write_bytes(data)
            archive.add(file, name)
        link = tarfile.TarInfo("b/layer.tar")
        link.type, link.linkname = tarfile.SYMTYPE, "../a/layer.tar"
        archive.addfile(link)

    saved = read_saved(chunked(path.read_bytes()))

    assert saved.unpacked_bytes == (len(image.layers[0]), len(image.layers[0]))


@pytest.mark.parametrize(
    "archive",
    [
        b"",
        b"this is no tar" * 100,
        tar_of({"other": b"{}"}),
        tar_of({"manifest.json": b"[]"}),
        tar_of({"manifest.json": b"[{}]"}),
        tar_of({"manifest.json": b"[7]"}),
        tar_of({"manifest.json": b"{"}),
        tar_of({"manifest.json": b'[{"Config": "c", "Layers": null}]', "c": b"{}"}),
        tar_of({"manifest.json": b'[{"Config": "c", "Layers": ["gone"]}]', "c": b"{}"}),
        tar_of({"manifest.json": b'[{"Config": "c", "Layers": []}]', "c": b"{}"}),
        tar_of({"manifest.json": b'[{"Config": "c", "Layers": []}, {"Config": "c", "Layers": []}]', "c": b"{}"}),
    ],
)
def test_what_is_no_archive_of_one_image_is_refused(archive: bytes):
    with pytest.raises(MalformedDocument, match=r"malformed (saved image|image config)"):
        read_saved(chunked(archive))


@pytest.mark.parametrize("left", [100, 600, 3000])
def test_a_saved_image_that_is_cut_off_is_refused(left: int):
    archive = saved_archive(make_image(layers=[b"x" * 5000]))

    with pytest.raises(MalformedDocument, match="malformed saved image"):
        read_saved(chunked(archive[:left]))


def test_an_engine_that_breaks_off_while_saving_is_told(engine: FakeEngine):
    engine.images["app"] = make_image(layers=[b"x" * 50_000])
    engine.cut_saved = 5000

    with pytest.raises((EngineUnreachable, MalformedDocument)):
        read_saved(Engine(engine.endpoint).saved("test/app:latest"))


def test_an_image_that_cannot_be_saved_is_told_with_the_engines_words(engine: FakeEngine):
    with pytest.raises(EngineUnreachable, match="it does not give the image test/app:latest: No such image"):
        list(Engine(engine.endpoint).saved("test/app:latest"))
