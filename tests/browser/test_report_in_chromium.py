"""The report's page in a real Chromium: what it asks for and says, what is there, and that words stay words."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import hostile
import pytest
import recorded
from devtools import Page

from buildorch.report.html import run_html
from buildorch.report.text import printable

SECTIONS = ["figures", "failures", "images", "findings", "changes", "timeline", "layers", "history", "notes"]
LOG_IS_SEEN = "document.querySelector('#failures pre').checkVisibility()"
RUN = recorded.report()

pytestmark = pytest.mark.proof


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("reports")
    (made / "run.html").write_text(run_html(RUN, recorded.history()), "utf-8")
    (made / "hostile.html").write_text(run_html(hostile.report(), hostile.history()), "utf-8")
    (made / "scripted.html").write_text((made / "run.html").read_text().replace("</body>", "<script>1</script>"))
    return made


@pytest.fixture
def opened(page: Page, folder: Path) -> Page:
    page.look()
    page.open((folder / "run.html").as_uri())
    return page


def test_the_page_loads_without_a_word_of_the_console_and_asks_for_nothing_but_itself(opened: Page, folder: Path):
    opened.value("document.body.getBoundingClientRect().height")

    assert opened.said() == []
    assert opened.requested() == [(folder / "run.html").as_uri()]


def test_every_part_is_there_and_seen(opened: Page):
    seen = "[...document.querySelectorAll('section')].map(e => [e.id, e.getBoundingClientRect().height > 20])"

    assert opened.value(seen) == [[name, True] for name in SECTIONS]
    assert opened.value("document.title") == "acme-shop: 1 skipped, 2 built, 1 failed, 1 blocked"


def test_every_chart_is_drawn_and_has_a_name(opened: Page):
    drawn = opened.value(
        "[...document.querySelectorAll('svg')].map(e => [e.getAttribute('aria-label'),"
        " e.querySelectorAll('rect, circle').length])"
    )

    labels = [label for label, _ in drawn]
    assert all(count > 0 for _, count in drawn)
    assert labels[0] == "the run's timeline"
    assert {"the steps of web", "api linux/amd64, size by layer", "web linux/amd64, unpacked size of each run"} <= {
        *labels
    }


def test_the_style_colours_the_charts(opened: Page):
    fill = "s => { const e = document.querySelector(s); return e && getComputedStyle(e).fill }"
    colours = {
        kind: opened.value(f"({fill})('#timeline .bar.{kind} rect')")
        for kind in ("waiting", "executed", "cached", "transfer", "failed", "executed.critical")
    }

    assert all(str(colour).startswith("rgb(") for colour in colours.values())
    assert colours["failed"] == "rgb(210, 85, 63)"


def test_the_figures_that_are_seen_are_the_records(opened: Page):
    rows = opened.value(
        "[...document.querySelectorAll('#images tbody tr')].map(r => [r.dataset.service,"
        " r.querySelector('.unpacked data').value, r.querySelector('.time data').value])"
    )

    assert rows == [
        [
            name,
            *([str(one.unpacked_bytes) for one in record.platforms.values()] or [""]),
            str(record.duration_s),
        ]
        for name, record in RUN.services.items()
    ]


def test_a_failures_log_is_folded_until_it_is_opened(opened: Page):
    folded = opened.value(LOG_IS_SEEN)

    opened.value("document.querySelector('#failures details summary').click()")

    assert folded is False
    assert opened.value(LOG_IS_SEEN) is True
    assert opened.value("document.querySelector('#failures pre').innerText").splitlines() == [
        printable(line) for line in RUN.services["worker"].error.log
    ]


def light_of(page: Page) -> int:
    """How light the paper is, of 255."""
    colour = page.value("getComputedStyle(document.body).backgroundColor")
    return min(int(part) for part in re.findall(r"\d+", colour)[:3])


def test_the_page_is_light_or_dark_as_the_reader_has_it(opened: Page):
    light = light_of(opened)
    opened.look(dark=True)

    assert light > 230
    assert light_of(opened) < 40


@pytest.mark.parametrize("width", [360, 768])
def test_nothing_is_wider_than_a_phone_or_a_tablet(opened: Page, width: int):
    opened.look(width=width)

    assert opened.value("document.documentElement.scrollWidth") == width


def test_on_paper_it_is_light_and_what_is_folded_is_open(opened: Page):
    opened.look(dark=True, media="print")

    assert light_of(opened) == 255
    assert opened.value(LOG_IS_SEEN) is True
    assert opened.printed().startswith(b"%PDF-")


def test_a_script_in_the_page_would_not_run_and_would_be_told(page: Page, folder: Path):
    page.open((folder / "scripted.html").as_uri())
    page.value("1")

    assert any("Content Security Policy" in said for said in page.said())


def test_hostile_words_are_only_words(page: Page, folder: Path):
    page.look()
    page.open((folder / "hostile.html").as_uri())
    text: Any = page.value("document.documentElement.textContent")

    assert page.said() == []
    assert page.requested() == [(folder / "hostile.html").as_uri()]
    assert page.value("document.querySelectorAll('script, img, a, iframe, b, i, form, object').length") == 0
    assert page.value("document.querySelectorAll('style').length") == 1
    assert page.value("document.querySelectorAll('html > body > main > section').length") == len(SECTIONS)
    assert "<script>alert(1)</script></style>" in text
    assert not set(text) & {"\x1b", "\x00", "\u202e", "\u2066", "\x7f", "\x9b"}
    assert page.value("document.documentElement.scrollWidth") == 1200
