"""The public names, and what they cost: nothing heavy is loaded before it is needed."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

import buildorch
from buildorch import errors

HEAVY = {
    "pydantic",
    "anyio",
    "click",
    "rich",
    "structlog",
    "python_on_whales",
    "ruamel.yaml",
    "h2",
    "zstandard",
    "trio",
    "jinja2",
    "pygal",
    "opentelemetry",
}


def loaded_by(code: str) -> set[str]:
    """The modules a fresh interpreter holds after the code."""
    script = f"import sys\n{code}\nprint(chr(10).join(sys.modules), file=sys.__stdout__)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(done.stdout.splitlines())


def test_importing_buildorch_loads_nothing_heavy():
    loaded = loaded_by("import buildorch")

    assert loaded & HEAVY == set()
    assert {name for name in loaded if name.startswith("buildorch.")} == set()


@pytest.mark.proof
def test_help_loads_nothing_that_only_a_build_needs():
    loaded = loaded_by(
        "import io, buildorch.cli\nsys.stdout = io.StringIO()\nbuildorch.cli.main(['build-all', '--help'])"
    )

    assert "click" in loaded
    assert loaded & (HEAVY - {"click"}) == set()


@pytest.mark.proof
def test_the_plan_loads_nothing_that_only_a_terminal_or_an_engine_needs(tmp_path: Path):
    (tmp_path / "Dockerfile").write_text("FROM scratch\n")
    (tmp_path / "s.yaml").write_text("version: 1\nproject: p\nservices: {a: {context: .}}\n")

    loaded = loaded_by(
        f"import io, buildorch.cli\nsys.stdout = io.StringIO()\nassert buildorch.cli.main(['plan', '-f', '{tmp_path}/s.yaml']) == 0"
    )

    assert loaded & {"rich", "structlog", "python_on_whales", "h2", "zstandard", "trio"} == set()


def test_every_public_name_is_there_and_documented():
    for name in buildorch.__all__:
        value = getattr(buildorch, name)
        assert name == "__version__" or getattr(value, "__doc__", None) or name == "Event"


def test_the_public_names_are_listed_by_dir_and_by_their_homes():
    assert dir(buildorch) == sorted(buildorch.__all__)
    assert set(buildorch._HOMES) == set(buildorch.__all__) - {"__version__"}


def test_what_type_checkers_see_is_what_there_is_to_import():
    tree = ast.parse(Path(buildorch.__file__).read_text())
    block = next(node for node in tree.body if isinstance(node, ast.If))
    seen = {
        alias.name: str(node.module).removeprefix("buildorch.")
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }

    assert seen == buildorch._HOMES


def test_a_name_that_is_not_public_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'buildorch' has no attribute 'nothing'"):
        _ = buildorch.nothing


def test_the_version_is_the_installed_packages():
    assert metadata.version("buildorch") == buildorch.__version__


def test_the_package_says_it_is_typed():
    assert Path(buildorch.__file__).with_name("py.typed").is_file()


MODULES = [
    str(path.relative_to(Path(buildorch.__file__).parents[1]).with_suffix(""))
    .replace("/", ".")
    .removesuffix(".__init__")
    for path in sorted(Path(buildorch.__file__).parent.rglob("*.py"))
]


@pytest.mark.parametrize("name", MODULES)
def test_a_modules_first_words_say_what_it_takes_gives_and_touches(name: str):
    module = importlib.import_module(name)

    text = module.__doc__ or ""
    if name not in {"buildorch", "buildorch.__main__", "buildorch.api"}:
        assert "In:" in text
        assert "Out:" in text
    assert text.strip()


def test_the_tree_of_errors_is_the_one_its_module_draws():
    drawn = {
        words[0].lstrip("│├└─ "): words[1]
        for line in (errors.__doc__ or "").splitlines()
        if (words := line.replace("│   ", "").replace("├── ", "").replace("└── ", "").split()) and words[0][0].isupper()
        if len(words) > 1 and words[1].isdigit()
    }
    found = {
        name: str(value.exit_code)
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, errors.BuildorchError)
    }

    assert drawn == {name: code for name, code in found.items() if name in drawn}
    assert found.keys() - drawn.keys() == {"BuildorchError", "BuildFailed", "HandoffRefused"}


def test_the_first_error_of_buildorchs_own_is_found_inside_of_groups():
    own = errors.EngineUnreachable("unix:///x", "gone")
    group = BaseExceptionGroup("outer", [ValueError(), BaseExceptionGroup("inner", [own])])

    assert errors.first_own(group) is own


def test_an_error_that_is_alone_in_its_groups_is_the_one_to_show():
    alone = ValueError()
    group = BaseExceptionGroup("outer", [BaseExceptionGroup("inner", [alone])])

    assert errors.first_own(group) is alone


def test_a_group_of_several_errors_that_are_not_buildorchs_own_is_given_back():
    group = BaseExceptionGroup("outer", [ValueError(), KeyError()])

    assert errors.first_own(group) is group


@pytest.mark.parametrize(("word", "said"), [("tragte", "did you mean 'target'?"), ("zzz", ""), ("", "")])
def test_a_suggestion_is_made_only_where_something_is_near(word: str, said: str):
    assert errors.did_you_mean(word, ["target", "tags"]) == said
