"""What a build of a project's services should give, asked of BuildKit and of nothing in buildorch.

Each folder goes under a name that was never used, so that BuildKit has no mirror of it; nothing comes from its cache; times
are set to zero. Two such builds of one state give one digest: that is the judge of the proof, and is itself tested.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import re
import shutil
import subprocess
import tarfile
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from buildorch.buildx.client import find_buildx

MANIFESTS = ", ".join(
    f"application/vnd.{kind}+json"
    for kind in (
        "oci.image.index.v1",
        "oci.image.manifest.v1",
        "docker.distribution.manifest.list.v2",
        "docker.distribution.manifest.v2",
    )
)


@dataclass(frozen=True)
class Verdict:
    """What one service's build gave: a digest, or why it gave nothing."""

    digest: str
    layout: Path | None
    error: str = ""


class Oracle:
    """Builds the services of a project as its services file says, each time from nothing."""

    def __init__(self, work: Path, registry: str) -> None:
        self.work = work
        self.registry = registry
        self.builds = 0
        work.mkdir(parents=True, exist_ok=True)

    def judge(self, root: Path, *services: str) -> dict[str, Verdict]:
        """Service -> what it gives now, for these and what they build on; call `forget` when done with the layouts."""
        found: dict[str, Verdict] = {}
        said = json.loads((root / "services.yaml").read_text())["services"]
        for name in services:
            self._judge(root, name, said, found)
        return found

    def digests(self, root: Path, *services: str) -> dict[str, str]:
        """Service -> the digest it gives now; an error's text where it gives none."""
        found = self.judge(root, *services)
        self.forget(found)
        return {name: verdict.digest or f"failed: {verdict.error}" for name, verdict in found.items()}

    def forget(self, found: Mapping[str, Verdict]) -> None:
        """Remove the layouts."""
        for verdict in found.values():
            if verdict.layout is not None:
                shutil.rmtree(verdict.layout, ignore_errors=True)

    def _judge(self, root: Path, name: str, said: Mapping[str, Any], found: dict[str, Verdict]) -> None:
        if name in found:
            return
        for value in said[name].get("contexts", {}).values():
            if value.startswith("service:"):
                self._judge(root, value.removeprefix("service:"), said, found)
        lost = [one for one in found.values() if not one.digest]
        found[name] = lost[0] if lost else self._build(root, name, said[name], found)

    def _build(self, root: Path, name: str, spec: Mapping[str, Any], found: Mapping[str, Verdict]) -> Verdict:
        self.builds += 1
        layout, links = self.work / f"oci-{uuid.uuid4().hex}", self.work / f"links-{uuid.uuid4().hex}"
        links.mkdir()
        try:
            # The plugin itself: the docker client in front of it costs a process of 0.1 s of CPU.
            command = [*find_buildx().command, "build", *self._flags(root, name, spec, found, links)]
            command.insert(-1, f"--output=type=oci,dest={layout},tar=false,rewrite-timestamp=true")
            done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
        finally:
            shutil.rmtree(links)
        if done.returncode:
            return Verdict("", None, done.stderr.strip()[-300:])
        (descriptor,) = json.loads((layout / "index.json").read_text())["manifests"]
        return Verdict(descriptor["digest"], layout)

    def _flags(
        self, root: Path, name: str, spec: Mapping[str, Any], found: Mapping[str, Verdict], links: Path
    ) -> Iterator[str]:
        context = root / spec.get("context", f"services/{name}")
        dockerfile = Path(os.path.normpath(context / spec.get("dockerfile", "Dockerfile")))
        yield from ("--no-cache", "--provenance=false", "--build-arg=SOURCE_DATE_EPOCH=0")
        folder = _fresh(links, context)
        beside = folder if dockerfile.parent == context else _fresh(links, dockerfile.parent)
        yield f"--file={beside / dockerfile.name}"
        yield from (f"--build-arg={key}={value}" for key, value in spec.get("args", {}).items())
        yield from (f"--label={key}={value}" for key, value in spec.get("labels", {}).items())
        yield from (f"--annotation={key}={value}" for key, value in spec.get("annotations", {}).items())
        yield from (f"--{key}={spec[key]}" for key in ("target", "network") if key in spec)
        if platforms := spec.get("platforms"):
            yield f"--platform={','.join(platforms)}"
        for key, value in spec.get("contexts", {}).items():
            if value.startswith("service:"):
                base = found[value.removeprefix("service:")]
                yield f"--build-context={key}=oci-layout://{base.layout}@{base.digest}"
            else:
                yield f"--build-context={key}={_fresh(links, root / value)}"
        for reference in sorted(set(re.findall(rf"{re.escape(self.registry)}/\S+", dockerfile.read_text()))):
            repository, _, tag = reference.partition("/")[2].rpartition(":")
            pinned = f"{reference}@{resolved(self.registry, repository, tag)}"
            yield f"--build-context={reference}=docker-image://{pinned}"
        yield str(folder)


