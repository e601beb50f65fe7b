"""Random small projects, and random edits of everything that a build of theirs can depend on.

A project is drawn from building blocks: a tree of files with links, modes and look-alikes, ignore rules, and a Dockerfile
whose instructions read parts of it. A mutation edits it in place and says which names an explanation may give.
"""

from __future__ import annotations

import io
import json
import os
import random
import re
import shutil
import stat
import subprocess
import tarfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

Effect = Literal["any", "none", "modes"]
"""any: the image may change or not. none: no image changes, so a build is a false rebuild. modes: a build is right exactly
if the oracle says that the image changed."""
OLD_NS = 1_600_000_000_000_000_000
"""The mtime of most files: the same, as an archive or a cache restore leaves it."""
FILES = (
    "src/a.txt", "src/b.txt", "src/deep/c.txt", "src/deep/er/d.md", "src/sp ace.txt", "src/ünï.txt", "conf/one.conf",
    "conf/two.conf", "lib/x.js", "lib/y.md", "bin/tool", "docs/readme.md", "docs/keep.md", "unused/u.txt",
)  # fmt: skip
FOLDERS = ("empty", "src/void")
LINKS = {"link": "src/a.txt", "linkdir": "conf", "src/dangling": "nowhere", "lib/up": "../src"}
IGNORED = (
    "", "docs\n", "docs\n!docs/keep.md\n", "**/*.md\n!src/deep/er/d.md\n", "*\n!src\n!lib\n!conf\n!bin\n!link\n!linkdir\n!empty\n!data.tar\n",
    "\ufeff# a comment\r\ndocs/*\r\n!docs/k*\r\n", "unused\n**/void\n",
)  # fmt: skip
BLOCKS = {
    "folder": "COPY src /app/src\n",
    "files": "COPY src/a.txt conf/one.conf /app/files/\n",
    "wildcard": "COPY conf/*.conf /conf/\n",
    "wildcard of folders": "COPY l* /w/\n",
    "whole": "COPY . /all/\n",
    "link": "COPY link /by-link\n",
    "through a link": "COPY linkdir/one.conf /through-link\n",
    "empty folder": "COPY empty /empty/\n",
    "chmod": "COPY --chmod=0640 bin/tool /tool\n",
    "chown": "COPY --chown=7:8 conf /owned/\n",
    "linked": "COPY --link src/b.txt /linked\n",
    "json": 'COPY ["src/sp ace.txt", "/json/"]\n',
    "exclude": "COPY --exclude=*.md lib /excluded/\n",
    "parents": "COPY --parents src/deep/c.txt lib/*.js /parents/\n",
    "archive": "ADD data.tar /unpacked/\n",
    "add": "ADD lib/x.js /added/\n",
    "named file": "COPY --from=shared lib.txt /shared/\n",
    "named folder": "COPY --from=shared sub /shared-sub/\n",
    "named whole": "COPY --from=shared . /shared-all/\n",
    "heredoc": "COPY <<EOF /heredoc\nword one\n$VERSION\nEOF\n",
    "variable": "COPY src/$WHICH.txt /which\n",
    "argument": "ENV SHOWN=$VERSION\n",
    "label": "LABEL told=$VERSION\n",
    "stage": "COPY --from=other / /from-other/\n",
    "bind": "RUN --mount=type=bind,source=lib,target=/m for f in $(busybox find /m -type f | busybox sort); do busybox cat $f; done > /by-bind\n",
    "bind of a file": "RUN --mount=type=bind,source=bin/tool,target=/t busybox cat /t > /by-bind-file; busybox stat -c %a /t > /mode\n",
    "bind of a named": "RUN --mount=type=bind,from=shared,source=sub,target=/n busybox find /n -type f | busybox sort > /by-named\n",
    "bind of all": "RUN --mount=target=/c busybox find /c | busybox sort > /all-names\n",
    "heredoc run": "RUN <<EOF\nbusybox echo word two $VERSION > /heredoc-run\nEOF\n",
}
SHELL = {name for name, text in BLOCKS.items() if text.startswith("RUN")}


@dataclass(frozen=True)
class Bases:
    """Base images in a registry, for tags of one's own."""

    registry: str
    repository: str
    """`plain` images have a shell and one word; one image has an ONBUILD besides."""
    plain: tuple[str, str]
    """Two manifests."""
    onbuild: str
    put: Callable[[str, str], None]
    """Move a tag to a digest."""


@dataclass(frozen=True)
class Mutation:
    """One edit that was made."""

    kind: str
    told: str = ""
    """What was done, for people."""
    subjects: tuple[str, ...] = ()
    """Patterns of the names that an explanation may give; one of them must be there."""
    wide: bool = False
    """Whether other names may be there too: the edit decides which files count."""
    effect: Effect = "any"
    root: Path | None = None
    """Where the mutated project is, if elsewhere."""
    undo: Callable[[], None] = lambda: None


