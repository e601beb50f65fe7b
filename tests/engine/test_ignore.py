"""Ignore rules, judged by BuildKit itself: for every pattern set the listing is what a build is given, no more, no less."""

from __future__ import annotations

import io
import os
import random
import subprocess
import tarfile
from pathlib import Path

import pytest
from sandbox import Sandbox

from buildorch.context.ignore import parse_rules
from buildorch.context.listing import entries, rules_for

pytestmark = pytest.mark.engine
TREE = (
    "a", "b.txt", "c.md", "node_modules/x/index.js", "node_modules/y/README.md", "src/a", "src/b.txt", "src/deep/er/c.md",
    "src/deep/d.pyc", "src/node_modules/z.js", ".git/HEAD", ".env", "dist/app.js", "dist/app.js.map", "build/[x]/q",
    "build/sp ace/q", "docs/#hash", "docs/!bang", "docs/ünï", "weird*/star", "weird?/mark", "foo/bar/baz/one", "foo/two",
)  # fmt: skip
FOLDERS = ("empty", "src/void", "foo/none")
BY_HAND: tuple[bytes, ...] = (
    b"", b"*", b"**", b"*\n!a", b"*\n!src", b"*\n!src/**", b"*\n!src/deep", b"*\n!**/c.md", b"**\n!**/*.md", b"*.md",
    b"**/*.md", b"src", b"src/", b"/src", b"./src", b"src/../a", b"src//deep", b"src/./deep", b"../a", b"..", b".", b"/",
    b"!.", b"*\n!.", b"*\n!./", b"*\n!src/..", b"!a", b"# comment\na", b" # not a comment", b"#a\n!a", b"\\#hash",
    b"docs/\\#hash", b"docs/\\!bang", b"docs/!bang", b"  a  ", b"\ta\t", b"a\r\nb.txt\r\n", b"\xef\xbb\xbfa", b"\xef\xbb\xbf*\n!a",
    b"\xef\xbb\xbf# comment\na", b"node_modules", b"**/node_modules", b"**/node_modules/**", b"**/node_modules/*",
    b"*/node_modules", b"node_modules\n!node_modules/x", b"node_modules/*\n!node_modules/x", b"node_modules\n!node_modules/x/index.js",
    b"node_modules/\n!node_modules/y/README.md", b"**/*.pyc", b"src/**/*.pyc", b"src/**", b"src/**/c.md", b"src/*", b"src/*/*",
    b"*/*", b"*/*/*", b"?", b"?.txt", b"[ab]", b"[^a]*", b"[a-c].*", b"[a", b"build/[[]x]", b"build/\\[x\\]", b"build/[x]",
    b"build/sp ace", b"build/sp\\ ace", b"weird\\*", b"weird\\?", b"weird*", b"weird?", b"docs/\xc3\xbcn\xc3\xaf", b"docs/*n*",
    b"foo/bar\n!foo/bar/baz", b"foo\n!foo/bar/baz/one", b"foo/**\n!foo/two", b"foo/*\n!foo/bar\nfoo/bar/baz", b"**/one",
    b"foo/**/one", b"foo/**/**/one", b"**/foo/**", b"**foo", b"foo**", b"f**o", b"**/bar/**/one", b"empty", b"src/void", b"**/none",
    b"*\n!empty", b"*\n!src/void", b"a\n!a\na", b"a\n!a", b"!a\na", b".*", b".git", b"**/.*", b".env*", b"*\n!.env", b"dist/*.map",
    b"dist/app.js*\n!dist/app.js", b"!dist\ndist", b"dist\n!dist/", b"dist/\n!dist/app.js", b"src/deep\n!src/deep/er\nsrc/deep/er/c.md",
    b"*\n!src\nsrc/deep\n!src/deep/er/c.md", b"**\n!src/deep/er", b"**/\n!a", b"*/\n!src/a", b"a b", b"a\\", b"\\a", b"\\\\a", b"a/b",
    b"src\\deep", b"SRC", b"A", b"!*\n*", b"*\n!*", b"*\n!*.txt\nb.txt", b"*\n!*/a", b"src/*\n!src/d*", b"src/d*\n!src/deep/er",
    b"foo/bar/../two", b"foo/./two", b"/foo/two", b"//foo/two", b"///a", b"./././a", b"foo/", b"foo//", b"!/a", b"*\n!/src", b"*\n! src",
    b"*\n!  a  ", b"#", b"##", b"\n\n\n", b"\r\n\r\n", b"a\r", b"a\rb.txt", b"*\n!src/b.txt\n!src/a", b"**/b.txt\n!src/b.txt",
    b"**/er\n!**/c.md", b"src/deep/**/c.md", b"src/**/er/*", b"src/*/er", b"*/*/er", b"[!a]", b"[]a]", b"[a-]", b"[\\a]", b"{a,b.txt}",
    b"(a)", b"a|b.txt", b"a+", b"^a", b"a$", b".txt", b"*.", b"*.*", b"**/*.*", b"*\n!*.*", b"**/a", b"!**/a\na", b"**/a\n!a",
)  # fmt: skip
WORDS = (
    b"*", b"**", b"src", b"deep", b"er", b"a", b"*.md", b"node_modules", b"?", b"[a-c]*", b"foo", b"bar", b"d*", b"..", b".", b"c.md",
    b"", b"empty", b".*", b"*o*",
)  # fmt: skip
SEED = int(os.environ.get("BUILDORCH_TEST_SEED", "20260101"))
RANDOM_SETS = 120
TOGETHER = 30
"""Contexts a build is given at once."""


