"""`buildorch.lock`: its text, what becomes of it, and the command that writes it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest
from fakes import FakeRegistry, make_image, running_registry
from hypothesis import given
from hypothesis import strategies as st

from buildorch.bases import Base, Entry, Lock, Unresolved, canonical, renew
from buildorch.bases.lockfile import read
from buildorch.cli import main
from buildorch.errors import EXIT_USAGE, UsageError
from buildorch.testing import make_digest

A, B = make_digest("a"), make_digest("b")
THEN = datetime(2026, 11, 1, 8, 30, tzinfo=UTC)
NOW = datetime(2026, 11, 25, 10, 0, tzinfo=UTC)
TEXT = f"""\
# The digest that each base image is built from. Written by `buildorch lock`, renewed by `buildorch lock --update`.
version = 1

[bases."ghcr.io/x/y:1"]
digest = "{B}"
registry = "ghcr.io"
resolved_at = 2026-11-01T08:30:00Z

[bases."python:3.13-slim"]
digest = "{A}"
registry = "127.0.0.1:5000"
resolved_at = 2026-11-01T08:30:00Z
"""
LOCK = Lock({"python:3.13-slim": Entry(A, "127.0.0.1:5000", THEN), "ghcr.io/x/y:1": Entry(B, "ghcr.io", THEN)})


# The text


def test_the_text_is_in_order_of_names_and_read_back_to_the_same_lock():
    assert LOCK.text() == TEXT
    assert Lock.parse(TEXT, "buildorch.lock") == LOCK


_WORD = st.from_regex(r"[a-z][a-z0-9]{0,5}", fullmatch=True)
_NAME = st.builds("{}{}:{}".format, st.sampled_from(["", "ghcr.io/", "localhost:5000/"]), _WORD, _WORD).map(canonical)
_TIME = st.datetimes(datetime(1000, 1, 1), timezones=st.just(UTC)).map(lambda at: at.replace(microsecond=0))  # noqa: DTZ001
_ENTRY = st.builds(Entry, st.builds(make_digest, _WORD), st.sampled_from(["docker.io", "[::1]:5000"]), _TIME)


@pytest.mark.proof
@given(st.dictionaries(_NAME, _ENTRY))
def test_any_lock_comes_back_from_its_text_and_its_text_to_the_byte(bases: dict[str, Entry]):
    text = Lock(bases).text()

    found = Lock.parse(text, "buildorch.lock")

    assert found == Lock(bases)
    assert found.text() == text


def test_the_order_in_which_images_were_found_does_not_change_the_text():
    assert Lock(dict(reversed(LOCK.bases.items()))).text() == LOCK.text()


def test_every_problem_of_a_lock_file_is_told_at_once_with_its_line_and_what_was_expected():
    text = (
        "version = 1\nextra = 2\n\n"
        '[bases."docker.io/library/python:3.13"]\n'
        f'digest = "{A}"\nregistry = "docker.io"\nresolved_at = 2026-11-01T08:30:00Z\n\n'
        '[bases."node:20"]\n'
        'digest = "sha256:abc"\nregistry = "not a host"\nresolved_at = 2026-11-01\nwhy = 1\n\n'
        "[bases.debian]\n\n"
        "[bases]\nalpine = 7\n"
    )

    with pytest.raises(UsageError) as caught:
        Lock.parse(text, "buildorch.lock")

    assert str(caught.value).splitlines() == [
        "buildorch.lock: unknown key 'extra'",
        "buildorch.lock:4: docker.io/library/python:3.13: its name here is python:3.13",
        "buildorch.lock:9: node:20: unknown key 'why' (the keys are: digest, registry, resolved_at)",
        "buildorch.lock:9: node:20: digest is 'sha256:abc', not sha256: and 64 hexadecimal digits",
        "buildorch.lock:9: node:20: registry is 'not a host', not a host",
        "buildorch.lock:9: node:20: resolved_at is '2026-11-01', not a time with a zone such as 2026-11-25T10:00:00Z",
        "buildorch.lock: debian: digest is missing",
        "buildorch.lock: debian: registry is missing",
        "buildorch.lock: debian: resolved_at is missing",
        "buildorch.lock: alpine: it is 7, not a table of digest, registry, resolved_at",
    ]
    assert "run `buildorch lock`" in caught.value.hint


@pytest.mark.parametrize(
    ("text", "fact"),
    [
        ("<<<<<<< HEAD\nversion = 1\n", "it is not TOML"),
        (f"version = 1\n{TEXT[TEXT.index('[') :] * 2}", "it is not TOML"),
        ("x = " + "[" * 5000, "it is not TOML"),
        ("", "its version is None, and this buildorch reads 1"),
        ("version = true\n", "its version is True"),
        ("version = 2\n[bases]\nanything = 1\n", "its version is 2, and this buildorch reads 1"),
        ("version = 1\nbases = 3\n", "bases is not a table"),
        ('version = 1\n[bases."No Image"]\n', "it is not an image reference"),
        (f'version = 1\n[bases."x@{A}"]\n', "it names a digest itself, so there is nothing to lock"),
    ],
)
def test_a_text_that_is_no_lock_file_of_this_version_is_refused(text: str, fact: str):
    with pytest.raises(UsageError) as caught:
        Lock.parse(text, "buildorch.lock")

    assert f"buildorch.lock: {fact}" in str(caught.value) or fact in str(caught.value)
    assert caught.value.exit_code == EXIT_USAGE
    assert caught.value.hint


@pytest.mark.proof
@given(st.text(max_size=200))
def test_any_text_is_a_lock_or_a_usage_error(text: str):
    with suppress(UsageError):
        Lock.parse(f"version = 1\n{text}", "buildorch.lock")


def test_a_file_that_an_editor_gave_a_bom_and_crlf_is_read_as_it_was(tmp_path: Path):
    (tmp_path / "buildorch.lock").write_bytes(b"\xef\xbb\xbf" + TEXT.replace("\n", "\r\n").encode())

    assert read(tmp_path / "buildorch.lock") == LOCK


def test_no_file_is_no_lock_and_a_file_that_cannot_be_read_is_an_error(tmp_path: Path):
    assert read(tmp_path / "buildorch.lock") is None
    (tmp_path / "buildorch.lock").write_bytes(b"\xff")
    with pytest.raises(UsageError, match="cannot be read: it is not UTF-8"):
        read(tmp_path / "buildorch.lock")
    with pytest.raises(UsageError, match="cannot be read: Is a directory"):
        read(tmp_path)


# What becomes of it


def test_images_are_added_kept_and_removed_and_a_moved_one_is_told():
    old = Lock({"kept": Entry(A, "docker.io", THEN), "gone": Entry(A, "docker.io", THEN)})
    moved, new = Base("kept", B, "registry", "docker.io"), Base("new", B, "registry", "ghcr.io")

    found = renew(old, ["kept", "new"], today={"kept": moved, "new": new}, now=NOW)

    assert found.lock == Lock({"kept": old.bases["kept"], "new": Entry(B, "ghcr.io", NOW)})
    assert (found.added, found.updated, found.removed) == (("new",), (), ("gone",))
    assert found.moved == {"kept": moved}
    assert not found.is_current


def test_an_update_takes_a_moved_image_and_leaves_the_entry_of_one_that_did_not_move():
    old = Lock({"moved": Entry(A, "docker.io", THEN), "same": Entry(A, "docker.io", THEN)})
    today = {"moved": Base("moved", B, "registry", "mirror"), "same": Base("same", A, "registry", "mirror")}

    found = renew(old, ["moved", "same"], today=today, update=["moved", "same"], now=NOW)

    assert found.lock == Lock({"moved": Entry(B, "mirror", NOW), "same": old.bases["same"]})
    assert (found.updated, found.moved) == (("moved",), {})


def test_what_nobody_gives_is_missing_where_it_should_be_written_and_unknown_where_it_is_kept():
    old = Lock({"kept": Entry(A, "docker.io", THEN), "stale": Entry(A, "docker.io", THEN)})
    today = {name: Unresolved(name, "down") for name in ("kept", "stale", "new")}

    found = renew(old, ["kept", "stale", "new"], today=today, update=["stale"], now=NOW)

    assert found.lock == old
    assert (found.missing, found.unknown) == ({"stale": "down", "new": "down"}, {"kept": "down"})
    assert not found.is_current


# The command


@dataclass
class Said:
    code: int
    out: str
    err: str


@dataclass
class Project:
    """A project of one service whose base image is in a registry of its own."""

    root: Path
    registry: FakeRegistry

    @property
    def base(self) -> str:
        return f"{self.registry.host}/team/app:v1"

    @property
    def lock(self) -> Lock:
        found = read(self.root / "buildorch.lock")
        assert found is not None
        return found

    def dockerfile(self, text: str) -> None:
        (self.root / "services" / "web" / "Dockerfile").write_text(text)

    def move(self) -> None:
        self.registry.image = make_image(layers=[os.urandom(8)])

    def locked(self, reference: str, digest: str = A) -> None:
        (self.root / "buildorch.lock").write_text(Lock({reference: Entry(digest, "docker.io", THEN)}).text())


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    (tmp_path / "services" / "web").mkdir(parents=True)
    (tmp_path / "services.yaml").write_text("version: 1\nproject: p\nservices:\n  web: {tags: [v1]}\n")
    monkeypatch.chdir(tmp_path)
    with running_registry() as registry:
        registry.image = make_image()
        found = Project(tmp_path, registry)
        found.dockerfile(f"FROM {found.base}\n")
        yield found


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Callable[..., Said]:
    def called(*arguments: str) -> Said:
        code = main(["lock", *arguments])
        said = capsys.readouterr()
        return Said(code, said.out, said.err)

    return called


def test_lock_writes_what_is_missing_and_nothing_where_all_is_there(project: Project, call: Callable[..., Said]):
    first = call()
    text = (project.root / "buildorch.lock").read_bytes()
    second = call()

    assert project.registry.image is not None
    assert project.lock.bases[project.base].digest == project.registry.image.digest
    assert project.lock.bases[project.base].registry == project.registry.host
    assert (first.code, second.code) == (0, 0)
    assert f"added    {project.base}  {project.registry.image.digest[:19]}" in first.out
    assert first.out.endswith("buildorch.lock written: 1 base image\n")
    assert second.out.endswith("buildorch.lock is up to date: 1 base image\n")
    assert (project.root / "buildorch.lock").read_bytes() == text


def test_lock_takes_out_what_no_dockerfile_names(project: Project, call: Callable[..., Said]):
    project.locked("node:20")

    said = call()

    assert "removed  node:20" in said.out
    assert set(project.lock.bases) == {project.base}


def test_lock_keeps_a_moved_base_and_says_how_to_take_it(project: Project, call: Callable[..., Said]):
    call()
    before = project.lock
    project.move()

    said = call()

    assert said.code == 0
    assert f"warning: {project.base} has moved since" in said.out
    assert f"`buildorch lock --update {project.base}` takes it" in said.out
    assert project.lock == before


def test_update_takes_a_moved_base(project: Project, call: Callable[..., Said]):
    call()
    project.move()

    said = call("--update", project.base)

    assert project.registry.image is not None
    assert "updated" in said.out
    assert project.lock.bases[project.base].digest == project.registry.image.digest


def test_update_of_a_name_that_no_dockerfile_has_names_the_nearest(project: Project, call: Callable[..., Said]):
    said = call("--update", project.base.replace("app", "ap"))

    assert said.code == 2
    assert f"did you mean {project.base!r}?" in said.err
    assert not (project.root / "buildorch.lock").exists()


def test_a_name_without_update_and_update_with_check_are_usage_errors(project: Project, call: Callable[..., Said]):
    assert call("x").code == 2
    assert call("--check", "--update").code == 2
    assert project.registry.asked == []


def test_check_exits_with_1_where_the_lock_does_not_fit_and_writes_nothing(project: Project, call: Callable[..., Said]):
    project.locked("node:20")
    before = (project.root / "buildorch.lock").read_bytes()

    said = call("--check")

    assert said.code == 1
    assert "unused   node:20" in said.out
    assert f"missing  {project.base}" in said.out
    assert said.out.endswith("buildorch.lock does not fit the Dockerfiles: run `buildorch lock`\n")
    assert (project.root / "buildorch.lock").read_bytes() == before


def test_check_minds_an_entry_that_nobody_names_where_none_is_missing(project: Project, call: Callable[..., Said]):
    both = {name: Entry(A, "docker.io", THEN) for name in (project.base, "node:20")}
    (project.root / "buildorch.lock").write_text(Lock(both).text())

    said = call("--check")

    assert said.code == 1
    assert "missing" not in said.out


def test_check_makes_no_file_where_there_is_none(project: Project, call: Callable[..., Said]):
    assert call("--check").code == 1
    assert not (project.root / "buildorch.lock").exists()


def test_check_is_content_with_a_moved_base_and_only_warns(project: Project, call: Callable[..., Said]):
    project.locked(project.base)

    said = call("--check")

    assert said.code == 0
    assert f"warning: {project.base} has moved since 2026-11-01: it was {A[:19]} at docker.io" in said.out


def test_check_needs_no_registry(project: Project, call: Callable[..., Said]):
    project.locked(project.base)
    project.registry.status = 503

    said = call("--check")

    assert said.code == 0
    assert f"warning: nobody says whether {project.base} has moved: " in said.out


def test_a_base_past_its_end_of_life_is_told_with_the_services_that_use_it(project: Project, call: Callable[..., Said]):
    project.dockerfile(f"FROM node:16@{A}\n")

    said = call("--check")

    assert said.code == 0
    assert "warning: node:16@" in said.out
    assert "is past its end of life since 2023-09-11: nobody mends it (web)" in said.out


def test_a_base_that_is_nowhere_exits_with_4_and_the_others_are_written(project: Project, call: Callable[..., Said]):
    with running_registry() as empty:
        lost = f"{empty.host}/team/lost:v1"
        project.dockerfile(f"FROM {lost}\nCOPY --from={project.base} /a /a\n")

        said = call()

    assert said.code == 4
    assert f"error: no digest for {lost}: {empty.host} gave 404" in said.err
    assert f"missing  {lost}" in said.out
    assert set(project.lock.bases) == {project.base}


def test_a_failed_update_keeps_what_was_there(project: Project, call: Callable[..., Said]):
    project.locked(project.base)
    project.registry.status = 429

    said = call("--update")

    assert said.code == 4
    assert "it has had too many requests" in said.err
    assert project.lock.bases[project.base].digest == A


def test_a_registry_that_sends_another_manifest_than_it_says_is_not_locked(project: Project, call: Callable[..., Said]):
    project.registry.said = A

    said = call()

    assert said.code == 4
    assert f"is {A}, and sends" in said.err
    assert project.lock == Lock({})


def test_a_lock_file_that_is_a_folder_is_a_usage_error(project: Project, call: Callable[..., Said]):
    (project.root / "buildorch.lock").mkdir()

    said = call()

    assert said.code == 2
    assert "error: the lock file buildorch.lock cannot be read: Is a directory" in said.err


def test_json_holds_what_the_text_says(project: Project, call: Callable[..., Said]):
    project.locked("node:20")

    said = call("--format", "json")

    document = json.loads(said.out)
    assert document["schema"] == "buildorch.lock/1"
    assert document["up_to_date"] is True
    assert document["removed"] == ["node:20"]
    assert document["missing"] == {}
    assert document["bases"][project.base]["change"] == "added"
    assert document["bases"][project.base]["services"] == ["web"]
    assert document["bases"][project.base]["digest"] == project.lock.bases[project.base].digest
