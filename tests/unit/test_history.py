"""A service's records over time."""

from __future__ import annotations

import csv
import dataclasses
import io

import pytest

from buildorch.ledger import Entry
from buildorch.record import ServiceRecord
from buildorch.report.history import history_csv, history_text, sparkline
from buildorch.testing import make_digest, make_platform, make_record


def entry(at: int, record: ServiceRecord) -> Entry:
    return Entry(at, f"run-{at}", f"2026-01-0{at}T10:00:00.000Z", "app", record)


def built(unpacked: int, seconds: float) -> ServiceRecord:
    platform = make_platform(unpacked=[unpacked], compressed=[unpacked // 2])
    record = make_record(digest=make_digest(str(unpacked)))
    return dataclasses.replace(record, platforms={"linux/amd64": platform}, duration_s=seconds)


@pytest.mark.parametrize(
    ("values", "bars"), [([], ""), ([5], "▄"), ([5, 5], "▄▄"), ([1, 8], "▁█"), ([0, 7, 3.5], "▁█▅"), ([8, 1], "█▁")]
)
def test_a_sparkline_goes_from_the_least_to_the_greatest(values: list[float], bars: str):
    assert sparkline(values) == bars


def test_sizes_and_durations_are_drawn_from_the_oldest_to_the_newest():
    text = history_text([entry(2, built(2000, 9.0)), entry(1, built(1000, 4.0))])

    assert text.splitlines()[-2:] == [
        "unpacked linux/amd64: ▁█ 1.0 kB -> 2.0 kB",
        "duration of builds: ▁█ 4.0s -> 9.0s",
    ]


def test_a_skip_took_no_time_to_build_and_is_not_drawn_as_if_it_had():
    skipped = dataclasses.replace(built(1000, 0.0), status="skipped")

    assert history_text([entry(2, skipped), entry(1, built(1000, 4.0))]).splitlines()[-1].endswith("▄ 4.0s -> 4.0s")


def test_a_service_that_never_had_an_image_has_no_trend():
    assert len(history_text([entry(1, make_record("failed"))]).splitlines()) == 2


def test_the_csv_has_a_row_for_each_platform_of_each_record():
    two = dataclasses.replace(
        built(1000, 4.0), platforms={"linux/amd64": make_platform(), "linux/arm64": make_platform()}
    )

    rows = list(csv.DictReader(io.StringIO(history_csv([entry(2, two), entry(1, make_record("failed"))]))))

    assert [(row["sequence"], row["platform"], row["status"]) for row in rows] == [
        ("2", "linux/amd64", "built"),
        ("2", "linux/arm64", "built"),
        ("1", "", "failed"),
    ]
    assert rows[0]["unpacked_bytes"] == str(make_platform().unpacked_bytes)
    assert rows[2]["unpacked_bytes"] == ""


def test_a_reason_with_quotes_commas_and_line_ends_stays_one_field():
    strange = dataclasses.replace(make_record("failed"), reason='a "b", c\nd')

    [row] = csv.DictReader(io.StringIO(history_csv([entry(1, strange)])))

    assert row["reason"] == 'a "b", c\nd'