def _fresh(links: Path, folder: Path) -> Path:
    """A link to a folder, of a name that nothing ever had."""
    link = links / uuid.uuid4().hex
    link.symlink_to(folder, target_is_directory=True)
    return link


def resolved(registry: str, repository: str, tag: str) -> str:
    """The digest that a tag has in a registry.

    Asked again after a 500: docker-registry does not write a tag's file in one piece, and may read it half written
    ("invalid checksum digest format").
    """
    for attempt in range(5):
        connection = http.client.HTTPConnection(registry, timeout=30)
        try:
            connection.request("HEAD", f"/v2/{repository}/manifests/{tag}", headers={"Accept": MANIFESTS})
            answer = connection.getresponse()
            if answer.status == 200:
                return answer.headers["Docker-Content-Digest"]
            assert answer.status == 500, f"{repository}:{tag}: {answer.status}"
        finally:
            connection.close()
        time.sleep(0.1 * 2**attempt)
    raise AssertionError(f"{repository}:{tag}: 500 five times")


def held(layout: Path, digest: str) -> dict[str, str]:
    """What an image in an OCI layout holds, without times: its config's part, and each path with type, mode and contents."""
    blob = layout / "blobs" / "sha256"
    document = json.loads((blob / digest.removeprefix("sha256:")).read_text())
    if "manifests" in document:
        (one,) = [each for each in document["manifests"] if each["platform"]["os"] != "unknown"]
        return held(layout, one["digest"])
    config = json.loads((blob / document["config"]["digest"].removeprefix("sha256:")).read_text())
    found = {"": json.dumps([config.get("config"), config["architecture"], config["os"]], sort_keys=True)}
    for layer in document["layers"]:
        _unpack(blob / layer["digest"].removeprefix("sha256:"), found)
    return found


def _unpack(file: Path, found: dict[str, str]) -> None:
    with tarfile.open(file) as archive:
        for member in archive:
            folder, _, last = f"/{member.name.strip('/')}".rpartition("/")
            if last.startswith(".wh."):
                gone = f"{folder}/{last.removeprefix('.wh.')}"
                for path in [path for path in found if path == gone or path.startswith(f"{gone}/")]:
                    del found[path]
                continue
            if member.islnk():
                # A second name of one file reads as a copy of it does. Which of them a layer has may be an older build's
                # word: BuildKit's cache goes by the bytes.
                found[f"{folder}/{last}"] = found[f"/{member.linkname.strip('/')}"]
                continue
            held_file = archive.extractfile(member) if member.isreg() else None
            data = hashlib.sha256(held_file.read()).hexdigest() if held_file else member.linkname
            capability = member.pax_headers.get("SCHILY.xattr.security.capability", "").encode().hex()
            owner = f"{member.uid}:{member.gid}"
            found[f"{folder}/{last}"] = f"{member.type!r} {member.mode:04o} {owner} {capability} {data}"
