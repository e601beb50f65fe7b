"""What a build reads of a folder: which paths count, what of them counts, and what changed between two walks."""

from __future__ import annotations

import os
import shutil
import socket
import struct
import tempfile
import time
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buildorch.context import Content, StatCache, changed, read, state
from buildorch.context.ignore import MATCHER
from buildorch.plan import Folder

TREE = ("a", "src/b", "src/deep/c", "src/deep/er/d", "docs/e")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "app"
    for name in TREE:
        file = made / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(name)
    return made


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[StatCache]:
    with StatCache(tmp_path / "cache" / "contexts.db") as made:
        yield made


def digest(folder: Folder | Path, used: tuple[str, ...] | None = None) -> str:
    """Read without any memory."""
    with tempfile.TemporaryDirectory() as nowhere, StatCache(Path(nowhere) / "contexts.db") as cache:
        return read(folder if isinstance(folder, Folder) else Folder(folder), cache, used=used).digest


def contents(folder: Folder | Path, cache: StatCache, used: tuple[str, ...] | None = None) -> dict[str, Content]:
    listing = read(folder if isinstance(folder, Folder) else Folder(folder), cache, used=used)
    return {one.path: one for one in listing.contents()}


def set_capability(file: Path, permitted: int) -> None:
    """A file capability (version 2 of linux/capability.h), where this user may set one."""
    if not hasattr(os, "setxattr"):
        pytest.skip("file capabilities are Linux's own")
    try:
        os.setxattr(file, "security.capability", struct.pack("<5I", 0x02000001, permitted, 0, 0, 0))
    except OSError as error:
        pytest.skip(f"no capability can be set here: {error}")


def rewrite(file: Path, text: str) -> None:
    """Another text of the same length, and the old times."""
    before = file.stat()
    assert len(text) == before.st_size
    file.write_text(text)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


def retarget(folder: Path) -> None:
    (folder / "link").unlink()
    (folder / "link").symlink_to("b")


def replace_by_hard_link(folder: Path) -> None:
    (folder / "twin").unlink()
    (folder / "twin").hardlink_to(folder / "a")


def replace_by_fifo(folder: Path) -> None:
    (folder / "a").unlink()
    os.mkfifo(folder / "a", 0o644)


MATTERS: dict[str, Callable[[Path], object]] = {
    "contents of equal size and mtime": lambda f: rewrite(f / "a", "A"),
    "a longer file": lambda f: (f / "a").write_text("aa"),
    "a new file": lambda f: (f / "src" / "new").write_text(""),
    "a file less": lambda f: (f / "src" / "b").unlink(),
    "a new name": lambda f: (f / "a").rename(f / "b"),
    "another folder": lambda f: (f / "a").rename(f / "src" / "a"),
    "an empty folder": lambda f: (f / "src" / "empty").mkdir(),
    "executable": lambda f: (f / "a").chmod(0o755),
    "group-writable": lambda f: (f / "a").chmod(0o664),
    "setuid": lambda f: (f / "a").chmod(0o4644),
    "sticky folder": lambda f: (f / "src").chmod(0o1755),
    "folder mode": lambda f: (f / "src").chmod(0o700),
    "link target": retarget,
    "a hard link in place of a file": replace_by_hard_link,
    "a fifo in place of a file": replace_by_fifo,
    "capability": lambda f: set_capability(f / "a", 0x400),
}
DOES_NOT_MATTER: dict[str, Callable[[Path], object]] = {
    "touch": lambda f: os.utime(f / "a", ns=(1, 1)),
    "touched folder": lambda f: os.utime(f / "src", ns=(1, 1)),
    "rewritten as it was": lambda f: (f / "a").write_text("a"),
    "another inode": lambda f: (shutil.copy2(f / "a", f / "tmp"), (f / "tmp").replace(f / "a")),
    "the mode of the context itself": lambda f: f.chmod(0o700),
    "buildorch's own folder": lambda f: ((f / ".buildorch").mkdir(), (f / ".buildorch" / "ledger.db").write_text("")),
}


@pytest.fixture
def ready(folder: Path) -> Path:
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
    (folder / "link").symlink_to("a")
    shutil.copy2(folder / "a", folder / "twin")
    return folder


@pytest.mark.parametrize("change", MATTERS.values(), ids=MATTERS)
def test_what_can_change_an_image_changes_the_digest(ready: Path, change: Callable[[Path], object]):
    before = digest(ready)

    change(ready)

    assert digest(ready) != before


@pytest.mark.parametrize("change", DOES_NOT_MATTER.values(), ids=DOES_NOT_MATTER)
def test_what_cannot_change_an_image_leaves_the_digest(ready: Path, change: Callable[[Path], object]):
    before = digest(ready)

    change(ready)

    assert digest(ready) == before


