"""The build sections of a Compose file -> services: each attribute of the specification is there or told."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from buildorch.errors import ServicesFileError
from buildorch.interop.assembling import drafted, services_file, unset
from buildorch.interop.compose import targets_found
from buildorch.interop.importing import Folders
from buildorch.interop.told import lines
from buildorch.services import Service, ServicesFile, parse
from buildorch.services.yaml_nodes import MAX_DEPTH

FOLDERS = Folders("/p", "/p")

BUILD: dict[str, tuple[str, dict[str, Any], str]] = {
    "additional_contexts": (
        "{lib: ./lib, os: 'docker-image://debian'}",
        {"contexts": {"lib": "lib", "os": "docker-image://debian"}},
        "",
    ),
    "additional_contexts, a list": (
        "[lib=./lib, 'b=service:base']",
        {"contexts": {"lib": "lib", "b": "service:base"}},
        "",
    ),
    "args": ("{A: 1.10, FROM_ENVIRONMENT: , E: ''}", {"args": {"A": "1.10", "FROM_ENVIRONMENT": None, "E": ""}}, ""),
    "args, a list": ("[A=1=2, FROM_ENVIRONMENT]", {"args": {"A": "1=2", "FROM_ENVIRONMENT": None}}, ""),
    "cache_from": ("[a, 'type=gha,scope=s']", {"cache_from": ("type=registry,ref=a", "type=gha,scope=s")}, ""),
    "cache_to": ("['type=local,dest=c']", {"cache_to": ("type=local,dest=c",)}, ""),
    "context": ("./web", {"context": "web"}, ""),
    "context, a URL": ("https://example.com/x.git#main", {"context": "https://example.com/x.git#main"}, ""),
    "dockerfile": ("docker/F", {"dockerfile": "docker/F"}, ""),
    "entitlements": ("[security.insecure]", {"buildx": ("--allow=security.insecure",)}, ""),
    "extra_hosts": (
        "['a=1.2.3.4', 'b:5.6.7.8', 'a=[::1]']",
        {"buildx": ("--add-host=a=1.2.3.4", "--add-host=a=::1", "--add-host=b=5.6.7.8")},
        "",
    ),
    "extra_hosts, a mapping": (
        "{a: 1.2.3.4, b: [5.6.7.8]}",
        {"buildx": ("--add-host=a=1.2.3.4", "--add-host=b=5.6.7.8")},
        "",
    ),
    "isolation": ("hyperv", {}, "hyperv: BuildKit has no isolation to choose"),
    "isolation, as it is anyway": ("default", {}, ""),
    "labels": ("{a: b, c: }", {"labels": {"a": "b", "c": ""}}, ""),
    "labels, a list": ("[a=b, c]", {"labels": {"a": "b", "c": ""}}, ""),
    "network": ("none", {"network": "none"}, ""),
    "network, of another name": ("corp", {"buildx": ("--network=corp",)}, ""),
    "no_cache": ("true", {"buildx": ("--no-cache",)}, ""),
    "no_cache, of a variable": ("'${X}'", {"buildx": ()}, "'${X}': true or false was expected"),
    "platforms": ("[linux/amd64, linux/arm64]", {"platforms": ("linux/amd64", "linux/arm64")}, ""),
    "privileged": ("true", {}, "BuildKit has no privileged build"),
    "privileged, not": ("false", {}, ""),
    "provenance": ("true", {"attestations": {"provenance": "min", "sbom": False}}, ""),
    "provenance, more of it": ("mode=max", {"attestations": {"provenance": "max", "sbom": False}}, ""),
    "provenance, none": ("false", {"attestations": {"provenance": "false", "sbom": False}}, ""),
    "pull": ("true", {"buildx": ("--pull",)}, ""),
    "sbom": ("true", {"attestations": {"provenance": "false", "sbom": True}}, ""),
    "sbom, of a generator": ("generator=g", {"buildx": ("--sbom=generator=g",)}, ""),
    "secrets": (
        "[one, {source: two, target: three}]",
        {"secrets": ({"id": "one", "file": "one.txt"}, {"id": "three", "env": "TWO"})},
        "",
    ),
    "secrets, with a mode": (
        "[{source: one, mode: 0400}]",
        {"secrets": ({"id": "one", "file": "one.txt"},)},
        "one.mode: a build's secret has none",
    ),
    "secrets, of elsewhere": (
        "[out]",
        {"secrets": ()},
        "out: neither a file nor an environment variable is given for it",
    ),
    "secrets, with a driver": ("[drv]", {"secrets": ({"id": "drv", "env": "D"},)}, ""),
    "shm_size": ("2gb", {"buildx": ("--shm-size=2gb",)}, ""),
    "ssh": ("[default, k=a.pem]", {"ssh": ("default", "k=a.pem")}, ""),
    "ssh, a mapping": ("{default: , k: /a.pem}", {"ssh": ("default", "k=/a.pem")}, ""),
    "tags": ("['r/NAME:2', 'r/NAME:3']", {"image": "r/NAME", "tags": ("1", "2", "3")}, ""),
    "tags, of another name": (
        "['s/app:2']",
        {"image": "r/NAME", "tags": ("1",)},
        "s/app:2: a service has one name, r/NAME",
    ),
    "target": ("final", {"target": "final"}, ""),
    "ulimits": (
        "{nproc: 3, nofile: {soft: 1, hard: 2}}",
        {"buildx": ("--ulimit=nproc=3:3", "--ulimit=nofile=1:2")},
        "",
    ),
    "x-bake": (
        (
            "{cache-from: c, no-cache-filter: [s], output: ['type=registry'], contexts: {x: 'target:base'}, "
            "pull: true, tags: ['r/NAME:9'], platforms: linux/arm64, secret: ['id=z,env=Z'], ssh: default, cache-to: ['type=inline'], no-cache: true}"
        ),
        {
            "cache_from": ("type=registry,ref=c",),
            "cache_to": ("type=inline",),
            "contexts": {"x": "service:base"},
            "no_cache_filter": ("s",),
            "outputs": ("type=registry",),
            "platforms": ("linux/arm64",),
            "secrets": ({"id": "z", "env": "Z"},),
            "ssh": ("default",),
            "tags": ("1", "9"),
            "buildx": ("--no-cache", "--pull"),
        },
        "",
    ),
    "x-bake, what it has not": ("{annotations: [a=b]}", {}, "bake knows no such key here"),
    "nonsense": ("1", {}, "no such key is known"),
    "target, no text": ("[a]", {}, "a text was expected, this is a list"),
    "cache_from, no list": ("{a: b}", {"cache_from": ()}, "a list was expected, this is a mapping"),
    "secrets, no list": ("{one: }", {"secrets": ()}, "a list was expected, this is a mapping"),
    "ulimits, no mapping": ("[nofile]", {"buildx": ()}, "a mapping was expected, this is a list"),
    "ulimits, of nothing": ("{nofile: {x: 1}}", {"buildx": ()}, "a number, or soft and hard were expected"),
    "x-bake, no mapping": ("[a]", {}, "a mapping was expected, this is a list"),
    "cache_from, of no texts": (
        "[{a: b}, c]",
        {"cache_from": ("type=registry,ref=c",)},
        "a text was expected, this is a mapping",
    ),
}
"""An attribute of `build` -> its value, the service's keys, and what is lost of it."""

