"""Manifests and blobs of one repository.

In: an `ImageReference`. Out: bytes, by digest. Touches the network; `put_manifest` and `delete_manifest` alone write
there.

What is asked for by its digest is checked against it. What a registry fails at for the moment (429, 5xx, a connection
that breaks, bytes that are not the digest's) is asked for again, with jitter, not before Retry-After and not for longer
than `patience_s`; a refusal (401, 403, 404 and the like), a host that is not there, or a bad certificate never is.

Source: OCI distribution specification v1.1 (pull), and the token flow of distribution/distribution `docs/spec/auth`.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import re
from contextlib import ExitStack
from dataclasses import field
from typing import TYPE_CHECKING, Literal
from urllib.parse import urlencode

from buildorch.errors import MalformedDocument, RegistryError
from buildorch.oci import INDEX_TYPES, MANIFEST_TYPES, MAX_DOCUMENT, ImageReference, is_digest, load_json
from buildorch.registry import waiting
from buildorch.registry.asking import ELSEWHERE, moved, request, scheme_of
from buildorch.registry.credentials import HUB, credentials
from buildorch.registry.waiting import PASSING, TIMEOUT_S, Answer, retry_after_s
from buildorch.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

CHUNK = 256 * 1024
MAX_TOKEN = 1024 * 1024
"""Bytes of a token server's answer that are read: of a longer one, what is read is no JSON."""
ACCEPT = ", ".join(sorted(INDEX_TYPES | MANIFEST_TYPES))
"""The kinds of manifests and indexes, for a registry that would make up another."""
_HINTS = {
    401: "log in with `docker login`",
    403: "log in with `docker login`",
    429: "it has had too many requests: log in with `docker login`, or try again later",
}
_DONE = {"PUT": 201, "DELETE": 202}
"""Method -> the status of success, where it is not 200."""
_CHALLENGE = re.compile(r'(\w+)="([^"]*)"')