@dataclass
class Project:
    """A project on the disk, and what it was drawn from."""

    root: Path
    name: str
    chance: random.Random
    bases: Bases
    base: str = "scratch"
    """`scratch`, or the tag of its base image."""
    blocks: list[str] = field(default_factory=list)
    context: str = "services/app"
    dockerfile: str = "Dockerfile"
    in_git: bool = False
    spec: dict[str, Any] = field(default_factory=dict)

    @property
    def folder(self) -> Path:
        """The main context."""
        return self.root / self.context

    @property
    def dockerfile_path(self) -> Path:
        """The Dockerfile."""
        return Path(os.path.normpath(self.folder / self.dockerfile))

    @property
    def services(self) -> list[str]:
        """The services' names, bases first."""
        return list(self.spec["services"])

    @property
    def app(self) -> dict[str, Any]:
        """What the services file says of the first service."""
        return self.spec["services"]["app"]

    def save(self) -> None:
        """Write the services file; JSON is YAML too."""
        (self.root / "services.yaml").write_text(json.dumps(self.spec, indent=1))

    def reads_all(self) -> bool:
        """Whether any block has all of the main context count, at least for buildorch."""
        wide = {"whole", "wildcard of folders", "link", "through a link", "bind of all"}
        return not wide.isdisjoint(self.blocks)


def draw(root: Path, name: str, chance: random.Random, bases: Bases, *, number: int, can: Sequence[str]) -> Project:
    """A random project; `can` names the blocks that this BuildKit takes."""
    project = Project(root, name, chance, bases)
    kind = chance.random()
    project.base = "scratch" if kind < 0.35 else f"p{number}"
    usable = [block for block in can if project.base != "scratch" or block not in SHELL]
    project.blocks = chance.sample(usable, min(len(usable), chance.randint(3, 8)))
    if sum(block in SHELL for block in project.blocks) > 2:
        project.blocks = [block for block in project.blocks if block not in SHELL] + ["bind"]
    if project.base != "scratch":
        bases.put(project.base, bases.onbuild if chance.random() < 0.2 else bases.plain[0])
    outside = chance.random() < 0.25
    project.dockerfile = "../../docker/app.Dockerfile" if outside else "Dockerfile"
    project.in_git = number % 4 == 0
    _plant(project)
    app: dict[str, Any] = {"args": {"VERSION": "1", "WHICH": "a", "UNUSED": "u"}, "labels": {"team": "one"}}
    if outside:
        app["dockerfile"] = project.dockerfile
    if chance.random() < 0.8 or any("shared" in BLOCKS[block] for block in project.blocks):
        app["contexts"] = {"shared": "shared"}
    if chance.random() < 0.4:
        app["target"] = "final"
    if chance.random() < 0.5:
        app["platforms"] = ["linux/amd64"]
    project.spec = {"version": 1, "project": name, "services": {"app": app}}
    if chance.random() < 0.35:
        project.spec["services"]["top"] = {"contexts": {"under": "service:app"}}
        _write(root / "services/top/Dockerfile", "FROM under\nCOPY own /own\n")
        _write(root / "services/top/own", "own")
    project.save()
    if project.in_git:
        _git(root, "init", "--quiet")
        _write(root / ".gitignore", ".buildorch\n")
        _git(root, "add", "--all", "--force", "--", ".", ":!.buildorch")
        _git(root, "-c", "user.name=t", "-c", "user.email=t@example.org", "commit", "--quiet", "--message=one")
    return project


def _plant(project: Project) -> None:  # noqa: C901 - one block of the drawn Dockerfile after another
    """The tree, the ignore rules and the Dockerfile."""
    chance, folder = project.chance, project.folder
    for path in FILES:
        size = 12 if path.startswith(("src/", "conf/")) else chance.randint(0, 40)
        _write(folder / path, f"{path}{chance.random()}".ljust(size, ".")[:size] if size else "", mtime_ns=OLD_NS)
    (folder / "bin/tool").chmod(0o755)
    for path, target in LINKS.items():
        (folder / path).symlink_to(target)
    with tarfile.open(folder / "data.tar", "w") as archive:
        archive.addfile(tarfile.TarInfo("packed"), io.BytesIO())
    for path in FOLDERS:
        (folder / path).mkdir()
        if project.in_git:  # git keeps no empty folders
            _write(folder / path / ".keep", "")
    if not project.in_git:
        os.link(folder / "lib/x.js", folder / "lib/hard")
        if chance.random() < 0.5:
            (folder / "src/b.txt").chmod(0o4755)
        if chance.random() < 0.5:
            (folder / "src/deep").chmod(0o1777)
    for path in ("lib.txt", "sub/z.txt", "sub/deeper/q.txt", "extra.md"):
        _write(project.root / "shared" / path, f"shared {path}", mtime_ns=OLD_NS)
    for path in ("lib.txt", "sub/z.txt", "sub/deeper/q.txt", "extra.md"):
        _write(project.root / "shared2" / path, f"shared {path}", mtime_ns=OLD_NS)
    if chance.random() < 0.4:
        _write(project.root / "shared/.dockerignore", "*.md\n")
    _write(project.root / "elsewhere/note.txt", "note")
    _write(folder / ".dockerignore", chance.choice(IGNORED))
    if chance.random() < 0.3:
        own = project.dockerfile_path.with_name(f"{project.dockerfile_path.name}.dockerignore")
        _write(own, chance.choice(IGNORED))
    _write(project.dockerfile_path, _dockerfile(project))


