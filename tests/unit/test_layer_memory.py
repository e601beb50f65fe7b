"""The memory of layers: what was put in comes out, and whatever happens to its files the worst answer is "nothing"."""

from __future__ import annotations

import json
import os
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from zlib_ng import zlib_ng

from buildorch.contents import Entry, LayerContents, LayerMemory, Package
from buildorch.contents import memory as memory_module
from buildorch.contents.memory import ABANDONED_S, KEPT_S
from buildorch.testing import make_digest

DIFF_ID = make_digest("layer")
CONTENTS = LayerContents(
    10_240,
    (
        Entry("etc", "folder", mode=0o755),
        Entry("etc/\udcff\n", "file", 3, 0o4755, 1000, 2000, digest="ab" * 32, is_private_key=True),
        Entry("l", "symlink", target="é\udc80"),
        Entry("gone", "whiteout"),
    ),
    {"root": 0, "app": 10001},
    (Package("apk", "musl", "1.2", "lib/apk/db/installed"),),
)

text = st.binary(max_size=6).map(lambda data: data.decode(errors="surrogateescape"))
numbers = st.integers(0, 1 << 40)
kinds = st.sampled_from(["file", "folder", "symlink", "hardlink", "other", "whiteout", "opaque"])
entries = st.builds(Entry, text, kinds, numbers, numbers, numbers, numbers, text, text, st.booleans())
packages = st.builds(Package, st.sampled_from(["deb", "apk", "python", "npm"]), text, text, text)
layers = st.builds(
    LayerContents,
    numbers,
    st.lists(entries, max_size=4).map(tuple),
    st.none() | st.dictionaries(text, numbers, max_size=3),
    st.lists(packages, max_size=3).map(tuple),
)


@pytest.fixture
def memory(tmp_path: Path) -> LayerMemory:
    return LayerMemory(tmp_path / "layers")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "layers" / f"{DIFF_ID.removeprefix('sha256:')}.layer"


@pytest.mark.proof
@settings(max_examples=25)
@given(layers)
def test_what_was_put_in_comes_out(tmp_path_factory: pytest.TempPathFactory, contents: LayerContents):
    memory = LayerMemory(tmp_path_factory.getbasetemp() / "drawn")

    memory.put(DIFF_ID, contents)

    assert memory.get(DIFF_ID) == contents


def test_a_layer_that_was_never_put_in_is_not_known(memory: LayerMemory, file: Path):
    assert memory.get(DIFF_ID) is None
    assert not file.parent.exists()


def test_another_process_and_a_later_one_know_the_same(memory: LayerMemory, tmp_path: Path):
    memory.put(DIFF_ID, CONTENTS)

    assert LayerMemory(tmp_path / "layers").get(DIFF_ID) == CONTENTS
    assert memory.get(make_digest("other")) is None


def test_what_is_put_in_again_takes_the_place_of_what_was(memory: LayerMemory, file: Path):
    memory.put(DIFF_ID, CONTENTS)
    memory.put(DIFF_ID, LayerContents(1, ()))

    assert memory.get(DIFF_ID) == LayerContents(1, ())
    assert [*file.parent.iterdir()] == [file]


def test_a_flipped_bit_anywhere_is_seen(memory: LayerMemory, file: Path):
    memory.put(DIFF_ID, CONTENTS)
    whole = file.read_bytes()

    for at in range(0, len(whole), 3):
        file.write_bytes(whole[:at] + bytes([whole[at] ^ 1 << at % 8]) + whole[at + 1 :])
        assert memory.get(DIFF_ID) is None


def test_a_file_that_is_cut_off_or_goes_on_is_not_believed(memory: LayerMemory, file: Path):
    memory.put(DIFF_ID, CONTENTS)
    whole = file.read_bytes()

    for data in (*(whole[:length] for length in range(0, len(whole), 5)), whole + b"\0"):
        file.write_bytes(data)
        assert memory.get(DIFF_ID) is None


