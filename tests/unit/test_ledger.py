"""The ledger: what is committed stays, in order, and several processes may write."""

from __future__ import annotations

import dataclasses
import json
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from buildorch.errors import EXIT_USAGE, LedgerError
from buildorch.ledger import Ledger
from buildorch.ledger.schema import _VERSIONS, VERSION, prepare
from buildorch.record import FailureKind, Report, ServiceRecord, to_plain
from buildorch.testing import make_digest, make_failure, make_record


def make_report(run_id: str = "r1", *, exit_code: int = 0) -> Report:
    return Report(
        run_id=run_id,
        project="shop",
        started_at="2026-01-31T12:00:00Z",
        duration_s=1.5,
        exit_code=exit_code,
        jobs=2,
        git=None,
        engine=None,
        services={},
    )


def committed(
    ledger: Ledger, run_id: str, *, started_at: str = "2026-01-31T12:00:00Z", **records: ServiceRecord
) -> None:
    ledger.begin(run_id, project="shop", started_at=started_at)
    for service, record in records.items():
        ledger.commit(run_id, service, record)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / ".buildorch" / "ledger.db"


def test_a_record_is_there_after_the_ledger_was_opened_again(path: Path):
    record = make_record(digest=make_digest("image"))
    with Ledger(path) as ledger:
        committed(ledger, "r1", app=record)

    with Ledger(path) as ledger:
        [entry] = ledger.latest()

    assert (entry.service, entry.run_id, entry.started_at) == ("app", "r1", "2026-01-31T12:00:00Z")
    assert entry.record == record


@pytest.mark.proof
def test_a_record_survives_a_process_that_dies_right_after_the_commit(path: Path):
    code = (
        "import os, pathlib, sys\n"
        "from buildorch.ledger import Ledger\n"
        "from buildorch.testing import make_record\n"
        "ledger = Ledger(pathlib.Path(sys.argv[1]))\n"
        "ledger.begin('r1', project='shop', started_at='x')\n"
        "ledger.commit('r1', 'app', make_record())\n"
        "os.kill(os.getpid(), 9)\n"
    )

    done = subprocess.run([sys.executable, "-c", code, str(path)], check=False)

    assert done.returncode == -9
    with Ledger(path) as ledger:
        assert [entry.service for entry in ledger.latest()] == ["app"]


def test_a_failure_is_kept_with_all_its_parts(path: Path):
    record = make_record("failed", error=make_failure(FailureKind.NO_SPACE))
    with Ledger(path) as ledger:
        committed(ledger, "r1", app=record)
        [entry] = ledger.history("app", limit=1)

    assert entry.record == record


def test_records_are_ordered_by_their_sequence_and_not_by_a_clock(path: Path):
    with Ledger(path) as ledger:
        committed(ledger, "late", started_at="2030-01-01T00:00:00Z", app=make_record(digest=make_digest("1")))
        committed(ledger, "early", started_at="2020-01-01T00:00:00Z", app=make_record(digest=make_digest("2")))

        assert [entry.run_id for entry in ledger.history("app", limit=9)] == ["early", "late"]
        assert [entry.run_id for entry in ledger.latest()] == ["early"]


def test_latest_holds_each_services_last_record_by_name(path: Path):
    with Ledger(path) as ledger:
        committed(ledger, "r1", web=make_record(), app=make_record("failed", error=make_failure()))
        committed(ledger, "r2", app=make_record())

        assert [(entry.service, entry.run_id, entry.record.status) for entry in ledger.latest()] == [
            ("app", "r2", "built"),
            ("web", "r1", "built"),
        ]
        assert ledger.services() == ["app", "web"]


def test_history_gives_the_newest_records_up_to_its_limit(path: Path):
    with Ledger(path) as ledger:
        for at in range(5):
            committed(ledger, f"r{at}", app=make_record(), other=make_record())

        assert [entry.run_id for entry in ledger.history("app", limit=2)] == ["r4", "r3"]


