"""What changed between two builds is named as a person would name it, and a snapshot says no more than that."""

from __future__ import annotations

import dataclasses
import json
import zlib
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buildorch.changes import Change, Instruction, Snapshot, compare, summary
from buildorch.context import Content
from buildorch.report.text import explained_text
from buildorch.testing import make_digest

A, B = "a" * 64, "b" * 64


def file(digest: str = A, *, mode: int = 0o644, capability: str = "", link: str = "") -> str:
    return Content("x", "file", mode, digest, capability, size=7, link=link).text()


def folder(mode: int = 0o755) -> str:
    return Content("x", "directory", mode, "").text()


def symlink(target: str) -> str:
    return Content("x", "symlink", 0o777, target).text()


def snapshot(
    files: Mapping[str, str] | None = None, *, dockerfile: str = "", name: str = "", **inputs: str
) -> Snapshot:
    """A snapshot of a main context's files, the text of a Dockerfile, and inputs (`base_x` for `base x`)."""
    lines = enumerate(dockerfile.splitlines(), start=1)
    instructions = tuple(Instruction.of(at, line.split()[0], line) for at, line in lines if line)
    named = {key.replace("_", " "): value for key, value in inputs.items()}
    return Snapshot({"dockerfile": f"Dockerfile {dockerfile}", **named}, {name: files or {}}, instructions)


def told(old: Snapshot, new: Snapshot) -> list[str]:
    """Each change as a reason's one line has it."""
    return [str(change) for change in compare(old, new)]


# --- files

FILES: Mapping[str, tuple[dict[str, str], dict[str, str], list[str]]] = {
    "added": ({}, {"src/new.py": file()}, ["src/new.py added"]),
    "removed": ({"src/old.py": file()}, {}, ["src/old.py removed"]),
    "changed": ({"a.py": file(A)}, {"a.py": file(B)}, ["a.py"]),
    "renamed": ({"a": file()}, {"b": file()}, ["a removed", "b added"]),
    "mode": ({"run.sh": file()}, {"run.sh": file(mode=0o755)}, ["run.sh (mode 0644 to 0755)"]),
    "setuid": ({"su": file(mode=0o755)}, {"su": file(mode=0o4755)}, ["su (mode 0755 to 4755)"]),
    "mode and contents": (
        {"run.sh": file(A)},
        {"run.sh": file(B, mode=0o755)},
        ["run.sh (mode 0644 to 0755, its contents)"],
    ),
    "a folder's mode": ({"src": folder()}, {"src": folder(0o775)}, ["src (mode 0755 to 0775)"]),
    "an empty folder": ({}, {"empty": folder()}, ["empty added"]),
    "symlink": ({"l": symlink("a b")}, {"l": symlink("c")}, ["l (link to a b, now to c)"]),
    "kind": ({"x": file()}, {"x": symlink("y")}, ["x (a file, now a symbolic link)"]),
    "kind of folder": ({"x": folder()}, {"x": file()}, ["x (a folder, now a file)"]),
    "capability": ({"ping": file()}, {"ping": file(capability="01")}, ["ping (its capabilities)"]),
    "a hard link": ({"x": file()}, {"x": file(link="a")}, ["x"]),
}


@pytest.mark.parametrize("kind", FILES)
def test_a_change_of_a_file_is_named_with_what_about_it_changed(kind: str):
    before, after, expected = FILES[kind]

    assert told(snapshot(before, context=A), snapshot(after, context=B)) == expected


def test_files_of_a_named_context_stand_behind_its_name():
    old, new = (snapshot({"x": file(digest)}, name="lib", context_lib=digest) for digest in (A, B))

    assert told(old, new) == ["lib: x"]


def test_a_context_whose_files_are_equal_but_whose_rules_are_not_is_named_itself():
    old, new = (snapshot({"x": file()}, context=digest) for digest in (A, B))

    assert [change.subject for change in compare(old, new)] == ["context"]


