"""Whether a ledger is as it was written: what is found, what is saved, what other programs get of it."""

from __future__ import annotations

import dataclasses
import json
import os
import random
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner

from buildorch.cli.commands import app
from buildorch.errors import LedgerError
from buildorch.ledger import Ledger, schema, verification
from buildorch.ledger.store import FILE_NAME
from buildorch.ledger.verification import lines, repair, verify
from buildorch.record import FailureKind
from buildorch.testing import make_digest, make_failure, make_record

FLIPS = 2000 if os.environ.get("BUILDORCH_SOAK") else 60
AT = "2026-01-31T12:00:00Z"


def fill(path: Path, *, runs: int = 4) -> None:
    """Runs of two services each, with layers, facts, snapshots and one run that never ended."""
    with Ledger(path) as ledger:
        for at in range(runs):
            ledger.begin(f"r{at}", project="shop", started_at=AT)
            ledger.intend(f"r{at}", {"web": make_record("cancelled")})
            image = make_record(digest=make_digest(f"image {at}"))
            ledger.commit(f"r{at}", "app", image, snapshot=os.urandom(300))
            ledger.commit(f"r{at}", "web", make_record("failed", error=make_failure(FailureKind.NO_SPACE)))
            ledger.layer_sizes[make_digest(f"layer {at}")] = 1000 + at
        ledger.remember("buildx", "0.29.1")
        ledger.begin("killed", project="shop", started_at=AT)
        ledger.intend("killed", {"app": make_record("cancelled")})


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / ".buildorch" / FILE_NAME
    fill(path)
    return path


def change(path: Path, *statements: str) -> None:
    """What somebody with another program does to the file."""
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        for statement in statements:
            db.execute(statement)


def said(path: Path) -> list[str]:
    return [str(damage) for damage in verify(path).damages]


def test_a_ledger_that_nobody_touched_is_as_it_was_written(path: Path):
    found = verify(path)

    assert (found.runs, found.records, found.damages) == (5, 8, ())


@pytest.mark.parametrize(
    ("statement", "damage"),
    [
        (
            "UPDATE records SET record = replace(record, 'first build', 'first BUILD') WHERE sequence = 3",
            "records 3: not as",
        ),
        (
            "UPDATE records SET digest = NULL WHERE sequence = 1",
            "records 1: not as it was written (a record of app in run r0)",
        ),
        ("UPDATE records SET status = 'built' WHERE sequence = 2", "records 2: not as"),
        ("UPDATE records SET checksum = zeroblob(32) WHERE sequence = 8", "records 8: not as"),
        ("DELETE FROM records WHERE sequence = 4", "records 4: missing"),
        ("DELETE FROM records WHERE sequence = 8", "records 8: missing"),
        ("UPDATE runs SET exit_code = 0 WHERE run_id = 'killed'", "runs 5: not as"),
        ("UPDATE runs SET started_at = '2020-01-01T00:00:00Z' WHERE run_id = 'r0'", "runs 1: not as"),
        ("DELETE FROM runs WHERE run_id = 'r1'", "runs 2: missing"),
        ("DELETE FROM runs WHERE sequence >= 4", "runs r3: missing, though it has records"),
        ("UPDATE layers SET unpacked_bytes = 1 WHERE unpacked_bytes = 1002", "layers sha256:"),
        ("UPDATE facts SET value = '0.29.2'", "facts buildx: not as"),
        ("UPDATE snapshots SET snapshot = x'00' WHERE service = 'app'", "snapshots app: not as"),
        ("UPDATE intents SET run_id = 'r0'", "intents app: not as"),
    ],
)
def test_a_row_that_was_changed_or_taken_out_is_found(path: Path, statement: str, damage: str):
    change(path, statement)

    assert any(one.startswith(damage) for one in said(path)), said(path)


