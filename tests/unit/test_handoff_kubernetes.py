"""Images in Kubernetes YAML: every place is found, nothing else changes, and hostile text is refused in bounded time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kubectl import images_in, kubectl
from ruamel.yaml import YAML

from buildorch.errors import UsageError
from buildorch.handoff import yaml_text
from buildorch.handoff.formats import render
from buildorch.handoff.kubernetes import find_images, joined, rewrite
from buildorch.handoff.pinned import PinnedImage
from buildorch.testing import make_digest

DIGEST = make_digest("image")
NEW = f"reg.example:5000/shop/web@{DIGEST}"
IPV6 = f"[::1]:5000/shop/web@{DIGEST}"
WORKLOADS = (Path(__file__).parent / "data" / "workloads.yaml").read_text()
"""One resource of each kind with a pod, and some without; every container's image is a `shop/web`."""


def pods(*containers: str) -> str:
    return "kind: Pod\nspec:\n  containers:\n" + "".join(f"  - {one}\n" for one in containers)


def resolve(text: str, new: str = NEW) -> str:
    found = find_images(text, "k8s.yaml")
    return rewrite(text, found, {one.text: new for one in found if "shop/web" in one.text})[0]


def loaded(text: str) -> list[Any]:
    return list(YAML(typ="safe", pure=True).load_all(text))


# --- what is found


def test_every_kind_of_container_of_every_kind_is_found_and_what_only_looks_like_one_is_not():
    old = WORKLOADS.splitlines()
    changed = {at for at, line in enumerate(resolve(WORKLOADS).splitlines()) if line != old[at]}

    assert changed == {at for at, line in enumerate(old) if "# is an image" in line}
    assert len(changed) == 18


@pytest.mark.parametrize(
    ("written", "resolved"),
    [
        ("image: shop/web:1  # why", f"image: {NEW}  # why"),
        ("image:   'shop/web:1'", f"image:   '{NEW}'"),
        ('"image": "shop/web"', f'"image": "{NEW}"'),
        ("{name: shop/web, image: shop/web}", f"{{name: shop/web, image: {NEW}}}"),
        ("{image: shop/web,name: a}", f"{{image: {NEW},name: a}}"),
        ("image: !!str shop/web", f"image: !!str {NEW}"),
        ("image: &shop/web shop/web", f"image: &shop/web {NEW}"),
        ("image: >-  # shop/web\n      shop/web\n    name: a", f"image: >-  # shop/web\n      {NEW}\n    name: a"),
        ("image: |-\n      shop/web\n  # shop/web", f"image: |-\n      {NEW}\n  # shop/web"),
        ('image: "shop\\/web"', f'image: "{NEW}"'),
        (f"image: shop/web:1@{make_digest('old')}", f"image: {NEW}"),
        ("? image\n    : shop/web", f"? image\n    : {NEW}"),
        (
            "image: shop/web\n    env: [{name: A, value: shop/web}]",
            f"image: {NEW}\n    env: [{{name: A, value: shop/web}}]",
        ),
    ],
)
def test_only_the_image_is_written_anew_however_it_is_written(written: str, resolved: str):
    assert resolve(pods(written)) == pods(resolved)
    assert loaded(pods(resolved))[0]["spec"]["containers"][0]["image"] == NEW


@pytest.mark.parametrize(
    "written", ["image: shop/web", "image: 'shop/web'", "{image: shop/web}", "image: >-\n      shop/web"]
)
def test_a_registry_whose_address_is_in_brackets_stays_a_text(written: str):
    assert loaded(resolve(pods(written), IPV6))[0]["spec"]["containers"][0]["image"] == IPV6


def test_an_anchored_list_of_containers_is_resolved_once_for_all_who_share_it():
    text = pods("image: &i shop/web:1").replace("containers:", "containers: &c", 1) + "  initContainers: *c\n"
    text += "other: *i\n"

    assert resolve(text) == text.replace("shop/web:1", NEW)


def test_an_alias_of_a_text_that_is_something_else_too_is_replaced_and_the_text_stays():
    text = "metadata: {labels: {app: &name shop/web}}\n" + pods("image: *name", "{image: *name }")

    assert resolve(text) == text.replace("image: *name", f'image: "{NEW}"')