def _dockerfile(project: Project) -> str:
    base = project.base
    start = base if base == "scratch" else f"{project.bases.registry}/{project.bases.repository}:{base}"
    text = f"ARG WHICH=a\nFROM scratch AS other\nCOPY conf /other-conf\n\nFROM {start} AS final\nARG VERSION=0\nARG WHICH\n"
    return text + "".join(BLOCKS[block] for block in project.blocks)


def _write(path: Path, text: str, *, mtime_ns: int | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode())
    if mtime_ns is not None:
        os.utime(path, ns=(mtime_ns, mtime_ns))


def _git(folder: Path, *arguments: str) -> None:
    subprocess.run(["git", *arguments], cwd=folder, check=True, capture_output=True)


# Keeping a project's state, to go back to it.


@dataclass(frozen=True)
class _Kept:
    seen: os.stat_result
    data: bytes
    capability: bytes | None


def keep(root: Path) -> dict[str, _Kept]:
    """Everything below a folder but buildorch's own state and git's."""
    return {path: _kept(root / path) for path in _paths(root)}


def restore(root: Path, kept: dict[str, _Kept]) -> None:
    """Make everything as it was: bytes, types, modes, mtimes, owners, hard links; not inodes and ctimes."""
    for path in reversed(list(_paths(root))):
        full = root / path
        was, now = kept.get(path), full.lstat()
        if was is None or stat.S_IFMT(was.seen.st_mode) != stat.S_IFMT(now.st_mode):
            full.rmdir() if stat.S_ISDIR(now.st_mode) else full.unlink()
    first: dict[int, Path] = {}
    for path, was in kept.items():
        full = root / path
        other = first.setdefault(was.seen.st_ino, full) if stat.S_ISREG(was.seen.st_mode) else full
        if not _same(full, was):
            _put_back(full, was, other)
    for path, was in reversed(kept.items()):
        # Only where it differs: it would set ctime, and no state would ever be old enough to be trusted.
        if not stat.S_ISLNK(was.seen.st_mode) and (root / path).lstat().st_mtime_ns != was.seen.st_mtime_ns:
            os.utime(root / path, ns=(was.seen.st_atime_ns, was.seen.st_mtime_ns))


def _paths(root: Path) -> Iterator[str]:
    yield "."
    for folder, folders, files in os.walk(root):
        here = os.path.relpath(folder, root)
        folders[:] = sorted(name for name in folders if name not in {".buildorch", ".git"})
        yield from (os.path.normpath(f"{here}/{name}") for name in (*folders, *sorted(files)))


def _kept(path: Path) -> _Kept:
    seen = path.lstat()
    if stat.S_ISLNK(seen.st_mode):
        return _Kept(seen, str(path.readlink()).encode(), None)
    return _Kept(seen, path.read_bytes() if stat.S_ISREG(seen.st_mode) else b"", _capability(path))


def _capability(path: Path) -> bytes | None:
    try:
        return os.getxattr(path, "security.capability")
    except OSError:
        return None


def _same(path: Path, was: _Kept) -> bool:
    try:
        now = path.lstat()
    except OSError:
        return False
    fields = ("st_ino", "st_mode", "st_size", "st_mtime_ns", "st_ctime_ns", "st_uid", "st_gid")
    return all(getattr(now, name) == getattr(was.seen, name) for name in fields)


def _put_back(path: Path, was: _Kept, first: Path) -> None:
    if stat.S_ISLNK(was.seen.st_mode):
        path.unlink(missing_ok=True)
        path.symlink_to(was.data.decode())
        os.lchown(path, was.seen.st_uid, was.seen.st_gid)
        return
    if stat.S_ISDIR(was.seen.st_mode):
        path.mkdir(exist_ok=True)
    elif first != path:
        path.unlink(missing_ok=True)
        os.link(first, path)
        return
    else:
        path.unlink(missing_ok=True)
        path.write_bytes(was.data)
        if was.capability is not None:
            os.setxattr(path, "security.capability", was.capability)
    os.chown(path, was.seen.st_uid, was.seen.st_gid)
    path.chmod(stat.S_IMODE(was.seen.st_mode))


# The mutations. Each gives None where it does not fit the project.

Mutate = Callable[[Project], Mutation | None]
KINDS: dict[str, Mutate] = {}


def kind(name: str) -> Callable[[Mutate], Mutate]:
    def register(mutate: Mutate) -> Mutate:
        KINDS[name] = mutate
        return mutate

    return register


def _files(project: Project, under: Path | None = None) -> list[Path]:
    top = under or project.folder
    found = (path for path in top.rglob("*") if path.is_file() and not path.is_symlink())
    return sorted(path for path in found if path.name[0] != "." and not path.name.startswith("Dockerfile"))


def _folders(project: Project) -> list[Path]:
    return sorted(path for path in project.folder.rglob("*") if path.is_dir() and not path.is_symlink())


