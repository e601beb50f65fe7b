"""The documentation against the code: what it names is there, what is there it names."""

from __future__ import annotations

import ast
import dataclasses
import importlib
import inspect
import json
import re
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import click
import jsonschema
import pytest
from pages import DOCS, PAGES, REFERENCE, ROOT, Block, blocks_of, code_spans, prose, section, table
from pydantic import BaseModel
from ruamel.yaml import YAML

import buildorch
from buildorch import errors, events, policy, record, replaying, testing
from buildorch.buildx.failures import TREATMENTS, classify
from buildorch.buildx.progress import Progress
from buildorch.cli.commands import app
from buildorch.services import Attestations, Policy, Secret, Service, ServicesFile, Size, parse
from buildorch.services.model import Smoke
from buildorch.services.types import PLACEHOLDERS

TWO_SCREENS = 110

_LINK = re.compile(r"\]\((?P<target>[^)\s]+)\)")
COMMANDS = {name: app.get_command(click.Context(app), name) for name in app.list_commands(click.Context(app))}
BLOCKS = [block for page in PAGES for block in blocks_of(page)]


def each(language: str) -> pytest.MarkDecorator:
    """Parametrize a test over every block of a language; a language without one would be a broken pattern here."""
    chosen = [block for block in BLOCKS if block.language == language]
    assert chosen, f"no block of {language}"
    return pytest.mark.parametrize("block", chosen, ids=[block.place for block in chosen])


def fields(kind: type) -> set[str]:
    return {field.name for field in dataclasses.fields(kind)}


# The pages themselves


def test_the_readme_fits_on_two_screens():
    assert len((ROOT / "README.md").read_text().splitlines()) <= TWO_SCREENS


@pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(ROOT)) for page in PAGES])
def test_relative_links_lead_somewhere(page: Path):
    for target in _LINK.findall(prose(page)):
        if target.startswith(("https://", "http://")):
            continue
        path, _, anchor = target.partition("#")
        there = (page.parent / path) if path else page
        assert there.is_file(), f"{target} does not exist"
        if anchor:
            headings = re.findall(r"^#+ +(.+)$", there.read_text(), flags=re.MULTILINE)
            assert anchor in {slug(heading) for heading in headings}, f"{target}: there is no such heading"


def slug(heading: str) -> str:
    """A heading's anchor, as Python-Markdown makes it."""
    return re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", heading).strip().lower())


def test_pages_the_code_points_at_exist():
    folders = "|".join(path.name for path in DOCS.iterdir() if path.is_dir())
    ours = re.compile(rf"docs/(?:(?:{folders})/[\w./-]*\w|[\w-]+\.md)")
    for source in (
        *sources("buildorch", "scripts", "bench"),
        *(ROOT / name for name in ("Makefile", "pyproject.toml")),
    ):
        for named in ours.findall(source.read_text()):
            assert list(ROOT.glob(f"{named}*")), f"{source.relative_to(ROOT)} names {named}"


def sources(*folders: str) -> list[Path]:
    """The repository's own files in some of its folders, without what tools keep there."""
    found = [path for folder in folders for path in (ROOT / folder).rglob("*") if path.is_file()]
    return [
        path
        for path in found
        if not any(part.startswith((".", "__pycache__")) for part in path.relative_to(ROOT).parts)
    ]


def test_every_decision_has_its_parts_and_its_line_in_the_index():
    index = (DOCS / "adr" / "index.md").read_text()
    decisions = sorted((DOCS / "adr").glob("[0-9]*.md"))
    assert [path.name[:4] for path in decisions] == [f"{at:04}" for at in range(1, len(decisions) + 1)]
    for path in decisions:
        text = path.read_text()
        assert text.startswith(f"# {path.name[:4]}: ")
        assert "**Status:**" in text
        for heading in ("Context", "Decision", "Consequences"):
            assert section(path, heading).strip()
        assert f"]({path.name})" in index


def test_the_bench_has_one_place_to_write_its_table_to():
    text = (DOCS / "performance.md").read_text()
    assert text.count("<!-- bench:begin -->") == 1
    assert text.count("<!-- bench:end -->") == 1
    assert text.index("<!-- bench:begin -->") < text.index("<!-- bench:end -->")


# The examples


