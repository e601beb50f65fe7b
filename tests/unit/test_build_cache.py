"""What a builder's cache holds, what a prune would take, and the commands that show and take it."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from fakes import FakeEngine, running_engine
from test_client import program

from buildorch.build_cache import Cached, Holding, would_go
from buildorch.buildx import builders
from buildorch.buildx.client import Buildx
from buildorch.cli import main
from buildorch.engine import Engine, read_build_cache
from buildorch.errors import BuilderNotFound, EngineError, MalformedDocument

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)
MOUNT = 'cached mount /root/.npm from exec /bin/sh -c npm ci with id "/npm"'


def record(name: str, size: int, *, days: float | None = 1, type: str = "regular", **facts: Any) -> Cached:  # noqa: A002
    last_used = None if days is None else NOW - timedelta(days=days)
    return Cached(id=name, type=type, size=size, last_used=last_used, **facts)


RECORDS = (
    record("old", 400, days=30, uses=5),
    record("new", 300, days=0.1, uses=5),
    record("npm", 200, days=9, type="exec.cachemount", description=MOUNT),
    record("held", 1000, days=40, in_use=True),
    record("image", 5000, days=40, shared=True),
    record("frontend", 10, days=40, type="frontend"),
)


# Sums


@pytest.mark.parametrize(
    ("description", "mount"),
    [
        (MOUNT, "npm"),
        ('cached mount /c from exec sh -c true with id "//c"', "/c"),
        ('cached mount /c from exec sh -c true with id "team/npm"', "team/npm"),
        ('cached mount /c from exec sh -c echo with id "/a" && true\n with id "/a \\"b\\" \\\\c"', 'a "b" \\c'),
        ("cached mount /root/.cache from exec sh -c true", "/root/.cache"),
        ("something new", "something new"),
    ],
)
def test_a_cache_mount_is_known_by_the_id_a_dockerfile_writes(description: str, mount: str):
    assert record("x", 1, type="exec.cachemount", description=description).mount == mount
    assert record("x", 1, description=description).mount == ""


def test_amounts_are_by_kind_and_only_what_can_go_is_reclaimable():
    held = Holding(builder="default", exact=True, records=RECORDS)

    assert [(one.name, one.count, one.size, one.reclaimable) for one in held.kinds()] == [
        ("layers", 4, 6700, 700),
        ("cache mounts", 1, 200, 200),
        ("buildkit's own", 1, 10, 10),
    ]
    [mount] = held.mounts({"npm": ["web", "admin"]})
    assert (mount.name, mount.size, mount.services) == ("npm", 200, ("admin", "web"))


# What would go


def test_by_age_only_what_was_not_used_for_so_long_goes_and_never_what_is_in_use_or_an_images():
    going = would_go(RECORDS, now=NOW, older_than_s=7 * 86400)

    assert {one.id for one in going} == {"old", "npm"}


def test_by_size_the_oldest_and_least_used_go_until_the_rest_is_small_enough():
    def sizes(keep: int) -> list[str]:
        return [one.id for one in would_go(RECORDS, now=NOW, keep_bytes=keep)]

    assert sizes(1910) == []  # an image's layers do not count: they stay whatever goes
    assert sizes(1909) == ["npm"]
    assert sizes(1500) == ["npm", "old"]
    assert sizes(0) == ["npm", "old", "new"]


def test_with_both_limits_what_is_younger_stays_however_much_there_is():
    going = would_go(RECORDS, now=NOW, keep_bytes=0, older_than_s=10 * 86400)

    assert [one.id for one in going] == ["old"]


def test_what_others_stand_on_goes_behind_them_and_stays_where_they_stay():
    base, middle = record("base", 5, days=40), record("middle", 5, days=30, parents=("base",))
    leaf, young = record("leaf", 5, days=20, parents=("middle",)), record("young", 5, days=1, parents=("base",))

    def going(*records: Cached) -> list[str]:
        return [one.id for one in would_go(records, now=NOW, older_than_s=7 * 86400)]

    assert going(base, middle, leaf) == ["leaf", "middle", "base"]
    assert going(base, middle, leaf, young) == ["leaf", "middle"]


def test_what_was_made_and_never_used_counts_as_oldest():
    going = would_go([*RECORDS, record("never", 1, days=None)], now=NOW, older_than_s=7 * 86400)

    assert going[0].id == "never"


# The engine's own


def cache_json(records: object) -> bytes:
    return json.dumps({"BuildCache": records}).encode()


@pytest.fixture(scope="module")
def engine() -> Any:
    with running_engine() as running:
        yield running


def test_the_engine_is_read_to_the_byte(engine: FakeEngine):
    engine.cache = cache_json(
        [
            {"ID": "a", "Type": "regular", "Size": 123456789, "UsageCount": 2, "Shared": True, "InUse": False,
             "LastUsedAt": "2026-11-28T06:10:51.248600284Z", "Description": "[1/2] COPY", " Parents": ["b"]},
            {"ID": "b", "Type": "source.local", "LastUsedAt": "soon", "Size": None},
        ]
    )  # fmt: skip

    first, second = read_build_cache(Engine(engine.endpoint), timeout_s=5)

    assert (first.size, first.uses, first.shared, first.in_use) == (123456789, 2, True, False)
    assert (first.parents, second.parents) == (("b",), ())
    assert first.last_used == datetime(2026, 11, 28, 6, 10, 51, 248600, tzinfo=UTC)
    assert (second.kind, second.size, second.last_used) == ("local contexts", 0, None)


@pytest.mark.parametrize("answer", [b"", b"[]", b'{"BuildCache": 7}', b'{"BuildCache": [7]}', b"[" * 100_000])
def test_an_engine_that_answers_something_else_is_told(engine: FakeEngine, answer: bytes):
    engine.cache = answer

    with pytest.raises(MalformedDocument):
        read_build_cache(Engine(engine.endpoint), timeout_s=5)


# buildx

DU = """\
ID:\t\tqh56
Parents:
 - o141
