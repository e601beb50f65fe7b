"""The main job on a real engine: what is built, measured and recorded is true."""

from __future__ import annotations

import gzip
import hashlib
import io
import itertools
import json
import subprocess
import tarfile
from pathlib import Path

import jsonschema
import pytest
from sandbox import BASE, REPOSITORY, Sandbox, docker

import buildorch
from buildorch.record import Report

pytestmark = pytest.mark.engine


def saved_blobs(reference: str) -> dict[str, bytes]:
    """Every blob of an image as `docker save` gives it: an independent way to its bytes."""
    data = subprocess.run(["docker", "save", reference], capture_output=True, check=True).stdout
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        return {
            member.name.removeprefix("blobs/sha256/"): archive.extractfile(member).read()
            for member in archive
            if member.isfile()
        }


def span(record) -> tuple[str, str]:
    return record.started_at, record.finished_at


def test_the_three_services_are_built_and_within_their_budgets(services_report: Report):
    assert services_report.exit_code == 0
    assert {name: record.status for name, record in services_report.services.items()} == dict.fromkeys(
        ("backend", "frontend-web", "frontend-chatbot"), "built"
    )
    assert [finding for record in services_report.services.values() for finding in record.findings] == []


def test_sizes_equal_an_independent_count_to_the_byte(services_report: Report):
    for record in services_report.services.values():
        [platform] = record.platforms.values()
        blobs = saved_blobs(record.reference)
        manifest_bytes = blobs[platform.manifest_digest.removeprefix("sha256:")]
        manifest = json.loads(manifest_bytes)
        layers = [blobs[layer["digest"].removeprefix("sha256:")] for layer in manifest["layers"]]
        config = blobs[platform.config_digest.removeprefix("sha256:")]

        assert hashlib.sha256(manifest_bytes).hexdigest() == platform.manifest_digest.removeprefix("sha256:")
        assert platform.compressed_bytes == len(manifest_bytes) + len(config) + sum(map(len, layers))
        assert platform.unpacked_bytes == sum(len(gzip.decompress(layer)) for layer in layers)
        assert [layer.compressed_bytes for layer in platform.layers] == [len(layer) for layer in layers]
        assert [layer.unpacked_bytes for layer in platform.layers] == [len(gzip.decompress(layer)) for layer in layers]


def test_the_record_names_the_digest_the_engine_knows_the_image_by(services_report: Report):
    for record in services_report.services.values():
        [inspected] = json.loads(docker("image", "inspect", record.reference))
        assert inspected["Id"] == record.digest


def test_every_layer_names_the_instruction_that_made_it(services_report: Report):
    created = [layer.created_by for layer in next(iter(services_report.services["backend"].platforms.values())).layers]
    assert any("COPY src/" in text for text in created)
    assert all(created)


def test_builds_overlap_in_time_by_the_records_own_timestamps(services_report: Report):
    spans = sorted(span(record) for record in services_report.services.values())
    assert any(later[0] < earlier[1] for earlier, later in itertools.pairwise(spans))


def test_stand_in_bases_are_told_where_they_were_used(services_report: Report):
    labels = json.loads(docker("image", "inspect", services_report.services["backend"].reference))[0]["Config"][
        "Labels"
    ]
    expected = ("python:3.13-slim",) if "io.buildorch.stand-in" in labels else ()
    assert services_report.services["backend"].stand_ins == expected


def test_bases_are_recorded_with_the_digest_they_resolved_to(services_report: Report):
    bases = services_report.services["backend"].bases
    assert list(bases) == ["python:3.13-slim"]
    assert bases["python:3.13-slim"].startswith("sha256:")


@pytest.mark.parametrize("jobs", [1, 2])
def test_never_more_than_j_builds_run_at_once(sandbox: Sandbox, jobs: int):
    names = [f"s{number}" for number in range(5)]
    for name in names:
        sandbox.service(name, f"FROM {BASE}\nRUN sleep 0.5 && echo {sandbox.name} {name} {jobs}\n")
    sandbox.services("services: {" + ", ".join(f"{name}: {{}}" for name in names) + "}\n")

    report = sandbox.build(jobs=jobs)

    assert report.exit_code == 0
    moments = [span(record) for record in report.services.values()]
    most = max(sum(start <= at < end for start, end in moments) for at, _ in moments)
    assert most == jobs


