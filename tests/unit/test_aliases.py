"""The names that folders go to BuildKit under: a new one for every state of the files, the same for the same state."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from buildorch.context import aliases
from buildorch.context import stamp as stamp_of
from buildorch.plan import Folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "app"
    (made / "sub" / "deep").mkdir(parents=True)
    (made / "file").write_text("one")
    (made / "sub" / "deep" / "file").write_text("two")
    (made / "link").symlink_to("file")
    return made


@pytest.fixture
def into(tmp_path: Path) -> Path:
    made = tmp_path / "aliases"
    made.mkdir()
    return made


def alias(into: Path, folder: Path, service: str = "app") -> Path:
    return aliases(into, service=service, folders=[Folder(folder)])[folder]


def stamp(folder: Path) -> str:
    return stamp_of(Folder(folder, folder / "Dockerfile"))


def edit_keeping_size_and_mtime(folder: Path) -> None:
    file = folder / "sub" / "deep" / "file"
    before = file.stat()
    file.write_text("TWO")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (file.stat().st_size, file.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)


def replace_keeping_size_and_mtime(folder: Path) -> None:
    file = folder / "file"
    before = file.stat()
    other = folder / "other"
    other.write_text("ONE")
    os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
    other.replace(file)


def rename_keeping_everything_else(folder: Path) -> None:
    (folder / "file").rename(folder / "renamed")


def point_the_link_elsewhere(folder: Path) -> None:
    (folder / "link").unlink()
    (folder / "link").symlink_to("elif")


CHANGES: list[Callable[[Path], object]] = [
    edit_keeping_size_and_mtime,
    replace_keeping_size_and_mtime,
    rename_keeping_everything_else,
    point_the_link_elsewhere,
    lambda folder: (folder / "sub").chmod(0o700),
    lambda folder: (folder / "file").chmod(0o700),
    lambda folder: (folder / "sub" / "new").write_text(""),
    lambda folder: (folder / "sub" / "empty").mkdir(),
    lambda folder: (folder / "sub" / "deep" / "file").unlink(),
    lambda folder: os.utime(folder / "file", ns=(1, 1)),
]


@pytest.mark.parametrize(
    "change",
    CHANGES,
    ids=[
        "edit",
        "replace",
        "rename",
        "link",
        "chmod folder",
        "chmod file",
        "new file",
        "new folder",
        "delete",
        "mtime",
    ],
)
def test_a_change_of_the_files_gives_a_new_name(folder: Path, into: Path, change: Callable[[Path], object]):
    before = alias(into, folder)

    change(folder)

    assert alias(into, folder).name != before.name


def test_files_that_did_not_change_keep_their_name(folder: Path, into: Path, tmp_path: Path):
    before = alias(into, folder)
    other = tmp_path / "another run"
    other.mkdir()

    (folder / "file").read_text()

    assert alias(into, folder) == before
    assert alias(other, folder).name == before.name


def test_an_alias_leads_to_the_folder_itself(folder: Path, into: Path):
    link = alias(into, folder)

    assert link.is_symlink()
    assert (link / "sub" / "deep" / "file").read_text() == "two"


def test_two_services_never_share_a_name_even_for_one_folder(folder: Path, into: Path):
    assert alias(into, folder, "app").name != alias(into, folder, "web").name


def test_two_folders_with_equal_last_parts_have_different_names(tmp_path: Path, into: Path):
    for name in ("one", "two"):
        (tmp_path / name / "app").mkdir(parents=True)

    links = aliases(into, service="s", folders=[Folder(tmp_path / name / "app") for name in ("one", "two")])

    assert len({link.name for link in links.values()}) == 2


def test_two_checkouts_of_the_same_files_have_different_names(tmp_path: Path, into: Path):
    names = set()
    for checkout in ("one", "two"):
        folder = tmp_path / checkout / "app"
        folder.mkdir(parents=True)
        (folder / "file").write_text("same")
        os.utime(folder / "file", ns=(1, 1))
        names.add(alias(into, folder).name)

    assert len(names) == 2


def test_a_folder_reached_through_a_link_has_the_name_of_the_folder(folder: Path, into: Path, tmp_path: Path):
    link = tmp_path / "link"
    link.symlink_to(folder)

    assert alias(into, link).name == alias(into, folder).name


def test_buildorchs_own_folder_does_not_count(folder: Path):
    before = stamp(folder)

    (folder / ".buildorch").mkdir()
    (folder / ".buildorch" / "run.json").write_text("{}")

    assert stamp(folder) == before


def rewrite(file: Path, text: str) -> None:
    """Another text of the same length, and the old times."""
    before = file.stat()
    assert len(text) == before.st_size
    file.write_text(text)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_a_file_that_the_build_does_not_read_does_not_count(folder: Path):
    (folder / ".dockerignore").write_text("sub\n!sub/deep\n")
    (folder / "sub" / "ignored").write_text("a")
    before = stamp(folder)

    rewrite(folder / "sub" / "ignored", "b")
    assert stamp(folder) == before

    rewrite(folder / "sub" / "deep" / "file", "b" * 3)
    assert stamp(folder) != before


def test_a_dockerfiles_own_ignore_file_holds_in_place_of_the_folders(folder: Path):
    (folder / ".dockerignore").write_text("file\n")
    (folder / "Dockerfile.dockerignore").write_text("")
    before = stamp(folder)

    rewrite(folder / "file", "two")

    assert stamp(folder) != before


def test_an_ignore_file_that_cannot_be_read_leaves_nothing_out(folder: Path):
    (folder / ".dockerignore").write_text("[\nfile\n")
    before = stamp(folder)

    rewrite(folder / "file", "two")

    assert stamp(folder) != before


def test_a_folder_that_is_there_for_its_dockerfile_alone_is_read_for_nothing_else(folder: Path):
    (folder / "App.Dockerfile").write_text("FROM a")
    only = Folder(folder, only=("App.Dockerfile", "App.Dockerfile.dockerignore", ".dockerignore"))
    before = stamp_of(only)

    rewrite(folder / "file", "two")
    assert stamp_of(only) == before

    rewrite(folder / "App.Dockerfile", "FROM b")
    assert stamp_of(only) != before


def test_a_link_to_a_folder_is_not_followed(folder: Path, tmp_path: Path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (folder / "out").symlink_to(outside)
    (folder / "self").symlink_to(folder)
    before = stamp(folder)

    (outside / "file").write_text("")

    assert stamp(folder) == before


def test_a_folder_that_is_not_there_is_buildkits_to_complain_about(tmp_path: Path):
    assert stamp(tmp_path / "gone") == stamp(tmp_path / "gone")


def test_names_that_are_not_utf8_are_no_obstacle(folder: Path):
    before = stamp(folder)

    (Path(os.fsdecode(os.fsencode(folder) + b"/\xff\xfe"))).write_text("")

    assert stamp(folder) != before
