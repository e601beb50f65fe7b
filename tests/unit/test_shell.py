"""The commands of a shell text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buildorch.dockerfile.shell import commands, programs, script


def words(text: str) -> list[str]:
    return [" | ".join(command) for command in commands(text)]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("a b  c", ["a | b | c"]),
        ("a&&b||c;d|e&f\ng", ["a", "b", "c", "d", "e", "f", "g"]),
        ("a |& b", ["a", "b"]),
        ("a 'b c' \"d $e\" f\\ g h'i'j", ["a | b c | d $e | f g | hij"]),
        ('a "b \\" \\$c \\d" \'e\\\'', ['a | b " $c \\d | e\\']),
        ("a '' b", ["a |  | b"]),
        ("a # b && c\nd", ["a", "d"]),
        ("a#b", ["a#b"]),
        ("a \\\n  b\\\nc", ["a | bc"]),
        ("A=b C+=d e f=g", ["e | f=g"]),
        ("A=b", []),
        ("a > b 2>&1 <c >>d &>e f", ["a | f"]),
        (">b a", ["a"]),
        ("a <<< b c", ["a | c"]),
        ("a <<E b\nc\nE\nd", ["a | b", "d"]),
        ("a <<'E' <<-F\nc\nE\n\td\n\tF\ne", ["a", "e"]),
        ("a <<E\nb", ["a"]),
        ("a $(b; c (d)) `e; f` g", ["a | $(b; c (d)) | `e; f` | g"]),
        ("a $(b ')' \")\" \\)) c", ["a | $(b ')' \")\" \\)) | c"]),
        ("a $b ${c} $", ["a | $b | ${c} | $"]),
        ("(a; b) && { c; }", ["a", "b", "c"]),
        ("if a; then ! b; elif c; then d; else e; fi", ["a", "b", "c", "d", "e"]),
        ("while a; do b; done", ["a", "b"]),
        ("f() { a; }", ["f", "a"]),
        ("case x in a) b;; *) c;; esac", ["case | x | in | a", "b", "*", "c", "esac"]),
        ("a 'b", ["a | b"]),
        ('a "b', ["a | b"]),
        ("a $(b", ["a | $(b"]),
        ("a `b", ["a | `b"]),
        ("a \\", ["a | \\"]),
        ("", []),
    ],
)
def test_a_text_is_taken_apart_into_its_commands(text: str, found: list[str]):
    assert words(text) == found


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("/usr/bin/npm ci", [("npm", "ci")]),
        ("sudo -E -u app npm ci", [("npm", "ci")]),
        ("exec env -i A=b -u C npm ci", [("npm", "ci")]),
        ("exec", []),
        ("sh -c 'a; sudo b' c", [("a",), ("b",)]),
        ("sh -c \"sh -c 'a'\"", [("sh", "-c", "a")]),
        ("sh x", [("sh", "x")]),
        ("#!/bin/sh -e\na", [("a",)]),
        ("#!/usr/bin/env bash\na", [("a",)]),
        ("#!/usr/bin/env python3\na", []),
    ],
)
def test_what_a_text_starts_is_found_behind_what_only_leads_to_it(text: str, found: list[tuple[str, ...]]):
    assert list(programs(text)) == found


@pytest.mark.parametrize(
    ("started", "text"),
    [
        (("/bin/sh", "-c", "a b"), "a b"),
        (("bash", "-euo", "pipefail", "-c", "a"), "a"),
        (("bash", "--login", "-ec", "a", "b"), "a"),
        (("bash", "-c", "--", "a"), "a"),
        (("bash", "-c", "+e", "a"), "a"),
        (("sh", "a", "-c", "b"), None),
        (("sh", "-e", "a"), None),
        (("sh", "-c"), None),
        (("sh", "-o"), None),
        (("sh",), None),
        (("python", "-c", "a"), None),
        ((), None),
    ],
)
def test_the_text_of_a_shell_is_what_stands_behind_its_c(started: tuple[str, ...], text: str | None):
    assert script(started) == text


@given(
    st.lists(st.sampled_from([*"a #\n\t\\'\"`$(){}<>&|;-1=!\r\u00a0\x85", "sh -c ", "<<E\n"]), max_size=40).map("".join)
)
def test_any_text_is_taken_apart(text: str):
    assert all(command and command[0] is not None for command in programs(text))


@pytest.mark.parametrize("piece", ["(", "$(", "`", '"', "a<<b\n", "sh -c '"])
def test_a_text_may_be_nested_as_deeply_as_it_likes(piece: str):
    assert len(list(programs(piece * 3000))) <= 3000
