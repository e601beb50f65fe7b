"""A run as a page, Markdown, JUnit, SARIF and a trace: that they agree, and that names and logs are data in all of them."""

from __future__ import annotations

import dataclasses
import json
import re
from collections import Counter
from collections.abc import Callable
from functools import cache
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import hostile
import pytest
import recorded
import xmlschema
from jsonschema import Draft202012Validator
from markdown_it import MarkdownIt

from buildorch.quantities import human_bytes, human_seconds
from buildorch.record import Layer, Report
from buildorch.report import charts
from buildorch.report.figures import figures
from buildorch.report.html import MOST_CHARTED, run_html
from buildorch.report.markdown import SUMMARY_BYTES, run_markdown
from buildorch.report.past import before_run
from buildorch.report.run_checked import run_junit, run_sarif
from buildorch.report.since import since
from buildorch.report.text import budget_text, report_text
from buildorch.report.timing import timing
from buildorch.report.trace import lanes, run_trace
from buildorch.testing import make_digest, make_platform, make_record

DATA = Path(__file__).parent / "data"
RUN, HISTORY = recorded.report(), recorded.history()
HOSTILE, HOSTILE_PAST = hostile.report(), hostile.history()
EMPTY = dataclasses.replace(RUN, services={}, exit_code=0, git=None, engine=None, jobs=0)


@cache
def recorded_page() -> str:
    return run_html(RUN, HISTORY)


@cache
def hostile_page() -> str:
    return run_html(HOSTILE, HOSTILE_PAST)


@cache
def recorded_markdown() -> str:
    return run_markdown(RUN, before_run(RUN, HISTORY))


@cache
def recorded_junit() -> str:
    return run_junit(RUN, {})