def test_the_same_files_elsewhere_have_the_same_digest(ready: Path, tmp_path: Path):
    (tmp_path / "other").mkdir()
    copy = shutil.copytree(ready, tmp_path / "other" / "checkout", symlinks=True)
    for path in copy.rglob("*"):
        os.utime(path, ns=(1, 1), follow_symlinks=False)

    assert digest(copy) == digest(ready)


def test_where_one_entry_ends_and_the_next_begins_is_beyond_doubt(tmp_path: Path):
    one, two = tmp_path / "one", tmp_path / "two"
    one.mkdir()
    two.mkdir()
    (one / "x").symlink_to("1")
    (one / "y").symlink_to("2")
    mode = f"{(one / 'x').lstat().st_mode & 0o7777:o}"

    (two / "x").symlink_to(f"1ysymlink{mode}02")

    assert digest(one) != digest(two)


def test_every_kind_of_entry_is_told_apart(folder: Path, cache: StatCache, monkeypatch: pytest.MonkeyPatch):
    (folder / "a").chmod(0o4711)
    (folder / "link").symlink_to("../x//y")
    os.mkfifo(folder / "pipe")
    (folder / "zz").hardlink_to(folder / "a")
    monkeypatch.chdir(folder)  # a socket's path may be 100 characters long
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("sock")

        found = contents(folder, cache)

    assert list(found)[:4] == ["a", "docs", "docs/e", "link"]
    sha = "ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb"
    assert found["a"] == Content("a", "file", 0o4711, sha, size=1)
    assert found["zz"] == Content("zz", "file", 0o4711, sha, size=1, link="a")
    assert (found["link"].kind, found["link"].digest, found["link"].size) == ("symlink", "../x//y", 0)
    assert (found["pipe"].kind, found["pipe"].digest) == ("other", "fifo")
    # Measured: BuildKit makes an empty file of it.
    assert (found["sock"].kind, found["sock"].digest) == ("other", "socket")
    assert (found["docs"].kind, found["docs"].digest) == ("directory", "")


def test_two_names_are_one_file_only_among_what_is_read(folder: Path, cache: StatCache):
    (folder / "zz").hardlink_to(folder / "a")
    (folder / ".dockerignore").write_text("a\n")

    assert contents(folder, cache)["zz"].link == ""


def test_a_capability_is_kept_with_its_file(folder: Path, cache: StatCache):
    set_capability(folder / "a", 0x400)

    assert contents(folder, cache)["a"].capability == struct.pack("<5I", 0x02000001, 0x400, 0, 0, 0).hex()


def test_a_folder_of_that_name_that_is_not_buildorchs_counts(folder: Path, cache: StatCache):
    (folder / "src" / ".buildorch").mkdir()
    (folder / "src" / ".buildorch" / "settings").write_text("")

    assert "src/.buildorch/settings" in contents(folder, cache)


@pytest.mark.parametrize(
    ("used", "counted"),
    [
        (None, ["a", "docs", "docs/e", "src", "src/b", "src/deep", "src/deep/c", "src/deep/er", "src/deep/er/d"]),
        ((), []),
        (("a",), ["a"]),
        (("src/deep",), ["src", "src/deep", "src/deep/c", "src/deep/er", "src/deep/er/d"]),
        (("src/deep/er", "a", "src/b"), ["a", "src", "src/b", "src/deep", "src/deep/er", "src/deep/er/d"]),
        (("src/deep", "src/deep/er"), ["src", "src/deep", "src/deep/c", "src/deep/er", "src/deep/er/d"]),
        (("src/deep/er", "src/deep"), ["src", "src/deep", "src/deep/c", "src/deep/er", "src/deep/er/d"]),
        (("gone", "src/gone", "src/b/under-a-file", "a"), ["a"]),
        (("/a/",), ["a"]),
        (("../../a",), ["a"]),
        (("src/../a",), ["a"]),
    ],
)
def test_what_a_build_does_not_read_does_not_count(
    folder: Path, cache: StatCache, used: tuple[str, ...] | None, counted: list[str]
):
    assert list(contents(folder, cache, used)) == counted


@pytest.mark.parametrize("root", ["", ".", "/", "..", "src/.."])
def test_a_path_that_is_the_context_itself_is_all_of_it(folder: Path, root: str):
    assert digest(folder, (root,)) == digest(folder)


