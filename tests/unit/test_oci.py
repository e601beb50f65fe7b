"""The OCI documents and names, read once and whole."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buildorch.errors import EXIT_UNREACHABLE, MalformedDocument, UsageError
from buildorch.oci import (
    Descriptor,
    ImageConfig,
    ImageIndex,
    ImageManifest,
    ImageReference,
    Platform,
    load_json,
    parse_digest,
)
from buildorch.testing import make_digest

DIGEST = make_digest("blob")
LAYER = {"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "digest": DIGEST, "size": 10}
CONFIG: dict[str, Any] = {
    "os": "linux",
    "architecture": "arm64",
    "variant": "v8",
    "config": {"User": "1000:1000", "Labels": {"a": "b"}},
    "rootfs": {"type": "layers", "diff_ids": [make_digest("one"), make_digest("two")]},
    "history": [
        {"created_by": "ADD one"},
        {"created_by": "ENV x", "empty_layer": True},
        {"created_by": "RUN two"},
    ],
}


@pytest.mark.parametrize(
    ("text", "registry", "repository", "tag", "digest"),
    [
        ("python", "", "python", "", ""),
        ("python:3.13-slim", "", "python", "3.13-slim", ""),
        ("library/python", "", "library/python", "", ""),
        ("localhost/x", "localhost", "x", "", ""),
        ("localhost:5000/a/b:c", "localhost:5000", "a/b", "c", ""),
        ("127.0.0.1:5000/a", "127.0.0.1:5000", "a", "", ""),
        ("[::1]:5000/a:b", "[::1]:5000", "a", "b", ""),
        ("host:5000/a", "host:5000", "a", "", ""),
        ("registry.example/a__b/c-d.e:T_1", "registry.example", "a__b/c-d.e", "T_1", ""),
        (f"a:b@{DIGEST}", "", "a", "b", DIGEST),
        (f"a@{DIGEST}", "", "a", "", DIGEST),
    ],
)
def test_a_reference_is_taken_apart_by_the_grammar(text: str, registry: str, repository: str, tag: str, digest: str):
    reference = ImageReference.parse(text)

    assert (reference.registry, reference.repository, reference.tag, reference.digest) == (
        registry,
        repository,
        tag,
        digest,
    )


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":",
        "UPPER",
        "a:",
        "a//b",
        "/a",
        "a/",
        "a b",
        "-a",
        "a:-b",
        "a@sha256:0",
        "a___b",
        "a:" + "x" * 129,
        "a" * 513,
    ],
)
def test_what_is_no_reference_is_refused(text: str):
    with pytest.raises(UsageError, match="is not an image reference"):
        ImageReference.parse(text)


_PART = st.from_regex(r"[a-z0-9]+((\.|_|__|-{1,2})[a-z0-9]+){0,2}", fullmatch=True)


@given(
    registry=st.sampled_from(
        ["", "localhost", "localhost:5000", "registry.example", "10.0.0.1:80", "[2001:db8::1]:443"]
    ),
    path=st.lists(_PART, min_size=1, max_size=3),
    tag=st.just("") | st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,20}", fullmatch=True),
    digest=st.sampled_from(["", DIGEST]),
)
def test_a_reference_is_written_as_it_was_read(registry: str, path: list[str], tag: str, digest: str):
    reference = ImageReference(registry, "/".join(path), tag, digest)

    read = ImageReference.parse(str(reference))

    assert str(read) == str(reference)
    assert (read.tag, read.digest) == (tag, digest)


@given(st.text(max_size=60))
def test_any_text_is_a_reference_or_refused(text: str):
    try:
        reference = ImageReference.parse(text)
    except UsageError:
        return
    assert str(reference) == text


@pytest.mark.parametrize("text", ["linux/amd64", "linux/arm64/v8", "windows/amd64", "linux/arm/v7"])
def test_a_platform_is_written_as_it_was_read(text: str):
    assert str(Platform.parse(text)) == text


@pytest.mark.parametrize("text", ["", "linux", "linux/", "Linux/amd64", "linux/amd64/v1/x", "linux/amd64 "])
def test_what_is_no_platform_is_refused(text: str):
    with pytest.raises(UsageError, match="is not a platform"):
        Platform.parse(text)


@pytest.mark.parametrize(
    "text", [None, 7, "", "sha256:", "sha256:" + "0" * 63, "sha256:" + "G" * 64, "md5:" + "0" * 64]
)
def test_what_is_no_digest_is_refused(text: object):
    with pytest.raises(MalformedDocument, match=r"malformed digest: .* is not a sha256 digest"):
        parse_digest(text)


def test_a_descriptor_is_read_with_its_platform():
    descriptor = Descriptor.from_json({**LAYER, "platform": {"os": "linux", "architecture": "arm", "variant": "v7"}})

    assert (descriptor.digest, descriptor.size, str(descriptor.platform)) == (DIGEST, 10, "linux/arm/v7")


def test_attestation_manifests_are_left_out_of_an_index_by_either_mark():
    index = ImageIndex.from_json(
        {
            "manifests": [
                {**LAYER, "platform": {"os": "linux", "architecture": "amd64"}},
                {**LAYER, "platform": {"os": "unknown", "architecture": "unknown"}},
                {**LAYER, "annotations": {"vnd.docker.reference.type": "attestation-manifest"}},
            ]
        }
    )

    assert [str(manifest.platform) for manifest in index.manifests] == ["linux/amd64"]


def test_a_manifest_is_read_with_its_layers_lowest_first():
    manifest = ImageManifest.from_json({"config": LAYER, "layers": [LAYER, {**LAYER, "size": 20}]})

    assert [layer.size for layer in manifest.layers] == [10, 20]


def test_an_image_without_layers_has_null_for_them_and_is_whole():
    assert ImageManifest.from_json({"config": LAYER, "layers": None}).layers == ()
    assert ImageConfig.from_json({"rootfs": {"type": "layers", "diff_ids": None}}).diff_ids == ()


def test_a_config_gives_each_layer_the_instruction_that_made_it():
    config = ImageConfig.from_json(CONFIG)

    assert config.created_by == ("ADD one", "RUN two")
    assert (str(config.platform), config.user, config.labels) == ("linux/arm64/v8", "1000:1000", {"a": "b"})


def test_a_history_that_does_not_fit_the_layers_names_no_instruction():
    config = ImageConfig.from_json({**CONFIG, "history": [{"created_by": "ADD one"}]})

    assert config.created_by == ("", "")


def test_a_config_without_user_labels_and_history_is_whole():
    config = ImageConfig.from_json({"rootfs": {"diff_ids": []}, "config": None, "history": None})

    assert (config.user, config.labels, config.created_by) == ("", {}, ())


@pytest.mark.parametrize(
    ("read", "document", "said"),
    [
        (Descriptor.from_json, [], "malformed descriptor: it is not a JSON object"),
        (Descriptor.from_json, {**LAYER, "size": -1}, "malformed descriptor: its size is -1"),
        (Descriptor.from_json, {**LAYER, "size": "10"}, "malformed descriptor: its size is '10'"),
        (Descriptor.from_json, {"size": 1}, "malformed descriptor: None is not a sha256 digest"),
        (Descriptor.from_json, {**LAYER, "platform": "linux"}, "malformed descriptor"),
        (Descriptor.from_json, {**LAYER, "annotations": 7}, "malformed descriptor"),
        (ImageIndex.from_json, {}, "malformed image index: it has no list of manifests"),
        (ImageIndex.from_json, {"manifests": [7]}, "malformed descriptor: it is not a JSON object"),
        (ImageManifest.from_json, {"config": LAYER}, "malformed image manifest: it has no list of layers"),
        (ImageManifest.from_json, {"layers": []}, "malformed descriptor: it is not a JSON object"),
        (ImageConfig.from_json, {}, "malformed image config's rootfs: it is not a JSON object"),
        (ImageConfig.from_json, {"rootfs": {}}, "malformed image config: its rootfs has no diff_ids"),
        (ImageConfig.from_json, {"rootfs": {"diff_ids": ["x"]}}, "malformed diff_id: 'x' is not a sha256 digest"),
        (ImageConfig.from_json, {**CONFIG, "history": [7]}, "malformed image config"),
        (ImageConfig.from_json, {**CONFIG, "config": [7]}, "malformed image config"),
    ],
)
def test_a_malformed_document_is_refused_by_its_kind(read: Any, document: object, said: str):
    with pytest.raises(MalformedDocument) as caught:
        read(document)

    assert str(caught.value).startswith(said)
    assert caught.value.exit_code == EXIT_UNREACHABLE


@pytest.mark.parametrize("data", [b"", b"[]", b"{", b"\xff", b"7", b"[" * 100_000])
def test_bytes_that_are_no_json_object_are_refused(data: bytes):
    with pytest.raises(MalformedDocument, match="malformed image manifest"):
        load_json(data, "image manifest")


_JUNK = st.none() | st.booleans() | st.integers() | st.text(max_size=4) | st.lists(st.integers(), max_size=2)
_MAYBE = {
    key: _JUNK
    | st.dictionaries(st.sampled_from(["os", "User", "Labels", "vnd.docker.reference.type"]), _JUNK, max_size=2)
    for key in ("platform", "annotations", "config", "history", "os", "mediaType")
}
_DESCRIPTOR = st.fixed_dictionaries({"digest": st.just(DIGEST) | _JUNK, "size": st.just(1) | _JUNK}, optional=_MAYBE)
_DOCUMENT = st.fixed_dictionaries(
    {
        "digest": st.just(DIGEST),
        "size": st.just(1),
        "config": _DESCRIPTOR | _MAYBE["config"],
        "layers": st.lists(_DESCRIPTOR, max_size=2) | _JUNK,
        "manifests": st.lists(_DESCRIPTOR, max_size=2) | _JUNK,
        "rootfs": st.fixed_dictionaries({"diff_ids": st.lists(st.just(DIGEST), max_size=2) | _JUNK}) | _JUNK,
        "history": st.lists(st.fixed_dictionaries({"created_by": _JUNK, "empty_layer": _JUNK}) | _JUNK, max_size=3)
        | _JUNK,
    },
    optional={key: value for key, value in _MAYBE.items() if key not in {"history", "config"}},
)


@pytest.mark.parametrize(
    "read", [Descriptor.from_json, ImageIndex.from_json, ImageManifest.from_json, ImageConfig.from_json]
)
@given(document=_DOCUMENT | _JUNK)
def test_any_document_is_read_or_refused_and_nothing_else(read: Any, document: object):
    try:
        value = read(json.loads(json.dumps(document)))
    except MalformedDocument:
        return
    assert type(value) is read.__self__
