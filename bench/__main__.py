"""`python -m bench [CASE...] [--write]`: measure, print the table, and with --write put it into docs/performance.md."""

from __future__ import annotations

import argparse
import datetime
import functools
import os
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from bench import live, measuring, plots, projects

PLOT = projects.REPOSITORY / "docs" / "images" / "growth.svg"
PAGE = projects.REPOSITORY / "docs" / "performance.md"
BEGIN, END = "<!-- bench:begin -->", "<!-- bench:end -->"


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    work: str
    measured: str
    limit: str
    detail: str

    def __str__(self) -> str:
        return f"| {self.work} | {self.measured} | {self.limit} | {self.detail} |"


def cold_three(folder: Path) -> Iterator[Row]:
    project = projects.three_services(folder / "three")
    commands = {"ours": measuring.buildorch(project.root), "bake": measuring.bake()}
    times = _cold_times(project, commands, rounds=3)
    yield _against_bake("cold, the three services", "1.05", times["ours"], times["bake"])


def cold_fifty(folder: Path) -> Iterator[Row]:
    project = projects.small_services(folder / "fifty", count=50, files=20_000)
    commands = {
        "-j 4": measuring.buildorch(project.root, "-j", "4"),
        "-j as the engine's CPUs": measuring.buildorch(project.root),
        "bake": measuring.bake(),
        "bake without provenance": measuring.bake("--provenance=false"),
        "a client for each": measuring.clients(project, at_once=4),
    }
    times = _cold_times(project, commands, rounds=3)
    for name in ("-j 4", "-j as the engine's CPUs"):
        yield _against_bake(f"cold, 50 services, 20,000 files, {name}", "1.10", times[name], times["bake"])
    plain = times["bake without provenance"]
    yield _against_bake("the same, -j 4, bake without provenance", "-", times["-j 4"], plain)
    bare = times["a client for each"]
    yield _against_bake("the same, a bare `docker buildx build` each, 4 at once", "-", bare, times["bake"])


def two_hundred(folder: Path) -> Iterator[Row]:
    project = projects.small_services(folder / "two-hundred", count=200, files=20_000)
    measuring.empty_caches(project.images)
    took = measuring.seconds(measuring.buildorch(project.root), cwd=project.root)
    measuring.empty_caches(project.images)
    bake = subprocess.run(measuring.bake(), cwd=project.root, capture_output=True, text=True, check=False)
    said = bake.stderr.strip().splitlines()[-1][:80] if bake.returncode else "it built them all"
    detail = f"{took:.1f} s; bake exits with {bake.returncode}: {said}"
    yield Row("cold, 200 services", "all built", "all built", detail)
    measuring.empty_caches(project.images)


def start_up(_: Path) -> Iterator[Row]:
    bare = measuring.median_seconds([measuring.PYTHON, "-c", "pass"], runs=15)
    imported = measuring.median_seconds([measuring.PYTHON, "-c", "import buildorch"], runs=15)
    helped = measuring.median_seconds([measuring.PYTHON, "-m", "buildorch", "--help"], runs=15)
    more = (imported - bare) * 1000
    yield Row("`import buildorch` over bare Python", f"{more:.0f} ms", "60 ms", f"bare Python {bare * 1000:.0f} ms")
    yield Row("`buildorch --help`", f"{helped * 1000:.0f} ms", "150 ms", "")


def memory(folder: Path) -> Iterator[Row]:
    quiet = folder / "eight"
    project = projects.small_services(quiet, count=8, files=800)
    _with_steps(project, "sleep 1")
    measuring.peak_kilobytes(project.root, jobs=8)  # the base image's layers are measured once, ever
    usual = measuring.peak_kilobytes(project.root, jobs=8)
    yield Row("peak memory, 8 builds at once", f"{usual / 1024:.0f} MB", "120 MB", "buildorch's own process")
    _with_steps(project, "head -c 100000000 /dev/zero | tr '\\0' x")
    loud = measuring.peak_kilobytes(project.root, jobs=8)
    extra = (loud - usual) / 1024
    yield Row(
        "the same, each printing 100 MB in one line", f"{extra:+.0f} MB", "+50 MB", f"{loud / 1024:.0f} MB in all"
    )
    measuring.empty_caches(project.images)


