"""No skip is ever stale: random projects, random edits of all that a build can depend on, judged by an oracle.

For every edit buildorch says what it would do. Where it would skip, the oracle builds the edited project from nothing, and
the digest must be the one from before the edit. Where it would build, the explanation must name what was edited. Edits that
change no image must be skipped. Images that buildorch built after an edit must hold what the oracle's hold.

BUILDORCH_SOAK=1 makes 2,000 edits instead of a few hundred, BUILDORCH_MUTATIONS any number; BUILDORCH_TEST_SEED draws
others. BUILDORCH_TEST_PROJECT runs one project of a seed alone, as a failure names it; BUILDORCH_TEST_KIND makes only the
edits whose names have this text.
"""

from __future__ import annotations

import http.client
import itertools
import json
import os
import random
import re
import secrets
import shutil
import tarfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import mutations
import pytest
from mutations import BLOCKS, KINDS, Bases, Mutation, Project, draw, keep, restore
from oracle import MANIFESTS, Oracle, held, resolved
from sandbox import BASE, docker

import buildorch
from buildorch import fingerprint, pipeline
from buildorch.fingerprint import Build, Skip
from buildorch.pipeline import BuildRequest
from buildorch.skipping import Decided

SOAK = bool(os.environ.get("BUILDORCH_SOAK"))
pytestmark = pytest.mark.engine
SEED = os.environ.get("BUILDORCH_TEST_SEED", "20260101")
WANTED = int(os.environ.get("BUILDORCH_MUTATIONS", "2000" if SOAK else "240"))
ONLY = os.environ.get("BUILDORCH_TEST_KIND", "")
EACH = 25 if SOAK else 20
"""Mutations of one project: its builds cost as much as many of them."""
MOST_PROJECTS = 200
"""Where the edits wanted are made but not every kind of them, further projects have the kinds that are left."""
AT_ONCE = max(2, os.cpu_count() or 2)
FIRST = (
    "content of equal size and mtime, of what is surely read",
    "two files of equal size and mtime swapped",
    "folder renamed",
)
"""Done right after the build, while no file's state can be trusted yet."""
RARE = (
    "a git clone",
    "a git worktree",
    "dependency's file",
    "dependant's file",
    "base digest",
    "base in the Dockerfile",
)
"""Done wherever the project lets them, which is not often."""
CERTAIN = 0.34
"""How often the oracle confirms that what cannot change an image did not; all else is asked about every time."""
REBUILT = (
    *FIRST[:2],
    "mode of a folder",
    "setuid",
    "hard link broken",
    "file of a named context",
    "base digest",
    "argument",
    "link retargeted",
)
"""Done before a build whose image is looked into."""
EXACT = {
    "folder",
    "files",
    "empty folder",
    "chown",
    "linked",
    "add",
    "heredoc",
    "variable",
    "argument",
    "label",
    "stage",
}
"""Blocks that show every mode bit that buildorch counts for them, so that a build for one is never needless."""


@dataclass
class Tally:
    """What was done, and what was found wrong."""

    made: Counter[str] = field(default_factory=Counter)
    skipped: Counter[str] = field(default_factory=Counter)
    built: Counter[str] = field(default_factory=Counter)
    needless: Counter[str] = field(default_factory=Counter)
    projects: int = 0
    looked_into: int = 0
    restored: int = 0
    oracle_builds: int = 0
    problems: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def table(self) -> str:
        """All of it, for people."""
        lines = [f"{'mutation':<58} {'made':>5} {'skipped':>8} {'built':>6}"]
        lines += [f"{name:<58} {self.made[name]:>5} {self.skipped[name]:>8} {self.built[name]:>6}" for name in KINDS]
        lines.append(f"{'all':<58} {self.made.total():>5} {self.skipped.total():>8} {self.built.total():>6}")
        lines.append(
            f"{self.projects} projects, {self.oracle_builds} builds by the oracle, {self.looked_into} images looked into, "
            f"{self.restored} restored states asked about, needless builds for umask 002: {self.needless['umask 002']}"
        )
        return "\n".join(lines)


