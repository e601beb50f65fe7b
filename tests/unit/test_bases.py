"""Base images: their one name, their digest, how long they are mended, and how a build is held to them."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from datetime import UTC, date, datetime
from pathlib import Path

import pytest
from fakes import FakeRegistry, digest_of, make_image, running_registry

from buildorch.bases import (
    Base,
    Entry,
    Lock,
    Unresolved,
    canonical,
    end_of_life,
    pinned,
    pins,
    resolve_bases,
)
from buildorch.bases.lifetimes import END_OF_LIFE
from buildorch.bases.named import named
from buildorch.cli import locking
from buildorch.errors import EXIT_USAGE, UsageError
from buildorch.plan import Plan, Selection, Solve, resolve
from buildorch.services import parse
from buildorch.testing import make_digest

A, B = make_digest("a"), make_digest("b")
NOWHERE: Mapping[str, str] = {"HOME": "/nonexistent"}


@pytest.fixture
def registry() -> Iterator[FakeRegistry]:
    with running_registry() as running:
        running.image = make_image(index=True)
        yield running


def today(registry: FakeRegistry) -> str:
    assert registry.image is not None
    return registry.image.digest


def lock_of(**digests: str) -> Lock:
    at = datetime(2026, 11, 1, tzinfo=UTC)
    return Lock({name: Entry(digest, "docker.io", at) for name, digest in digests.items()})


def plan_of(root: Path, services: str) -> Plan:
    return resolve(parse(f"version: 1\nproject: p\nservices:\n{services}", "s.yaml"), Selection(), root=root)


def solve_of(root: Path, dockerfile: str, options: str = "tags: [v1]") -> Solve:
    (root / "services" / "web").mkdir(parents=True)
    (root / "services" / "web" / "Dockerfile").write_text(dockerfile)
    return plan_of(root, f"  web: {{{options}}}\n").solves[0]


# The one name


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("python:3.13-slim", "python:3.13-slim"),
        ("docker.io/python:3.13-slim", "python:3.13-slim"),
        ("docker.io/library/python:3.13-slim", "python:3.13-slim"),
        ("index.docker.io/library/python:3.13-slim", "python:3.13-slim"),
        ("library/python", "python"),
        ("python:latest", "python"),
        ("team/app:v1", "team/app:v1"),
        ("ghcr.io/library/x:latest", "ghcr.io/library/x"),
        ("localhost/x", "localhost/x"),
        ("LOCALHOST:5000/x:1", "LOCALHOST:5000/x:1"),
        (f"python:3.13@{A}", f"python:3.13@{A}"),
    ],
)
def test_an_image_has_one_name_however_it_is_written(written: str, name: str):
    assert canonical(written) == name


# Digests


def test_a_digest_in_the_reference_wins_over_the_lock_and_the_registry():
    lock = lock_of(**{"python:3.13": B})

    found = resolve_bases([f"python:3.13@{A}"], lock=lock, environ=NOWHERE)

    assert found == {f"python:3.13@{A}": Base(f"python:3.13@{A}", A, "reference")}


def test_the_lock_wins_over_the_registry_however_the_reference_is_written(registry: FakeRegistry):
    mirror = f"http://{registry.host}/"

    found = resolve_bases(
        ["docker.io/library/python:3.13"], lock=lock_of(**{"python:3.13": A}), mirrors=[mirror], environ=NOWHERE
    )

    assert found == {"docker.io/library/python:3.13": Base("python:3.13", A, "lock", "docker.io")}
    assert registry.asked == []


def test_what_the_lock_lacks_is_asked_for_at_the_registry_once_for_all_its_spellings(registry: FakeRegistry):
    mirror = f"http://{registry.host}/"

    found = resolve_bases(
        ["python", "docker.io/library/python:latest", "python"], lock=None, mirrors=[mirror], environ=NOWHERE
    )

    base = Base("python", today(registry), "registry", registry.host)
    assert found == {"python": base, "docker.io/library/python:latest": base}
    assert [path for path, _ in registry.asked] == ["/v2/library/python/manifests/latest"]
    assert registry.methods == ["HEAD"]


def test_a_registry_that_names_no_digest_has_it_computed(registry: FakeRegistry):
    registry.said = ""

    [base] = resolve_bases([f"{registry.host}/team/app:v1"], lock=None, environ=NOWHERE).values()

    assert isinstance(base, Base)
    assert base.digest == today(registry)
    assert registry.methods == ["HEAD", "GET"]


def test_a_login_is_given_to_a_head_request_too(registry: FakeRegistry):
    registry.login = "token"

    [base] = resolve_bases([f"{registry.host}/team/app:v1"], lock=None, environ=NOWHERE).values()

    assert isinstance(base, Base)
    assert registry.methods == ["HEAD", "GET", "HEAD"]


def test_a_digest_that_is_not_the_manifests_is_found_where_the_manifest_is_fetched(registry: FakeRegistry):
    registry.said = A

    [base] = resolve_bases([f"{registry.host}/team/app:v1"], lock=None, verify=True, environ=NOWHERE).values()

    assert isinstance(base, Unresolved)
    assert f"is {A}, and sends {today(registry)}" in base.reason


@pytest.mark.parametrize("said", ["sha256:short", "md5:x", f"{make_digest('a')}\t"])
def test_a_digest_in_another_form_is_not_believed(registry: FakeRegistry, said: str):
    registry.said = said

    [base] = resolve_bases([f"{registry.host}/team/app:v1"], lock=None, environ=NOWHERE).values()

    assert isinstance(base, Base)
    assert base.digest == today(registry)


@pytest.mark.parametrize("kind", ["application/vnd.docker.distribution.manifest.v1+prettyjws", "text/html", ""])
def test_what_is_no_image_gives_no_digest(registry: FakeRegistry, kind: str):
    registry.media_type = kind

    [base] = resolve_bases([f"{registry.host}/team/app:v1"], lock=None, environ=NOWHERE).values()

    assert isinstance(base, Unresolved)
    assert "which is no image index and no manifest" in base.reason


@pytest.mark.parametrize(
    ("status", "hint"),
    [
        (401, "log in with `docker login`"),
        (404, "is it pushed there?"),
        (429, "it has had too many requests: log in with `docker login`, or try again later"),
        (500, "try again"),
    ],
)
def test_a_registry_that_refuses_is_a_reason_with_the_next_step(registry: FakeRegistry, status: int, hint: str):
    registry.status = status
    reference = f"{registry.host}/team/app:v1"

    found = resolve_bases([reference], lock=None, environ=NOWHERE)

    reason = f"{registry.host} gave {status} for /v2/team/app/manifests/v1 ({hint})"
    assert found == {reference: Unresolved(reference, reason)}


def test_a_text_that_is_no_reference_is_a_reason_and_not_an_error():
    [base] = resolve_bases(["No Image"], lock=None, environ=NOWHERE).values()

    assert base == Unresolved("No Image", "'No Image' is not an image reference")


def test_the_second_mirror_is_asked_where_the_first_does_not_have_it(registry: FakeRegistry):
    with running_registry() as empty:
        [base] = resolve_bases(
            ["python"], lock=None, mirrors=[f"http://{empty.host}/", f"http://{registry.host}"], environ=NOWHERE
        ).values()

        assert base == Base("python", today(registry), "registry", registry.host)
        assert len(empty.asked) == 1


def test_an_image_of_another_registry_is_not_asked_for_at_the_hubs_mirrors(registry: FakeRegistry):
    with running_registry() as mirror:
        mirror.image = make_image(layers=[b"another"])

        [base] = resolve_bases(
            [f"{registry.host}/team/app:v1"], lock=None, mirrors=[f"http://{mirror.host}/"], environ=NOWHERE
        ).values()

        assert base == Base(f"{registry.host}/team/app:v1", today(registry), "registry", registry.host)
        assert mirror.asked == []


def test_a_mirror_is_spoken_to_as_its_url_says(registry: FakeRegistry):
    # No loopback address by its form, so without the URL's word it would be spoken to with TLS.
    host = registry.host.replace("127.0.0.1", "0.0.0.0")  # noqa: S104

    found = resolve_bases(["python"], lock=None, mirrors=[f"http://{host}/"], environ=NOWHERE)

    assert found == {"python": Base("python", today(registry), "registry", host)}


@pytest.mark.proof
def test_registries_are_asked_all_at_once():
    with ExitStack() as running:
        registries = [running.enter_context(running_registry()) for _ in range(8)]
        for registry in registries:
            registry.image, registry.silent_s = make_image(), 0.3
        begun = time.monotonic()

        found = resolve_bases([f"{registry.host}/team/app:v1" for registry in registries], lock=None, environ=NOWHERE)

        assert time.monotonic() - begun < 1.5
        assert all(isinstance(base, Base) for base in found.values())


@pytest.mark.proof
def test_a_registry_that_hangs_holds_up_nobody_past_the_deadline(registry: FakeRegistry):
    with running_registry() as hanging:
        hanging.image, hanging.silent_s = make_image(), 2.0
        slow, quick = f"{hanging.host}/team/app:v1", f"{registry.host}/team/app:v1"
        begun = time.monotonic()

        found = resolve_bases([slow, quick], lock=None, deadline_s=0.3, environ=NOWHERE)

        assert time.monotonic() - begun < 1.5
        assert found[slow] == Unresolved(slow, "there was no answer within 0.3 s")
        assert isinstance(found[quick], Base)
        # Python waits at its end for threads that are no daemons.
        assert all(thread.daemon for thread in threading.enumerate() if thread.name == "bases")


def test_frozen_names_every_image_the_lock_lacks_and_asks_nobody(registry: FakeRegistry):
    wanted = [f"{registry.host}/team/app:v1", "python:3.13", "No Image", f"node@{A}", "debian"]

    with pytest.raises(UsageError) as caught:
        resolve_bases(wanted, lock=lock_of(debian=A), frozen=True, environ=NOWHERE)

    assert str(caught.value) == f"not in buildorch.lock: {registry.host}/team/app:v1, python:3.13, No Image"
    assert "`buildorch lock`" in caught.value.hint
    assert caught.value.exit_code == EXIT_USAGE
    assert registry.asked == []


def test_frozen_is_content_with_digests_in_references_and_in_the_lock():
    found = resolve_bases([f"node@{A}", "debian"], lock=lock_of(debian=B), frozen=True, environ=NOWHERE)

    assert [base.digest for base in found.values() if isinstance(base, Base)] == [A, B]


def test_frozen_without_a_lock_file_needs_one():
    with pytest.raises(UsageError, match=r"not in buildorch\.lock: debian"):
        resolve_bases(["debian"], lock=None, frozen=True, environ=NOWHERE)


# Pins


def test_a_pin_stands_under_the_name_that_buildkit_compares_and_keeps_the_tag():
    bases = resolve_bases(["docker.io/library/python:3.13"], lock=lock_of(**{"python:3.13": A}), environ=NOWHERE)

    assert pins(bases) == {"python:3.13": f"docker-image://python:3.13@{A}"}


def test_what_has_a_digest_of_its_own_or_none_at_all_gets_no_pin():
    bases = {
        "a": Unresolved("a", "nobody has it"),
        f"b@{A}": Base(f"b@{A}", A, "reference"),
        "c": Base("c", B, "registry", "docker.io"),
    }

    assert pins(bases) == {"c": f"docker-image://c@{B}"}


def test_an_image_that_shares_its_name_with_a_stage_gets_no_pin_as_the_stage_would_be_replaced():
    bases = {"nginx": Base("nginx", A, "lock"), "node:20": Base("node:20", B, "lock")}

    assert pins(bases, stages=["Nginx", "node"]) == {"node:20": f"docker-image://node:20@{B}"}


@pytest.mark.parametrize(
    ("context", "value"),
    [
        ("docker-image://docker.io/library/python:3.13", f"docker-image://python:3.13@{A}"),
        ("docker-image://node:20", "docker-image://node:20"),
        (f"docker-image://python:3.13@{B}", f"docker-image://python:3.13@{B}"),
        ("docker-image://No Image", "docker-image://No Image"),
        ("https://example.test/x.git", "https://example.test/x.git"),
    ],
)
def test_a_named_context_that_is_an_image_gets_its_digest_in_its_own_value(context: str, value: str):
    bases = {"python:3.13": Base("python:3.13", A, "lock"), "node:20": Unresolved("node:20", "nobody has it")}

    assert pinned(context, bases) == value


# What is named


def test_the_images_of_a_solve_are_those_of_from_copy_and_mount_and_of_its_named_contexts(tmp_path: Path):
    dockerfile = (
        "ARG PYTHON=3.12\nFROM python:${PYTHON} AS build\nRUN --mount=from=tool:1,target=/t true\n"
        "FROM debian\nCOPY --from=build /a /a\nCOPY --from=ghcr.io/x/y:2 /b /b\n"
    )
    options = "tags: [v1], args: {PYTHON: '3.13'}, contexts: {extra: 'docker-image://z:3'}"

    found = named(solve_of(tmp_path, dockerfile, options))

    assert set(found) == {"python:3.13", "tool:1", "debian", "ghcr.io/x/y:2", "z:3"}


def test_an_image_that_a_named_context_stands_in_for_is_not_named(tmp_path: Path):
    options = "tags: [v1], contexts: {'docker.io/library/python:3.13': 'docker-image://mirror.test/python:3.13'}"

    assert named(solve_of(tmp_path, "FROM python:3.13\n", options)) == ("mirror.test/python:3.13",)


def test_a_dockerfile_in_a_remote_context_names_nothing_that_is_known_here(tmp_path: Path):
    [solve] = plan_of(tmp_path, "  web: {tags: [v1], context: 'https://example.test/x.git'}\n").solves

    assert named(solve) == ()


def test_a_dockerfile_that_cannot_be_read_is_told_with_its_service(tmp_path: Path):
    solve = solve_of(tmp_path, "FROM a\n")
    (tmp_path / "services" / "web" / "Dockerfile").write_bytes(b"\xff\xfe")

    with pytest.raises(UsageError, match=r"^web: its base images are not known, .*it is not UTF-8"):
        named(solve)


def test_the_images_of_a_plan_are_named_once_each(tmp_path: Path):
    for name, image in {"a": "python", "b": "docker.io/library/python:latest", "c": "node"}.items():
        (tmp_path / "services" / name).mkdir(parents=True)
        (tmp_path / "services" / name / "Dockerfile").write_text(f"FROM {image}\n")

    found = locking._services(plan_of(tmp_path, "".join(f"  {name}: {{tags: [v1]}}\n" for name in "abc")))

    assert found == {"node": ["c"], "python": ["a", "b"]}


# End of life


@pytest.mark.parametrize(
    ("reference", "ended"),
    [
        ("python:3.9-slim", date(2025, 10, 31)),
        ("docker.io/library/python:3.9.25", date(2025, 10, 31)),
        ("python:3.13-slim", None),
        ("python:3.13-slim-bullseye", date(2026, 8, 31)),
        ("python:3.9-alpine3.17", date(2024, 11, 22)),
        ("node:20-alpine", date(2026, 4, 30)),
        ("node:20.11.1-bookworm", date(2026, 4, 30)),
        ("node:iron", date(2026, 4, 30)),
        ("node:24-alpine3.20", date(2026, 4, 1)),
        ("node:lts", None),
        ("debian:buster-slim", date(2024, 6, 30)),
        ("debian:11.9", date(2026, 8, 31)),
        ("debian:trixie-slim", None),
        ("alpine:3.19.1", date(2025, 11, 1)),
        ("alpine", None),
        (f"alpine:3.19@{A}", date(2025, 11, 1)),
        ("mirror.test/library/node:18", date(2025, 4, 30)),
        ("mirror.test/hub/library/node:18", date(2025, 4, 30)),
        ("mirror.test/team/node:18", None),
        ("mirror.test/node:18", None),
        ("team/node:18", None),
        ("python:2.7", None),
        ("python:3", None),
        ("postgres:9", None),
        ("No Image", None),
    ],
)
def test_an_image_is_as_old_as_the_oldest_release_its_tag_names(reference: str, ended: date | None):
    assert end_of_life(reference, date(2026, 11, 25)) == ended


def test_the_last_day_of_support_is_not_past_it_and_the_next_is():
    assert end_of_life("node:20", date(2026, 4, 30)) is None
    assert end_of_life("node:20", date(2026, 5, 1)) == date(2026, 4, 30)


def test_newer_releases_of_a_project_are_supported_longer_apart_from_nodes_odd_ones():
    for project, releases in END_OF_LIFE.items():
        ends = [end for version, end in releases.items() if project != "node" or int(version) % 2 == 0]

        assert ends == sorted(ends), project


def test_the_digest_that_a_registry_computes_is_that_of_the_index_and_not_of_one_platform(registry: FakeRegistry):
    image = registry.image
    assert image is not None

    [base] = resolve_bases([f"{registry.host}/team/app:v1"], lock=None, verify=True, environ=NOWHERE).values()

    assert isinstance(base, Base)
    assert base.digest == digest_of(image.blobs[image.digest]) != image.manifest_digest
