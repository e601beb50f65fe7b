"""The memory of contexts: what did not change is not opened again, and whatever happens to it the answers are the same."""

from __future__ import annotations

import mmap
import os
import sqlite3
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from buildorch.context import ContextListing, StatCache, read, state
from buildorch.context import content as content_module
from buildorch.context.content import TRIES
from buildorch.context.stat_cache import FILE_NAME, VERSION
from buildorch.plan import Folder

TICK_S = 0.02
"""Longer than a tick of any kernel's clock for file times: two edits in one tick leave one time."""
FILES = ("a", "b", "src/c", "src/deep/d")
_on_open: list[Callable[[str], object]] = []
"""What is called with each path right before Python opens it: an audit hook, since one stays for good."""


def _audit(event: str, arguments: tuple[object, ...]) -> None:
    if event == "open" and _on_open and isinstance(arguments[0], str):
        hooks = list(_on_open)
        _on_open.clear()  # what a hook opens itself is not its business
        try:
            for hook in hooks:
                hook(arguments[0])
        finally:
            _on_open.extend(hooks)


sys.addaudithook(_audit)


@contextmanager
def at_each_open(hook: Callable[[str], object]) -> Iterator[None]:
    _on_open.append(hook)
    try:
        yield
    finally:
        _on_open.remove(hook)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "app"
    for name in FILES:
        file = made / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(name)
    time.sleep(TICK_S)
    return made


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / ".buildorch" / FILE_NAME