@pytest.fixture(scope="module")
def bases(registry: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bases]:
    """Three small base images in the loopback registry; they have a shell."""
    repository = f"t-{secrets.token_hex(4)}/base"
    folder = tmp_path_factory.mktemp("base")
    digests = []
    for word in ("one", "two", "three"):
        text = f"FROM {BASE.replace('python:3.13-slim', 'node:20-alpine')} AS from\nFROM scratch\nCOPY --from=from /bin/busybox /bin/busybox\n"
        text += f"COPY --from=from /bin/busybox /bin/sh\nCOPY <<EOF /word\n{word}\nEOF\n"
        (folder / "Dockerfile").write_text(text + ("ONBUILD COPY conf /by-trigger/\n" if word == "three" else ""))
        name = f"{registry}/{repository}:{word}"
        docker(
            "buildx",
            "build",
            "--provenance=false",
            f"--output=type=image,name={name},push=true,store=false",
            str(folder),
        )
        digests.append(resolved(registry, repository, word))

    def ask(method: str, target: str, body: bytes | None = None, kind: str = "") -> tuple[bytes, str]:
        connection = http.client.HTTPConnection(registry, timeout=30)
        headers = {"Content-Type": kind} if kind else {"Accept": MANIFESTS}
        connection.request(method, f"/v2/{repository}/manifests/{target}", body=body, headers=headers)
        answer = connection.getresponse()
        data = answer.read()
        connection.close()
        assert answer.status < 300, f"{method} {target}: {answer.status}"
        return data, answer.headers.get("Content-Type", "")

    def put(tag: str, digest: str) -> None:
        data, kind = ask("GET", digest)
        ask("PUT", tag, data, kind)

    yield Bases(registry, repository, (digests[0], digests[1]), digests[2], put)
    for digest in digests:
        ask("DELETE", digest)


@pytest.fixture
def name() -> str:
    """A name for projects of the test's own."""
    return f"t-{secrets.token_hex(4)}"


@pytest.fixture(scope="module")
def can(tmp_path_factory: pytest.TempPathFactory, bases: Bases) -> tuple[str, ...]:
    """The blocks that this BuildKit takes: some flags of COPY came late."""
    newer = [name for name, text in BLOCKS.items() if re.search(r"--(exclude|parents)", text)]
    refused = set()
    for name in newer:
        root = tmp_path_factory.mktemp("can")
        project = draw(root, "can", random.Random(0), bases, number=1, can=["json"] * 6)
        project.dockerfile_path.write_text(f"FROM scratch\n{BLOCKS[name]}")
        project.spec["services"] = {"app": {"dockerfile": project.dockerfile}}
        project.save()
        if Oracle(root / "oracle", bases.registry).digests(root, "app")["app"].startswith("failed"):
            refused.add(name)
    return tuple(name for name in BLOCKS if name not in refused)


@pytest.fixture
def project(tmp_path: Path, name: str, bases: Bases) -> Iterator[Project]:
    """A project that shows much of its tree, in two services."""
    chance = random.Random(7)
    blocks = ["folder", "named whole", "bind", "empty folder", "heredoc", "argument"]
    made = next(
        one
        for number in itertools.count()
        if "top"
        in (one := draw(tmp_path / f"p{number}", name, chance, bases, number=4 * number + 1, can=blocks)).services
        and one.base != "scratch"
        and set(one.blocks) == set(blocks)
    )
    yield made
    remove(made)


def test_the_oracle_gives_one_digest_for_one_state_and_another_for_another_state(
    project: Project, tmp_path: Path, registry: str
):
    oracle = Oracle(tmp_path / "oracle", registry)
    seen = {}
    kept = keep(project.root)

    first, second = oracle.digests(project.root, "top"), oracle.digests(project.root, "top")
    for kind in (
        "content of equal size and mtime, of what is surely read",
        "mode of a folder",
        "file of a named context",
        "heredoc",
        "argument",
    ):
        if kind == "mode of a folder":
            (project.folder / "src/deep").chmod(0o711)
        else:
            assert KINDS[kind](project)
        seen[kind] = oracle.digests(project.root, "top")
        reset(project, kept)

    assert first == second
    assert len({json.dumps(one) for one in (first, *seen.values())}) == len(seen) + 1
    assert not any(digest.startswith("failed") for one in (first, *seen.values()) for digest in one.values())
    assert oracle.digests(project.root, "top") == first


def test_no_edit_is_skipped_that_changes_an_image_and_every_build_names_its_edit(
    tmp_path: Path, name: str, bases: Bases, can: tuple[str, ...], capsys: pytest.CaptureFixture[str]
):
    tally = Tally()
    numbers = (
        itertools.count()
        if "BUILDORCH_TEST_PROJECT" not in os.environ
        else iter([int(os.environ["BUILDORCH_TEST_PROJECT"])])
    )
    began = time.monotonic()

    def work() -> None:
        while tally.made.total() < WANTED or (unmade(tally) and tally.projects < MOST_PROJECTS):
            with tally.lock:
                number = next(numbers, None)
            if number is None:
                return
            chance = random.Random(f"{SEED}/{number}")
            root = tmp_path / f"p{number}"
            made = draw(root, f"{name}-{number}", chance, bases, number=number, can=can)
            oracle = Oracle(tmp_path / f"oracle-{number}", bases.registry)
            kinds = drawn(number) if tally.made.total() < WANTED else unmade(tally)
            prove(made, oracle, tally, kinds=kinds, label=f"seed {SEED}, project {number}")
            remove(made)
            shutil.rmtree(root)

    with ThreadPoolExecutor(AT_ONCE) as threads:
        for done in [threads.submit(work) for _ in range(AT_ONCE)]:
            done.result()
    with capsys.disabled():
        print(f"\nseed {SEED}\n{tally.table()}\n{time.monotonic() - began:.0f} s, {len(tally.problems)} problems")

    assert not tally.problems, "\n\n".join(tally.problems)
    if "BUILDORCH_TEST_PROJECT" not in os.environ and not ONLY:
        assert tally.made.total() >= WANTED
        assert not unmade(tally)


