"""The projects that are measured: a services file and the bake file that says the same.

In: a folder. Out: a `Project`. Touches that folder.
"""

from __future__ import annotations

import json
import random
import shutil
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Project:
    """A folder with services.yaml and bake.json, and how many services they name."""

    root: Path
    name: str
    services: tuple[str, ...]
    images: tuple[str, ...]
    """What both tools call their images: bake has a tag of its own, else each run would take the other's name away."""


def three_services(root: Path) -> Project:
    """The repository's own three services."""
    names = ("backend", "frontend-web", "frontend-chatbot")
    text = (REPOSITORY / "services.yaml").read_text().replace('["{git_sha}", latest]', "[bench]")
    return _project(root, "tasks", names, services=text, copy=REPOSITORY / "services")


def small_services(root: Path, *, count: int, files: int, registry: str = "") -> Project:
    """Services that copy their own files onto nothing: what a builder itself costs, without any step's work."""
    chance = random.Random(20260101)  # noqa: S311 - the same files in every run
    names = tuple(f"service-{number:03}" for number in range(count))
    for name in names:
        folder = root / "services" / name
        folder.mkdir(parents=True)
        (folder / "Dockerfile").write_text("FROM scratch\nCOPY src /src\nUSER 1000\n")
        for number in range(files // count):
            file = folder / "src" / f"module_{number % 20:02}" / f"file_{number:04}.txt"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(chance.randbytes(chance.randrange(200, 3000)))
    entries = "".join(f"  {name}: {{}}\n" for name in names)
    defaults = f"{{tags: [bench], registry: {registry!r}}}"
    text = f"version: 1\nproject: bench\ndefaults: {defaults}\nservices:\n{entries}"
    return _project(root, f"{registry}/bench" if registry else "bench", names, services=text, copy=None)


def large_service(root: Path, *, files: int, bytes_each: int) -> Project:
    """One service with every rule on, whose image weighs as much as a deployed one."""
    chance = random.Random(20260101)  # noqa: S311 - the same files in every run
    folder = root / "services" / "large"
    for number in range(files):
        file = folder / "app" / f"module_{number % 100:02}" / f"file_{number:05}.bin"
        file.parent.mkdir(parents=True, exist_ok=True)
        # Half of it can be compressed, as programs can.
        file.write_bytes(chance.randbytes(bytes_each // 2) + bytes(bytes_each - bytes_each // 2))
    (folder / "Dockerfile").write_text(
        "FROM scratch AS files\nCOPY app /app\nFROM scratch\nCOPY --from=files /app /app\nUSER app\n"
        'HEALTHCHECK CMD ["/app/run"]\nCMD ["/app/run"]\n'
    )
    rules = ", ".join(f"{name}: warning" for name in ("pinned", "cache_mounts", "contents", "healthcheck", "exec_form"))
    policy = f"{{user: non-root, min_stages: 2, bases: [scratch], build_checks: warning, labels: [x], {rules}}}"
    service = f"{{tags: [bench], size: {{max: 1GB}}, policy: {policy}, secrets: [{{id: token, file: token}}]}}"
    root.joinpath("token").write_text("a value that is in no layer")
    text = f"version: 1\nproject: bench\nservices:\n  large: {service}\n"
    return _project(root, "bench", ("large",), services=text, copy=None)


def _project(root: Path, name: str, services_names: tuple[str, ...], *, services: str, copy: Path | None) -> Project:
    root.mkdir(parents=True, exist_ok=True)
    if copy:
        shutil.copytree(copy, root / "services", dirs_exist_ok=True, ignore=shutil.ignore_patterns("bases"))
    (root / "services.yaml").write_text(services)
    targets = {
        service: {
            "context": f"services/{service}",
            "tags": [f"{name}/{service}:bake"],
            "platforms": ["linux/amd64"],
            **({} if "/" in name else {"output": ["type=docker"]}),
        }
        for service in services_names
    }
    bake = {"group": {"default": {"targets": list(services_names)}}, "target": targets}
    (root / "bake.json").write_text(json.dumps(bake, indent=1))
    images = tuple(f"{name}/{service}:{tag}" for service in services_names for tag in ("bench", "bake"))
    return Project(root, name, services_names, images)
