from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from buildorch.services.interpolation import InterpolationError, interpolate

VARIABLES = {"SET": "value", "EMPTY": ""}


@pytest.mark.parametrize(
    ("text", "filled"),
    [
        ("plain", "plain"),
        ("$SET", "value"),
        ("${SET}", "value"),
        ("a${SET}b$SET-c", "avalueb" + "value-c"),
        ("${EMPTY}", ""),
        ("${SET:-other}", "value"),
        ("${EMPTY:-other}", "other"),
        ("${UNSET:-other}", "other"),
        ("${UNSET:-}", ""),
        ("${SET-other}", "value"),
        ("${EMPTY-other}", ""),
        ("${UNSET-other}", "other"),
        ("${SET:?message}", "value"),
        ("${EMPTY?message}", ""),
        ("${SET:+other}", "other"),
        ("${EMPTY:+other}", ""),
        ("${UNSET:+other}", ""),
        ("${EMPTY+other}", "other"),
        ("${UNSET+other}", ""),
        ("${UNSET:-${EMPTY:-${SET}}}", "value"),
        ("${UNSET:-a${SET}b}c", "avaluebc"),
        ("${UNSET:-{}}", "{}"),
        ("$$", "$"),
        ("$${SET}", "${SET}"),
        ("${UNSET:-$$}", "$"),
        ("$$$SET", "$value"),
    ],
)
def test_a_variable_is_filled_in_as_compose_does(text: str, filled: str):
    assert interpolate(text, VARIABLES) == filled


@pytest.mark.parametrize(
    "text", ["${SET:-${UNSET}}", "${SET:-${UNSET:?must}}", "${UNSET:+${UNSET}}", "${SET:-$UNSET${UNSET+${UNSET}}}"]
)
def test_the_side_that_is_not_used_may_name_variables_that_are_not_set(text: str):
    assert interpolate(text, VARIABLES) in {"value", ""}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("${UNSET}", "the variable UNSET is not set: set it, or give a default with ${UNSET:-default}"),
        ("$UNSET", "the variable UNSET is not set"),
        ("${UNSET:?run up first}", "the variable UNSET must be set: run up first"),
        ("${EMPTY:?}", "the variable EMPTY must be set"),
        ("${UNSET?no}", "the variable UNSET must be set: no"),
        ("${UNSET:-${OTHER}}", "the variable OTHER is not set"),
        ("cost: 5$", "a lone $ in 'cost: 5$': write $$ for a dollar sign"),
        ("$1", "a lone $"),
        ("${", "a variable's name must follow ${"),
        ("${}", "a variable's name must follow ${"),
        ("${1A}", "a variable's name must follow ${"),
        ("${SET", "after ${SET one of"),
        ("${SET!x}", "after ${SET one of } :- - :? ? :+ + must follow"),
        ("${SET:-x", "a ${ is never closed"),
        ("${UNSET:-${SET}", "a ${ is never closed"),
        ("${UNSET:-" * 60 + "x" + "}" * 60, "variables are nested deeper than 50"),
    ],
)
def test_a_variable_that_cannot_be_filled_in_is_named_with_the_reason(text: str, said: str):
    with pytest.raises(InterpolationError) as caught:
        interpolate(text, VARIABLES)

    assert said in str(caught.value)


@given(st.text())
def test_a_text_whose_dollars_are_doubled_comes_out_as_it_was(text: str):
    assert interpolate(text.replace("$", "$$"), {}) == text


@given(st.text(alphabet="${}:-?+AB "))
@example("${A:-" * 5000)
def test_any_text_is_filled_in_or_refused_and_nothing_else(text: str):
    try:
        filled = interpolate(text, {"A": "a"})
    except InterpolationError:
        return
    assert isinstance(filled, str)
