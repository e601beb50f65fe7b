"""What the services' Dockerfiles take for granted of the base images: true of the hub's, so it must be of the stand-ins."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest

pytestmark = pytest.mark.engine

PYTHON = "python:3.13-slim"
NODE = "node:20-alpine"


def docker(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["docker", *arguments], capture_output=True, text=True, timeout=180, check=False)


def run(image: str, *command: str, user: str = "root") -> str:
    done = docker("run", "--rm", f"--user={user}", image, *command)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture(scope="module", autouse=True)
def _images() -> Iterator[None]:
    """Pull both images, and leave none that was not there: a build would take it for the newest."""
    there = {image for image in (PYTHON, NODE) if docker("image", "inspect", image).returncode == 0}
    for image in (PYTHON, NODE):
        pulled = docker("pull", "--quiet", image)
        if pulled.returncode:
            pytest.skip(f"{image} cannot be pulled here: {pulled.stderr.strip()}")
    yield
    for image in {PYTHON, NODE} - there:
        docker("image", "rm", image)


def test_python_is_found_where_the_official_image_has_it() -> None:
    script = "import os, site, sys; print(sys.version_info[:2], sys.prefix, site.getsitepackages()[0])"

    assert run(PYTHON, "python", "-c", script) == "(3, 13) /usr/local /usr/local/lib/python3.13/site-packages"
    assert run(PYTHON, "sh", "-c", "command -v python; command -v python3; command -v pip").split() == [
        "/usr/local/bin/python",
        "/usr/local/bin/python3",
        "/usr/local/bin/pip",
    ]
    assert run(PYTHON, "sh", "-c", 'test "Python $PYTHON_VERSION" = "$(python --version)" && echo same') == "same"


def test_python_has_the_modules_that_need_a_library() -> None:
    run(PYTHON, "python", "-c", "import bz2, ctypes, hashlib, lzma, readline, sqlite3, ssl, uuid, zlib, zoneinfo")


def test_what_pip_installs_is_found_by_the_user_a_service_runs_as() -> None:
    install = "pip install --quiet --root-user-action=ignore six && useradd --create-home appuser"
    script = f"{install} && setpriv --reuid=appuser --regid=appuser --clear-groups python -c 'import six; print(six.__file__)'"

    assert run(PYTHON, "sh", "-c", script).startswith("/usr/local/lib/python3.13/site-packages/")


def test_uv_installs_into_the_system_python_as_in_the_official_image() -> None:
    install = "pip install --quiet --root-user-action=ignore uv && uv pip install --quiet --system six"

    assert run(PYTHON, "sh", "-c", f"{install} && ls /usr/local/lib/python3.13/site-packages/six.py")


def test_node_and_npm_are_found_where_the_official_image_has_them() -> None:
    assert run(NODE, "node", "--version").startswith("v20.")
    assert run(NODE, "npm", "--version").startswith("10.")
    assert run(NODE, "sh", "-c", "command -v node; command -v npm; command -v npx").split() == [
        "/usr/local/bin/node",
        "/usr/local/bin/npm",
        "/usr/local/bin/npx",
    ]
    assert run(NODE, "sh", "-c", 'test "v$NODE_VERSION" = "$(node --version)" && echo same') == "same"


def test_node_gets_what_is_not_a_command() -> None:
    assert run(NODE, "--print", "1 + 1") == "2"
    assert run(NODE, "echo", "a command") == "a command"


def test_node_image_has_the_user_node() -> None:
    assert run(NODE, "id", user="node") == "uid=1000(node) gid=1000(node) groups=1000(node)"
    assert run(NODE, "sh", "-c", "touch ~/mine && ls -n ~/mine", user="node").split()[2:4] == ["1000", "1000"]


@pytest.mark.parametrize(
    ("commands", "identity"),
    [
        ("addgroup -g 1001 -S app && adduser -S -D -H -u 1001 -h /app -s /sbin/nologin -G app -g App app", "1001 1001"),
        ("addgroup --system --gid 1001 app && adduser --system --uid 1001 --ingroup app app", "1001 1001"),
        ("addgroup --system --gid=1001 app && adduser --system --uid=1001 --ingroup=app app", "1001 1001"),
        ("addgroup -S -g1001 app; adduser -SDHu1001 -Gapp app", "1001 1001"),
        ("adduser -D -u 1234 app", "1234 1234"),
        ("adduser -D app", "1001 1001"),
        ("addgroup -g 1007 more && adduser -D -u 1006 app && addgroup app more", "1006 1006 1007"),
        ("addgroup -g 1007 more && adduser -D -u 1006 app && adduser app more", "1006 1006 1007"),
    ],
)
def test_users_are_made_with_alpines_commands(commands: str, identity: str) -> None:
    assert run(NODE, "sh", "-c", f"{commands} >/dev/null && echo $(id -u app) $(id -G app)") == identity


@pytest.mark.parametrize(
    "command", ["adduser -D node", "adduser -D -u 1000 app", "addgroup node", "addgroup -g 1000 app", "adduser -Z app"]
)
def test_a_user_or_group_that_cannot_be_made_is_an_error(command: str) -> None:
    assert run(NODE, "sh", "-c", f"{command} 2>/dev/null || echo refused") == "refused"


def test_alpines_wget_asks_a_server_in_the_container_as_a_health_check_does() -> None:
    serve = "require('http').createServer((_, answer) => answer.end('healthy')).listen(3000)"
    ask = "for i in 1 2 3 4 5 6 7 8 9; do wget -q -O - http://127.0.0.1:3000/health && exit; sleep 1; done; exit 1"

    assert run(NODE, "sh", "-c", f'node -e "{serve}" & {ask}') == "healthy"
