"""The registry that is an engine's mirror of the hub, as far as the stand-ins need it.

The requests are those of https://github.com/opencontainers/distribution-spec/blob/main/spec.md.
"""

from __future__ import annotations

import contextlib
import http
import http.client
import json
from typing import Any

from .places import EngineError

MANIFEST_TYPES = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)


class Mirror:
    """One registry, at `address` (host:port), without TLS: it is on a loopback address."""

    def __init__(self, address: str) -> None:
        self.address = address

    def _ask(
        self, method: str, path: str, *, body: bytes | None = None, content_type: str = ""
    ) -> tuple[http.client.HTTPResponse, bytes]:
        headers = {"Accept": ", ".join(MANIFEST_TYPES)}
        if content_type:
            headers["Content-Type"] = content_type
        connection = http.client.HTTPConnection(self.address, timeout=10)
        with contextlib.closing(connection):
            connection.request(method, path, body=body, headers=headers)
            response = connection.getresponse()
            return response, response.read()

    def answers(self) -> bool:
        """Whether a registry answers there."""
        try:
            return self._ask("GET", "/v2/")[0].status == http.HTTPStatus.OK
        except (OSError, http.client.HTTPException):
            return False

    def digest(self, repository: str, tag: str) -> str:
        """The digest a tag points to; empty when there is no such tag."""
        response, _ = self._ask("HEAD", f"/v2/{repository}/manifests/{tag}")
        return response.headers.get("Docker-Content-Digest", "") if response.status == http.HTTPStatus.OK else ""

    def tags(self, repository: str) -> list[str]:
        """The tags of a repository."""
        response, body = self._ask("GET", f"/v2/{repository}/tags/list")
        return list(json.loads(body)["tags"] or ()) if response.status == http.HTTPStatus.OK else []

    def tag(self, repository: str, old: str, new: str) -> None:
        """Give what has the tag `old` the tag `new` too."""
        got, manifest = self._ask("GET", f"/v2/{repository}/manifests/{old}")
        put, answer = self._ask(
            "PUT",
            f"/v2/{repository}/manifests/{new}",
            body=manifest,
            content_type=got.headers.get("Content-Type", ""),
        )
        if put.status != http.HTTPStatus.CREATED:
            raise EngineError(f"{self.address} did not take {repository}:{new}: {answer.decode('utf-8', 'replace')}")

    def labels(self, repository: str, digest: str) -> dict[str, str]:
        """The labels of an image; of an index, those of its first image."""
        document = self._json(f"/v2/{repository}/manifests/{digest}")
        if "manifests" in document:
            return self.labels(repository, document["manifests"][0]["digest"])
        image_config = self._json(f"/v2/{repository}/blobs/{document['config']['digest']}")
        return image_config.get("config", {}).get("Labels") or {}

    def _json(self, path: str) -> dict[str, Any]:
        response, body = self._ask("GET", path)
        if response.status != http.HTTPStatus.OK:
            raise EngineError(f"{self.address}{path} answers {response.status}")
        document: dict[str, Any] = json.loads(body)
        return document

    def delete(self, repository: str, digest: str) -> None:
        """Delete a manifest and every tag that points to it."""
        self._ask("DELETE", f"/v2/{repository}/manifests/{digest}")
