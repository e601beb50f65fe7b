"""What is read of a solve before it is decided: digests, held images, and every doubt told."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from buildorch import inputs
from buildorch.bases import Base, Entry, Lock
from buildorch.context import StatCache
from buildorch.errors import UsageError
from buildorch.fingerprint import Environment, compute
from buildorch.inputs import KEY_FILE, Inputs, Surroundings, key, variables
from buildorch.plan import Plan, Selection, resolve
from buildorch.services import parse
from buildorch.testing import make_digest

KEY = b"k" * 32
PYTHON, NODE, SYNTAX = (make_digest(name) for name in ("python", "node", "syntax"))
ENVIRONMENT = Environment(engine="28", buildx="0.29.1", store="containerd")


def lock_of(**digests: str) -> Lock:
    return Lock(
        {name: Entry(digest, "docker.io", datetime(2026, 11, 1, tzinfo=UTC)) for name, digest in digests.items()}
    )


LOCK = lock_of(**{"python:3.13-slim": PYTHON, "node:20": NODE, "docker/dockerfile:1": SYNTAX})


@dataclass
class Project:
    """A project on the disk, and what its inputs are read with."""

    root: Path
    cache: StatCache
    around: dict[str, Any] = field(default_factory=dict)

    def write(self, **texts: str) -> None:
        """Files of `services/app`: `main_py="..."` is main.py."""
        for name, text in texts.items():
            path = self.root / "services" / "app" / name.replace("_", ".")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

    def plan(self, app: str = "{}", more: str = "", selection: Selection | None = None) -> Plan:
        text = f"version: 1\nproject: shop\nservices: {{app: {app}{more}}}"
        return resolve(parse(text, "services.yaml"), selection or Selection(), root=self.root)

    def surroundings(self, **around: Any) -> Surroundings:
        return Surroundings(**{"cache": self.cache, "key": KEY, "lock": LOCK, "environ": {}, **self.around, **around})

    def read(self, app: str = "{}", **around: Any) -> Inputs:
        return inputs.read(self.plan(app), self.surroundings(**around))["app"]

    def unproven(self, app: str = "{}", **around: Any) -> tuple[str, ...]:
        return self.read(app, **around).observed.unproven


@pytest.fixture
def project(tmp_path: Path):
    with StatCache(tmp_path / "cache" / "contexts.db") as cache:
        made = Project(tmp_path / "project", cache)
        made.write(Dockerfile="FROM scratch\nCOPY main.py /\n", main_py="print()\n", other_py="1\n")
        yield made


# --- what counts


def test_a_service_whose_inputs_are_all_known_is_provable(project: Project):
    found = project.read()

    assert found.observed.unproven == ()
    assert list(found.observed.contexts) == [""]
    assert [(one.line, one.name) for one in found.instructions] == [(1, "FROM"), (2, "COPY")]
    assert found.solve == project.plan().solves[0]


def test_equal_files_elsewhere_are_the_same_inputs(project: Project, tmp_path: Path):
    elsewhere = Project(tmp_path / "other" / "checkout", project.cache)
    elsewhere.write(Dockerfile="FROM scratch\nCOPY main.py /\n", main_py="print()\n", unrelated="")

    # Each checkout has a key of its own: without secrets, nothing rests on it.
    assert elsewhere.read(key=b"another").observed == project.read().observed


EDITS: Mapping[str, Callable[[Path], object]] = {
    "contents": lambda app: (app / "main.py").write_text("print(1)"),
    "mode": lambda app: (app / "main.py").chmod(0o755),
    "gone": lambda app: (app / "main.py").unlink(),
    "the Dockerfile": lambda app: (app / "Dockerfile").write_text("FROM scratch\nCOPY main.py /x\n"),
    "an ignore file": lambda app: (app / ".dockerignore").write_text("main.py"),
}


@pytest.mark.parametrize("edit", EDITS)
def test_a_change_of_what_the_build_reads_is_seen(project: Project, edit: str):
    before = project.read()

    EDITS[edit](project.root / "services" / "app")

    assert project.read().observed != before.observed
    assert before.changed() != ()


def test_a_file_that_was_written_twice_in_one_tick_of_the_clock_is_named(project: Project):
    first = project.read()
    project.write(main_py="twice")
    second = project.read()
    unseen = dataclasses.replace(first.listings[""], state=second.listings[""].state)

    assert dataclasses.replace(first, listings={"": unseen}).changed() == ("main.py",)


def test_a_file_that_the_dockerfile_does_not_read_does_not_count(project: Project):
    before = project.read()

    project.write(other_py="another\n", new_py="")

    assert project.read().observed == before.observed
    assert before.changed() == ()


def test_a_named_context_counts_by_its_name_where_the_build_reads_it(project: Project):
    (project.root / "lib").mkdir()
    (project.root / "lib" / "x").write_text("1")
    app = "{contexts: {lib: lib, unused: .}}"
    project.write(Dockerfile="FROM scratch\nCOPY --from=lib x /\n")
    before = project.read(app)

    (project.root / "lib" / "x").write_text("22")

    assert list(before.observed.contexts) == ["", "lib"]
    assert before.changed() == ("lib: x",)
    assert project.read(app).observed != before.observed


def test_a_dockerfile_outside_its_context_counts(project: Project):
    (project.root / "docker").mkdir()
    (project.root / "docker" / "D").write_text("FROM scratch\n")
    app = "{dockerfile: ../../docker/D}"
    before = project.read(app)

    (project.root / "docker" / "D").write_text("FROM scratch\nCOPY main.py /\n")

    assert before.changed() != ()
    assert project.read(app).observed != before.observed


def test_a_dockerfile_edited_between_its_reading_and_the_contexts_is_noticed(
    project: Project, monkeypatch: pytest.MonkeyPatch
):
    real = inputs.resolve_bases

    def slow(*arguments: Any, **options: Any) -> Any:
        project.write(Dockerfile="FROM scratch\nCOPY main.py /edited\n")
        return real(*arguments, **options)

    monkeypatch.setattr(inputs, "resolve_bases", slow)

    assert project.read().changed() == ("Dockerfile",)


def test_the_files_of_two_services_are_their_own(project: Project):
    base = project.root / "services" / "base"
    base.mkdir()
    (base / "Dockerfile").write_text("FROM scratch\nCOPY x /\n")

    found = inputs.read(project.plan(more=", base: "), project.surroundings())

    assert found["app"].observed.contexts != found["base"].observed.contexts


# --- arguments and what is around


def test_an_argument_counts_by_a_hash_with_the_projects_key(project: Project):
    app = "{args: {VERSION: hunter2, FROM_ENVIRONMENT: , UNSET: }}"

    found = project.read(app, environ={"FROM_ENVIRONMENT": "hunter3"})

    assert found.observed.arguments.keys() == {"VERSION", "FROM_ENVIRONMENT"}
    assert "hunter" not in str(found.observed)
    assert project.read(app, key=b"another").observed != found.observed
    assert project.read(app, environ={"FROM_ENVIRONMENT": "other"}).observed != found.observed
    assert project.read(app, environ={"FROM_ENVIRONMENT": "hunter3", "MORE": "x"}).observed == found.observed


def test_a_flag_that_is_handed_on_counts_by_its_value(project: Project):
    one, other = (project.read(f"{{buildx: ['--shm-size={size}']}}").observed for size in ("1g", "2g"))

    assert one.flags != other.flags
    assert (one.unproven, project.read().observed.flags) == ((), "")


SECRETS = {
    "an argument": "{args: {A: hunter2}}",
    "a secret's place": "{secrets: [{id: a, env: hunter2}]}",
    "a key's place": "{ssh: ['a=/hunter2']}",
    "a cache's key": "{cache_to: ['type=s3,secret_access_key=hunter2'], cache_from: ['type=gha,token=hunter2']}",
    "a password of a context": "{contexts: {lib: 'https://user:hunter2@git.example/lib.git#main'}}",
    "a flag": "{buildx: ['--opaque=hunter2']}",
}


@pytest.mark.parametrize("what", SECRETS)
def test_nothing_secret_is_in_what_is_kept_of_the_inputs(project: Project, what: str):
    found = project.read(SECRETS[what])

    made = compute(found.solve, found.observed, environment=ENVIRONMENT, services={})

    assert "hunter2" not in f"{found.observed}{made}{found.snapshot(made)}"


def test_where_a_cache_or_a_remote_context_is_still_counts(project: Project):
    services = [
        "{}",
        "{cache_to: ['type=inline']}",
        "{cache_from: ['type=inline']}",
        "{contexts: {lib: 'https://git.example/lib.git#main'}}",
        "{contexts: {lib: 'https://git.example/lib.git#other'}}",
    ]

    found = {str(project.read(service).observed) for service in services}

    assert len(found) == len(services)


def test_only_what_docker_hands_on_is_taken_from_the_environment():
    environ = {"SOURCE_DATE_EPOCH": "0", "BUILDKIT_X": "1", "PATH": "/bin", "HTTP_PROXY": "x", "BUILDX_CONFIG": "y"}
    environ |= {"BUILDKIT_COLORS": "run=red", "BUILDKIT_PROGRESS": "plain", "BUILDKIT_TTY_LOG_LINES": "9"}

    found = variables(KEY, environ)

    assert found.keys() == {"SOURCE_DATE_EPOCH", "BUILDKIT_X"}
    assert not {"0", "1"} & set(found.values())


# --- the key


def test_the_key_is_made_once_and_only_its_owner_may_read_it(tmp_path: Path):
    made = key(tmp_path)

    assert (len(made), key(tmp_path)) == (32, made)
    assert (tmp_path / KEY_FILE).stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir()] == [KEY_FILE]


def test_two_projects_have_different_keys(tmp_path: Path):
    (tmp_path / "other").mkdir()

    assert key(tmp_path) != key(tmp_path / "other")


def test_a_key_that_another_run_makes_meanwhile_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    others = b"o" * 32
    monkeypatch.setattr(os, "fsync", lambda _: (tmp_path / KEY_FILE).write_bytes(others))

    assert key(tmp_path) == others


def test_a_key_is_never_there_in_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space"):
            key(tmp_path)

    assert len(key(tmp_path)) == 32


# --- images


def test_a_base_image_is_held_to_its_digest_and_the_dockerfile_stays(project: Project):
    project.write(Dockerfile="FROM docker.io/library/python:3.13-slim\n")

    found = project.read()

    assert found.observed.bases == {"docker.io/library/python:3.13-slim": PYTHON}
    assert found.solve.pins == {"python:3.13-slim": f"docker-image://python:3.13-slim@{PYTHON}"}
    assert found.observed.unproven == ()


def test_an_image_of_a_named_context_is_held_in_its_place(project: Project):
    project.write(Dockerfile="FROM os\nCOPY --from=node:20 /x /\n")

    found = project.read("{contexts: {os: 'docker-image://python:3.13-slim'}}")

    assert found.solve.contexts == {"os": f"docker-image://python:3.13-slim@{PYTHON}"}
    assert found.observed.bases == {"node:20": NODE, "python:3.13-slim": PYTHON}
    assert "node:20" in found.solve.pins


def test_a_digest_of_the_dockerfiles_own_is_taken_as_it_is(project: Project):
    project.write(Dockerfile=f"FROM python@{PYTHON}\n")

    found = project.read(lock=None)

    assert found.observed.bases == {f"python@{PYTHON}": PYTHON}
    assert found.solve.pins == {}


def test_an_image_that_shares_its_name_with_a_stage_is_not_held(project: Project):
    lock = lock_of(nginx=NODE)
    project.write(Dockerfile="FROM nginx AS nginx\nFROM nginx AS last\n")

    assert project.read(lock=lock).solve.pins == {}


def test_a_frontend_is_held_to_its_digest_and_then_everything_counts(project: Project):
    project.write(Dockerfile="# syntax=docker/dockerfile:1\nFROM scratch\nCOPY main.py /\n")
    before = project.read()

    project.write(other_py="another\n")

    assert before.solve.frontend == f"docker/dockerfile:1@{SYNTAX}"
    assert before.observed.bases == {"docker/dockerfile:1": SYNTAX}
    assert before.solve.pins == {}
    assert project.read().observed != before.observed


def test_frozen_names_every_image_that_the_lock_lacks(project: Project):
    project.write(Dockerfile="FROM debian:13\nCOPY --from=alpine:3 /x /\n")

    with pytest.raises(UsageError, match=r"not in buildorch.lock: debian:13, alpine:3"):
        project.read(frozen=True)


# --- ONBUILD


def on(**triggers: Sequence[str] | None) -> Callable[[Base, Sequence[str]], tuple[str, ...] | None]:
    def answer(base: Base, _platforms: Sequence[str]) -> tuple[str, ...] | None:
        found = triggers.get(base.reference.partition(":")[0], ())
        return None if found is None else tuple(found)

    return answer


def test_what_onbuild_of_a_base_image_reads_counts(project: Project):
    project.write(Dockerfile="FROM python:3.13-slim\n")
    plain = project.read()
    found = project.read(onbuild=on(python=["COPY main.py /"]))

    project.write(main_py="another\n")

    assert plain.changed() == ()
    assert found.changed() == ("main.py",)


def test_what_onbuild_of_a_service_reads_counts_where_another_builds_on_it(project: Project):
    base = project.root / "services" / "base"
    base.mkdir()
    (base / "Dockerfile").write_text("FROM scratch\nONBUILD COPY main.py /\n")
    project.write(Dockerfile="FROM b\n")
    plan = project.plan("{contexts: {b: service:base}}", ", base: ")
    found = inputs.read(plan, project.surroundings())

    project.write(main_py="another\n")

    assert found["app"].changed() == ("main.py",)
    assert found["base"].changed() == ()


def test_a_base_whose_onbuild_cannot_be_read_is_no_proof(project: Project):
    project.write(Dockerfile="FROM python:3.13-slim\n")

    assert project.unproven(onbuild=on(python=None)) == (
        "python:3.13-slim: its config cannot be read, so neither can its ONBUILD",
    )


def test_a_base_image_is_asked_for_its_onbuild_once_however_many_build_on_it(project: Project):
    asked: list[str] = []

    def silent(base: Base, _platforms: Sequence[str]) -> None:
        asked.append(base.reference)

    for name in ("web", "other"):
        (project.root / "services" / name).mkdir()
        (project.root / "services" / name / "Dockerfile").write_text("FROM python:3.13-slim\nFROM node:20\n")
    project.write(Dockerfile="FROM python:3.13-slim\n")

    inputs.read(project.plan(more=", web: , other: "), project.surroundings(onbuild=silent))

    assert sorted(asked) == ["node:20", "python:3.13-slim"]


# --- what cannot be proven

UNPROVEN: Mapping[str, tuple[str, str, str]] = {
    "a builder": ("FROM scratch\n", "{builder: ci}", "the version of the builder ci is not known"),
    "no_cache_filter": ("FROM scratch\n", "{no_cache_filter: [a, b]}", "no_cache_filter has a, b built every time"),
    "two outputs": (
        "FROM scratch\n",
        "{outputs: ['type=registry', 'type=local,dest=out']}",
        "only one of its outputs can be looked for",
    ),
    "a flag": ("FROM scratch\n", "{buildx: [--opaque=1]}", "what --opaque brings in is not known"),
    "a branch": (
        "FROM scratch\n",
        "{contexts: {lib: 'https://user:secret@git.example/lib.git#main'}}",
        "the context lib is https://git.example/lib.git#main, which may change unseen",
    ),
    "an image without a digest": ("FROM no.such.registry.invalid:x\n", "{}", "no.such.registry.invalid:x: "),
    "a text that is no reference": ("FROM BAD\n", "{}", "BAD: "),
}


@pytest.mark.parametrize("what", UNPROVEN)
def test_what_may_be_another_next_time_is_told(project: Project, what: str, monkeypatch: pytest.MonkeyPatch):
    dockerfile, app, reason = UNPROVEN[what]
    monkeypatch.setattr(inputs, "resolve_bases", unreachable)
    project.write(Dockerfile=dockerfile)

    [said] = project.unproven(app)

    assert said.startswith(reason)


def unreachable(references: Sequence[str], **_: Any) -> dict[str, Any]:
    """Every registry is silent; no test here asks one."""
    from buildorch.bases import Unresolved

    return {reference: Unresolved(reference, "there was no answer within 5 s") for reference in references}


def test_the_builder_in_use_counts_as_a_services_own(project: Project):
    assert project.unproven(builder="mine") == ("the version of the builder mine is not known",)


def test_labels_that_name_the_commit_are_no_proof(project: Project):
    assert project.unproven(environ={"BUILDX_GIT_LABELS": "1"}) == (
        "BUILDX_GIT_LABELS has the commit written into its labels",
    )


def test_a_remote_context_at_a_commit_is_proven(project: Project):
    app = f"{{contexts: {{lib: 'https://git.example/lib.git#{'a' * 40}'}}}}"

    assert project.unproven(app) == ()


@pytest.mark.parametrize("app", ["{context: 'https://git.example/x.git'}", "{dockerfile: gone}"])
def test_a_dockerfile_that_cannot_be_read_leaves_nothing_proven(project: Project, app: str):
    found = project.read(app)

    assert found.observed.unproven == ("its Dockerfile cannot be read here, so neither can what it takes",)
    assert (found.observed.dockerfile, found.instructions, found.changed()) == ("", (), ())


@pytest.mark.parametrize("text", [b"", b"\xff\xfe\x00", b"NONSENSE", b"FROM $UNSET\n", b"\xef\xbb\xbfFROM scratch\n"])
def test_no_text_of_a_dockerfile_is_too_odd_to_be_read(project: Project, text: bytes):
    (project.root / "services" / "app" / "Dockerfile").write_bytes(text)

    found = project.read()

    assert len(found.observed.dockerfile) == 64
    assert (found.observed.unproven == ()) == text.endswith(b"FROM scratch\n")


# --- the snapshot


def test_a_snapshot_holds_every_file_that_counts_also_from_the_cache(project: Project):
    (project.root / "services" / "app" / "link").symlink_to("main.py")
    project.write(Dockerfile="FROM scratch\nCOPY . /\n")
    first = project.read()
    made = compute(first.solve, first.observed, environment=ENVIRONMENT, services={})

    files = first.snapshot(made).files

    assert files.keys() == {""}
    assert files[""].keys() == {"Dockerfile", "link", "main.py", "other.py"}
    assert files[""]["link"] == "l 0777 0 - 7 main.py"
    assert project.read().snapshot(made) == first.snapshot(made)