@dataclass(slots=True)
class Repository:
    """One repository of a registry; remembers the token that the registry gave."""

    host: str
    name: str
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ)
    scheme: str = ""
    """`http` or `https`, where it is known; by the host otherwise."""
    timeout_s: float = TIMEOUT_S
    """How long the registry may stay silent, in seconds."""
    patience_s: float = field(default_factory=lambda: waiting.PATIENCE_S)
    """For how long a question is asked again where the registry fails for the moment, in seconds; 0 for never."""
    _authorization: str = ""
    _may_write: bool = False
    """Whether what it was given is good for writing."""

    @classmethod
    def of(cls, reference: ImageReference, environ: Mapping[str, str] = os.environ) -> Repository:
        """The repository a reference names; without a registry that is Docker Hub's."""
        if reference.registry and reference.registry != "docker.io":
            return cls(reference.registry, reference.repository, environ)
        name = reference.repository
        return cls(HUB, name if "/" in name else f"library/{name}", environ)

    def manifest(self, tag_or_digest: str) -> bytes:
        """A manifest's or index's bytes; those of the digest, where one was asked for.

        Raises:
            RegistryError: the registry cannot be reached, refuses, does not have it, or sends something else.
        """
        path = f"/v2/{self.name}/manifests/{tag_or_digest}"
        digest = tag_or_digest if is_digest(tag_or_digest) else ""
        return self._retried(lambda: _whole(self._checked(self._get(path, accept=ACCEPT), digest), path))

    def document(self, digest: str) -> bytes:
        """A blob that is small, such as a config, whole.

        Raises:
            RegistryError: as for `manifest`.
        """
        return self._retried(lambda: _whole(self.blob(digest), digest))

    def blob(self, digest: str) -> Iterator[bytes]:
        """A blob's bytes, in order, once: whoever has taken some must begin anew where it breaks off (`retried`).

        Raises:
            RegistryError: as for `manifest`; that it is something else is known, and told, at its end.
        """
        return self._checked(self._get(f"/v2/{self.name}/blobs/{digest}", accept="*/*"), digest)

    def require_blob(self, digest: str) -> None:
        """See that the repository has a blob.

        Raises:
            RegistryError: the registry cannot be reached, refuses, or does not have it.
        """

        def ask() -> None:
            with ExitStack() as opened:
                # The address a blob is sent to is often good for a GET alone. It has been found by then.
                self._answered(f"/v2/{self.name}/blobs/{digest}", opened, accept="*/*", method="HEAD", follow=False)

        self._retried(ask)

    def digest(self, tag: str, *, verify: bool = False) -> str:
        """The digest that a tag names now: of an index, or of the manifest of an image of one platform.

        Args:
            tag: the tag.
            verify: whether the manifest is fetched and its digest computed, rather than the registry's word taken.

        Raises:
            RegistryError: the registry cannot be reached, refuses, does not have it, or gives two digests for it.
        """
        return self._retried(lambda: self._digest(f"/v2/{self.name}/manifests/{tag}", verify=verify))

    def put_manifest(self, tag: str, data: bytes, *, media_type: str = "") -> None:
        """Let a tag name this manifest or index, whose blobs the repository has; its digest is that of the bytes.

        Args:
            tag: the tag.
            data: the document's bytes, as they came.
            media_type: its type; by default what the document says of itself, as a registry wants both to be equal.

        Raises:
            RegistryError: the registry cannot be reached, or refuses.
            MalformedDocument: the document is not JSON.
        """
        body = data, media_type or str(load_json(data, "image manifest or index").get("mediaType", ""))
        self._write(tag, method="PUT", body=body)

    def delete_manifest(self, digest: str) -> None:
        """Take a manifest or index out of the repository, with every tag that names it; its blobs are the registry's.

        Raises:
            RegistryError: the registry cannot be reached, does not have it, or refuses: many do not delete (405).
        """
        self._write(digest, method="DELETE")

    def _write(
        self, tag_or_digest: str, *, method: Literal["PUT", "DELETE"], body: tuple[bytes, str] | None = None
    ) -> None:
        def write() -> None:
            if not self._may_write:
                # Some answer a token for reading with 403, and tell where the right one is only if there is none.
                self._authorization = ""
            path = f"/v2/{self.name}/manifests/{tag_or_digest}"
            with ExitStack() as opened:
                self._answered(path, opened, accept="*/*", method=method, body=body)
            self._may_write = True

        self._retried(write)

    @property
    def url(self) -> str:
        """Scheme and host."""
        return f"{self.scheme or scheme_of(self.host)}://{self.host}"

    @property
    def authorization(self) -> str:
        """The Authorization header the registry has asked for so far; empty for none."""
        return self._authorization

    def login(self, challenge: str) -> None:
        """Take up what a WWW-Authenticate header of the registry asks for.

        Raises:
            RegistryError: it cannot be had.
        """

        def log_in() -> None:
            with ExitStack() as opened:
                self._authorization = self._answer(challenge, opened)

        self._retried(log_in)

    def _retried(self, ask: Callable[[], Answer]) -> Answer:
        return waiting.retried(ask, within_s=self.patience_s)

    def _digest(self, path: str, *, verify: bool) -> str:
        said = ""
        if not verify:
            with ExitStack() as opened:
                said = _said(self._answered(path, opened, accept=ACCEPT, method="HEAD"), self.host, path)
            if said:
                return said
        with ExitStack() as opened:
            response = self._answered(path, opened, accept=ACCEPT)
            said = _said(response, self.host, path)
            computed = f"sha256:{hashlib.sha256(b''.join(self._body(response, path))).hexdigest()}"
        if said and said != computed:
            raise RegistryError(f"{self.host} says that {path} is {said}, and sends {computed}", transient=True)
        return computed

    def _checked(self, chunks: Iterator[bytes], digest: str) -> Iterator[bytes]:
        """The same bytes, which must be those of `digest`; empty for any."""
        state = hashlib.sha256()
        for chunk in chunks:
            state.update(chunk)
            yield chunk
        if digest and (sent := f"sha256:{state.hexdigest()}") != digest:
            raise RegistryError(
                f"{self.host} was asked for {digest} and sent {sent}",
                hint="what it holds is damaged, or something between changes it",
                transient=True,
            )

    def _get(self, path: str, *, accept: str) -> Iterator[bytes]:
        with ExitStack() as opened:
            yield from self._body(self._answered(path, opened, accept=accept), path)

    def _answered(
        self,
        path: str,
        opened: ExitStack,
        *,
        accept: str,
        method: Literal["GET", "HEAD", "PUT", "DELETE"] = "GET",
        body: tuple[bytes, str] | None = None,
        follow: bool = True,
    ) -> http.client.HTTPResponse:
        """The head of the registry's answer, behind login and redirects; `opened` closes what it came over.

        `body` is what is sent, and its media type; without `follow` a redirect is an answer.
        """
        url = self.url + path
        data, media_type = body or (None, "")
        headers = {"Accept": accept} | ({"Content-Type": media_type} if body else {})
        if self._authorization:
            headers["Authorization"] = self._authorization
        response = self._request(url, headers, opened, method=method, body=data)
        if response.status == 401 and (challenge := response.getheader("WWW-Authenticate")):
            self._authorization = self._answer(challenge, opened)
            headers = {**headers, "Authorization": self._authorization}
            response = self._request(url, headers, opened, method=method, body=data)
        redirects = 0
        if not follow and response.status in ELSEWHERE:
            return response
        while method in {"GET", "HEAD"} and response.status in ELSEWHERE and redirects < 5:
            redirects += 1
            url = moved(url, response.getheader("Location") or "")
            # Blob stores refuse a second kind of authorization: the address itself holds it.
            response = self._request(url, {"Accept": accept}, opened, method=method)
        if response.status != _DONE.get(method, 200):
            raise RegistryError(
                f"{self.host} gave {response.status} for {path}",
                hint=_HINTS.get(response.status, "is it pushed there?" if response.status < 500 else "try again"),
                transient=response.status in PASSING,
                missing=response.status == 404,
                after_s=retry_after_s(response.getheader("Retry-After") or ""),
            )
        return response

    def _request(
        self, url: str, headers: Mapping[str, str], opened: ExitStack, *, method: str = "GET", body: bytes | None = None
    ) -> http.client.HTTPResponse:
        return request(url, headers, opened, method=method, body=body, timeout_s=self.timeout_s, environ=self.environ)

    def _body(self, response: http.client.HTTPResponse, path: str) -> Iterator[bytes]:
        try:
            while chunk := response.read(CHUNK):
                yield chunk
            if response.length:
                # http.client keeps quiet about a body that ends too early where it is read in pieces.
                raise http.client.IncompleteRead(b"", response.length)
        except (OSError, http.client.HTTPException) as error:
            raise RegistryError(f"{self.host} broke off on {path}: {error}", transient=True) from None

    def _answer(self, challenge: str, opened: ExitStack) -> str:
        """The Authorization header that a WWW-Authenticate challenge asks for."""
        basic = credentials(self.host, self.environ)
        if challenge.lower().startswith("basic"):
            if not basic:
                raise RegistryError(f"{self.host} wants a login", hint=f"docker login {self.host}")
            return f"Basic {basic}"
        wanted = dict(_CHALLENGE.findall(challenge))
        query = {key: wanted[key] for key in ("service", "scope") if key in wanted}
        headers = {"Authorization": f"Basic {basic}"} if basic else {}
        response = self._request(f"{wanted.get('realm', '')}?{urlencode(query)}", headers, opened)
        try:
            body = response.read(MAX_TOKEN)
        except (OSError, http.client.HTTPException) as error:
            raise RegistryError(f"{self.host} broke off on its token: {error}", transient=True) from None
        if response.status != 200:
            raise RegistryError(
                f"{self.host} gives no token: {response.status}",
                hint=f"docker login {self.host}",
                transient=response.status in PASSING,
                after_s=retry_after_s(response.getheader("Retry-After") or ""),
            )
        try:
            answer = json.loads(body)
        except ValueError:
            answer = None
        token = (answer.get("token") or answer.get("access_token")) if isinstance(answer, dict) else None
        if not isinstance(token, str):
            raise RegistryError(f"{self.host} gives a token that cannot be read")
        return f"Bearer {token}"


def _whole(chunks: Iterator[bytes], what: str) -> bytes:
    """A small document; a registry is foreign, so what it may make one keep is bounded."""
    data = bytearray()
    for chunk in chunks:
        data += chunk
        if len(data) > MAX_DOCUMENT:
            raise MalformedDocument("document", f"{what} is larger than {MAX_DOCUMENT} bytes")
    return bytes(data)


def _said(response: http.client.HTTPResponse, host: str, path: str) -> str:
    """The digest that the head of an answer names; empty where it names none.

    Raises:
        RegistryError: what was answered is no image that BuildKit can use: an old registry, or a web page.
    """
    kind = (response.getheader("Content-Type") or "").partition(";")[0].strip()
    if kind not in INDEX_TYPES | MANIFEST_TYPES:
        # distribution/distribution 2 makes a schema 1 manifest up for whoever does not accept what it holds.
        raise RegistryError(f"{host} gave {kind or 'no type'} for {path}, which is no image index and no manifest")
    said = response.getheader("Docker-Content-Digest") or ""
    return said if is_digest(said) else ""
