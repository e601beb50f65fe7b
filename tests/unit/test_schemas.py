"""The published schemas: what stands in docs/schemas is what the code gives, and fits what the code reads and writes."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from ruamel.yaml import YAML

from buildorch import events, record, services
from buildorch.errors import ServicesFileError
from buildorch.report import findings

SCHEMAS = {
    "services": services.json_schema,
    "run": record.run_schema,
    "events": events.events_schema,
    "check": findings.check_schema,
}


@cache
def _services() -> Any:
    return Draft202012Validator(services.json_schema())


def valid(document: object) -> bool:
    return _services().is_valid(document)


def plain(text: str) -> Any:
    return YAML(typ="safe", pure=True).load(text)


@pytest.mark.parametrize("name", SCHEMAS)
def test_the_published_schema_is_the_codes_own_to_the_byte(name: str, repository: Path):
    published = (repository / "docs" / "schemas" / f"{name}.schema.json").read_text("utf-8")

    assert published == json.dumps(SCHEMAS[name](), indent=2, ensure_ascii=False) + "\n"


@pytest.mark.parametrize("name", SCHEMAS)
def test_a_schema_is_a_schema(name: str):
    Draft202012Validator.check_schema(SCHEMAS[name]())


@pytest.mark.parametrize("path", ["services.yaml", "services/bases/services.yaml"])
def test_the_repositorys_own_services_files_fit_the_schema_and_the_code(path: str, repository: Path):
    text = (repository / path).read_text("utf-8")

    _services().validate(plain(text))
    services.parse(text, path, variables={"BUILDORCH_LOCAL_REGISTRY": "127.0.0.1:5000"})


def test_the_repositorys_services_file_names_its_schema_for_editors(repository: Path):
    first = (repository / "services.yaml").read_text("utf-8").splitlines()[0]

    path = first.removeprefix("# yaml-language-server: $schema=")
    assert (repository / path).is_file()


@pytest.mark.parametrize(
    "services_text",
    [
        "{app: }",
        "{app: {args: {V: 1.10, E: , B: true}}}",
        "{app: {size: {max: 500MB, target: 9}, timeout: 90}}",
        "{app: {tags: ['{git_sha}'], platforms: [linux/amd64], buildx: [--shm-size=1g]}}",
        "{app: {secrets: [{id: a, env: B}], policy: {user: non-root, min_stages: 2, bases: [x]}}}",
    ],
)
def test_what_the_code_reads_fits_the_schema(services_text: str):
    text = f"version: 1\nproject: shop\nx-own: 1\nservices: {services_text}"

    services.parse(text, "services.yaml")
    assert valid(plain(text))


@pytest.mark.parametrize(
    "services_text",
    [
        "{}",
        "{app: {colour: red}}",
        "{app: {tags: latest}}",
        "{App: {}}",
        "{app: {retries: 11}}",
        "{app: {network: bridge}}",
        "{app: {secrets: [{file: a}]}}",
        "{app: {buildx: [shm-size]}}",
    ],
)
def test_what_the_schema_can_say_against_a_file_the_code_says_too(services_text: str):
    text = f"version: 1\nproject: shop\nservices: {services_text}"

    with pytest.raises(ServicesFileError):
        services.parse(text, "services.yaml")
    assert not valid(plain(text))


def test_every_key_of_a_service_is_described_for_editors():
    keys = services.json_schema()["$defs"]["Service"]["properties"]

    assert [name for name, key in keys.items() if not key.get("description") and "$ref" not in key] == []
