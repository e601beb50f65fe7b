"""What differs between two images, to the byte."""

from __future__ import annotations

import dataclasses

from buildorch.contents import Entry, LayerContents, Package
from buildorch.differences import ImageContents, differences, installed
from buildorch.oci import ImageConfig, Platform
from buildorch.record import Layer, PlatformRecord
from buildorch.report.difference import Diff, ServiceDifference, diff_json, diff_text
from buildorch.testing import make_digest

CONFIG = ImageConfig(Platform("linux", "amd64"), "1", {}, (), ())


def file(path: str, size: int, *, content: str = "", **more: int) -> Entry:
    stored = 512 + -(-size // 512) * 512
    return Entry(path, "file", size=size, stored_bytes=stored, digest=make_digest(content or f"{size}")[7:], **more)


def layer_of(*entries: Entry, packages: tuple[Package, ...] = ()) -> LayerContents:
    return LayerContents(sum(entry.stored_bytes for entry in entries) + 1024, entries, packages=packages)


def image(*layers: tuple[str, LayerContents], config: ImageConfig = CONFIG) -> ImageContents:
    facts = tuple(
        Layer(
            digest=make_digest(repr(contents)),
            compressed_bytes=contents.unpacked_bytes // 2,
            unpacked_bytes=contents.unpacked_bytes,
            created_by=instruction,
        )
        for instruction, contents in layers
    )
    unpacked = sum(layer.unpacked_bytes for layer in facts)
    record = PlatformRecord(
        manifest_digest=make_digest("m"),
        config_digest=make_digest("c"),
        compressed_bytes=unpacked // 2,
        unpacked_bytes=unpacked,
        user="1",
        layers=facts,
    )
    return ImageContents(record, config, tuple(contents for _, contents in layers))


BASE = ("ADD base", layer_of(file("etc/passwd", 100)))


def test_an_image_differs_in_nothing_from_itself():
    one = image(BASE)

    found = differences(one, one)

    assert (found.growth_bytes, found.instructions, found.files, found.packages, found.config) == (0, (), (), (), ())


def test_files_that_came_went_and_grew_are_named_the_largest_change_first():
    before = image(BASE, ("COPY app", layer_of(file("a", 10), file("b", 2000), file("same", 7))))
    after = image(BASE, ("COPY app", layer_of(file("b", 9000), file("c", 3000), file("same", 7))))

    found = differences(before, after)

    assert [(one.path, one.kind, one.before_size, one.after_size) for one in found.files or ()] == [
        ("b", "changed", 2000, 9000),
        ("c", "added", 0, 3000),
        ("a", "removed", 10, 0),
    ]


def test_all_growth_has_the_name_of_a_file_but_for_the_ends_of_tars():
    before = image(BASE)
    after = image(BASE, ("COPY app", layer_of(file("a", 10), file("b", 2000))))

    found = differences(before, after)

    assert found.growth_bytes - found.attributed_bytes == 1024


def test_a_file_that_only_changes_its_owner_in_a_new_layer_weighs_twice():
    before = image(BASE)
    after = image(BASE, ("RUN chown", layer_of(file("etc/passwd", 100, uid=5))))

    [change] = differences(before, after).files or ()

    assert (change.path, change.before_size, change.after_size) == ("etc/passwd", 100, 200)
    assert (change.before_bytes, change.after_bytes) == (1024, 2048)


def test_a_file_of_another_content_and_the_same_size_is_changed():
    before = image(("COPY", layer_of(file("a", 10, content="x"))))
    after = image(("COPY", layer_of(file("a", 10, content="y"))))

    [change] = differences(before, after).files or ()

    assert (change.kind, change.before_bytes, change.after_bytes) == ("changed", 1024, 1024)


def test_layers_are_compared_instruction_by_instruction():
    before = image(BASE, ("COPY a", layer_of(file("a", 10))), ("RUN x", layer_of(file("x", 1))))
    after = image(BASE, ("COPY a", layer_of(file("a", 5000))), ("RUN y", layer_of(file("x", 1))), ("RUN z", layer_of()))

    found = differences(before, after).instructions

    assert [(one.instruction, one.before_bytes, one.after_bytes) for one in found] == [
        ("COPY a", 2048, 6656),
        ("RUN z", None, 1024),
    ]


def test_packages_are_compared_by_what_the_final_file_system_tells():
    old, new = (Package("deb", "zlib", version, "var/lib/dpkg/status") for version in ("1", "2"))
    gone = Package("python", "six", "1", "site-packages/six/METADATA")
    before = image(
        ("A", layer_of(file("var/lib/dpkg/status", 1), packages=(old,))),
        ("B", layer_of(file("site-packages/six/METADATA", 1), packages=(gone,))),
    )
    after = image(
        ("A", layer_of(file("var/lib/dpkg/status", 1), packages=(old,))),
        ("B", layer_of(file("site-packages/six/METADATA", 1), packages=(gone,))),
        (
            "C",
            layer_of(file("var/lib/dpkg/status", 1), Entry("site-packages/six/METADATA", "whiteout"), packages=(new,)),
        ),
    )

    found = differences(before, after).packages or ()

    assert [(one.name, one.before, one.after) for one in found] == [("zlib", ("1",), ("2",)), ("six", ("1",), ())]
    assert installed(after.layers or ()) == {new}


def test_the_config_is_compared_variable_by_variable_and_label_by_label():
    old = dataclasses.replace(CONFIG, environment=("A=1", "B=2"), labels={"l": "1"})
    new = dataclasses.replace(CONFIG, user="2", environment=("A=1", "B=3"), command=("x",))

    found = differences(image(BASE, config=old), image(BASE, config=new)).config or ()

    assert [(one.name, one.before, one.after) for one in found] == [
        ("command", None, "x"),
        ("environment B", "2", "3"),
        ("label l", "1", None),
        ("user", "1", "2"),
    ]


def test_an_image_that_is_gone_is_compared_by_its_record():
    known = image(BASE)
    gone = ImageContents(known.facts)

    found = differences(gone, known)

    assert (found.growth_bytes, found.files, found.packages, found.config) == (0, None, None, None)


def test_what_is_not_known_of_an_image_that_is_gone_is_said():
    known = image(BASE)

    text = diff_text(diff_of(ImageContents(known.facts), known))

    assert "which files changed is not known: an image cannot be read, and its layers are not remembered here" in text
    assert "files:" not in text


def diff_of(before: ImageContents, after: ImageContents) -> Diff:
    service = ServiceDifference(
        kind="changed",
        before="t/app:1",
        before_digest=make_digest("1"),
        after="t/app:2",
        after_digest=make_digest("2"),
        platforms={"linux/amd64": differences(before, after)},
    )
    return Diff(project="t", services={"app": service}, exit_code=0)


def test_the_text_names_what_grew_and_by_how_much():
    text = diff_text(diff_of(image(BASE), image(BASE, ("COPY app", layer_of(file("a", 9000))))))

    assert "unpacked 2.0 kB -> 12.8 kB (+10.8 kB)" in text
    assert "+ 0 B -> 9.7 kB (+9.7 kB)  /a" in text
    assert "growth +10.8 kB, +1.0 kB of it in the ends of the layers' tars" in text


def test_names_from_an_image_are_data_on_a_terminal():
    text = diff_text(diff_of(image(BASE), image(BASE, ("COPY \x1b[2J", layer_of(file("\x1b[31m", 9))))))

    assert "\x1b" not in text


def test_names_that_are_no_unicode_are_written_as_json():
    assert "\\udcff" in diff_json(diff_of(image(BASE), image(BASE, ("COPY", layer_of(file("\udcff", 9))))))