def _named(project: Project, *paths: Path) -> tuple[str, ...]:
    """The names an explanation may give to files: of the main context, and of the named one."""
    found = []
    for path in paths:
        for name in (path, *_twins(path)):
            if name.is_relative_to(project.folder):
                found.append(re.escape(name.relative_to(project.folder).as_posix()))
            elif name.is_relative_to(project.root / "shared"):
                found.append(re.escape(f"shared: {name.relative_to(project.root / 'shared').as_posix()}"))
    return tuple(found)


def _twins(path: Path) -> list[Path]:
    """Hard links to the same file."""
    try:
        inode = path.lstat().st_ino
        return [one for one in path.parent.iterdir() if one != path and one.lstat().st_ino == inode]
    except OSError:
        return []


def _pick(project: Project, *, shared: bool = False) -> Path:
    return project.chance.choice(_files(project, project.root / "shared" if shared else None))


def _rewrite(path: Path, data: bytes, *, keep_mtime: bool) -> None:
    seen = path.stat()
    path.write_bytes(data)
    if keep_mtime:
        os.utime(path, ns=(seen.st_atime_ns, seen.st_mtime_ns))


def _other_bytes(data: bytes) -> bytes:
    return bytes([data[0] ^ 1]) + data[1:]


@kind("content")
def content(project: Project) -> Mutation:
    path = _pick(project)
    subjects = _named(project, path)
    _rewrite(path, path.read_bytes() + b"more", keep_mtime=False)
    return Mutation("content", str(path), subjects)


@kind("content of equal size and mtime")
def same_size(project: Project) -> Mutation | None:
    path = _pick(project)
    if not path.stat().st_size:
        return None
    _rewrite(path, _other_bytes(path.read_bytes()), keep_mtime=True)
    return Mutation("content of equal size and mtime", str(path), _named(project, path))


@kind("content of equal size and mtime, of what is surely read")
def same_size_read(project: Project) -> Mutation | None:
    path = project.folder / {
        "files": "src/a.txt",
        "folder": "src/b.txt",
        "link": "src/a.txt",
        "json": "src/sp ace.txt",
    }.get(
        next((block for block in project.blocks if block in {"files", "folder", "link", "json"}), "files"), "src/a.txt"
    )
    _rewrite(path, _other_bytes(path.read_bytes()), keep_mtime=True)
    return Mutation("content of equal size and mtime, of what is surely read", str(path), _named(project, path))


@kind("replaced by a rename, size and mtime equal")
def replaced(project: Project) -> Mutation | None:
    path = _pick(project)
    seen = path.stat()
    if not seen.st_size:
        return None
    subjects = _named(project, path)
    new = project.root / "incoming"
    new.write_bytes(_other_bytes(path.read_bytes()))
    new.chmod(stat.S_IMODE(seen.st_mode))
    os.utime(new, ns=(seen.st_atime_ns, seen.st_mtime_ns))
    new.rename(path)
    return Mutation("replaced by a rename, size and mtime equal", str(path), subjects)


@kind("two files of equal size and mtime swapped")
def swapped(project: Project) -> Mutation:
    one, other = project.folder / "src/a.txt", project.folder / "src/deep/c.txt"
    between = project.root / "between"
    one.rename(between)
    other.rename(one)
    between.rename(other)
    return Mutation(
        "two files of equal size and mtime swapped", "src/a.txt, src/deep/c.txt", _named(project, one, other)
    )


@kind("truncated")
def truncated(project: Project) -> Mutation | None:
    path = _pick(project)
    if not path.stat().st_size:
        return None
    _rewrite(path, b"", keep_mtime=True)
    return Mutation("truncated", str(path), _named(project, path))


@kind("renamed")
def renamed(project: Project) -> Mutation:
    path = _pick(project)
    new = path.with_name(f"{path.stem}-new{path.suffix}")
    subjects = _named(project, path, new)
    path.rename(new)
    # A source that is gone, or a link that leads nowhere now, may have other files count.
    return Mutation("renamed", f"{path} to {new.name}", subjects, wide=True)


@kind("moved between folders")
def moved(project: Project) -> Mutation | None:
    path, folder = _pick(project), project.chance.choice(_folders(project))
    new = folder / path.name
    if new.exists():
        return None
    subjects = _named(project, path, new)
    path.rename(new)
    return Mutation("moved between folders", f"{path} to {new}", subjects, wide=True)


@kind("folder renamed")
def folder_renamed(project: Project) -> Mutation:
    folder = project.folder / project.chance.choice(["src/deep", "unused", "docs", "src/void"])
    new = folder.with_name(f"{folder.name}-new")
    below = [path.relative_to(folder) for path in folder.rglob("*")]
    subjects = _named(project, folder, new, *(top / path for top in (folder, new) for path in below))
    folder.rename(new)
    return Mutation("folder renamed", str(folder), subjects)


@kind("removed")
def removed(project: Project) -> Mutation:
    path = _pick(project)
    subjects = _named(project, path)
    path.unlink()
    return Mutation("removed", str(path), subjects, wide=True)