SPECIFICATION = {
    *(
        "additional_contexts",
        "args",
        "cache_from",
        "cache_to",
        "context",
        "dockerfile",
        "dockerfile_inline",
        "entitlements",
    ),
    *(
        "extra_hosts",
        "isolation",
        "labels",
        "network",
        "no_cache",
        "platforms",
        "privileged",
        "provenance",
        "pull",
        "sbom",
    ),
    *("secrets", "shm_size", "ssh", "tags", "target", "ulimits"),
}
"""The attributes of the Compose Build Specification (compose-spec, build.md)."""

TOP = (
    "secrets: {one: {file: ./one.txt}, two: {environment: TWO}, out: {external: true},"
    " drv: {environment: D, driver: x}}\n"
)


def imported(text: str, folders: Folders = FOLDERS) -> tuple[ServicesFile, list[str]]:
    composed = targets_found(text, "compose.yaml")
    drafts, facts = drafted(composed.found, folders)
    written = services_file(drafts, project="shop", source="compose.yaml", variables={}, dockerfiles={})
    file = parse(written.text, "services.yaml", variables={"X": "x", "REG": "reg"})
    return file, lines([*composed.told, *facts, *written.told])


def one(keys: str) -> tuple[Service, list[str]]:
    """The service of `app`, and what was lost."""
    file, told = imported(f"services:\n  app: {{{keys}}}\n")
    return file.services["app"], [line for line in told if line.startswith("lost")]


