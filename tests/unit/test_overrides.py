"""`--set SERVICE.KEY=VALUE`."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buildorch.errors import EXIT_USAGE, ServicesFileError, UsageError
from buildorch.services import Override, ServicesFile, parse

FILE = """\
version: 1
project: shop
x-common: &common {args: {A: base}, labels: {L: base}}
services:
  api: {<<: *common, tags: [a, b]}
  web-one: {<<: *common}
  web-two:
"""


def parsed(*overrides: str) -> ServicesFile:
    return parse(FILE, "services.yaml", overrides=[Override.parse(text) for text in overrides])


def test_a_value_given_on_the_command_line_replaces_the_files_own():
    assert parsed("api.tags=[one, two]").merged("api").tags == ("one", "two")


def test_a_pattern_names_several_services():
    file = parsed("web-*.target=test")

    assert [file.merged(name).target for name in file.services] == [None, "test", "test"]


def test_a_star_names_every_service():
    file = parsed("*.tags=[latest]")

    assert {file.merged(name).tags for name in file.services} == {("latest",)}


def test_one_entry_of_a_mapping_is_set_and_the_others_stay():
    assert parsed("api.args.B=own").merged("api").args == {"A": "base", "B": "own"}


def test_what_another_service_shares_through_an_anchor_is_not_touched():
    file = parsed("api.args.A=own")

    assert file.merged("api").args == {"A": "own"}
    assert file.merged("web-one").args == {"A": "base"}


def test_a_service_that_is_another_ones_alias_is_set_alone():
    text = "version: 1\nproject: shop\nservices:\n  a: &a {network: host}\n  b: *a\n"

    file = parse(text, "services.yaml", overrides=[Override.parse("b.target=t")])

    assert (file.merged("a").target, file.merged("b").target) == (None, "t")
    assert file.merged("b").network == "host"


def test_the_name_of_an_argument_or_a_label_may_hold_dots():
    file = parsed("api.labels.org.example.team=core", "api.contexts.lib.v1=../lib")

    assert file.merged("api").labels == {"L": "base", "org.example.team": "core"}
    assert file.merged("api").contexts == {"lib.v1": "../lib"}


@pytest.mark.parametrize(
    ("text", "value"),
    [("1.10", "1.10"), ("a=b", "a=b"), ("'quoted'", "quoted"), ("${REF:-x}", "x"), ("", ""), ("null", None)],
)
def test_a_value_is_yaml_and_stays_as_it_was_written(text: str, value: str | None):
    assert parsed(f"api.args.V={text}").merged("api").args["V"] == value


def test_the_last_of_two_overrides_of_one_key_counts():
    assert parsed("api.target=one", "api.target=two").merged("api").target == "two"


def test_a_key_below_a_service_without_a_word_is_made():
    assert parsed("web-two.size.max=1GB").merged("web-two").size is not None


@pytest.mark.parametrize("text", ["", "api", "api=x", "api.=x", ".target=x", "api.target", "api..x=1", "=", "."])
def test_a_wrong_form_is_refused_with_an_example(text: str):
    with pytest.raises(UsageError, match=r"is not SERVICE\.KEY=VALUE") as caught:
        Override.parse(text)

    assert caught.value.exit_code == EXIT_USAGE
    assert caught.value.hint == "for example --set backend.target=test"


def test_a_service_that_is_not_there_is_refused_with_the_nearest_name():
    with pytest.raises(UsageError, match="--set apy: there is no such service") as caught:
        parsed("apy.target=x")

    assert caught.value.hint == "did you mean 'api'?"


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("api.tragte=x", "unknown key 'tragte' (did you mean 'target'?)"),
        ("api.retries=many", "a whole number was expected, for services.api.retries"),
        ("api.tags=[x", "--set api.tags:1:3: this is not YAML"),
        ("api.target=*gone", "--set api.target:1:1: the alias *gone has no anchor before it"),
    ],
)
def test_a_wrong_value_is_a_problem_as_it_would_be_in_the_file(override: str, said: str):
    with pytest.raises(ServicesFileError) as caught:
        parsed(override)

    assert said in str(caught.value)


@given(st.text(alphabet="api.*web-tagsx={[]}:'\"&$ \n", max_size=30))
def test_any_override_is_applied_or_refused_and_nothing_else(text: str):
    try:
        file = parsed(text)
    except UsageError:
        return
    assert list(file.services) == ["api", "web-one", "web-two"]
