"""What an image holds is what its service's folder held: not another service's files, and not a mixture of two states.

Images are pushed to the loopback registry, and their layers fetched and unpacked here: by no code of buildorch's.
`BUILDORCH_SOAK=1` makes the two long tests as long as they are meant to be.
"""

from __future__ import annotations

import hashlib
import http.client
import io
import json
import os
import random
import tarfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest
from sandbox import BASE, Sandbox

from buildorch.events import Event, RunFinished, StepStarted
from buildorch.ledger import Ledger
from buildorch.pipeline import BuildRequest, stream
from buildorch.record import Report, ServiceRecord

SOAK = os.environ.get("BUILDORCH_SOAK") == "1"
pytestmark = pytest.mark.engine
ROUNDS = 20 if SOAK else 2
BUILDS = 500 if SOAK else 32
LONGEST_S = float("inf") if SOAK else 40.0
"""How long the builds of edited files may take together; a slow machine does fewer."""
PUSHED = "outputs: ['type=image,push=true,store=false']"
"""To the registry alone: removing a hundred images from the engine takes longer than building them."""
OLD = (1_000_000_000, 1_000_000_000)
"""An atime and an mtime: what `git archive | tar x` and SOURCE_DATE_EPOCH tools leave on every file."""


@pytest.fixture
def rng() -> random.Random:
    seed = int(os.environ.get("BUILDORCH_SEED", "0")) or random.randrange(1, 1 << 30)
    print(f"seed {seed}; run it again with BUILDORCH_SEED={seed}")
    return random.Random(seed)


@pytest.fixture
def files_of(registry: str) -> Iterator[Callable[[str, str], dict[str, bytes]]]:
    """The files of a pushed image, by its name and digest; the images go when the test ends."""
    connection = http.client.HTTPConnection(registry, timeout=30)
    asked: set[str] = set()

    def get(path: str, method: str = "GET") -> bytes:
        types = "application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json"
        connection.request(method, path, headers={"Accept": types})
        answer = connection.getresponse()
        body = answer.read()
        assert answer.status in {200, 202}, (path, answer.status, body)
        return body

    def files(name: str, digest: str) -> dict[str, bytes]:
        repository = f"/v2/{name.removeprefix(f'{registry}/').rpartition(':')[0]}"
        asked.add(f"{repository}/manifests/{digest}")
        found = {}
        for layer in json.loads(get(f"{repository}/manifests/{digest}"))["layers"]:
            blob = get(f"{repository}/blobs/{layer['digest']}")
            with tarfile.open(fileobj=io.BytesIO(blob)) as archive:
                found.update({one.name: archive.extractfile(one).read() for one in archive if one.isfile()})
        return found

    yield files
    for path in asked:
        get(path, "DELETE")
    connection.close()


@pytest.mark.parametrize("rounds", [ROUNDS])
def test_fifty_services_of_equal_names_sizes_and_mtimes_each_have_their_own_files(
    sandbox: Sandbox, registry: str, files_of, rng: random.Random, rounds: int
):
    names = [f"s{number:02}" for number in range(50)]
    entries = "\n".join(f"  {name}: {{context: services/{name}/app}}" for name in names)
    sandbox.services(f"defaults: {{registry: '{registry}', {PUSHED}}}\nservices:\n{entries}\n")
    for number, name in enumerate(names):
        copy = "COPY data deep /own/" if number % 2 else "COPY . /own/"
        os.utime(sandbox.write(f"services/{name}/app/Dockerfile", f"FROM scratch\n{copy}\n"), OLD)
    wrong, images = [], 0

    for turn in range(rounds):
        expected = {}
        for name in names:
            expected[name] = {}
            for path in ("data", "deep/data"):
                # The same length everywhere and always; written into the same file, or into one that takes its place.
                data = f"{name} {turn:02} {path:9} {rng.randbytes(8).hex()}".encode()
                expected[name][path] = data
                file = sandbox.root / f"services/{name}/app/{path}"
                if rng.random() < 0.5:
                    file.unlink(missing_ok=True)
                os.utime(sandbox.write(str(file.relative_to(sandbox.root)), data), OLD)
            os.utime(file.parent, OLD)
        report = sandbox.build(jobs=8).raise_for_status()
        for number, name in enumerate(names):
            record = report.services[name]
            assert (record.status, record.attempts) == ("built", 1)
            found = files_of(record.reference, record.digest)
            paths = ("own/data", "own/deep/data") if number % 2 == 0 else ("own/data", "own/data")
            held = {path: found.get(path) for path in paths}
            wanted = {path: expected[name]["deep/data" if number % 2 else path.removeprefix("own/")] for path in paths}
            images += 1
            if held != wanted:
                wrong.append((turn, name, held, wanted))

    print(f"{images} images, {len(wrong)} with other files than their own")
    assert wrong == []


