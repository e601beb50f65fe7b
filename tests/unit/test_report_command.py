"""`buildorch report`, and what a build leaves in CI by itself."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import recorded

from buildorch import telemetry
from buildorch.cli import main, summarising
from buildorch.ledger import Ledger
from buildorch.record import Report
from buildorch.report.markdown import SUMMARY_BYTES
from buildorch.testing import make_digest, make_record

RUN = recorded.report()


def ran(run_id: str, *, exit_code: int = 0, day: int = 1) -> Report:
    record = make_record(digest=make_digest(run_id))
    facts = {"project": "shop", "duration_s": 2.0, "jobs": 2, "git": None, "engine": None}
    return Report(
        run_id=run_id, started_at=f"2026-01-0{day}T10:00:00Z", exit_code=exit_code, services={"app": record}, **facts
    )


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project whose ledger has two runs that ended and one that was killed."""
    monkeypatch.chdir(tmp_path)
    with Ledger(tmp_path / ".buildorch" / "ledger.db") as ledger:
        for day, run_id in enumerate(("first", "second", "killed"), 1):
            report = ran(run_id, day=day)
            ledger.begin(run_id, project="shop", started_at=report.started_at)
            ledger.commit(run_id, "app", report.services["app"])
            if run_id != "killed":
                ledger.finish(report)
    return tmp_path


def test_without_a_name_the_last_run_that_ended_is_reported(folder: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["report"]) == 0

    assert capsys.readouterr().out.endswith("1 built in 2.0s (exit 0, run second)\n")


def test_the_record_beside_the_ledger_says_more_of_the_same_run(folder: Path, capsys: pytest.CaptureFixture[str]):
    more = dataclasses.replace(ran("second", day=2), jobs=7)
    (folder / ".buildorch" / "run.json").write_text(more.to_json())

    assert main(["report", "--json", "-"]) == 0

    assert json.loads(capsys.readouterr().out)["jobs"] == 7


@pytest.mark.parametrize("beside", ["{", ran("other").to_json()])
def test_a_record_beside_the_ledger_that_is_no_record_or_anothers_is_passed_over(
    folder: Path, beside: str, capsys: pytest.CaptureFixture[str]
):
    (folder / ".buildorch" / "run.json").write_text(beside)

    assert main(["report"]) == 0

    assert "run second" in capsys.readouterr().out


def test_a_run_is_named_and_what_came_after_it_is_not_its_past(folder: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["report", "first", "--markdown", "-", "--limit", "1"]) == 0

    text = capsys.readouterr().out
    assert "<code>first</code>" in text
    assert "| app | new |" in text


@pytest.mark.proof
def test_the_history_goes_back_as_many_runs_as_it_is_told(folder: Path, capsys: pytest.CaptureFixture[str]):
    with Ledger(folder / ".buildorch" / "ledger.db") as ledger:
        for day in range(4, 8):
            report = ran(f"run-{day}", day=day)
            ledger.begin(report.run_id, project="shop", started_at=report.started_at)
            ledger.commit(report.run_id, "app", report.services["app"])
            ledger.finish(report)

    assert main(["report", "run-6", "--html", "-", "--limit", "2"]) == 0

    page = capsys.readouterr().out
    assert "<summary>3 runs</summary>" in page
    assert [day for day in range(1, 8) if f"2026-01-0{day} 10:00:00" in page] == [4, 5, 6]


@pytest.mark.proof
def test_one_call_writes_every_report(folder: Path, capsys: pytest.CaptureFixture[str]):
    (folder / "events.ndjson").write_text(recorded.events_text())
    names = ("html", "markdown", "junit", "sarif", "trace", "json")

    code = main(["report", "events.ndjson", *(word for name in names for word in (f"--{name}", f"out.{name}"))])

    assert (code, capsys.readouterr().out) == (0, "")
    assert (folder / "out.json").read_text() == recorded.record_text()
    begins = {"html": "<!doctype html>", "markdown": "## ", "junit": "<?xml", "sarif": "{", "trace": '{"traceEvents"'}
    assert all((folder / f"out.{name}").read_text().startswith(text) for name, text in begins.items())


