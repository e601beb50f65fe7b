"""A solve -> the arguments of its process."""

from __future__ import annotations

import csv
import dataclasses
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buildorch.buildx.argv import arguments, environment
from buildorch.plan import Selection, Solve, resolve
from buildorch.services import Service, parse

METADATA = Path("/run/app.metadata.json")


def make_solve(service: str = "{}", selection: Selection | None = None) -> Solve:
    text = f"version: 1\nproject: shop\nservices: {{app: {service}, base: }}\n"
    plan = resolve(parse(text, "services.yaml"), selection or Selection(), root=Path("/project"))
    return next(solve for solve in plan.solves if solve.name == "app")


def aliases(solve: Solve) -> dict[Path, Path]:
    return {folder: Path(f"/alias/{at}-{folder.name}") for at, folder in enumerate(each.path for each in solve.folders)}


def argv(
    service: str = "{}",
    selection: Selection | None = None,
    *,
    bases: Mapping[str, str] | None = None,
    cache_import: bool = True,
) -> list[str]:
    solve = dataclasses.replace(make_solve(service, selection), cache_import=cache_import)
    return arguments(solve, metadata_file=METADATA, aliases=aliases(solve), bases=bases or {})


FLAGS = {
    "image": ("{image: 'localhost:5000/x'}", ["--tag=localhost:5000/x:latest"]),
    "registry": ("{registry: 'localhost:5000'}", ["--tag=localhost:5000/shop/app:latest"]),
    "tags": ("{tags: [a, b]}", ["--tag=shop/app:a", "--tag=shop/app:b"]),
    "dockerfile": ("{dockerfile: docker/App.Dockerfile}", ["--file=/alias/1-docker/App.Dockerfile"]),
    "target": ("{target: final}", ["--target=final"]),
    "args": ("{args: {V: '1 0', FROM_ENVIRONMENT: , EMPTY: ''}}", ["--build-arg=V=1 0", "--build-arg=FROM_ENVIRONMENT", "--build-arg=EMPTY="]),
    "contexts": ("{contexts: {lib: lib, os: 'docker-image://debian'}}", ["--build-context=lib=/alias/1-lib", "--build-context=os=docker-image://debian"]),
    "secrets": ("{secrets: [{id: a, env: TOKEN}, {id: b, file: key.pem}]}", ["--secret=id=a,env=TOKEN", "--secret=id=b,src=/project/key.pem"]),
    "ssh": ("{ssh: [default, 'k=/id']}", ["--ssh=default", "--ssh=k=/id"]),
    "cache_from": ("{cache_from: ['type=registry,ref=c']}", ["--cache-from=type=registry,ref=c"]),
    "cache_to": ("{cache_to: ['type=inline']}", ["--cache-to=type=inline"]),
    "labels": ("{labels: {a.b: 'c d'}}", ["--label=a.b=c d"]),
    "annotations": ("{annotations: {'index:a': b}}", ["--annotation=index:a=b"]),
    "platforms": ("{platforms: [linux/amd64, linux/arm64]}", ["--platform=linux/amd64,linux/arm64"]),
    "outputs": ("{outputs: ['type=oci,dest=x', 'type=registry']}", ["--output=type=oci,dest=x", "--output=type=registry"]),
    "network": ("{network: none}", ["--network=none"]),
    "no_cache_filter": ("{no_cache_filter: [deps, build]}", ["--no-cache-filter=deps", "--no-cache-filter=build"]),
    "attestations": ("{attestations: {provenance: max, sbom: yes}}", ["--provenance=mode=max", "--sbom=true"]),
    "builder": ("{builder: ci}", ["--builder=ci"]),
    "buildx": ("{buildx: [--shm-size=1g, --ulimit=nofile=9]}", ["--shm-size=1g", "--ulimit=nofile=9"]),
}  # fmt: skip
NOT_FLAGS = {"context", "max_age", "retries", "timeout", "timeouts", "size", "policy"}
"""The context is the argument behind the flags; the others are buildorch's own to keep."""


