"""The files of a project that was found: its Dockerfile, its .dockerignore, and what its configuration lacks.

In: a `Found` and base images. Out: file name -> text. Touches nothing but this package's own templates.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from buildorch.scaffold.found import FastApi, Found

if TYPE_CHECKING:
    from collections.abc import Mapping

PYTHON_BASE, NODE_BASE = "python:3.13-slim", "node:20-alpine"
"""docs/adr/0001."""
_EXPORTS = {
    "uv": (
        "uv",
        "uv",
        "/opt/tool/bin/uv export --frozen --no-dev --no-emit-project --output-file /requirements.txt -q",
    ),
    "poetry": (
        "Poetry",
        "'poetry>=2,<3' poetry-plugin-export",
        "/opt/tool/bin/poetry export --only=main --output=/requirements.txt",
    ),
}
"""Who reads a lock -> its name, its packages, and how it says what pip is to install."""


def files(found: Found, *, name: str, base: str) -> Mapping[str, str]:
    """Every file that is to be written into the project's folder.

    Args:
        found: the project.
        name: the service's, which the ids of its own cache mounts begin with.
        base: the image that every stage starts from.
    """
    kind = "fastapi" if isinstance(found, FastApi) else "nextjs"
    about = _of_fastapi(found) if isinstance(found, FastApi) else {"probe": _node_probe(found.health)}
    texts = {
        "Dockerfile": _rendered(f"{kind}.Dockerfile", found=found, name=name, base=base, **about),
        ".dockerignore": _rendered(f"{kind}.dockerignore"),
    }
    if not isinstance(found, FastApi) and found.config_text:
        texts[found.config] = found.config_text
    return texts


def _of_fastapi(found: FastApi) -> dict[str, str]:
    tool, packages, export = _EXPORTS.get(found.manager, ("", "", ""))
    requirements = found.lock if found.manager == "pip" else "/requirements.txt"
    probe = _python_probe(found.health)
    return {"tool": tool, "packages": packages, "export": export, "requirements": requirements, "probe": probe}


def _python_probe(path: str) -> str:
    """A program that fails where the application does not answer; without a route, where nothing listens."""
    if path:
        return f"import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000{path}', timeout=4)"
    return "import socket; socket.create_connection(('127.0.0.1', 8000), timeout=4).close()"


def _node_probe(path: str) -> str:
    """The first page may send one elsewhere, or ask for a name: the server is well if it does."""
    fit = "r.ok" if path != "/" else "r.status < 500"
    return (
        f"fetch('http://127.0.0.1:' + process.env.PORT + '{path}', {{ redirect: 'manual' }})"
        f".then(r => process.exit({fit} ? 0 : 1), () => process.exit(1))"
    )


def _rendered(template: str, **values: Any) -> str:  # noqa: ANN401 - what the template names
    from jinja2 import Environment, PackageLoader, StrictUndefined  # noqa: PLC0415 - for init and reports alone

    environment = Environment(
        loader=PackageLoader("buildorch.scaffold"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # noqa: S701 - Dockerfiles are no HTML: what a project says is quoted by the filters
    )
    environment.filters.update(label=_label, word=_word)
    return environment.get_template(template).render(**values)


def _label(text: str) -> str:
    """A label's value: on one line, and with no variable in it."""
    line = " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())
    return _word(line).replace("$", "\\$")


def _word(text: str) -> str:
    """A word of an instruction's JSON form, in which nothing is filled in."""
    return json.dumps(text, ensure_ascii=False)
