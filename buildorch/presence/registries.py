"""Asking registries for many images at once.

In: wanted images. Out: a `Presence` for each, in order. Touches: the network, and docker's configuration for logins.

Each question is a HEAD of a few hundred bytes: the tag, each platform's manifest, each config. Connections are kept and
threads ask side by side, because what costs is the round trip. HEAD does not count as a pull at Docker Hub.

Source: OCI distribution specification v1.1, "Checking if content exists in the registry".
"""

from __future__ import annotations

import os
import re
import socket
import ssl
import time
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import chain, count
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from buildorch.errors import RegistryError
from buildorch.oci import ImageReference, is_digest
from buildorch.presence.wanted import Held, Presence, Wanted, judge, unknown
from buildorch.registry.asking import ELSEWHERE, proxy_of, through
from buildorch.registry.repository import ACCEPT, Repository
from buildorch.registry.waiting import PASSING, pause_s, retry_after_s

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from buildorch.registry.proxies import Proxy

AT_ONCE = 16
"""What costs is the way there and back; on this machine itself two would do, the registry is what they wait for."""
TIMEOUT_S = 10.0
"""For one answer. After the first that does not come, nothing more is asked of that registry: one wait, not fifty."""
PATIENCE_S = 3.0
"""For all the pauses of one connection together, before a question is asked again that a registry failed at for the
moment: to build again what is there would take longer, to wait for each of fifty images too."""
MAX_HEAD = 64 * 1024
_STATUS = re.compile(r"HTTP/1\.([01]) ([2-5]\d\d)\b")


def in_registries(
    images: Sequence[Wanted], *, configs: bool = True, environ: Mapping[str, str] = os.environ
) -> tuple[Presence, ...]:
    """Whether each image is in the registry its name says, under its name. Blocks: call it in a thread.

    Absence is an answer and never an error; where a registry cannot be asked, or refuses, the answers are `unknown`.

    Args:
        images: what should be there.
        configs: whether each config is asked for too, a third of the time. Layers never are: a registry takes a
            manifest only with its config and layers, and keeps what a manifest names, but for a blob deleted by hand.
        environ: where docker's configuration is found, and which proxy registries are asked through.
    """
    places: dict[str, list[int]] = {}
    for at, image in enumerate(images):
        places.setdefault(ImageReference.parse(image.reference).name, []).append(at)
    whole = list(places.values())
    # A repository stays in one thread: it has a token of its own, which is then fetched once.
    shares = [list(chain.from_iterable(whole[first::AT_ONCE])) for first in range(min(AT_ONCE, len(whole)))]
    answers = [Presence("unknown")] * len(images)
    with ThreadPoolExecutor(AT_ONCE) as threads:
        given = threads.map(lambda share: _answers([images[at] for at in share], environ, configs=configs), shares)
        for share, presences in zip(shares, given, strict=True):
            for at, presence in zip(share, presences, strict=True):
                answers[at] = presence
    return tuple(answers)


def _answers(images: Sequence[Wanted], environ: Mapping[str, str], *, configs: bool) -> list[Presence]:
    """One thread's share, in order."""
    repositories: dict[str, Repository] = {}
    lines: dict[str, _Line] = {}
    answers = []
    try:
        for image in images:
            reference = ImageReference.parse(image.reference)
            repository = repositories.setdefault(reference.name, Repository.of(reference, environ))
            repository.timeout_s, repository.patience_s = TIMEOUT_S, PATIENCE_S
            line = lines.setdefault(repository.host, _Line(repository.url, environ))
            try:
                held = _held(image, reference.tag or "latest", repository=repository, line=line, configs=configs)
                answers.append(judge(image, held))
            except RegistryError as error:
                answers.append(unknown(image, error.told))
    finally:
        for line in lines.values():
            line.close()
    return answers


def _held(image: Wanted, tag: str, *, repository: Repository, line: _Line, configs: bool) -> Held:
    """What the registry holds of an image.

    Raises:
        RegistryError: it cannot be asked, or refuses.
    """
    named = _named(tag, repository, line)
    contents = set()
    if named == image.digest or _has_manifest(image.digest, repository, line):
        contents.add(image.digest)
        for part in image.parts:
            manifest = part.manifest or image.digest
            if manifest in contents or _has_manifest(manifest, repository, line):
                contents |= {manifest, *part.layers}
                if not configs or _has_blob(part.config, repository, line):
                    contents.add(part.config)
    return Held(f"the registry {repository.host}", named, image.digest in contents, frozenset(contents))


def _named(tag: str, repository: Repository, line: _Line) -> str | None:
    """The digest a tag names; None where there is no such tag."""
    status, digest = _head(f"manifests/{tag}", repository, line)
    if status == 404:
        return None
    if status == 200 and is_digest(digest):
        return digest
    if status in ELSEWHERE or status in {200, 405}:  # it does not say the digest here, or at all, or knows no HEAD
        return repository.digest(tag, verify=True)
    raise _refused(repository, status, f"manifests/{tag}")


def _has_manifest(digest: str, repository: Repository, line: _Line) -> bool:
    status, _ = _head(f"manifests/{digest}", repository, line)
    if status in ELSEWHERE or status == 405:
        return repository.digest(digest, verify=True) == digest
    if status not in {200, 404}:
        raise _refused(repository, status, f"manifests/{digest}")
    return status == 200


