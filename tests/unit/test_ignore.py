"""What .dockerignore leaves out. tests/engine/test_ignore.py has BuildKit itself judge many more patterns."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buildorch.context.ignore import parse_rules
from buildorch.context.listing import entries, rules_for

FILES = ("a", "b.log", "sub/a", "sub/b.log", "sub/deep/a", ".env", "x y")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in FILES:
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("")
    return tmp_path


def listed(folder: Path, ignore: bytes) -> list[str]:
    return [entry.path for entry in entries(folder, parse_rules(ignore)) if (folder / entry.path).is_file()]


@pytest.mark.parametrize(
    ("ignore", "left_out"),
    [
        (b"", []),
        (b"a", ["a"]),
        (b"/a", ["a"]),
        (b"./a/", ["a"]),
        (b"**/a", ["a", "sub/a", "sub/deep/a"]),
        (b"*.log", ["b.log"]),
        (b"**/*.log", ["b.log", "sub/b.log"]),
        (b"sub", ["sub/a", "sub/b.log", "sub/deep/a"]),
        (b"sub\n!sub/deep", ["sub/a", "sub/b.log"]),
        (b"*\n!a", ["b.log", "sub/a", "sub/b.log", "sub/deep/a", ".env", "x y"]),
        (b"# a\n\n  x y  \n", ["x y"]),
        (b"\xef\xbb\xbfa\r\nb.log\r\n", ["a", "b.log"]),
        (b"a\n!a", []),
        (b"!a\na", ["a"]),
        (b"?", ["a"]),
        (b"sub/../a", ["a"]),
        (b"\xff\xfe", []),
    ],
)
def test_a_pattern_leaves_out_what_it_names(folder: Path, ignore: bytes, left_out: list[str]):
    assert sorted(set(FILES) - set(listed(folder, ignore))) == sorted(left_out)


@pytest.mark.parametrize("pattern", [b"*\n!.", b"*\n!/", b"*\n!./", b"[[]a", b"[a&&b]", b"\\a"])
def test_where_the_library_and_buildkit_part_ways_nothing_is_left_out(folder: Path, pattern: bytes):
    assert sorted(listed(folder, pattern)) == sorted(FILES)


def test_a_folder_that_is_left_out_is_there_where_something_below_it_is_not(folder: Path):
    found = [entry.path for entry in entries(folder, parse_rules(b"*\n!sub/deep"))]

    assert found == ["sub", "sub/deep", "sub/deep/a"]


def test_a_folders_entries_come_in_a_fixed_order_parents_first(folder: Path):
    assert [entry.path for entry in entries(folder, parse_rules(b".env"))] == [
        "a",
        "b.log",
        "sub",
        "sub/a",
        "sub/b.log",
        "sub/deep",
        "sub/deep/a",
        "x y",
    ]


def test_a_dockerfiles_own_ignore_file_holds_even_if_it_is_empty(folder: Path):
    (folder / ".dockerignore").write_text("a")
    (folder / "App.Dockerfile.dockerignore").write_text("")

    assert rules_for(folder).excludes("a")
    assert not rules_for(folder, folder / "App.Dockerfile").excludes("a")
    assert rules_for(folder, folder / "Dockerfile").excludes("a")


@given(st.binary(max_size=60))
def test_any_ignore_file_is_read_or_refused_with_a_value_error(data: bytes):
    try:
        rules = parse_rules(data)
    except ValueError:
        return
    assert rules.excludes("a/b") in {True, False}