@kind("added")
def added(project: Project) -> Mutation:
    path = project.chance.choice([project.folder, *_folders(project)]) / project.chance.choice(
        ["new.txt", "new.md", "lnew"]
    )
    _write(path, "new")
    return Mutation("added", str(path), _named(project, path))


@kind("added to an empty folder")
def added_to_empty(project: Project) -> Mutation:
    path = project.folder / "empty" / "first.txt"
    _write(path, "first")
    return Mutation("added to an empty folder", str(path), _named(project, path))


@kind("chmod")
def chmod(project: Project) -> Mutation:
    path = _pick(project)
    path.chmod(stat.S_IMODE(path.stat().st_mode) ^ 0o111)
    return Mutation("chmod", str(path), _named(project, path))


@kind("setuid")
def setuid(project: Project) -> Mutation:
    path = project.chance.choice([project.folder / "bin/tool", _pick(project)])
    path.chmod(stat.S_IMODE(path.stat().st_mode) ^ project.chance.choice([0o4000, 0o2000, 0o1000]))
    return Mutation("setuid", str(path), _named(project, path))


@kind("capability")
def capability(project: Project) -> Mutation | None:
    path = project.chance.choice([project.folder / "bin/tool", project.folder / "src/a.txt"])
    try:
        # VFS_CAP_REVISION_2, cap_net_raw permitted and effective (linux/capability.h).
        os.setxattr(path, "security.capability", bytes.fromhex("0100000200200000000000000000000000000000"))
    except (OSError, AttributeError):
        return None
    return Mutation("capability", str(path), _named(project, path))


@kind("mode of a folder")
def folder_mode(project: Project) -> Mutation:
    path = project.chance.choice(_folders(project))
    path.chmod(stat.S_IMODE(path.stat().st_mode) ^ project.chance.choice([0o1000, 0o2000, 0o022, 0o070]))
    return Mutation("mode of a folder", str(path), _named(project, path))


@kind("link retargeted")
def retargeted(project: Project) -> Mutation:
    path = project.chance.choice(list(LINKS))
    target = {"link": "src/b.txt", "linkdir": "lib/../conf", "src/dangling": "anywhere", "lib/up": "../conf"}[path]
    (project.folder / path).unlink()
    (project.folder / path).symlink_to(target)
    return Mutation("link retargeted", f"{path} to {target}", _named(project, project.folder / path))


@kind("link replaced by its file")
def link_to_file(project: Project) -> Mutation:
    path = project.folder / "link"
    data = path.read_bytes()
    path.unlink()
    path.write_bytes(data)
    return Mutation("link replaced by its file", str(path), _named(project, path), wide=True)


@kind("file replaced by a link")
def file_to_link(project: Project) -> Mutation:
    path = project.chance.choice(
        [project.folder / "src/a.txt", project.folder / "conf/one.conf", project.folder / "lib/x.js"]
    )
    subjects = _named(project, path)
    aside = path.with_name("aside")
    path.rename(aside)
    path.symlink_to("aside")
    # Reached through a link, all of the context counts.
    return Mutation("file replaced by a link", str(path), (*subjects, *_named(project, aside)), wide=True)


@kind("folder replaced by a link")
def folder_to_link(project: Project) -> Mutation:
    path = project.chance.choice([project.folder / "conf", project.folder / "src/deep"])
    aside = path.with_name("aside")
    subjects = _named(project, path, aside)
    path.rename(aside)
    path.symlink_to("aside")
    return Mutation("folder replaced by a link", str(path), subjects, wide=True)


@kind("file of a link's target")
def behind_a_link(project: Project) -> Mutation:
    path = project.folder / project.chance.choice(["src/a.txt", "conf/one.conf"])
    _rewrite(path, _other_bytes(path.read_bytes()), keep_mtime=True)
    return Mutation("file of a link's target", str(path), _named(project, path))


@kind("empty folder added")
def empty_added(project: Project) -> Mutation:
    path = project.chance.choice([project.folder, *_folders(project)]) / "hollow"
    path.mkdir()
    return Mutation("empty folder added", str(path), _named(project, path))


@kind("empty folder removed")
def empty_removed(project: Project) -> Mutation | None:
    path = project.folder / "src/void"
    if project.in_git:
        return None
    path.rmdir()
    return Mutation("empty folder removed", str(path), _named(project, path))


@kind("hard link broken")
def hard_link_broken(project: Project) -> Mutation | None:
    path = project.folder / "lib/hard"
    if not path.exists():
        return None
    subjects = _named(project, path)
    data, seen = path.read_bytes(), path.stat()
    path.unlink()
    path.write_bytes(data)
    path.chmod(stat.S_IMODE(seen.st_mode))
    os.utime(path, ns=(seen.st_atime_ns, seen.st_mtime_ns))
    return Mutation("hard link broken", str(path), subjects)


@kind("hard link made")
def hard_link_made(project: Project) -> Mutation:
    path = project.folder / "src/b.txt"
    new = path.with_name("b-too.txt")
    os.link(path, new)
    return Mutation("hard link made", str(new), _named(project, path, new))