def test_a_run_that_was_killed_has_no_exit_code(path: Path):
    with Ledger(path) as ledger:
        committed(ledger, "killed")
        committed(ledger, "done")
        ledger.finish(make_report("done", exit_code=3))

    with sqlite3.connect(path) as db:
        rows = db.execute("SELECT run_id, sequence, exit_code, duration_s FROM runs ORDER BY sequence").fetchall()
    db.close()
    assert rows == [("killed", 1, None, None), ("done", 2, 3, 1.5)]


def test_a_service_is_recorded_once_a_run(path: Path):
    with Ledger(path) as ledger:
        committed(ledger, "r1", app=make_record())

        with pytest.raises(LedgerError, match="cannot be written: UNIQUE"):
            ledger.commit("r1", "app", make_record())


def test_commits_are_made_durable_before_they_return(path: Path):
    with Ledger(path) as ledger:
        [(mode,)] = ledger._read("PRAGMA journal_mode", ())
        [(synchronous,)] = ledger._read("PRAGMA synchronous", ())

    assert (mode, synchronous) == ("wal", 2)


def test_layer_sizes_and_facts_are_remembered(path: Path):
    with Ledger(path) as ledger:
        sizes = ledger.layer_sizes
        sizes["sha256:a"] = 7
        sizes["sha256:b"] = 8
        del sizes["sha256:b"]
        ledger.remember("buildx x", "0.29.1")
        ledger.remember("buildx x", "0.30.0")

    with Ledger(path) as ledger:
        assert dict(ledger.layer_sizes) == {"sha256:a": 7}
        assert len(ledger.layer_sizes) == 1
        assert ledger.layer_sizes.get("sha256:z") is None
        assert (ledger.fact("buildx x"), ledger.fact("other")) == ("0.30.0", None)


def test_threads_may_share_a_ledger(path: Path):
    with Ledger(path) as ledger:
        ledger.begin("r1", project="shop", started_at="x")
        threads = [threading.Thread(target=ledger.commit, args=("r1", f"s{at}", make_record())) for at in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert len(ledger.latest()) == 8


@pytest.mark.proof
def test_several_processes_open_a_new_ledger_at_once_and_all_write(path: Path):
    code = (
        "import pathlib, sys\n"
        "from buildorch.ledger import Ledger\n"
        "from buildorch.testing import make_record\n"
        "print(flush=True)\n"
        "sys.stdin.readline()\n"
        "with Ledger(pathlib.Path(sys.argv[1])) as ledger:\n"
        "    for at in range(5):\n"
        "        ledger.begin(f'{sys.argv[2]}-{at}', project='shop', started_at='x')\n"
        "        ledger.commit(f'{sys.argv[2]}-{at}', 'app', make_record())\n"
    )
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(path), str(at)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for at in range(2)
    ]
    for process in processes:
        assert process.stdout is not None
        process.stdout.readline()

    for process in processes:
        process.communicate("go\n")

    assert [process.returncode for process in processes] == [0, 0]
    with Ledger(path) as ledger:
        entries = ledger.history("app", limit=99)
    assert len(entries) == 10
    assert [entry.sequence for entry in entries] == list(range(10, 0, -1))


def test_a_ledger_that_another_process_makes_meanwhile_is_taken_as_it_is(path: Path):
    path.parent.mkdir()
    with sqlite3.connect(path, isolation_level=None) as other:
        other.execute("PRAGMA journal_mode=WAL")
        other.execute("BEGIN IMMEDIATE")
        prepare(other)
        opened: list[Ledger] = []
        thread = threading.Thread(target=lambda: opened.append(Ledger(path)))
        thread.start()
        time.sleep(0.05)  # the other one has seen an empty file, and waits for the lock

        for statement in ";".join(_VERSIONS).split(";"):
            other.execute(statement)
        other.execute(f"PRAGMA user_version={VERSION}")
        other.execute("COMMIT")
        thread.join()
    other.close()

    [ledger] = opened
    with ledger:
        committed(ledger, "r1", app=make_record())


# --- images, and what they were made from


