"""An OCI registry over HTTP: manifests and blobs of one repository.

In: an `ImageReference`. Out: bytes, by digest. Touches: the network (`put_manifest` alone writes there), docker's
configuration for credentials, and a credential helper's process where docker is set up with one.

Source: OCI distribution specification v1.1 (pull), and the token flow of distribution/distribution `docs/spec/auth`.
"""

from __future__ import annotations

import base64
import hashlib
import http.client
import ipaddress
import json
import os
import re
import subprocess
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlencode, urljoin, urlsplit

from buildorch.errors import RegistryError
from buildorch.oci import INDEX_TYPES, MANIFEST_TYPES, ImageReference, is_digest, load_json

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

TIMEOUT_S = 30.0
CHUNK = 256 * 1024
HUB = "registry-1.docker.io"
ACCEPT = ", ".join(sorted(INDEX_TYPES | MANIFEST_TYPES))
"""The kinds of manifests and indexes, for a registry that would make up another."""
_HINTS = {
    401: "log in with `docker login`",
    403: "log in with `docker login`",
    429: "it has had too many requests: log in with `docker login`, or try again later",
}
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
    _authorization: str = ""

    @classmethod
    def of(cls, reference: ImageReference, environ: Mapping[str, str] = os.environ) -> Repository:
        """The repository a reference names; without a registry that is Docker Hub's."""
        if reference.registry and reference.registry != "docker.io":
            return cls(reference.registry, reference.repository, environ)
        name = reference.repository
        return cls(HUB, name if "/" in name else f"library/{name}", environ)

    def manifest(self, tag_or_digest: str) -> bytes:
        """A manifest's or index's bytes.

        Raises:
            RegistryError: the registry cannot be reached, refuses, or does not have it.
        """
        return b"".join(self._get(f"/v2/{self.name}/manifests/{tag_or_digest}", accept=ACCEPT))

    def blob(self, digest: str) -> Iterator[bytes]:
        """A blob's bytes, in order.

        Raises:
            RegistryError: as for `manifest`.
        """
        return self._get(f"/v2/{self.name}/blobs/{digest}", accept="*/*")

    def digest(self, tag: str, *, verify: bool = False) -> str:
        """The digest that a tag names now: of an index, or of the manifest of an image of one platform.

        Args:
            tag: the tag.
            verify: whether the manifest is fetched and its digest computed, rather than the registry's word taken.

        Raises:
            RegistryError: the registry cannot be reached, refuses, does not have it, or gives two digests for it.
        """
        path = f"/v2/{self.name}/manifests/{tag}"
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
            raise RegistryError(f"{self.host} says that {path} is {said}, and sends {computed}")
        return computed

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
        with ExitStack() as opened:
            self._answered(f"/v2/{self.name}/manifests/{tag}", opened, accept="*/*", method="PUT", body=body)

    @property
    def url(self) -> str:
        """Scheme and host."""
        return f"{self.scheme or _scheme(self.host)}://{self.host}"

    @property
    def authorization(self) -> str:
        """The Authorization header the registry has asked for so far; empty for none."""
        return self._authorization

    def login(self, challenge: str) -> None:
        """Take up what a WWW-Authenticate header of the registry asks for.

        Raises:
            RegistryError: it cannot be had.
        """
        with ExitStack() as opened:
            self._authorization = self._answer(challenge, opened)

    def _get(self, path: str, *, accept: str) -> Iterator[bytes]:
        with ExitStack() as opened:
            yield from self._body(self._answered(path, opened, accept=accept), path)

    def _answered(
        self,
        path: str,
        opened: ExitStack,
        *,
        accept: str,
        method: Literal["GET", "HEAD", "PUT"] = "GET",
        body: tuple[bytes, str] | None = None,
    ) -> http.client.HTTPResponse:
        """The head of the registry's answer, behind login and redirects; `opened` closes what it came over.

        `body` is what is sent, and its media type.
        """
        url = self.url + path
        data, media_type = body or (None, "")
        headers = {"Accept": accept} | ({"Content-Type": media_type} if body else {})
        if self._authorization:
            headers["Authorization"] = self._authorization
        response = _request(url, headers, opened, method=method, body=data, timeout_s=self.timeout_s)
        if response.status == 401 and (challenge := response.getheader("WWW-Authenticate")):
            self._authorization = self._answer(challenge, opened)
            headers = {**headers, "Authorization": self._authorization}
            response = _request(url, headers, opened, method=method, body=data, timeout_s=self.timeout_s)
        redirects = 0
        while body is None and response.status in {301, 302, 303, 307, 308} and redirects < 5:
            redirects += 1
            url = _moved(url, response.getheader("Location") or "")
            # Blob stores refuse a second kind of authorization: the address itself holds it.
            response = _request(url, {"Accept": accept}, opened, method=method, timeout_s=self.timeout_s)
        if response.status != (200 if body is None else 201):
            raise RegistryError(
                f"{self.host} gave {response.status} for {path}",
                hint=_HINTS.get(response.status, "is it pushed there?" if response.status < 500 else "try again"),
            )
        return response

    def _body(self, response: http.client.HTTPResponse, path: str) -> Iterator[bytes]:
        try:
            while chunk := response.read(CHUNK):
                yield chunk
            if response.length:
                # http.client keeps quiet about a body that ends too early where it is read in pieces.
                raise http.client.IncompleteRead(b"", response.length)
        except (OSError, http.client.HTTPException) as error:
            raise RegistryError(f"{self.host} broke off on {path}: {error}") from None

    def _answer(self, challenge: str, opened: ExitStack) -> str:
        """The Authorization header that a WWW-Authenticate challenge asks for."""
        basic = _credentials(self.host, self.environ)
        if challenge.lower().startswith("basic"):
            if not basic:
                raise RegistryError(f"{self.host} wants a login", hint=f"docker login {self.host}")
            return f"Basic {basic}"
        wanted = dict(_CHALLENGE.findall(challenge))
        query = {key: wanted[key] for key in ("service", "scope") if key in wanted}
        headers = {"Authorization": f"Basic {basic}"} if basic else {}
        response = _request(f"{wanted.get('realm', '')}?{urlencode(query)}", headers, opened, timeout_s=self.timeout_s)
        try:
            body = response.read()
        except (OSError, http.client.HTTPException) as error:
            raise RegistryError(f"{self.host} broke off on its token: {error}") from None
        if response.status != 200:
            raise RegistryError(f"{self.host} gives no token: {response.status}", hint=f"docker login {self.host}")
        try:
            answer = json.loads(body)
        except ValueError:
            answer = None
        token = (answer.get("token") or answer.get("access_token")) if isinstance(answer, dict) else None
        if not isinstance(token, str):
            raise RegistryError(f"{self.host} gives a token that cannot be read")
        return f"Bearer {token}"