@pytest.mark.parametrize("used", ["link", "link/er", "src/inner"])
def test_all_counts_where_a_build_reads_through_a_link(folder: Path, cache: StatCache, used: str):
    (folder / "link").symlink_to("src/deep")
    (folder / "src" / "inner").symlink_to("/docs")

    assert contents(folder, cache, (used,)) == contents(folder, cache)


def test_a_link_below_what_is_read_is_a_link_and_no_more(folder: Path, cache: StatCache):
    (folder / "docs" / "inner").symlink_to("../src")

    assert list(contents(folder, cache, ("docs",))) == ["docs", "docs/e", "docs/inner"]


def test_what_is_ignored_does_not_count_even_if_it_is_read(folder: Path, cache: StatCache):
    (folder / ".dockerignore").write_text("src\n!src/deep/er\n")

    assert list(contents(folder, cache, ("src/b", "src/deep"))) == ["src", "src/deep", "src/deep/er", "src/deep/er/d"]
    assert list(contents(folder, cache, ("src/deep/c",))) == []


def test_a_folder_with_nothing_in_it_that_counts_does_not_count_before_one_that_has(folder: Path, cache: StatCache):
    assert list(contents(folder, cache, ("docs/gone", "src/b"))) == ["src", "src/b"]

    (folder / ".dockerignore").write_text("docs\n!docs/gone\nsrc/deep\n!src/deep/er/gone\n")
    assert list(contents(folder, cache)) == [".dockerignore", "a", "src", "src/b"]


def test_a_folder_for_the_dockerfile_alone_is_read_for_these_names(folder: Path, cache: StatCache):
    (folder / ".dockerignore").write_text("*")
    only = Folder(folder, only=("a", "gone"))

    assert list(contents(only, cache)) == ["a"]


def test_a_dockerfile_that_is_a_link_makes_all_of_its_folder_count(folder: Path, cache: StatCache):
    (folder / "Dockerfile").symlink_to("docs/e")
    only = Folder(folder, only=("Dockerfile",))

    assert "docs/e" in contents(only, cache)


@pytest.mark.parametrize(("one", "two"), [("[[]x\n", "[[]y\n"), ("[\na\n", "[\nb\n")])
def test_rules_that_are_not_understood_count_themselves(folder: Path, tmp_path: Path, one: str, two: str):
    dockerfile = tmp_path / "App.Dockerfile"
    ignore = tmp_path / "App.Dockerfile.dockerignore"
    ignore.write_text(one)
    before = digest(Folder(folder, dockerfile))

    ignore.write_text(two)

    assert digest(Folder(folder, dockerfile)) != before


def test_rules_that_leave_out_the_same_files_are_the_same(folder: Path, tmp_path: Path):
    dockerfile = tmp_path / "App.Dockerfile"
    ignore = tmp_path / "App.Dockerfile.dockerignore"
    ignore.write_text("docs\n")
    before = digest(Folder(folder, dockerfile))

    ignore.write_text("# nothing new\n/docs/\n")

    assert digest(Folder(folder, dockerfile)) == before


def test_the_library_that_matches_is_the_one_whose_verdicts_are_remembered():
    name, version = MATCHER.split(" ")

    assert metadata.version(name) == version


@pytest.mark.proof
def test_a_path_of_very_many_folders_is_walked(folder: Path, cache: StatCache):
    deep = folder
    for _ in range(1200):
        deep = deep / "d"
        deep.mkdir()

    try:
        assert len(contents(folder, cache)) > 1200
    finally:
        for path in (deep, *deep.parents):  # pytest's own clean-up recurses
            if path == folder:
                break
            path.rmdir()


def test_names_of_any_bytes_are_told_apart(folder: Path, cache: StatCache):
    names = [b"\xff", b"\xfe", "ünï".encode(), b"new\nline", b" "]
    for name in names:
        (folder / os.fsdecode(name)).write_text("")

    assert {os.fsencode(path) for path in contents(folder, cache)} >= set(names)


def test_a_file_that_cannot_be_read_is_no_error(folder: Path, cache: StatCache):
    (folder / "a").chmod(0)

    assert contents(folder, cache)["a"].mode == 0


def test_a_folder_that_is_not_there_holds_nothing(tmp_path: Path, cache: StatCache):
    assert contents(tmp_path / "gone", cache) == {}


names = st.text(st.characters(exclude_characters="\0/", exclude_categories=()), min_size=1, max_size=12)


@given(
    kind=st.sampled_from(["file", "directory", "symlink", "other"]),
    mode=st.integers(0, 0o7777),
    digest=names,
    capability=st.binary(max_size=24).map(bytes.hex),
    size=st.integers(0, 2**63),
    link=st.one_of(st.just(""), names),
)
def test_a_text_says_all_of_an_entry_but_its_path(
    kind: str, mode: int, digest: str, capability: str, size: int, link: str
):
    entry = Content("any path", kind, mode, digest, capability, size, link)  # type: ignore[arg-type]

    assert Content.parse("any path", entry.text()) == entry