def test_images_are_each_services_last_records_that_have_one(path: Path):
    first, second = (make_record(digest=make_digest(name)) for name in ("1", "2"))
    with Ledger(path) as ledger:
        committed(ledger, "r1", app=first, web=first, broken=make_record("failed", error=make_failure()))
        committed(ledger, "r2", app=second, web=make_record("failed", error=make_failure()))

        assert ledger.images() == {"app": second, "web": first}


def test_without_a_record_there_is_no_image(path: Path):
    with Ledger(path) as ledger:
        assert ledger.images() == {}


def test_a_snapshot_is_found_by_its_service(path: Path):
    with Ledger(path) as ledger:
        ledger.begin("r1", project="shop", started_at="x")
        ledger.commit("r1", "app", make_record(), snapshot=b"first\0bytes")
        ledger.commit("r1", "web", make_record(), snapshot=b"")

    with Ledger(path) as ledger:
        assert ledger.snapshot("app") == b"first\0bytes"
        assert ledger.snapshot("web") == b""
        assert ledger.snapshot("other") is None


def test_a_service_has_one_snapshot_that_of_its_last_image(path: Path):
    with Ledger(path) as ledger:
        for at in range(3):
            ledger.begin(f"r{at}", project="shop", started_at="x")
            ledger.commit(f"r{at}", "app", make_record(), snapshot=b"%d" % at if at < 2 else None)

        assert ledger.snapshot("app") == b"1"
        assert ledger._read("SELECT count(*) FROM snapshots", ()) == [(1,)]


def test_a_record_and_its_snapshot_are_kept_together_or_not_at_all(path: Path):
    record = dataclasses.replace(make_record(), fingerprint=make_digest("1"))
    with Ledger(path) as ledger:
        ledger.begin("r1", project="shop", started_at="x")
        ledger._write("DROP TABLE snapshots", ())

        with pytest.raises(LedgerError, match="cannot be written: no such table: snapshots"):
            ledger.commit("r1", "app", record, snapshot=b"x")

        assert ledger.services() == []


def test_several_records_are_committed_at_once(path: Path):
    records = {f"s{at}": make_record(digest=make_digest(str(at))) for at in range(5)}
    with Ledger(path) as ledger:
        ledger.begin("r1", project="shop", started_at="x")
        ledger.commit_all("r1", records)

    with Ledger(path) as ledger:
        assert ledger.images() == records
        assert [entry.sequence for entry in ledger.latest()] == [1, 2, 3, 4, 5]


def test_of_several_records_all_are_committed_or_none(path: Path):
    with Ledger(path) as ledger:
        committed(ledger, "r1", s3=make_record())

        with pytest.raises(LedgerError, match="UNIQUE"):
            ledger.commit_all("r1", {f"s{at}": make_record() for at in range(5)})
        ledger.commit("r1", "after", make_record())

        assert ledger.services() == ["after", "s3"]


def test_nothing_is_seen_of_several_records_before_all_are_there(path: Path):
    seen: list[list[str]] = []
    with Ledger(path) as ledger, Ledger(path) as reader:
        ledger.begin("r1", project="shop", started_at="x")
        ledger._db.set_trace_callback(lambda said: seen.append(reader.services()) if "INSERT" in said else None)

        ledger.commit_all("r1", {"a": make_record(), "b": make_record()})

        assert seen == [[], []]
        assert reader.services() == ["a", "b"]


def version_1(path: Path) -> None:
    """A ledger as buildorch 0.1 left it: one record, with the fields that it had."""
    record = to_plain(make_record(digest=make_digest("old")))
    for name in ("fingerprint", "unchanged", "built_at"):
        del record[name]
    path.parent.mkdir(parents=True)
    with sqlite3.connect(path) as db:
        db.executescript(f"{_VERSIONS[0]}; PRAGMA user_version=1")
        db.execute("INSERT INTO runs (run_id, sequence, project, started_at) VALUES ('old', 1, 'shop', 'x')")
        db.execute(
            "INSERT INTO records (run_id, service, status, digest, record) VALUES ('old', 'app', 'built', ?, ?)",
            (record["digest"], json.dumps(record)),
        )
    db.close()