def test_records_that_changed_places_are_found(path: Path):
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        rows = {row[0]: row[1:] for row in db.execute("SELECT sequence, digest, record, checksum FROM records")}
        for at, other in ((1, 3), (3, 1)):
            db.execute("UPDATE records SET digest = ?, record = ?, checksum = ? WHERE sequence = ?", (*rows[other], at))

    assert {one.partition(":")[0] for one in said(path)} == {"records 1", "records 2", "records 3", "records 4"}


@pytest.mark.proof
def test_a_byte_that_was_flipped_anywhere_in_what_is_stored_is_found(path: Path):
    seed = random.randrange(1 << 30)
    print(f"seed {seed}")
    rng = random.Random(seed)
    fill_up(path)
    whole = path.read_bytes()
    before = contents(path)
    found = unseen = 0
    for _ in range(FLIPS):
        at = rng.randrange(len(whole))
        path.write_bytes(whole[:at] + bytes([whole[at] ^ (1 << rng.randrange(8))]) + whole[at + 1 :])
        if is_damaged(path):
            found += 1
        else:
            assert contents(path) == before, f"byte {at} changed what is read, and nobody said so"
            unseen += 1
    print(f"{FLIPS} bytes flipped: {found} found, {unseen} where nothing is stored")
    assert found > FLIPS / 2


def fill_up(path: Path) -> None:
    """Leave few bytes of the file without a meaning."""
    path.unlink()
    fill(path, runs=60)
    change(path, "PRAGMA journal_mode=DELETE", "VACUUM")


def is_damaged(path: Path) -> bool:
    try:
        return bool(verify(path).damages)
    except LedgerError:
        return True


def test_a_schema_that_is_no_text_is_told_as_any_other_damage(path: Path):
    change(path, "PRAGMA journal_mode=DELETE")
    path.write_bytes(path.read_bytes().replace(b"CREATE TABLE records (", b"CREATE TABLE records \xe5"))

    assert any("can't decode" in one for one in said(path)), said(path)
    with pytest.raises(LedgerError, match="cannot be opened"):
        Ledger(path)
    with pytest.raises(LedgerError):
        repair(path)
    with pytest.raises(LedgerError):
        list(lines(path))


def contents(path: Path) -> list[object]:
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        queries = ("SELECT * FROM runs", "SELECT * FROM records", "SELECT * FROM layers", "SELECT * FROM snapshots")
        return [db.execute(query).fetchall() for query in queries]


def test_a_damaged_image_is_no_ground_for_a_skip(path: Path):
    change(path, "UPDATE records SET digest = 'sha256:other' WHERE sequence = 7")

    with (
        Ledger(path) as ledger,
        pytest.raises(LedgerError, match=r"row 7, a record of app, is not as it was written") as told,
    ):
        ledger.images()

    assert "buildorch ledger verify" in told.value.hint


def test_a_repair_saves_all_that_is_as_it_was_written_and_keeps_the_damaged_file(path: Path):
    change(path, "UPDATE records SET record = '{}' WHERE sequence = 3")

    repaired = repair(path)

    assert [str(one) for one in repaired.given_up] == ["records 3: not as it was written (a record of app in run r1)"]
    assert (repaired.runs, repaired.records) == (5, 7)
    assert repaired.damaged == path.with_name("ledger.db.damaged-1")
    assert said(repaired.damaged) == ["records 3: not as it was written (a record of app in run r1)"]
    assert said(path) == []
    with Ledger(path) as ledger:
        assert ledger.images()["app"].digest == make_digest("image 3")
        assert ledger.fact("buildx") == "0.29.1"
        assert [entry.run_id for entry in ledger.history("app", limit=9)] == ["r3", "r2", "r0"]
        ledger.begin("next", project="shop", started_at=AT)
        assert ledger.intend("next", {"app": make_record("cancelled")}) == {"app": "killed"}
        ledger.commit("next", "app", make_record())
    assert said(path) == []


