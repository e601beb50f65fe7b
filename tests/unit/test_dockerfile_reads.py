"""What a build of a Dockerfile reads: never less than BuildKit does, and no more than it takes to be sure."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buildorch.dockerfile import Reads, reads, remote_is_pinned

COMMIT = "0123456789abcdef0123456789abcdef01234567"
SHA256 = "sha256:" + "a" * 64
_PINNED = "docker.io/library/python:3.13-slim"


def seen(text: str, *, contexts: tuple[str, ...] = (), target: str | None = None, **arguments: str) -> Reads:
    return reads(text, arguments=arguments, target=target, contexts=contexts, platforms=["linux/amd64"])


@pytest.mark.parametrize(
    ("text", "images"),
    [
        ("FROM python:3.13-slim", ["python:3.13-slim"]),
        ("FROM a\nFROM b", ["b"]),
        ("FROM a AS One\nFROM b AS two\nFROM one", ["a"]),
        ("FROM a AS x\nFROM b\nCOPY --from=X /f /f", ["b", "a"]),
        ("FROM a\nFROM b\nCOPY --from=0 /f /f", ["b", "a"]),
        ("FROM a\nCOPY --from=tool:1 /f /f", ["a", "tool:1"]),
        ("FROM a\nCOPY --from=tool:1 <<EOF /f\nEOF\n", ["a", "tool:1"]),
        ("FROM a\nRUN --mount=from=tool:1,target=/m x", ["a", "tool:1"]),
        ("FROM a\nRUN --mount=type=cache,from=tool:1,target=/m x", ["a", "tool:1"]),
        ("FROM a\nRUN --mount=type=cache,target=/m --mount=type=secret,id=s --mount=type=ssh x", ["a"]),
        ("FROM a\nRUN --mount=type=tmpfs,from=tool:1,target=/m x", ["a"]),
        ("FROM a AS x\nFROM b\nRUN --mount=from=x,target=/m x", ["b", "a"]),
        ("FROM a\nRUN --mount=from=0,target=/m x", ["a", "0"]),
        ("FROM scratch\nCOPY --from=scratch / /", []),
        ("FROM --platform=$BUILDPLATFORM a", ["a"]),
        ('FROM "a"', ["a"]),
        ("FROM a AS x\nFROM b AS x\nFROM x", ["b"]),
        ("FROM a AS x\nFROM x\nFROM b AS x", ["b"]),
        ("FROM a AS x\nFROM c\nCOPY --from=x /f /f\nFROM b AS x\nFROM c\nCOPY --from=x /f /f", ["c", "b"]),
    ],
)
def test_the_images_that_count_are_those_of_the_stages_a_target_needs(text: str, images: list[str]):
    found = seen(text)

    assert list(found.images) == images
    assert found.unpinned == ()


@pytest.mark.parametrize(
    ("text", "arguments", "images"),
    [
        ("ARG V=1\nFROM a:$V", {}, ["a:1"]),
        ("ARG V=1\nFROM a:$V", {"V": "2"}, ["a:2"]),
        ("FROM a:1$V", {"V": "2"}, ["a:1"]),
        ("ARG V\nFROM a:${V:-3}", {}, ["a:3"]),
        ("ARG V=\nFROM a:${V-3}1", {}, ["a:1"]),
        ("ARG V=1\nFROM a:${V:+2}", {}, ["a:2"]),
        ("ARG A=1\nARG B=${A}-slim\nFROM a:$B", {}, ["a:1-slim"]),
        ("ARG V='1'\nFROM a:$V", {}, ["a:1"]),
        ("ARG V=1\nFROM x\nARG V=2\nFROM a:$V", {}, ["a:1"]),
        ("FROM a-$TARGETARCH", {}, ["a-amd64"]),
        ("FROM a-$TARGETARCH", {"TARGETARCH": "mine"}, ["a-mine"]),
        ("ARG BUILDKIT_X=a\nFROM $BUILDKIT_X", {"BUILDKIT_X": "b"}, ["b"]),
    ],
)
def test_an_image_is_named_with_its_variables_filled_in(text: str, arguments: dict[str, str], images: list[str]):
    assert list(seen(text, **arguments).images) == images


def test_an_image_named_by_the_platform_counts_for_each_platform_built():
    found = reads("FROM a-$TARGETARCH$TARGETVARIANT", arguments={}, platforms=["linux/amd64", "linux/arm64"])

    assert (found.images, found.unpinned) == (("a-amd64", "a-arm64"), ())


@pytest.mark.parametrize(
    ("text", "platforms"),
    [
        ("FROM a-$BUILDARCH", ["linux/amd64"]),
        ("FROM a-$TARGETARCH", []),
        ("FROM a-$TARGETVARIANT", ["linux/arm"]),
        ("FROM a-$TARGETARCH", ["linux/x86_64"]),
        ("ARG V=1\nFROM a:${V%.*}", ["linux/amd64"]),
        ("ARG V=1\nFROM a:${V#*.}", ["linux/amd64"]),
        ("ARG V=1\nFROM a:${V/1/2}", ["linux/amd64"]),
        ("ARG V=1\nFROM a:${V:?no}", ["linux/amd64"]),
        ("ARG HTTPS_PROXY=1\nFROM a:$HTTPS_PROXY", ["linux/amd64"]),
        ("ARG SOURCE_DATE_EPOCH=1\nFROM a:$SOURCE_DATE_EPOCH", ["linux/amd64"]),
        ("ARG A=1 B=$A\nFROM a:$B", ["linux/amd64"]),
        ("ARG é=1\nFROM a:$é", ["linux/amd64"]),
        ("FROM a:$é", ["linux/amd64"]),
        ("ARG $A=1\nFROM a:$B", ["linux/amd64"]),
    ],
)
def test_a_from_that_cannot_be_filled_in_reads_everything_and_is_never_proved(text: str, platforms: list[str]):
    found = reads(text, arguments={}, platforms=platforms, contexts=["c"])

    assert found.unpinned == (f"line {text.count(chr(10)) + 1}: the variables of FROM cannot be filled in here",)
    assert (found.paths, found.named) == (None, {"c": None})


@pytest.mark.parametrize(
    ("text", "paths"),
    [
        ("FROM a\nRUN x", ()),
        ("FROM a\nCOPY . .", None),
        ("FROM a\nCOPY / /x", None),
        ("FROM a\nCOPY src pyproject.toml /x/", ("pyproject.toml", "src")),
        ("FROM a\nADD a.tar /x/", ("a.tar",)),
        ("FROM a\ncopy --link --chmod=0755 --chown=1:1 ./src/ /x/", ("src",)),
        ("FROM a\nCOPY /a ../b c/../d /x/", ("a", "b", "d")),
        ("FROM a\nCOPY src/a /x\nCOPY src src-b /y/\nCOPY src/b/c /z", ("src", "src-b")),
        ("FROM a\nCOPY src/*.py /x/", ("src",)),
        ("FROM a\nCOPY a/b?/c /x/", ("a",)),
        ("FROM a\nCOPY a/[[]b] /x/", ("a",)),
        ("FROM a\nCOPY *.txt /x/", None),
        ("FROM a\nCOPY a/*/../b /x/", None),
        ('FROM a\nCOPY ["with blank", "/x/"]', ("with blank",)),
        ("FROM a\nCOPY --exclude=*.md a /x/", ("a",)),
        ("FROM a\nCOPY --parents a/b/./c /x/", ("a",)),
        ("FROM a\nCOPY <<EOF <<-'B' c /x/\nCOPY d /\nEOF\n\tCOPY e /\n\tB\n", ("c",)),
        ("FROM a\nCOPY <<EOF /x\nEOF\n", ()),
        ('FROM a\nCOPY <<"a b" /x\nCOPY d /\na b\n', None),
        ("FROM a\nRUN <<EOF\nCOPY d /\nEOF\nCOPY b /", ("b",)),
        ("FROM a\nCOPY a \\\n# COPY b c\n  d /x/", ("a", "d")),
        ("# escape=`\nFROM a\nCOPY a `\n  d /x/", ("a", "d")),
        ("\ufeffFROM a\r\nCOPY a \\\r\n  d /x/\r\n", ("a", "d")),
        ("FROM a\nRUN --mount=type=bind,source=src/a,target=/m x", ("src/a",)),
        ("FROM a\nRUN --mount=target=/m,SRC=src x", ("src",)),
        ("FROM a\nRUN --mount=target=/m,src=a,source=b x", None),
        ("FROM a\nRUN --mount=target=/m x", None),
        ("FROM a\nRUN --mount=type=cache,source=src,target=/m x", ()),
        ("FROM a AS x\nCOPY b /\nFROM a\nCOPY c /", ("c",)),
        ("FROM a AS x\nCOPY b /\nFROM x\nCOPY c /", ("b", "c")),
        ("FROM a AS x\nCOPY b /\nFROM a\nCOPY --from=x /f /f", ("b",)),
        ("FROM a AS x\nCOPY b /\nFROM a\nCOPY --from=+0 /f /f", ("b",)),
        ("FROM a\nONBUILD COPY b /", ()),
        ("FROM a AS x\nONBUILD COPY b /\nFROM x", ("b",)),
        ("FROM a AS x\nONBUILD COPY b /\nFROM x AS y\nFROM y", ("b",)),
    ],
)
def test_the_paths_that_count_are_those_that_copies_and_mounts_name(text: str, paths: tuple[str, ...] | None):
    found = seen(text)

    assert found.paths == paths
    assert found.unpinned == ()


@pytest.mark.parametrize(
    ("text", "paths"),
    [
        ("FROM scratch\nENV V=a\nCOPY $V ${V}/b /x/", ("a",)),
        ("FROM i\nENV V=a\nCOPY $V /x/", ("a",)),
        ("FROM i\nENV V=a\nENV V=b W=$V\nCOPY $W $V /x/", ("a", "b")),
        ("FROM i\nENV V a b\nCOPY $V /x/", ("a b",)),
        ("FROM i\nARG V=a\nCOPY $V /x/", ("a",)),
        ("ARG V=a\nFROM i\nARG V\nCOPY $V /x/", ("a",)),
        ("ARG V=a\nFROM i\nARG V=b\nCOPY $V /x/", ("b",)),
        ("FROM i\nENV V=a\nARG V=b\nCOPY $V /x/", ("b",)),
        ("FROM i AS p\nARG V=a\nFROM p\nCOPY $V /x/", ("a",)),
        ("FROM scratch\nCOPY a$V /x/", ("a",)),
        ("FROM scratch\nCOPY ${V:-b} /x/", ("b",)),
        ("FROM scratch\nARG TARGETARCH\nCOPY $TARGETARCH /x/", ("amd64",)),
        ("FROM i\nENV V=a\nRUN --mount=target=/m,source=$V x", ("a",)),
        ("FROM i\nCOPY '$V' /x/", ("$V",)),
        ("FROM i\nCOPY \\$V /x/", ("$V",)),
        # What the base image's own ENV may set is not known.
        ("FROM i\nCOPY $V /x/", None),
        ("FROM i\nCOPY a/$V /x/", None),
        ("FROM i\nCOPY ${V:-a} /x/", None),
        ("ARG V=a\nFROM i\nCOPY $V /x/", None),
        ("FROM i\nARG V\nCOPY $V /x/", None),
        ("FROM i\nENV V=$U\nCOPY $V /x/", None),
        ("FROM scratch\nCOPY a$PATH /x/", None),
        ("FROM scratch\nARG HTTP_PROXY=a\nCOPY $HTTP_PROXY /x/", None),
        ("FROM scratch\nENV V=a\nENV $V=b\nCOPY $V /x/", None),
        ("FROM scratch\nENV V=a\nCOPY ${V#x} /x/", None),
        ("FROM i\nRUN --mount=target=/m,source=$V x", None),
        ("FROM scratch AS p\nONBUILD ENV V=b\nFROM p\nCOPY ${V:-a} /x/", None),
        ("FROM scratch AS p\nONBUILD ARG V=b\nFROM p\nCOPY ${V:-a} /x/", None),
    ],
)
def test_a_path_with_variables_counts_as_filled_in_only_where_their_values_are_sure(
    text: str, paths: tuple[str, ...] | None
):
    assert seen(text).paths == paths


def test_a_build_argument_comes_before_an_args_default_and_nowhere_else():
    text = "FROM scratch\nENV W=c\nARG V=a\nCOPY $V $W /x/"

    assert seen(text, V="b", W="d").paths == ("b", "c")


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("FROM python:3.13-slim", {_PINNED: None}),
        ("FROM docker.io/library/python:3.13-slim", {_PINNED: None}),
        ("FROM library/python:3.13-slim", {_PINNED: None}),
        ("FROM index.docker.io/library/python:3.13-slim", {_PINNED: None}),
        ("FROM python:3.13", {}),
        ("FROM python:3.13-slim@sha256:" + "a" * 64, {}),
        ("FROM other.test/library/python:3.13-slim", {}),
    ],
)
def test_a_named_context_stands_for_an_image_however_its_name_is_written(text: str, named: dict[str, None]):
    found = seen(text, contexts=(_PINNED,))

    assert found.named == named
    assert found.images == (() if named else (text.removeprefix("FROM "),))


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("FROM a", {}),
        ("FROM ctx", {"ctx": None}),
        ("FROM ctx:latest", {"ctx": None}),
        ("FROM a\nCOPY --from=ctx src /x\nCOPY --from=ctx b/*.c /y", {"ctx": ("b", "src")}),
        ("FROM a\nRUN --mount=from=ctx,source=src,target=/m x", {"ctx": ("src",)}),
        ("FROM a\nRUN --mount=from=ctx,target=/m x", {"ctx": None}),
        ("FROM a AS ctx\nCOPY b /\nFROM c\nCOPY --from=ctx src /x", {"ctx": ("src",)}),
        ("FROM a AS ctx\nCOPY b /\nFROM c\nCOPY --from=0 src /x", {"ctx": ("src",)}),
        ("FROM a AS ctx\nCOPY b /\nFROM ctx", {"ctx": None}),
        ("FROM a AS ctx\nCOPY b /", {"ctx": None}),
        ("FROM a AS x\nFROM ctx AS y\nFROM c\nCOPY --from=x f f", {}),
        ("FROM ctx AS y\nFROM c\nCOPY --from=y f f", {"ctx": None}),
        ("FROM ctx\nCOPY $V /x", {"ctx": None}),
    ],
)
def test_a_named_context_counts_as_far_as_it_is_read(text: str, named: dict[str, tuple[str, ...] | None]):
    found = seen(text, contexts=("ctx",))

    assert found.named == named
    assert "ctx" not in found.images
    assert found.paths in {(), None}


def test_the_instructions_of_a_stage_that_a_named_context_stands_for_are_not_read():
    found = seen("FROM a AS deps\nADD https://example.test/x /\nFROM b\nCOPY --from=deps f f", contexts=("deps",))

    assert (found.images, found.paths, found.unpinned) == (("b",), (), ())


def test_a_target_is_found_by_its_name_in_any_case_and_what_stands_below_it_does_not_count():
    found = seen("FROM a AS one\nCOPY b /\nFROM c\nCOPY d /", target="ONE")

    assert (found.images, found.paths) == (("a",), ("b",))


@pytest.mark.parametrize("target", ["two", "0"])
def test_a_target_that_is_not_there_reads_everything(target: str):
    found = seen("FROM a AS one\nFROM b", target=target)

    assert found.paths is None
    assert found.unpinned == (f"the target '{target}' is not a stage of the Dockerfile",)


@pytest.mark.parametrize(
    ("text", "frontend"),
    [
        ("FROM a", None),
        ("# syntax=docker/dockerfile:1\nFROM a", "docker/dockerfile:1"),
        ("#SYNTAX = docker/dockerfile:1 more\r\nFROM a", "docker/dockerfile:1"),
        ("# escape=`\n# check=skip=all\n# syntax=x/y:1\nFROM a", "x/y:1"),
        ("#!/usr/bin/env x\n# syntax=x/y:1\nFROM a", "x/y:1"),
        ("\ufeff# syntax=x/y:1\nFROM a", "x/y:1"),
        ("# a comment\n# syntax=x/y:1\nFROM a", None),
        ("\n# syntax=x/y:1\nFROM a", None),
        ("FROM a\n# syntax=x/y:1", None),
        ("// syntax=x/y:1\n", "x/y:1"),
        ('{"syntax": "x/y:1"}', "x/y:1"),
        ('{"syntax": 1}', None),
    ],
)
def test_a_frontend_is_found_where_buildkit_finds_it(text: str, frontend: str | None):
    assert seen(text).frontend == frontend


def test_another_frontend_may_read_everything_and_the_images_stay_as_they_are_found():
    found = seen("# syntax=docker/dockerfile:1\nFROM a\nCOPY b /x\nCOPY --from=ctx f /f", contexts=("ctx", "other"))

    assert (found.paths, found.named) == (None, {"ctx": None, "other": None})
    assert (found.images, found.unpinned) == (("a",), ())


def test_a_build_argument_names_the_frontend_before_the_file_does():
    assert seen("# syntax=x/y:1\nFROM a", BUILDKIT_SYNTAX=" z/w:2 opt").frontend == "z/w:2"


@pytest.mark.parametrize(
    "source",
    [
        f"--checksum={SHA256} https://example.test/x.tar",
        f"--checksum={COMMIT} https://example.test/r.git#main",
        f"https://example.test/r.git#{COMMIT}",
        f"git@example.test:r.git#{COMMIT}:sub",
        f"--checksum={SHA256} https://example.test/$UNKNOWN",
    ],
)
def test_a_remote_source_with_a_checksum_or_a_commit_is_pinned(source: str):
    found = seen(f"FROM a\nADD {source} /x")

    assert (found.unpinned, found.paths) == ((), ())


@pytest.mark.parametrize(
    "source",
    [
        "https://example.test/x.tar",
        "HTTPS://example.test/x.tar",
        "https://example.test/r.git",
        "https://example.test/r.git#main",
        "https://example.test/r.git#0123456",
        f"https://example.test/x.tar#{COMMIT}",
        "git@example.test:r.git",
        "--checksum=0123456 https://example.test/r.git#main",
        "--checksum=$UNKNOWN https://example.test/x.tar",
        "--checksum= https://example.test/x.tar",
        "https://example.test/$UNKNOWN",
    ],
)
def test_a_remote_source_without_them_keeps_a_build_from_being_proved(source: str):
    found = seen(f"FROM a\n\nADD {source} /x")

    shown = source.rpartition(" ")[2]
    assert found.unpinned == (
        f"line 3: ADD {shown} has no --checksum, and is not a full commit hash of a git repository",
    )
    assert found.paths == ()


def test_a_variable_that_may_be_a_url_may_be_anything():
    found = seen("FROM a\nADD $WHERE /x")

    assert found.unpinned == ("line 2: ADD $WHERE cannot be filled in, it may be remote",)
    assert found.paths is None


def test_a_password_in_a_url_is_not_shown():
    assert "secret" not in seen("FROM a\nADD https://me:secret@example.test/x /x").unpinned[0]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "RUN x",
        "FROM a\nNOSUCH x",
        "FROM a\nCOPY <<EOF /x\n",
        "FROM a b\nFROM c",
        "RUN x\nFROM a",
        "FROM a\nCOPY --frm=x a /x",
        "FROM a\nADD --from=x a /x",
        "FROM a\nRUN --mnt=x y",
        "FROM a\nRUN --mount=type=new,target=/m x",
        "FROM a\nRUN --mount=kind=bind,target=/m x",
        "FROM a\nRUN --mount=from=$V,target=/m x",
        'FROM a\nRUN --mount=\\"type=bind\\",target=/m x',
        "FROM a\nCOPY --from=$V f /x",
        "FROM a\nCOPY --from=7 f /x",
        'FROM a\nCOPY ["a", "/x"] rest',
        "FROM a\nCOPY a\u00a0b /x",
        "FROM a\nONBUILD RUN <<RUN\nRUN x\nRUN",
        "FROM a AS p\nONBUILD NOSUCH x\nFROM p",
        "FROM a\nRUN " + "[" * 100_000,
    ],
)
def test_what_is_not_understood_reads_everything_and_says_why(text: str):
    found = seen(text, contexts=("ctx",))

    assert (found.paths, found.named) == (None, {"ctx": None})
    assert found.unpinned


def test_a_copy_is_split_at_every_blank_as_buildkit_does_it():
    assert seen("FROM a\nCOPY my\\ file /x/").paths == ("file", "my")


def test_a_scan_for_an_sbom_reads_the_whole_context():
    assert seen("ARG BUILDKIT_SBOM_SCAN_CONTEXT=true\nFROM a\nCOPY b /x").paths is None
    assert seen("FROM a\nCOPY b /x", BUILDKIT_SBOM_SCAN_CONTEXT="1").paths is None


def test_what_a_base_image_runs_on_build_is_read_where_it_is_given():
    text = "FROM base AS p\nCOPY ${V:-a} /x\nFROM ctx\nCOPY --from=p f /f"

    found = reads(
        text,
        arguments={},
        contexts=["ctx"],
        onbuild={"base": ["COPY b /x", "ENV V=c"], "ctx": ["COPY --from=tool d /x", "ADD https://example.test/x /x"]},
    )

    assert (found.images, found.bases) == (("tool", "base"), ("ctx", "base"))
    assert found.paths is None
    assert found.unpinned == (
        "line 3: ADD https://example.test/x has no --checksum, and is not a full commit hash of a git repository",
    )


def test_the_triggers_an_image_keeps_are_those_of_its_own_stage():
    found = seen("FROM a AS p\nONBUILD COPY b /x\nFROM p\nonbuild run x")

    assert found.triggers == ("run x",)


def test_every_instruction_is_given_with_its_line_and_all_its_text():
    text = "\ufeff# syntax=x\nFROM a AS x\n\nrun <<EOF\nCOPY a b\nEOF\ncopy a \\\n  # why\n  b /x/\r\n"

    found = [(each.line, each.name, each.text) for each in seen(text).instructions]

    assert found == [
        (2, "FROM", "FROM a AS x"),
        (4, "RUN", "run <<EOF\nCOPY a b\nEOF"),
        (7, "COPY", "copy a \\\n  # why\n  b /x/"),
    ]


@pytest.mark.parametrize(
    "url",
    [
        f"https://example.test/r.git#{COMMIT}",
        f"https://example.test/r.git#{COMMIT}:sub",
        f"https://example.test/r.git#{'a' * 64}",
        f"https://example.test/r.git?commit={COMMIT}",
        f"https://example.test/r.git?branch=main&checksum={COMMIT}",
        f"https://example.test/r.git?ref={COMMIT}&subdir=s",
        f"git@example.test:r.git#{COMMIT}",
        f"ssh://git@example.test/r#{COMMIT}",
        f"git://example.test/r#{COMMIT}",
        f"github.com/o/r#{COMMIT}",
    ],
)
def test_a_url_is_pinned_by_the_full_hash_of_a_commit(url: str):
    assert remote_is_pinned(url)


@pytest.mark.parametrize(
    "url",
    [
        "https://example.test/r.git",
        "https://example.test/r.git#v1",
        f"https://example.test/r.git#{COMMIT[:39]}",
        f"https://example.test/r.git#{COMMIT}0",
        f"https://example.test/r.git#{COMMIT.upper()}",
        f"https://example.test/r.git#refs/heads/{COMMIT}",
        f"https://example.test/r.git?tag={COMMIT}",
        f"https://example.test/r.git?commit={COMMIT[:12]}",
        f"https://example.test/r.git?commit={COMMIT}&commit={COMMIT}",
        f"https://example.test/r.tar#{COMMIT}",
        f"https://example.test/r.tar?x=.git#{COMMIT}",
        f"https://[example/r.git#{COMMIT}",
        f"folder#{COMMIT}",
    ],
)
def test_a_url_is_not_pinned_by_anything_less(url: str):
    assert not remote_is_pinned(url)


_PIECES = [
    "FROM a\n",
    "FROM a AS p\n",
    "FROM p\n",
    "COPY ",
    "ADD ",
    "RUN --mount=",
    "ONBUILD ",
    "ARG ",
    "ENV ",
    "a ",
    "V",
]
_PIECES += [*"from,./\n\\\t${}:-=#\"'<[]1é\0\r\u00a0", "$V", "--from=", "<<E\n", "E\n", "type=bind", "https://"]


@given(st.lists(st.sampled_from(_PIECES), max_size=40).map("".join))
def test_any_text_is_answered(text: str):
    found = reads(text, arguments={"V": "x"}, contexts=["a"], onbuild={"a": [text]})

    assert found.unpinned or found.instructions
