"""`python -m bench [CASE...] [--write]`: measure, print the table, and with --write put it into docs/performance.md."""

from __future__ import annotations

import argparse
import datetime
import functools
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from bench import measuring, projects

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
    images = [f"tasks/{name}:bench" for name in project.services]
    commands = {"ours": measuring.buildorch(project.root), "bake": measuring.bake()}
    times = _cold_times(project, images, commands, rounds=3)
    yield _against_bake("cold, the three services", "1.05", times["ours"], times["bake"])


def cold_fifty(folder: Path) -> Iterator[Row]:
    project = projects.small_services(folder / "fifty", count=50, files=20_000)
    images = [f"bench/{name}:bench" for name in project.services]
    commands = {
        "-j 4": measuring.buildorch(project.root, "-j", "4"),
        "-j as the engine's CPUs": measuring.buildorch(project.root),
        "bake": measuring.bake(),
        "bake without provenance": measuring.bake("--provenance=false"),
    }
    times = _cold_times(project, images, commands, rounds=3)
    for name in ("-j 4", "-j as the engine's CPUs"):
        yield _against_bake(f"cold, 50 services, 20,000 files, {name}", "1.10", times[name], times["bake"])
    plain = times["bake without provenance"]
    yield _against_bake("the same, -j 4, bake without provenance", "-", times["-j 4"], plain)


def two_hundred(folder: Path) -> Iterator[Row]:
    project = projects.small_services(folder / "two-hundred", count=200, files=20_000)
    images = [f"bench/{name}:bench" for name in project.services]
    measuring.empty_caches(images)
    took = measuring.seconds(measuring.buildorch(project.root), cwd=project.root)
    measuring.empty_caches(images)
    bake = subprocess.run(measuring.bake(), cwd=project.root, capture_output=True, text=True, check=False)
    said = bake.stderr.strip().splitlines()[-1][:80] if bake.returncode else "it built them all"
    detail = f"{took:.1f} s; bake exits with {bake.returncode}: {said}"
    yield Row("cold, 200 services", "all built", "all built", detail)
    measuring.empty_caches(images)


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
    measuring.empty_caches([f"bench/{name}:bench" for name in project.services])


CASES: dict[str, Callable[[Path], Iterator[Row]]] = {
    "start-up": start_up,
    "memory": memory,
    "cold-fifty": cold_fifty,
    "two-hundred": two_hundred,
    "cold-three": cold_three,
}


def _cold_times(
    project: projects.Project, images: list[str], commands: dict[str, list[str]], *, rounds: int
) -> dict[str, tuple[float, ...]]:
    runs = {name: functools.partial(_cold, project, images, command) for name, command in commands.items()}
    times = measuring.in_turn(runs, rounds=rounds)
    measuring.empty_caches(images)
    return times


def _against_bake(work: str, limit: str, ours: tuple[float, ...], theirs: tuple[float, ...]) -> Row:
    detail = f"{measuring.spread(ours)} against {measuring.spread(theirs)}"
    return Row(work, f"{measuring.ratio(ours, theirs):.2f} of bake", limit, detail)


def _cold(project: projects.Project, images: list[str], command: list[str]) -> float:
    measuring.empty_caches(images)
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