def test_the_proof_catches_a_fingerprint_that_leaves_the_contexts_out(
    project: Project, tmp_path: Path, registry: str, monkeypatch: pytest.MonkeyPatch
):
    whole = fingerprint._inputs
    monkeypatch.setattr(
        fingerprint, "_inputs", lambda *args: [one for one in whole(*args) if not one[0].startswith("context")]
    )
    tally = Tally()

    prove(
        project,
        Oracle(tmp_path / "oracle", registry),
        tally,
        kinds=[FIRST[0]],
        label="broken on purpose",
        rebuild=False,
    )

    assert [problem for problem in tally.problems if "STALE SKIP" in problem]


def unmade(tally: Tally) -> list[str]:
    """The kinds of edit that no project has had yet, where every kind is to be had: which projects come first is chance."""
    if WANTED < 240 or ONLY:
        return []
    return [kind for kind in KINDS if not tally.made[kind] and kind != "capability"]


def remove(project: Project) -> None:
    """Remove a project's images, by name: a listing of all images fails while another test removes its own."""
    docker("image", "rm", "--force", *(f"{project.name}/{service}:latest" for service in ("app", "top")), check=False)


def drawn(number: int) -> list[str]:
    """The kinds of mutation for one project: one for the racy moment first, then from where the last project stopped."""
    chance = random.Random(SEED)
    kinds = [kind for kind in KINDS if kind not in RARE]
    chance.shuffle(kinds)
    start = number * EACH % len(kinds)
    every = [FIRST[number % len(FIRST)], *RARE, *kinds[start:], *kinds[:start]]
    return [kind for kind in every if ONLY in kind]


def prove(
    project: Project, oracle: Oracle, tally: Tally, *, kinds: Sequence[str], label: str, rebuild: bool = True
) -> None:
    """Build a project, edit it in every way that is wanted, and note what is wrong."""
    try:
        report = buildorch.build(project.root / "services.yaml").raise_for_status()
        if lost := [f"{name}, held to {one.bases}" for name, one in report.services.items() if one.fingerprint is None]:
            note(tally, project, label, f"NO FINGERPRINT of {lost}")
            return
        pending: list[tuple[Mutation, Mapping[str, Decided], dict[str, str]]] = []
        kept = keep(project.root)
        for kind in kinds:
            if len(pending) == EACH:
                break
            mutation = KINDS[kind](project)
            if mutation is not None:
                decided = preview(mutation.root or project.root)
                pending.append((mutation, decided, judged(project, mutation, decided, oracle)))
                mutation.undo()
            reset(project, kept)
            if project.chance.random() < 0.2:
                tally.restored += 1
                again = preview(project.root)
                built = [f"{name}: {one.reason}" for name, one in again.items() if isinstance(one.decision, Build)]
                if built:
                    note(tally, project, label, f"FALSE REBUILD of the restored state after {mutation}: {built}")
        before = look_into(project, oracle, tally, label)
        for mutation, decided, after in pending:
            weigh(project, mutation, decided, before, after, tally, label)
        if rebuild:
            build_edited(project, oracle, tally, label)
    except Exception as error:
        error.add_note(f"{label}\n{described(project)}")
        raise
    with tally.lock:
        tally.projects += 1
        tally.oracle_builds += oracle.builds


def preview(root: Path) -> Mapping[str, Decided]:
    return pipeline.preview(BuildRequest(file=root / "services.yaml")).decided


def reset(project: Project, kept: Mapping[str, mutations._Kept]) -> None:
    restore(project.root, dict(kept))
    project.spec = json.loads((project.root / "services.yaml").read_text())


def judged(project: Project, mutation: Mutation, decided: Mapping[str, Decided], oracle: Oracle) -> dict[str, str]:
    """What the oracle says of the edited state, where it has to be asked."""
    if mutation.effect == "none" and project.chance.random() > CERTAIN:
        return {}
    asked = [name for name, one in decided.items() if isinstance(one.decision, Skip) or mutation.effect == "modes"]
    return oracle.digests(mutation.root or project.root, *asked) if asked else {}