NAMES = {row: re.sub("[^a-z_-]", "", row) for row in BUILD}
"""Row -> its service; all of them are read at once, by `every`."""
LINES = {row: at for at, row in enumerate(BUILD, 3)}


@cache
def every() -> tuple[ServicesFile, list[str]]:
    return imported(
        "services:\n  base: {image: b, build: b}\n"
        + "".join(
            f"  {NAMES[row]}: {{image: 'r/NAME:1', build: {{{row.partition(',')[0]}: {value}}}}}\n".replace(
                "NAME", NAMES[row]
            )
            for row, (value, _, _) in BUILD.items()
        )
        + TOP
    )


@pytest.mark.parametrize("row", BUILD)
def test_an_attribute_of_build_is_in_the_service_or_told_with_its_place(row: str):
    _, keys, lost = BUILD[row]

    dumped = every()[0].services[NAMES[row]].model_dump()
    found = {key: dumped[key] for key in keys}
    if "secrets" in keys:
        found["secrets"] = tuple({key: value for key, value in one.items() if value} for one in dumped["secrets"])
    if "image" in keys:
        keys = {**keys, "image": f"r/{NAMES[row]}"}
    assert found == keys
    named = [line for line in every()[1] if line.startswith("lost") and f": {NAMES[row]}.build" in line]
    assert [lost.replace("NAME", NAMES[row]) in line for line in named] == ([True] if lost else [])
    assert all(f"compose.yaml:{LINES[row]}:" in line for line in named)


def test_what_is_lost_of_a_secret_where_it_is_defined_is_told_there():
    assert any(": secrets.drv: driver: a build's secret has none" in line for line in every()[1])


def test_every_attribute_of_the_specification_is_tried():
    tried = {row.partition(",")[0] for row in BUILD} | {"dockerfile_inline"}

    assert tried >= SPECIFICATION


def test_the_place_of_what_is_lost_is_a_line_and_a_column():
    _, told = imported("services:\n  app:\n    build:\n      isolation: hyperv\n")

    assert told[0].startswith("lost: compose.yaml:4:18: app.build.isolation: ")


def test_a_build_that_is_a_text_is_its_context():
    service, told = one("image: a, build: ./web")

    assert (service.context, told) == ("web", [])


def test_a_dockerfile_in_the_file_is_kept_for_a_file_of_its_own():
    [found] = targets_found("services: {app: {build: {dockerfile_inline: FROM scratch}}}", "c").found

    [draft] = drafted([found], FOLDERS)[0]

    assert (draft.inline, draft.keys["context"]) == ("FROM scratch", ".")


def test_a_build_or_an_image_of_another_kind_is_told():
    _, told = imported("services: {a: {image: [x], build: [y]}}")

    assert [line.split(": ", 2)[2] for line in told[:2]] == [
        "a.build: a mapping was expected, this is a list",
        "a.image: a text was expected, this is a list",
    ]


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ("image: 'r:5000/a', build: .", {"image": "r:5000/a", "tags": ("latest",)}),
        ("image: '${REG:-x:1}/a:${X}', build: .", {"image": "reg/a", "tags": ("x",)}),
        ("image: a, platform: linux/arm64, build: .", {"platforms": ("linux/arm64",)}),
        ("image: a, platform: linux/arm64, build: {platforms: [linux/amd64]}", {"platforms": ("linux/amd64",)}),
    ],
)
def test_what_a_service_says_of_its_image_holds_for_its_build(keys: str, expected: dict[str, Any]):
    service, told = one(keys)

    assert {key: getattr(service, key) for key in expected} == expected
    assert told == []


