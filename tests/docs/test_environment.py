"""The page of the environment variables against the code, both ways."""

from __future__ import annotations

import re

import environment
from pages import REFERENCE, code_spans, prose, section, table

PAGE = REFERENCE / "environment.md"
SET = "What is set for others"
GIVEN = "Names that your files give"


def rows() -> dict[str, str]:
    """Variable -> its row, of all tables but those of what is set and of names that files give."""
    headings = re.findall(r"^## (.+)$", prose(PAGE), re.MULTILINE)
    tables = [table(section(PAGE, heading)) for heading in headings if heading not in {SET, GIVEN}]
    found = {name: row for one in tables for name, row in one.items()}
    assert len(found) == sum(map(len, tables)), "a variable has two rows"
    return found


def last_cell(row: str) -> set[str]:
    return set(code_spans(row.rstrip().removesuffix("|").rsplit("| ", 1)[1]))


def test_every_variable_that_the_code_reads_is_on_the_page_and_no_other():
    assert set(rows()) == set(environment.read())


def test_the_page_names_the_files_that_read_a_variable_and_no_other():
    readers: dict[str, set[str]] = {}
    for name, row in rows().items():
        readers[row] = readers.get(row, set()) | environment.read().get(name, set())
    assert {row: last_cell(row) for row in readers} == readers


def test_every_variable_that_is_set_for_a_process_is_on_the_page_and_no_other():
    shown = table(section(PAGE, SET))
    setters = {name: places for name, places in environment.written().items() if name != "PYDANTIC_DISABLE_PLUGINS"}
    assert {name: last_cell(row) for name, row in shown.items()} == setters


def test_modules_that_read_names_given_by_files_are_on_the_page_and_no_other():
    lines = [line for line in section(PAGE, GIVEN).splitlines() if line.startswith("| ") and "`" in line]
    assert set[str]().union(*map(last_cell, lines)) == environment.whole()