@pytest.mark.parametrize("key", FLAGS)
def test_a_key_of_a_service_becomes_its_flag(key: str):
    service, flags = FLAGS[key]

    given_flags = argv(service)

    plain = argv()
    assert [flag for flag in given_flags if flag in flags] == flags
    assert not set(flags) & set(plain)


def test_a_build_after_two_races_of_the_engine_imports_no_cache():
    service, flags = FLAGS["cache_from"]

    assert flags[0] in argv(service)
    assert flags[0] not in argv(service, cache_import=False)


def test_no_key_of_a_service_is_forgotten():
    assert FLAGS.keys() | NOT_FLAGS == set(Service.model_fields)


def test_what_is_staged_is_pushed_beside_its_names_and_stays_nowhere_else():
    solve = make_solve("{tags: [a, b]}")

    flags = arguments(solve, metadata_file=METADATA, aliases=aliases(solve), bases={}, staged=True)

    assert [flag for flag in flags if flag.startswith(("--tag", "--output", "--push", "--load"))] == [
        "--tag=shop/app:buildorch-staging",
        "--output=type=image,push=true,store=false",
    ]


def test_what_is_staged_keeps_its_own_outputs_and_stays_nowhere_else():
    solve = make_solve("{outputs: ['type=registry,compression=zstd']}")

    flags = arguments(solve, metadata_file=METADATA, aliases=aliases(solve), bases={}, staged=True)

    assert [flag for flag in flags if flag.startswith(("--tag", "--output"))] == [
        "--tag=shop/app:buildorch-staging",
        "--output=type=registry,compression=zstd,store=false",
    ]


def test_a_service_without_a_word_is_built_by_these_arguments():
    assert argv() == [
        "build",
        "--progress=rawjson",
        "--metadata-file=/run/app.metadata.json",
        "--file=/alias/0-app/Dockerfile",
        "--tag=shop/app:latest",
        "--load",
        "--provenance=false",
        "--",
        "/alias/0-app",
    ]


@pytest.mark.parametrize(
    ("selection", "flag"),
    [
        (Selection(output="push"), "--push"),
        (Selection(no_cache=True), "--no-cache"),
        (Selection(builder="other"), "--builder=other"),
        (Selection(platforms=("linux/arm64",)), "--platform=linux/arm64"),
    ],
)
def test_what_was_asked_for_becomes_its_flag(selection: Selection, flag: str):
    assert flag in argv("{}", selection)
    assert flag not in argv("{}")


def test_an_output_of_the_services_own_takes_the_place_of_loading():
    flags = argv("{outputs: ['type=oci,dest=x']}")

    assert not {"--load", "--push"} & set(flags)


@pytest.mark.parametrize("provenance", ["min", "true"])
def test_provenance_that_is_only_wished_for_is_the_small_one(provenance: str):
    assert "--provenance=mode=min" in argv(f"{{attestations: {{provenance: {provenance}}}}}")


def test_a_context_that_begins_with_a_dash_cannot_be_read_as_a_flag():
    flags = argv("{context: 'https://x', dockerfile: D}")
    url = argv("{context: 'git@-odd:x'}")

    assert flags[-2:] == ["--", "https://x"]
    assert url[-2:] == ["--", "git@-odd:x"]


def test_everything_but_the_command_and_the_context_is_a_flag_with_its_value_behind_an_equals_sign():
    everything = "{" + ", ".join(service[1:-1] for service, _ in FLAGS.values() if "registry: " not in service) + "}"

    command, *flags, separator, _context = argv(everything)

    assert (command, separator) == ("build", "--")
    assert [flag for flag in flags if not flag.startswith("--")] == []
    assert [flag for flag in flags if "=" not in flag] == []