class Editor:
    """Edits a folder's files without end, one system call after another, and remembers every state there was.

    A state is the sum of its files' hashes, so that the next one is known after each call whatever the number of files.
    """

    FILES = 120

    def __init__(self, folder: Path, rng: random.Random) -> None:
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.folder = folder
        self.aside = folder.parent / f"{folder.name}.new"
        self.rng = rng
        self.pace = 1.0
        """How long a build takes, in seconds: the rests between edits are made to fit."""
        self.held: dict[str, bytes] = {}
        self.sum = 0
        self.moment = 0
        self.last_seen: dict[int, int] = {}
        """State -> the last moment at which it was."""
        self.turn = threading.Lock()
        self.over = threading.Event()
        self.generation = 0
        self.error: Exception | None = None
        for number in range(self.FILES):
            self._replace(f"tree/d{number % 6}/f{number:03}")

    def _run(self) -> None:
        acts = (self._replace, self._rewrite, self._truncate, self._delete, self._rename)
        try:
            while not self._rest():
                if self.rng.random() < 0.2:
                    self._move_folder_away_and_back()
                if self.rng.random() < 0.2:  # a new generation of everything, as a checkout is
                    self.generation += 1
                    for path in list(self.held):
                        self._replace(path)
                for _ in range(self.rng.choice((1, 1, 3, 10, 40))):
                    self.rng.choice(acts)(self.rng.choice(list(self.held)))
                    time.sleep(self.rng.choice((0.0, 0.001, 0.01)))
                while len(self.held) < self.FILES:
                    self._replace(f"tree/d{self.rng.randrange(6)}/n{self.moment:06}")
        except Exception as error:  # noqa: BLE001 - the test shows it
            self.error = error

    def was(self, files: Mapping[str, bytes], *, since: int) -> bool:
        """Whether these were the files at one moment since then."""
        with self.turn:
            return self.last_seen.get(sum(map(_hashed, files.items())), -1) >= since

    def now(self) -> int:
        with self.turn:
            self.last_seen[self.sum] = self.moment
            return self.moment

    def _rest(self) -> bool:
        end = time.monotonic() + self.pace * self.rng.choice((0.05, 0.2, 0.5, 1.0, 2.0))
        while not self.over.wait(0.02) and time.monotonic() < end:
            with (self.folder / "noise.log").open("a") as log:  # ignored: no build may mind
                log.write("x")
        return self.over.is_set()

    def _text(self, path: str) -> bytes:
        return f"{path[-4:]} of generation {self.generation:06}, {self.rng.randbytes(16).hex()}\n".encode() * 30

    def _became(self, changes: Mapping[str, bytes | None]) -> None:
        for path, data in changes.items():
            if path in self.held:
                self.sum -= _hashed((path, self.held.pop(path)))
            if data is not None:
                self.held[path] = data
                self.sum += _hashed((path, data))
        self.moment += 1
        self.last_seen[self.sum] = self.moment

    def _replace(self, path: str) -> None:
        data = self._text(path)
        self.aside.parent.mkdir(parents=True, exist_ok=True)
        (self.folder / path).parent.mkdir(parents=True, exist_ok=True)
        self.aside.write_bytes(data)
        if self.rng.random() < 0.5:
            os.utime(self.aside, OLD)
        with self.turn:
            self.aside.replace(self.folder / path)
            self._became({path: data})

    def _rewrite(self, path: str) -> None:
        """In place, at equal size, and with the mtime put back."""
        size = len(self.held[path])
        data = self._text(path)[:size]
        before = (self.folder / path).stat()
        descriptor = os.open(self.folder / path, os.O_WRONLY)
        with self.turn:
            os.pwrite(descriptor, data, 0)
            self._became({path: data})
        os.close(descriptor)
        os.utime(self.folder / path, ns=(before.st_atime_ns, before.st_mtime_ns))

    def _truncate(self, path: str) -> None:
        size = self.rng.choice((0, len(self.held[path]) // 2))
        with self.turn:
            os.truncate(self.folder / path, size)
            self._became({path: self.held[path][:size]})

    def _delete(self, path: str) -> None:
        with self.turn:
            (self.folder / path).unlink()
            self._became({path: None})

    def _rename(self, path: str) -> None:
        target = f"tree/d{self.rng.randrange(6)}/r{self.moment:06}"
        with self.turn:
            (self.folder / path).rename(self.folder / target)
            self._became({path: None, target: self.held[path]})

    def _move_folder_away_and_back(self) -> None:
        """Its files have the state they had; only the folder's own ctime tells."""
        here, there = self.rng.sample(sorted({path.split("/")[1] for path in self.held}), 2)
        for old, new in ((here, f"{there}.away"), (f"{there}.away", here)):
            with self.turn:
                (self.folder / "tree" / old).rename(self.folder / "tree" / new)
                moved = {path: data for path, data in self.held.items() if path.startswith(f"tree/{old}/")}
                self._became(
                    dict.fromkeys(moved) | {path.replace(f"/{old}/", f"/{new}/"): data for path, data in moved.items()}
                )
            time.sleep(self.rng.choice((0.0, 0.01, 0.1)))


def _hashed(file: tuple[str, bytes]) -> int:
    path, data = file
    return int.from_bytes(hashlib.blake2b(path.encode() + b"\0" + data, digest_size=16).digest(), "big")


def test_an_image_of_files_that_are_being_edited_is_one_state_they_had_or_its_build_failed_as_changed(
    sandbox: Sandbox, registry: str, files_of, rng: random.Random
):
    names = ("one", "two", "three", "four")
    sandbox.services(f"defaults: {{registry: '{registry}', {PUSHED}}}\nservices: {{one: , two: , three: , four: }}\n")
    editors = {name: Editor(sandbox.root / "services" / name, random.Random(rng.random())) for name in names}
    for number, name in enumerate(names):
        sandbox.service(name, f"FROM scratch\nCOPY {'tree' if number % 2 else '.'} /{'tree' if number % 2 else ''}\n")
        sandbox.write(f"services/{name}/.dockerignore", "*.log\n")
    pace = sandbox.build(jobs=4).raise_for_status().duration_s / 2
    counts: Counter[str] = Counter()
    wrong: list[object] = []
    for editor in editors.values():
        editor.pace = pace
        editor.thread.start()

    try:
        end = time.monotonic() + LONGEST_S
        while counts["built"] + counts["failed"] < BUILDS and (
            time.monotonic() < end or not (counts["built"] and counts["failed"])
        ):
            begun = {name: editor.now() for name, editor in editors.items()}
            report = sandbox.build(jobs=4)
            for name, record in report.services.items():
                counts[record.status] += 1
                counts["built again"] += record.status == "built" and record.attempts == 2
                if record.status == "failed":
                    if not failed_as_changed(record):
                        wrong.append((name, record.error))
                    continue
                found = files_of(record.reference, record.digest)
                tree = {path: data for path, data in found.items() if path.startswith("tree/")}
                if not editors[name].was(tree, since=begun[name]):
                    wrong.append((name, record.status, {path: data[:24] for path, data in tree.items()}))
            assert report.exit_code == (1 if any(one.error for one in report.services.values()) else 0)
    finally:
        for editor in editors.values():
            editor.over.set()
            editor.thread.join()

    print(f"{dict(counts)}, {sum(editor.moment for editor in editors.values())} edits, {len(wrong)} wrong")
    assert [editor.error for editor in editors.values()] == [None] * 4
    assert wrong == []
    assert counts["built"] > 0
    assert counts["failed"] > 0


def failed_as_changed(record: ServiceRecord) -> bool:
    """Whether a record says that a context changed, which files did, and nothing of an image."""
    error = record.error
    return (
        error is not None
        and (error.kind, error.exit_code, record.attempts) == ("context_changed", 1, 2)
        and ("tree" in error.message or ": ." in error.message)
        and (record.digest, record.fingerprint, record.platforms) == (None, None, {})
    )


@contextmanager
def written_again_and_again(file: Path) -> Iterator[None]:
    """A file that another program writes to for as long as the block lasts, and has written to when it begins."""
    begun, over = threading.Event(), threading.Event()

    def write() -> None:
        number = 0
        while not over.wait(0.02):
            number += 1
            file.write_text(f"{number}\n")
            begun.set()

    thread = threading.Thread(target=write, daemon=True)
    thread.start()
    begun.wait()
    try:
        yield
    finally:
        over.set()
        thread.join()


def test_a_file_that_is_written_all_the_time_fails_its_service_and_no_other_after_two_attempts(sandbox: Sandbox):
    for name in ("quiet", "busy"):
        sandbox.service(name, "FROM scratch\nCOPY . /\n", data="0\n", other="other\n")
    sandbox.services("services: {quiet: , busy: }\n")

    with written_again_and_again(sandbox.root / "services/busy/data"):
        done = sandbox.command("build-all")

    services = sandbox.record["services"]
    assert done.returncode == sandbox.record["exit_code"] == 1
    assert (services["quiet"]["status"], services["busy"]["status"]) == ("built", "failed")
    assert (services["busy"]["attempts"], services["busy"]["digest"]) == (2, None)
    error = services["busy"]["error"]
    assert (error["kind"], error["exit_code"]) == ("context_changed", 1)
    assert error["message"].endswith("what it holds is not known: data")
    assert "data" in done.stdout


def test_nothing_rests_on_a_build_whose_files_changed(sandbox: Sandbox):
    sandbox.service("app", "FROM scratch\nCOPY . /\n", data="good\n")
    sandbox.services("services: {app: }\n")
    data = sandbox.root / "services/app/data"
    good = sandbox.build().raise_for_status().services["app"]
    with written_again_and_again(data):
        failed = sandbox.build()
    with Ledger(sandbox.root / ".buildorch/ledger.db") as ledger:
        rested_on = ledger.images()["app"]
    data.write_text("good\n")

    again = sandbox.build().raise_for_status().services["app"]

    assert (failed.exit_code, failed.services["app"].error.kind) == (1, "context_changed")
    assert (rested_on.digest, rested_on.fingerprint) == (good.digest, good.fingerprint)
    # The failed builds moved the name; it names the good image again, whether that was built once more or only tagged.
    assert again.digest == good.digest
    assert sandbox.read_file(again.reference, "/data") == b"good\n"


def test_a_change_during_the_first_attempt_alone_costs_a_second_one_and_is_in_the_image(sandbox: Sandbox):
    import anyio

    sandbox.service("app", f"FROM {BASE}\nCOPY data /data\nRUN echo {sandbox.name}\n", data="old\n")
    file = sandbox.services("services: {app: }\n")
    seen: list[Event] = []

    async def build() -> Report:
        async with stream(BuildRequest(file=file, no_cache=True)) as events:
            async for event in events:
                seen.append(event)
                if isinstance(event, StepStarted) and "RUN" in event.name and not changed.is_set():
                    changed.set()
                    sandbox.write("services/app/data", "new\n")
        [finished] = [event for event in seen if isinstance(event, RunFinished)]
        return finished.report

    changed = threading.Event()
    report = anyio.run(build)

    record = report.services["app"]
    assert (report.exit_code, record.status, record.attempts, record.error) == (0, "built", 2, None)
    assert [event.failure.kind for event in seen if event.event == "solve_retried"] == ["context_changed"]
    assert sandbox.read_file(record.reference, "/data") == b"new\n"
    assert sandbox.build().services["app"].status == "skipped"


def test_files_that_the_build_does_not_read_may_change_all_the_time(sandbox: Sandbox):
    sandbox.service("ignoring", f"FROM {BASE}\nCOPY . /own/\nRUN sleep 1 && echo {sandbox.name}\n")
    sandbox.write("services/ignoring/.dockerignore", "log\n")
    sandbox.service("narrow", f"FROM {BASE}\nCOPY data /own/\nRUN sleep 1 && echo {sandbox.name}\n", data="data\n")
    sandbox.services("services: {ignoring: , narrow: }\n")
    for name in ("ignoring", "narrow"):
        sandbox.write(f"services/{name}/log", "")

    with (
        written_again_and_again(sandbox.root / "services/ignoring/log"),
        written_again_and_again(sandbox.root / "services/narrow/log"),
    ):
        report = sandbox.build()

    assert {name: (one.status, one.attempts) for name, one in report.services.items()} == {
        "ignoring": ("built", 1),
        "narrow": ("built", 1),
    }