def test_a_ledger_of_version_1_is_taken_on_with_all_it_holds(path: Path):
    version_1(path)

    with Ledger(path) as ledger:
        [image] = ledger.images().values()
        committed(ledger, "new", app=dataclasses.replace(make_record(), fingerprint=make_digest("1")))
        assert ledger.snapshot(make_digest("1")) is None
        assert [entry.run_id for entry in ledger.history("app", limit=9)] == ["new", "old"]

    assert (image.digest, image.fingerprint, image.unchanged) == (make_digest("old"), None, False)
    with sqlite3.connect(path) as db:
        assert db.execute("PRAGMA user_version").fetchone() == (VERSION,)
    db.close()


@pytest.mark.proof
def test_a_ledger_is_made_by_several_at_once(tmp_path: Path):
    problems: list[Exception] = []

    def make(path: Path, together: threading.Barrier) -> None:
        together.wait()
        try:
            Ledger(path).close()
        except LedgerError as error:
            problems.append(error)

    for at in range(40):
        together = threading.Barrier(4)
        threads = [threading.Thread(target=make, args=(tmp_path / f"{at}" / "ledger.db", together)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    assert problems == []


def test_two_processes_take_a_ledger_of_version_1_on_at_once(path: Path):
    version_1(path)
    opened: list[Ledger] = []
    threads = [threading.Thread(target=lambda: opened.append(Ledger(path))) for _ in range(4)]

    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert [len(ledger.images()) for ledger in opened] == [1, 1, 1, 1]
    for ledger in opened:
        ledger.close()


def test_the_ledgers_folder_is_ignored_by_git(path: Path):
    with Ledger(path):
        pass

    assert (path.parent / ".gitignore").read_text() == "# made by buildorch\n*\n"


def refused(path: Path) -> LedgerError:
    with pytest.raises(LedgerError) as caught:
        Ledger(path)
    assert caught.value.exit_code == EXIT_USAGE
    assert caught.value.hint
    return caught.value


def test_a_ledger_of_a_later_version_is_refused_and_left_as_it_is(path: Path):
    with Ledger(path) as ledger:
        committed(ledger, "r1", app=make_record())
        ledger._write(f"PRAGMA user_version={VERSION + 1}", ())
    before = path.read_bytes()

    said = str(refused(path))

    assert said == f"the ledger {path} is of version {VERSION + 1}, this buildorch knows {VERSION}"
    assert path.read_bytes() == before


@pytest.mark.parametrize("content", [b"this is no database at all, and long enough to tell" * 20, bytes(4096)])
def test_a_file_that_is_no_database_is_refused(path: Path, content: bytes):
    path.parent.mkdir()
    path.write_bytes(content)

    assert "cannot be opened: file is not a database" in str(refused(path))


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path):
    (tmp_path / "file").write_text("in the way")

    assert "cannot be opened: " in str(refused(tmp_path / "file" / "ledger.db"))


def test_a_ledger_that_is_a_folder_is_told(tmp_path: Path):
    (tmp_path / "ledger.db").mkdir()

    assert "cannot be opened: unable to open database file" in str(refused(tmp_path / "ledger.db"))


def test_a_row_that_cannot_be_read_is_named(path: Path):
    with Ledger(path) as ledger:
        committed(ledger, "r1", app=make_record())
        ledger._write("UPDATE records SET record = '{}'", ())

        with pytest.raises(LedgerError, match=r"holds a record of app that cannot be read \(row 1\)"):
            ledger.latest()


def test_reading_a_database_of_somebody_elses_is_an_error(path: Path):
    path.parent.mkdir()
    with sqlite3.connect(path) as db:
        db.execute(f"PRAGMA user_version={VERSION}")
    db.close()

    with Ledger(path) as ledger, pytest.raises(LedgerError, match="cannot be read: no such table: records"):
        ledger.services()