def _has_blob(digest: str, repository: Repository, line: _Line) -> bool:
    status, _ = _head(f"blobs/{digest}", repository, line)
    if status not in {200, 404, *ELSEWHERE}:
        raise _refused(repository, status, f"blobs/{digest}")
    # The address a blob is sent to is often good for a GET alone. The registry has found the blob before it gives it.
    return status != 404


def _refused(repository: Repository, status: int, path: str) -> RegistryError:
    return RegistryError(f"{repository.host} gave {status} for {repository.name}/{path}")


def _head(path: str, repository: Repository, line: _Line) -> tuple[int, str]:
    """The status and the digest of a HEAD, behind the login that the registry asks for."""
    url = f"/v2/{repository.name}/{path}"
    status, headers = line.head(url, repository.authorization)
    if status == 401 and (challenge := headers.get("www-authenticate")):
        repository.login(challenge)
        status, headers = line.head(url, repository.authorization)
    return status, headers.get("docker-content-digest", "")


class _Line:
    """One connection to a registry that is kept from question to question; for one thread.

    HTTP is written and read here because of HEAD's answer, which is a head and nothing else: http.client takes 0.4 ms
    of processor time for each, a quarter of what a registry takes to answer it, and this a tenth of that.
    """

    def __init__(self, url: str, environ: Mapping[str, str]) -> None:
        self._url = url
        self._environ = environ
        self._proxy: Proxy | None = None
        self._host = url.partition("://")[2]
        self._stream: socket.socket | None = None
        self._failure: RegistryError | None = None
        self._patience_s = PATIENCE_S

    def head(self, path: str, authorization: str) -> tuple[int, Mapping[str, str]]:
        """The answer's status, and its headers by their names in small letters.

        Raises:
            RegistryError: it does not come; what is asked afterwards is refused at once.
        """
        for attempt in count():
            try:
                status, headers = self._answered(path, authorization)
            except RegistryError as error:
                if not error.transient or not self._waited(attempt, error.after_s):
                    self._failure = self._failure or error
                    raise
            else:
                if status not in PASSING or not self._waited(attempt, retry_after_s(headers.get("retry-after", ""))):
                    return status, headers
        raise AssertionError  # there is no end to the counting

    def _waited(self, attempt: int, after_s: float) -> bool:
        """Whether there was patience for another pause."""
        pause = pause_s(attempt, after_s)
        if pause > self._patience_s:
            return False
        self._patience_s -= pause
        time.sleep(pause)
        return True

    def _answered(self, path: str, authorization: str) -> tuple[int, Mapping[str, str]]:
        tries = 2  # a connection may break, and a registry closes one that was kept too long
        while not self._failure:
            try:
                return self._once(path, authorization)
            except (OSError, ValueError) as error:
                self.close()
                tries -= 1
                if not tries or isinstance(error, TimeoutError):
                    fact = f"the registry at {self._host} does not answer{through(self._proxy)}"
                    self._failure = RegistryError(f"{fact}: {str(error) or type(error).__name__}")
        raise self._failure

    def _once(self, path: str, authorization: str) -> tuple[int, Mapping[str, str]]:
        stream = self._stream = self._stream or self._connected()
        # A proxy is asked for the whole URL; behind TLS it made the connection, and nothing here is for it.
        asked = self._proxy if self._url.startswith("http:") else None
        where = f"{self._url}{path}" if asked else path
        login = f"Authorization: {authorization}\r\n" if authorization else ""
        if asked and asked.authorization:
            login += f"Proxy-Authorization: {asked.authorization}\r\n"
        stream.sendall(
            f"HEAD {where} HTTP/1.1\r\nHost: {self._host}\r\nAccept: {ACCEPT}\r\n{login}\r\n".encode("latin-1")
        )
        received = b""
        while b"\r\n\r\n" not in received:
            more = stream.recv(MAX_HEAD)
            if not more or len(received) > MAX_HEAD:
                raise ConnectionError("it broke off")
            received += more
        head, _, rest = received.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        status = _STATUS.match(first)
        if not status:
            raise ConnectionError(f"it does not speak HTTP/1: {first[:40]!r}")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        if rest or status[1] == "0" or headers.get("connection", "").lower() == "close":
            self.close()
        if asked and status[2] == "407":
            from buildorch.registry.tunnel import refused  # noqa: PLC0415 - nobody pays for it who has no proxy

            raise refused(asked, 407, self._host)
        return int(status[2]), headers

    def _connected(self) -> socket.socket:
        parts = urlsplit(self._url)
        address = (parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80))
        self._proxy = proxy_of(self._url, self._environ)
        if self._proxy and parts.scheme == "https":
            from buildorch.registry.tunnel import tunnelled  # noqa: PLC0415 - nobody pays for it who has no proxy

            stream = tunnelled(self._proxy, *address, timeout_s=TIMEOUT_S)
        else:
            there = (self._proxy.host, self._proxy.port) if self._proxy else address
            stream = socket.create_connection(there, timeout=TIMEOUT_S)
        stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return _tls().wrap_socket(stream, server_hostname=address[0]) if parts.scheme == "https" else stream

    def close(self) -> None:
        """Give the connection up."""
        if self._stream is not None:
            self._stream.close()
        self._stream = None


@cache
def _tls() -> ssl.SSLContext:
    """To read the machine's certificates takes longer than all the questions of a run."""
    return ssl.create_default_context()