def unchanged_three(folder: Path) -> Iterator[Row]:
    project = projects.three_services(folder / "unchanged-three")
    commands = {"ours": measuring.buildorch(project.root), "bake": measuring.bake()}
    times = _warm_times(project, commands, rounds=11)
    measuring.remove_images(project.images)
    yield _against_bake("nothing changed, the three services", "0.50", times["ours"], times["bake"])


def unchanged_fifty(folder: Path) -> Iterator[Row]:
    project = projects.small_services(folder / "unchanged-fifty", count=50, files=20_000)
    commands = {"ours": measuring.buildorch(project.root), "bake": measuring.bake()}
    times = _warm_times(project, commands, rounds=5)
    started = measuring.docker_processes(commands["ours"], cwd=project.root, folder=folder / "counting")
    row = _against_bake("nothing changed, 50 services, 20,000 files", "0.10", times["ours"], times["bake"])
    yield Row(row.work, row.measured, row.limit, f"{row.detail}; {started} docker processes started")

    changing = {name: functools.partial(_after_an_edit, project, command) for name, command in commands.items()}
    edited = measuring.in_turn(changing, rounds=5)
    yield _against_bake("one of the 50 changed", "0.20", edited["ours"], edited["bake"])
    measuring.remove_images(project.images)


def unchanged_registry(folder: Path) -> Iterator[Row]:
    address = os.environ.get("BUILDORCH_LOCAL_REGISTRY")
    if not address:
        yield Row(
            "nothing changed, 50 services, in a registry", "not measured", "0.06", "there is no loopback registry"
        )
        return
    project = projects.small_services(
        folder / "unchanged-registry", count=50, files=20_000, registry=f"{address}/bench-{os.getpid()}"
    )
    commands = {"ours": measuring.buildorch(project.root, "--push"), "bake": measuring.bake("--push")}
    times = _warm_times(project, commands, rounds=5)
    yield _against_bake("nothing changed, 50 services, in a registry", "0.06", times["ours"], times["bake"])
    measuring.empty_caches(project.images)


def growth(folder: Path) -> Iterator[Row]:
    points: dict[int, float] = {}
    bake = ()
    for count in (50, 100, 150, 200):
        project = projects.small_services(folder / f"growth-{count}", count=count, files=count * 500)
        ours = measuring.buildorch(project.root)
        measuring.settle(ours, cwd=project.root)
        points[count] = statistics.median(measuring.seconds(ours, cwd=project.root) for _ in range(5))
        if count == 50:
            measuring.settle(measuring.bake(), cwd=project.root)
            bake = tuple(measuring.seconds(measuring.bake(), cwd=project.root) for _ in range(5))
        if count == 200:
            peak = measuring.peak_kilobytes_of(ours, cwd=project.root) / 1024
        measuring.remove_images(project.images)
    measuring.empty_caches([])
    for_fifty = statistics.median(bake)
    yield Row(
        "nothing changed, 200 services, 100,000 files, against bake for 50 of them",
        f"{points[200] / for_fifty:.2f} of bake",
        "0.50",
        f"{points[200]:.2f} s against {for_fifty:.2f} s; peak memory {peak:.0f} MB of 200 MB",
    )
    said = ", ".join(f"{count}: {took:.2f} s" for count, took in points.items())
    yield Row("growth, 50 to 200 services", f"x{points[200] / points[50]:.1f}", "x4", said)
    plots.growth(points, PLOT)


def judged(folder: Path) -> Iterator[Row]:
    project = projects.large_service(folder / "judged", files=15_000, bytes_each=20_000)
    measuring.seconds(measuring.buildorch(project.root), cwd=project.root, check=False)
    command = [measuring.PYTHON, "-m", "buildorch", "check"]
    layers = project.root / ".buildorch" / "layers"

    def unread() -> float:
        shutil.rmtree(layers)
        return measuring.seconds(command, cwd=project.root, check=False)

    times = measuring.in_turn(
        {"unread": unread, "read": functools.partial(measuring.seconds, command, cwd=project.root, check=False)},
        rounds=5,
    )
    shutil.rmtree(layers)
    peak = measuring.peak_kilobytes_of(command, cwd=project.root, check=False) / 1024
    for name, work in (
        ("unread", "every rule, an image of 300 MB, layers read"),
        ("read", "the same, layers remembered"),
    ):
        took = times[name]
        yield Row(work, f"{statistics.median(took):.2f} s", "2 s", f"{measuring.spread(took)}; {peak:.0f} MB of 150 MB")
    measuring.empty_caches(project.images)