class Tags(HTMLParser):
    """A page's tags with their attributes, its text, and the cells of its tables by section."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.rows: dict[str, list[list[str]]] = {}
        self._section, self._cell = "", False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.tags.append((tag, given))
        if tag == "section":
            self._section = given["id"] or ""
        elif tag == "tr":
            self.rows.setdefault(self._section, []).append([])
        elif tag in {"td", "th"}:
            self.rows[self._section][-1].append("")
        self._cell = tag in {"td", "th"} or (self._cell and tag != "tr")

    def handle_endtag(self, tag: str) -> None:
        self._cell = self._cell and tag not in {"td", "th"}

    def handle_data(self, data: str) -> None:
        self.text += data
        if self._cell:
            self.rows[self._section][-1][-1] += data


def rendered(markdown: str) -> Tags:
    return Tags(MarkdownIt("commonmark", {"html": True}).enable("table").render(markdown))


def parsed(xml: str) -> ElementTree.Element:
    return ElementTree.fromstring(xml)  # noqa: S314 - buildorch's own


def values(page: str, css: str) -> list[str | None]:
    """The `value` of every <data> in cells of a class."""
    return re.findall(rf'<td class="n {css}"><data value="([^"]*)">', page)


# --- They agree


def test_every_report_has_the_figures_of_the_record():
    counted = figures(RUN)
    page, summary = Tags(recorded_page()), rendered(recorded_markdown())
    suites = {suite.get("name"): suite for suite in parsed(recorded_junit())}
    images = [
        (name, each, *one) for name, each in RUN.services.items() for one in each.platforms.items() or [("", None)]
    ]

    in_page = page.rows["images"][1:]
    assert len(in_page) == len(images) == len(counted.images)
    for (name, record, platform, facts), row in zip(images, in_page, strict=True):
        human = [human_bytes(facts.compressed_bytes), human_bytes(facts.unpacked_bytes)] if facts else ["-", "-"]
        steps = f"{record.steps.cached}/{record.steps.total}" if record.steps.total else "-"
        took = human_seconds(record.duration_s)
        budget = budget_text(facts, record.budget) if facts else "-"
        digest = record.digest[:19] if record.digest else "-"
        expected = [name, platform or "-", record.status, digest, *human, budget, steps, took]
        assert row == expected
        assert expected in summary.rows[""]
        properties = {one.get("name"): one.get("value") for one in suites[name].iter("property")}
        assert properties["status"] == record.status
        assert int(properties["steps_total"]) == record.steps.total
        assert int(properties["steps_cached"]) == record.steps.cached
        assert int(properties["steps_executed"]) == record.steps.executed
        if facts:
            assert int(properties[f"unpacked_bytes {platform}"]) == facts.unpacked_bytes
            assert int(properties[f"compressed_bytes {platform}"]) == facts.compressed_bytes
        [build] = [case for case in suites[name].iter("testcase") if case.get("name") == "build"]
        assert float(build.get("time")) == record.duration_s


def test_the_pages_exact_figures_are_the_records():
    facts = [one for record in RUN.services.values() for one in (*record.platforms.values(),) or (None,)]

    assert values(recorded_page(), "unpacked") == [str(one.unpacked_bytes) if one else "" for one in facts]
    assert values(recorded_page(), "compressed") == [str(one.compressed_bytes) if one else "" for one in facts]
    assert values(recorded_page(), "time") == [str(record.duration_s) for record in RUN.services.values()]


def test_every_report_counts_the_same():
    statuses = Counter(record.status for record in RUN.services.values())
    findings = Counter(found.severity for record in RUN.services.values() for found in record.findings)
    totals = figures(RUN)
    root = parsed(recorded_junit())
    failed_rules = sum(len({f.rule for f in one.findings if f.severity == "error"}) for one in RUN.services.values())
    results = json.loads(run_sarif(RUN, {}))["runs"][0]["results"]

    assert totals.counted == ", ".join(f"{count} {status}" for status, count in statuses.items())
    assert all(
        totals.counted in text
        for text in (Tags(recorded_page()).text, rendered(recorded_markdown()).text, report_text(RUN))
    )
    assert re.findall(r'<data id="(errors|warnings|cached|services)" value="(\d+)"', recorded_page()) == [
        ("services", str(len(RUN.services))),
        ("cached", str(sum(record.steps.cached for record in RUN.services.values()))),
        ("errors", str(findings["error"])),
        ("warnings", str(findings["warning"])),
    ]
    assert f"{findings['error']} error, {findings['warning']} warnings" in recorded_markdown()
    assert Counter(one["level"] for one in results) == findings
    assert int(root.get("failures")) == statuses["failed"] + failed_rules
    assert int(root.get("errors")) == statuses["blocked"] + statuses["cancelled"]
    assert len([case for case in root.iter("testcase") if case.get("name") == "build"]) == len(RUN.services)


def test_a_layer_that_images_share_is_counted_once():
    shared = make_platform(unpacked=[100, 7], compressed=[50, 3])
    layer = Layer(digest="sha256:own", diff_id="sha256:d", compressed_bytes=5, unpacked_bytes=11, created_by="RUN")
    more = dataclasses.replace(shared, layers=(*shared.layers, layer))
    one, other = (
        dataclasses.replace(make_record(digest="d"), platforms={"linux/amd64": facts}) for facts in (shared, more)
    )

    counted = figures(dataclasses.replace(RUN, services={"one": one, "other": other}))

    assert (counted.unpacked_bytes, counted.compressed_bytes) == (118, 58)


def test_what_changed_is_told_against_the_last_image_before_the_run():
    changes = {one.service: one for one in since(RUN, before_run(RUN, HISTORY))}

    assert {name: one.kind for name, one in changes.items()} == {
        "base": "same",
        "web": "changed",
        "api": "changed",
        "worker": "no image",
        "mailer": "no image",
    }
    before = HISTORY["api"][1].record
    [growth] = changes["api"].growth
    assert growth.before_bytes == before.platforms["linux/amd64"].unpacked_bytes
    assert growth.after_bytes == RUN.services["api"].platforms["linux/amd64"].unpacked_bytes
    assert [row[1] for row in Tags(recorded_page()).rows["changes"][1:]] == [
        "same",
        "changed",
        "changed",
        "no image",
        "no image",
    ]


def test_an_image_without_one_before_it_is_new():
    assert {one.kind for one in since(RUN, {}) if one.after_digest} == {"new"}


def test_without_its_ledger_a_record_is_compared_with_what_began_before_it():
    elsewhere = dataclasses.replace(RUN, run_id="elsewhere", started_at=HISTORY["api"][1].started_at)

    assert before_run(elsewhere, HISTORY)["api"] == HISTORY["api"][2].record


# --- The page


def test_the_page_asks_for_nothing_and_allows_no_script():
    tags = Tags(recorded_page()).tags

    [policy] = [given["content"] for tag, given in tags if given.get("http-equiv") == "Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert "unsafe" not in policy
    assert not {tag for tag, _ in tags} & {"script", "img", "iframe", "object", "embed", "a", "base", "form"}
    assert [given["href"] for _, given in tags if "href" in given] == ["data:,"]
    assert [name for _, given in tags for name in given if name.startswith("on") or name in {"style", "src"}] == []
    assert not re.search(r"url\(|@import", recorded_page())


@pytest.mark.proof
def test_the_page_is_the_same_each_time():
    assert run_html(HOSTILE, HOSTILE_PAST) == hostile_page()


@pytest.mark.parametrize(
    "part", ["failures", "images", "findings", "changes", "timeline", "layers", "history", "notes"]
)
def test_the_page_has_every_part(part: str):
    assert f'<section id="{part}">' in recorded_page()


def test_a_failures_log_is_folded_and_whole():
    text = Tags(recorded_page()).text

    log = RUN.services["worker"].error.log
    assert len(log) == 4
    assert all(line.replace("\x1b", "␛") in text for line in log)
    assert "<details><summary>The last 4 lines" in recorded_page()


def test_a_run_of_nothing_and_one_without_a_past_have_pages():
    empty = run_html(EMPTY)

    assert '<section id="timeline">' not in empty
    assert '<section id="history">' not in empty
    assert "nothing to build" in Tags(empty).text


def test_hostile_words_are_no_markup_on_the_page():
    own, theirs = Tags(recorded_page()), Tags(hostile_page())

    assert {tag for tag, _ in theirs.tags} <= {tag for tag, _ in own.tags}
    assert {name for _, given in theirs.tags for name in given} <= {name for _, given in own.tags for name in given}
    assert [char for char in hostile_page() if not (char.isprintable() or char in "\n\t")] == []
    assert hostile_page().encode()
    assert "7 * 7" in theirs.text
    assert theirs.text.count("<script>alert(1)</script>") > 30


@pytest.mark.proof
def test_a_large_runs_page_stays_small_and_says_what_it_leaves_out():
    many = {f"service-{at}": RUN.services["base"] for at in range(200)}

    page = run_html(dataclasses.replace(RUN, services=many))

    assert f"{200 - MOST_CHARTED} services are not shown in detail here" in page
    assert page.count("<svg") == MOST_CHARTED
    assert len(page) < 1_000_000


def test_a_treemap_has_a_field_for_each_layer_and_for_what_the_budget_leaves():
    web, api = RUN.services["web"], RUN.services["api"]

    drawn = [charts.treemap(one.platforms["linux/amd64"], one.budget, "t") for one in (web, api)]

    assert [text.count('class="rect layer') for text in drawn] == [
        len(one.platforms["linux/amd64"].layers) for one in (web, api)
    ]
    assert [text.count('class="rect left') for text in drawn] == [1, 0]


def test_a_field_of_a_treemap_that_is_too_small_for_its_words_has_none():
    api = RUN.services["api"]

    drawn = charts.treemap(api.platforms["linux/amd64"], api.budget, "t")

    words = re.findall(r'<text [^>]*class="label">([^<]+)</text>', drawn)
    assert words[:1] == ["ADD rootfs.tar /"]
    assert 2 < len(words) < len(api.platforms["linux/amd64"].layers)
    assert all(len(one) < 30 for one in words)


def test_an_image_without_a_byte_and_one_whose_blobs_are_not_known_have_no_treemap_that_fails():
    nothing = make_platform(unpacked=[0], compressed=[0])
    unknown = dataclasses.replace(make_platform(), compressed_bytes=None)
    services = {
        name: dataclasses.replace(make_record(digest=make_digest(name)), platforms={"linux/amd64": facts})
        for name, facts in {"nothing": nothing, "unknown": unknown}.items()
    }

    assert run_html(dataclasses.replace(RUN, services=services)).count("<svg") == 1


# --- Markdown


def test_hostile_words_are_no_markup_in_markdown():
    text = run_markdown(HOSTILE, before_run(HOSTILE, HOSTILE_PAST))
    page = rendered(text)

    allowed = {
        "h2",
        "h3",
        "p",
        "strong",
        "code",
        "details",
        "summary",
        "pre",
        "table",
        "thead",
        "tbody",
        "tr",
        "th",
        "td",
    }
    assert {tag for tag, _ in page.tags} <= allowed
    assert {name for _, given in page.tags for name in given} <= {
        "style"
    }  # the renderer's own, for columns flush right
    assert [char for char in text if not (char.isprintable() or char in "\n\t")] == []
    assert {len(row) for row in page.rows[""]} == {5, 9}
    assert "<script>alert(1)</script>" in page.text


def test_a_summary_that_is_too_long_loses_whole_parts_and_says_so():
    whole = run_markdown(RUN)

    cut = run_markdown(RUN, at_most=len(whole.encode()) - 1)

    assert len(cut) < len(whole)
    assert cut.endswith("\nThe rest does not fit here: it is in the run record.\n")
    assert "### Images" not in run_markdown(RUN, at_most=1200)
    assert run_markdown(RUN, at_most=10) == ""
    assert cut.count("<details>") == cut.count("</details>")


def test_a_summary_of_very_much_keeps_githubs_limit():
    finding = RUN.services["api"].findings[0]
    much = dataclasses.replace(RUN.services["api"], findings=(dataclasses.replace(finding, message="x" * 900),) * 1300)

    text = run_markdown(dataclasses.replace(RUN, services={"api": much}))

    assert 0 < len(text.encode()) <= SUMMARY_BYTES


# --- JUnit, SARIF


@pytest.fixture(scope="module")
def junit_schema() -> Any:
    return xmlschema.XMLSchema(str(DATA / "junit-10.xsd"))


@pytest.mark.parametrize("run", [RUN, HOSTILE, EMPTY], ids=["recorded", "hostile", "empty"])
def test_the_junit_report_keeps_jenkinss_schema(run: Report, junit_schema: Any):
    assert [str(error) for error in junit_schema.iter_errors(run_junit(run, {}))] == []


@pytest.mark.parametrize("run", [RUN, HOSTILE, EMPTY], ids=["recorded", "hostile", "empty"])
def test_the_sarif_log_keeps_its_schema(run: Report):
    schema = Draft202012Validator(json.loads((DATA / "sarif-2.1.0.written.schema.json").read_text("utf-8")))

    assert list(schema.iter_errors(json.loads(run_sarif(run, {})))) == []


def cases(name: str) -> dict[str, ElementTree.Element]:
    [suite] = [suite for suite in parsed(recorded_junit()) if suite.get("name") == name]
    return {str(case.get("name")): case for case in suite.iter("testcase")}


def test_a_build_that_failed_is_a_failure_with_its_log_and_one_that_was_blocked_an_error():
    failure, error = cases("worker")["build"].find("failure"), cases("mailer")["build"].find("error")

    assert (failure.get("type"), error.get("type")) == ("step_failed", "blocked")
    assert "| Collecting requests==2.32\n" in failure.text
    assert "builds on worker" in error.get("message")


def test_an_error_of_a_rule_is_a_failure_of_its_own_case():
    assert {name: case.find("failure") is not None for name, case in cases("api").items()} == {
        "build": False,
        "size": True,
        "healthcheck": False,
    }


def test_names_that_were_not_moved_are_a_failure():
    kept = dataclasses.replace(RUN.services["web"], warnings=("its names were not moved: api is over its budget",))

    root = parsed(run_junit(dataclasses.replace(RUN, services={"web": kept}), {}))

    [case] = [case for case in root.iter("testcase") if case.get("name") == "publish"]
    assert case.find("failure").get("message") == "api is over its budget"


def test_findings_stand_where_the_dockerfile_is():
    [run] = json.loads(run_sarif(RUN, {"api": "services/api/Dockerfile"}))["runs"]

    places = {one["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] for one in run["results"]}
    assert "services/api/Dockerfile" in places
    assert run["invocations"][0]["exitCode"] == RUN.exit_code
    assert run["invocations"][0]["executionSuccessful"] is False


# --- The trace

TRACE = json.loads(run_trace(RUN))["traceEvents"]


def complete() -> list[dict[str, Any]]:
    return [event for event in TRACE if event["ph"] == "X"]


def test_a_trace_has_the_fields_of_its_format():
    for event in TRACE:
        assert {"name", "ph", "pid", "tid", "ts", "args"} <= event.keys()
        assert event["pid"] > 0
        assert isinstance(event["ts"], int)
        if event["ph"] == "X":
            assert isinstance(event["cat"], str)
            assert event["dur"] >= 0
            assert event["ts"] > 0
        else:
            assert (event["ph"], event["name"] in {"process_name", "thread_name"}) == ("M", True)
            assert isinstance(event["args"]["name"], str)


def test_every_process_and_thread_of_a_trace_has_a_name():
    processes = {event["pid"] for event in TRACE if event["name"] == "process_name"}
    threads = {(event["pid"], event["tid"]) for event in TRACE if event["name"] == "thread_name"}

    assert {event["pid"] for event in complete()} == processes
    assert {(event["pid"], event["tid"]) for event in complete()} == threads


def test_the_events_of_one_thread_do_not_overlap():
    for thread in {(event["pid"], event["tid"]) for event in complete()}:
        mine = [event for event in complete() if (event["pid"], event["tid"]) == thread]
        assert all(one["ts"] + one["dur"] <= other["ts"] for one, other in pairwise(mine))


def test_a_trace_has_every_service_that_was_built_and_every_step():
    done = timing(RUN)

    assert len([event for event in complete() if event["cat"] == "service"]) == len(done.services)
    steps = [event["name"] for event in complete() if event["cat"] not in {"service", "run"}]
    assert sorted(steps) == sorted(step.name for one in RUN.services.values() for step in one.timeline)
    [run] = [event for event in complete() if event["cat"] == "run"]
    assert run["dur"] == pytest.approx(RUN.duration_s * 1e6, abs=1e5)


def test_steps_that_ran_at_once_lie_in_lanes_beside_each_other():
    [web] = [one for one in timing(RUN).services if one.name == "web"]

    rows = lanes(web.steps)

    assert sum(map(len, rows)) == len(web.steps)
    assert 1 < len(rows) < len(web.steps)


@pytest.mark.parametrize("write", [run_trace, lambda run: run_sarif(run, {}), lambda run: run_junit(run, {})])
def test_hostile_words_reach_no_report_as_control_characters(write: Callable[[Report], str]):
    text = write(HOSTILE)

    assert text.encode()
    assert [char for char in text if not (char.isprintable() or char in "\n\t")] == []