def test_one_broken_service_leaves_the_others_built_and_recorded(sandbox: Sandbox):
    sandbox.service("good", "FROM scratch\nCOPY Dockerfile /\n")
    sandbox.service("fine", "FROM scratch\nCOPY Dockerfile /\n")
    # BuildKit leaves the stage's name out where there is only one.
    sandbox.service(
        "bad",
        f"FROM {BASE} AS deps\n\nRUN for i in $(seq 30); do echo line $i; done; exit 3\nFROM scratch\nCOPY --from=deps / /\n",
    )
    sandbox.services("services: {good: {}, bad: {}, fine: {}}\n")

    done = sandbox.command("build-all")

    assert done.returncode == 1
    statuses = {name: record["status"] for name, record in sandbox.record["services"].items()}
    assert statuses == {"good": "built", "bad": "failed", "fine": "built"}
    error = sandbox.record["services"]["bad"]["error"]
    assert (error["kind"], error["stage"], error["dockerfile"], error["line"]) == (
        "step_failed",
        "deps",
        "Dockerfile",
        3,
    )
    # FROM is no step of its own where it is held to a digest.
    assert error["step"].startswith("[deps 1/2] RUN for i in")
    assert error["log"] == [f"line {number}" for number in range(11, 31)]
    assert "error: bad: Dockerfile:3: the step exited with 3" in done.stdout
    assert sandbox.command("show").stdout.count("built") == 2


def test_fail_fast_cancels_what_still_runs(sandbox: Sandbox):
    sandbox.service("slow", f"FROM {BASE}\nRUN echo {sandbox.name}; sleep 60\n")
    sandbox.service("bad", f"FROM {BASE}\nRUN sleep 1; exit 1\n")
    sandbox.services("services: {slow: {}, bad: {}}\n")

    report = sandbox.build(jobs=2, fail_fast=True)

    assert {name: record.status for name, record in report.services.items()} == {"slow": "cancelled", "bad": "failed"}
    assert report.duration_s < 30


def test_eight_services_with_equal_basenames_sizes_and_mtimes_each_have_their_own_files(sandbox: Sandbox):
    import os

    names = [f"s{number}" for number in range(8)]
    for name in names:
        for file, text in (
            ("Dockerfile", f"FROM scratch\nCOPY data /data\nLABEL own={name}\n"),
            ("data", f"I am {name}\n"),
        ):
            os.utime(sandbox.write(f"services/{name}/app/{file}", text), (1_000_000_000, 1_000_000_000))
    entries = "\n".join(f"  {name}: {{context: services/{name}/app}}" for name in names)
    sandbox.services(f"services:\n{entries}\n")

    report = sandbox.build(jobs=8)

    assert report.exit_code == 0
    for name in names:
        assert sandbox.read_file(report.services[name].reference, "/data") == f"I am {name}\n".encode()
        assert (
            json.loads(docker("image", "inspect", report.services[name].reference))[0]["Config"]["Labels"]["own"]
            == name
        )


def test_an_edit_that_keeps_size_and_mtime_reaches_the_image(sandbox: Sandbox):
    import os

    sandbox.service("app", "FROM scratch\nCOPY data /data\n", data="old\n")
    sandbox.services("services: {app: {}}\n")
    data = sandbox.root / "services/app/data"
    os.utime(data, (1_000_000_000, 1_000_000_000))
    sandbox.build().raise_for_status()
    data.write_text("new\n")
    os.utime(data, (1_000_000_000, 1_000_000_000))

    report = sandbox.build().raise_for_status()

    assert sandbox.read_file(report.services["app"].reference, "/data") == b"new\n"


def test_a_service_is_built_on_the_image_its_base_got_in_the_same_run(sandbox: Sandbox):
    sandbox.service("base", "FROM scratch\nCOPY data /data\n", data="one\n")
    sandbox.service("app", "FROM base\nCOPY Dockerfile /app\n")
    sandbox.services("services:\n  app: {contexts: {base: service:base}}\n  base: {}\n")
    sandbox.build().raise_for_status()
    sandbox.write("services/base/data", "two\n")

    report = sandbox.build().raise_for_status()

    assert sandbox.read_file(report.services["app"].reference, "/data") == b"two\n"
    assert report.services["app"].bases == {"base": report.services["base"].digest}


