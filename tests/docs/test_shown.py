"""Output and files that the pages show, against what the code prints and reads; and that no block escapes every test."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import recorded
from pages import DOCS, PAGES, ROOT, Block, blocks_of, table
from subjects import make_subject

from buildorch.bases.lockfile import Lock
from buildorch.build_cache import Cached, Holding
from buildorch.changes import Change
from buildorch.cli import main
from buildorch.comparing import variants
from buildorch.doctor.check import Check, Examination
from buildorch.errors import ServicesFileError
from buildorch.report.cached import holding_text
from buildorch.report.examined import examination_text
from buildorch.report.text import explained_text, report_text
from buildorch.scaffold import nextjs
from buildorch.services import Service, parse

LANGUAGES = {"python", "yaml", "json", "sh", "make", "text", "toml", "ts"}
"""Each has a test: `test_docs.py` has the first five, this file the others."""
ELSEWHERE = {
    "docs/tutorial.md": "test_examples.py",
    "docs/how-to/growth.md": "test_examples.py",
    "docs/how-to/live-view.md": "test_live.py",
}
"""Pages whose texts are all compared by another test."""


API = {
    "requirements.txt": "fastapi==0.115.0\nuvicorn==0.30.0\n",
    "main.py": "from fastapi import FastAPI\n\napp = FastAPI()\n",
}
CONFIG = (
    'import type { NextConfig } from "next";\n\nconst nextConfig: NextConfig = {\n  /* config options here */\n};\n\n'
    "export default nextConfig;\n"
)
WEB = {
    "package.json": '{"name": "web", "scripts": {"build": "next build"}, "dependencies": {"next": "^16"}}',
    "package-lock.json": "{}",
    "next.config.ts": CONFIG,
    "app/page.tsx": "",
}


def fill(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


def blocks(path: str, language: str) -> list[Block]:
    return [block for block in blocks_of(ROOT / path) if block.language == language]


def lines(block: Block) -> list[str]:
    return block.body.splitlines()


# No block escapes


@pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(ROOT)) for page in PAGES])
def test_every_block_has_a_language_that_some_test_reads(page: Path):
    found = list(blocks_of(page))
    fences = re.findall(r"^\s*(?:```|~~~)", page.read_text(), re.MULTILINE)
    assert len(fences) == 2 * len(found), "a block has no language, is indented, or is fenced with tildes"
    assert {block.language for block in found} <= LANGUAGES


def test_every_text_that_is_shown_is_held_to_the_code():
    shown = {str(page.relative_to(ROOT)): len(blocks(str(page.relative_to(ROOT)), "text")) for page in PAGES}
    assert {page: count for page, count in shown.items() if count and page not in ELSEWHERE} == {
        page: len(checks) for page, checks in TEXTS.items()
    }


# What the command prints


def overview(block: Block) -> None:
    """`test_docs.py` compares the commands."""
    assert all(line.startswith("buildorch ") for line in lines(block))


def explanation(block: Block) -> None:
    head, *rest = lines(block)
    name, told = head.split(": ", 1)
    signs = {"~": "changed", "+": "added", "-": "removed"}
    changes = [Change(signs[line.split()[0]], line.split(maxsplit=1)[1]) for line in rest]  # type: ignore[arg-type]
    assert explained_text(name, told, changes) == block.body.rstrip()


def uses_of_diff(block: Block) -> None:
    assert all(re.match(r"buildorch diff( backend| RUN| RUN RUN)? {2,}\w", line) for line in lines(block))


def some_variants(block: Block) -> None:
    said = [re.fullmatch(r"--variant '?(.+?)'? {2,}.*", line) for line in lines(block)]
    assert len(variants.parse_all(one[1] for one in said if one)) == 1 + len(
        lines(block)
    )  # the first is the service as it is


def problems(block: Block) -> None:
    """They are what the parser says of such a file, to the column."""
    text = "version: 1\nproject: shop\nservices:\n  web:\n    contxt: a\n    size: {max: big}\n    tags: ['{nope}']\n"
    with pytest.raises(ServicesFileError) as caught:
        parse(text, "services.yaml")
    told = [f"error: {one.source}:{one.line}:{one.column}: {one.message}" for one in caught.value.problems]
    shown = [line.replace(" (did you mean 'context'?)", "") for line in lines(block)]
    assert shown == told


def examination(block: Block) -> None:
    seen = [re.fullmatch(r"(ok|warning|error) +(.+?) {2,}(.*?)(?:; hint: (.*))?", line) for line in lines(block)]
    checks = tuple(Check(one[2], one[1], one[3], one[4] or "") for one in seen if one)  # type: ignore[arg-type]
    assert examination_text(Examination(checked_at="", checks=checks)) == block.body.rstrip()
    known = set(table((DOCS / "how-to" / "doctor.md").read_text()))
    assert {re.sub(r"^registry .*", "registry HOST", check.name) for check in checks} <= known


def holding(block: Block) -> None:
    """The heads, and that each table adds up as it is printed."""
    mount = Cached(id="a", type="exec.cachemount", size=1, description='cached mount /x from exec with id "/yarn"')
    printed = holding_text(Holding(builder="default", exact=True, records=(mount,)), {}).splitlines()
    heads = [line.split() for line in printed if line.startswith("CACHE ")]
    assert [line.split() for line in lines(block) if line.startswith("CACHE ")] == heads
    counts = [
        int(one) for one in re.findall(r"^(?!total|CACHE)\D+? {2,}(\d+) ", block.body.split("\n\n")[0], re.MULTILINE)
    ]
    assert sum(counts) == int(re.findall(r"^total +(\d+)", block.body, re.MULTILINE)[0])


def locked(block: Block) -> None:
    *added, last = lines(block)
    lock = Lock.parse(blocks("docs/how-to/base-images.md", "toml")[0].body, "buildorch.lock")
    shown = {words[1]: words[2:] for words in map(str.split, added)}
    assert all(words.split()[0] == "added" for words in added)
    for name, entry in lock.bases.items():
        assert shown[name] == [entry.digest[:19], entry.registry]
    assert last == f"buildorch.lock written: {len(added)} base images"
    assert "base image{'s' * (number != 1)}" in _source("cli/locking.py")


def note(block: Block) -> None:
    assert re.fullmatch(r"note: [\w-]+: built on stand-ins for \S+, not on the official images\n", block.body)
    assert "built on stand-ins for {official}, not on the official images" in _source("report/text.py")


def summary(block: Block) -> None:
    """The head is the printed one, as is the form of the last line."""
    head, *rows, last = lines(block)
    printed = report_text(recorded.report()).splitlines()
    assert head.split() == printed[0].split()
    assert all(len(re.split(r" {2,}", row)) == 9 for row in rows if not row.startswith("note: "))
    form = r"\d+ built in \S+ \(exit \d, run \d{8}T\d{6}Z-[0-9a-f]{8}\)"
    assert re.fullmatch(form, last)
    assert re.search(form.replace(r"\d+ built", r".*"), printed[-1])


def written(block: Block) -> None:
    """`test_init_prints_what_its_page_shows` runs it."""
    assert lines(block)[-1] == "next: buildorch build-all"


def _source(name: str) -> str:
    return (ROOT / "buildorch" / name).read_text()


TEXTS: dict[str, list[Callable[[Block], None]]] = {
    "README.md": [summary],
    "docs/reference/command.md": [overview, explanation, uses_of_diff, some_variants],
    "docs/reference/services-file.md": [problems],
    "docs/how-to/base-images.md": [locked],
    "docs/how-to/cache.md": [holding],
    "docs/how-to/closed-networks.md": [note],
    "docs/how-to/doctor.md": [examination],
    "docs/how-to/init.md": [written],
}


@pytest.mark.parametrize(("path", "at"), [(path, at) for path, checks in TEXTS.items() for at in range(len(checks))])
def test_a_text_is_what_the_code_prints(path: str, at: int):
    TEXTS[path][at](blocks(path, "text")[at])


def test_init_prints_what_its_page_shows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    fill(tmp_path / "services" / "api", API)
    fill(tmp_path / "apps" / "web", WEB)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("BUILDORCH_FILE", raising=False)

    assert main(["init"]) == 0

    [shown] = blocks("docs/how-to/init.md", "text")
    assert capsys.readouterr().out == shown.body


# Files


def test_the_lock_file_that_is_shown_is_one():
    [shown] = [block for page in PAGES for block in blocks_of(page) if block.language == "toml"]
    assert Lock.parse(shown.body, "buildorch.lock").bases


def test_the_configuration_that_is_shown_is_one_that_init_takes(tmp_path: Path):
    [shown] = [block for page in PAGES for block in blocks_of(page) if block.language == "ts"]
    fill(tmp_path, {**WEB, shown.title: f"{shown.body}export default nextConfig;\n"})
    found = nextjs.nextjs_in(tmp_path)
    assert found is not None
    assert shown.title in nextjs.CONFIGS


def test_the_rule_of_ones_own_that_is_shown_finds_what_it_says():
    [shown] = [block for block in blocks("docs/reference/rules.md", "python") if block.title]
    names: dict[str, Any] = {}
    exec(compile(shown.body, shown.place, "exec"), names)  # noqa: S102 - the page's own words

    moving = make_subject(Service(), dockerfile="FROM scratch AS a\nFROM debian:latest\nCOPY --from=a / /\n")
    pinned = make_subject(Service(), dockerfile="FROM debian:trixie\n")

    assert [(found.rule, found.line) for found in names["no_latest"](moving)] == [("no_latest", 2)]
    assert list(names["no_latest"](pinned)) == []