@each("python")
def test_python_example_compiles_and_names_what_is_public(block: Block):
    tree = ast.parse(block.body, filename=block.place)
    compile(tree, block.place, "exec")
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "buildorch":
            assert node.attr in buildorch.__all__, f"buildorch.{node.attr} is not public"
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("buildorch."):
            module = importlib.import_module(node.module or "")
            assert all(hasattr(module, name.name) for name in node.names), f"{node.module} has no such name"


@each("yaml")
def test_yaml_example_is_a_services_file_that_parses_or_is_yaml(block: Block):
    if block.body.startswith("version: 1\n"):
        parse(block.body, block.place, variables={"REGISTRY": "registry.example.com"})
    else:
        assert YAML(typ="safe", pure=True).load(block.body)


@each("json")
def test_json_example_parses(block: Block):
    json.loads(block.body)


def test_the_example_record_is_a_record():
    [example] = [block for block in BLOCKS if block.place.startswith("docs/reference/run-record.md")]
    shown = json.loads(example.body)
    jsonschema.validate(shown, record.run_schema())
    assert set(shown) == fields(record.Report)
    [service] = shown["services"].values()
    assert set(service) == fields(record.ServiceRecord)


@each("sh")
def test_shell_example_is_a_shell_script(block: Block):
    done = subprocess.run(["sh", "-n"], input=block.body, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@each("sh")
def test_commands_in_shell_examples_have_the_options_they_are_given(block: Block):
    for line in re.findall(r"(?:-m |\b|/)buildorch ([a-z-]+(?: [^\n|;&]*)?)", block.body):
        name, *words = line.split()
        if name not in COMMANDS:
            continue
        known = {option for parameter in COMMANDS[name].params for option in parameter.opts + parameter.secondary_opts}
        used = {word.split("=", 1)[0] for word in words if re.match(r"--?[a-z]", word)}
        assert used <= known, f"buildorch {name} has no {used - known}"


@each("make")
def test_makefile_example_is_understood_by_make(block: Block, tmp_path: Path):
    (tmp_path / "Makefile").write_text(block.body)
    done = subprocess.run(["make", "-n", "deploy"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


# The reference


COMMANDS: dict[str, click.Command] = {
    name: command
    for word, one in sorted(COMMANDS.items())
    for name, command in (
        {f"{word} {inner}": found for inner, found in one.commands.items()}
        if isinstance(one, click.Group)
        else {word: one}
    ).items()
}
"""Each command by the words it is called with."""


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_of_a_command_is_on_its_page_and_no_other(name: str):
    heading = {"build": "build-all", "explain": "plan"}.get(name, name)  # these take the options of those
    rows = table(section(REFERENCE / "command.md", heading))
    documented = {span.split()[0]: row for span, row in rows.items() if span.startswith("-")}
    options = [parameter for parameter in COMMANDS[name].params if isinstance(parameter, click.Option)]
    known = {flag for option in options for flag in option.opts + option.secondary_opts} | {"-h", "--help"}
    assert set(documented) == known
    for option in options:
        if isinstance(option.type, click.Choice):
            row = documented[option.opts[-1]]
            assert all(f"`{choice}`" in row for choice in option.type.choices), f"{option.opts[-1]}: {row}"


def test_every_command_has_a_section_and_an_entry_in_the_overview():
    page = REFERENCE / "command.md"
    overview = next(block.body for block in blocks_of(page))
    for name in COMMANDS:
        assert section(page, name)
        assert f"buildorch {name} " in overview


def test_every_choice_of_schema_is_named():
    [argument] = COMMANDS["schema"].params
    assert isinstance(argument.type, click.Choice)
    assert f"[{'|'.join(argument.type.choices)}]" in (REFERENCE / "command.md").read_text()


def test_every_exit_code_is_documented_and_no_other():
    constants = {name: value for name, value in vars(errors).items() if name.startswith("EXIT_")}
    rows = re.findall(r"^\| (\d+) \| (?:`(\w+)`)? ?\|", (REFERENCE / "exit-codes.md").read_text(), re.MULTILINE)
    assert {name: int(code) for code, name in rows if name} == constants
    readme = section(ROOT / "README.md", "Exit codes")
    assert {int(code) for code in re.findall(r"\b\d+\b", readme)} == set(constants.values())


def failure_rows() -> dict[str, list[str]]:
    """A kind -> the other cells of its row; every kind has one row."""
    lines = re.findall(r"^\| `(\w+)` \|(.*)\|$", (REFERENCE / "failure-kinds.md").read_text(), re.MULTILINE)
    rows = {kind: [cell.strip() for cell in rest.split(" | ")] for kind, rest in lines}
    assert len(rows) == len(lines)
    return rows


def test_every_failure_kind_is_documented_and_no_other():
    assert set(failure_rows()) == {str(kind) for kind in record.FailureKind}


@pytest.mark.parametrize("kind", list(record.FailureKind))
def test_what_is_said_of_a_failure_kind_is_what_is_done(kind: record.FailureKind):
    _, example, again, code, advice = failure_rows()[kind]
    treatment = TREATMENTS[kind]

    assert (again.partition(",")[0], int(code)) == ("yes" if treatment.transient else "no", treatment.exit_code)
    assert advice
    if treatment.patterns or kind in {"step_failed", "out_of_memory"}:
        progress = Progress("app")
        progress.feed(f"ERROR: {example.strip('`')}\n".encode())
        assert kind in {classify(progress, 1).kind, record.FailureKind.CANCELLED}


def test_the_failure_kinds_stand_nowhere_else():
    listing = [page.name for page in PAGES if sum(f"| `{kind}` |" in page.read_text() for kind in TREATMENTS) > 2]
    assert listing == ["failure-kinds.md"]


MODELS: list[tuple[str, type[BaseModel]]] = [
    ("The file", ServicesFile),
    ("A service", Service),
    ("Size", Size),
    ("Policy", Policy),
    ("Smoke", Smoke),
    ("Secrets", Secret),
    ("Attestations", Attestations),
]


@pytest.mark.parametrize(("heading", "model"), MODELS, ids=[heading for heading, _ in MODELS])
def test_every_key_of_the_services_file_is_documented_with_its_choices_and_no_other(
    heading: str, model: type[BaseModel]
):
    rows = table(section(REFERENCE / "services-file.md", heading))
    assert set(rows) == set(model.model_fields)
    for key, field in model.model_fields.items():
        assert field.is_required() == rows[key].endswith("| required |"), key
        for choice in literals(field.annotation):
            assert f"`{choice}`" in rows[key], f"{key}: {choice} is not named"


def literals(annotation: Any) -> Iterator[str]:
    """The texts of every Literal in an annotation."""
    for argument in get_args(annotation):
        if isinstance(argument, str):
            yield argument
        else:
            yield from literals(argument)


def test_every_placeholder_of_a_tag_is_documented_and_no_other():
    rows = table(section(REFERENCE / "services-file.md", "Tags"))
    assert set(rows) == {f"{{{name}}}" for name in PLACEHOLDERS}


RECORDS = [
    record.Report,
    record.ServiceRecord,
    record.PlatformRecord,
    record.Layer,
    record.Steps,
    record.Step,
    record.Budget,
    record.Finding,
    record.Failure,
    record.EngineFacts,
    record.GitFacts,
]


@pytest.mark.parametrize("kind", RECORDS, ids=[kind.__name__ for kind in RECORDS])
def test_every_field_of_the_record_is_documented_and_no_other(kind: type):
    assert set(table(section(REFERENCE / "run-record.md", kind.__name__))) == fields(kind)


def test_every_kind_of_value_in_the_record_has_a_section():
    reachable = set(record.run_schema()["$defs"]) - {"FailureKind"} | {"Report"}
    assert reachable == {kind.__name__ for kind in RECORDS}


def test_every_status_and_every_rule_is_named():
    page = REFERENCE / "run-record.md"
    statuses = table(section(page, "ServiceRecord"))["status"]
    assert all(f"`{status}`" in statuses for status in get_args(record.Status))
    named = table(section(page, "Finding"))["rule"]
    assert all(f"`{name}`" in named for name in policy.RULES)


EVENTS = get_args(events.Event)


@pytest.mark.parametrize("kind", EVENTS, ids=[kind.__name__ for kind in EVENTS])
def test_every_field_of_an_event_is_documented_and_no_other(kind: type):
    [name] = [field.default for field in dataclasses.fields(kind) if field.name == "event"]
    assert set(table(section(REFERENCE / "events.md", str(name)))) == fields(kind) - {"event"}


def test_every_event_has_a_section_and_nothing_else_has_one():
    headings = re.findall(r"^## (.+)$", prose(REFERENCE / "events.md"), re.MULTILINE)
    names = [field.default for kind in EVENTS for field in dataclasses.fields(kind) if field.name == "event"]
    assert sorted(headings) == sorted(names)


def test_what_a_solve_leaves_is_described_where_it_is_an_events_field():
    row = table(section(REFERENCE / "events.md", "solve_finished"))["solved"]
    assert all(f"`{field}`" in row for field in fields(record.Solved))


def test_every_public_name_is_documented():
    page = (REFERENCE / "api.md").read_text()
    headings = set(re.findall(r"^## (\w+)$", page, re.MULTILINE))
    for name in set(buildorch.__all__) - {"__version__"}:
        assert name in headings or re.search(rf"`{name}\b", page), f"{name} is not on the page"
    assert "buildorch.__version__" in page


def test_the_arguments_of_build_are_those_of_its_page():
    signature = inspect.signature(buildorch.build)
    text = section(REFERENCE / "api.md", "build")
    assert set(table(text)) == set(signature.parameters)
    shown = " ".join(text.split("`", 2)[1].split())
    for parameter in signature.parameters.values():
        default = json.dumps(parameter.default) if isinstance(parameter.default, str) else repr(parameter.default)
        assert f"{parameter.name}={default}" in shown
    request = section(REFERENCE / "api.md", "BuildRequest")
    assert all(f"`{name}`" in request for name in fields(buildorch.BuildRequest))


def call(name: str, value: Any) -> str:
    """How something is called, with its defaults, as the page shows it; "..." for what is made anew for each."""
    shown = []
    star = False
    for one in inspect.signature(value).parameters.values():
        if one.kind is one.KEYWORD_ONLY and not star:
            shown.append("*")
            star = True
        plain = str(one.default) if isinstance(one.default, record.FailureKind) else one.default
        default = "..." if "factory" in repr(plain) else repr(plain).replace("PosixPath", "Path")
        shown.append(one.name if one.default is one.empty else f"{one.name}={default}")
    return f"{name}({', '.join(shown)})"


def test_every_function_of_the_package_is_shown_as_it_is_called():
    page = " ".join((REFERENCE / "api.md").read_text().split()).replace('"', "'")
    for name in buildorch.__all__:
        value = getattr(buildorch, name)
        if inspect.isfunction(value):
            assert f"`{call(name, value)}" in page.replace("`await ", "`"), call(name, value)


@pytest.mark.parametrize(("module", "heading"), [(testing, "For your own tests"), (replaying, "replay")])
def test_every_public_name_of_the_modules_for_users_is_shown_as_it_is_called_and_no_other(module: Any, heading: str):
    public = {
        name: value
        for name, value in vars(module).items()
        if not name.startswith("_") and getattr(value, "__module__", "") == module.__name__
    }
    assert set(table(section(REFERENCE / "api.md", heading))) == {call(name, value) for name, value in public.items()}


def test_the_exit_code_beside_an_error_is_the_one_it_carries():
    rows = table(section(REFERENCE / "api.md", "Errors"))
    for name, row in rows.items():
        if (code := row.rsplit("| ", 1)[1].rstrip(" |")).isdigit():
            assert getattr(errors, name).exit_code == int(code), name
    assert set(rows) <= set(buildorch.__all__) | {"HandoffRefused"}


def test_every_error_is_named_on_the_api_page():
    page = section(REFERENCE / "api.md", "Errors")
    for name, value in vars(errors).items():
        if inspect.isclass(value) and issubclass(value, errors.BuildorchError):
            assert f"`{name}`" in page, f"{name} is not on the page"


def test_every_runtime_dependency_is_explained_and_no_other():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    names = {re.match(r"[\w.-]+", text)[0] for text in project["dependencies"]}
    rows = re.findall(r"^\| ([\w.-]+) \|", (DOCS / "dependencies.md").read_text(), re.MULTILINE)
    assert set(rows) - {"package"} == names


def test_the_map_of_the_code_names_every_module_and_no_other():
    rows = {name.removesuffix("/").removesuffix(".py") for name in table(section(ROOT / "CONTRIBUTING.md", "The code"))}
    here = {
        path.stem for path in (ROOT / "buildorch").iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()
    }
    assert rows == here - {"__init__"}


def test_every_make_target_is_in_contributing():
    targets = re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE)
    named = code_spans(section(ROOT / "CONTRIBUTING.md", "Setup"))
    assert {f"make {target}" for target in targets} - {"make help"} <= set(named)