@kind("file becomes a folder")
def file_to_folder(project: Project) -> Mutation:
    path = project.folder / project.chance.choice(["lib/y.md", "docs/readme.md", "src/ünï.txt"])
    path.unlink()
    _write(path / "inside", "inside")
    return Mutation("file becomes a folder", str(path), _named(project, path, path / "inside"), wide=True)


def _edit_ignore(project: Project, name: str, edit: Callable[[str], str]) -> Mutation:
    own = project.dockerfile_path.with_name(f"{project.dockerfile_path.name}.dockerignore")
    path = own if own.exists() else project.folder / ".dockerignore"
    _write(path, edit(path.read_bytes().decode()))
    return Mutation(name, str(path), (rf"(\S*/)?{re.escape(path.name)}",), wide=True)


@kind("ignore negation")
def ignore_negation(project: Project) -> Mutation:
    rule = project.chance.choice(
        ["!docs/readme.md", "!**/*.md", "docs\n!docs/r*", "src/deep\n!src/deep/er", "*/*.md\n!lib"]
    )
    return _edit_ignore(project, "ignore negation", lambda text: f"{text}\n{rule}\n")


@kind("ignore rule added")
def ignore_added(project: Project) -> Mutation:
    rule = project.chance.choice(
        ["**/er", "src/b.txt", "lib/y.md", "empty", "**/void", "*.md", "conf/two*", "link", "**/.*"]
    )
    return _edit_ignore(project, "ignore rule added", lambda text: f"{text}\n{rule}\n")


@kind("ignore rules emptied")
def ignore_emptied(project: Project) -> Mutation:
    return _edit_ignore(project, "ignore rules emptied", lambda _: "")


@kind("the Dockerfile's own ignore file")
def own_ignore(project: Project) -> Mutation:
    own = project.dockerfile_path.with_name(f"{project.dockerfile_path.name}.dockerignore")
    own.unlink() if own.exists() else _write(own, project.chance.choice(IGNORED))
    return Mutation("the Dockerfile's own ignore file", str(own), (rf"(\S*/)?{re.escape(own.name)}",), wide=True)


@kind("a named context's ignore file")
def named_ignore(project: Project) -> Mutation | None:
    if "contexts" not in project.app:
        return None
    path = project.root / "shared/.dockerignore"
    _write(path, project.chance.choice(["sub/deeper\n", "", "*\n!lib.txt\n!sub\n"]))
    return Mutation("a named context's ignore file", str(path), ("shared: .*",), wide=True)


@kind("file of a named context")
def named_file(project: Project) -> Mutation | None:
    if "contexts" not in project.app:
        return None
    path = _pick(project, shared=True)
    _rewrite(path, _other_bytes(path.read_bytes()), keep_mtime=project.chance.random() < 0.5)
    return Mutation("file of a named context", str(path), _named(project, path))


@kind("file added to a named context")
def named_added(project: Project) -> Mutation | None:
    if "contexts" not in project.app:
        return None
    path = project.root / "shared" / project.chance.choice(["new.txt", "sub/new.txt", "sub/deeper/new.md"])
    _write(path, "new")
    return Mutation("file added to a named context", str(path), _named(project, path))


@kind("named context elsewhere")
def named_elsewhere(project: Project) -> Mutation | None:
    if "contexts" not in project.app:
        return None
    path = project.root / "shared2/sub/z.txt"
    _rewrite(path, _other_bytes(path.read_bytes()), keep_mtime=True)
    project.app["contexts"]["shared"] = "shared2"
    project.save()
    return Mutation("named context elsewhere", "shared2", ("shared: .*",), wide=True)


def _edit_dockerfile(project: Project, name: str, subject: str, edit: Callable[[str], str]) -> Mutation | None:
    text = project.dockerfile_path.read_text()
    edited = edit(text)
    if edited == text:
        return None
    project.dockerfile_path.write_text(edited)
    return Mutation(name, repr(edited), (rf"(\w+\.)?{subject}",), wide=True)


@kind("heredoc")
def heredoc(project: Project) -> Mutation | None:
    return _edit_dockerfile(
        project,
        "heredoc",
        r"Dockerfile:\d+ (COPY|RUN)",
        lambda text: text.replace("\nword ", "\nWORD ").replace("echo word", "echo WORD"),
    )


@kind("instruction added")
def instruction_added(project: Project) -> Mutation | None:
    line = project.chance.choice(
        ["COPY conf/two.conf /again\n", "ENV MORE=1\n", "WORKDIR /w\n", "USER 7\n", "COPY <<E /e\ne\nE\n"]
    )
    return _edit_dockerfile(
        project, "instruction added", rf"Dockerfile:\d+ {line.split()[0]}", lambda text: text + line
    )


@kind("instruction removed")
def instruction_removed(project: Project) -> Mutation | None:
    block = BLOCKS[project.chance.choice(project.blocks)]
    return _edit_dockerfile(
        project, "instruction removed", rf"Dockerfile:\d+ {block.split()[0]}", lambda text: text.replace(block, "", 1)
    )


