"""`images` and `resolve`: which records are handed over, what registries must hold, and where it is written."""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from fakes import FakeRegistry, make_image

import buildorch
from buildorch.cli import main
from buildorch.errors import HandoffRefused
from buildorch.ledger import Ledger
from buildorch.record import Report, ServiceRecord
from buildorch.testing import make_digest, make_failure, make_record

IMAGE = make_image()


@dataclass
class Said:
    """What a command wrote, and its exit code."""

    code: int
    out: str
    err: str


@pytest.fixture
def called(capsysbinary: pytest.CaptureFixture[bytes]) -> Callable[..., Said]:
    """The command in this process."""

    def call(*arguments: str) -> Said:
        code = main(arguments)
        captured = capsysbinary.readouterr()
        assert b"Traceback" not in captured.err
        return Said(code, captured.out.decode(), captured.err.decode())

    return call


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, registry: FakeRegistry) -> Path:
    """A project of three services whose registry is the fake one, and the current folder."""
    registry.image, registry.keeps = IMAGE, True
    (tmp_path / "services.yaml").write_text(
        f"version: 1\nproject: shop\ndefaults: {{registry: '{registry.host}', context: .}}\n"
        "services:\n  api:\n  web:\n  docs: {outputs: ['type=local,dest=out']}\n"
    )
    (tmp_path / "Dockerfile").write_text("FROM scratch\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def made(name: str, host: str, **fields: Any) -> ServiceRecord:
    """A record of the image that the fake registry holds."""
    record = make_record(digest=IMAGE.digest)
    facts = replace(
        record.platforms["linux/amd64"], manifest_digest=IMAGE.manifest_digest, config_digest=IMAGE.config_digest
    )
    reference = f"{host}/shop/{name}:v1"
    given = {"reference": reference, "references": (reference,), "platforms": {"linux/amd64": facts}, **fields}
    return replace(record, **given)


def write(root: Path, run_id: str, started_at: str = "2026-01-02T10:00:00Z", /, **records: ServiceRecord) -> None:
    """A run in the ledger."""
    with Ledger(root / ".buildorch" / "ledger.db") as ledger:
        ledger.begin(run_id, project="shop", started_at=started_at)
        ledger.commit_all(run_id, records)


def good(root: Path, registry: FakeRegistry) -> None:
    """Every service's last run was good."""
    names = ("api", "web")
    docs = replace(make_record(), reference=f"{registry.host}/shop/docs:v1")
    write(root, "r1", **{name: made(name, registry.host) for name in names}, docs=docs)


FAILED = make_record("failed", error=make_failure())


# --- which images


def test_the_last_good_images_are_printed_once_the_registry_says_it_holds_them(root: Path, registry, called):
    good(root, registry)

    said = called("images")

    assert said == Said(
        0, "".join(f"{name} {registry.host}/shop/{name}@{IMAGE.digest}\n" for name in ("api", "web")), ""
    )
    assert {path for path, _ in registry.asked} == {
        *(f"/v2/shop/{name}/manifests/v1" for name in ("api", "web")),
        *(f"/v2/shop/{name}/blobs/{IMAGE.config_digest}" for name in ("api", "web")),
    }


def test_an_image_that_the_registry_does_not_hold_is_handed_over_to_nobody(root: Path, registry, called):
    good(root, registry)
    registry.image = make_image(layers=(b"another",))

    said = called("images", "web", "-o", "images.txt")

    assert (said.code, said.out) == (1, "")
    assert f"error: web: its registry does not hold {registry.host}/shop/web@{IMAGE.digest}" in said.err
    assert "hint: push it, or pass --local" in said.err
    assert not Path("images.txt").exists()


def test_a_name_that_moved_on_does_not_matter_while_the_digest_is_there(root: Path, registry, called):
    good(root, registry)
    registry.tags = {"v1": make_digest("another")}

    assert called("images").code == 0


def test_a_registry_that_does_not_answer_exits_with_4(root: Path, registry, called):
    good(root, registry)
    registry.status = 500

    said = called("images")

    assert (said.code, said.out) == (4, "")
    assert "cannot be told" in said.err


def test_on_local_no_registry_is_asked(root: Path, registry, called):
    good(root, registry)
    registry.status = 500

    assert called("images", "--local", "--format", "env").out.startswith(f"API_IMAGE={registry.host}/shop/api@")
    assert registry.asked == []


def test_all_that_is_wrong_is_told_in_one_go_and_no_registry_hides_it(root: Path, registry, called):
    good(root, registry)
    write(root, "r2", api=FAILED)
    registry.status = 500

    said = called("images")

    assert said.code == 1
    assert "error: api: its last build is failed: made up: step_failed\n" in said.err
    assert "error: web: whether its registry holds" in said.err


def test_after_a_failed_build_the_last_good_image_is_handed_over_only_on_request(root: Path, registry, called):
    good(root, registry)
    write(root, "r2", web=FAILED)

    assert called("images", "web").code == 1
    assert called("images", "web", "--last-good").out == f"web {registry.host}/shop/web@{IMAGE.digest}\n"


def test_a_service_without_any_good_image_is_refused_on_last_good_too(root: Path, registry, called):
    write(root, "r1", web=FAILED)

    said = called("images", "web", "--last-good")

    assert (said.code, said.out) == (1, "")
    assert "error: web: its last build is failed" in said.err


def test_a_service_that_leaves_no_image_is_left_out_unless_it_is_named(root: Path, registry, called):
    good(root, registry)

    assert "docs" not in called("images").out
    said = called("images", "docs")
    assert (said.code, said.err) == (
        1,
        "error: docs: its build leaves no image\nhint: name the services that have one\n",
    )


def test_a_service_of_another_registry_than_the_services_file_says_is_refused(root: Path, registry, called):
    good(root, registry)

    said = called("images", "web", "--set", "*.registry=other.example")

    assert said.code == 1
    assert f"its last image is {registry.host}/shop/web, and the services file says other.example/shop/web" in said.err


def test_a_record_that_is_too_old_is_refused(root: Path, registry, called):
    good(root, registry)

    said = called("images", "web", "--max-age", "2h")

    assert said.code == 1
    assert "error: web: its record is" in said.err
    assert called("images", "web", "--max-age", "soon").code == 2


def test_an_unknown_service_and_a_missing_ledger_are_usage_errors(root: Path, registry, called):
    missing = called("images")
    good(root, registry)
    unknown = called("images", "wbe")

    assert missing.code == unknown.code == 2
    assert "there is no ledger at" in missing.err
    assert "--record FILE" in missing.err
    assert "did you mean 'web'?" in unknown.err


# --- from a run's record


def run_of(**services: ServiceRecord) -> Report:
    return Report(
        run_id="r", project="shop", started_at="2026-01-02T10:00:00Z", duration_s=1.0, exit_code=0, jobs=1, git=None,
        engine=None, services=services,
    )  # fmt: skip


def test_a_runs_record_is_enough_where_there_is_no_services_file(root: Path, registry, called):
    Path("services.yaml").unlink()
    report = run_of(web=made("web", registry.host))
    Path("run.json").write_text(report.to_json())

    assert called("images", "--record", "run.json").out == f"web {registry.host}/shop/web@{IMAGE.digest}\n"
    assert buildorch.images(record=report) == buildorch.images(record="run.json")


def test_from_python_a_refusal_names_every_service(root: Path, registry):
    report = run_of(web=FAILED, api=make_record("blocked"))

    with pytest.raises(HandoffRefused) as caught:
        buildorch.images(record=report)

    assert list(caught.value.facts) == ["web", "api"]
    assert caught.value.exit_code == 1


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"services": {"a": 1}, "started_at": ""}', '{"services": []}', "[" * 100_000],
)
def test_a_file_that_is_no_run_record_is_one_clear_error(root: Path, called, text: str):
    Path("run.json").write_text(text)

    said = called("images", "--record", "run.json")

    assert (said.code, said.out) == (2, "")
    assert "error: run.json" in said.err


