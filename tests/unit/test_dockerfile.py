"""What the rules see of a Dockerfile: what its target is built from, and nothing else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buildorch.dockerfile import Dockerfile, Mount, read


def seen(text: str, *, target: str | None = None, contexts: tuple[str, ...] = (), **arguments: str) -> Dockerfile:
    return read(text, arguments=arguments, target=target, contexts=contexts, platforms=["linux/amd64", "linux/arm64"])


def images(text: str, **arguments: str) -> list[tuple[str, int]]:
    return [(image.name, image.line) for image in seen(text, **arguments).images]


FOUR_STAGES = "# syntax=docker/dockerfile:1\nFROM a AS One\nFROM b AS two\nfrom c\nCOPY --from=two / /\nFROM one\nCOPY --from=2 / /\n"


def test_stages_are_read_with_number_name_base_and_line():
    found = seen(FOUR_STAGES)

    assert [(stage.index, stage.name, stage.base, stage.line) for stage in found.stages] == [
        (0, "one", "a", 2),
        (1, "two", "b", 3),
        (2, "2", "c", 4),
        (3, "3", "one", 6),
    ]
    assert [stage.index for stage in found.final] == [0, 3]


@pytest.mark.parametrize(
    ("target", "stages", "final"),
    [(None, [0, 1, 2, 3], [0, 3]), ("ONE", [0], [0]), ("two", [1], [1]), ("", [0, 1, 2, 3], [0, 3])],
)
def test_only_the_stages_that_the_target_needs_are_there(target: str | None, stages: list[int], final: list[int]):
    found = seen(FOUR_STAGES, target=target)

    assert [stage.index for stage in found.stages] == stages
    assert [stage.index for stage in found.final] == final


def test_what_stages_that_are_not_needed_declare_is_not_there():
    found = seen(
        "FROM a AS x\nARG A\nRUN --mount=from=b,target=/m x\nFROM $NO$BUILDARCH AS y\nFROM c\nENV B=c\nRUN y\n"
    )

    assert [image.name for image in found.images] == ["c"]
    assert found.unknown_bases == ()
    assert [run.line for run in found.runs] == [7]
    assert [one.name for one in found.declared] == ["B"]


def test_a_stage_that_a_named_context_stands_for_is_not_built():
    text = "FROM a AS one\nRUN x\nFROM b AS two\nRUN y\nFROM one\nCOPY --from=two / /\nCOPY --from=ctx:latest / /\n"

    found = seen(text, contexts=("one", "ctx"))

    assert [stage.index for stage in found.stages] == [1, 2]
    assert [stage.index for stage in found.final] == [2]
    assert [image.name for image in found.images] == ["b"]
    assert [run.line for run in found.runs] == [4]


def test_a_target_that_a_named_context_stands_for_is_built_from_nothing():
    found = seen("FROM a AS one\n", contexts=("one",))

    assert (found.stages, found.final, found.images) == ((), (), ())


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("FROM a\nFROM b", [("b", 2)]),
        ("FROM a AS x\nFROM scratch\nCOPY --from=x / /", [("a", 1)]),
        ("FROM a AS x\nFROM X", [("X", 2)]),
        ("FROM a\nCOPY --from=b:1 / /\nRUN --mount=from=c,target=/m --mount=type=cache,from=d,target=/n x", [("a", 1), ("b:1", 2), ("c", 3), ("d", 3)]),
        ("FROM a AS x\nCOPY --from=b / /\nFROM b\nCOPY --from=x / /\nCOPY --from=b / /", [("a", 1), ("b", 2)]),
        ("FROM a AS x\nONBUILD COPY --from=t / /\nFROM x", [("a", 1), ("t", 3)]),
        ("FROM a\nCOPY --from=b / /\nCOPY --from=b /x /", [("a", 1), ("b", 2)]),
        ("ARG V=3.13\nFROM python:$V", [("python:3.13", 2)]),
        ("ARG V\nFROM python:${V:-3.11}", [("python:3.11", 2)]),
        ("FROM --platform=$BUILDPLATFORM python-$TARGETARCH", [("python-amd64", 1)]),
        ("FROM \\\n  python:3 \\\n  AS x", [("python:3", 1)]),
    ],
)  # fmt: skip
def test_images_are_what_stages_start_copy_and_mount_from_each_at_its_first_line(
    text: str, named: list[tuple[str, int]]
):
    assert images(text) == named


def test_a_build_argument_comes_before_a_default():
    assert images("ARG V=3.13\nFROM python:${V}-slim", V="3.12") == [("python:3.12-slim", 2)]


def test_without_a_platform_the_architecture_is_not_known():
    found = read("FROM a-$TARGETARCH\n", arguments={})

    assert (found.images, found.unknown_bases, found.stages[0].base) == ((), (1,), None)


@pytest.mark.parametrize("base", ["$NO", "a-$BUILDARCH", "${V%.*}"])
def test_a_base_whose_variables_are_not_known_is_told_by_its_line(base: str):
    found = seen(f"FROM a AS x\nFROM {base}\nCOPY --from=x / /\n")

    assert found.unknown_bases == (2,)
    assert [stage.base for stage in found.stages] == ["a", None]
    assert [image.name for image in found.images] == ["a"]


@pytest.mark.parametrize(
    ("written", "mount"),
    [
        ("type=cache,target=/root/.npm", Mount("cache", "/root/.npm", "/root/.npm", "shared")),
        ("type=CACHE,dst=/a//b/../c/", Mount("cache", "/a/c", "/a/c", "shared")),
        ("type=cache,destination=a", Mount("cache", "a", "a", "shared")),
        ("type=cache,id=npm,target=/n,sharing=Locked", Mount("cache", "/n", "npm", "locked")),
        ("type=cache,id=,target=/n,sharing=private", Mount("cache", "/n", "/n", "private")),
        ("type=cache,id=$I-x,target=$T/n,sharing=$S", Mount("cache", "/t/n", "i-x", "locked")),
        ("type=cache,id=$E,target=/n", Mount("cache", "/n", "/n", "shared")),
        ("type=cache,id=$U,target=/n$U,sharing=$U", Mount("cache", None, None, None)),
        ("type=$U,target=/n", Mount(None, "/n", None, None)),
        ("target=/n", Mount("bind", "/n", None, None)),
        ("type=tmpfs,target=/n", Mount("tmpfs", "/n", None, None)),
        ("type=secret,id=token", Mount("secret", None, "token", None)),
        ("type=ssh", Mount("ssh", None, None, None)),
    ],
)
def test_a_mount_is_read_with_its_defaults_and_variables(written: str, mount: Mount):
    [run] = seen(f"FROM a\nENV I=i T=/t S=locked E=\nRUN --network=none --mount={written} x\nENV I=later").runs

    assert run.mounts == (mount,)


@pytest.mark.parametrize(
    ("written", "command"),
    [
        ("a  && b", "a  && b"),
        ("a && \\\n  # why\n  b", "a &&   b"),
        ('["a", "b c", "$D"]', "a 'b c' '$D'"),
        ("<<EOF\na\n\tb\nEOF", "a\n\tb\n"),
        ("<<-EOF\n\ta\n\tEOF", "a\n"),
        ("<<'EOF' bash -eo pipefail\na\nEOF", "a\n"),
        ("/bin/sh -e <<EOF\na\nEOF", "a\n"),
        ("cat <<EOF > /x\na\nEOF", "cat <<EOF > /x"),
        ("sh script <<EOF\na\nEOF", "sh script <<EOF"),
        ("", ""),
    ],
)
def test_a_runs_command_is_what_a_shell_gets(written: str, command: str):
    [run] = seen(f"FROM a\nRUN {written}\n").runs

    assert run.command == command


def test_the_escape_character_of_the_file_joins_lines():
    [run] = seen("# escape=`\nFROM a\nRUN a `\n  b\\c\n").runs

    assert run.command == "a   b\\c"


def test_runs_are_told_with_line_and_stage_in_the_files_order_and_triggers_are_none():
    found = seen("FROM a AS X\nRUN x\nONBUILD RUN no\nFROM b AS y\nRUN y\nFROM x\nRUN z\nCOPY --from=y / /\n")

    assert [(run.line, run.stage, run.command) for run in found.runs] == [(2, "x", "x"), (5, "y", "y"), (7, "2", "z")]


def test_variables_are_told_as_they_are_declared():
    text = 'ARG V=1 W\nFROM a\nARG T\nARG U="x y"\nENV A=b C="$D"\nENV E f g\nONBUILD ARG no\n'

    found = [(one.kind, one.name, one.line, one.value) for one in seen(text).declared]

    assert found == [
        ("ARG", "V", 1, "1"),
        ("ARG", "W", 1, None),
        ("ARG", "T", 3, None),
        ("ARG", "U", 4, '"x y"'),
        ("ENV", "A", 5, "b"),
        ("ENV", "C", 5, '"$D"'),
        ("ENV", "E", 6, "f g"),
    ]


@pytest.mark.parametrize(
    ("text", "target", "message"),
    [
        ("", None, "the Dockerfile has no FROM"),
        ("ARG A\n", None, "the Dockerfile has no FROM"),
        ("FROM a AS x\n", "y", "the target 'y' is not a stage of the Dockerfile"),
        ("FROM a AS x\n", "0", "the target '0' is not a stage of the Dockerfile"),
        ("FROM a b\n", None, "line 1: FROM is not understood"),
        ("RUN x\nFROM a\n", None, "line 1: RUN before the first FROM is not understood"),
        ("FROM a\nNOSUCH x\n", None, "Dockerfile parse error on line 2: unknown instruction: NOSUCH"),
        ("FROM a\nRUN <<EOF\n", None, "Dockerfile parse error on line 2: unterminated heredoc"),
    ],
)
def test_what_cannot_be_built_is_refused(text: str, target: str | None, message: str):
    with pytest.raises(ValueError, match=r"^.*$") as caught:
        seen(text, target=target)

    assert str(caught.value) == message


_PIECES = [
    "FROM a\n",
    "FROM a AS p\n",
    "FROM p\n",
    "COPY --from=p ",
    "RUN --mount=type=cache,",
    "ONBUILD ",
    "ARG ",
    "ENV ",
]
_PIECES += [*"a,/\n\\\t${}:-=#\"'<[]1é\0\r\u00a0", "V", "$V", "<<E\n", "E\n", "id=", "target=", "sharing=", "type="]


@given(st.lists(st.sampled_from(_PIECES), max_size=25).map("".join))
def test_any_text_is_read_or_refused_with_a_value_error(text: str):
    try:
        found = read(text, arguments={"V": "x"}, contexts=["p"])
    except ValueError:
        return
    assert set(found.final) <= set(found.stages)
