"""Trial starts on a real engine: images that become well, and images that do not, each in its own way."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator

import pytest
from sandbox import BASE, Sandbox, docker

from buildorch.engine import Engine, containers
from buildorch.engine.containers import LABEL, PREFIX, remove_leftovers, try_start
from buildorch.engine.listening import listens
from buildorch.engine.trial import Trial
from buildorch.services.model import Smoke

pytestmark = pytest.mark.engine

SLEEP = 'CMD ["python", "-c", "import time; time.sleep(300)"]\n'
SERVE = 'CMD ["python", "-m", "http.server", "8000"]\n'
SERVE_ITSELF = SERVE.replace('"]', '", "--bind", "127.0.0.1"]')
PATIENT = Smoke(timeout=60)
"""On a busy machine a start takes seconds; nothing that becomes well waits for it."""


def trials() -> set[str]:
    return set(docker("ps", "--all", "--format", "{{.Names}}", "--filter", f"name={PREFIX}").split())


@pytest.fixture(autouse=True)
def _nothing_is_left() -> Iterator[None]:
    """No container of a trial outlives its test."""
    before = trials()
    yield
    assert trials() <= before


@pytest.fixture
def engine() -> Engine:
    return Engine.at(os.environ["DOCKER_HOST"])


def build(sandbox: Sandbox, lines: str, *options: str, base: str = BASE) -> str:
    """An image of the sandbox's own; its reference."""
    reference = f"{sandbox.name}/app:latest"
    folder = sandbox.write("app/Dockerfile", f"FROM {base}\n{lines}").parent
    docker("buildx", "build", "--quiet", "--provenance=false", *options, "--tag", reference, str(folder))
    return reference


def test_an_image_becomes_well_by_its_healthcheck_long_before_its_own_interval(sandbox: Sandbox, engine: Engine):
    image = build(sandbox, 'HEALTHCHECK --interval=10m CMD ["python", "-c", "pass"]\nUSER 10001\n' + SLEEP)

    trial = try_start(engine, image, PATIENT, platform="linux/amd64")

    assert (trial.outcome, trial.uids, trial.exit_code) == ("well", (10001,), None)
    assert trial.seconds < 60


@pytest.mark.parametrize("way", ["address", "published port"])
def test_an_image_becomes_well_by_its_port(sandbox: Sandbox, engine: Engine, monkeypatch: pytest.MonkeyPatch, way: str):
    image = build(sandbox, "USER 10001\n" + SERVE)
    only(way, monkeypatch)

    trial = try_start(engine, image, Smoke(port=8000, timeout=60))

    assert (trial.outcome, trial.uids) == ("well", (10001,))


@pytest.mark.parametrize("way", ["address", "published port"])
def test_an_image_that_listens_to_itself_alone_takes_no_connections(
    sandbox: Sandbox, engine: Engine, monkeypatch: pytest.MonkeyPatch, way: str
):
    image = build(sandbox, "USER 10001\n" + SERVE_ITSELF)
    only(way, monkeypatch)

    trial = try_start(engine, image, Smoke(port=8000, timeout=4))

    assert (trial.outcome, trial.uids) == ("no_port", (10001,))
    assert trial.seconds >= 4


