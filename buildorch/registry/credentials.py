"""Logins for registries, as docker has them.

In: a registry's host and the environment. Out: what goes behind `Basic`. Touches docker's configuration, and a
credential helper's process where docker is set up with one.
"""

from __future__ import annotations

import base64
import json
import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

HUB = "registry-1.docker.io"


def has_login(host: str, environ: Mapping[str, str] = os.environ) -> bool:
    """Whether docker's configuration, or the credential helper it names, has a login for a registry."""
    return bool(credentials(host, environ))


def credentials(host: str, environ: Mapping[str, str]) -> str:
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