def test_a_findings_dockerfile_is_the_one_that_the_services_file_names(
    folder: Path, capsys: pytest.CaptureFixture[str]
):
    (folder / "images").mkdir()
    (folder / "images" / "Dockerfile").write_text("FROM scratch\n")
    (folder / "services.yaml").write_text("version: 1\nproject: shop\nservices: {api: {context: images}}\n")
    (folder / "run.json").write_text(recorded.record_text())

    assert main(["report", "run.json", "--sarif", "-"]) == 0

    assert '"uri": "images/Dockerfile"' in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["gone"], "there is no run 'gone' that came to its end"),
        (["killed"], "there is no run 'killed' that came to its end"),
        (["-f", "elsewhere/services.yaml"], "there is no run that came to its end"),
        (["--html", "-", "--json", "-"], "two reports cannot both go to stdout"),
        (["--html", "gone/report.html"], "the report cannot be written to gone/report.html: No such file"),
        (["binary"], "binary is not a run record"),
    ],
)
def test_what_cannot_be_reported_is_told(folder: Path, words: list[str], said: str, capsys: pytest.CaptureFixture[str]):
    (folder / "binary").write_bytes(bytes(range(256)))

    assert main(["report", *words]) == 2

    captured = capsys.readouterr()
    assert said in captured.err
    assert "hint: " in captured.err
    assert captured.out == ""


# --- By itself


@pytest.fixture
def summary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "summary.md"
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(path))
    return path


def test_a_summary_is_added_to_what_is_there(summary: Path, capsys: pytest.CaptureFixture[str]):
    summary.write_text("# Before\n")

    summarising.leave(RUN, {})

    text = summary.read_text()
    assert text.startswith("# Before\n\n## ❌ acme-shop: 1 skipped, 2 built")
    assert capsys.readouterr().err == ""


def test_a_summary_never_passes_githubs_limit_with_what_is_there(summary: Path, capsys: pytest.CaptureFixture[str]):
    summary.write_text("x" * (SUMMARY_BYTES - 800))

    summarising.leave(RUN, {})

    text = summary.read_text()
    assert SUMMARY_BYTES - 800 < len(text.encode()) <= SUMMARY_BYTES
    assert text.endswith("it is in the run record.\n")


@pytest.mark.parametrize("used", [SUMMARY_BYTES - 20, SUMMARY_BYTES + 20])
def test_where_there_is_no_room_for_a_summary_it_is_told(summary: Path, used: int, capsys: pytest.CaptureFixture[str]):
    summary.write_text("x" * used)

    summarising.leave(RUN, {})

    assert len(summary.read_text()) == used
    assert capsys.readouterr().err.startswith("warning: no summary was written to ")


def test_a_summary_that_cannot_be_written_is_a_warning(summary: Path, capsys: pytest.CaptureFixture[str]):
    summary.mkdir()

    summarising.leave(RUN, {})

    assert capsys.readouterr().err == f"warning: no summary was written to {summary}: Is a directory\n"


def test_nothing_is_wanted_where_no_variable_says_so():
    assert not summarising.wanted({"PATH": "/bin", "GITHUB_STEP_SUMMARY": ""})
    assert summarising.wanted({"GITHUB_STEP_SUMMARY": "x"})
    assert summarising.wanted({"OTEL_EXPORTER_OTLP_ENDPOINT": "x"})
    assert summarising.wanted({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "x"})


def test_what_went_wrong_with_the_spans_is_a_warning(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
    monkeypatch.setattr(telemetry, "export", lambda *_: "not sent\x1b[2J")

    summarising.leave(RUN, {})

    assert capsys.readouterr().err == "warning: not sent␛[2J\n"