def weigh(
    project: Project,
    mutation: Mutation,
    decided: Mapping[str, Decided],
    before: Mapping[str, str],
    after: Mapping[str, str],
    tally: Tally,
    label: str,
) -> None:
    """One edit: what would be done for each service, against what is right."""
    with tally.lock:
        tally.made[mutation.kind] += 1
        tally.skipped[mutation.kind] += all(isinstance(one.decision, Skip) for one in decided.values())
        tally.built[mutation.kind] += any(isinstance(one.decision, Build) for one in decided.values())
    for name, one in decided.items():
        told = f"{name} after {mutation.kind} ({mutation.told}): {one.reason}"
        if isinstance(one.decision, Skip):
            if after and after[name] != before[name]:
                note(
                    tally,
                    project,
                    label,
                    f"STALE SKIP of {told}\noracle before {before[name]}\noracle after {after[name]}",
                )
        elif mutation.effect == "none":
            note(tally, project, label, f"FALSE REBUILD of {told}\n{[str(each) for each in one.changes]}")
        elif mutation.effect == "modes":
            if after[name] == before[name]:
                tally.needless[mutation.kind] += 1
                if EXACT.issuperset(project.blocks):
                    note(tally, project, label, f"FALSE REBUILD of {told}")
        elif not explained(mutation, one):
            changes = [each.subject for each in one.changes]
            note(tally, project, label, f"NOT EXPLAINED: {told}\nnames {changes}, not {mutation.subjects}")


def explained(mutation: Mutation, one: Decided) -> bool:
    """Whether the names that are given are those of the edit."""
    if one.reason == "a service it builds on is built: app":
        return True
    fits = [any(re.fullmatch(pattern, each.subject) for pattern in mutation.subjects) for each in one.changes]
    return any(fits) if mutation.wide else bool(fits) and all(fits)


def build_edited(project: Project, oracle: Oracle, tally: Tally, label: str) -> None:
    """Edit once more, build for real, and look into the image."""
    kinds = iter(project.chance.sample(REBUILT, len(REBUILT)))
    mutation = next(made for kind in kinds if (made := KINDS[kind](project)) is not None)
    if any(isinstance(one.decision, Build) for one in preview(project.root).values()):
        buildorch.build(project.root / "services.yaml").raise_for_status()
        look_into(project, oracle, tally, f"{label}, built after {mutation.kind} ({mutation.told})")
        built = [
            f"{name}: {one.reason}" for name, one in preview(project.root).items() if isinstance(one.decision, Build)
        ]
        if built:
            note(tally, project, label, f"FALSE REBUILD right after a build: {built}")


def look_into(project: Project, oracle: Oracle, tally: Tally, label: str) -> dict[str, str]:
    """The oracle's digests of the project as it is; the engine's images must hold what the oracle's hold."""
    verdicts = oracle.judge(project.root, *project.services)
    for name, verdict in verdicts.items():
        if verdict.layout is None:
            note(tally, project, label, f"THE ORACLE'S BUILD FAILED: {name}: {verdict.error}")
            continue
        saved = oracle.work / f"saved-{name}"
        shutil.rmtree(saved, ignore_errors=True)
        saved.mkdir()
        docker("save", f"--output={saved / 'tar'}", f"{project.name}/{name}:latest")
        with tarfile.open(saved / "tar") as archive:
            archive.extractall(saved, filter="data")
        (descriptor,) = json.loads((saved / "index.json").read_text())["manifests"]
        ours, theirs = held(saved, descriptor["digest"]), held(verdict.layout, verdict.digest)
        with tally.lock:
            tally.looked_into += 1
        if ours != theirs:
            differ = {
                path: (ours.get(path), theirs.get(path))
                for path in ours.keys() | theirs.keys()
                if ours.get(path) != theirs.get(path)
            }
            note(tally, project, label, f"WRONG IMAGE of {name}: {differ}")
    oracle.forget(verdicts)
    return {name: verdict.digest for name, verdict in verdicts.items()}


def note(tally: Tally, project: Project, label: str, text: str) -> None:
    with tally.lock:
        tally.problems.append(f"{label}: {text}\n{described(project)}")


def described(project: Project) -> str:
    """The project as it was drawn."""
    ignore = (project.folder / ".dockerignore").read_bytes() if (project.folder / ".dockerignore").exists() else b""
    file = project.dockerfile_path.read_text() if project.dockerfile_path.exists() else ""
    return f"blocks {project.blocks}, in git {project.in_git}\n{json.dumps(project.spec)}\n{ignore!r}\n{file}"
