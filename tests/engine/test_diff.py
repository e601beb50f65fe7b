"""What differs between two images, against a plain walk of their layers with Python's own tarfile."""

from __future__ import annotations

import gzip
import io
import json
import secrets
import subprocess
import tarfile
from collections import Counter
from collections.abc import Iterator

import pytest
from sandbox import BASE, Sandbox, docker, remove_images_of

from buildorch.record import Report

pytestmark = pytest.mark.engine

DOCKERFILE = f"""FROM {BASE}
COPY src /app
RUN echo 'Package: {{package}}\\nStatus: install ok installed\\nVersion: 1\\n' >> /var/lib/dpkg/status
ENV VERSION={{version}}
USER {{user}}
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    made = Sandbox(tmp_path_factory.mktemp("diff") / "project", f"t-{secrets.token_hex(4)}")
    made.root.mkdir()
    made.services("services: {app: {tags: [one]}, same: {tags: [one]}}")
    made.service("same", f"FROM {BASE}\nUSER 1\n")
    made.service("app", DOCKERFILE.format(package="old", version=1, user=1))
    made.write("services/app/src/kept", "same")
    made.write("services/app/src/grown", "x" * 1000)
    made.write("services/app/src/gone", "x" * 70_000)
    yield made
    remove_images_of(made.name)


@pytest.fixture(scope="module")
def reports(project: Sandbox) -> tuple[Report, Report]:
    """Two runs; the second one's image has other files, another package, another config."""
    before = project.build().raise_for_status()
    project.write("services/app/Dockerfile", DOCKERFILE.format(package="new", version=2, user=2))
    (project.root / "services/app/src/gone").unlink()
    project.write("services/app/src/grown", "y" * 200_000)
    project.write("services/app/src/come", "z" * 513)
    return before, project.build(overrides=["*.tags=[two]"]).raise_for_status()


def diff(project: Sandbox, *arguments: str) -> dict[str, object]:
    done = project.command("diff", *arguments, "--format", "json")
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout)["services"]


def walked(reference: str) -> Counter[str]:
    """Path -> bytes of its contents in all layers, by `docker save` and tarfile."""
    saved = subprocess.run(["docker", "save", reference], capture_output=True, check=True).stdout
    found: Counter[str] = Counter()
    with tarfile.open(fileobj=io.BytesIO(saved)) as archive:
        [entry] = json.load(archive.extractfile("manifest.json"))
        for name in entry["Layers"]:
            data = archive.extractfile(name).read()
            data = gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data
            with tarfile.open(fileobj=io.BytesIO(data)) as layer:
                for member in layer:
                    if member.isfile():
                        found[member.name.removeprefix("./")] += member.size
    return found


def test_every_file_is_what_a_walk_of_the_layers_finds_to_the_byte(
    project: Sandbox, reports: tuple[Report, Report]
) -> None:
    one, two = (walked(report.services["app"].reference) for report in reports)
    paths = {path for path in {*one, *two} if one[path] != two[path]}

    found = diff(project, "app")["app"]["platforms"]["linux/amd64"]

    sizes = {file["path"]: (file["before_size"], file["after_size"]) for file in found["files"]}
    assert {path: sizes[path] for path in paths} == {path: (one[path], two[path]) for path in paths}
    assert {"app/gone", "app/grown", "app/come"} <= paths
    assert all(before == after for path, (before, after) in sizes.items() if path not in paths)


def test_99_of_100_bytes_of_growth_have_the_name_of_a_file(project: Sandbox, reports: tuple[Report, Report]) -> None:
    found = diff(project, "app")["app"]["platforms"]["linux/amd64"]

    growth = found["after_unpacked_bytes"] - found["before_unpacked_bytes"]
    named = sum(file["after_bytes"] - file["before_bytes"] for file in found["files"])
    one, two = (report.services["app"].platforms["linux/amd64"].unpacked_bytes for report in reports)
    assert growth == two - one
    assert abs(growth - named) <= abs(growth) / 100


