"""The files of a project that was found: its Dockerfile, its .dockerignore, and what its configuration lacks.

In: a `Found` and base images. Out: file name -> text. Touches nothing but this package's own templates. Loads jinja2.
"""

from __future__ import annotations

import json
import re
from functools import cache
from typing import TYPE_CHECKING, Any

from buildorch.scaffold.found import FastApi, Found, NextJs

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from jinja2 import Environment

PYTHON_BASE, NODE_BASE = "python:3.13-slim", "node:20-alpine"
"""docs/adr/0001."""
_EXPORTS = {
    "uv": (
        "'uv>=0.5,<1'",
        "UV_PYTHON_DOWNLOADS=never /opt/tool/bin/uv export --quiet --frozen --no-dev --no-emit-project",
    ),
    "poetry": (
        "'poetry>=2,<3' 'poetry-plugin-export>=1.9,<2'",
        "/opt/tool/bin/poetry export --quiet --only=main",
    ),
}
"""Who reads a lock -> its packages, and how it says what pip is to install."""
_PLAIN_PATH = re.compile(r"[\w.-]+(?:/[\w.-]+)*\Z")
_FASTAPI_PORT = 8000


def files(found: Found, *, cache: str, base: str, others: Sequence[str] = ()) -> Mapping[str, str]:
    """Every file that is to be written into the project's folder.

    Args:
        found: the project.
        cache: what the ids of its own cache mounts begin with; no other project on an engine may have the same.
        base: the image that every stage starts from.
        others: folders in it that are projects of their own.
    """
    kind = "fastapi" if isinstance(found, FastApi) else "nextjs"
    about = _of_fastapi(found) if isinstance(found, FastApi) else _of_nextjs(found)
    left_out = [path for path in others if _PLAIN_PATH.match(path)]
    texts = {
        "Dockerfile": _rendered(f"{kind}.Dockerfile", found=found, cache=cache, base=base, **about),
        ".dockerignore": _rendered(f"{kind}.dockerignore", others=left_out),
    }
    if isinstance(found, NextJs) and found.config_text:
        texts[found.config] = found.config_text
    return texts


def _of_fastapi(found: FastApi) -> dict[str, str]:
    packages, export = _EXPORTS.get(found.manager, ("", ""))
    requirements = found.lock if found.manager == "pip" else "/requirements.txt"
    return {"packages": packages, "export": export, "requirements": requirements, "probe": _python_probe(found.health)}


def _of_nextjs(found: NextJs) -> dict[str, str]:
    read = ("package.json", found.lock, *found.settings)
    return {"read": " ".join(read), "probe": _node_probe(found.health)}


def _python_probe(path: str) -> str:
    """A program that fails where the application does not answer; without a route, where nothing listens.

    A refusal is an answer: what stands before a route may want a name or another host.
    """
    if not path:
        return f"import socket; socket.create_connection(('127.0.0.1', {_FASTAPI_PORT}), timeout=4).close()"
    return (
        f"import http.client, sys; c = http.client.HTTPConnection('127.0.0.1', {_FASTAPI_PORT}, timeout=4); "
        f"c.request('GET', '{path}'); sys.exit(c.getresponse().status >= 500)"
    )


def _node_probe(path: str) -> str:
    """The same: a page may send one elsewhere, or ask for a name."""
    return (
        f"fetch('http://127.0.0.1:' + process.env.PORT + '{path}', {{ redirect: 'manual' }})"
        ".then(r => process.exit(r.status < 500 ? 0 : 1), () => process.exit(1))"
    )


def _rendered(template: str, **values: Any) -> str:  # noqa: ANN401 - what the template names
    return _templates().get_template(template).render(**values)


@cache
def _templates() -> Environment:
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
    return environment


def _label(text: str) -> str:
    """A label's value: on one line, and with no variable in it."""
    line = " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())
    return _word(line).replace("$", "\\$")


def _word(text: str) -> str:
    """A word of an instruction's JSON form, in which nothing is filled in."""
    return json.dumps(text, ensure_ascii=False)