Created at:\t2026-11-28 08:57:25.790280927 +0000 UTC
Mutable:\ttrue
Reclaimable:\tfalse
Shared:\t\tfalse
Size:\t\t2.047GB
Description:\tcached mount /c from exec /bin/sh -c true
Size: of what it says
 with id "/c"
Usage count:\t12
Last used:\tAbout a minute ago
Type:\t\texec.cachemount

ID:\t\tw1
Created at:\t2026-11-28 08:57:25 +0000 UTC
Mutable:\tfalse
Reclaimable:\ttrue
Shared:\t\ttrue
Size:\t\t8.192kB
Usage count:\t0
Last used:\t3 weeks ago
Type:\t\tregular

Shared:\t\t8.192kB
Private:\t2.047GB
Reclaimable:\t8.192kB
Total:\t\t2.047GB
"""
LS = {
    "Current": True, "Driver": "docker", "Name": "default",
    "Nodes": [{"Name": "default", "Endpoint": "default", "Status": "running", "Version": "v0.25.1",
               "Platforms": ["linux/amd64", "linux/arm64"]}],
}  # fmt: skip
DEAD = {"Current": False, "Driver": "remote", "Name": "pool", "Nodes": [{"Name": "pool0", "Status": "inactive"}]}


@pytest.fixture
def buildx(tmp_path: Path) -> Buildx:
    """Stands in for docker-buildx: notes what it is asked in `argv.txt`, and answers what is in the file of that name."""
    script = f"cd {tmp_path}; printf '%s\\n' \"$*\" >> argv.txt; [ -f $1.err ] && {{ cat $1.err >&2; exit 1; }}; cat $1"
    (tmp_path / "du").write_text(DU)
    (tmp_path / "ls").write_text("\n".join(map(json.dumps, (DEAD, LS))) + "\n")
    (tmp_path / "prune").write_text("ID\tRECLAIMABLE\tSIZE\nqh56*\ttrue\t2.047GB*\nTotal:\t2.047GB\n")
    (tmp_path / "version").write_text("github.com/docker/buildx v0.29.1 fake\n")
    return Buildx((str(program(tmp_path / "cli-plugins" / "docker-buildx", script)),))


def test_buildx_is_read_with_descriptions_of_several_lines(buildx: Buildx):
    first, second = builders.usage(buildx, "pool", now=NOW)

    assert first == Cached(
        id="qh56",
        type="exec.cachemount",
        size=2_047_000_000,
        in_use=True,
        last_used=NOW - timedelta(minutes=1),
        uses=12,
        parents=("o141",),
        description='cached mount /c from exec /bin/sh -c true\nSize: of what it says\n with id "/c"',
    )
    assert (second.size, second.shared, second.last_used) == (8192, True, NOW - timedelta(weeks=3))


@pytest.mark.parametrize(
    ("text", "size"), [("0B", 0), ("16.38kB", 16380), ("1.2GB*", 1_200_000_000), ("1e+03MB", 10**9), ("-", 0), ("", 0)]
)
def test_a_size_that_buildx_prints_is_bytes(text: str, size: int):
    assert builders.bytes_of(text) == size


@pytest.mark.parametrize(
    ("version", "flag"), [("0.19.3", "--keep-storage=5"), ("0.29.1", "--reserved-space=5"), ("", "--reserved-space=5")]
)
def test_a_prune_by_size_uses_the_flag_of_the_version(buildx: Buildx, tmp_path: Path, version: str, flag: str):
    freed = builders.prune(buildx, "pool", version=version, keep_bytes=5, older_than_s=90.0)

    assert freed == 2_047_000_000
    assert (tmp_path / "argv.txt").read_text() == f"prune --force --builder=pool {flag} --filter=until=90s\n"


def test_builders_are_listed_the_one_in_use_first(buildx: Buildx):
    first, second = builders.builders(buildx, timeout_s=5)

    assert (first.name, first.is_current, first.platforms, first.is_running) == (
        "default",
        True,
        ("linux/amd64", "linux/arm64"),
        True,
    )
    assert (second.name, second.driver, second.is_running) == ("pool", "remote", False)


def test_a_builder_that_buildx_does_not_know_is_told_with_those_it_knows(buildx: Buildx, tmp_path: Path):
    (tmp_path / "du.err").write_text('ERROR: no builder "x" found\n')

    with pytest.raises(BuilderNotFound, match="there are: default, pool"):
        builders.usage(buildx, "x", now=NOW)


def test_a_docker_context_that_is_not_there_is_told_and_not_asked_for_again(buildx: Buildx, tmp_path: Path):
    (tmp_path / "ls.err").write_text('ERROR: no builder "nope" found\n')
    (tmp_path / "du.err").write_text('ERROR: no builder "x" found\n')

    with pytest.raises(EngineError, match='`docker buildx ls`: no builder "nope" found'):
        builders.usage(buildx, "x", now=NOW)

    assert (tmp_path / "argv.txt").read_text().splitlines() == ["du --verbose --builder=x", "ls --format=json"]


def test_a_buildx_that_says_nothing_is_not_waited_for(tmp_path: Path):
    slow = Buildx((str(program(tmp_path / "slow", "exec sleep 20")),))

    with pytest.raises(EngineError, match="did not end within 0 s"):
        builders.builders(slow, timeout_s=0.05)


@pytest.mark.parametrize("printed", ["no json", "[]", "[" * 100_000])
def test_a_buildx_that_prints_something_else_is_told(buildx: Buildx, tmp_path: Path, printed: str):
    (tmp_path / "ls").write_text(printed)

    with pytest.raises(EngineError, match="what is not a builder"):
        builders.builders(buildx, timeout_s=5)


# The commands


@pytest.fixture
def project(tmp_path: Path, buildx: Buildx, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A service with a cache mount, the fake buildx, and an engine whose cache has that mount and an old layer."""
    (tmp_path / "Dockerfile").write_text("FROM scratch\nRUN --mount=type=cache,id=npm,target=/root/.npm npm ci\n")
    (tmp_path / "services.yaml").write_text("version: 1\nproject: p\nservices: {web: {context: .}}\n")
    used = datetime.now(UTC) - timedelta(days=30)
    old = {
        "ID": "old",
        "Type": "regular",
        "Size": 1_000_000,
        "LastUsedAt": used.isoformat(),
        "Description": "\x07old",
    }
    engine.cache = cache_json([old, {"ID": "npm", "Type": "exec.cachemount", "Size": 20, "Description": MOUNT}])
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    monkeypatch.setenv("DOCKER_HOST", engine.endpoint)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def pruned(project: Path) -> list[str]:
    path = project / "argv.txt"
    return [line for line in path.read_text().splitlines() if line.startswith("prune")] if path.exists() else []