def test_a_service_whose_base_failed_is_blocked_and_names_it(sandbox: Sandbox):
    sandbox.service("base", "FROM scratch\nCOPY missing /\n")
    sandbox.service("app", "FROM base\n")
    sandbox.services("services:\n  app: {contexts: {base: service:base}}\n  base: {}\n")

    report = sandbox.build()

    assert (report.exit_code, report.services["app"].status) == (1, "blocked")
    assert "base" in report.services["app"].error.message
    assert report.services["base"].error.kind == "input_missing"
    assert report.services["base"].error.line == 2


def test_a_pushed_image_is_measured_at_its_registry_and_weighs_the_same(sandbox: Sandbox, registry: str):
    sandbox.service("app", f"FROM {BASE}\nRUN echo hello > /hello\n")
    sandbox.services(f"services: {{app: {{registry: '{registry}'}}}}\n")

    pushed = sandbox.build(output="push").raise_for_status().services["app"]
    loaded = sandbox.build(output="load").raise_for_status().services["app"]

    assert pushed.reference == f"{registry}/{sandbox.name}/app:latest"
    assert pushed.platforms == loaded.platforms
    assert pushed.digest == loaded.digest
    raw = docker("buildx", "imagetools", "inspect", "--raw", pushed.reference)
    assert f"sha256:{hashlib.sha256(raw.encode()).hexdigest()}" == pushed.digest


def test_with_attestations_the_record_tells_the_index_from_the_manifest(sandbox: Sandbox, registry: str):
    sandbox.service("app", "FROM scratch\nCOPY Dockerfile /\n")
    sandbox.services(f"services: {{app: {{registry: '{registry}', attestations: {{provenance: max}}}}}}\n")

    record = sandbox.build(output="push").raise_for_status().services["app"]

    assert record.digest == record.index_digest
    assert list(record.platforms) == ["linux/amd64"]
    raw = json.loads(docker("buildx", "imagetools", "inspect", "--raw", record.reference))
    assert raw["manifests"][0]["digest"] == record.platforms["linux/amd64"].manifest_digest


def test_without_attestations_an_unchanged_image_keeps_its_digest(sandbox: Sandbox):
    sandbox.service("app", "FROM scratch\nCOPY Dockerfile /\n")
    sandbox.services("services: {app: {}}\n")

    first, second = (sandbox.build(force=True).raise_for_status().services["app"] for _ in range(2))

    assert (first.digest, first.index_digest) == (second.digest, None)
    assert second.steps.cached == second.steps.total == 1


def test_an_image_over_its_budget_is_recorded_and_the_run_exits_with_3(sandbox: Sandbox):
    sandbox.service("app", "FROM scratch\nCOPY big /\n", big="x" * 20_000)
    sandbox.services("services: {app: {size: {max: 10kB}, policy: {user: non-root, min_stages: 2}}}\n")

    done = sandbox.command("build-all")

    assert done.returncode == 3
    rules = [finding["rule"] for finding in sandbox.record["services"]["app"]["findings"]]
    assert rules == ["size", "user", "stages"]
    assert "COPY big /" in sandbox.record["services"]["app"]["findings"][0]["hint"]


def test_the_three_doors_give_equal_records_but_for_times_and_ids(sandbox: Sandbox):
    import anyio

    sandbox.service("app", "FROM scratch\nCOPY Dockerfile /\n")
    sandbox.service("other", "FROM scratch\nCOPY Dockerfile /\n")
    file = sandbox.services("services: {app: {}, other: {contexts: {app: service:app}}}\n")
    sandbox.build()

    def timeless(text: str) -> dict:
        record = json.loads(text)
        del record["run_id"], record["started_at"], record["duration_s"]
        for service in record["services"].values():
            del service["started_at"], service["finished_at"], service["duration_s"]
        return record

    by_sync = sandbox.build().to_json()
    on_disk = (sandbox.root / ".buildorch/run.json").read_text()
    by_async = anyio.run(buildorch.build_async, buildorch.BuildRequest(file=file)).to_json()
    by_trio = anyio.run(buildorch.build_async, buildorch.BuildRequest(file=file), backend="trio").to_json()
    by_command = sandbox.command("build-all", "--format", "json").stdout

    assert on_disk == by_sync
    assert timeless(by_sync) == timeless(by_async) == timeless(by_trio) == timeless(by_command)