def test_what_is_kept_to_save_time_is_done_without_where_it_is_damaged(path: Path):
    layer = make_digest("layer 1")
    change(
        path,
        "UPDATE facts SET value = ''",
        "UPDATE layers SET unpacked_bytes = 7",
        "UPDATE snapshots SET snapshot = x''",
    )

    with Ledger(path) as ledger:
        assert (ledger.fact("buildx"), ledger.layer_sizes.get(layer), ledger.snapshot("app")) == (None, None, None)
        ledger.remember("buildx", "0.30.0")
        assert ledger.fact("buildx") == "0.30.0"


def test_a_ledger_that_somebody_has_open_is_not_repaired_and_stays_whole(path: Path):
    change(path, "UPDATE records SET record = '{}' WHERE sequence = 3")

    with Ledger(path) as ledger:
        with pytest.raises(LedgerError, match="is in use"):
            repair(path)
        ledger.remember("buildx", "0.30.0")

    assert repair(path).records == 7
    with Ledger(path) as ledger:
        assert ledger.fact("buildx") == "0.30.0"
    assert said(path) == []


def test_nothing_damaged_is_exported_as_if_it_were_not(path: Path):
    change(path, "UPDATE records SET service = 'api' WHERE sequence = 3")

    with pytest.raises(LedgerError, match="is damaged: records 3: not as it was written"):
        list(lines(path))


def test_records_whose_run_is_lost_are_given_up_by_their_own_numbers_and_leave_no_gap(path: Path):
    change(path, "UPDATE runs SET project = 'other' WHERE run_id = 'r1'")

    repaired = repair(path)

    assert [str(one) for one in repaired.given_up] == [
        "runs 2: not as it was written",
        "records 3: its run is lost",
        "records 4: its run is lost",
    ]
    assert said(path) == []


def test_two_repairs_keep_two_damaged_files(path: Path):
    for _ in range(2):
        change(path, "UPDATE records SET record = '{}' WHERE sequence = 3")
        repair(path)

    assert {file.name for file in path.parent.glob("ledger.db.damaged-*")} == {
        "ledger.db.damaged-1",
        "ledger.db.damaged-2",
    }
    assert not list(path.parent.glob("*repairing*"))


