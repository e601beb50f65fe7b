"""Keys of a service, and what `docker buildx bake --print` shows of each: written by hand, from bake's reference.

Used without bake, where it stands for what bake prints, and with it (tests/engine/test_interop.py).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from buildorch.buildx.argv import arguments
from buildorch.plan import Plan

ENVIRONMENT = {"SET_HERE": "from the environment", "bare": "x"}
"""What the rows with variables and secrets need. A secret of neither file nor variable is the variable of its id."""

ROWS: dict[str, tuple[str, dict[str, Any]]] = {
    "image": ("image: 'localhost:5000/x'", {"tags": ["localhost:5000/x:latest"]}),
    "registry": ("registry: 'localhost:5000'", {"tags": ["localhost:5000/shop/registry:latest"]}),
    "tags": ("tags: [a, '1.10']", {"tags": ["shop/tags:a", "shop/tags:1.10"]}),
    "context": ("context: 'other folder'", {"context": "other folder"}),
    "context above": ("context: ../above", {"context": "../above"}),
    "context itself": ("context: .", {"context": "."}),
    "context of a URL": (
        "context: 'https://example.com/x.git#main:sub'",
        {"context": "https://example.com/x.git#main:sub"},
    ),
    "dockerfile": ("dockerfile: docker/App.Dockerfile", {"dockerfile": "docker/App.Dockerfile"}),
    "dockerfile elsewhere": ("dockerfile: ../docker/App.Dockerfile", {"dockerfile": "../docker/App.Dockerfile"}),
    "target": ("target: final", {"target": "final"}),
    "args": ("args: {V: 1.10, W: 'a b'}", {"args": {"V": "1.10", "W": "a b"}}),
    "args that look like templates": ("args: {V: 'a$${b}%{c}$$$${d}'}", {"args": {"V": "a$${b}%%{c}$$${d}"}}),
    "args that are empty": ("args: {V: ''}", {"args": {"V": ""}}),
    "args of the environment": ("args: {SET_HERE: }", {"args": {"SET_HERE": "from the environment"}}),
    "args that are not set": ("args: {NOT_SET_ANYWHERE: }", {}),
    "contexts": ("contexts: {lib: lib}", {"contexts": {"lib": "lib"}}),
    "contexts of an image": ("contexts: {os: 'docker-image://debian'}", {"contexts": {"os": "docker-image://debian"}}),
    "contexts of a URL": (
        "contexts: {git: 'https://example.com/x.git'}",
        {"contexts": {"git": "https://example.com/x.git"}},
    ),
    "contexts of a service": ("contexts: {base: 'service:image'}", {"contexts": {"base": "target:image"}}),
    "secrets of a file": ("secrets: [{id: a, file: key.pem}]", {"secret": [{"id": "a", "src": "key.pem"}]}),
    "secrets of the environment": ("secrets: [{id: a, env: TOKEN}]", {"secret": [{"id": "a", "env": "TOKEN"}]}),
    "secrets by their id": ("secrets: [{id: bare}]", {"secret": [{"id": "bare"}]}),
    "ssh": ("ssh: [default]", {"ssh": [{"id": "default"}]}),
    "ssh of a socket": ("ssh: ['k=agent.sock']", {"ssh": [{"id": "k", "paths": ["agent.sock"]}]}),
    "cache_from": ("cache_from: ['type=registry,ref=c']", {"cache-from": [{"type": "registry", "ref": "c"}]}),
    "cache_from, several": (
        "cache_from: ['type=local,src=cache', 'type=gha,scope=s']",
        {"cache-from": [{"type": "local", "src": "cache"}, {"type": "gha", "scope": "s"}]},
    ),
    "cache_to": ("cache_to: ['type=inline']", {"cache-to": [{"type": "inline"}]}),
    "cache_to with options": (
        "cache_to: ['type=registry,ref=c,compression=zstd,mode=max']",
        {"cache-to": [{"type": "registry", "ref": "c", "compression": "zstd", "mode": "max"}]},
    ),
    "labels": ("labels: {a.b: 'c d'}", {"labels": {"a.b": "c d"}}),
    "labels that look like templates": ("labels: {e: '', t: '$${x}'}", {"labels": {"e": "", "t": "$${x}"}}),
    "annotations": ("annotations: {a: b}", {"annotations": ["a=b"]}),
    "annotations of the index": ("annotations: {'index:a': 'b=c', d: e}", {"annotations": ["index:a=b=c", "d=e"]}),
    "platforms": ("platforms: [linux/amd64]", {"platforms": ["linux/amd64"]}),
    "platforms, several": ("platforms: [linux/amd64, linux/arm/v7]", {"platforms": ["linux/amd64", "linux/arm/v7"]}),
    "outputs": ("outputs: ['type=local,dest=out']", {"output": [{"type": "local", "dest": "out"}]}),
    "outputs with commas": (
        "outputs: ['type=image,\"name=a,b\",push=true']",
        {"output": [{"type": "image", "name": "a,b", "push": "true"}]},
    ),
    "outputs, several": (
        "outputs: ['type=oci,dest=x.tar', 'type=registry']",
        {"output": [{"type": "oci", "dest": "x.tar"}, {"type": "registry"}]},
    ),
    "network": ("network: none", {"network": "none"}),
    "network of the host": ("network: host", {"network": "host", "entitlements": ["network.host"]}),
    "no_cache_filter": ("no_cache_filter: [deps, build]", {"no-cache-filter": ["deps", "build"]}),
    "provenance": ("attestations: {provenance: max}", {"attest": [{"type": "provenance", "mode": "max"}]}),
    "provenance, less of it": ("attestations: {provenance: min}", {"attest": [{"type": "provenance", "mode": "min"}]}),
    "sbom": ("attestations: {sbom: true}", {"attest": [{"type": "provenance", "disabled": True}, {"type": "sbom"}]}),
    "sbom of a generator": (
        "buildx: ['--sbom=generator=g']",
        {"attest": [{"type": "provenance", "disabled": True}, {"type": "sbom", "generator": "g"}]},
    ),
    "shm-size": ("buildx: [--shm-size=128m]", {"shm-size": "128m"}),
    "ulimits": ("buildx: ['--ulimit=nofile=1:2', '--ulimit=nproc=3']", {"ulimits": ["nofile=1:2", "nproc=3"]}),
    "extra-hosts": ("buildx: ['--add-host=h=1.2.3.4']", {"extra-hosts": {"h": "1.2.3.4"}}),
    "extra-hosts, several": (
        "buildx: ['--add-host=h=1.2.3.4', '--add-host=h=5.6.7.8', '--add-host=g=::1']",
        {"extra-hosts": {"h": "1.2.3.4,5.6.7.8", "g": "::1"}},
    ),
    "entitlements": ("buildx: [--allow=security.insecure]", {"entitlements": ["security.insecure"]}),
    "pull": ("buildx: [--pull]", {"pull": True}),
    "no-cache": ("buildx: [--no-cache]", {"no-cache": True}),
    "network of another name": ("buildx: [--network=sandbox]", {"network": "sandbox"}),
}
"""A name -> a service's keys, and its target's attributes as bake prints them."""

NAMES = {row: row.lower().replace(" ", "-").replace(",", "") for row in ROWS}
"""Row -> its service and target."""

SERVICES_FILE = "version: 1\nproject: shop\nservices:\n" + "".join(
    f"  {NAMES[row]}: {{{keys if 'context:' in keys else f'context: app, {keys}'}}}\n"
    for row, (keys, _) in ROWS.items()
)


def printed() -> dict[str, dict[str, Any]]:
    """Target -> all of its attributes, as bake prints them."""
    return {
        NAMES[row]: {
            "context": "app",
            "dockerfile": "Dockerfile",
            "tags": [f"shop/{NAMES[row]}:latest"],
            "output": [{"type": "docker"}],
            "attest": [{"type": "provenance", "disabled": True}],
            **attributes,
        }
        for row, (_, attributes) in ROWS.items()
    }


def make_project(folder: Path) -> Path:
    """The services file with every folder and file that its rows name; gives its path."""
    project = folder / "project"
    for path in ("project/app", "project/other folder", "above", "project/lib"):
        (folder / path / "docker").mkdir(parents=True)
        (folder / path / "Dockerfile").write_text("FROM scratch\n")
        (folder / path / "docker" / "App.Dockerfile").write_text("FROM scratch\n")
    (project / "docker").mkdir()
    (project / "docker" / "App.Dockerfile").write_text("FROM scratch\n")
    (project / "Dockerfile").write_text("FROM scratch\n")
    (project / "key.pem").write_text("secret")
    (project / "services.yaml").write_text(SERVICES_FILE)
    return project / "services.yaml"


def argv_of(plan: Plan) -> dict[str, set[str]]:
    """Service -> the arguments it is built with."""
    return {
        solve.name: set(
            arguments(
                solve,
                metadata_file=Path("m"),
                aliases={folder.path: folder.path for folder in solve.folders},
                bases=solve.bases,
            )
        )
        for solve in plan.solves
    }
