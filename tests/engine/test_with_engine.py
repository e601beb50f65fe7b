"""scripts/with-engine: which engine a command gets, and the stand-ins for base images, in copies of the repository."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType

import pytest

pytestmark = pytest.mark.proof

REPOSITORY = Path(__file__).resolve().parents[2]
TAGS = {"debian": "trixie-slim", "python": "3.13-slim", "node": "20-alpine"}

# Stands in for `.venv/bin/python -m buildorch build-all`: pushes three images with the label, and writes down how it was called.
BUILDORCH = """#!/bin/sh
set -eu
echo "$@" >>"$CALLS"
for image in debian:trixie-slim python:3.13-slim node:20-alpine; do
    docker buildx build --quiet --push --tag="$BUILDORCH_LOCAL_REGISTRY/library/$image" \\
        --label=io.buildorch.stand-in="$image" --label=services="$(cat services/bases/services.yaml)" services/bases/node
done
"""


# Scripts of a `docker`: one whose engine answers, and one whose does not.
ANSWERS = (
    'case "$1" in version) echo 28.5.2 ;; buildx) echo "github.com/docker/buildx v0.29.1" ;; info) echo null ;; esac'
)
NO_ENGINE = 'case "$1" in buildx) echo "github.com/docker/buildx v0.29.1" ;; *) exit 1 ;; esac'

NO_HUB = {"https_proxy": "http://127.0.0.1:9", "HTTPS_PROXY": "http://127.0.0.1:9", "no_proxy": "", "NO_PROXY": ""}
"""Nothing listens there: the hub does not answer, wherever the tests run. Registries on loopback are asked without it."""


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A copy of what scripts/with-engine needs of the repository."""
    made = tmp_path / "clone"
    shutil.copytree(REPOSITORY / "scripts", made / "scripts", ignore=shutil.ignore_patterns("__pycache__"))
    return made


def write_program(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


def with_docker(folder: Path, script: str) -> dict[str, str]:
    """An environment whose `docker` is a shell script."""
    write_program(folder / "bin" / "docker", f"#!/bin/sh\n{script}\n")
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("DOCKER_", "BUILDORCH_"))}
    return {**plain, "PATH": f"{folder / 'bin'}:/usr/bin:/bin"}


def with_engine(
    *arguments: str, clone: Path = REPOSITORY, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(clone / "scripts" / "with-engine"), *arguments]
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=300, check=False)


def test_an_engine_that_answers_is_used_as_it_is(tmp_path: Path) -> None:
    done = with_engine("env", env=with_docker(tmp_path, ANSWERS))

    assert (done.returncode, done.stderr) == (0, "")
    assert "DOCKER_HOST=" not in done.stdout


@pytest.mark.parametrize("buildx", ["exit 1", "echo github.com/docker/buildx v0.12.1"], ids=["none", "old"])
def test_an_engine_without_a_buildx_that_will_do_is_one_message_and_exit_4(tmp_path: Path, buildx: str) -> None:
    docker = f'case "$1" in version) echo 28.5.2 ;; buildx) {buildx} ;; esac'

    done = with_engine("touch", str(tmp_path / "ran"), env=with_docker(tmp_path, docker))

    assert done.returncode == 4
    assert len(done.stderr.splitlines()) == 1
    assert "buildx 0.17 or later" in done.stderr
    assert not (tmp_path / "ran").exists()


def test_where_no_engine_answers_the_command_gets_the_private_one(tmp_path: Path, clone: Path) -> None:
    write_program(
        clone / "scripts" / "engine",
        "import sys\nif sys.argv[1] == 'env':\n"
        "    print(\"export DOCKER_HOST='unix:///a b'\\nexport BUILDORCH_LOCAL_REGISTRY=127.0.0.1:5009\")\n"
        "else:\n    print(sys.argv[1], file=sys.stderr)\n",
    )

    done = with_engine("env", clone=clone, env=with_docker(tmp_path, NO_ENGINE))

    assert done.stderr == "up\n"
    assert {"DOCKER_HOST=unix:///a b", "BUILDORCH_LOCAL_REGISTRY=127.0.0.1:5009"} <= set(done.stdout.splitlines())


def test_a_private_engine_that_does_not_start_is_the_end_with_its_exit_code(tmp_path: Path, clone: Path) -> None:
    write_program(clone / "scripts" / "engine", "import sys\nsys.exit('cannot' and 4)\n")

    done = with_engine("touch", str(tmp_path / "ran"), clone=clone, env=with_docker(tmp_path, "exit 1"))

    assert done.returncode == 4
    assert not (tmp_path / "ran").exists()