def test_a_text_is_short_and_can_be_read():
    assert Content("x", "file", 0o644, "abc", size=12).text() == "f 0644 12 - 3 abc"
    assert Content("x", "symlink", 0o777, "a b", "", 0, "first name").text() == "l 0777 0 - 3 a b first name"
    assert Content("x", "directory", 0o1755, "").text() == "d 1755 0 - 0 "


@pytest.mark.parametrize("text", ["", "f", "x 0644 1 - 0 ", "f 0844 1 - 0 ", "f 0644 one - 0 ", "f 0644 1 - z a"])
def test_another_text_is_refused(text: str):
    with pytest.raises(ValueError, match=r"not the text|invalid literal"):
        Content.parse("x", text)


def test_nothing_changed_where_nothing_did(folder: Path):
    assert changed(state(Folder(folder)), state(Folder(folder))) == ()


TICK_S = 0.02
"""Longer than a tick of any kernel's clock for file times: two edits in one tick leave one time."""


def there_and_back(folder: Path) -> None:
    (folder / "a").rename(folder / "b")
    (folder / "b").rename(folder / "a")


CHANGES: dict[str, tuple[Callable[[Path], object], tuple[str, ...]]] = {
    "edit of equal size and mtime": (lambda f: rewrite(f / "docs" / "e", "E" * 6), ("docs/e",)),
    "mode": (lambda f: (f / "src" / "b").chmod(0o600), ("src/b",)),
    "folder mode": (lambda f: (f / "src").chmod(0o711), ("src",)),
    "gone": (lambda f: (f / "src" / "b").unlink(), ("src", "src/b")),
    "come": (lambda f: (f / "src" / "n").write_text(""), ("src", "src/n")),
    "come and gone": (lambda f: ((f / "src" / "n").write_text(""), (f / "src" / "n").unlink()), ("src",)),
    "come and gone in the context itself": (lambda f: ((f / "n").write_text(""), (f / "n").unlink()), (".",)),
    "renamed and back": (there_and_back, (".", "a")),
    "the ignore file": (lambda f: (f / ".dockerignore").write_text(".dockerignore\nDockerfile*\n"), (".dockerignore",)),
    "the Dockerfile": (lambda f: (f / "Dockerfile").write_text("FROM b"), ("Dockerfile",)),
}


@pytest.mark.parametrize(("change", "named"), CHANGES.values(), ids=CHANGES)
def test_what_changed_is_named(folder: Path, change: Callable[[Path], object], named: tuple[str, ...]):
    (folder / ".dockerignore").write_text(".dockerignore\nDockerfile\n")
    (folder / "Dockerfile").write_text("FROM a")
    time.sleep(TICK_S)
    before = state(Folder(folder, folder / "Dockerfile"))

    change(folder)

    assert changed(before, state(Folder(folder, folder / "Dockerfile"))) == named


def test_what_comes_and_goes_beside_what_is_read_is_no_change(folder: Path):
    time.sleep(TICK_S)
    before = state(Folder(folder), used=("src/deep", "a"))

    (folder / "new").write_text("")
    (folder / "src" / "new").write_text("")
    (folder / "docs" / "e").write_text("other")

    assert changed(before, state(Folder(folder), used=("src/deep", "a"))) == ()


def test_a_change_of_what_is_read_is_named_and_of_a_folder_above_it_too(folder: Path):
    time.sleep(TICK_S)
    before = state(Folder(folder), used=("src/deep", "a"))

    (folder / "src").chmod(0o700)
    (folder / "src" / "deep" / "new").write_text("")

    assert changed(before, state(Folder(folder), used=("src/deep", "a"))) == ("src", "src/deep", "src/deep/new")


def test_what_is_read_and_is_not_there_may_not_come_and_go_unseen(folder: Path):
    time.sleep(TICK_S)
    before = state(Folder(folder), used=("src/optional", "src/b"))

    (folder / "src" / "optional").write_text("")
    (folder / "src" / "optional").unlink()

    assert changed(before, state(Folder(folder), used=("src/optional", "src/b"))) == ("src",)


def test_a_listings_state_is_the_one_to_compare_with(folder: Path, cache: StatCache):
    listing = read(Folder(folder), cache)
    again = read(Folder(folder), cache)

    assert changed(listing.state, state(Folder(folder))) == ()
    assert changed(again.state, state(Folder(folder))) == ()
