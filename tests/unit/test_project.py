"""What is on the disk around a services file."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from buildorch import project
from buildorch.errors import EXIT_USAGE, ServicesFileError, UnwritableRecord, UsageError
from buildorch.plan import Selection, resolve
from buildorch.services import Override

HEAD = "version: 1\nproject: shop\nservices:\n"


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a project, and the current one."""
    folder = tmp_path / "project"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def write(root: Path, services: str, **files: str) -> Path:
    path = root / "services.yaml"
    path.write_text(HEAD + services)
    for name, text in files.items():
        file = root / name.replace("__", "/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return path


def checked(path: Path) -> list[str]:
    """Every problem with what the file names."""
    found = project.read(path, variables={})
    plan = resolve(found.file, Selection(), root=found.root)
    with pytest.raises(ServicesFileError) as caught:
        project.require_inputs(found, plan)
    return [str(problem) for problem in caught.value.problems]


def test_everything_that_is_missing_is_told_at_once_each_at_its_place(root: Path):
    path = write(
        root,
        "  app:\n"
        "  web: {context: web, dockerfile: docker/Web.Dockerfile}\n"
        "  api:\n"
        "    context: api\n"
        "    contexts: {lib: ../lib, os: docker-image://debian}\n"
        "    secrets: [{id: a, file: key.pem}, {id: b, env: B}]\n"
        "  far: {context: 'https://git.example/x.git'}\n"
        "  file: {context: services.yaml}\n",
        web__x="",
        api__x="",
    )

    assert checked(path) == [
        "services.yaml:4:3: the context services/app does not exist (a service without `context` has it in services/NAME)",
        "services.yaml:5:35: there is no Dockerfile at web/docker/Web.Dockerfile",
        "services.yaml:7:14: there is no Dockerfile at api/Dockerfile",
        f"services.yaml:8:21: the folder {root.parent}/lib of the context 'lib' does not exist",
        "services.yaml:9:15: the file key.pem of the secret 'a' does not exist",
        "services.yaml:11:19: the context services.yaml is not a folder",
    ]


def test_where_everything_is_there_nothing_is_told(root: Path):
    path = write(
        root, "  app: {contexts: {l: .}, secrets: [{id: a, file: key}]}\n", services__app__Dockerfile="", key=""
    )
    found = project.read(path, variables={})

    project.require_inputs(found, resolve(found.file, Selection(), root=found.root))


def test_missing_files_are_told_beside_what_is_wrong_in_the_file_itself(root: Path):
    path = write(root, "  app: {context: gone}\n  web: {colour: red}\n")

    with pytest.raises(ServicesFileError) as caught:
        project.read(path, variables={})

    assert [str(problem).partition(" (")[0] for problem in caught.value.problems] == [
        "services.yaml:4:18: the context gone does not exist",
        "services.yaml:5:9: unknown key 'colour'",
    ]


def test_variables_come_from_the_environment(root: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("STAGE", "final")
    path = write(root, '  app: {target: "${STAGE}"}\n')

    assert project.read(path).file.services["app"].target == "final"


def test_overrides_are_applied(root: Path):
    path = write(root, "  app:\n")

    found = project.read(path, overrides=[Override.parse("app.target=x")], variables={})

    assert found.file.services["app"].target == "x"


def test_a_file_that_is_not_there_is_told_with_the_way_to_name_it(root: Path):
    with pytest.raises(UsageError, match=r"the services file services.yaml cannot be read: No such file") as caught:
        project.read(Path("services.yaml"))

    assert caught.value.hint == "name it with -f FILE, or run this in the folder that holds it"


def test_a_folder_in_the_files_place_is_told(root: Path):
    with pytest.raises(UsageError, match="cannot be read: Is a directory"):
        project.read(root)


def test_a_file_of_more_than_4_mib_is_refused_without_reading_more(root: Path):
    path = root / "services.yaml"
    with path.open("wb") as file:
        file.truncate(10**12)

    with pytest.raises(ServicesFileError, match="the file is larger than 4 MiB"):
        project.read(path)


def test_a_file_that_somebody_named_is_read_whole_or_refused_without_reading_more(root: Path):
    Path("exact").write_bytes(bytes(1024 * 1024))
    with Path("endless").open("wb") as file:
        file.truncate(10**12)

    assert project.read_bounded(Path("exact"), most_bytes=1024 * 1024, hint="x") == bytes(1024 * 1024)
    for name, fact in (("endless", "endless is larger than 1 MiB"), ("gone", "gone cannot be read: No such file")):
        with pytest.raises(UsageError, match=fact) as caught:
            project.read_bounded(Path(name), most_bytes=1024 * 1024, hint="name another")
        assert caught.value.hint == "name another"


def test_the_root_is_the_folder_that_really_holds_the_file(root: Path, tmp_path: Path):
    write(root, "  app:\n")
    link = tmp_path / "link"
    link.symlink_to(root)

    assert project.read(link / "services.yaml", variables={}).root == root


# --- git


def git(root: Path, *arguments: str) -> None:
    identity = ["-c", "user.name=t", "-c", "user.email=t@example", "-c", "init.defaultBranch=main"]
    subprocess.run(["git", *identity, *arguments], cwd=root, check=True, capture_output=True)


@pytest.fixture
def repository(root: Path) -> Path:
    git(root, "init")
    (root / "file").write_text("one")
    git(root, "add", ".")
    git(root, "commit", "-m", "one")
    return root


def head(root: Path) -> str:
    done = subprocess.run(["git", "rev-parse", "HEAD"], cwd=root, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def test_a_clean_tree_stands_at_its_commit_and_branch(repository: Path):
    revision, why = project.revision(repository)

    assert revision is not None
    assert (revision.sha, revision.branch, revision.dirty, why) == (head(repository), "main", False, "")


@pytest.mark.parametrize("change", ["edited", "new", "staged", "removed", "renamed"])
def test_a_tree_with_any_change_is_dirty(repository: Path, change: str):
    match change:
        case "edited":
            (repository / "file").write_text("two")
        case "new":
            (repository / "other").write_text("")
        case "staged":
            (repository / "other").write_text("")
            git(repository, "add", "other")
        case "removed":
            (repository / "file").unlink()
        case "renamed":
            git(repository, "mv", "file", "# branch.oid 0")

    revision, _ = project.revision(repository)

    assert revision is not None
    assert revision.dirty
    assert revision.sha == head(repository)


def test_an_ignored_file_does_not_make_a_tree_dirty(repository: Path):
    (repository / ".gitignore").write_text("out\n")
    git(repository, "add", ".")
    git(repository, "commit", "-m", "two")
    (repository / "out").write_text("")

    revision, _ = project.revision(repository)

    assert revision is not None
    assert not revision.dirty


def test_a_branch_with_slashes_keeps_its_name(repository: Path):
    git(repository, "checkout", "-b", "feature/x y"[:9])

    revision, _ = project.revision(repository)

    assert revision is not None
    assert revision.branch == "feature/x"


def test_a_detached_head_has_no_branch(repository: Path):
    git(repository, "checkout", "--detach")

    revision, _ = project.revision(repository)

    assert revision is not None
    assert (revision.sha, revision.branch) == (head(repository), "")


def test_a_repository_without_a_commit_has_no_revision(root: Path):
    git(root, "init")

    assert project.revision(root) == (None, "there is no commit yet")


def test_a_folder_outside_of_git_has_no_revision(root: Path):
    revision, why = project.revision(root)

    assert revision is None
    assert "not a git repository" in why


def test_a_machine_without_git_has_no_revision(root: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PATH", "/nonexistent")

    revision, why = project.revision(root)

    assert revision is None
    assert why.startswith("git does not run: ")


def test_a_git_that_dies_without_a_word_is_told_by_its_exit_code(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    fake = tmp_path / "bin" / "git"
    fake.parent.mkdir()
    fake.write_text("#!/bin/sh\nexit 9\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", str(fake.parent))

    assert project.revision(root) == (None, "git exited with 9")


# --- the record's place


def unwritable(record: Path) -> str:
    with pytest.raises(UnwritableRecord) as caught:
        project.require_writable(record)
    assert caught.value.exit_code == EXIT_USAGE
    assert caught.value.hint == "name a writable file with --record FILE"
    return str(caught.value)


def test_a_record_that_can_be_written_leaves_nothing_but_its_folder(tmp_path: Path):
    project.require_writable(tmp_path / "a" / "b" / "run.json")

    assert list((tmp_path / "a" / "b").iterdir()) == []


def test_a_record_that_is_a_folder_is_refused(tmp_path: Path):
    assert unwritable(tmp_path).endswith("it is a folder")


def test_a_record_below_a_file_is_refused(tmp_path: Path):
    (tmp_path / "file").write_text("")

    assert "cannot be written to" in unwritable(tmp_path / "file" / "run.json")


def test_a_record_in_a_folder_that_takes_no_files_is_refused():
    assert "cannot be written to /proc/run.json" in unwritable(Path("/proc/run.json"))


def test_a_record_with_a_name_too_long_is_refused(tmp_path: Path):
    assert "File name too long" in unwritable(tmp_path / ("x" * 300))


def test_a_text_is_put_in_place_of_the_old_one_readable_by_all(tmp_path: Path):
    path = tmp_path / "run.json"
    path.write_text("old and much longer than the new one")

    project.write_atomically(path, "größe\n")

    assert path.read_bytes() == "größe\n".encode()
    assert path.stat().st_mode & 0o777 == 0o644
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]


def test_a_write_that_fails_leaves_the_old_text_and_no_rest(tmp_path: Path):
    path = tmp_path / "run.json"
    path.write_text("old")

    with pytest.raises(UnwritableRecord):
        project.write_atomically(path / "below", "new")

    assert path.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]


def test_a_text_that_cannot_be_put_in_its_place_leaves_no_rest(tmp_path: Path):
    path = tmp_path / "run.json"
    path.mkdir()
    (path / "inside").write_text("")

    with pytest.raises(UnwritableRecord, match=r"Is a directory"):
        project.write_atomically(path, "new")

    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]