def test_a_whole_file_under_another_layers_name_is_not_believed(memory: LayerMemory, file: Path):
    memory.put(make_digest("other"), CONTENTS)

    [other] = file.parent.iterdir()
    other.rename(file)

    assert memory.get(DIFF_ID) is None


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"no zlib",
        zlib_ng.compress(b"no JSON"),
        zlib_ng.compress(b"[" * 100_000),
        *(
            zlib_ng.compress(json.dumps(document).encode())
            for document in (
                {},
                [],
                {"unpacked_bytes": 1, "users": None, "packages": [], "entries": {}},
                {"unpacked_bytes": 1, "users": None, "packages": [], "entries": {"path": ["a"]}},
                {"unpacked_bytes": 1, "users": None, "packages": [[1]], "entries": []},
                {
                    "unpacked_bytes": 1,
                    "users": None,
                    "packages": [],
                    "entries": {name: ["a"] * (1 + (name == "size")) for name in memory_module.NAMES},
                },
            )
        ),
    ],
)
def test_a_whole_file_of_another_shape_is_not_known(memory: LayerMemory, file: Path, data: bytes):
    file.parent.mkdir()
    file.write_bytes(memory_module._MAGIC + memory_module._digest(DIFF_ID, data) + data)

    assert memory.get(DIFF_ID) is None


def test_a_file_of_another_version_is_not_known_and_is_replaced(
    memory: LayerMemory, file: Path, monkeypatch: pytest.MonkeyPatch
):
    with monkeypatch.context() as older:
        older.setattr(memory_module, "_MAGIC", b"buildorch layer 0\n")
        memory.put(DIFF_ID, CONTENTS)
    assert memory.get(DIFF_ID) is None

    memory.put(DIFF_ID, CONTENTS)

    assert memory.get(DIFF_ID) == CONTENTS


def test_a_folder_that_cannot_be_written_costs_nothing_but_reading_again(tmp_path: Path):
    (tmp_path / "layers").write_text("a file")
    memory = LayerMemory(tmp_path / "layers")

    memory.put(DIFF_ID, CONTENTS)

    assert memory.get(DIFF_ID) is None
    assert (tmp_path / "layers").read_text() == "a file"


def test_a_file_that_cannot_take_its_place_leaves_nothing_behind(memory: LayerMemory, file: Path):
    file.mkdir(parents=True)

    memory.put(DIFF_ID, CONTENTS)

    assert memory.get(DIFF_ID) is None
    assert [*file.parent.iterdir()] == [file]


@pytest.mark.parametrize(
    "diff_id", ["", "sha256:../../x", "../x", f"sha512:{'0' * 64}", "sha256:" + "A" * 64, "sha256:\0"]
)
def test_what_is_no_diff_id_names_no_file(memory: LayerMemory, tmp_path: Path, diff_id: str):
    memory.put(diff_id, CONTENTS)

    assert memory.get(diff_id) is None
    assert [*tmp_path.iterdir()] == []


def aged(path: Path, seconds: float) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.touch()
    os.utime(path, (time.time() - seconds,) * 2)
    return path


def test_what_nobody_asks_for_and_what_was_never_finished_goes_and_nothing_else_does(memory: LayerMemory, file: Path):
    gone = [
        aged(file.with_name("old.layer"), KEPT_S + 60),
        aged(file.with_name("dead.1.half"), ABANDONED_S + 60),
    ]
    kept = [
        aged(file.with_name("used.layer"), KEPT_S - 60),
        aged(file.with_name("busy.1.half"), ABANDONED_S - 60),
        aged(file.with_name("notes.txt"), 2 * KEPT_S),
    ]

    memory.put(DIFF_ID, CONTENTS)

    assert not any(path.exists() for path in gone)
    assert sorted(file.parent.iterdir()) == sorted([file, *kept])


def test_a_folder_is_looked_through_once_a_process(memory: LayerMemory, file: Path):
    memory.put(DIFF_ID, CONTENTS)
    old = aged(file.with_name("old.layer"), KEPT_S + 60)

    LayerMemory(file.parent).put(DIFF_ID, CONTENTS)

    assert old.exists()


def test_to_be_asked_for_keeps_a_layer(memory: LayerMemory, file: Path):
    memory.put(DIFF_ID, CONTENTS)
    aged(file, KEPT_S + 60)

    assert memory.get(DIFF_ID) == CONTENTS

    assert file.stat().st_mtime > time.time() - 60


def test_threads_that_write_one_layer_never_show_half_of_it(memory: LayerMemory, file: Path):
    memory.put(DIFF_ID, CONTENTS)
    answers: list[LayerContents | None] = []

    def write_and_read() -> None:
        for _ in range(10):
            memory.put(DIFF_ID, CONTENTS)
            answers.append(memory.get(DIFF_ID))

    threads = [threading.Thread(target=write_and_read) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert answers == [CONTENTS] * 30
    assert [*file.parent.iterdir()] == [file]