def live_view(_: Path) -> Iterator[Row]:
    for columns, rows in ((80, 24), (200, 50)):
        share = live.refreshing(columns=columns, rows=rows)
        detail = f"four pictures a second; folding {live.EVENTS_PER_S} events a second {live.folding():.1%}"
        yield Row(f"the live view, 50 builds at once, {columns}x{rows}", f"{share:.1%} of a core", "3 %", detail)


CASES: dict[str, Callable[[Path], Iterator[Row]]] = {
    "start-up": start_up,
    "live-view": live_view,
    "memory": memory,
    "cold-fifty": cold_fifty,
    "two-hundred": two_hundred,
    "cold-three": cold_three,
    "unchanged-three": unchanged_three,
    "unchanged-fifty": unchanged_fifty,
    "unchanged-registry": unchanged_registry,
    "growth": growth,
    "judged": judged,
}


def _cold_times(
    project: projects.Project, commands: dict[str, list[str]], *, rounds: int
) -> dict[str, tuple[float, ...]]:
    runs = {name: functools.partial(_cold, project, command) for name, command in commands.items()}
    times = measuring.in_turn(runs, rounds=rounds)
    measuring.empty_caches(project.images)
    return times


def _warm_times(
    project: projects.Project, commands: dict[str, list[str]], *, rounds: int
) -> dict[str, tuple[float, ...]]:
    """Each command's times once all of them have built."""
    for command in commands.values():
        measuring.settle(command, cwd=project.root)
    runs = {name: functools.partial(measuring.seconds, command, cwd=project.root) for name, command in commands.items()}
    return measuring.in_turn(runs, rounds=rounds)


def _after_an_edit(project: projects.Project, command: list[str]) -> float:
    file = project.root / "services" / project.services[7] / "src" / "module_00" / "file_0000.txt"
    file.write_text(f"{time.time_ns()}\n")
    return measuring.seconds(command, cwd=project.root)


def _against_bake(work: str, limit: str, ours: tuple[float, ...], theirs: tuple[float, ...]) -> Row:
    detail = f"{measuring.spread(ours)} against {measuring.spread(theirs)}"
    return Row(work, f"{measuring.ratio(ours, theirs):.2f} of bake", limit, detail)


def _cold(project: projects.Project, command: list[str]) -> float:
    measuring.empty_caches(project.images)
    return measuring.seconds(command, cwd=project.root)


def _with_steps(project: projects.Project, step: str) -> None:
    for name in project.services:
        dockerfile = project.root / "services" / name / "Dockerfile"
        dockerfile.write_text(f"FROM python:3.13-slim\nRUN {step}\nCOPY src /src\nUSER 1000\n")


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"any of: {', '.join(CASES)}; all by default")
    parser.add_argument("--write", action="store_true", help="put the table into docs/performance.md")
    arguments = parser.parse_args()
    if unknown := [case for case in arguments.cases if case not in CASES]:
        parser.error(f"there is no case {unknown[0]!r}; there are {', '.join(CASES)}")
    used = measuring.versions()
    said = ", ".join(f"{name} {value}" for name, value in used.items())
    lines = [
        f"Measured on {datetime.datetime.now(datetime.UTC):%Y-%m-%d}: {said}. Medians, with the least and the most.",
        "",
        "| work | measured | at most | in detail |",
        "|---|---|---|---|",
    ]
    print("\n".join(lines), flush=True)
    with tempfile.TemporaryDirectory(prefix="buildorch-bench-") as folder:
        for case in arguments.cases or CASES:
            for row in CASES[case](Path(folder)):
                lines.append(str(row))
                print(row, flush=True)
    if arguments.write:
        head, _, rest = PAGE.read_text().partition(BEGIN)
        _, _, tail = rest.partition(END)
        PAGE.write_text(f"{head}{BEGIN}\n{chr(10).join(lines)}\n{END}{tail}")


if __name__ == "__main__":
    main()