def test_show_names_the_services_of_a_cache_mount(project: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["cache", "show"]) == 0

    out = capsys.readouterr().out
    assert re.search(r"^npm +1 +20 B +20 B +web$", out, re.MULTILINE)
    assert "to the byte" in out


def test_show_as_json_has_bytes(project: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["cache", "show", "--format", "json"]) == 0

    document = json.loads(capsys.readouterr().out)
    assert (document["schema"], document["total"]["size"], document["exact"]) == ("buildorch.cache/1", 1_000_020, True)
    assert document["mounts"] == [{"name": "npm", "count": 1, "size": 20, "reclaimable": 20, "services": ["web"]}]


def test_show_without_a_usable_services_file_says_what_is_not_known(project: Path, capsys: pytest.CaptureFixture[str]):
    (project / "services.yaml").write_text("version: 2\n")

    assert main(["cache", "show"]) == 0

    told = capsys.readouterr()
    assert "npm" in told.out
    assert "which services mount what is not known" in told.err


def test_another_builders_sizes_are_said_to_be_rounded(project: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["cache", "show", "--builder", "pool"]) == 0

    assert "four digits" in capsys.readouterr().out


def test_a_dry_run_shows_what_would_go_and_takes_nothing(project: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["cache", "prune", "--older-than", "7d", "--dry-run"]) == 0

    out = capsys.readouterr().out
    assert "2 records, 1.0 MB, would go" in out
    assert "npm (web)" in out
    assert "\u2407old" in out
    assert pruned(project) == []