def test_an_image_that_a_merge_key_brings_in_is_resolved_where_it_stands():
    text = "x: &base {image: shop/web, tty: true}\n" + pods("<<: *base", "{<<: [*base], image: shop/web:2}")

    assert resolve(text) == text.replace("shop/web:2", NEW).replace("shop/web,", f"{NEW},")


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize(
    "before", ["", "\ufeff", "\ufeff---\n", "# c\n---\n", "%YAML 1.2\n---\n", "a: 1\n...\n---\n", "---\n\n--- # 2\n"]
)
def test_line_ends_byte_order_marks_and_document_markers_stay(before: str, end: str):
    text = (before + pods("image: shop/web  ", "image: other")).replace("\n", end)

    assert resolve(text) == text.replace("shop/web", NEW)


def test_text_without_an_image_stays_as_it_is():
    for text in (
        "",
        "\ufeff",
        "---",
        "# nothing\n",
        "just a text",
        "services: {web: {image: shop/web}}\n",
        "[a, b]",
        "kind: Pod",
    ):
        assert find_images(text, "x") == []


def test_documents_without_the_words_are_not_parsed_at_all():
    text = "- this: is\n not: yaml\n---\n" + pods("image: shop/web")

    [found] = find_images(text, "x", words={"shop/web"})

    assert found.line == 7
    assert text[found.start : found.end] == "shop/web"


def test_texts_are_joined_with_a_marker_where_there_is_none():
    assert joined(["a: 1", "\ufeffb: 2\n", "--- # c\nc: 3\n", "d: 4"]) == "a: 1\n---\nb: 2\n--- # c\nc: 3\n---\nd: 4"


# --- what is refused


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("kind: Pod\n{{- if .x }}\nspec: {}\n{{- end }}\n", "k8s.yaml:3:1: this is not YAML"),
        (pods("image: {{ .Values.image }}"), "k8s.yaml:4:12: this image is a template's"),
        (pods('image: "{{ .Values.image }}"'), "k8s.yaml:4:12: this image is a template's"),
        (pods("image: shop/web:{{ .Values.tag }}"), "k8s.yaml:4:12: this image is a template's"),
        ("kind: Pod\nspec: {containers: [{image: {{ .web }}}]}\n", "k8s.yaml:2:29: this image is a template's"),
        (pods("image: {{ .Values.image }}:{{ .tag }}"), "k8s.yaml:4:31: this is not YAML"),
    ],
)
def test_a_template_is_refused_at_its_place_with_the_way_to_resolve_it(text: str, error: str):
    with pytest.raises(UsageError) as caught:
        find_images(text, "k8s.yaml", words={"not there"})

    assert str(caught.value).startswith(error)
    assert "helm template" in caught.value.hint


@pytest.mark.parametrize(
    ("text", "error"),
    [
        (pods("image: shop/web\n    image: shop/web"), "k8s.yaml:5:5: the key 'image' is given twice"),
        ("a: 1\n---\nb: *x\n", "k8s.yaml:3:4: the alias *x has no anchor before it"),
        ("a: &x [*x]", "k8s.yaml:1:8: the alias *x has no anchor before it"),
        ("a: 1\n---\nb: 'open", "k8s.yaml:3:9: this is not YAML"),
        ("a: \x01", "k8s.yaml:1:1: this is not text"),
        ('"\\U99999999"', "k8s.yaml:1:1: this is not YAML"),
        ("[" * 101 + "]" * 101, "k8s.yaml:1:101: values are nested deeper than 100"),
    ],
)
def test_what_cannot_be_read_is_refused_at_its_place(text: str, error: str):
    with pytest.raises(UsageError) as caught:
        find_images(text, "k8s.yaml")

    assert str(caught.value).startswith(error)


@pytest.mark.parametrize("inner", ["[{}]", "{{<<: [{}]}}", "{{kind: List, items: [{}]}}"])
def test_aliases_of_aliases_weigh_what_their_text_does(inner: str):
    levels = "".join(f"a{at}: &a{at} {inner.format(', '.join([f'*a{at - 1}'] * 9))}\n" for at in range(1, 40))
    text = f"kind: PodList\na0: &a0 {{kind: Pod, spec: {{containers: [{{image: shop/web}}]}}}}\n{levels}items: [*a39]\n"

    assert len(find_images(text, "x")) == (0 if inner == "[{}]" else 1)


def test_a_document_larger_than_any_cluster_takes_is_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(yaml_text, "MAX_DOCUMENT", 1024**2)

    with pytest.raises(UsageError, match=r"k8s\.yaml:2:1: this document is larger than 1 MiB"):
        find_images(f"a: 1\n---\nshop/web: {'x' * 1024**2}\n", "k8s.yaml", words={"shop/web"})