def random_sets() -> list[bytes]:
    chance = random.Random(SEED)

    def pattern() -> bytes:
        text = b"/".join(chance.choice(WORDS) for _ in range(chance.randint(1, 4)))
        return (b"!" if chance.random() < 0.4 else b"") + (b"/" if chance.random() < 0.1 else b"") + text

    return [b"\n".join(pattern() for _ in range(chance.randint(1, 5))) for _ in range(RANDOM_SETS)]


def make_tree(root: Path, rules: bytes) -> None:
    for path in TREE:
        file = root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(path)
    for path in FOLDERS:
        (root / path).mkdir(parents=True)
    (root / "link").symlink_to("src/a")
    (root / ".dockerignore").write_bytes(rules)


def judged_by_buildkit(folder: Path, contexts: dict[str, Path]) -> dict[str, set[str]] | None:
    """What a build finds in each context, or None where it would not take one of them."""
    dockerfile = "FROM scratch\n" + "".join(f"COPY --from={name} . /{name}/\n" for name in contexts)
    (folder / "Dockerfile").write_text(dockerfile)
    command = ["docker", "buildx", "build", "--quiet", "--provenance=false", "--output=type=tar,dest=-"]
    command += [f"--build-context={name}={path}" for name, path in contexts.items()]
    done = subprocess.run([*command, "--", str(folder)], capture_output=True, check=False)
    if done.returncode:
        print(done.stderr.decode(errors="replace")[-500:])
        return None
    found: dict[str, set[str]] = {name: set() for name in contexts}
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
        for member in archive:
            name, _, path = member.name.strip("/").partition("/")
            if path:
                found[name].add(path)
    return found


def judged_together(folder: Path, contexts: dict[str, Path]) -> dict[str, set[str]]:
    """The judgement of one build over all; one by one where it refuses one of them, which is then left out."""
    found = judged_by_buildkit(folder, contexts)
    if found is not None or len(contexts) == 1:
        return found or {}
    return {
        key: value for name, path in contexts.items() for key, value in judged_together(folder, {name: path}).items()
    }


def judged_here(path: Path) -> set[str] | None:
    try:
        return {entry.path for entry in entries(path, rules_for(path))}
    except ValueError:
        return None


def test_the_listing_is_what_buildkit_is_given_for_every_pattern_set(tmp_path: Path):
    sets = list(dict.fromkeys([*BY_HAND, *random_sets()]))
    print(f"seed {SEED}, {len(sets)} pattern sets")
    assert len(sets) >= 200
    contexts = {}
    for number, rules in enumerate(sets):
        # A name of its own for each: BuildKit mirrors a context by its path's last part.
        contexts[f"c{number}"] = tmp_path / f"c{number}-{os.getpid()}"
        make_tree(contexts[f"c{number}"], rules)
    ours = {name: judged_here(path) for name, path in contexts.items()}
    refused = [name for name, found in ours.items() if found is None]
    empty = tmp_path / "empty-main"
    empty.mkdir()

    theirs = {}
    taken = [name for name in contexts if name not in refused]
    for start in range(0, len(taken), TOGETHER):
        theirs |= judged_together(empty, {name: contexts[name] for name in taken[start : start + TOGETHER]})
    differences = [
        (sets[int(name[1:])], sorted(ours[name] - found), sorted(found - ours[name]))
        for name, found in theirs.items()
        if ours[name] != found
    ]
    print(
        f"{len(theirs)} sets judged, {len(taken) - len(theirs)} that BuildKit refuses, {len(refused)} that both refuse"
    )

    assert len(theirs) >= 200
    for name in refused:
        assert judged_by_buildkit(empty, {name: contexts[name]}) is None, sets[int(name[1:])]
    assert not [one for one in differences if one[2]], "files that BuildKit is given and we leave out"
    # Where the library is known to differ nothing is ignored: more counts than need to, and only there.
    assert not [one for one in differences if parse_rules(one[0]).matcher is not None]


def test_the_dockerfiles_own_ignore_file_replaces_the_contexts_even_if_empty(sandbox: Sandbox):
    sandbox.service("app", "FROM scratch\nCOPY . /\n", keep="k", drop="d")
    sandbox.write("services/app/.dockerignore", "drop\n")
    sandbox.write("services/app/Dockerfile.dockerignore", "")
    sandbox.services("services: {app: {}}\n")
    folder = sandbox.root / "services/app"

    report = sandbox.build().raise_for_status()

    assert sandbox.read_file(report.services["app"].reference, "/drop") == b"d"
    assert "drop" in {entry.path for entry in entries(folder, rules_for(folder, folder / "Dockerfile"))}
