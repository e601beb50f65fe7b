"""Variants are what they say, touch nothing of the service's, and stand beside each other in a table."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from buildorch.buildx.argv import arguments
from buildorch.comparing import bench
from buildorch.comparing.isolation import Isolation, apart, bases_dockerfile, bases_solve, isolated
from buildorch.comparing.variants import Variant, parse, parse_all, rebased, varied
from buildorch.engine.build_cache import remove_cache_mounts
from buildorch.errors import EngineError, UsageError
from buildorch.plan import Selection, Solve, resolve
from buildorch.record import Failure, FailureKind, Finding
from buildorch.report.comparison import (
    Comparison,
    Row,
    comparison_json,
    comparison_markdown,
    comparison_text,
)
from buildorch.services import parse as parse_services
from buildorch.testing import make_engine_facts, make_failure, make_platform

NAMES = Isolation("app", "0a1b2c3d", 1)
SLIM = "docker.io/library/python:3.13-slim"


def make_solve(service: str = "{}") -> Solve:
    file = parse_services(f"version: 1\nproject: team\nservices: {{app: {service}}}", "services.yaml")
    return resolve(file, Selection(), root=Path("/project")).solves[0]


def argv(solve: Solve) -> list[str]:
    aliases = {folder.path: Path("/aliases/app") for folder in solve.folders}
    return arguments(solve, metadata_file=Path("/m.json"), aliases=aliases, bases={})


# What a variant says


def test_a_variant_says_bases_a_target_arguments_and_a_compression():
    variant = parse(
        "full:base=python:3.13,base.node:20-alpine=node:20,target=deps,args.A=b=c,args.NONE=,"
        "compression=zstd,compression-level=19"
    )

    assert variant == Variant(
        name="full",
        changes=(
            "base=python:3.13",
            "base.node:20-alpine=node:20",
            "target=deps",
            "args.A=b=c",
            "args.NONE=",
            "compression=zstd",
            "compression-level=19",
        ),
        bases={"": "python:3.13", "node:20-alpine": "node:20"},
        target="deps",
        args={"A": "b=c", "NONE": ""},
        compression="zstd",
        level=19,
    )


def test_a_value_with_a_comma_stands_in_quotes():
    assert parse('x:"args.LIST=a,b",target=deps').args == {"LIST": "a,b"}


@pytest.mark.parametrize(
    ("text", "fact"),
    [
        ("", "'' is no name of a variant"),
        ("base=python:3.13", "'base=python' is no name of a variant"),
        ("Big:target=x", "'Big' is no name"),
        ("a/../b:target=x", "is no name"),
        (f"{'x' * 41}:target=x", "is no name"),
        ("x", "the variant x changes nothing"),
        ("x:", "the variant x changes nothing"),
        ("x:target", "'target', which changes nothing"),
        ("x:targets=a", "'targets=a', which changes nothing"),
        ("x:args.=a", "'args.=a', which changes nothing"),
        ("x:base.=a", "'base.=a', which changes nothing"),
        ("x:target=a,,", "'', which changes nothing"),
        ("x:target=", "gives target no value"),
        ("x:target=a,target=b", "says target twice"),
        ('x:"args.A=b', "cannot be read"),
        ("x:args.A=b\nc", "cannot be read"),
        ("x:base=UPPER CASE", "UPPER CASE"),
        ("x:compression=zsdt", "compresses with 'zsdt'"),
        ("x:compression=gzip,compression-level=10", "compression-level 10 without"),
        ("x:compression-level=3", "compression-level 3 without"),
        ("x:compression=uncompressed,compression-level=0", "compression-level 0 without"),
        ("x:compression=zstd,compression-level=-1", "compression-level '-1'"),
        ("x:compression=zstd,compression-level=\u00b2", "compression-level"),
    ],
)
def test_what_is_no_variant_is_told(text: str, fact: str):
    with pytest.raises(UsageError) as raised:
        parse(text)

    assert fact in str(raised.value)


def test_a_comparison_starts_with_the_service_as_it_is():
    assert [one.name for one in parse_all(["b:target=x", "a:target=y"])] == ["as-is", "b", "a"]
    assert not parse_all([])[0].changes


@pytest.mark.parametrize("texts", [["as-is:target=x"], ["a:target=x", "a:target=y"]])
def test_two_variants_of_one_name_are_told(texts: list[str]):
    with pytest.raises(UsageError, match="is the"):
        parse_all(texts)


# What a variant changes


def test_target_and_arguments_are_the_variants_over_the_services_own():
    solve = varied(make_solve("{target: runtime, args: {A: one, B: two}}"), parse("x:target=deps,args.B=2"))

    assert (solve.spec.target, solve.spec.args) == ("deps", {"A": "one", "B": "2"})
    assert varied(make_solve("{target: runtime}"), Variant(name="as-is")).spec.target == "runtime"


@pytest.mark.parametrize("text", ["x:base=alpine:3", f"x:base.{SLIM}=alpine:3", "x:base.python:3.13-slim=alpine:3"])
def test_a_base_image_is_replaced_by_a_named_context_however_it_is_written(text: str):
    for written in ("python:3.13-slim", SLIM):
        solve = rebased(make_solve(), parse(text), [written])

        assert solve.contexts == {written: "docker-image://alpine:3"}


def test_a_base_image_that_the_service_replaces_already_is_replaced_again():
    solve = make_solve(
        "{contexts: {'python:3.13-slim': 'docker-image://mirror.example/python:3.13-slim', more: ./more}}"
    )

    changed = rebased(solve, parse("x:base=alpine:3"), [])

    assert changed.contexts == {"python:3.13-slim": "docker-image://alpine:3", "more": Path("/project/more")}


@pytest.mark.parametrize(
    ("text", "images", "fact"),
    [
        ("x:base=alpine", ["python:3.13-slim", "node:20"], "the service has 2: python:3.13-slim, node:20"),
        ("x:base=alpine", [], "the service has 0: none that can be read here"),
        ("x:base.python:3.12=alpine", ["python:3.13-slim"], "replaces python:3.12, which is no base image here"),
    ],
)
def test_a_base_image_that_is_not_there_or_could_be_several_is_told(text: str, images: list[str], fact: str):
    with pytest.raises(UsageError, match=fact):
        rebased(make_solve(), parse(text), images)


# Isolation


def test_a_build_of_a_comparison_names_nothing_of_the_services_own():
    solve = make_solve(
        "{tags: [v1], registry: registry.example, args: {A: b}, cache_to: ['type=registry,ref=c'], retries: 3,"
        " cache_from: ['type=registry,ref=c'], outputs: ['type=registry'], no_cache_filter: [deps],"
        " buildx: ['--cache-to=x', '--no-cache', '--shm-size=1g']}"
    )

    made = isolated(solve, NAMES, NAMES.name("cold"))

    said = argv(made)
    assert [word for word in said if word.startswith(("--tag", "--output", "--load", "--push"))] == [
        "--tag=buildorch-compare/app:0a1b2c3d-1-cold",
        "--load",
    ]
    assert not any("cache-to" in word or "cache-from" in word or "no-cache" in word for word in said)
    assert not any("registry.example" in word for word in said)
    assert {"--build-arg=A=b", "--shm-size=1g"} <= {*said}
    assert {"--build-arg=BUILDKIT_CACHE_MOUNT_NS=compare-0a1b2c3d-1", "--add-host=compare-0a1b2c3d-1:127.0.0.1"} <= {
        *said
    }
    assert made.spec.retries == 0
    assert made.name == "compare-0a1b2c3d-1"


def test_a_compressed_variant_is_compressed_whole():
    variant = parse("x:compression=zstd,compression-level=3")

    made = isolated(make_solve(), NAMES, "a:b", output=f"type=docker{variant.exported}")

    compressed = "compression=zstd,compression-level=3,force-compression=true,oci-mediatypes=true"
    assert f"--output=type=docker,{compressed}" in argv(made)
    assert parse("x:target=a").exported == ""


def test_what_a_service_builds_on_keeps_its_steps_and_gets_another_name():
    made = apart(make_solve("{cache_to: ['type=registry,ref=c'], args: {A: b}}"), "buildorch-compare/app:base")

    assert made.references == ("buildorch-compare/app:base",)
    assert (made.spec.cache_to, made.spec.args, made.name) == ((), {"A": "b"}, "app")


def test_an_image_is_pushed_into_one_repository_for_all_comparisons_of_a_service():
    assert NAMES.name("pull", registry="localhost:5000/") == "localhost:5000/buildorch-compare/app:0a1b2c3d-1-pull"


def test_base_images_are_fetched_by_a_build_of_their_own_that_gives_nothing(tmp_path: Path):
    text = bases_dockerfile(["a@sha256:1", "b:2"], NAMES.mark)
    solve = bases_solve(make_solve("{secrets: [{id: token}], target: deps}"), NAMES, tmp_path)

    assert text.splitlines()[1:] == [
        "FROM a@sha256:1 AS base0",
        "COPY Dockerfile /compare-0a1b2c3d-1",
        "FROM b:2 AS base1",
        "COPY Dockerfile /compare-0a1b2c3d-1",
        "FROM scratch",
        "COPY --from=base0 /compare-0a1b2c3d-1 /0",
        "COPY --from=base1 /compare-0a1b2c3d-1 /1",
    ]
    said = argv(solve)
    assert "--output=type=cacheonly" in said
    assert not any(word.startswith(("--secret", "--target")) for word in said)


class FakeCache:
    """An engine with a build cache; the first `held` orders to remove something do nothing."""

    def __init__(self, records: Iterable[Mapping[str, str]], *, status: int = 200, held: int = 0) -> None:
        self.records, self.status, self.held, self.pruned = list(records), status, held, []

    def call(self, method: str, path: str, **_: Any) -> tuple[int, bytes]:
        if method == "GET":
            return self.status, json.dumps({"BuildCache": self.records, "message": "not now"}).encode()
        self.pruned.append(parse_qs(urlsplit(path).query))
        [identity] = json.loads(self.pruned[-1]["filters"][0])["id"]
        if len(self.pruned) <= self.held:
            return 200, b'{"CachesDeleted": null}'
        self.records = [one for one in self.records if one["ID"] != identity]
        return 200, json.dumps({"CachesDeleted": [identity]}).encode()


def mount(identity: str, name: str, *, kind: str = "exec.cachemount") -> dict[str, str]:
    return {"ID": identity, "Type": kind, "Description": f'cached mount /c from exec /bin/sh -c x with id "{name}"'}


def test_the_cache_mounts_of_a_comparison_are_removed_one_by_one_and_no_others():
    cache = FakeCache(
        [
            mount("mine", "compare-1-0/pip"),
            mount("another's", "compare-2-0/pip"),
            mount("the service's", "pip"),
            mount("a step that speaks of it", "compare-1-0/pip", kind="regular"),
        ]
    )

    remove_cache_mounts(cache, "compare-1-")  # type: ignore[arg-type]

    assert cache.pruned == [{"all": ["1"], "filters": ['{"id": {"mine": true}}']}]


@pytest.mark.parametrize(("held", "fact"), [(2, ""), (99, "keeps 1 of them")])
def test_a_cache_mount_that_is_held_is_removed_a_moment_later_or_told(
    monkeypatch: pytest.MonkeyPatch, held: int, fact: str
):
    monkeypatch.setattr("buildorch.engine.build_cache.PAUSE_S", 0.0)
    cache = FakeCache([mount("mine", "compare-1-0/pip")], held=held)

    with pytest.raises(EngineError, match=fact) if fact else nullcontext():
        remove_cache_mounts(cache, "compare-1-")  # type: ignore[arg-type]

    assert len(cache.records) == bool(fact)


def test_an_engine_that_does_not_list_its_cache_is_told():
    with pytest.raises(EngineError, match="does not list its build cache: not now"):
        remove_cache_mounts(FakeCache([], status=500), "compare-1-")  # type: ignore[arg-type]


@pytest.mark.parametrize("registry", ["team", "team/sub"])
def test_what_would_push_to_docker_hub_by_mistake_is_refused(registry: str):
    request = bench.CompareRequest(service="app", variants=parse_all([]), pull=registry)

    with pytest.raises(UsageError, match="is no registry"), bench.opened(request):
        pass


# The table


def make_row(name: str = "as-is", *, error: Failure | None = None, **more: Any) -> Row:
    known: dict[str, Any] = (
        {}
        if error
        else {
            "image": make_platform(unpacked=[217_700_000], compressed=[78_400_000]),
            "packages": {"python": 41, "deb": 88},
            "cold_s": 75.0,
            "cached_s": 1.25,
            "pull_s": 0.9,
        }
    )
    return Row(variant=name, **{"changes": (), "error": error, **known, **more})


def make_comparison(*rows: Row, **more: Any) -> Comparison:
    return Comparison(
        **{
            "project": "tasks",
            "service": "backend",
            "platform": "linux/amd64",
            "compared_at": "2026-11-28T08:00:00.000Z",
            "version": "0.1.0",
            "engine": make_engine_facts(),
            "registry": "127.0.0.1:5000",
            "rows": rows,
            "exit_code": 0,
            **more,
        }
    )


SIZE = Finding(rule="size", severity="error", message="too large")


def test_markdown_is_a_table_with_a_row_a_variant_and_what_has_to_be_known():
    said = comparison_markdown(
        make_comparison(
            make_row(stand_ins=("python:3.13-slim",)),
            make_row(
                "zstd", changes=("compression=zstd",), findings=(SIZE, SIZE), pull_s=None, pull_note="no registry"
            ),
            make_row("gone", changes=("base=a:b", "target=c"), error=make_failure(FailureKind.NOT_FOUND)),
            left=("an image",),
        )
    ).splitlines()

    assert said[2:5] == [
        "| as-is | - | 217.7 MB | 78.4 MB | 1m15s | 1.2s | 0.9s | 88 deb, 41 python | none |",
        "| zstd | `compression=zstd` | 217.7 MB | 78.4 MB | 1m15s | 1.2s | - | 88 deb, 41 python | 2 errors |",
        "| gone | `base=a:b`<br>`target=c` | - | - | failed | - | - | - | - |",
    ]
    assert {len(line.replace("\\|", "").split("|")) for line in said[:5]} == {11}
    notes = "\n".join(said[5:])
    assert "- gone was not built: made up" in notes
    assert "Docker Engine 28.0.0" in notes
    assert "- zstd: no pull time: no registry" in notes
    assert "- as-is: built on stand-ins for python:3.13-slim, not on the official images" in notes
    assert "- left behind: an image" in notes


def test_text_of_images_and_logs_is_data_in_every_format():
    hostile = "x\x1b[31m|<img src=x onerror=alert(1)>[a](javascript:b) ` \n# y"
    comparison = make_comparison(
        make_row(findings=(Finding(rule="contents", severity="error", message=hostile),)),
        make_row("args", changes=(f"args.A={hostile}", "args.B=a|b")),
        make_row("gone", error=Failure(kind=FailureKind.OTHER, message=hostile)),
    )

    markdown, text = comparison_markdown(comparison), comparison_text(comparison)

    assert "\x1b" not in markdown + text
    assert "<img" not in markdown
    assert "[a](" not in markdown.replace("\\[a\\](", "")
    assert "`args.B=a\\|b`" in markdown
    assert not any(line.startswith("#") for line in markdown.splitlines())


def test_the_text_has_the_failure_with_its_hint_and_the_findings():
    failure = Failure(kind=FailureKind.NOT_FOUND, message="not found", hint="check the name", log=("last line",))

    said = comparison_text(make_comparison(make_row(findings=(SIZE,)), make_row("gone", error=failure)))

    assert "error: gone: not found\n  | last line\n  hint: check the name" in said
    assert "error: as-is: size: too large" in said


def test_json_has_all_of_it():
    said = json.loads(comparison_json(make_comparison(make_row(findings=(SIZE,)))))

    assert said["schema"] == "buildorch.compare/1"
    [row] = said["rows"]
    assert row["image"]["unpacked_bytes"] == 217_700_000
    assert (row["cold_s"], row["packages"]["deb"], row["findings"][0]["rule"]) == (75.0, 88, "size")