def _request(
    url: str,
    headers: Mapping[str, str],
    opened: ExitStack,
    *,
    method: str = "GET",
    body: bytes | None = None,
    timeout_s: float = TIMEOUT_S,
) -> http.client.HTTPResponse:
    """The answer to a request; `opened` closes what it came over."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        parts, host, port = None, None, None
    if parts is None or parts.scheme not in {"http", "https"} or not host:
        raise RegistryError(f"a registry sent the address {url!r}, which is not one of HTTP")
    connect = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = connect(host, port, timeout=timeout_s)
    opened.callback(connection.close)
    try:
        path = f"{parts.path}?{parts.query}" if parts.query else parts.path
        connection.request(method, path, body, headers=dict(headers))
        response = connection.getresponse()
    except (OSError, http.client.HTTPException) as error:
        raise RegistryError(f"the registry at {parts.netloc} does not answer: {error}") from None
    # An answer that closes its connection takes the socket over from it.
    opened.callback(response.close)
    return response


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


def _moved(url: str, location: str) -> str:
    try:
        return urljoin(url, location)
    except ValueError:
        return location  # no address at all: `_request` says so


def _scheme(host: str) -> str:
    """Plain HTTP for this machine alone, as the engine itself does by default (dockerd, insecure-registries)."""
    name = ""
    try:
        name = urlsplit(f"//{host}").hostname or ""
        return "http" if ipaddress.ip_address(name).is_loopback else "https"
    except ValueError:
        return "http" if name == "localhost" else "https"


def _credentials(host: str, environ: Mapping[str, str]) -> str:
    """`user:password` in base64 from docker's configuration or its credential helper; empty where there is none."""
    folder = Path(environ.get("DOCKER_CONFIG") or Path(environ.get("HOME", "/")) / ".docker")
    try:
        config: Any = json.loads((folder / "config.json").read_bytes())
    except (OSError, ValueError):
        return ""
    if not isinstance(config, dict):
        return ""
    keys = (host, f"https://{host}") if host != HUB else ("https://index.docker.io/v1/", "docker.io", host)
    for key in keys:
        helper = (config.get("credHelpers") or {}).get(key) or config.get("credsStore")
        if helper and (found := _from_helper(str(helper), key)):
            return found
        if auth := ((config.get("auths") or {}).get(key) or {}).get("auth"):
            return str(auth)
    return ""


def _from_helper(helper: str, key: str) -> str:
    """What `docker-credential-HELPER get` says (docker/docker-credential-helpers); nothing where it has nothing."""
    try:
        done = subprocess.run(
            [f"docker-credential-{helper}", "get"],
            input=key,
            capture_output=True,
            text=True,
            check=True,
            timeout=30,
        )
        answer = json.loads(done.stdout)
        return base64.b64encode(f"{answer['Username']}:{answer['Secret']}".encode()).decode()
    except (OSError, subprocess.SubprocessError, ValueError, KeyError):
        return ""