@pytest.fixture
def no_margin(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files are trusted at once: two seconds would only cost time."""
    monkeypatch.setattr(content_module, "MARGIN_NS", 0)


@pytest.fixture
def cache(path: Path) -> Iterator[StatCache]:
    with StatCache(path) as made:
        yield made


def anew(folder: Path, used: tuple[str, ...] | None = None) -> ContextListing:
    """Read without any memory."""
    with tempfile.TemporaryDirectory() as nowhere, StatCache(Path(nowhere) / "contexts.db") as cache:
        return read(Folder(folder), cache, used=used)


def opened_by(folder: Path, cache: StatCache, used: tuple[str, ...] | None = None) -> list[str]:
    """The files of the folder that reading it opens."""
    opened: list[str] = []
    with at_each_open(opened.append):
        read(Folder(folder), cache, used=used)
    return sorted(
        os.path.relpath(one, folder) for one in opened if one.startswith(f"{folder}/") and ".docker" not in one
    )


@pytest.mark.usefixtures("no_margin")
def test_what_did_not_change_is_not_opened_again(folder: Path, cache: StatCache):
    assert opened_by(folder, cache) == sorted(FILES)

    assert opened_by(folder, cache) == []
    assert read(Folder(folder), cache).digest == anew(folder).digest


@pytest.mark.usefixtures("no_margin")
def test_only_what_changed_is_opened(folder: Path, cache: StatCache):
    read(Folder(folder), cache)

    before = (folder / "src/c").stat()
    (folder / "src/c").write_text("SRC/C")
    os.utime(folder / "src/c", ns=(before.st_atime_ns, before.st_mtime_ns))

    assert opened_by(folder, cache) == ["src/c"]
    assert read(Folder(folder), cache).digest == anew(folder).digest


@pytest.mark.usefixtures("no_margin")
def test_another_process_opens_nothing_either(folder: Path, path: Path):
    with StatCache(path) as first:
        read(Folder(folder), first)

    with StatCache(path) as second:
        assert opened_by(folder, second) == []


@pytest.mark.usefixtures("no_margin")
def test_the_rules_are_not_asked_again_about_paths_they_judged(folder: Path, cache: StatCache):
    (folder / ".dockerignore").write_text("src\n!src/deep\nb\n")
    first = read(Folder(folder), cache)

    loaded = set(sys.modules)
    assert opened_by(folder, cache) == []

    assert read(Folder(folder), cache).digest == first.digest == anew(folder).digest
    assert {one.path for one in first.contents()} == {".dockerignore", "a", "src", "src/deep", "src/deep/d"}
    assert set(sys.modules) == loaded


@pytest.mark.usefixtures("no_margin")
@pytest.mark.parametrize(
    "change",
    [
        lambda f: (f / "new").write_text(""),
        lambda f: (f / "new.log").write_text(""),
        lambda f: (f / "src" / "c").unlink(),
        lambda f: ((f / "b").unlink(), (f / "b").mkdir(), (f / "b" / "keep").write_text("")),
        lambda f: ((f / "b").unlink(), (f / "b").mkdir(), (f / "b" / "drop").write_text("")),
        lambda f: (f / "src" / "deep" / "d").rename(f / "src" / "d"),
        lambda f: (f / ".dockerignore").write_text("a\n"),
        lambda f: (f / ".dockerignore").unlink(),
    ],
)
def test_verdicts_that_are_remembered_do_not_outlive_what_they_were_about(
    folder: Path, cache: StatCache, change: Callable[[Path], object]
):
    (folder / ".dockerignore").write_text("**/*.log\nb\n!b/keep\nsrc\n!src/deep\n")
    read(Folder(folder), cache)

    change(folder)

    assert read(Folder(folder), cache).contents() == anew(folder).contents()
    assert read(Folder(folder), cache).digest == anew(folder).digest


def test_a_file_written_just_now_is_not_trusted_and_read_again(folder: Path, cache: StatCache):
    read(Folder(folder), cache)

    assert opened_by(folder, cache) == sorted(FILES)


def test_a_file_that_has_been_still_for_the_margin_is_trusted(
    folder: Path, cache: StatCache, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(content_module, "MARGIN_NS", 100_000_000)
    time.sleep(0.11)
    read(Folder(folder), cache)

    assert opened_by(folder, cache) == []


def test_a_second_change_in_the_same_tick_of_the_clock_is_seen(folder: Path, cache: StatCache):
    # A page that is dirty already is written to without a trace in the file's times.
    with (folder / "a").open("r+b") as file, mmap.mmap(file.fileno(), 1) as page:
        page[0:1] = b"1"
        before, first = state(Folder(folder)), read(Folder(folder), cache).digest
        page[0:1] = b"2"
        if state(Folder(folder)) != before:
            pytest.skip("this file system notices")

        assert read(Folder(folder), cache).digest == anew(folder).digest != first


@pytest.mark.usefixtures("no_margin")
def test_a_file_of_the_future_is_never_trusted(folder: Path, cache: StatCache):
    later = time.time_ns() + 3600 * 10**9
    os.utime(folder / "a", ns=(later, later))
    read(Folder(folder), cache)

    assert opened_by(folder, cache) == ["a"]


@pytest.mark.usefixtures("no_margin")
def test_a_file_that_changes_while_it_is_read_is_read_again(folder: Path, cache: StatCache):
    edits = iter([b"once", b"twice"])

    def edit(path: str) -> None:
        if path == f"{folder}/a" and (text := next(edits, None)):
            (folder / "a").write_bytes(text)

    with at_each_open(edit):
        listing = read(Folder(folder), cache)

    assert (folder / "a").read_bytes() == b"twice"
    assert listing.digest == anew(folder).digest
    assert listing.state == state(Folder(folder))
    assert listing.contents() == anew(folder).contents()


@pytest.mark.usefixtures("no_margin")
def test_a_file_that_never_stays_still_is_not_trusted(folder: Path, cache: StatCache):
    seen: list[str] = []

    def edit(path: str) -> None:
        if path == f"{folder}/a":
            seen.append(path)
            (folder / "a").write_text("x" * len(seen))

    with at_each_open(edit):
        listing = read(Folder(folder), cache)

    assert len(seen) == TRIES
    assert listing.state != state(Folder(folder))
    assert opened_by(folder, cache) == ["a"]
    assert read(Folder(folder), cache).digest == anew(folder).digest


def test_what_takes_a_files_place_is_neither_waited_for_nor_followed(folder: Path, cache: StatCache):
    def swap(path: str) -> None:
        if path == f"{folder}/a" and (folder / "a").is_file():
            (folder / "a").unlink()
            os.mkfifo(folder / "a")
        if path == f"{folder}/b" and not (folder / "b").is_symlink():
            (folder / "b").unlink()
            (folder / "b").symlink_to("/dev/zero")

    with at_each_open(swap):
        listing = read(Folder(folder), cache)  # a broken guard shows as a test without an end

    found = {one.path: one.digest for one in listing.contents()}
    assert found["a"] == "fifo"
    assert found["b"] == "/dev/zero"


@pytest.mark.usefixtures("no_margin")
def test_a_file_that_could_not_be_read_is_tried_again_though_its_state_is_the_same(folder: Path, cache: StatCache):
    def refuse(path: str) -> None:
        if path == f"{folder}/a":
            raise PermissionError

    with at_each_open(refuse):
        refused = read(Folder(folder), cache)
    allowed = read(Folder(folder), cache)

    assert refused.state == allowed.state
    assert next(one for one in refused.contents() if one.path == "a").digest == "unreadable"
    assert allowed.digest == anew(folder).digest != refused.digest


def test_a_file_that_goes_away_while_it_is_read_is_no_error(folder: Path, cache: StatCache):
    def remove(path: str) -> None:
        if path == f"{folder}/a":
            (folder / "a").unlink(missing_ok=True)

    with at_each_open(remove):
        listing = read(Folder(folder), cache)

    assert next(one for one in listing.contents() if one.path == "a").digest == "unreadable"
    assert read(Folder(folder), cache).digest == anew(folder).digest


@pytest.mark.usefixtures("no_margin")
def test_contents_come_from_the_cache_without_opening_a_file(folder: Path, cache: StatCache):
    read(Folder(folder), cache)
    listing = read(Folder(folder), cache)
    opened: list[str] = []

    with at_each_open(opened.append):
        found = listing.contents()

    assert found == anew(folder).contents()
    assert not [one for one in opened if one.startswith(f"{folder}/") and ".docker" not in one]


@pytest.mark.usefixtures("no_margin")
def test_contents_are_read_again_where_the_cache_lost_them(folder: Path, path: Path):
    with StatCache(path) as cache:
        read(Folder(folder), cache)
        listing = read(Folder(folder), cache)

    assert listing.contents() == anew(folder).contents()


def delete(path: Path) -> None:
    for file in path.parent.iterdir():
        file.unlink()


def scribble(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[4096:] = b"\xa5" * (len(data) - 4096)
    path.write_bytes(data)


def flip_everywhere(path: Path) -> None:
    """What SQLite does not see: other values in good rows."""
    with sqlite3.connect(path) as db:
        db.execute("UPDATE contexts SET digest = CAST(replace(digest, substr(digest, 1, 4), 'beef') AS BLOB)")
        db.execute("UPDATE contexts SET files = CAST(replace(CAST(files AS TEXT), '\"a\"', '\"z\"') AS BLOB)")
    db.close()


def another_version(path: Path) -> None:
    with sqlite3.connect(path) as db:
        db.execute("DROP TABLE contexts")
        db.execute("CREATE TABLE contexts (key TEXT, other TEXT)")
        db.execute(f"PRAGMA user_version={VERSION + 1}")
    db.close()


def another_table(path: Path) -> None:
    with sqlite3.connect(path) as db:
        db.execute("DROP TABLE contexts")
    db.close()


def no_text(path: Path) -> None:
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA journal_mode=DELETE")
    db.close()
    path.write_bytes(
        path.read_bytes()
        .replace(b"IF NOT EXISTS contexts (", b"IF NOT EXISTS contexts \xe5")
        .replace(b"CREATE TABLE contexts (", b"CREATE TABLE contexts \xe5")
    )


def a_folder(path: Path) -> None:
    delete(path)
    path.mkdir()


HARM: dict[str, Callable[[Path], object]] = {
    "deleted": delete,
    "empty": lambda path: path.write_bytes(b""),
    "not a database": lambda path: path.write_bytes(b"not a database, but long enough to be one" * 100),
    "cut off": lambda path: path.write_bytes(path.read_bytes()[:5000]),
    "scribbled over": scribble,
    "flipped bits": flip_everywhere,
    "a schema that is no text": no_text,
    "another version": another_version,
    "no table": another_table,
    "a folder": a_folder,
}


@pytest.mark.usefixtures("no_margin")
@pytest.mark.parametrize("harm", HARM.values(), ids=HARM)
def test_whatever_happens_to_the_cache_the_answer_is_the_same(folder: Path, path: Path, harm: Callable[[Path], object]):
    with StatCache(path) as cache:
        read(Folder(folder), cache)
        read(Folder(folder), cache)
    harm(path)

    with StatCache(path) as cache:
        first, second = read(Folder(folder), cache), read(Folder(folder), cache)
        assert first.digest == second.digest == anew(folder).digest
        assert first.contents() == second.contents() == anew(folder).contents()
        assert path.is_dir() or opened_by(folder, cache) == []


@pytest.mark.usefixtures("no_margin")
def test_a_files_digest_that_was_damaged_is_not_used(folder: Path, path: Path):
    with StatCache(path) as cache:
        right = next(one.digest for one in read(Folder(folder), cache).contents() if one.path == "a")
    with sqlite3.connect(path) as db:
        db.execute("UPDATE contexts SET files = CAST(replace(CAST(files AS TEXT), ?, ?) AS BLOB)", (right, "0" * 64))
    db.close()
    (folder / "b").write_text("changed, so that the files are looked at")

    with StatCache(path) as cache:
        assert read(Folder(folder), cache).digest == anew(folder).digest


def test_another_versions_cache_is_made_anew(folder: Path, path: Path):
    StatCache(path).close()
    with sqlite3.connect(path) as db:
        db.execute(f"PRAGMA user_version={VERSION + 1}")
    db.close()

    StatCache(path).close()

    with sqlite3.connect(path) as db:
        assert db.execute("PRAGMA user_version").fetchone() == (VERSION,)
    db.close()


@pytest.mark.usefixtures("no_margin")
def test_a_cache_that_is_damaged_while_it_is_open_gives_the_same_answers(folder: Path, path: Path):
    with StatCache(path) as cache:
        read(Folder(folder), cache)
    with StatCache(path) as cache:
        scribble(path)
        found = [read(Folder(folder), cache).digest for _ in range(3)]

    assert set(found) == {anew(folder).digest}


def test_a_place_that_cannot_be_written_is_no_cache_and_no_error(folder: Path, tmp_path: Path):
    (tmp_path / "file").write_text("")

    with StatCache(tmp_path / "file" / "contexts.db") as cache:
        assert read(Folder(folder), cache).digest == anew(folder).digest
    assert (tmp_path / "file").read_text() == ""


@pytest.mark.proof
@pytest.mark.usefixtures("no_margin")
def test_a_cache_that_another_process_holds_is_done_without(folder: Path, path: Path):
    with StatCache(path) as cache:
        read(Folder(folder), cache)
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN EXCLUSIVE")
        (folder / "a").write_text("new")

        found = read(Folder(folder), cache)

        other.close()
        assert found.digest == anew(folder).digest
        assert read(Folder(folder), cache).digest == found.digest
        assert opened_by(folder, cache) == []


@pytest.mark.usefixtures("no_margin")
def test_each_way_to_read_a_folder_is_remembered_for_itself(folder: Path, cache: StatCache):
    ways = [None, (), ("a",), ("src", "b"), ("src/deep",)]

    for used in ways * 2:
        assert read(Folder(folder), cache, used=used).digest == anew(folder, used).digest
    for used in ways:
        assert opened_by(folder, cache, used) == []


@pytest.mark.usefixtures("no_margin")
def test_a_folder_read_for_its_dockerfile_alone_is_remembered_apart(folder: Path, cache: StatCache):
    whole = read(Folder(folder), cache)

    assert [one.path for one in read(Folder(folder, only=("a",)), cache).contents()] == ["a"]
    assert opened_by(folder, cache) == []
    assert read(Folder(folder), cache).digest == whole.digest


@pytest.mark.usefixtures("no_margin")
def test_a_folder_moved_to_anothers_place_is_read(folder: Path, cache: StatCache, tmp_path: Path):
    read(Folder(folder), cache)
    folder.rename(tmp_path / "away")
    folder.mkdir()
    (folder / "a").write_text("other")

    assert read(Folder(folder), cache).digest == anew(folder).digest


@pytest.mark.proof
@pytest.mark.usefixtures("no_margin")
def test_threads_share_a_cache(tmp_path: Path, cache: StatCache):
    folders = []
    for number in range(12):
        folders.append(tmp_path / f"s{number}" / "app")
        folders[-1].mkdir(parents=True)
        for name in range(30):
            (folders[-1] / f"f{name}").write_text(f"{number} {name}")
    right = [anew(folder).digest for folder in folders]
    start = threading.Barrier(4)

    def all_of_them(_: int) -> list[str]:
        start.wait()
        return [read(Folder(folder), cache).digest for folder in folders]

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(all_of_them, range(4)))

    assert found == [right] * 4
    assert opened_by(folders[0], cache) == []


names = st.sampled_from(["a", "b", "src", "src/a", "src/b", "src/x", "src/x/a", "z.log", ".dockerignore"])
actions = st.tuples(
    st.sampled_from(
        ["write", "keep times", "delete", "mkdir", "chmod", "link", "hard link", "rename", "touch", "ignore"]
    ),
    names,
    names,
    st.integers(0, 7),
)


RULES = ("", "*.log", "*\n!src/x", "src\n!src/a", "**/a", "*\n!src", "[[]", "src/*\n!src/x/a")


def write_keeping_times(path: Path, text: str) -> None:
    before = path.stat()
    path.write_text(text)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


EDITS: dict[str, Callable[[Path, Path, int], object]] = {
    "write": lambda one, _, number: one.write_text(str(number)),
    "keep times": lambda one, _, number: write_keeping_times(one, str(number)),
    "delete": lambda one, *_: one.rmdir() if one.is_dir() and not one.is_symlink() else one.unlink(),
    "mkdir": lambda one, *_: one.mkdir(),
    "chmod": lambda one, _, number: one.chmod(0o700 + number * 8),
    "link": lambda one, other, _: one.symlink_to(other.name),
    "hard link": lambda one, other, _: one.hardlink_to(other),
    "rename": lambda one, other, _: one.rename(other),
    "touch": lambda one, _, number: os.utime(one, ns=(number, number), follow_symlinks=False),
}
names = st.sampled_from(["a", "b", "src", "src/a", "src/b", "src/x", "src/x/a", "z.log", ".dockerignore"])
edits = st.one_of(
    st.tuples(st.sampled_from(sorted(EDITS)), names, names, st.integers(0, 7)),
    st.tuples(st.just("write"), names, names, st.integers(0, 7)),
    st.tuples(st.just("ignore"), names, names, st.integers(0, 7)),
)


def carry_out(root: Path, edit: tuple[str, str, str, int]) -> None:
    """One edit, where the tree allows it."""
    action, one, other, number = edit
    try:
        if action == "ignore":
            (root / ".dockerignore").write_text(RULES[number])
        else:
            (root / one).parent.mkdir(parents=True, exist_ok=True)
            EDITS[action](root / one, root / other, number)
    except OSError:
        pass


@pytest.mark.proof
@settings(max_examples=3 * settings.default.max_examples)
@given(
    rounds=st.lists(st.lists(edits, min_size=1, max_size=4), max_size=6),
    used=st.sampled_from([None, None, ("src",), ("src/x", "b")]),
)
def test_with_a_memory_and_without_every_history_of_edits_reads_the_same(
    rounds: list[list[tuple[str, str, str, int]]], used: tuple[str, ...] | None
):
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as place:
        patch.setattr(content_module, "MARGIN_NS", 12_000_000)  # a tick, so that some files are trusted and some not
        root = Path(place) / "app"
        root.mkdir()
        with StatCache(Path(place) / "cache" / FILE_NAME) as cache:
            for round_of_edits in rounds:
                for edit in round_of_edits:
                    carry_out(root, edit)

                remembered, fresh = read(Folder(root), cache, used=used), anew(root, used)

                assert remembered.digest == fresh.digest
                assert remembered.contents() == fresh.contents()