@kind("instructions in another order")
def reordered(project: Project) -> Mutation | None:
    one, other = (BLOCKS[block] for block in project.blocks[:2])
    return _edit_dockerfile(
        project,
        "instructions in another order",
        r"Dockerfile:\d+ [A-Z]+",
        lambda text: text.replace(one, "\0", 1).replace(other, one, 1).replace("\0", other, 1),
    )


@kind("comment in the Dockerfile")
def dockerfile_comment(project: Project) -> Mutation | None:
    return _edit_dockerfile(project, "comment in the Dockerfile", r"Dockerfile", lambda text: f"# a comment\n{text}")


@kind("instruction of a stage")
def stage_instruction(project: Project) -> Mutation | None:
    return _edit_dockerfile(
        project,
        "instruction of a stage",
        r"Dockerfile:\d+ COPY",
        lambda text: text.replace("/other-conf", "/other-place"),
    )


@kind("base in the Dockerfile")
def other_base(project: Project) -> Mutation | None:
    if project.base == "scratch":
        return None
    tag = f"{project.base}-other"
    project.bases.put(tag, project.bases.plain[1])
    return _edit_dockerfile(
        project, "base in the Dockerfile", r"Dockerfile:\d+ FROM", lambda text: re.sub(r":p\d+ AS", f":{tag} AS", text)
    )


@kind("base digest")
def base_digest(project: Project) -> Mutation | None:
    if project.base == "scratch":
        return None
    from oracle import resolved

    bases = project.bases
    before = resolved(bases.registry, bases.repository, project.base)
    after = project.chance.choice([one for one in (*bases.plain, bases.onbuild) if one != before])
    bases.put(project.base, after)
    reference = f"{bases.registry}/{bases.repository}:{project.base}"
    return Mutation(
        "base digest", after, (re.escape(f"base {reference}"),), wide=bases.onbuild in {before, after},
        undo=lambda: bases.put(project.base, before),
    )  # fmt: skip


def _say(
    project: Project, name: str, subject: str, *, wide: bool = False, effect: Effect = "any", **values: Any
) -> Mutation:
    for key, value in values.items():
        here = project.app.get(key)
        project.app[key] = {**here, **value} if isinstance(here, dict) and isinstance(value, dict) else value
    project.save()
    return Mutation(name, json.dumps(values), (subject,) if subject else (), wide=wide, effect=effect)


@kind("argument")
def argument(project: Project) -> Mutation:
    return _say(project, "argument", "argument VERSION", args={"VERSION": "2"})


@kind("argument in a path")
def argument_in_path(project: Project) -> Mutation:
    return _say(project, "argument in a path", "argument WHICH", wide=True, args={"WHICH": "b"})


@kind("argument added")
def argument_added(project: Project) -> Mutation:
    return _say(project, "argument added", "argument MORE", args={"MORE": "1"})


@kind("argument removed")
def argument_removed(project: Project) -> Mutation:
    name = project.chance.choice(["VERSION", "UNUSED"])
    del project.app["args"][name]
    return _say(project, "argument removed", f"argument {name}")


@kind("label")
def label(project: Project) -> Mutation:
    return _say(project, "label", "label (team|more)", labels=project.chance.choice([{"team": "two"}, {"more": "1"}]))


@kind("annotation")
def annotation(project: Project) -> Mutation:
    return _say(project, "annotation", "annotation com.example", annotations={"com.example": "1"})


@kind("target")
def target(project: Project) -> Mutation:
    return _say(project, "target", "target", wide=True, target="other")


@kind("platform")
def platform(project: Project) -> Mutation:
    return _say(project, "platform", "platforms", wide=True, platforms=["linux/arm64"])


@kind("network")
def network(project: Project) -> Mutation:
    return _say(project, "network", "network", network="none")


@kind("attestations")
def attestations(project: Project) -> Mutation:
    return _say(project, "attestations", "attestations", attestations={"provenance": "min"})


@kind("secret's id")
def secret(project: Project) -> Mutation:
    return _say(project, "secret's id", "secret token", secrets=[{"id": "token", "file": "elsewhere/note.txt"}])


@kind("flag")
def flag(project: Project) -> Mutation:
    return _say(project, "flag", "flags", buildx=["--shm-size=128m"])


@kind("dependency's file")
def dependency_file(project: Project) -> Mutation | None:
    if "top" not in project.services:
        return None
    path = project.folder / "conf/one.conf"
    _rewrite(path, _other_bytes(path.read_bytes()), keep_mtime=True)
    return Mutation("dependency's file", str(path), _named(project, path))


@kind("dependant's file")
def dependant_file(project: Project) -> Mutation | None:
    if "top" not in project.services:
        return None
    path = project.root / "services/top/own"
    _rewrite(path, _other_bytes(path.read_bytes()), keep_mtime=True)
    return Mutation("dependant's file", str(path), ("own",))