def test_a_context_that_came_is_told_by_its_files():
    old = snapshot({"x": file()}, context=A)
    new = dataclasses.replace(old, inputs={**old.inputs, "context lib": B}, files={**old.files, "lib": {"y": file()}})

    assert told(old, new) == ["lib: y added"]


# --- instructions

DOCKERFILE = "FROM scratch\nCOPY a /\nRUN make\nRUN test\nUSER app\n"
INSTRUCTIONS: Mapping[str, tuple[str, list[str]]] = {
    "changed": (DOCKERFILE.replace("make", "make all"), ["Dockerfile:3 RUN"]),
    "added": (DOCKERFILE.replace("RUN make", "ENV A=1\nRUN make"), ["Dockerfile:3 ENV added"]),
    "removed": (DOCKERFILE.replace("RUN make\n", ""), ["Dockerfile:3 RUN removed (the line it had)"]),
    "replaced by another": (
        DOCKERFILE.replace("RUN make", "ADD b /"),
        ["Dockerfile:3 RUN removed (the line it had)", "Dockerfile:3 ADD added"],
    ),
    "two changed": (
        DOCKERFILE.replace("make", "build").replace("test", "check"),
        ["Dockerfile:3 RUN", "Dockerfile:4 RUN"],
    ),
    "two far apart": (
        DOCKERFILE.replace("COPY a /", "COPY b /").replace("USER app", "USER web"),
        ["Dockerfile:2 COPY", "Dockerfile:5 USER"],
    ),
    "changed below a line that came": (
        "# a comment\n\n" + DOCKERFILE.replace("USER app", "USER web"),
        ["Dockerfile:1 # added", "Dockerfile:7 USER"],
    ),
    "at the end": (DOCKERFILE + "CMD x\n", ["Dockerfile:6 CMD added"]),
    "all": ("", [f"Dockerfile:{at} {name} removed (the line it had)" for at, name in enumerate(["FROM", "COPY", "RUN", "RUN", "USER"], 1)]),
}  # fmt: skip


@pytest.mark.parametrize("kind", INSTRUCTIONS)
def test_a_changed_instruction_is_named_with_its_line_of_today(kind: str):
    changed, expected = INSTRUCTIONS[kind]

    assert told(snapshot(dockerfile=DOCKERFILE), snapshot(dockerfile=changed)) == expected


def test_a_dockerfile_whose_instructions_are_all_the_same_is_still_named():
    old = snapshot(dockerfile=DOCKERFILE)
    new = dataclasses.replace(old, inputs={"dockerfile": "App.Dockerfile"})

    assert told(old, new) == ["App.Dockerfile (comments, layout or its name)"]


def test_instructions_that_only_moved_down_are_no_change_of_their_own():
    old, new = snapshot(dockerfile=DOCKERFILE), snapshot(dockerfile=f"ARG A\n{DOCKERFILE}")

    assert told(old, new) == ["Dockerfile:1 ARG added"]


# --- the other inputs

BASE, MOVED = make_digest("base"), make_digest("moved")
INPUTS: Mapping[str, tuple[str | None, str | None, str]] = {
    "engine": ("28.0.0", "29.0.0", "engine (28.0.0, now 29.0.0)"),
    "buildx": ("0.29.1", "0.30.0", "buildx (0.29.1, now 0.30.0)"),
    "store": ("graphdriver", "containerd", "store (graphdriver, now containerd)"),
    "target": ("", "final", "target (none, now final)"),
    "platforms": ("linux/amd64", "linux/amd64,linux/arm64", "platforms (linux/amd64, now linux/amd64,linux/arm64)"),
    "output": ('["load"]', '["push"]', 'output (["load"], now ["push"])'),
    "image": ("shop/app", "shop/web", "image (shop/app, now shop/web)"),
    "base python:3.13-slim": (BASE, MOVED, f"base python:3.13-slim ({BASE[:19]}, now {MOVED[:19]})"),
    "argument VERSION": (A, B, "argument VERSION"),
    "label a.b": ("1", "2", "label a.b"),
    "annotation a": ("1", "2", "annotation a"),
    "service base": ("base linux/amd64=1", "base linux/amd64=2", "service base"),
    "variable SOURCE_DATE_EPOCH": (A, B, "variable SOURCE_DATE_EPOCH"),
    "flags": (A, B, "flags"),
    "proxies": (None, A, "proxies added"),
    "argument NEW": (None, A, "argument NEW added"),
    "argument OLD": (A, None, "argument OLD removed"),
    "base node:20": (None, BASE, "base node:20 added"),
    "secret token": ("", None, "secret token removed"),
}


