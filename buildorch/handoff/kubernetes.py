"""Images in plain Kubernetes YAML: where they stand, and the same text with others in their places.

In: text. Out: `Found`s, text. Touches nothing.

A pod is found by its place, whatever the kind: in a Pod, in whatever has a pod template (Deployment, Job, CronJob and
their like, and custom resources that do as they do), and in lists of these. Every character that is no image's stays.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Final

from buildorch.handoff.yaml_text import TEMPLATE_HINT, Node, compose, documents, problem, resolved
from buildorch.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

POD_SPECS: Final = (
    ("spec",),
    ("template", "spec"),
    ("spec", "template", "spec"),
    ("spec", "jobTemplate", "spec", "template", "spec"),
)
"""Where a pod's spec is: in a Pod, a PodTemplate, a Deployment and its like, a CronJob."""
IMAGES: Final = {
    "initContainers": ("image",),
    "containers": ("image",),
    "ephemeralContainers": ("image",),
    "volumes": ("image", "reference"),
}
"""A list in a pod's spec -> where each of its entries names an image; a volume may be one (Kubernetes 1.31)."""
BOM = "\ufeff"
_TEMPLATE = re.compile(r"""^[ \t-]*(?:[\w.-]+:[ \t]+)?\{\{|\bimage["']?[ \t]*:[^\n]*\{\{""", re.MULTILINE)
"""A line of a template, or an image of one: Kubernetes has neither outside of other texts."""


@dataclass(frozen=True, slots=True)
class Found:
    """One image in a text."""

    start: int
    end: int
    line: int
    text: str
    """The image as it is written, without quotes."""
    is_alias: bool = False
    """Whether what stands there is an alias of a text that stands for something else elsewhere."""


@dataclass(frozen=True, slots=True)
class Change:
    """An image that was rewritten."""

    line: int
    old: str
    new: str


def find_images(text: str, source: str, *, words: Collection[str] | None = None) -> list[Found]:
    """The images of all containers, in the text's order.

    Args:
        text: YAML, of one document or many.
        source: what errors call it.
        words: documents that hold none of them are passed over, but for templates; by default none is.

    Raises:
        UsageError: a document is not YAML, or too large or too deep to be read.
    """
    found: dict[int, Found] = {}
    for document in documents(text):
        inside = text[document.start : document.end]
        if words is None or any(word in inside for word in words) or _TEMPLATE.search(inside):
            for root in compose(text, document, source):
                found |= {one.start: one for one in _images(root, text, source)}
    return [found[start] for start in sorted(found)]


def rewrite(text: str, images: Iterable[Found], pins: Mapping[str, str]) -> tuple[str, list[Change]]:
    """The text with other images in the places of some.

    Args:
        text: what the images were found in.
        images: where they stand, in the text's order.
        pins: image as it is written -> what is to stand there; one that is not among them stays.
    """
    parts: list[str] = []
    changes: list[Change] = []
    done = 0
    for image in images:
        new = pins.get(image.text, image.text)
        if new != image.text:
            parts += [text[done : image.start], _written(text[image.start : image.end], image, new)]
            done = image.end
            changes.append(Change(image.line, image.text, new))
    return "".join([*parts, text[done:]]), changes


def joined(texts: Iterable[str]) -> str:
    """Several texts as one, a document marker between them."""
    whole = ""
    for text in texts:
        following = text.removeprefix(BOM) if whole else text
        if whole and not following.startswith("---"):
            whole += "---\n" if whole.endswith("\n") else "\n---\n"
        elif whole and not whole.endswith("\n"):
            whole += "\n"
        whole += following
    return whole


def _written(old: str, image: Found, new: str) -> str:
    """What stands in the text for an image, with another: its quotes, anchor and comment stay.

    The value is the last that a scalar's text holds: anchor, tag and a block's header stand before it.
    """
    at = -1 if image.is_alias else old.rfind(image.text)
    if at < 0:
        return json.dumps(new)  # in place of an alias, or of a text written with escapes
    before, after = old[:at], old[at + len(image.text) :]
    if new.startswith("[") and not old.endswith(('"', "'", "\n")):
        new = json.dumps(new)  # the registry is an IPv6 address, which is a list where it is not quoted
    return f"{before}{new}{after}"


def _images(root: Node, text: str, source: str) -> Iterator[Found]:
    """Each image once, however many aliases lead to it."""
    nodes = list(_image_nodes(root))
    direct = {id(node) for node in nodes if node.target is None}
    for node in nodes:
        value = resolved(node)
        # Without quotes `{{ }}` is YAML too: a mapping whose key is one.
        if "{{" in value.text if value.text is not None else text.startswith("{{", value.start):
            raise problem(source, value.line, value.column, "this image is a template's", hint=TEMPLATE_HINT)
        if value.text is not None and (node.target is None or id(value) not in direct):
            yield Found(node.start, node.end, node.line, value.text.rstrip("\r\n"), node.target is not None)


def _image_nodes(root: Node) -> Iterator[Node]:
    """The values that are images, or aliases of them; each as often as it is reached."""
    seen: set[int] = set()
    for resource in _resources(root):
        for pod in (found for path in POD_SPECS if (found := _at(resource, path))):
            for entry, path in _entries(pod):
                if id(entry) in seen:
                    continue
                seen.add(id(entry))
                holder = _at(entry, path[:-1])
                image = _get(holder, path[-1]) if holder else None
                if image is not None:
                    yield image


def _entries(pod: Node) -> Iterator[tuple[Node, tuple[str, ...]]]:
    """The containers and volumes of a pod, each with where it names its image."""
    for key, path in IMAGES.items():
        listed = _get(pod, key)
        for entry in (resolved(listed).items or ()) if listed else ():
            yield resolved(entry), path


def _resources(root: Node) -> Iterator[Node]:
    """The resource, or those of a list of them; lists may stand in lists."""
    waiting, seen = [root], set[int]()
    while waiting:
        node = resolved(waiting.pop())
        if node.entries is None or id(node) in seen:
            continue
        seen.add(id(node))
        kind = _get(node, "kind")
        if kind is None:
            continue
        items = _get(node, "items") if (resolved(kind).text or "").endswith("List") else None
        if items is None:
            yield node
        else:
            waiting.extend(resolved(items).items or ())


def _at(node: Node, path: tuple[str, ...]) -> Node | None:
    found: Node | None = node
    for key in path:
        found = _get(found, key) if found else None
        found = resolved(found) if found else None
    return found


def _get(node: Node, key: str) -> Node | None:
    """A mapping's value; its own, or the first that merge keys (`<<`) bring in."""
    waiting, seen = [node], set[int]()
    while waiting:
        one = resolved(waiting.pop())
        if id(one) in seen or one.entries is None:
            continue
        seen.add(id(one))
        if key in one.entries:
            return one.entries[key]
        if merged := one.entries.get("<<"):
            sources = resolved(merged)
            waiting.extend(reversed(sources.items) if sources.items is not None else [sources])
    return None