def test_the_command_gets_its_arguments_and_gives_its_exit_code(tmp_path: Path) -> None:
    script = 'printf "%s|" "$@"; exit 7'

    done = with_engine("sh", "-c", script, "sh", "--bases", "-x", "a b", "--", env=with_docker(tmp_path, ANSWERS))

    assert (done.stdout, done.returncode) == ("--bases|-x|a b|--|", 7)


def test_the_command_dies_of_a_closed_pipe_as_it_would_anywhere(tmp_path: Path) -> None:
    done = with_engine("sh", "-c", "kill -PIPE $$; echo lived", env=with_docker(tmp_path, ANSWERS))

    assert (done.stdout, done.returncode) == ("", -signal.SIGPIPE)


def test_a_command_that_is_not_there_is_named(tmp_path: Path) -> None:
    done = with_engine("no-such-command", env=with_docker(tmp_path, ANSWERS))

    assert (done.returncode, done.stderr) == (127, "engine: cannot run no-such-command: No such file or directory\n")


def test_no_hub_and_no_mirror_is_a_warning_and_the_command_runs(tmp_path: Path) -> None:
    env = {**with_docker(tmp_path, ANSWERS), **NO_HUB}

    done = with_engine("--bases", "echo", "ran", env=env)

    assert (done.returncode, done.stdout) == (0, "ran\n")
    assert done.stderr.startswith("engine: warning: no hub answers")


@pytest.fixture(scope="module")
def mirrored() -> Iterator[dict[str, str]]:
    """The environment of a private engine whose registry is empty at first."""
    if os.geteuid() != 0 or not shutil.which("docker-registry"):
        pytest.skip("starting an engine needs root and what `scripts/engine up` installs")
    name = f"t-{secrets.token_hex(2)}-b"
    engine = [sys.executable, str(REPOSITORY / "scripts" / "engine")]
    subprocess.run([*engine, "up", "--name", name], check=True, stderr=subprocess.DEVNULL)
    try:
        exports = subprocess.check_output([*engine, "env", "--name", name], text=True)
        values = dict(line.removeprefix("export ").split("=", 1) for line in exports.splitlines())
        yield {**os.environ, **values, **NO_HUB}
    finally:
        subprocess.run([*engine, "down", "--name", name], check=True, stderr=subprocess.DEVNULL)


@pytest.fixture
def buildable(clone: Path, mirrored: dict[str, str], standins: ModuleType) -> Iterator[dict[str, str]]:
    """The clone with services/bases, its inputs made, and a buildorch that is a few lines; the registry empty after."""
    bases = clone / "services" / "bases"
    (bases / "node").mkdir(parents=True)
    (bases / "node" / "Dockerfile").write_text("FROM scratch\nCOPY Dockerfile /\n")
    (bases / "services.yaml").write_text("version: 1\n")
    (bases / "debian").mkdir()
    (bases / "debian" / "rootfs.tar").write_text("made before")
    stamp = subprocess.run(
        [sys.executable, "-c", "from _engine import rootfs; print(rootfs.rootfs_stamp())"],
        cwd=clone / "scripts",
        capture_output=True,
        text=True,
        check=False,
    )
    if stamp.returncode:
        pytest.skip("the stand-ins are made on Debian")
    (bases / "debian" / "rootfs.stamp").write_text(stamp.stdout)
    write_program(clone / ".venv" / "bin" / "python", BUILDORCH)
    yield {**mirrored, "CALLS": str(clone / "calls")}
    mirror = standins.Mirror(mirrored["BUILDORCH_LOCAL_REGISTRY"])
    for image in TAGS:
        for tag in mirror.tags(f"library/{image}"):
            mirror.delete(f"library/{image}", mirror.digest(f"library/{image}", tag))


@pytest.fixture
def standins(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(REPOSITORY / "scripts"))
    from _engine import standins

    return standins


def calls(clone: Path) -> list[str]:
    path = clone / "calls"
    return path.read_text().splitlines() if path.exists() else []


@pytest.mark.engine
def test_stand_ins_are_built_once_with_the_projects_own_tool(clone: Path, buildable: dict[str, str]) -> None:
    first = with_engine("--bases", "echo", "ran", clone=clone, env=buildable)
    second = with_engine("--bases", "echo", "ran", clone=clone, env=buildable)

    [call] = calls(clone)
    assert call == (
        f"-m buildorch build-all -f {clone}/services/bases/services.yaml --push --record {clone}/.buildorch/bases.json"
    )
    assert (first.returncode, first.stdout) == (0, "ran\n")
    assert "building stand-ins for debian:trixie-slim, python:3.13-slim, node:20-alpine" in first.stderr
    assert (second.stdout, second.stderr) == ("ran\n", "")