@pytest.mark.parametrize("name", INPUTS)
def test_a_changed_input_is_named_and_shown_where_it_may_be(name: str):
    before, after, expected = INPUTS[name]
    old, new = (
        Snapshot({"dockerfile": "", **({name: value} if value is not None else {})}) for value in (before, after)
    )

    assert told(old, new) == [expected]


@given(st.text(min_size=8), st.text(min_size=8))
def test_the_value_of_an_input_that_may_be_secret_is_never_shown(before: str, after: str):
    for name in ("argument A", "variable BUILDKIT_X", "proxies", "flags", "caches", "label a"):
        [*changes] = compare(Snapshot({name: f"<{before}>"}), Snapshot({name: f"<{after}>"}))

        assert f"<{before}>" not in str(changes)
        assert f"<{after}>" not in str(changes)


def test_files_come_first_then_instructions_then_inputs_by_name():
    old = snapshot({"z": file(A)}, dockerfile="RUN a", target="", context=A, argument_B=A, base_a=BASE)
    new = snapshot({"z": file(B)}, dockerfile="RUN b", target="t", context=B, argument_B=B, base_a=MOVED)

    assert [change.subject for change in compare(old, new)] == [
        "z",
        "Dockerfile:1 RUN",
        "argument B",
        "base a",
        "target",
    ]


def test_two_equal_snapshots_have_no_difference():
    one = snapshot({"a": file()}, dockerfile=DOCKERFILE, engine="28")

    assert compare(one, one) == ()


def test_a_reason_names_three_changes_and_counts_the_rest():
    changes = [Change("changed", name) for name in "abcde"]

    assert [summary(changes[:count]) for count in (0, 1, 3, 5)] == ["", "a", "a, b, c", "a, b, c and 2 more"]


def test_explaining_shows_a_line_for_each_change_with_its_sign_and_no_control_characters():
    changes = [
        Change("added", "new.py"),
        Change("removed", "old\x1b[2J.py"),
        Change("changed", "run.sh", "mode 0644 to 0755"),
    ]

    assert explained_text("app", "build: inputs changed: 3 files", changes).splitlines() == [
        "app: build: inputs changed: 3 files",
        "  + new.py",
        "  - old␛[2J.py",
        "  ~ run.sh (mode 0644 to 0755)",
    ]


# --- keeping it

TEXTS = st.text(max_size=8)
CONTENTS = st.builds(
    Content,
    path=TEXTS,
    kind=st.sampled_from(["file", "directory", "symlink", "other"]),
    mode=st.integers(0, 0o7777),
    digest=TEXTS,
    capability=st.sampled_from(["", "0100"]),
    size=st.integers(0, 1 << 50),
    link=TEXTS,
)
SNAPSHOTS = st.builds(
    Snapshot,
    inputs=st.dictionaries(TEXTS, TEXTS, max_size=3),
    files=st.dictionaries(TEXTS, st.dictionaries(TEXTS, CONTENTS.map(Content.text), max_size=3), max_size=2),
    instructions=st.lists(st.builds(Instruction.of, st.integers(1, 99), TEXTS, TEXTS), max_size=3).map(tuple),
)


@pytest.mark.proof
@given(SNAPSHOTS)
def test_a_snapshot_is_what_it_was_after_it_was_kept(one: Snapshot):
    assert Snapshot.from_bytes(one.to_bytes()) == one


@pytest.mark.proof
@given(SNAPSHOTS, SNAPSHOTS)
def test_any_two_snapshots_can_be_compared_and_differ_only_if_they_do(one: Snapshot, other: Snapshot):
    changes = compare(one, other)

    if one == other:
        assert changes == ()
    if one.inputs != other.inputs:
        assert changes != ()