def test_packages_and_the_config_are_compared(project: Sandbox, reports: tuple[Report, Report]) -> None:
    found = diff(project, "app")["app"]["platforms"]["linux/amd64"]

    assert [(one["package_kind"], one["name"], one["before"], one["after"]) for one in found["packages"]] == [
        ("deb", "new", [], ["1"]),
        ("deb", "old", ["1"], []),
    ]
    assert [(one["name"], one["before"], one["after"]) for one in found["config"]] == [
        ("environment VERSION", "1", "2"),
        ("user", "1", "2"),
    ]


def test_two_runs_two_records_and_two_images_give_the_same(project: Sandbox, reports: tuple[Report, Report]) -> None:
    one, two = reports
    for number, report in enumerate(reports):
        project.write(f"{number}.json", report.to_json())

    by_run = diff(project, one.run_id, two.run_id)
    by_file = diff(project, "0.json", "1.json")
    by_image = diff(project, one.services["app"].reference, two.services["app"].reference)

    assert by_run == by_file
    assert by_run["same"]["kind"] == "same"
    [image] = by_image.values()
    assert [image["before_digest"], image["after_digest"]] == [report.services["app"].digest for report in reports]
    assert image["platforms"] == by_run["app"]["platforms"] == diff(project, two.run_id)["app"]["platforms"]


def test_two_names_of_one_image_are_the_same_image(project: Sandbox, reports: tuple[Report, Report]) -> None:
    image = reports[0].services["app"]
    docker("image", "tag", image.reference, f"{project.name}/app:also")

    [found] = diff(project, image.reference, f"{project.name}/app:also").values()

    assert (found["kind"], found["after_digest"], found["platforms"]) == ("same", image.digest, {})


def test_growth_beyond_what_is_allowed_exits_with_3(project: Sandbox, reports: tuple[Report, Report]) -> None:
    assert project.command("diff", "app", "--fail-on-growth", "0.001%").returncode == 3
    assert project.command("diff", "app", "--fail-on-growth", "99%").returncode == 0


def test_an_image_that_is_gone_is_compared_by_its_record_and_the_remembered_layers(sandbox: Sandbox) -> None:
    sandbox.services("services: {app: {}}")
    sandbox.service("app", "FROM scratch\nCOPY file /\n", file="one")
    first = sandbox.build(overrides=["*.tags=[one]"]).raise_for_status()
    sandbox.write("services/app/file", "another")
    sandbox.build(overrides=["*.tags=[two]"]).raise_for_status()
    docker("image", "rm", first.services["app"].reference)

    found = diff(sandbox, "app")["app"]["platforms"]["linux/amd64"]

    assert [(file["path"], file["before_size"], file["after_size"]) for file in found["files"]] == [("file", 3, 7)]
    assert found["config"] is None


@pytest.mark.parametrize(
    ("arguments", "fact"),
    [
        (("ap",), "did you mean"),
        (("a", "b", "c"), "3 names cannot be compared"),
        (("gone.json", "gone.json"), "cannot be read"),
        (("services.yaml.json", "services.yaml.json"), "is not a run record"),
        (("deep.json", "deep.json"), "is not a run record"),
        (("empty.json", "empty.json"), "is not a run record: it has no 'services'"),
        (("empty.json",), "empty.json alone cannot be compared"),
        (("large.json", "large.json"), "is larger than 64 MiB"),
        (("app", "--fail-on-growth", "much"), "is no growth"),
        (("127.0.0.1:1/a:b", "127.0.0.1:1/c:d"), "is not in the engine"),
    ],
)
def test_what_cannot_be_compared_is_told(
    project: Sandbox, reports: tuple[Report, Report], arguments: tuple[str, ...], fact: str
) -> None:
    project.write("services.yaml.json", "[]")
    project.write("empty.json", "{}")
    project.write("deep.json", "[" * 100_000)
    project.write("large.json", " " * (64 * 1024 * 1024 + 1))

    done = project.command("diff", *arguments)

    assert done.returncode in {2, 4}
    assert fact in done.stderr
    assert "Traceback" not in done.stderr
