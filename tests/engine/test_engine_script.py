"""scripts/engine, run for real: private engines of the tests' own beside the one the other tests use."""

from __future__ import annotations

import fcntl
import json
import os
import re
import secrets
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
from private_engine import (
    NAME,
    SCRIPT,
    alive,
    data,
    docker,
    engine,
    eventually,
    exports,
    make_image,
    only_where_one_can_start,
    pids,
    runtime,
)

SECOND_NAME = f"{NAME}-2"
ABSENT_NAME = f"{NAME}-no"
NAP = str(10_000 + secrets.randbelow(10_000))
"""How long what the tests leave running sleeps: by it they find their own processes."""
BUILD_NAP = f"3{NAP}"

pytestmark = [pytest.mark.engine, only_where_one_can_start]


def interfaces() -> set[str]:
    return {path.name for path in Path("/sys/class/net").iterdir()}


def start_build(folder: Path, dockerfile: str) -> subprocess.Popen[bytes]:
    (folder / "Dockerfile").write_text(dockerfile)
    command = ["docker", "buildx", "build", "--no-cache", f"--file={folder}/Dockerfile", str(folder)]
    return subprocess.Popen(command, env=dict(os.environ, **exports()), stderr=subprocess.DEVNULL)


def left_of(name: str) -> dict[str, object]:
    """Everything on this machine that carries an engine's name."""
    return {
        "processes": alive(f"buildorch-engine/{name}/"),
        "directories": [str(path) for path in (runtime(name), data(name)) if path.exists()],
        "bridge": Path("/sys/class/net", f"bo-{name}").exists(),
        "rules": [
            line
            for table in ("nat", "filter")
            for line in subprocess.check_output(["iptables", "-w", "-t", table, "-S"], text=True).splitlines()
            if f"buildorch-engine:{name}" in line
        ],
        "mounts": [
            line
            for line in Path("/proc/self/mountinfo").read_text().splitlines()
            if f"buildorch-engine/{name}/" in line
        ],
        "control groups": [str(path) for path in Path("/sys/fs/cgroup").glob(f"**/buildorch-engine-{name}")],
    }


@pytest.fixture
def up() -> Iterator[Callable[..., str]]:
    """Start engines by name, and give what was said; each goes when its test ends."""
    started = []

    def start(*arguments: str, name: str = NAME) -> str:
        started.append(name)
        done = engine("up", *arguments, name=name)
        assert done.returncode == 0, done.stderr
        return done.stderr

    yield start
    for name in started:
        engine("down", name=name)


def test_a_second_up_leaves_both_processes_as_they_are_and_says_nothing(up: Callable[..., str]) -> None:
    up()
    before = pids()

    second = engine("up")

    assert (second.returncode, second.stdout, second.stderr) == (0, "", "")
    assert pids() == before


def test_concurrent_ups_start_one_engine() -> None:
    try:
        command = [sys.executable, str(SCRIPT), "up", "--name", NAME]
        racers = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(4)]
        texts = [racer.communicate(timeout=120)[1] for racer in racers]

        assert [racer.returncode for racer in racers] == [0] * 4, texts
        assert sum("up" in text for text in texts) == 1, "one of them starts it, the others wait for it"
        assert len([line for line in alive(f"buildorch-engine/{NAME}/daemon.json") if "dockerd" in line]) == 1
    finally:
        engine("down")


