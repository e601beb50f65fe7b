"""What every unit test stands on: both async backends, one way to draw examples, and an empty environment."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from fakes import FakeContainerd, FakeEngine, FakeRegistry, running_containerd, running_engine, running_registry
from hypothesis import HealthCheck, settings

# The same examples on every machine and in every run: a red test is red for everybody, and can be run again.
settings.register_profile(
    "unit",
    derandomize=True,
    database=None,
    deadline=None,
    print_blob=True,
    max_examples=50,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile("quick", settings.get_profile("unit"), max_examples=15)

_FOREIGN = (
    *("BUILDORCH_", "BUILDX_", "BUILDKIT_", "DOCKER_", "COMPOSE_", "GIT_", "GITHUB_", "OTEL_", "TRACE"),
    *("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "REQUEST_METHOD"),
)
"""In capitals; small letters are as foreign."""


def pytest_configure(config: pytest.Config) -> None:
    """Draw fewer examples where the proofs are left out; pytest calls this before it imports a test."""
    settings.load_profile("quick" if "not proof" in config.option.markexpr else "unit")
    if hasattr(config, "workerinput") or not config.getoption("numprocesses", None):  # it collects itself
        gc.disable()  # what is collected stays to the end: to look through it again and again costs a second in each worker


def pytest_collection_finish() -> None:
    """Leave the tests themselves out of every look for garbage that follows."""
    gc.freeze()
    gc.enable()


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """Every async test runs on both."""
    backend: str = request.param
    return backend


@pytest.fixture(scope="module", autouse=True)
def _no_engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test here finds an engine, docker's configuration, or git's, whatever the machine has."""
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.upper().startswith(_FOREIGN)]:
            patch.delenv(name)
        patch.setenv("HOME", str(home))
        patch.setenv("GIT_CONFIG_NOSYSTEM", "1")
        patch.setenv("DOCKER_HOST", "unix:///nonexistent/docker.sock")
        yield


@pytest.fixture(scope="module", autouse=True)
def _no_patience() -> Iterator[None]:
    """A registry that fails is not asked again, but where a test says so."""
    with pytest.MonkeyPatch.context() as patch:
        for module in ("registry.waiting", "presence.registries", "bases.resolve", "doubting"):
            patch.setattr(f"buildorch.{module}.PATIENCE_S", 0.0)
        patch.setattr("buildorch.registry.waiting.FIRST_PAUSE_S", 0.01)
        yield


@pytest.fixture
def engine() -> Iterator[FakeEngine]:
    """A fake engine without an image."""
    with running_engine() as running:
        yield running


@pytest.fixture
def store(engine: FakeEngine, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeContainerd]:
    """A containerd that is the engine's own: this process stands in for dockerd."""
    from buildorch.engine import containerd

    monkeypatch.setattr(containerd, "_DAEMON", Path("/proc/self/comm").read_text().strip())
    with running_containerd() as running:
        engine.containerd = running
        yield running


@pytest.fixture
def registry() -> Iterator[FakeRegistry]:
    """A fake registry without an image; modules that want one there have a fixture of their own."""
    with running_registry() as running:
        yield running


@pytest.fixture(scope="session")
def repository() -> Path:
    """This repository's own folder."""
    return Path(__file__).resolve().parents[2]
