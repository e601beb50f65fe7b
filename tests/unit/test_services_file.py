"""The values of a services file that is right."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buildorch.services import Attestations, ServicesFile, decode, dependencies, image_name, parse
from buildorch.services.types import parse_duration, parse_size

DESIGN = """\
version: 1
project: tasks
defaults:
  registry: ${REGISTRY:-}                 # Compose-style
  platforms: [linux/amd64]
  tags: ["{git_sha}", latest]
  timeout: 20m
  policy: {user: non-root, min_stages: 2, bases: ["python:3.13-slim", "node:20-alpine"]}
services:
  backend:
    context: services/backend
    size: {max: 500MB, target: 450MB}
  frontend-web:
    context: services/frontend-web
    size: {max: 300MB, target: 280MB}
  frontend-chatbot:
    context: services/frontend-chatbot
    size: {max: 300MB, target: 280MB, of: compressed}
"""
EVERY_KEY = """\
version: 1
project: shop
x-common: &common
  labels: {team: core}
services:
  base:
  app:
    image: localhost:5000/shop/app
    context: https://git.example/app.git#main
    dockerfile: docker/Dockerfile
    target: final
    args: {VERSION: 1.10, FROM_ENVIRONMENT: }
    contexts: {base-image: service:base, lib: ../lib, os: docker-image://debian}
    secrets: [{id: token, env: TOKEN}, {id: key, file: key.pem}]
    ssh: [default]
    cache_from: ["type=registry,ref=localhost:5000/cache"]
    cache_to: ["type=inline"]
    <<: *common
    annotations: {"index:a": b}
    platforms: [linux/amd64, linux/arm64/v8]
    outputs: ["type=local,dest=out"]
    network: none
    no_cache_filter: [deps]
    attestations: {provenance: max, sbom: yes}
    builder: ci
    retries: 3
    timeout: 1h30m
    timeouts: {resolve: 30s, push: 5m}
    max_age: 12h
    tags: ["v{date}"]
    size: {max: 1GB}
    policy: {min_stages: 3}
    buildx: [--shm-size=1g]
"""


def parsed(services: str, *, defaults: str = "{}") -> ServicesFile:
    return parse(f"version: 1\nproject: shop\ndefaults: {defaults}\nservices: {services}\n", "services.yaml")


def test_everything_in_the_designs_example_is_understood():
    file = parse(DESIGN, "services.yaml", variables={"REGISTRY": "localhost:5000"})

    backend = file.merged("backend")
    assert list(file.services) == ["backend", "frontend-web", "frontend-chatbot"]
    assert backend.context == "services/backend"
    assert backend.registry == "localhost:5000"
    assert backend.platforms == ("linux/amd64",)
    assert backend.tags == ("{git_sha}", "latest")
    assert backend.timeout == 1200
    assert backend.size is not None
    assert (backend.size.max, backend.size.target, backend.size.of) == (500_000_000, 450_000_000, "unpacked")
    assert backend.policy.bases == ("python:3.13-slim", "node:20-alpine")
    assert (backend.policy.user, backend.policy.min_stages) == ("non-root", 2)
    chatbot = file.merged("frontend-chatbot")
    assert chatbot.size is not None
    assert chatbot.size.of == "compressed"


def test_every_key_of_a_service_is_understood():
    app = parse(EVERY_KEY, "services.yaml").merged("app")

    assert app.args == {"VERSION": "1.10", "FROM_ENVIRONMENT": None}
    assert [(secret.id, secret.file, secret.env) for secret in app.secrets] == [
        ("token", None, "TOKEN"),
        ("key", "key.pem", None),
    ]
    assert app.labels == {"team": "core"}
    assert app.attestations == Attestations(provenance="max", sbom=True)
    assert (app.retries, app.timeout, app.max_age, app.network, app.builder) == (3, 5400, 43200, "none", "ci")
    assert app.platforms == ("linux/amd64", "linux/arm64/v8")
    assert app.buildx == ("--shm-size=1g",)
    assert set(app.model_fields_set) == set(type(app).model_fields) - {"registry"}


def test_a_service_says_more_than_the_defaults_and_mappings_are_merged_key_by_key():
    file = parsed(
        "{app: {args: {B: over, C: own}, tags: [own], policy: {min_stages: 3}, size: {target: 2}}}",
        defaults="{args: {A: base, B: base}, tags: [base], retries: 4, policy: {user: non-root}, size: {max: 9}}",
    )

    app = file.merged("app")

    assert app.args == {"A": "base", "B": "over", "C": "own"}
    assert app.tags == ("own",)
    assert app.retries == 4
    assert (app.policy.user, app.policy.min_stages) == ("non-root", 3)
    assert app.size is not None
    assert (app.size.max, app.size.target) == (9, 2)


def test_a_service_alone_on_its_line_has_every_default():
    file = parsed("\n  app:\n", defaults="{target: final}")

    app = file.merged("app")

    assert app.target == "final"
    assert (app.tags, app.retries, app.context, app.size) == (("latest",), 3, None, None)


def test_a_key_with_nothing_behind_its_colon_leaves_the_default_in_force():
    file = parsed("{app: {target: , tags: ~, size: null}}", defaults="{target: final}")

    assert file.merged("app").target == "final"


def test_a_quoted_null_is_a_text():
    assert parsed("{app: {target: 'null'}}").merged("app").target == "null"


@pytest.mark.parametrize("value", ["1.10", "0x1F", "1_000", "010", "1e3", "yes", "2024-01-01", ".5", "+1"])
def test_a_scalar_stays_as_it_was_written(value: str):
    assert parsed(f"{{app: {{args: {{V: {value}}}}}}}").merged("app").args == {"V": value}


def test_merge_keys_fill_in_what_the_mapping_does_not_say_and_the_first_source_counts():
    file = parse(
        "version: 1\nproject: shop\n"
        "x-a: &a {target: a, network: none}\n"
        "x-b: &b {target: b, dockerfile: B}\n"
        "services:\n  app: {<<: [*a, *b], network: host}\n",
        "services.yaml",
    )

    app = file.merged("app")

    assert (app.target, app.network, app.dockerfile) == ("a", "host", "B")


def test_top_level_keys_that_begin_with_x_are_the_users_own():
    file = parse("x-notes: [anything, {a: 1}]\nversion: 1\nproject: shop\nservices: {app: }\n", "services.yaml")

    assert list(file.services) == ["app"]


def test_carriage_returns_and_a_byte_order_mark_change_nothing():
    data = b"\xef\xbb\xbf" + DESIGN.replace("\n", "\r\n").encode()

    file = parse(decode(data, "services.yaml"), "services.yaml")

    assert file == parse(DESIGN, "services.yaml")


def test_a_services_file_cannot_be_changed_once_it_was_read():
    file = parsed("{app: }")

    with pytest.raises(ValueError, match="frozen"):
        file.project = "other"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("service", "name"),
    [
        ("{}", "shop/app"),
        ("{registry: 'localhost:5000'}", "localhost:5000/shop/app"),
        ("{registry: localhost:5000/}", "localhost:5000/shop/app"),
        ("{registry: ''}", "shop/app"),
        ("{image: other/name, registry: ignored}", "other/name"),
    ],
)
def test_an_image_is_named_by_registry_project_and_service_unless_it_says_otherwise(service: str, name: str):
    file = parsed(f"{{app: {service}}}")

    assert image_name(file.project, "app", file.merged("app")) == name


def test_only_contexts_that_are_services_are_dependencies():
    app = parsed("{app: {contexts: {a: service:base, b: ../lib, c: docker-image://x}}, base: }").merged("app")

    assert dependencies(app) == {"a": "base"}


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("1", 1),
        ("500MB", 500_000_000),
        ("1.5GB", 1_500_000_000),
        ("64MiB", 64 * 1024**2),
        ("64Mi", 64 * 1024**2),
        ("10k", 10_000),
        ("10KB", 10_000),
        ("2 GB", 2_000_000_000),
        ("1TiB", 1024**4),
        ("7B", 7),
        (12, 12),
    ],
)
def test_a_size_is_read_in_decimal_or_binary_units(text: object, count: int):
    assert parse_size(text) == count


@pytest.mark.parametrize(
    "text", ["", "MB", "-1MB", "1XB", "1 2", "500mb", "iB", "1iB", "1e3", "0x10", "9" * 400 + "TB", None, [1], True]
)
def test_what_is_not_a_size_is_refused_with_an_example(text: object):
    with pytest.raises(ValueError, match="a size such as 500MB or 64MiB was expected"):
        parse_size(text)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("20m", 1200),
        ("1h30m", 5400),
        ("90s", 90),
        ("90", 90),
        ("1h1m1s", 3661),
        ("0.5h", 1800),
        (2.5, 2.5),
        (3, 3),
    ],
)
def test_a_duration_is_read_in_hours_minutes_and_seconds(text: object, seconds: float):
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "m", "20 m", "-5m", "1d", "1m1h", "inf", None, True])
def test_what_is_not_a_duration_is_refused_with_an_example(text: object):
    with pytest.raises(ValueError, match="a duration such as 20m, 90s or 1h30m was expected"):
        parse_duration(text)


@given(st.integers(min_value=0, max_value=10**15))
def test_a_plain_number_is_a_size_in_bytes(count: int):
    assert parse_size(str(count)) == count


@given(hours=st.integers(0, 99), minutes=st.integers(0, 999), seconds=st.integers(0, 999))
def test_a_durations_parts_add_up(hours: int, minutes: int, seconds: int):
    assert parse_duration(f"{hours}h{minutes}m{seconds}s") == hours * 3600 + minutes * 60 + seconds