def test_a_record_with_strange_values_is_refused_before_anybody_is_asked(root: Path, registry, called):
    sound = json.loads(run_of(web=made("web", registry.host)).to_json())
    for field, value in {"digest": 7, "reference": ["x"], "status": None, "platforms": {"x": {}}}.items():
        Path("run.json").write_text(
            json.dumps({**sound, "services": {"web": {**sound["services"]["web"], field: value}}})
        )
        assert called("images", "--record", "run.json").code == 2
    assert registry.asked == []


def test_options_of_the_ledger_do_not_go_with_a_record(root: Path, called):
    assert called("images", "--record", "run.json", "--last-good").code == 2


# --- where it is written


def test_a_workflow_gets_its_outputs_behind_those_it_has(root: Path, registry, called, monkeypatch: pytest.MonkeyPatch):
    good(root, registry)
    Path("outputs").write_text("before=1\n")
    monkeypatch.setenv("GITHUB_OUTPUT", "outputs")

    said = called("images", "web", "--format", "github")

    assert said == Said(0, "", "")
    assert Path("outputs").read_text().startswith("before=1\nweb_image<<buildorch_end\n")


def test_outside_of_a_workflow_the_github_format_says_so(root: Path, registry, called, monkeypatch: pytest.MonkeyPatch):
    good(root, registry)
    monkeypatch.delenv("GITHUB_OUTPUT", raising=False)

    said = called("images", "--format", "github")

    assert said.code == 2
    assert "GITHUB_OUTPUT is not set" in said.err
    assert called("images", "web", "--format", "github", "-o", "outputs").code == 0
    assert Path("outputs").read_text().startswith("web_image<<")


@pytest.mark.parametrize("target", ["none/there.txt", "folder", "pipe"])
def test_what_cannot_be_written_is_a_usage_error(root: Path, registry, called, target: str):
    good(root, registry)
    Path("folder").mkdir()
    os.mkfifo("pipe")

    assert called("images", "--output", target).code == 2