@pytest.mark.engine
def test_stand_ins_are_built_again_when_their_files_change_or_one_is_gone(
    clone: Path, buildable: dict[str, str], standins: ModuleType
) -> None:
    with_engine("--bases", "true", clone=clone, env=buildable)
    (clone / "services" / "bases" / "services.yaml").write_text("version: 1 # changed\n")
    with_engine("--bases", "true", clone=clone, env=buildable)
    assert len(calls(clone)) == 2

    mirror = standins.Mirror(buildable["BUILDORCH_LOCAL_REGISTRY"])
    mirror.delete("library/node", mirror.digest("library/node", "20-alpine"))
    with_engine("--bases", "true", clone=clone, env=buildable)
    assert len(calls(clone)) == 3


@pytest.mark.engine
def test_images_that_somebody_else_put_into_the_mirror_are_left_alone(
    clone: Path, buildable: dict[str, str], standins: ModuleType
) -> None:
    reference = f"{buildable['BUILDORCH_LOCAL_REGISTRY']}/library/python:3.13-slim"
    build = ["docker", "buildx", "build", "--quiet", "--push", f"--tag={reference}", str(clone / "services/bases/node")]
    subprocess.run(build, env=buildable, check=True, capture_output=True)
    mirror = standins.Mirror(buildable["BUILDORCH_LOCAL_REGISTRY"])
    before = mirror.digest("library/python", "3.13-slim")

    done = with_engine("--bases", "echo", "ran", clone=clone, env=buildable)

    assert (done.returncode, done.stdout) == (0, "ran\n")
    assert "is left as it is" in done.stderr
    assert calls(clone) == []
    assert mirror.digest("library/python", "3.13-slim") == before


@pytest.mark.engine
def test_stand_ins_that_could_not_be_built_are_the_end_with_the_builds_exit_code(
    clone: Path, buildable: dict[str, str]
) -> None:
    write_program(clone / ".venv" / "bin" / "python", "#!/bin/sh\nexit 3\n")

    done = with_engine("--bases", "touch", str(clone / "ran"), clone=clone, env=buildable)

    assert done.returncode == 3
    assert "were not built" in done.stderr
    assert not (clone / "ran").exists()


@pytest.mark.engine
def test_stand_ins_that_were_not_built_at_first_are_built_a_second_time(clone: Path, buildable: dict[str, str]) -> None:
    fails_at_first = 'if [ ! -e "$CALLS" ]; then echo first >>"$CALLS"; exit 1; fi\n'
    write_program(clone / ".venv" / "bin" / "python", BUILDORCH.replace("set -eu\n", f"set -eu\n{fails_at_first}"))

    done = with_engine("--bases", "echo", "ran", clone=clone, env=buildable)

    assert (done.returncode, done.stdout) == (0, "ran\n")
    assert "trying once more" in done.stderr
    assert len(calls(clone)) == 2


@pytest.mark.engine
@pytest.mark.parametrize(("exit_code", "tries"), [(1, 2), (2, 1), (4, 1)])
def test_only_a_failed_build_of_the_stand_ins_is_tried_again_and_only_once(
    clone: Path, buildable: dict[str, str], exit_code: int, tries: int
) -> None:
    write_program(clone / ".venv" / "bin" / "python", f'#!/bin/sh\necho called >>"$CALLS"\nexit {exit_code}\n')

    done = with_engine("--bases", "true", clone=clone, env=buildable)

    assert done.returncode == exit_code
    assert len(calls(clone)) == tries


@pytest.mark.engine
def test_once_the_hub_answers_stand_ins_go_and_others_images_stay(
    clone: Path,
    buildable: dict[str, str],
    standins: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    with_engine("--bases", "true", clone=clone, env=buildable)
    address = buildable["BUILDORCH_LOCAL_REGISTRY"]
    mirror = standins.Mirror(address)
    mine = f"--tag={address}/library/node:20-alpine"
    build = ["docker", "buildx", "build", "--quiet", "--push", mine, str(clone / "services/bases/node")]
    subprocess.run(build, env=buildable, check=True, capture_output=True)
    monkeypatch.setattr(standins, "hub_answers", lambda: True)
    monkeypatch.setattr(standins, "loopback_mirror", lambda: address)

    standins.provide()

    assert [mirror.tags(f"library/{image}") for image in TAGS] == [[], [], ["20-alpine"]]
    assert "deleted the stand-in for python:3.13-slim" in capfd.readouterr().err


@pytest.mark.engine
def test_the_private_engines_registry_is_found_as_its_mirror(
    mirrored: dict[str, str], standins: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_HOST", mirrored["DOCKER_HOST"])

    assert standins.loopback_mirror() == mirrored["BUILDORCH_LOCAL_REGISTRY"]


def test_the_stand_ins_are_those_of_their_services_file(standins: ModuleType) -> None:
    text = standins.SERVICES_FILE.read_text()

    for repository, tag in standins.TAGS.items():
        assert f"  {repository.removeprefix('library/')}:\n" in text
        assert f"tags: [{tag}]" in text
