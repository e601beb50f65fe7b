"""What layers hold that no image runs."""

from __future__ import annotations

import pytest
from subjects import judged, make_image

from buildorch.contents import Entry, LayerContents
from buildorch.policy.contents import kind_of
from buildorch.record import Finding
from buildorch.services import Policy
from buildorch.testing import make_platform

ON = Policy(contents="error")


def layer(*entries: Entry) -> LayerContents:
    return LayerContents(0, entries)


def of(*layers: LayerContents, policy: Policy = ON) -> list[Finding]:
    facts = make_platform(unpacked=[10] * len(layers), compressed=[1] * len(layers))
    return [finding for finding in judged(policy, make_image(facts, layers=layers)) if finding.rule == "contents"]


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("usr/bin/gcc", "a compiler"),
        ("usr/bin/gcc-12", "a compiler"),
        ("usr/bin/x86_64-linux-gnu-g++-12", "a compiler"),
        ("usr/local/cargo/bin/rustc", "a compiler"),
        ("usr/local/go/bin/go", "a compiler"),
        ("usr/lib/gcc/x86_64-linux-gnu/12/cc1plus", "a compiler"),
        ("var/cache/apt/archives/gcc_12.deb", "a package cache"),
        ("var/cache/apk/APKINDEX.tar.gz", "a package cache"),
        ("var/lib/apt/lists/deb_dists_Packages", "a package cache"),
        ("root/.cache/pip/http/x", "a package cache"),
        ("root/.npm/_cacache/index", "a package cache"),
        ("app/.next/cache/webpack/x", "a package cache"),
        ("app/.git/HEAD", "a git repository"),
        (".git", "a git repository"),
        (".env", "an .env file"),
        ("app/.env.production", "an .env file"),
        ("app/tests/test_x.py", "tests"),
        ("srv/__tests__/x.js", "tests"),
    ],
)
def test_what_an_image_does_not_run_is_known_by_its_path(path: str, kind: str):
    assert kind_of(Entry(path, "file", size=1)) == kind


@pytest.mark.parametrize(
    "path",
    [
        "usr/lib/x86_64-linux-gnu/libgcc_s.so.1",
        "usr/bin/gccxml",
        "app/go",
        "usr/bin/cargo-culting",
        "app/.gitignore",
        "app/.env.example",
        "app/.environment",
        "app/test.py",
        "usr/lib/python3.13/test/x.py",
        "opt/venv/lib/python3.13/site-packages/numpy/tests/x.py",
        "app/node_modules/x/test/x.js",
        "app/node_modules/x/.env",
        "app/contest/x",
    ],
)
def test_what_only_looks_like_it_is_passed_over(path: str):
    assert kind_of(Entry(path, "file", size=1)) == ""


def test_an_empty_file_is_no_package_cache():
    assert kind_of(Entry("var/lib/apt/lists/lock", "file")) == ""


def test_a_private_key_is_known_by_its_begin_and_not_by_its_name():
    assert kind_of(Entry("app/x", "file", size=1, is_private_key=True)) == "a private key"
    assert kind_of(Entry("app/node_modules/x/key.pem", "file", size=1, is_private_key=True)) == ""


def test_a_finding_names_the_files_their_bytes_and_the_instruction():
    [finding] = of(layer(*(Entry(f"app/tests/{name}.py", "file", size=500) for name in "abcd")))

    assert finding.severity == "error"
    assert finding.message == (
        "linux/amd64: tests: /app/tests/a.py, /app/tests/b.py, /app/tests/c.py and 1 more (2.0 kB), "
        "in the layer of COPY 0 /"
    )


def test_what_a_later_layer_deletes_is_still_found():
    [finding] = of(layer(Entry(".env", "file", size=1)), layer(Entry(".env", "whiteout")))

    assert finding.message.endswith("; a later layer deletes it, and it is pulled all the same")


def test_of_several_files_it_is_said_how_many_are_deleted():
    [finding] = of(
        layer(Entry("a/.env", "file", size=1), Entry("b/.env", "file", size=1)), layer(Entry("a/.env", "whiteout"))
    )

    assert "; later layers delete 1 of 2, and it is pulled" in finding.message


def test_folders_alone_are_nothing():
    assert of(layer(Entry("app/.git", "folder"), Entry("app/tests", "folder"))) == []


def test_layers_that_were_not_read_are_a_warning():
    [finding] = [one for one in judged(ON, make_image()) if one.rule == "contents"]

    assert finding.severity == "warning"


def test_the_level_is_the_services_own_and_off_by_default():
    entry = layer(Entry(".env", "file", size=1))

    assert [finding.severity for finding in of(entry, policy=Policy(contents="warning"))] == ["warning"]
    assert of(entry, policy=Policy()) == []
