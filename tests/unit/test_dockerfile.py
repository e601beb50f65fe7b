from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buildorch.dockerfile import read


def bases(text: str, **arguments: str) -> list[str]:
    return [stage.base for stage in read(text, arguments).stages]


def test_stages_are_read_with_name_base_and_line():
    stages = read("# syntax=docker/dockerfile:1\nFROM a AS One\nRUN x\nfrom b\nFROM one\n", {}).stages

    assert [(stage.name, stage.base, stage.line, stage.from_stage) for stage in stages] == [
        ("one", "a", 2, False),
        ("1", "b", 4, False),
        ("2", "one", 5, True),
    ]


def test_images_are_what_is_neither_a_stage_nor_scratch():
    assert [stage.base for stage in read("FROM a AS x\nFROM scratch\nFROM X\nFROM b", {}).images] == ["a", "b"]


@pytest.mark.parametrize(
    ("text", "arguments", "base"),
    [
        ("ARG V=3.13\nFROM python:$V", {}, "python:3.13"),
        ("ARG V=3.13\nFROM python:${V}-slim", {"V": "3.12"}, "python:3.12-slim"),
        ('ARG V="3.13"\nFROM python:$V', {}, "python:3.13"),
        ("FROM python:${V:-3.11}", {}, "python:3.11"),
        ("ARG V\nFROM python:${V-3.11}", {}, "python:3.11"),
        ("ARG V=1\nFROM x\nARG V=2\nFROM x:$V", {}, "x:1"),
        ("FROM --platform=$BUILDPLATFORM python:3", {}, "python:3"),
        ("FROM \\\n  python:3 \\\n  AS x", {}, "python:3"),
    ],
)
def test_a_base_is_read_with_its_arguments_filled_in(text: str, arguments: dict[str, str], base: str):
    assert bases(text, **arguments)[-1] == base


@given(st.text(alphabet=st.sampled_from("FROMARGasx \n\\\t$V={}:-#\"'<E[]1é\0\r"), max_size=80))
def test_any_text_is_read_or_refused_with_a_value_error(text: str):
    try:
        read(text, {"V": "x"})
    except ValueError:
        return
