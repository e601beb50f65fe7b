"""A plan -> a bake file, and what bake prints -> a services file, attribute by attribute."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import bake_rows
import pytest
from bake_rows import NAMES, ROWS

from buildorch.interop.assembling import drafted, services_file
from buildorch.interop.bake_files import passed_over, targets_found, variables
from buildorch.interop.exporting import NOT_IN_BAKE, bake
from buildorch.interop.flags import target_of
from buildorch.interop.importing import Folders
from buildorch.interop.targets import canonical, escaped, unescaped
from buildorch.interop.told import lines
from buildorch.plan import Plan, Selection, resolve
from buildorch.services import Service, ServicesFile, parse

ROOT = Path("/project/here")


def plan_of(text: str, selection: Selection | None = None) -> tuple[Plan, ServicesFile]:
    file = parse(text, "services.yaml")
    return resolve(file, selection or Selection(), root=ROOT), file


def service(keys: str, *, top: str = "") -> str:
    return f"version: 1\nproject: shop\n{top}\nservices: {{app: {{{keys}}}}}\n"


def exported(text: str, selection: Selection | None = None) -> tuple[dict[str, Any], list[str]]:
    found = bake(*plan_of(text, selection))
    return dict(found.document), lines(found.told)


def imported(targets: Mapping[str, Any], *, root: str = "/project/here") -> tuple[str, list[str]]:
    """The services file of what bake printed, and what was told."""
    found, told = targets_found({"target": targets}, "docker-bake.hcl")
    drafts, facts = drafted(found, Folders("/project/here", root))
    written = services_file(drafts, project="shop", source="docker-bake.hcl", variables={}, dockerfiles={})
    return written.text, lines([*told, *facts, *written.told])


def one(target: Mapping[str, Any], **options: str) -> tuple[Service, list[str]]:
    """The service that a target becomes."""
    text, told = imported(
        {"app": {"tags": ["a:1"], "attest": [{"type": "sbom"}, {"type": "provenance"}], **target}}, **options
    )
    return parse(text, "services.yaml").services["app"], told


EXPORTED = exported(bake_rows.SERVICES_FILE)[0]
IMPORTED, IMPORT_TOLD = imported(bake_rows.printed())


@pytest.mark.parametrize("row", [row for row in ROWS if "args of" not in row and "args that are not" not in row])
def test_a_key_is_exported_as_what_bake_prints_for_it(row: str):
    target = canonical(json.loads(json.dumps(EXPORTED["target"][NAMES[row]])))[0]

    assert target == canonical(bake_rows.printed()[NAMES[row]])[0]


def test_there_are_more_than_forty_of_them_and_every_key_of_a_service_is_among_them_or_told():
    keys = {key for text, _ in ROWS.values() for key in Service.model_fields if f"{key}:" in text}

    assert len(ROWS) > 40
    assert keys | set(NOT_IN_BAKE) == set(Service.model_fields)


def test_what_bake_prints_is_imported_as_the_plan_it_was_exported_from():
    before = bake_rows.argv_of(plan_of(bake_rows.SERVICES_FILE)[0])
    after = bake_rows.argv_of(plan_of(IMPORTED)[0])

    # bake has filled these in.
    before["args-of-the-environment"] -= {"--build-arg=SET_HERE"}
    after["args-of-the-environment"] -= {"--build-arg=SET_HERE=from the environment"}
    before["args-that-are-not-set"] -= {"--build-arg=NOT_SET_ANYWHERE"}
    assert after == before
    assert [line for line in IMPORT_TOLD if line.startswith("lost")] == []


def test_an_argument_of_the_environment_is_a_variable_without_a_value():
    document, told = exported(service("args: {TOKEN: }"))

    assert document["variable"] == {"TOKEN": {"default": None}}
    assert document["target"]["app"]["args"] == {"TOKEN": "${TOKEN}"}
    assert told == []


def test_an_argument_no_variable_can_be_named_after_is_told():
    document, told = exported(service("args: {a.b: }"))

    assert "args" not in document["target"]["app"]
    assert told == ["lost: services.app.args.a.b: no bake variable can have this name to take it from"]


def test_every_key_that_bake_has_nothing_for_is_told_by_name():
    keys = "builder: b, retries: 1, timeout: 1m, timeouts: {build: 1m}, max_age: 1h, size: {max: 1MB}, policy: {min_stages: 2}"
    top = "builders: {b: {jobs: 2}}\npolicies: ['a:b']"
    _, told = exported(service(keys, top=top))

    assert [line.split(": ")[1] for line in told] == [
        *(f"services.app.{key}" for key in NOT_IN_BAKE),
        "builders.b",
        "policies",
    ]


def test_a_flag_that_no_attribute_says_is_told():
    _, told = exported(service("buildx: [--cgroup-parent=x, --debug]"))

    assert told == [
        "lost: services.app.buildx: --cgroup-parent=x: no bake attribute says it",
        "lost: services.app.buildx: --debug: no bake attribute says it",
    ]


@pytest.mark.parametrize("field", ["token", "secret_access_key", "session_token"])
def test_a_secret_in_a_cache_goes_neither_out_nor_in(field: str):
    document, told = exported(service(f"cache_to: ['type=gha,{field}=hunter2']"))
    back, told_back = one({"cache-to": [{"type": "gha", field: "hunter2"}]})

    assert document["target"]["app"]["cache-to"] == ["type=gha"]
    assert back.cache_to == ("type=gha",)
    assert "hunter2" not in str((told, told_back))
    assert f"{field} is a secret" in told[0]
    assert f"{field} is a secret" in told_back[0]


def test_what_was_asked_for_on_the_command_line_is_in_the_targets():
    selection = Selection(output="push", platforms=("linux/arm64",), no_cache=True, builder="big")
    document, told = exported(service(""), selection)

    target = document["target"]["app"]
    assert (target["output"], target["platforms"], target["no-cache"]) == (["type=registry"], ["linux/arm64"], True)
    assert told == ["lost: services.app.builder: a bake file names no builder: pass --builder to docker buildx bake"]


def test_a_name_with_a_dot_is_a_target_of_its_own():
    document, told = exported(
        "version: 1\nproject: shop\nservices: {a.b: , a_b: , top: {contexts: {x: service:a.b, y: service:a_b}}}\n"
    )

    assert document["group"]["default"]["targets"] == ["a_b", "a_b_2", "top"]
    assert document["target"]["top"]["contexts"] == {"x": "target:a_b", "y": "target:a_b_2"}
    assert [line.split(":")[1] for line in told] == [" services.a.b", " services.a_b"]


@pytest.mark.parametrize("folder", ["-", "x:y", "git@host", "github.com"])
def test_a_folder_bake_would_read_as_something_else_is_said_to_be_here(folder: str):
    document, _ = exported(service(f"context: './{folder}'"))

    assert document["target"]["app"]["context"] == f"./{folder}"


def test_a_text_that_looks_like_a_template_is_none_to_bake():
    document, _ = exported(service("labels: {'${k}': '$${x}%{y}'}, target: '$${t}', annotations: {a: '%{b}'}"))

    target = document["target"]["app"]
    assert target["labels"] == {"$${k}": "$${x}%%{y}"}
    assert (target["target"], target["annotations"]) == ("$${t}", ["a=%%{b}"])


@pytest.mark.parametrize("text", ["${a}", "%{a}", "$${a}", "$$${a}", "%%{", "$ % {", "a$", "$${${%{"])
def test_any_text_comes_back_from_a_bake_file_as_it_was(text: str):
    assert unescaped(escaped(text)) == text


@pytest.mark.parametrize(
    ("words", "attributes"),
    [
        (["--pull=false", "--no-cache=0"], {}),
        (["--pull=true"], {"pull": True}),
        (["--call=build"], {}),
        (["--check"], {"call": "check"}),
        (["--provenance=true", "--provenance=mode=max"], {"attest": ["type=provenance,mode=max"]}),
        (["--sbom=false"], {"attest": ["type=sbom,disabled=true"]}),
        (["--platform=a,b", "--platform=c"], {"platforms": ["a", "b", "c"]}),
        (["--cache-from=user/app:cache"], {"cache-from": ["type=registry,ref=user/app:cache"]}),
        (["--output=-"], {"output": ["type=tar,dest=-"]}),
        (["--output=out"], {"output": ["type=local,dest=out"]}),
        (["--add-host=h:1.2.3.4"], {"extra-hosts": {"h": "1.2.3.4"}}),
        (["--secret=id=a,source=f"], {"secret": ["id=a,src=f"]}),
        (["--network=host"], {"network": "host", "entitlements": ["network.host"]}),
    ],
)
def test_other_ways_to_write_a_flag_come_to_the_same(words: list[str], attributes: dict[str, Any]):
    assert target_of(words) == (attributes, ())


# From bake


@pytest.mark.parametrize(
    ("target", "keys"),
    [
        ({"tags": ["a", "a:latest", "a:2"]}, {"image": "a", "tags": ("latest", "2")}),
        ({"tags": ["r:5000/a:1"]}, {"image": "r:5000/a", "tags": ("1",)}),
        ({"context": "cwd://x", "dockerfile": "cwd://d/F"}, {"context": "x", "dockerfile": "../d/F"}),
        ({"context": "/abs"}, {"context": "/abs"}),
        ({"secret": ["type=env,id=a,src=B"]}, {"secrets": ({"id": "a", "env": "B"},)}),
        ({"attest": ["type=provenance,mode=max,builder-id=x"]}, {"buildx": ("--provenance=builder-id=x,mode=max",)}),
        ({"attest": [{"type": "provenance"}, {"type": "other", "a": "b"}]}, {"buildx": ("--attest=type=other,a=b",)}),
        ({"labels": {"a": "$$${b}"}}, {"labels": {"a": "$${b}"}}),
        ({"target": "${t}"}, {"target": "${t}"}),
        ({"pull": False, "no-cache": False, "args": None, "call": "build"}, {"buildx": ()}),
        ({"output": ["type=docker"]}, {"outputs": ()}),
        ({"platforms": ["linux/amd64", "linux/amd64"]}, {"platforms": ("linux/amd64",)}),
    ],
)
def test_what_bake_prints_is_read_in_all_its_forms(target: dict[str, Any], keys: dict[str, Any]):
    found, told = one(target)

    dumped = found.model_dump(exclude_none=True)
    assert {key: dumped[key] for key in keys} == keys
    assert [line for line in told if line.startswith("lost")] == []


@pytest.mark.parametrize(
    ("target", "line"),
    [
        ({"call": "check"}, "app.call: check: a service is always built"),
        ({"tags": ["a:1", "b:1"]}, "app.tags: b:1: a service has one name, a"),
        ({"policy": [{"file": "x"}]}, "app.policy: this version knows no such attribute"),
        ({"secret": [{"id": "a/b", "src": "x"}]}, "app.secret: 'a/b': an id has letters, digits and . _ -"),
        ({"secret": [{"id": "a", "src": "x", "odd": "1"}]}, "app.secret: a: odd is not said"),
        ({"contexts": {"x": "target:gone"}}, "app.contexts: x: there is no 'gone' that is built"),
        ({"platforms": ["local"]}, "app.platforms: 'local': "),
        ({"tags": ["a:-x"]}, "app.tags: '-x': a tag has letters"),
        ({"tags": ["A B:1"]}, "app.image: 'A B': "),
    ],
)
def test_what_a_services_file_cannot_say_is_told_with_file_and_key(target: dict[str, Any], line: str):
    _, told = one(target)

    [lost] = [each for each in told if each.startswith("lost")]
    assert lost.startswith(f"lost: docker-bake.hcl: {line}")


def test_two_targets_with_one_tag_keep_it_once():
    target = {"tags": ["a:1"], "context": "x"}
    text, told = imported({"dev": target, "prod": {**target, "target": "prod"}})

    file = parse(text, "services.yaml")
    assert (file.services["dev"].image, file.services["prod"].image) == ("a", None)
    assert "lost: docker-bake.hcl: prod.tags: a:1 is given by dev too" in told


def test_a_target_that_builds_what_another_builds_is_left_out_and_what_builds_on_it_goes_on():
    target = {"tags": ["a:1"], "context": "x"}
    text, told = imported({"a": target, "b": target, "top": {"tags": ["t"], "contexts": {"b": "target:b"}}})

    services = parse(text, "services.yaml").services
    assert set(services) == {"a", "top"}
    assert services["top"].contexts == {"b": "service:a"}
    assert "note: docker-bake.hcl: b: builds what a builds, and is left out" in told


def test_a_target_others_build_on_becomes_an_image():
    text, told = imported(
        {"base": {"output": [{"type": "cacheonly"}]}, "top": {"tags": ["t"], "contexts": {"b": "target:base"}}}
    )

    assert parse(text, "services.yaml").services["base"].outputs == ()
    assert any("base.output" in line and line.startswith("note") for line in told)


def test_names_become_names_of_services():
    text, told = imported({"Web_App": {}, "web_app": {}, "_x": {}, "---": {}})

    assert list(parse(text, "services.yaml").services) == ["web_app", "web_app-2", "x", "target"]
    assert len([line for line in told if "is the service" in line]) == 4


def test_paths_are_said_from_where_the_services_file_will_be():
    target = {
        "context": "app",
        "contexts": {"l": "lib", "i": "docker-image://x"},
        "secret": [{"id": "a", "src": "key"}],
        "ssh": [{"id": "k", "paths": ["a", "/b"]}],
        "cache-from": [{"type": "local", "src": "c"}],
        "output": [{"type": "local", "dest": "out"}, {"type": "tar", "dest": "-"}],
    }
    found, _ = one(target, root="/project/deploy")

    assert found.context == "../here/app"
    assert found.contexts == {"l": "../here/lib", "i": "docker-image://x"}
    assert found.secrets[0].file == "../here/key"
    assert found.ssh == ("k=../here/a,/b",)
    assert found.cache_from == ("type=local,src=../here/c",)
    assert found.outputs == ("type=local,dest=../here/out", "type=tar,dest=-")


def test_a_description_is_a_comment_that_cannot_end_its_line():
    text, _ = imported({"app": {"tags": ["a"], "description": "what it is\nevil: true\x1b[2J"}})

    assert "# what it is evil: true [2J\n" in text
    assert set(parse(text, "services.yaml").services) == {"app"}


HCL = """
/* target "no" { pull = 1 } */
variable "TAG" { default = "a" }  # target "no" { x = 1 }
variable "OTHER" {
  default = "${"}"}"
}
target "web" {
  tags = ["${TAG == "dev" ? "x = {" : "}"}"]
  labels = {
    inner = "a"
  }
  dockerfile-inline = <<EOT
FROM scratch
typo = 1
EOT
  contxt = "b"
  args = { a = "$${", b = "%%{ \\" }" }
  matrix = { item = ["a"] }
}
function "f" {
  params = [a]
}
group "default" { targets = ["web"] }
target "last" { pul = true }
"""


def test_attributes_that_bake_passes_over_are_told_with_their_lines():
    assert lines(passed_over(HCL, "x.hcl")) == [
        "lost: x.hcl:16: web.contxt, x.hcl:24: last.pul: bake knows no such attribute, and passes it over"
    ]


def test_the_variables_of_a_file_are_known():
    assert variables(HCL) == ["TAG", "OTHER"]
    assert variables('{"variable": {"A": {"default": "x"}, "B": {}}}') == ["A", "B"]


@pytest.mark.parametrize("target", ['{"a": {"pul": 1, "tags": []}}', '[{"a": [{"pul": 1}]}]'])
def test_attributes_of_json_that_bake_passes_over_are_told(target: str):
    assert lines(passed_over(f'{{"target": {target}}}', "x.json")) == [
        "lost: x.json: a.pul: bake knows no such attribute, and passes it over"
    ]


@pytest.mark.parametrize(
    "text", ["{", "[" * 5000, "[1]", '{"target": 3}', '{"target": {"a": 3}}', "", '"${', "/*", "<<A\n"]
)
def test_a_file_that_is_no_bake_file_is_left_to_bake(text: str):
    assert list(passed_over(text, "x")) == []
