"""Pinned images -> text, in the form that each tool of a deploy reads.

In: `PinnedImage`s. Out: text that ends with a line end. Touches nothing.

Sources: kustomize's `images` and `kind: Component`; skaffold's `--build-artifacts`; GitHub, "Setting an output
parameter"; GitLab, `artifacts:reports:dotenv`, whose values are taken as they stand, quotes too.
"""

from __future__ import annotations

import json
import re
import shlex
from typing import TYPE_CHECKING, Any, Final

from buildorch.errors import UsageError
from buildorch.handoff.spellings import Spellings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from buildorch.handoff.pinned import PinnedImage

_NOT_IN_A_VARIABLE = re.compile(r"[^A-Z0-9]+")
_EVERY_IMAGE = "images"
"""The output of a workflow's step that holds all images as JSON; those of the services end with `_image`."""


def render(images: Sequence[PinnedImage], output_format: str) -> str:
    """The images in one of `FORMATS`.

    Raises:
        UsageError: two services cannot be told apart in that format.
    """
    return FORMATS[output_format](images)


def text(images: Sequence[PinnedImage]) -> str:
    """`SERVICE IMAGE`, one a line, as `while read -r name image` takes it."""
    return "".join(f"{one.service} {one.image}\n" for one in images)


def env(images: Sequence[PinnedImage]) -> str:
    """`NAME=value` lines for a shell's `eval` and `.`, quoted where a shell would read something else."""
    return "".join(f"{name}={shlex.quote(one.image)}\n" for name, one in variables(images))


def dotenv(images: Sequence[PinnedImage]) -> str:
    """`NAME=value` lines without quotes, which GitLab and `docker run --env-file` would take for the value's own."""
    return "".join(f"{name}={one.image}\n" for name, one in variables(images))


def github(images: Sequence[PinnedImage]) -> str:
    """Outputs of a step, between delimiters: `NAME_image` for each service, and `images`, all of them as JSON."""
    outputs = [(name.lower(), one.image) for name, one in variables(images)]
    outputs.append((_EVERY_IMAGE, json.dumps({one.service: one.image for one in images})))
    # No name and no digest holds a line end, so none can be mistaken for the delimiter.
    return "".join(f"{name}<<buildorch_end\n{value}\nbuildorch_end\n" for name, value in outputs)


def document(images: Sequence[PinnedImage]) -> dict[str, Any]:
    """What `json` and `yaml` hold."""
    services = {one.service: {"image": one.image, **_parts(one)} for one in images}
    return {"schema": "buildorch.images/1", "services": services}


def kustomize(images: Sequence[PinnedImage]) -> str:
    """A kustomize component, for a folder that a kustomization names under `components`."""
    known = {one.service: one for one in images}
    entries = [
        {"name": name, "newName": known[service].repository, "digest": known[service].digest}
        for service, name in _spellings(images).all()
    ]
    kind = {"apiVersion": "kustomize.config.k8s.io/v1alpha1", "kind": "Component"}
    return _yaml({**kind, "images": entries})


def helm(images: Sequence[PinnedImage]) -> str:
    """Values of a chart: `SERVICE.image` with `repository`, `tag` and `digest`."""
    return _yaml({one.service: {"image": _parts(one)} for one in images})


def skaffold(images: Sequence[PinnedImage]) -> str:
    """What `skaffold deploy --build-artifacts` reads in place of building."""
    known = {one.service: one for one in images}
    builds = [{"imageName": name, "tag": _with_tag(known[service])} for service, name in _spellings(images).all()]
    return _json({"builds": builds})


def variables(images: Sequence[PinnedImage]) -> Iterator[tuple[str, PinnedImage]]:
    """Each image with the name of its variable: `frontend-web` has FRONTEND_WEB_IMAGE.

    Raises:
        UsageError: two services have one name.
    """
    named: dict[str, str] = {}
    for one in images:
        name = f"{_NOT_IN_A_VARIABLE.sub('_', one.service.upper())}_IMAGE"
        name = f"_{name}" if name[0].isdigit() else name
        if name in named:
            raise UsageError(
                f"{named[name]} and {one.service} would both be {name}",
                hint="name the services to hand over, or take --format json",
            )
        named[name] = one.service
        yield name, one


def _spellings(images: Sequence[PinnedImage]) -> Spellings:
    return Spellings({one.service: one.repository for one in images})


def _with_tag(one: PinnedImage) -> str:
    """As skaffold itself writes it; the digest is what counts."""
    return f"{one.repository}:{one.tag}@{one.digest}" if one.tag else one.image


def _parts(one: PinnedImage) -> dict[str, str]:
    return {"repository": one.repository, "tag": one.tag, "digest": one.digest}


def _json(value: object) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


def _yaml(value: dict[str, Any]) -> str:
    """Mappings, lists and texts as YAML.

    Every text is quoted: who reads it may know YAML 1.1, where a service `on` is true and a tag `1_0` a number, and
    ruamel.yaml writes 1.2.
    """
    return "".join(f"{line}\n" for line in _lines(value))


def _lines(value: Any) -> Iterator[str]:  # noqa: ANN401
    for key, inner in value.items():
        name = key if key in _PLAIN_KEYS else json.dumps(key)
        if isinstance(inner, dict) and inner:
            yield f"{name}:"
            yield from (f"  {line}" for line in _lines(inner))
        elif isinstance(inner, list) and inner:
            yield f"{name}:"
            for item in inner:
                first, *rest = _lines(item)
                yield f"  - {first}"
                yield from (f"    {line}" for line in rest)
        else:
            yield f"{name}: {json.dumps(inner)}"


_PLAIN_KEYS = frozenset(
    {"apiVersion", "kind", "images", "name", "newName", "digest", "image", "repository", "tag", "schema", "services"}
)
"""Those of buildorch's own; a service's name may be any word."""

FORMATS: Final[dict[str, Callable[[Sequence[PinnedImage]], str]]] = {
    "text": text,
    "env": env,
    "dotenv": dotenv,
    "github": github,
    "json": lambda images: _json(document(images)),
    "yaml": lambda images: _yaml(document(images)),
    "kustomize": kustomize,
    "helm": helm,
    "skaffold": skaffold,
}
"""Each format by its name on the command line."""