def only(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave one way to the container; the published port leads through docker-proxy, which takes every connection."""

    def through_proxy(port: int, *, networks: object, published: tuple[tuple[str, int], ...]) -> bool | None:
        assert published
        return listens(port, networks=(), published=published)

    if way == "published port":
        monkeypatch.setattr(containers, "listens", through_proxy)


def test_an_image_that_ends_tells_its_exit_code_and_what_it_printed(sandbox: Sandbox, engine: Engine):
    image = build(sandbox, "USER 10001\nCMD echo starting; echo no database >&2; exit 3\n")

    trial = try_start(engine, image, PATIENT)

    # Which of the two streams comes first is the engine's to say: it reads each through a pipe of its own.
    assert (trial.outcome, trial.exit_code, set(trial.log)) == ("ended", 3, {"starting", "no database"})


def test_an_image_that_prints_without_end_tells_its_last_lines(sandbox: Sandbox, engine: Engine):
    image = build(sandbox, "USER 10001\nCMD head -c 9000000 /dev/zero | tr '\\\\0' x; echo; seq 100000; exit 1\n")

    trial = try_start(engine, image, Smoke(timeout=120))

    assert (trial.outcome, trial.log[-1], len(trial.log)) == ("ended", "100000", 20)


def test_an_image_whose_healthcheck_never_passes_is_unwell_and_tells_why(sandbox: Sandbox, engine: Engine):
    image = build(sandbox, "HEALTHCHECK CMD echo no answer; exit 1\nUSER 10001\n" + SLEEP)

    trial = try_start(engine, image, Smoke(timeout=4))

    assert (trial.outcome, trial.uids, trial.log) == ("unwell", (10001,), ("HEALTHCHECK: no answer",))


def test_a_process_of_root_is_seen_in_an_image_that_is_well(sandbox: Sandbox, engine: Engine):
    image = build(sandbox, SLEEP)

    trial = try_start(engine, image, Smoke(timeout=1))

    assert (trial.outcome, trial.uids) == ("well", (0,))


def test_an_image_that_needs_a_privilege_of_root_ends(sandbox: Sandbox, engine: Engine):
    image = build(sandbox, "CMD touch /x && chown 33 /x && sleep 300\n")

    trial = try_start(engine, image, PATIENT)

    assert (trial.outcome, trial.exit_code) == ("ended", 1)
    assert "Operation not permitted" in trial.log[0]


@pytest.mark.parametrize(("path", "outcome"), [("/home/x", "ended"), ("/tmp/x", "well")])
def test_a_read_only_root_file_system_leaves_tmp_alone_to_write_to(
    sandbox: Sandbox, engine: Engine, path: str, outcome: str
):
    image = build(sandbox, f"RUN chmod 777 /home\nUSER 10001\nCMD touch {path} && exec sleep 300\n")

    trial = try_start(engine, image, Smoke(read_only=True, timeout=3))

    assert trial.outcome == outcome
    assert ("Read-only file system" in " ".join(trial.log)) == (outcome == "ended")


@pytest.mark.parametrize(
    ("lines", "exit_code", "said"),
    [
        ("USER somebody\n" + SLEEP, 128, "unable to find user somebody"),
        ('USER 10001\nCMD ["/nothing"]\n', 127, "no such file or directory"),
    ],
)
def test_an_image_that_cannot_be_started_ended_with_the_engines_words(
    sandbox: Sandbox, engine: Engine, lines: str, exit_code: int, said: str
):
    trial = try_start(engine, build(sandbox, lines), PATIENT)

    assert (trial.outcome, trial.exit_code) == ("ended", exit_code)
    assert said in trial.log[0]


def test_an_image_without_a_command_and_one_that_is_not_there_ended_with_the_engines_words(
    sandbox: Sandbox, engine: Engine
):
    image = build(sandbox, "COPY Dockerfile /\n", base="scratch")

    empty, missing = (try_start(engine, one, PATIENT) for one in (image, f"{sandbox.name}/none:latest"))

    assert empty == Trial("ended", log=("no command specified",))
    assert missing == Trial("ended", log=(f"No such image: {sandbox.name}/none:latest",))


def test_an_image_of_another_platform_is_not_tried(sandbox: Sandbox, engine: Engine):
    image = build(sandbox, "COPY Dockerfile /\n", "--platform=linux/arm64", base="scratch")

    tried = [try_start(engine, image, PATIENT, platform=platform) for platform in ("", "linux/arm64")]

    assert tried == [Trial("not_tried", log=("the image is for linux/arm64, and the engine runs linux/amd64",))] * 2


def test_an_image_is_started_by_its_digest(sandbox: Sandbox, engine: Engine):
    image = build(sandbox, "USER 10001\n" + SLEEP)
    digest = docker("image", "inspect", "--format", "{{.Id}}", image).strip()

    assert try_start(engine, digest, Smoke(timeout=1)).outcome == "well"


def test_a_trial_that_is_interrupted_leaves_no_container_and_no_volume(sandbox: Sandbox, engine: Engine):
    label = f"of={sandbox.name}"
    image = build(sandbox, f"VOLUME /data\nLABEL {label}\nUSER 10001\n" + SLEEP)
    volumes: list[str] = []

    def interrupt() -> bool:
        [name] = docker("ps", "--quiet", "--filter", f"label={label}").split()
        volumes.append(docker("inspect", "--format", "{{(index .Mounts 0).Name}}", name).strip())
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        try_start(engine, image, PATIENT, is_stopped=interrupt)

    assert docker("ps", "--all", "--quiet", "--filter", f"label={label}") == ""
    assert len(volumes) == 1
    assert volumes[0] not in docker("volume", "ls", "--quiet").split()


def test_containers_of_killed_runs_are_removed_and_no_others(
    sandbox: Sandbox, engine: Engine, monkeypatch: pytest.MonkeyPatch
):
    image = build(sandbox, f"LABEL {LABEL}=1\n" + SLEEP)
    left, other = f"{PREFIX}{secrets.token_hex(8)}", f"{sandbox.name}-other"
    docker("create", "--name", left, "--label", f"{LABEL}=3600", image)
    docker("create", "--name", other, image)
    try:
        remove_leftovers(engine)
        early = trials()
        monkeypatch.setattr(containers, "ABANDONED_S", -3700.0)
        remove_leftovers(engine)

        assert left in early
        assert left not in trials()
        assert docker("ps", "--all", "--quiet", "--filter", f"name={other}").strip()
    finally:
        docker("rm", "--force", left, other, check=False)
