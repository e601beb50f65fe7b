"""Rules of one's own: found by name, asked like the others, and never trusted with a run's end."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from subjects import make_subject

from buildorch.errors import UsageError
from buildorch.own_policies import load
from buildorch.services import Policy

SUBJECT = make_subject(Policy())


@pytest.fixture
def package(tmp_path: Path) -> Iterator[Path]:
    """A project with a package of policies; its modules are forgotten afterwards."""
    folder = tmp_path / "own_rules"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    before, path = set(sys.modules), list(sys.path)
    yield folder
    for name in set(sys.modules) - before:
        del sys.modules[name]
    sys.path[:] = path


def asked(package: Path, code: str, function: str = "rule") -> tuple[tuple[str, str, str], ...]:
    (package / "images.py").write_text(f"from buildorch import Finding\n{code}")
    [policy] = load([f"own_rules.images:{function}"], package.parent)
    return tuple((one.rule, one.severity, one.message) for one in policy.findings(SUBJECT))


def test_a_function_of_the_project_is_asked(package: Path):
    code = "def rule(subject):\n    yield Finding(rule='r', severity='warning', message=','.join(subject.images))\n"

    assert asked(package, code) == (("r", "warning", "linux/amd64"),)


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("def rule(subject): raise KeyError('x')", "it raised KeyError: 'x'"),
        ("def rule(subject):\n    yield 1 / 0", "it raised ZeroDivisionError: division by zero"),
        ("def rule(): return []", "it raised TypeError: rule() takes 0 positional arguments but 1 was given"),
        ("def rule(subject): return None", "it raised TypeError: 'NoneType' object is not iterable"),
        ("def rule(subject): return ['bad']", "it gave 'bad' where a whole buildorch.Finding was expected"),
        ("def rule(subject): raise SystemExit(0)", "it raised SystemExit: 0"),
    ],
)
def test_a_function_that_fails_is_an_error_against_the_image(package: Path, code: str, message: str):
    assert asked(package, code) == (("own_rules.images:rule", "error", message),)


@pytest.mark.parametrize(
    "fields", ["severity='high', message='m'", "severity='error', message=7", "severity='error', message='m', line='1'"]
)
def test_a_finding_that_no_record_can_hold_is_an_error(package: Path, fields: str):
    code = f"def rule(subject): return [Finding(rule='r', {fields})]"

    [(rule, severity, message)] = asked(package, code)

    assert (rule, severity) == ("own_rules.images:rule", "error")
    assert "where a whole buildorch.Finding was expected" in message


def test_what_it_found_before_something_strange_counts(package: Path):
    code = "def rule(subject): return [Finding(rule='r', severity='error', message='m'), 7]"

    assert [rule for rule, _, _ in asked(package, code)] == ["r", "own_rules.images:rule"]


@pytest.mark.parametrize(
    ("name", "fact"),
    [
        ("nowhere.at_all:rule", "cannot be imported: ModuleNotFoundError"),
        ("own_rules.broken:rule", "cannot be imported: SyntaxError"),
        ("own_rules.ends:rule", "cannot be imported: SystemExit: 1"),
        ("own_rules:rule", "is no function"),
    ],
)
def test_a_function_that_is_not_there_is_told_before_anything_is_built(package: Path, name: str, fact: str):
    (package / "broken.py").write_text("def (")
    (package / "ends.py").write_text("raise SystemExit(1)")

    with pytest.raises(UsageError, match=fact):
        load([name], package.parent)