def test_variables_stay_variables_and_their_values_stay_out():
    text = "services: {app: {image: 'a:${TAG:-1}', build: {context: '${DIR}/x', args: {T: $TOKEN, U: $$X}}}}"
    composed = targets_found(text, "c")
    drafts, _ = drafted(composed.found, FOLDERS)

    written = services_file(drafts, project="p", source="c", variables={"TOKEN": "hunter2"}, dockerfiles={})

    assert "hunter2" not in written.text
    assert "T: $TOKEN\n" in written.text
    assert unset(drafts, {"TOKEN": "hunter2"}) == [
        "the variable DIR is not set: set it, or give a default with ${DIR:-default}"
    ]
    assert parse(written.text, "s", variables={"DIR": "d", "TOKEN": "t"}).services["app"].args == {"T": "t", "U": "$X"}


def test_what_does_not_build_is_named_once():
    _, told = imported("services: {app: {image: a, build: ., ports: [1], command: x}, db: {image: b, ports: [2]}}")

    assert "note: compose.yaml: says how a service runs, not how it is built: ports, command" in told
    assert "note: compose.yaml: without a build section, and left out: db" in told


def test_what_is_not_followed_is_lost_with_the_way_to_have_it():
    _, told = imported("include: [x.yaml]\nservices: {app: {image: a, build: ., extends: {service: b}}}")

    assert [line.split(": ")[2] for line in told if line.startswith("lost")] == ["include", "app.extends"]
    assert all("docker compose config" in line for line in told[:2])


def test_extensions_of_other_programs_are_notes():
    _, told = imported("services: {app: {image: a, build: {context: ., x-other: 1}}}")

    assert any(line.startswith("note: compose.yaml:1:") and "x-other" in line for line in told)


def test_a_context_of_a_service_that_is_not_built_is_lost():
    _, told = imported("services: {app: {image: a, build: {additional_contexts: {x: 'service:db'}}}, db: {image: b}}")

    assert told[0].endswith("app.build.additional_contexts: x: there is no 'db' that is built")


def test_a_file_without_a_name_has_none_and_one_with_a_name_has_it():
    assert targets_found("services: {a: {build: .}}", "c").project == ""
    assert targets_found("name: shop\nservices: {a: {build: .}}", "c").project == "shop"


@pytest.mark.parametrize(
    ("text", "fact"),
    [
        ("", "there are no services"),
        ("[1]", "there are no services"),
        ("services: {}", "there are no services"),
        ("services: [a", "this is not YAML"),
        ("services: {a: {build: .}, a: {build: .}}", "given twice"),
        ("a: " * (MAX_DEPTH + 1), "not YAML"),
        ("services: &a {x: *a}", "has no anchor"),
    ],
)
def test_what_is_no_compose_file_is_refused_with_a_place(text: str, fact: str):
    with pytest.raises(ServicesFileError, match=fact):
        targets_found(text, "compose.yaml")


HOSTILE = (
    "[]",
    "{}",
    "x",
    "[[1]]",
    "{a: [b]}",
    "",
    "'${X'",
    "{a: {b: {c: d}}}",
    "[null]",
    "{'': ''}",
    "['=', ':']",
    "-1",
)


@pytest.mark.parametrize("key", sorted(SPECIFICATION | {"x-bake"}))
def test_any_form_of_an_attribute_is_read_or_told(key: str):
    builds = ", ".join(f"a{at}: {{build: {{{key}: {value}}}}}" for at, value in enumerate(HOSTILE))
    composed = targets_found(f"services: {{{builds}}}\n{TOP}", "compose.yaml")

    drafts, _ = drafted(composed.found, FOLDERS)

    assert len(drafts) == len(HOSTILE)


def test_what_cannot_be_taken_apart_is_refused_with_its_place():
    with pytest.raises(ServicesFileError, match=r"compose.yaml:3:12: .*KEY=VALUE"):
        targets_found('services:\n  a:\n    build: {cache_from: ["type=a\\nb=c"]}', "compose.yaml")


def test_the_folder_of_the_services_file_may_be_another(tmp_path: Path):
    file, _ = imported("services: {a: {image: a, build: {context: web}}}", Folders(f"{tmp_path}/x", f"{tmp_path}/y"))

    assert file.services["a"].context == "../x/web"