@kind("several at once")
def several(project: Project) -> Mutation | None:
    singles = [
        content,
        same_size,
        added,
        chmod,
        folder_mode,
        retargeted,
        ignore_added,
        heredoc,
        argument,
        label,
        truncated,
    ]
    chosen = project.chance.sample(singles, project.chance.randint(2, 4))
    made = [done for one in chosen if (done := one(project)) is not None]
    told = "; ".join(f"{one.kind}: {one.told}" for one in made)
    return Mutation("several at once", told, tuple(name for one in made for name in one.subjects), wide=True)


# What changes no image.


@kind("touch")
def touch(project: Project) -> Mutation:
    when = project.chance.choice([None, (1, 1), (4_000_000_000, 4_000_000_000)])
    for path in project.chance.sample(everything := list(project.folder.rglob("*")), min(8, len(everything))):
        os.utime(path, when, follow_symlinks=False)
    os.utime(project.folder, when)
    return Mutation("touch", str(when), effect="none")


@kind("owner")
def owner(project: Project) -> Mutation | None:
    path = _pick(project)
    mode = stat.S_IMODE(path.stat().st_mode)
    try:
        os.chown(path, 7, 8)
    except PermissionError:
        return None
    path.chmod(mode)  # chown takes setuid away
    return Mutation("owner", str(path), effect="none")


@kind("mode of the context itself")
def root_mode(project: Project) -> Mutation:
    project.folder.chmod(0o711)
    return Mutation("mode of the context itself", effect="none")


@kind("file outside of the contexts")
def outside(project: Project) -> Mutation:
    for path in ("elsewhere/note.txt", "elsewhere/new.txt", "README.md", "services/other/x", "shared2/lib.txt"):
        _write(project.root / path, f"new {project.chance.random()}")
    return Mutation("file outside of the contexts", effect="none")


@kind("file that no instruction reads")
def unread(project: Project) -> Mutation | None:
    if project.reads_all():
        return None
    for path in ("unused/u.txt", "unused/new.txt"):
        _write(project.folder / path, "new")
    return Mutation("file that no instruction reads", effect="none")


@kind("ignored file")
def ignored(project: Project) -> Mutation | None:
    own = project.dockerfile_path.with_name(f"{project.dockerfile_path.name}.dockerignore")
    rules = (own if own.exists() else project.folder / ".dockerignore").read_bytes().decode("utf-8-sig").split("\n")
    if rules[0] not in {"docs", "*"}:
        return None
    _write(project.folder / "docs/readme.md", "new")
    _write(project.folder / "docs/new.md", "new")
    return Mutation("ignored file", effect="none")


@kind("the same files made again")
def made_again(project: Project) -> Mutation:
    kept = keep(project.folder)
    for path in sorted(project.folder.iterdir()):
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    restore(project.folder, kept)
    return Mutation("the same files made again", effect="none")


@kind("written again with the same bytes")
def rewritten(project: Project) -> Mutation:
    for path in _files(project):
        path.write_bytes(path.read_bytes())
    return Mutation("written again with the same bytes", effect="none")


@kind("a new tag")
def new_tag(project: Project) -> Mutation:
    return _say(project, "a new tag", "", effect="none", tags=["latest", "other"])


@kind("services file laid out in another way")
def layout(project: Project) -> Mutation:
    (project.root / "services.yaml").write_text(json.dumps(project.spec, indent=4) + "\n")
    return Mutation("services file laid out in another way", effect="none")


@kind("the stat cache is gone")
def no_cache(project: Project) -> Mutation:
    for path in (project.root / ".buildorch").glob("contexts.db*"):
        path.unlink()
    return Mutation("the stat cache is gone", effect="none")


@kind("umask 002")
def umask(project: Project) -> Mutation:
    for path in (project.folder, *project.folder.rglob("*")):
        if not path.is_symlink():
            path.chmod(stat.S_IMODE(path.stat().st_mode) | 0o020)
    return Mutation("umask 002", effect="modes")


@kind("another checkout path")
def other_path(project: Project) -> Mutation:
    other = project.root.with_name(f"{project.root.name}-elsewhere") / "deeper"
    shutil.copytree(project.root, other, symlinks=True, copy_function=shutil.copy2)
    if (project.folder / "lib/hard").exists():  # copytree knows no hard links
        (other / project.context / "lib/hard").unlink()
        os.link(other / project.context / "lib/x.js", other / project.context / "lib/hard")
    undo = other.parent
    return Mutation("another checkout path", effect="none", root=other, undo=lambda: shutil.rmtree(undo))


def _checked_out(project: Project, name: str, *command: str) -> Mutation | None:
    if not project.in_git:
        return None
    other = project.root.with_name(f"{project.root.name}-{name}")
    _git(project.root, *command, str(other))
    shutil.copytree(project.root / ".buildorch", other / ".buildorch")

    def undo() -> None:
        shutil.rmtree(other)
        _git(project.root, "worktree", "prune")

    return Mutation(f"a git {name}", effect="none", root=other, undo=undo)


@kind("a git clone")
def clone(project: Project) -> Mutation | None:
    return _checked_out(project, "clone", "clone", "--quiet", str(project.root))


@kind("a git worktree")
def worktree(project: Project) -> Mutation | None:
    return _checked_out(project, "worktree", "worktree", "add", "--quiet", "--detach")