def test_an_up_waits_for_the_one_that_holds_the_lock() -> None:
    lock = os.open("/run", os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        waiting = subprocess.Popen([sys.executable, str(SCRIPT), "up", "--name", NAME], stderr=subprocess.DEVNULL)
        time.sleep(1)
        assert not runtime().exists()
        assert waiting.poll() is None
        fcntl.flock(lock, fcntl.LOCK_UN)
        assert waiting.wait(timeout=60) == 0
    finally:
        os.close(lock)
        engine("down")


def test_env_prints_only_the_export_lines_that_a_shell_needs(up: Callable[..., str]) -> None:
    up()

    done = engine("env")

    port = json.loads((runtime() / "state.json").read_text())["registry_port"]
    assert done.stdout.splitlines() == [
        f"export DOCKER_HOST=unix:///run/buildorch-engine/{NAME}/docker.sock",
        f"export BUILDORCH_LOCAL_REGISTRY=127.0.0.1:{port}",
    ]
    assert done.stderr == ""


def test_env_of_an_engine_that_is_not_up_prints_no_line_and_says_what_to_run() -> None:
    done = engine("env", name=ABSENT_NAME)

    assert (done.returncode, done.stdout) == (3, "")
    assert "scripts/engine up" in done.stderr


def test_status_says_what_is_up_and_its_exit_code_too(up: Callable[..., str]) -> None:
    assert engine("status").returncode == 3
    up()

    both = engine("status")
    os.kill(pids()[1], signal.SIGKILL)
    without_registry = engine("status")

    assert both.returncode == 0
    assert "docker " in both.stderr
    assert "registry (API 2.0) up on 127.0.0.1:" in both.stderr
    assert without_registry.returncode == 3
    assert "registry down" in without_registry.stderr


def test_up_starts_the_registry_again_at_the_same_port_and_spares_the_daemon(up: Callable[..., str]) -> None:
    up()
    daemon, registry = pids()
    before = exports()
    os.kill(registry, signal.SIGKILL)

    up()

    assert exports() == before
    assert pids()[0] == daemon
    assert pids()[1] != registry


def test_a_registry_port_that_another_took_meanwhile_is_given_up_and_the_daemon_learns_the_new_one(
    up: Callable[..., str], tmp_path: Path
) -> None:
    up()
    taken = exports()["BUILDORCH_LOCAL_REGISTRY"]
    os.kill(pids()[1], signal.SIGKILL)
    (tmp_path / "other.yml").write_text(f"{{version: 0.1, storage: {{inmemory: {{}}}}, http: {{addr: '{taken}'}}}}")
    other = subprocess.Popen(["docker-registry", "serve", str(tmp_path / "other.yml")], stderr=subprocess.DEVNULL)
    try:
        eventually(lambda: urllib.request.urlopen(f"http://{taken}/v2/", timeout=20).status)

        up()

        new = exports()["BUILDORCH_LOCAL_REGISTRY"]
        assert new != taken
        assert docker("info", "--format", "{{.RegistryConfig.Mirrors}}") == f"[http://{new}/]"
        assert other.poll() is None
    finally:
        other.kill()
        other.wait()


def test_up_recovers_from_a_killed_daemon_and_ends_what_that_one_left_running(
    up: Callable[..., str], tmp_path: Path
) -> None:
    up()
    image = make_image(tmp_path)
    docker("run", "--detach", image, "sleep", NAP)
    build = start_build(tmp_path, f'FROM {image}\nRUN ["sleep", "{BUILD_NAP}"]\n')
    eventually(lambda: len(alive(f"sleep {BUILD_NAP}")))
    daemon, registry = pids()
    os.kill(daemon, signal.SIGKILL)
    build.wait()

    up()

    assert pids()[0] != daemon
    assert pids()[1] == registry
    assert not alive(f"sleep {NAP}")
    assert not alive(f"sleep {BUILD_NAP}"), "dockerd itself leaves the RUN of a killed daemon running"
    assert len(alive(f"buildorch-engine/{NAME}/exec/containerd/containerd.toml")) == 1
    assert docker("run", "--rm", image, "bash", "-c", "echo still here") == "still here"


def test_up_starts_from_nothing_after_the_machine_went_down_with_a_running_daemon(
    up: Callable[..., str], tmp_path: Path
) -> None:
    up()
    make_image(tmp_path)
    for pid in pids():
        os.kill(pid, signal.SIGKILL)
    (data() / "boot").write_text("the boot before\n")

    said = up()

    assert "the machine went down" in said
    assert docker("image", "ls", "--quiet") == "", "what may be half written was kept"


def test_up_keeps_what_a_daemon_held_that_ended_before_its_machine(up: Callable[..., str], tmp_path: Path) -> None:
    up()
    image = make_image(tmp_path)
    os.kill(pids()[0], signal.SIGTERM)
    eventually(lambda: not (data() / "docker.pid").exists())
    os.kill(int((runtime() / "registry.pid").read_text()), signal.SIGKILL)
    (data() / "boot").write_text("the boot before\n")

    up()

    assert docker("run", "--rm", image, "bash", "-c", "echo still here") == "still here"


def test_up_puts_back_a_bridge_that_somebody_removed(up: Callable[..., str], tmp_path: Path) -> None:
    up()
    image = make_image(tmp_path)
    before = pids()
    subprocess.run(["ip", "link", "delete", f"bo-{NAME}"], check=True)
    assert engine("status").returncode == 3

    up()

    assert pids() == before
    assert docker("run", "--rm", image, "bash", "-c", "echo linked") == "linked"


def test_up_takes_over_from_a_daemon_whose_pidfile_names_another_process(up: Callable[..., str]) -> None:
    up()
    os.kill(pids()[0], signal.SIGKILL)
    bystander = subprocess.Popen(["sleep", "60"])
    try:
        (data() / "docker.pid").write_text(str(bystander.pid))

        up()

        assert bystander.poll() is None, "a process that is not the engine's was killed"
        assert pids()[0] != bystander.pid
    finally:
        bystander.kill()
        bystander.wait()


@pytest.mark.parametrize("killed", [False, True], ids=["running", "killed"])
def test_down_leaves_nothing_behind(up: Callable[..., str], tmp_path: Path, *, killed: bool) -> None:
    up()
    image = make_image(tmp_path)
    docker("network", "create", "apart")
    docker("run", "--detach", "--network=apart", "--publish=127.0.0.1::80", image, "sleep", NAP)
    bridges = interfaces()
    if killed:
        for pid in pids():
            os.kill(pid, signal.SIGKILL)

    done = engine("down")

    assert done.returncode == 0, done.stderr
    assert not any(left_of(NAME).values()), left_of(NAME)
    assert not alive(f"sleep {NAP}")
    gone = bridges - interfaces()
    assert {one for one in gone if one.startswith("br-")}, "the bridge of the network made in the engine is there still"


def test_down_spares_a_process_that_only_reads_a_file_of_the_engine(up: Callable[..., str]) -> None:
    up()
    reader = subprocess.Popen(["tail", "-f", str(runtime() / "dockerd.log")], stdout=subprocess.DEVNULL)
    try:
        engine("down")

        assert reader.poll() is None
    finally:
        reader.kill()
        reader.wait()


def test_down_of_an_engine_that_was_never_up_is_no_error() -> None:
    assert engine("down", name=ABSENT_NAME).returncode == 0


def test_two_engines_have_their_own_everything_and_one_going_down_leaves_the_other_be(
    up: Callable[..., str], tmp_path: Path
) -> None:
    up()
    up(name=SECOND_NAME)
    first, second = (json.loads((runtime(name) / "state.json").read_text()) for name in (NAME, SECOND_NAME))
    image = make_image(tmp_path, name=SECOND_NAME)
    assert first["registry_port"] != second["registry_port"]
    assert first["network"] != second["network"]

    engine("down")

    assert engine("status", name=SECOND_NAME).returncode == 0
    assert docker("run", "--rm", image, "bash", "-c", "echo untouched", name=SECOND_NAME) == "untouched"


@pytest.mark.parametrize(
    ("store", "driver"), [("containerd", "io.containerd.snapshotter.v1"), ("graphdriver", "overlay2")]
)
def test_each_store_builds_and_runs_an_image(
    up: Callable[..., str], tmp_path: Path, *, store: str, driver: str
) -> None:
    up("--store", store)

    information = docker("info", "--format", "{{.Driver}} {{json .DriverStatus}}")

    assert driver in information
    assert docker("run", "--rm", make_image(tmp_path), "bash", "-c", f"echo {store}") == store


def test_a_step_asks_for_names_again_and_from_another_port_each_time(up: Callable[..., str], tmp_path: Path) -> None:
    up()
    image = make_image(tmp_path, "cat")
    step = 'RUN ["bash", "-c", "cat /etc/resolv.conf > /seen"]'
    (tmp_path / "Dockerfile").write_text(f"FROM {image}\n{step}\n")

    docker("buildx", "build", "--quiet", "--load", "--tag=t/seen", str(tmp_path))

    [options] = re.findall(r"^options (.*)$", docker("run", "--rm", "t/seen", "cat", "/seen"), re.MULTILINE)
    assert {"single-request-reopen", "timeout:3", "attempts:4"} <= set(options.split())


def test_a_container_answers_on_its_published_port_and_by_name_on_its_own_network(
    up: Callable[..., str], tmp_path: Path
) -> None:
    up()
    (tmp_path / "context").mkdir()
    (tmp_path / "context" / "web.yml").write_text('{version: 0.1, storage: {inmemory: {}}, http: {addr: ":80"}}')
    image = make_image(tmp_path, "docker-registry", "cat")
    ask = 'exec 3<>/dev/tcp/web/80; printf "GET /v2/ HTTP/1.0\r\n\r\n" >&3; cat <&3'
    docker("network", "create", "apart")
    run = ("run", "--network=apart")
    serve = ("docker-registry", "serve", "/web.yml")
    docker(*run, "--detach", "--name=web", "--publish=127.0.0.1::80", image, *serve)
    published = docker("port", "web", "80")

    by_port = eventually(lambda: urllib.request.urlopen(f"http://{published}/v2/", timeout=20).status)
    by_name = docker(*run, "--rm", image, "bash", "-c", ask)

    assert by_port == 200
    assert by_name.startswith("HTTP/1.0 200")


def test_another_store_than_the_running_one_is_refused_with_the_way_to_change_it(up: Callable[..., str]) -> None:
    up()
    before = pids()

    done = engine("up", "--store", "graphdriver")

    assert done.returncode == 2
    assert f"scripts/engine down --name {NAME}" in done.stderr
    assert pids() == before


@pytest.mark.parametrize("name", ["", "Upper", "a/b", "../etc", "elevenchars", "a b", "a\n"])
def test_a_name_that_cannot_be_one_is_one_error_line(name: str) -> None:
    done = engine("up", name=name)

    assert done.returncode == 2
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
    assert repr(name) in done.stderr


def test_a_registry_port_that_is_taken_is_passed_over(up: Callable[..., str]) -> None:
    up()
    up(name=SECOND_NAME)

    ports = [int(exports(name)["BUILDORCH_LOCAL_REGISTRY"].rpartition(":")[2]) for name in (NAME, SECOND_NAME)]

    assert ports[1] > ports[0] >= 5000


def test_the_daemon_adds_no_firewall_chain_of_docker(up: Callable[..., str]) -> None:
    def chains() -> Mapping[str, list[str]]:
        return {
            table: [
                line
                for line in subprocess.check_output(["iptables", "-w", "-t", table, "-S"], text=True).splitlines()
                if line.startswith("-N")
            ]
            for table in ("nat", "filter")
        }

    before = chains()
    up()

    assert chains() == before