@pytest.mark.proof
def test_what_sqlite_cannot_read_is_given_up_and_the_rest_saved(tmp_path: Path):
    path = tmp_path / FILE_NAME
    fill(path, runs=60)
    change(path, "PRAGMA journal_mode=DELETE")
    with closing(sqlite3.connect(path)) as db:
        (size,) = db.execute("PRAGMA page_size").fetchone()
        pages = (
            [page for (page,) in db.execute("SELECT pageno FROM dbstat WHERE name = 'records' AND pagetype = 'leaf'")]
            if has_dbstat(db)
            else [len(path.read_bytes()) // size // 2]
        )
    data = bytearray(path.read_bytes())
    page = pages[len(pages) // 2]
    data[(page - 1) * size : page * size] = b"\xff" * size
    path.write_bytes(data)
    assert is_damaged(path)

    repaired = repair(path)

    assert said(path) == []
    assert 60 < repaired.records < 120


def has_dbstat(db: sqlite3.Connection) -> bool:
    try:
        db.execute("SELECT 1 FROM dbstat LIMIT 1")
    except sqlite3.Error:
        return False
    return True


@pytest.mark.parametrize("step", ["_copy", "_empty_the_log", "_sync"])
def test_a_repair_that_dies_at_any_step_leaves_the_damaged_ledger_or_the_new_one(
    path: Path, step: str, monkeypatch: pytest.MonkeyPatch
):
    change(path, "UPDATE records SET record = '{}' WHERE sequence = 3")
    real: Callable[..., object] = getattr(verification, step)

    def dies(*arguments: object) -> object:
        if step == "_copy":
            raise OSError(28, "No space left on device")
        real(*arguments)
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(verification, step, dies)
        with pytest.raises(LedgerError, match="No space left on device"):
            repair(path)

    assert verify(path).records == (7 if step == "_sync" else 8)
    if step != "_sync":
        assert repair(path).records == 7


def test_every_run_and_record_is_exported_in_the_order_they_were_written(path: Path):
    told = [json.loads(line) for line in lines(path)]

    assert [(one["kind"], one["run_id"], one.get("service")) for one in told[:4]] == [
        ("run", "r0", None),
        ("record", "r0", "app"),
        ("record", "r0", "web"),
        ("run", "r1", None),
    ]
    assert told[-1] == {
        "kind": "run",
        "sequence": 5,
        "run_id": "killed",
        "project": "shop",
        "started_at": AT,
        "exit_code": None,
        "duration_s": None,
    }
    assert told[1]["record"]["digest"] == make_digest("image 0")


def run(*arguments: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["ledger", *arguments], standalone_mode=False)
    return done.return_value or 0, done.output


def test_the_command_says_what_is_damaged_and_exits_with_1_until_it_is_repaired(path: Path):
    file = f"--file={path.parent.parent / 'services.yaml'}"
    assert run("verify", file) == (0, f"{path}: 8 records of 5 runs, all as they were written\n")
    change(path, "UPDATE facts SET value = ''")

    code, text = run("verify", file)
    assert code == 1
    assert "facts buildx: not as it was written" in text
    assert "--repair" in text

    code, text = run("verify", "--repair", file)
    assert (code, f"the damaged ledger is {path}.damaged-1" in text) == (0, True)
    assert run("verify", file)[0] == 0


def test_the_command_gives_json_too(path: Path):
    file = f"--file={path.parent.parent / 'services.yaml'}"
    assert len(run("export", file)[1].splitlines()) == 13
    change(path, "UPDATE facts SET value = ''")

    code, text = run("verify", "--format=json", file)

    assert code == 1
    assert json.loads(text)["damages"] == [{"table": "facts", "row": "buildx", "what": "not as it was written"}]


@pytest.mark.parametrize("content", [b"", b"not a database at all" * 400])
def test_a_file_that_is_no_ledger_is_told(tmp_path: Path, content: bytes):
    path = tmp_path / FILE_NAME
    path.write_bytes(content)

    with pytest.raises(LedgerError, match=r"cannot be read as a ledger|of version 0"):
        verify(path)


def test_no_two_rows_have_one_checksum():
    rows = [
        ("a", "b"),
        ("ab", ""),
        ("", "ab"),
        ("a", b"b"),
        (1, "b"),
        ("1", "b"),
        (None, "b"),
        ("None", "b"),
        (1.0, "b"),
    ]

    assert len({schema.row_sum(*row) for row in rows}) == len(rows)


# --- what a killed run leaves


def test_a_service_that_a_killed_run_was_to_build_gets_a_record_that_says_so(path: Path):
    abandoned = make_record("cancelled", error=make_failure(FailureKind.CANCELLED))
    with Ledger(path) as ledger:
        ledger.begin("next", project="shop", started_at=AT)

        assert ledger.intend("next", {"app": abandoned, "web": abandoned}) == {"app": "killed"}

        [entry] = ledger.history("app", limit=1)
        assert (entry.run_id, entry.record.status) == ("killed", "cancelled")
        assert ledger.images()["app"].digest == make_digest("image 3"), "its last image is what it was"
        assert ledger.intend("next", {"app": abandoned}) == {"app": "next"}


def test_a_record_takes_the_note_away_that_it_was_to_come(path: Path):
    with Ledger(path) as ledger:
        ledger.begin("next", project="shop", started_at=AT)
        ledger.intend("next", {"app": make_record("cancelled")})
        ledger.commit("next", "app", dataclasses.replace(make_record(), duration_s=1.0))

        assert ledger.intend("later", {"app": make_record("cancelled")}) == {}


def test_no_build_is_begun_where_its_record_would_have_no_place(path: Path, monkeypatch: pytest.MonkeyPatch):
    with Ledger(path) as ledger:
        ledger.require_space()
        monkeypatch.setattr("buildorch.ledger.store.SPACE_BYTES", 1 << 60)

        with pytest.raises(LedgerError, match=r"no space for the ledger: .* bytes free"):
            ledger.require_space()