def test_record_and_events_validate_against_their_published_schemas(sandbox: Sandbox):
    sandbox.service("app", f"FROM {BASE}\nRUN printf 'bad \\377 bytes\\n\\033[31mred\\n'\n")
    sandbox.service("bad", "FROM scratch\nCOPY missing /\n")
    sandbox.services("services: {app: {size: {max: 1kB}}, bad: {}}\n")

    done = sandbox.command("build-all", "--no-cache", "--progress", "json")

    schemas = REPOSITORY / "docs" / "schemas"
    jsonschema.validate(sandbox.record, json.loads((schemas / "run.schema.json").read_text()))
    validator = jsonschema.Draft202012Validator(json.loads((schemas / "events.schema.json").read_text()))
    events = [json.loads(line) for line in done.stderr.splitlines()]
    for event in events:
        validator.validate(event)
    assert {event["event"] for event in events} >= {
        "run_started", "solve_started", "step_started", "step_logged", "step_finished", "solve_finished",
        "service_finished", "run_finished",
    }  # fmt: skip


def test_what_a_build_prints_reaches_no_terminal_as_a_command(sandbox: Sandbox):
    sandbox.service("app", f"FROM {BASE}\nRUN printf 'a\\033]0;title\\007b \\377\\n'; exit 1\n")
    sandbox.services("services: {app: {}}\n")

    done = sandbox.command("build-all", "--progress", "plain", "--no-cache")

    assert "\x1b" not in done.stdout + done.stderr
    assert "a\u241b]0;title\u2407b" in done.stdout


def test_a_secrets_value_is_in_the_build_and_nowhere_else(sandbox: Sandbox, processes):
    sandbox.service(
        "app",
        f"FROM {BASE}\nRUN --mount=type=secret,id=token sha256sum /run/secrets/token | cut -c1-64 > /sum; sleep 1\n",
    )
    sandbox.services("services: {app: {secrets: [{id: token, env: THE_TOKEN}]}}\n")
    value = "s3cret-value-of-the-test"

    done = sandbox.command("build-all", "--no-cache", "--progress", "json", environ={"THE_TOKEN": value})

    assert done.returncode == 0, done.stderr
    reference = sandbox.record["services"]["app"]["reference"]
    assert sandbox.read_file(reference, "/sum").strip().decode() == hashlib.sha256(value.encode()).hexdigest()
    written = b"".join(path.read_bytes() for path in (sandbox.root / ".buildorch").rglob("*") if path.is_file())
    assert value.encode() not in written
    assert value not in done.stdout + done.stderr


def test_a_context_whose_name_starts_with_a_dash_is_a_context(sandbox: Sandbox):
    sandbox.write("-o=type=local,dest=stolen/Dockerfile", "FROM scratch\nCOPY Dockerfile /\n")
    sandbox.services("services: {app: {context: '-o=type=local,dest=stolen'}}\n")

    report = sandbox.build()

    assert report.exit_code == 0
    assert not Path(sandbox.root / "stolen").exists()


def test_a_dockerfile_outside_the_context_and_a_named_context_are_read(sandbox: Sandbox):
    sandbox.write("docker/app/Dockerfile", "FROM scratch\nCOPY data /data\nCOPY --from=shared word /word\n")
    sandbox.write("src/data", "data\n")
    sandbox.write("lib/word", "word\n")
    sandbox.services("services: {app: {context: src, dockerfile: ../docker/app/Dockerfile, contexts: {shared: lib}}}\n")

    report = sandbox.build().raise_for_status()

    assert sandbox.read_file(report.services["app"].reference, "/word") == b"word\n"


def test_a_timeout_stops_the_build_and_says_so(sandbox: Sandbox):
    sandbox.service("app", f"FROM {BASE}\nRUN echo {sandbox.name}; sleep 60\n")
    sandbox.services("services: {app: {timeout: 3s}}\n")

    report = sandbox.build()

    assert (report.exit_code, report.services["app"].error.kind) == (1, "timed_out")
    assert report.duration_s < 20


def test_a_base_that_cannot_be_had_is_named(sandbox: Sandbox):
    sandbox.service("app", "FROM no-such-image-of-anybodys:1\n")
    sandbox.services("services: {app: {retries: 0}}\n")

    report = sandbox.build()

    assert report.services["app"].error.kind in {"not_found", "registry", "auth"}
    assert "no-such-image-of-anybodys" in report.services["app"].error.message
