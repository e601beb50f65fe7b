"""Services files made to break their reader: bombs, depth, size, and whatever hypothesis thinks of."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from buildorch.errors import Problem, ServicesFileError
from buildorch.services import decode, parse, yaml_nodes

BODY = "version: 1\nproject: shop\nservices: {app: }\n"


def problem(text: str) -> str:
    """The one problem of a text."""
    with pytest.raises(ServicesFileError) as caught:
        parse(text, "f.yaml")
    [only] = caught.value.problems
    return str(only)


def test_a_billion_laughs_are_refused_before_they_are_expanded():
    lines = ["x0: &x0 [lol, lol, lol, lol, lol, lol, lol, lol, lol]"]
    lines += [f"x{at}: &x{at} [{', '.join([f'*x{at - 1}'] * 9)}]" for at in range(1, 10)]

    said = problem("\n".join(lines) + "\n" + BODY)

    assert said == "f.yaml:6:5: its aliases expand to more than 200,000 values"


@pytest.mark.proof
def test_merge_keys_cannot_be_made_a_bomb_either():
    keys = ", ".join(f"k{at}: " for at in range(2000))
    copies = "- {<<: *a}\n" * 150

    said = problem(f"x-a: &a {{{keys}}}\nx-b:\n{copies}{BODY}")

    assert said == "f.yaml:100:4: its aliases expand to more than 200,000 values", "not only once all are copied"


def test_fifty_levels_are_read_and_one_more_is_refused():
    parse(f"x-deep: {'[' * 48}1{']' * 48}\n{BODY}", "f.yaml")

    said = problem(f"x-deep: {'[' * 49}1{']' * 49}\n{BODY}")

    assert said == "f.yaml:1:58: values are nested deeper than 50"


def test_depth_counts_through_aliases():
    levels = "".join(f"x{at}: &x{at} {'[' * 10}*x{at - 1}{']' * 10}\n" for at in range(1, 6))

    said = problem(f"x0: &x0 1\n{levels}{BODY}")

    assert said == "f.yaml:6:19: values are nested deeper than 50 once *x4 is expanded"


def test_a_node_cannot_hold_itself():
    assert problem(f"x-a: &a [1, *a]\n{BODY}") == "f.yaml:1:13: the alias *a has no anchor before it"


def test_a_file_of_the_greatest_size_is_read_and_one_byte_more_is_refused(monkeypatch: pytest.MonkeyPatch):
    # Reading 4 MiB takes seconds: the border is shown with a lower cap.
    monkeypatch.setattr(yaml_nodes, "MAX_BYTES", len(BODY) + 2)
    parse(f"#\n{BODY}", "f.yaml")

    assert problem(f"##\n{BODY}") == "f.yaml:1:1: the file is larger than 4 MiB"


def test_one_byte_more_than_4_mib_is_refused():
    assert problem("#" * (4 * 1024 * 1024 + 1)) == "f.yaml:1:1: the file is larger than 4 MiB"


def test_the_cap_on_size_counts_bytes_and_comes_before_the_question_of_utf8():
    data = "é".encode() * (2 * 1024 * 1024 + 1)

    with pytest.raises(ServicesFileError, match="the file is larger than 4 MiB"):
        decode(data[: yaml_nodes.MAX_BYTES + 1], "f.yaml")


def test_a_short_text_of_long_characters_is_counted_in_bytes():
    assert problem("#" + "é" * (2 * 1024 * 1024)) == "f.yaml:1:1: the file is larger than 4 MiB"


def test_more_values_than_the_cap_are_refused_where_the_first_of_them_stands(monkeypatch: pytest.MonkeyPatch):
    # Reading the real 200,001 values takes seconds: the rule is shown with a lower cap.
    monkeypatch.setattr(yaml_nodes, "MAX_NODES", 100)

    said = problem(f"x-many: [{'1,' * 99}]\n{BODY}")

    assert said == "f.yaml:1:204: the file holds more than 100 values"


@pytest.mark.proof
def test_exactly_200000_values_are_read_through_aliases():
    # x-a weighs 1,000; the list with its 198 aliases and the rest stays below 200,000.
    parse(f"x-a: &a [{'1,' * 998}1]\nx-b: [{'*a,' * 198}]\n{BODY}", "f.yaml")

    said = problem(f"x-a: &a [{'1,' * 998}1]\nx-b: [{'*a,' * 200}]\n{BODY}")

    assert said.endswith("its aliases expand to more than 200,000 values")


_WORDS = st.sampled_from(
    [
        "version", "project", "services", "defaults", "app", "args", "tags", "contexts", "service:app", "size", "max",
        "500MB", "x-a", "<<", "&a", "*a", "!!str", "null", "~", "1", "${A}", "${", "$$", "|", ">", "---", "...", "%YAML",
        "'", '"', "\\", "[", "]", "{", "}", ",", ":", ": ", "- ", "? ", "#", "\n", "\n  ", "\n    ", "\t", " ", "\r\n",
        "\ufeff", "\x85", "\u2028", "é", "\U0001f600", "\\x41", "\\U00110000", "99999999999999999999",
    ]
)  # fmt: skip


def problems(text: str) -> tuple[Problem, ...] | None:
    """What is wrong with a text; None for nothing. Nothing but the one error comes out."""
    try:
        parse(text, "f.yaml", variables={"A": "1"})
    except ServicesFileError as error:
        return error.problems
    return None


def refused_or_read(text: str) -> None:
    found = problems(text)
    assert found is None or found
    assert all(problem.line >= 1 and problem.column >= 1 for problem in found or ())


@given(st.text())
def test_any_text_is_read_or_refused_and_nothing_else(text: str):
    refused_or_read(text)


@given(st.lists(_WORDS, max_size=40).map("".join))
@example("a: &a [*a]")
@example('a: "\\UFFFFFFFF"')
@example("%YAML 1.9\n---\na: 1")
@example("%YAML " + "9" * 5000 + ".1\n---\na: 1")
@example("services: {app: {size: {max: " + "9" * 400 + "TB}}}")
@example("project: '" + "${A:-" * 5000 + "'")
@example("".join(f"x{n}: &x{n} {'[' * 45}*x{n - 1}{']' * 45}\n" for n in range(1, 60)))
def test_any_text_made_of_yamls_own_marks_is_read_or_refused_and_nothing_else(text: str):
    refused_or_read(text)


@given(head=st.integers(0, len(BODY)), tail=st.integers(0, len(BODY)), between=st.lists(_WORDS, max_size=4))
def test_a_services_file_with_a_piece_replaced_is_read_or_refused_and_nothing_else(
    head: int, tail: int, between: list[str]
):
    refused_or_read(BODY[:head] + "".join(between) + BODY[tail:])


@given(st.binary())
def test_any_bytes_are_read_or_refused_and_nothing_else(data: bytes):
    try:
        text = decode(data, "f.yaml")
    except ServicesFileError:
        return
    refused_or_read(text)