def test_a_comma_or_a_quote_in_a_secrets_path_is_quoted_as_csv():
    [flag] = [flag for flag in argv("""{secrets: [{id: a, file: 'a,b "c".pem'}]}""") if flag.startswith("--secret=")]

    [fields] = csv.reader([flag.removeprefix("--secret=")])
    assert fields == ["id=a", 'src=/project/a,b "c".pem']


def test_a_services_image_stands_in_for_its_named_context():
    flags = argv("{contexts: {'python:3.13': service:base}}", bases={"python:3.13": "shop/base@sha256:1"})

    assert "--build-context=python:3.13=docker-image://shop/base@sha256:1" in flags


def test_base_images_and_the_frontend_are_held_to_their_digests():
    solve = dataclasses.replace(
        make_solve("{args: {BUILDKIT_SYNTAX: docker/dockerfile:1}}"),
        pins={"python:3.13": "docker-image://python:3.13@sha256:1", "node": "docker-image://node@sha256:2"},
        frontend="docker/dockerfile:1@sha256:3",
    )

    flags = arguments(solve, metadata_file=METADATA, aliases=aliases(solve), bases={})

    assert [flag for flag in flags if "sha256" in flag] == [
        "--build-context=python:3.13=docker-image://python:3.13@sha256:1",
        "--build-context=node=docker-image://node@sha256:2",
        "--build-arg=BUILDKIT_SYNTAX=docker/dockerfile:1@sha256:3",
    ]
    # The last of two values is the one that holds.
    assert flags.index("--build-arg=BUILDKIT_SYNTAX=docker/dockerfile:1") < flags.index(
        "--build-arg=BUILDKIT_SYNTAX=docker/dockerfile:1@sha256:3"
    )


def test_without_digests_nothing_is_held():
    assert not any("BUILDKIT_SYNTAX" in flag or "build-context" in flag for flag in argv())


def test_every_local_folder_goes_under_an_alias_and_none_under_its_own_path():
    service = "{context: a/app, dockerfile: ../docker/D, contexts: {lib: x/lib, os: 'docker-image://debian'}}"

    flags = argv(service)

    folders = [folder.path for folder in make_solve(service).folders]
    assert folders == [Path("/project/a/app"), Path("/project/a/docker"), Path("/project/x/lib")]
    assert "--file=/alias/1-docker/D" in flags
    assert flags[-1] == "/alias/0-app"
    assert not any("/project" in flag for flag in flags)


def test_a_remote_context_has_no_folder_but_its_named_ones():
    [folder] = make_solve("{context: 'https://x', contexts: {lib: x/lib}}").folders
    assert folder.path == Path("/project/x/lib")


def test_a_dockerfile_inside_a_remote_context_keeps_its_path():
    assert "--file=docker/D" in argv("{context: 'https://x', dockerfile: docker/D}")


def test_git_is_asked_only_where_an_attestation_will_hold_its_answer():
    assert environment(make_solve())["BUILDX_GIT_INFO"] == "false"
    assert "BUILDX_GIT_INFO" not in environment(make_solve("{attestations: {provenance: min}}"))


def test_build_arguments_never_reach_the_metadata_file():
    for service in ("{}", "{attestations: {provenance: max}}"):
        assert environment(make_solve(service))["BUILDX_METADATA_PROVENANCE"] == "disabled"


@pytest.mark.proof
@given(st.text(st.characters(exclude_characters="\0\r\n", exclude_categories=["Cs"]), min_size=1))
def test_any_path_of_a_secret_survives_the_quoting(path: str):
    solve = make_solve()
    spec = Service.model_validate({"secrets": [{"id": "a", "file": path}]})
    made = Solve(**{name: getattr(solve, name) for name in Solve.__dataclass_fields__} | {"spec": spec})

    [flag] = [
        flag
        for flag in arguments(made, metadata_file=METADATA, aliases=aliases(made), bases={})
        if flag.startswith("--secret=")
    ]

    [fields] = csv.reader([flag.removeprefix("--secret=")])
    assert fields == ["id=a", f"src={Path('/project') / path}"]