def test_megabytes_of_other_documents_cost_no_more_than_to_look_for_a_word(monkeypatch: pytest.MonkeyPatch):
    parsed: list[str] = []
    compose = yaml_text.compose
    monkeypatch.setattr(
        "buildorch.handoff.kubernetes.compose", lambda *given_: parsed.append("one") or compose(*given_)
    )

    found = find_images(
        "kind: ConfigMap\ndata: {a: b}\n---\n" * 10_000 + pods("image: shop/web"), "x", words={"shop/web"}
    )

    assert (len(found), found[0].line, parsed) == (1, 30_004, ["one"])


# --- properties

_styles = st.sampled_from(["{}", "'{}'", '"{}"', "!!str {}", "&a{n} {}", ">-\n      {}", "|-  # c\n      {}"])
_images = st.sampled_from(["shop/web", "shop/web:1", f"reg.example:5000/shop/web@{make_digest('old')}", "postgres:16"])
_containers = st.tuples(
    _styles,
    _images,
    st.sampled_from(["", "  # shop/web:1", "  "]),
    st.sampled_from(["", "name: shop/web\n    ", "env: [{name: A, value: 'image: shop/web'}]\n    "]),
)


@pytest.mark.proof
@settings(max_examples=15)
@given(
    st.lists(st.lists(_containers, min_size=1, max_size=2), min_size=1, max_size=2),
    st.sampled_from(["\n", "\r\n"]),
    st.sampled_from(["", "\ufeff"]),
)
def test_every_byte_outside_of_images_stays_and_a_second_time_changes_nothing(resources: Any, end: str, mark: str):
    documents = [
        pods(
            *(
                f"{before}image: {style.format(image, n=at)}{'' if chr(10) in style else after}"
                for at, (style, image, after, before) in enumerate(containers)
            )
        )
        for containers in resources
    ]
    text = mark + "---\n".join(documents).replace("\n", end)

    found = find_images(text, "x")
    new = resolve(text)

    assert [one.text for one in found] == [image for containers in resources for _, image, _, _ in containers]
    assert resolve(new) == new
    kept, again = [0, *(one.end for one in found)], find_images(new, "x")
    kept_new = [0, *(one.end for one in again)]
    outside = [text[a : one.start] for a, one in zip(kept, found, strict=False)] + [text[kept[-1] :]]
    assert outside == [new[a : one.start] for a, one in zip(kept_new, again, strict=False)] + [new[kept_new[-1] :]]
    expected = loaded(text)
    for one in (container for document in expected for container in document["spec"]["containers"]):
        one["image"] = NEW if "shop/web" in one["image"] else one["image"]
    assert loaded(new) == expected


@given(st.text(alphabet="kind: Pod\n-{}[]&*!|>'\"#%?,<a@`\t\r\\~\ufeff", max_size=60))
def test_any_text_made_of_yamls_own_marks_is_read_or_refused_and_nothing_else(text: str):
    text = f"kind: Pod\nspec:\n  containers:\n  - image: {text}"
    try:
        new = resolve(text)
    except UsageError:
        return
    assert new == text


# --- judged by kubectl itself


@pytest.mark.proof
def test_kubectl_decodes_what_was_resolved_with_the_digest_in_every_container():
    typed = [one for one in WORKLOADS.split("---\n") if "# kubectl knows its type" in one]

    shown = kubectl(
        "set", "env", "--local", "--dry-run=client", "-o", "yaml", "-f", "-", "A=b", stdin=resolve("---\n".join(typed))
    )

    assert set(images_in(loaded(shown))) == {NEW}
    assert len(images_in(loaded(shown))) == 12


@pytest.mark.proof
def test_kustomize_puts_the_digests_of_the_component_into_images_with_a_registry_and_without(tmp_path: Path):
    (tmp_path / "images").mkdir()
    web = PinnedImage("web", "reg.example:5000/shop/web", "1", DIGEST)
    (tmp_path / "images" / "kustomization.yaml").write_text(render([web], "kustomize"))
    (tmp_path / "app.yaml").write_text(
        "apiVersion: v1\n"
        + pods(
            "{name: a, image: 'shop/web:1'}",
            "{name: b, image: 'reg.example:5000/shop/web:2'}",
            "{name: c, image: postgres}",
        ).replace("spec:", "metadata: {name: a}\nspec:")
    )
    (tmp_path / "kustomization.yaml").write_text("resources: [app.yaml]\ncomponents: [images]\n")

    shown = kubectl("kustomize", str(tmp_path))

    assert images_in(loaded(shown)) == [NEW, NEW, "postgres"]