def test_without_a_terminal_nothing_goes_unless_yes_is_said(project: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["cache", "prune", "--older-than", "7d"]) == 2

    assert "there is no terminal to ask on" in capsys.readouterr().err
    assert pruned(project) == []


def test_with_yes_what_was_shown_goes_and_what_was_freed_is_told(project: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["cache", "prune", "--keep-size", "1MB", "--older-than", "1d12h", "--yes", "--format", "json"]) == 0

    document = json.loads(capsys.readouterr().out)
    assert [one["id"] for one in document["would_go"]] == ["npm"]
    assert document["freed_bytes"] == 2_047_000_000
    assert pruned(project) == ["prune --force --builder=default --reserved-space=1000000 --filter=until=129600s"]


@pytest.mark.parametrize(("answer", "commands"), [("y", 1), ("n", 0), ("", 0)])
def test_on_a_terminal_it_is_asked(project: Path, monkeypatch: pytest.MonkeyPatch, answer: str, commands: int):
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("click.termui.visible_prompt_func", lambda _: answer)

    assert main(["cache", "prune", "--older-than", "7d"]) == 0

    assert len(pruned(project)) == commands


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["--dry-run"],
        ["--keep-size", "much"],
        ["--keep-size=-1"],
        ["--older-than", "7x"],
        ["--older-than", "d"],
        ["--older-than", "-1d"],
    ],
)
def test_a_prune_that_does_not_say_what_may_go_takes_nothing(project: Path, words: list[str]):
    assert main(["cache", "prune", "--yes", *words]) == 2

    assert pruned(project) == []


def test_nothing_to_take_starts_no_prune(project: Path, engine: FakeEngine, capsys: pytest.CaptureFixture[str]):
    engine.cache = cache_json([{"ID": "held", "Type": "regular", "Size": 9, "InUse": True}])

    assert main(["cache", "prune", "--keep-size", "0", "--yes"]) == 0

    assert "nothing would go" in capsys.readouterr().out
    assert pruned(project) == []


def test_the_command_builders_lists_nodes_and_what_is_not_building(project: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["builders"]) == 0

    out = capsys.readouterr().out
    assert "default*  docker  default  running   v0.25.1   linux/amd64, linux/arm64" in out
    assert "no run of this project builds now" in out