# --- resolve

POD = "# shop/api\nkind: Pod\nspec:\n  containers:\n  - image: 'shop/web:1'\n  - image: postgres:16\n"


def resolved(host: str) -> str:
    return POD.replace("shop/web:1", f"{host}/shop/web@{IMAGE.digest}")


def test_yaml_goes_from_stdin_to_stdout_with_digests(root: Path, registry, called, monkeypatch: pytest.MonkeyPatch):
    good(root, registry)
    text = POD.replace("\n", "\r\n")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))

    said = called("resolve", "-")

    assert said == Said(0, resolved(registry.host).replace("\n", "\r\n"), "-: 1 image resolved\n")


def test_only_services_that_stand_in_the_yaml_must_be_good(root: Path, registry, called):
    good(root, registry)
    write(root, "r2", api=FAILED)
    Path("k8s.yaml").write_text(POD)

    assert called("resolve", "k8s.yaml").code == 0


def test_in_place_keeps_link_and_mode_and_check_says_what_would_change(root: Path, registry, called):
    good(root, registry)
    Path("real.yaml").write_text(POD)
    Path("real.yaml").chmod(0o600)
    Path("k8s.yaml").symlink_to("real.yaml")

    before = called("resolve", "--check", "k8s.yaml")
    first = called("resolve", "-i", "k8s.yaml")
    again = called("resolve", "-i", "k8s.yaml")
    after = called("resolve", "--check", "k8s.yaml")

    assert [said.code for said in (before, first, again, after)] == [1, 0, 0, 0]
    assert before.err.startswith(f"k8s.yaml:5: shop/web:1 is not {registry.host}/shop/web@{IMAGE.digest}\n")
    assert (before.out, first.err, again.err) == ("", "k8s.yaml: 1 image resolved\n", "k8s.yaml: up to date: web\n")
    assert Path("real.yaml").read_text() == resolved(registry.host)
    assert Path("k8s.yaml").is_symlink()
    assert Path("real.yaml").stat().st_mode & 0o777 == 0o600


def test_a_digest_that_the_registry_does_not_hold_changes_no_file(root: Path, registry, called):
    good(root, registry)
    registry.image = None
    for name in ("a.yaml", "b.yaml"):
        Path(name).write_text(POD)

    said = called("resolve", "-i", "a.yaml", "b.yaml")

    assert said.code == 1
    assert "does not hold" in said.err
    assert Path("a.yaml").read_text() == Path("b.yaml").read_text() == POD


def test_one_file_that_is_not_yaml_leaves_all_as_they_are(root: Path, registry, called):
    good(root, registry)
    Path("a.yaml").write_text(POD)
    Path("b.yaml").write_text("kind: Pod\nspec: {containers: [{image: {{ .Values.web }}}]}\n")

    said = called("resolve", "-i", "a.yaml", "b.yaml")

    assert (said.code, Path("a.yaml").read_text()) == (2, POD)
    assert said.err.startswith("error: b.yaml:2:29: this image is a template's\nhint: is it a template?")


def test_several_files_become_one_stream_and_one_without_images_is_named(root: Path, registry, called):
    good(root, registry)
    Path("a.yaml").write_text(POD)
    Path("b\x1b.yaml").write_text("kind: Service\n")

    said = called("resolve", "a.yaml", "b\x1b.yaml", "-o", "all.yaml")

    assert Path("all.yaml").read_text() == f"{resolved(registry.host)}---\nkind: Service\n"
    assert said.err.splitlines()[1].endswith(".yaml: no image of a service stands in it")
    assert "\x1b" not in said.err


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["-i", "-"], "stdin is read once"),
        (["-", "-"], "stdin is read once"),
        (["-i", "--check", "a.yaml"], "exclude each other"),
        (["missing.yaml"], "missing.yaml cannot be read: No such file"),
        (["."], ". cannot be read: Is a directory"),
        (["latin.yaml"], "latin.yaml:2: this is not UTF-8 text"),
    ],
)
def test_a_request_that_cannot_be_carried_out_is_one_clear_error(root: Path, registry, called, arguments, error: str):
    good(root, registry)
    Path("latin.yaml").write_bytes(b"a: 1\nb: \xff\n")

    said = called("resolve", *arguments)

    assert (said.code, said.out) == (2, "")
    assert f"error: {error}" in said.err or error in said.err


def test_a_file_that_is_too_large_is_refused(root: Path, registry, called, monkeypatch: pytest.MonkeyPatch):
    good(root, registry)
    monkeypatch.setattr("buildorch.cli.handing_over.MAX_BYTES", 1024**2)
    Path("k8s.yaml").write_text("#" * (1024**2 + 1))

    said = called("resolve", "k8s.yaml")

    assert (said.code, said.err) == (2, "error: k8s.yaml is larger than 1 MiB\nhint: resolve it in parts\n")