def test_a_path_that_is_not_utf8_is_kept():
    one = snapshot({"caf\udce9": file()})

    assert Snapshot.from_bytes(one.to_bytes()) == one


@given(one=SNAPSHOTS, data=st.data())
def test_a_damaged_snapshot_is_refused_or_whole(one: Snapshot, data: st.DataObject):
    whole = bytearray(one.to_bytes())
    at = data.draw(st.integers(0, len(whole) - 1))
    whole[at] ^= data.draw(st.integers(1, 255))

    try:
        found = Snapshot.from_bytes(bytes(whole))
    except ValueError:
        return
    assert found == one


NOT_SNAPSHOTS = [
    b"",
    b"rubbish",
    zlib.compress(b"\xff\xfe"),
    zlib.compress(b"{"),
    *(
        zlib.compress(json.dumps(plain).encode())
        for plain in (
            [],
            None,
            7,
            {},
            {"inputs": {}, "files": {}},
            {"inputs": {}, "files": {}, "instructions": [[1]]},
            {"inputs": {}, "files": {}, "instructions": [7]},
            {"inputs": [], "files": [], "instructions": None},
            {"inputs": 7, "files": {}, "instructions": []},
            {"inputs": {}, "files": [7], "instructions": []},
            {"inputs": {}, "files": {"": [7]}, "instructions": []},
        )
    ),
]


@pytest.mark.parametrize("data", NOT_SNAPSHOTS, ids=range(len(NOT_SNAPSHOTS)))
def test_what_is_no_snapshot_is_refused(data: bytes):
    with pytest.raises(ValueError, match=r"^not a snapshot: "):
        Snapshot.from_bytes(data)


def test_a_snapshot_holds_no_text_of_an_instruction():
    one = snapshot(dockerfile="RUN curl -H hunter2 https://example.org\n")

    kept = dataclasses.replace(one, inputs={}).to_bytes()

    assert b"hunter2" not in zlib.decompress(kept)
    assert one.instructions[0].name == "RUN"


# --- ignore rules


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (".dockerignore 1", ".dockerignore 2", [".dockerignore (ignore rules)", "x removed"]),
        ("", ".dockerignore 2", [".dockerignore added (ignore rules)", "x removed"]),
        (".dockerignore 1", "", [".dockerignore removed (ignore rules)", "x removed"]),
        (
            ".dockerignore 1",
            "a b.dockerignore 2",
            [".dockerignore removed (ignore rules)", "a b.dockerignore added (ignore rules)", "x removed"],
        ),
        (".dockerignore 1", ".dockerignore 1", ["x removed"]),
    ],
)
def test_the_ignore_file_is_named_before_the_files_it_lets_in_or_leaves_out(
    before: str, after: str, expected: list[str]
):
    old, new = snapshot({"x": file()}, context=A), snapshot({}, context=B)

    found = told(
        *(dataclasses.replace(one, rules={"": rules} if rules else {}) for one, rules in ((old, before), (new, after)))
    )

    assert found == expected


def test_an_ignore_file_that_is_among_the_files_is_named_once():
    old, new = (
        dataclasses.replace(
            snapshot({".dockerignore": file(digest)}, context=digest), rules={"": f".dockerignore {digest}"}
        )
        for digest in (A, B)
    )

    assert told(old, new) == [".dockerignore (ignore rules)"]


def test_ignore_rules_that_leave_out_the_same_are_no_change():
    old, new = (dataclasses.replace(snapshot({}, context=A), rules={"": f".dockerignore {at}"}) for at in (1, 2))

    assert told(old, new) == []


def test_a_named_contexts_ignore_file_is_named_with_its_context():
    old, new = (
        dataclasses.replace(snapshot({}, name="lib", context_lib=at), rules={"lib": f".dockerignore {at}"})
        for at in (A, B)
    )

    assert told(old, new) == ["lib: .dockerignore (ignore rules)"]
