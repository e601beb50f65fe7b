"""Timing whole commands, in pairs, with the engine's caches emptied between.

In: commands. Out: seconds and kilobytes. Touches the engine's build cache and the images named here.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bench.projects import Project

PYTHON = sys.executable
QUIET_S, IDLE, AT_MOST_S = 0.5, 0.95, 30.0
"""A machine is quiet when its processors were idle for this part of so many seconds; how long that is waited for."""
# As on a user's machine: modules are compiled once, not at every start.
ENVIRON = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


def spread(times: Sequence[float]) -> str:
    """The median, with the least and the most."""
    return f"{statistics.median(times):.2f} s ({min(times):.2f} to {max(times):.2f})"


def buildorch(root: Path, *arguments: str) -> list[str]:
    """The command that builds everything in a project."""
    return [
        PYTHON,
        "-m",
        "buildorch",
        "build-all",
        "-f",
        str(root / "services.yaml"),
        "--progress",
        "quiet",
        *arguments,
    ]


def bake(*arguments: str) -> list[str]:
    """bake, as its users call it."""
    return ["docker", "buildx", "bake", "--file", "bake.json", "--progress", "quiet", *arguments]


def clients(project: Project, *, at_once: int) -> list[str]:
    """As many single builds as there are services, by xargs: what one client a service costs before any tool."""
    names = project.root / "services.txt"
    names.write_text("".join(f"{name}\n" for name in project.services))
    build = ["docker", "buildx", "build", "--quiet", "--provenance=false", "--load", f"--tag={project.name}/@:bake"]
    return ["xargs", f"--max-procs={at_once}", "--replace=@", f"--arg-file={names}", *build, "--", "services/@"]


def seconds(command: Sequence[str], *, cwd: Path, check: bool = True, quiet: bool = True) -> float:
    """How long a command takes, on an engine that is done with what the last one left it to do."""
    if quiet:
        wait_until_quiet()
    begun = time.perf_counter()
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False, env=ENVIRON)
    took = time.perf_counter() - begun
    if check and done.returncode:
        raise SystemExit(
            f"{' '.join(command)} exited with {done.returncode}:\n{done.stdout[-2000:]}{done.stderr[-2000:]}"
        )
    return took


def wait_until_quiet() -> None:
    """Wait for what the last command left the engine to do: after bake's 50 images it is busy for some seconds more."""
    end = time.monotonic() + AT_MOST_S
    while time.monotonic() < end:
        before = _processor_ticks()
        time.sleep(QUIET_S)
        after = _processor_ticks()
        if after[1] - before[1] >= IDLE * (after[0] - before[0]):
            return


def _processor_ticks() -> tuple[int, int]:
    """All ticks of the processors so far, and the idle ones (proc(5), /proc/stat)."""
    ticks = [int(word) for word in Path("/proc/stat").read_text().splitlines()[0].split()[1:]]
    return sum(ticks), ticks[3] + ticks[4]


def in_turn(commands: Mapping[str, Callable[[], float]], *, rounds: int) -> dict[str, tuple[float, ...]]:
    """Each command's times: all of them in every round, forwards and backwards, so that a drift hits them alike."""
    times: dict[str, list[float]] = {name: [] for name in commands}
    for number in range(rounds):
        for name in list(commands) if number % 2 == 0 else reversed(list(commands)):
            times[name].append(commands[name]())
    return {name: tuple(found) for name, found in times.items()}


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """The ratio of the medians."""
    return statistics.median(ours) / statistics.median(theirs)


def empty_caches(images: Sequence[str]) -> None:
    """No build cache, no cache mount, no context mirror, none of these images."""
    subprocess.run(["docker", "image", "rm", "--force", *images], capture_output=True, check=False)
    subprocess.run(["docker", "builder", "prune", "--all", "--force"], capture_output=True, check=True)


def remove_images(images: Sequence[str]) -> None:
    """Remove images and leave the caches."""
    subprocess.run(["docker", "image", "rm", "--force", *images], capture_output=True, check=False)


def settle(command: Sequence[str], *, cwd: Path) -> None:
    """Run twice, more than two seconds apart: everything is built, and no file is too fresh to be trusted."""
    seconds(command, cwd=cwd)
    time.sleep(2.5)
    seconds(command, cwd=cwd)


def docker_processes(command: Sequence[str], *, cwd: Path, folder: Path) -> int:
    """How many docker clients and plugins a command starts: each is put behind a script that takes note."""
    plugin = subprocess.run(
        ["docker", "info", "--format", '{{range .ClientInfo.Plugins}}{{if eq .Name "buildx"}}{{.Path}}{{end}}{{end}}'],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    log = folder / "started"
    log.parent.mkdir(parents=True)
    log.touch()
    docker = shutil.which("docker")
    for script, real in ((folder / "bin" / "docker", docker), (folder / "cli-plugins" / "docker-buildx", plugin)):
        script.parent.mkdir()
        script.write_text(f'#!/bin/sh\necho "$0" >> {shlex.quote(str(log))}\nexec {shlex.quote(str(real))} "$@"\n')
        script.chmod(0o755)
    environ = {**ENVIRON, "PATH": f"{folder / 'bin'}:{ENVIRON['PATH']}", "DOCKER_CONFIG": str(folder)}
    subprocess.run(command, cwd=cwd, env=environ, capture_output=True, check=True)
    # Another plugin, by its path and time, has its version asked for once.
    log.write_text("")
    subprocess.run(command, cwd=cwd, env=environ, capture_output=True, check=True)
    return len(log.read_text().splitlines())


def peak_kilobytes_of(command: Sequence[str], *, cwd: Path, check: bool = True) -> int:
    """The peak memory of a command's own process."""
    code = (
        "import resource, subprocess, sys\n"
        f"subprocess.run(sys.argv[1:], check={check}, stdout=subprocess.DEVNULL)\n"
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    )
    done = subprocess.run(
        [PYTHON, "-c", code, *command], capture_output=True, text=True, check=True, cwd=cwd, env=ENVIRON
    )
    return int(done.stdout)


def peak_kilobytes(root: Path, *, jobs: int) -> int:
    """The peak memory of a Python process that builds a project through the API, without its children's."""
    code = (
        "import sys, resource, buildorch\n"
        f"report = buildorch.build({str(root / 'services.yaml')!r}, jobs={jobs}, no_cache=True)\n"
        "assert report.exit_code == 0, report.to_json()\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    )
    done = subprocess.run([PYTHON, "-c", code], capture_output=True, text=True, check=True, cwd=root, env=ENVIRON)
    return int(done.stdout)


def median_seconds(command: Sequence[str], *, runs: int) -> float:
    """The median over some runs, after one that warms up."""
    times = [seconds(command, cwd=Path.cwd(), quiet=False) for _ in range(runs + 1)]
    return statistics.median(times[1:])


def versions() -> dict[str, str]:
    """What was measured with."""
    raw = subprocess.run(["docker", "version", "--format", "{{json .}}"], capture_output=True, text=True, check=True)
    buildx = subprocess.run(["docker", "buildx", "version"], capture_output=True, text=True, check=True)
    return {
        "engine": json.loads(raw.stdout)["Server"]["Version"],
        "buildx": buildx.stdout.split()[1],
        "Python": sys.version.split()[0],
        "CPUs": str(os.cpu_count()),
    }
