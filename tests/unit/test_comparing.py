"""A comparison from its request to its rows, with a fake engine and a fake buildx; all that it made goes."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from fakes import FakeEngine, Image, install_buildx, make_image, running_engine

from buildorch.comparing import Bench, CompareRequest, opened, parse_all, stream
from buildorch.errors import UnknownService, UsageError
from buildorch.execute import Stop
from buildorch.report.comparison import Comparison

DATA = Path(__file__).with_name("data")
BOOM = "echo 'ERROR: boom' >&2; exit 1"
pytestmark = [pytest.mark.anyio, pytest.mark.proof]


@dataclass
class Project:
    """A service that builds on another, and an engine that holds one image."""

    root: Path
    engine: FakeEngine
    image: Image

    def behave(self, service: str, script: str) -> None:
        """What a build of the service does."""
        (self.root / "services" / service / "behave.sh").write_text(script)

    def request(self, *variants: str, platform: str = "linux/amd64") -> CompareRequest:
        file = self.root / "services.yaml"
        return CompareRequest(service="app", variants=parse_all(variants), file=file, platform=platform)

    def hold(self, bench: Bench) -> None:
        """Let the engine have what the builds of a comparison load into it."""
        names = [trial.names.name(what) for trial in bench.trials for what in ("cold", "cached")]
        names.append(f"buildorch-compare/base:{bench.word}-0-base")
        self.engine.images.update(dict.fromkeys(names, self.image))


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    root, temporary = tmp_path / "project", tmp_path / "temporary"
    temporary.mkdir()
    for name in ("app", "base"):
        (root / "services" / name).mkdir(parents=True)
        (root / "services" / name / "Dockerfile").write_text("FROM scratch\nCOPY file /\n")
        (root / "services" / name / "file").write_text(name)
    (root / "services.yaml").write_text(
        "version: 1\nproject: shop\nservices: {app: {contexts: {b: service:base}, size: {max: 1B}}, base: {}}\n"
    )
    image = make_image(layers=[b"x" * 1000])
    install_buildx(tmp_path / "docker", replay=DATA / "executed.rawjson", digest=image.digest)
    with running_engine() as engine:
        engine.images["any"] = image
        monkeypatch.setenv("DOCKER_HOST", engine.endpoint)
        monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
        monkeypatch.setattr(tempfile, "tempdir", str(temporary))
        yield Project(root, engine, image)
    assert list(temporary.iterdir()) == [], "a comparison left files behind"
    assert set(engine.images) == {"any"}, "a comparison left images behind"


async def compared(bench: Bench, *, stop: Stop | None = None) -> Comparison:
    async with stream(bench, stop=stop) as events:
        *_, last = [event async for event in events]
    assert isinstance(last, Comparison)
    return last


async def test_every_variant_is_a_row_that_is_measured_and_judged(project: Project):
    with opened(project.request("other:args.A=1")) as bench:
        project.hold(bench)
        found = await compared(bench)
        assert bench.at_hand.ledger.services() == []
        assert dict(bench.at_hand.ledger.layer_sizes) == {}

    assert (found.exit_code, found.left, found.platform) == (0, (), "linux/amd64")
    assert [(row.variant, row.error) for row in found.rows] == [("as-is", None), ("other", None)]
    for row in found.rows:
        assert row.image is not None
        assert row.image.unpacked_bytes == project.image.unpacked_bytes
        assert [finding.rule for finding in row.findings] == ["size"]
        assert row.cold_s is not None
        assert row.cached_s is not None
        assert (row.pull_s, row.pull_note) == (None, "no registry was named with --pull")


async def test_a_variant_that_fails_is_a_row_that_says_why_and_the_others_go_on(project: Project):
    project.behave("app", f'case "$*" in *args-fail*) {BOOM} ;; esac')

    with opened(project.request("bad:args.A=args-fail", "good:args.A=1")) as bench:
        project.hold(bench)
        found = await compared(bench)

    assert found.exit_code == 1
    assert [row.error and row.error.message for row in found.rows] == [None, "boom", None]


async def test_where_a_base_service_fails_no_variant_is_built(project: Project):
    project.behave("base", BOOM)

    with opened(project.request("other:args.A=1")) as bench:
        found = await compared(bench)

    messages = {row.error.message for row in found.rows if row.error}
    assert messages == {"it builds on base, which has no image: boom"}
    assert not (project.root / "services/app/argv.txt").exists()


async def test_files_that_change_while_a_variant_is_built_make_it_fail(project: Project):
    project.behave("app", 'echo more >> "$context/file"')

    with opened(project.request()) as bench:
        project.hold(bench)
        [row] = (await compared(bench)).rows

    assert row.error is not None
    assert "files changed while it was built" in row.error.message
    assert "file" in row.error.message


async def test_a_stop_ends_the_builds_and_leaves_nothing(project: Project):
    stop, last = Stop(), None
    with opened(project.request("other:args.A=1")) as bench:
        async with stream(bench, stop=stop) as events:
            async for event in events:
                last = event
                if getattr(event, "service", "") == "as-is" and not stop.requested:
                    project.hold(bench)
                    stop.request(exit_code=130)

    assert isinstance(last, Comparison)
    assert last.exit_code == 130
    assert all(row.error for row in last.rows)


async def test_who_stops_listening_leaves_nothing(project: Project):
    with opened(project.request()) as bench:
        async with stream(bench) as events:
            async for event in events:
                if getattr(event, "service", "") == "as-is":
                    project.hold(bench)
                    break


def test_what_cannot_be_compared_is_told_before_anything_is_built(project: Project):
    for request, fact in (
        (project.request("x:base.python:3.13=a"), "replaces python:3.13, which is no base image here"),
        (project.request("x:base=a"), "the service has 0"),
    ):
        with pytest.raises(UsageError, match=fact), opened(request):
            pass
    (project.root / "services.yaml").write_text(
        "version: 1\nproject: shop\nservices: {app: {platforms: [linux/amd64, linux/arm64]}}\n"
    )
    fact = "is built for linux/amd64, linux/arm64, and one is compared"
    with pytest.raises(UsageError, match=fact), opened(project.request(platform="")):
        pass
    request = CompareRequest(service="ap", variants=parse_all([]), file=project.root / "services.yaml")
    with pytest.raises(UnknownService), opened(request):
        pass
