"""Finding the docker client, its buildx plugin, the engine's endpoint and the builders.

In: the environment. Out: argument lists and facts. Touches: PATH, docker's configuration, and processes of docker's.

The plugin is started directly, not through `docker buildx`: the wrapper costs another process of 0.11 s of CPU a build
(docs/adr/0003). It reads DOCKER_HOST, DOCKER_CONTEXT and DOCKER_CONFIG itself.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from buildorch.errors import BuilderNotFound, BuildxMissing, EngineUnreachable
from buildorch.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Mapping

DEFAULT_ENDPOINT = "unix:///var/run/docker.sock"
_PLUGIN = "docker-buildx"
# Where the docker CLI looks (docker/cli cli-plugins/manager, defaultSystemPluginDirs).
_SYSTEM_FOLDERS = (
    "/usr/local/lib/docker/cli-plugins",
    "/usr/local/libexec/docker/cli-plugins",
    "/usr/lib/docker/cli-plugins",
    "/usr/libexec/docker/cli-plugins",
)


@dataclass(frozen=True, slots=True)
class Buildx:
    """How buildx is started here."""

    command: tuple[str, ...]
    """The plugin itself, or `docker buildx` where only docker knows where it is."""

    @property
    def stamp(self) -> str:
        """A key for what this program says of itself: its path, size and mtime."""
        path = Path(self.command[0])
        seen = path.stat()
        return f"{path}:{seen.st_size}:{seen.st_mtime_ns}"

    def version(self, *, timeout_s: float = 30) -> str:
        """What buildx calls itself, such as `0.29.1`.

        Raises:
            BuildxMissing: it does not run, or does not end within `timeout_s` seconds.
        """
        try:
            done = subprocess.run(
                [*self.command, "version"], capture_output=True, text=True, check=True, timeout=timeout_s
            )
        except (OSError, subprocess.SubprocessError) as error:
            raise BuildxMissing(f"docker buildx does not run: {error}") from None
        words = done.stdout.split()
        return words[1].removeprefix("v") if len(words) > 1 else done.stdout.strip()


def find_buildx(environ: Mapping[str, str] = os.environ) -> Buildx:
    """The buildx plugin, looked for where docker looks for it.

    Raises:
        BuildxMissing: neither the plugin nor a docker client that knows it is there.
    """
    for folder in (
        _config_folder(environ) / "cli-plugins",
        *_configured_folders(environ),
        *map(Path, _SYSTEM_FOLDERS),
    ):
        plugin = folder / _PLUGIN
        if os.access(plugin, os.X_OK):
            return Buildx((str(plugin),))
    docker = shutil.which("docker", path=environ.get("PATH"))
    if docker is None:
        raise BuildxMissing("there is no docker client on PATH")
    found = Buildx((docker, "buildx"))
    found.version()
    return found


def find_endpoint(environ: Mapping[str, str] = os.environ) -> str:
    """The engine's address as docker would choose it: DOCKER_HOST, then the context in use, then the default socket.

    Raises:
        EngineUnreachable: the context in use does not exist.
    """
    if host := environ.get("DOCKER_HOST"):
        return host
    context = environ.get("DOCKER_CONTEXT") or str(_configuration(environ).get("currentContext") or "default")
    if context == "default":
        return DEFAULT_ENDPOINT
    from python_on_whales import DockerClient  # noqa: PLC0415 - 160 ms, only for a context of the user's own
    from python_on_whales.client_config import ClientNotFoundError  # noqa: PLC0415
    from python_on_whales.exceptions import DockerException  # noqa: PLC0415

    try:
        found = DockerClient().context.inspect(context)
    except (DockerException, ClientNotFoundError):
        raise EngineUnreachable(f"the docker context {context!r}", "there is no such context") from None
    endpoint = found.endpoints.get("docker") if found.endpoints else None
    if endpoint is None or not endpoint.host:
        raise EngineUnreachable(f"the docker context {context!r}", "it names no docker endpoint")
    return str(endpoint.host)


def require_builders(names: set[str]) -> None:
    """Make sure that every builder asked for exists.

    Raises:
        BuilderNotFound: one does not.
        BuildxMissing: there is no docker client to ask.
    """
    if not names:
        return
    from python_on_whales import DockerClient  # noqa: PLC0415
    from python_on_whales.client_config import ClientNotFoundError  # noqa: PLC0415

    try:
        known = [str(builder.name) for builder in DockerClient().buildx.list()]
    except ClientNotFoundError:
        raise BuildxMissing("there is no docker client on PATH") from None
    for name in sorted(names):
        if name not in known:
            raise BuilderNotFound(name, known=known)


def current_builder(environ: Mapping[str, str] = os.environ) -> str:
    """The builder that `docker buildx use` or BUILDX_BUILDER set; empty for the engine's own.

    Source: docker/buildx `store/storeutil`, `GetCurrentInstance`; the file is `current` in buildx's own folder.
    """
    if name := environ.get("BUILDX_BUILDER"):
        return "" if name == "default" else name
    folder = Path(environ.get("BUILDX_CONFIG") or _config_folder(environ) / "buildx")
    try:
        loaded = json.loads((folder / "current").read_bytes())
    except (OSError, ValueError):
        return ""
    name = str(loaded.get("Name") or "") if isinstance(loaded, dict) else ""
    return "" if name == "default" else name


def proxies(environ: Mapping[str, str] = os.environ) -> str:
    """The proxy settings that the client turns into build arguments, as text; empty for none."""
    found = _configuration(environ).get("proxies")
    return json.dumps(found, sort_keys=True) if found else ""


def _config_folder(environ: Mapping[str, str]) -> Path:
    return Path(environ.get("DOCKER_CONFIG") or Path(environ.get("HOME", "/")) / ".docker")


def _configured_folders(environ: Mapping[str, str]) -> list[Path]:
    extra = _configuration(environ).get("cliPluginsExtraDirs")
    return [Path(str(folder)) for folder in extra] if isinstance(extra, list) else []


def _configuration(environ: Mapping[str, str]) -> dict[str, object]:
    """Docker's config.json; a missing or broken one is docker's to complain about."""
    try:
        loaded = json.loads((_config_folder(environ) / "config.json").read_bytes())
    except (OSError, ValueError):
        return {}
    return loaded if isinstance(loaded, dict) else {}
