"""What a real run leaves by itself, and what its record and its events are read for."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator
from sandbox import BASE, Sandbox

import buildorch
from buildorch.events import events_schema

pytestmark = pytest.mark.engine


def test_a_runs_events_summary_and_reports_say_what_its_record_says(sandbox: Sandbox, tmp_path: Path):
    sandbox.service("good", f"FROM {BASE}\nRUN echo {sandbox.name} > /f\n")
    sandbox.service("bad", f"FROM {BASE}\nRUN echo '<b>{sandbox.name}</b>'; exit 3\n")
    sandbox.services("defaults: {size: {max: 1MB}}\nservices: {good: , bad: }\n")
    summary = tmp_path / "summary.md"
    environ = {"GITHUB_STEP_SUMMARY": str(summary), "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"}

    done = sandbox.command("build-all", "--progress", "json", environ=environ)
    reported = sandbox.command("report", "--html", "report.html", "--trace", "trace.json", "--markdown", "-")

    record = (sandbox.root / ".buildorch" / "run.json").read_text()
    lines = done.stderr.splitlines()
    assert done.returncode == 1
    assert lines[-1].startswith("warning: the run's spans were not ")
    schema = Draft202012Validator(events_schema())
    assert [error.message for line in lines[:-1] for error in schema.iter_errors(json.loads(line))] == []
    assert buildorch.replay(lines).to_json() == record
    assert reported.returncode == 0, reported.stderr
    assert summary.read_text() == reported.stdout
    [row] = re.findall(r"^\| good \|.*\| built \|.*$", reported.stdout, re.MULTILINE)
    assert " over 1.0 MB | 0/1 | " in row
    assert f"&lt;b&gt;{sandbox.name}&lt;/b&gt;" in reported.stdout
    page = (sandbox.root / "report.html").read_text()
    size = json.loads(record)["services"]["good"]["platforms"]["linux/amd64"]["unpacked_bytes"]
    assert f'<data value="{size}">' in page
    assert json.loads((sandbox.root / "trace.json").read_text())["traceEvents"]
