"""A services file that was parsed before is recalled as it was, or parsed again."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from buildorch import project
from buildorch.errors import ServicesFileError
from buildorch.plan import Selection, resolve
from buildorch.services import Override, ServicesFile, parse, parsing
from buildorch.services.memory import Consulted, Recalled, key_of, recall, remembered

EVERYTHING = """
version: 1
project: shop
defaults:
  registry: registry.example.com/team
  labels: {org.opencontainers.image.source: https://example.com}
  policy: {user: non-root}
services:
  base:
  app:
    context: src
    dockerfile: docker/Dockerfile
    target: run
    args: {VERSION: "1.10", FROM_ENVIRONMENT: }
    contexts: {base: service:base, lib: lib}
    secrets: [{id: token, env: TOKEN}, {id: key, file: key.pem}]
    ssh: [default]
    cache_from: [type=gha]
    cache_to: [type=inline]
    labels: {a: b}
    annotations: {"index:a": b}
    platforms: [linux/amd64, linux/arm64]
    outputs: ["type=image,push=true"]
    network: none
    no_cache_filter: [run]
    attestations: {provenance: max, sbom: true}
    builder: big
    retries: 3
    timeout: 20m
    max_age: 24h
    tags: ["{git_sha}", latest]
    size: {max: 500MB, target: 400MB, of: compressed}
    policy: {min_stages: 2, bases: ["python:*"]}
    buildx: [--shm-size=1g]
"""


def kept(text: str, variables: Mapping[str, str] = {}) -> str | None:
    """What is remembered of a text."""
    consulted = Consulted(variables)
    return remembered(parse(text, "services.yaml", variables=consulted), "the key", consulted)


def recalled(text: str, variables: Mapping[str, str] = {}, *, key: str = "the key") -> ServicesFile | None:
    return recall(kept(text, variables) or "", key, variables)


def attributes(value: Any) -> Any:
    """A model or a recalled value as plain data, types of sequences and numbers included."""
    if isinstance(value, BaseModel):
        return "with attributes", {name: attributes(getattr(value, name)) for name in type(value).model_fields}
    if isinstance(value, Recalled):
        return "with attributes", {name: attributes(found) for name, found in vars(value).items()}
    if isinstance(value, tuple):
        return tuple(map(attributes, value))
    if isinstance(value, Mapping):
        return {name: attributes(found) for name, found in value.items()}
    return (type(value).__name__, value)


def test_a_recalled_service_has_every_attribute_that_its_model_has():
    file, found = parse(EVERYTHING, "services.yaml"), recalled(EVERYTHING)

    assert found is not None
    assert found.project == file.project
    assert {name: attributes(found.merged(name)) for name in found.services} == {
        name: attributes(file.merged(name)) for name in file.services
    }


def test_the_plan_of_a_recalled_file_is_the_plan_of_the_file():
    file, found = parse(EVERYTHING, "services.yaml"), recalled(EVERYTHING)
    plans = [
        resolve(one, Selection(), root=Path("/project"), revision=project.Revision("a" * 40, "main", dirty=False))
        for one in (file, found)
        if one is not None
    ]

    assert len(plans) == 2
    assert plans[0].to_json() == plans[1].to_json()


def test_a_recalled_value_cannot_change():
    found = recalled(EVERYTHING)

    assert found is not None
    with pytest.raises(AttributeError, match="does not change"):
        found.merged("app").retries = 9


VARIABLES = "version: 1\nproject: shop\nservices: {app: {registry: '${REGISTRY:-}', args: {A: '${A-none}'}}}"


def test_a_file_whose_variables_are_not_set_is_recalled_while_they_are_not():
    text = kept(VARIABLES, {"OTHER": "x"})

    assert text is not None
    assert recall(text, "the key", {"OTHER": "y"}) is not None
    assert recall(text, "the key", {"A": ""}) is None


@pytest.mark.parametrize("variables", [{"REGISTRY": "r.example.com"}, {"A": "hunter2"}, {"REGISTRY": ""}])
def test_the_value_of_a_variable_is_never_kept(variables: Mapping[str, str]):
    assert kept(VARIABLES, variables) is None


@pytest.mark.parametrize("text", ["", "[]", "{", '{"key": "the key"}', '{"key": "the key", "unset": 7}', "null"])
def test_what_was_not_kept_is_not_recalled(text: str):
    assert recall(text, "the key", {}) is None


def test_what_belongs_to_another_file_or_other_code_is_not_recalled():
    assert recalled(EVERYTHING, key="another") is None
    assert (
        len({key_of(b"a", []), key_of(b"b", []), key_of(b"a", ["x"]), key_of(b"a", ["x", "y"]), key_of(b"ax", [])}) == 5
    )


# --- with a project


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "services.yaml"
    path.write_text("version: 1\nproject: shop\nservices:\n  app:\n    args: {A: b}\n")
    (tmp_path / "services" / "app").mkdir(parents=True)
    (tmp_path / "services" / "app" / "Dockerfile").write_text("FROM scratch\n")
    (tmp_path / ".buildorch").mkdir()
    return path


@pytest.fixture
def unparsed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is parsed from here on."""
    seen: list[str] = []
    whole = parsing.examine

    def examine(text: str, *arguments: Any, **options: Any) -> Any:
        seen.append(text)
        return whole(text, *arguments, **options)

    monkeypatch.setattr(parsing, "examine", examine)
    return seen


def read(file: Path, overrides: Sequence[Override] = ()) -> project.Project:
    """Read as a run does."""
    found = project.read(file, memory=True, overrides=overrides)
    found.remember()
    return found


def test_a_file_is_parsed_once(file: Path, unparsed: list[str]):
    first, second = (read(file).file for _ in range(2))

    assert len(unparsed) == 1
    assert second.merged("app").args == first.merged("app").args == {"A": "b"}


def test_a_file_that_was_edited_is_parsed_again(file: Path, unparsed: list[str]):
    read(file)
    file.write_text(file.read_text().replace("A: b", "A: c"))

    assert read(file).file.merged("app").args == {"A": "c"}
    assert len(unparsed) == 2


def test_code_that_changed_parses_it_again(file: Path, unparsed: list[str], monkeypatch: pytest.MonkeyPatch):
    read(file)
    monkeypatch.setattr(project, "__version__", "another")

    read(file)

    assert len(unparsed) == 2


def test_without_being_told_to_nothing_is_recalled_or_kept(file: Path, unparsed: list[str]):
    for _ in range(2):
        assert isinstance(project.read(file).file, ServicesFile)

    assert len(unparsed) == 2
    assert list((file.parent / ".buildorch").iterdir()) == []


def test_overrides_are_parsed_and_not_kept(file: Path, unparsed: list[str]):
    override = Override.parse("app.args.A=hunter2")
    read(file)

    assert read(file, [override]).file.merged("app").args == {"A": "hunter2"}
    assert read(file).file.merged("app").args == {"A": "b"}
    assert len(unparsed) == 2


def test_only_its_owner_may_read_what_is_kept(file: Path):
    read(file)

    [path] = (file.parent / ".buildorch").iterdir()
    assert path.stat().st_mode & 0o777 == 0o600
    assert json.loads(path.read_text())["project"] == "shop"


def test_where_nothing_can_be_kept_it_is_parsed_every_time(file: Path, unparsed: list[str]):
    (file.parent / ".buildorch").rmdir()

    for _ in range(2):
        read(file)

    assert len(unparsed) == 2
    assert {path.name for path in file.parent.iterdir()} == {"services.yaml", "services"}


def test_a_folder_that_went_away_is_told_with_its_line_though_the_file_was_recalled(file: Path):
    read(file)
    (file.parent / "services" / "app" / "Dockerfile").unlink()
    found = read(file)
    planned = resolve(found.file, Selection(), root=file.parent)

    with pytest.raises(ServicesFileError) as error:
        project.require_inputs(found, planned)

    [problem] = error.value.problems
    assert (problem.line, "no Dockerfile at services/app/Dockerfile" in problem.message) == (5, True)
