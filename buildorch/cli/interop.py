"""The commands `export bake` and `import`: services to and from bake and Compose files.

In: arguments. Out: a bake file or a services file, on stdout or in a file; what it cannot say on stderr. Touches: the
files that are named, and through `buildorch.buildx.bake` one process that reads bake files.
"""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from buildorch.cli.options import FILE, SET, dumps
from buildorch.errors import EXIT_BUILD_FAILED, EXIT_OK, ServicesFileError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from buildorch.interop.assembling import Written
    from buildorch.interop.importing import Draft, Found
    from buildorch.interop.told import Told

STDOUT = Path("-")
INLINE = "{name}.Dockerfile"
"""Where a Dockerfile goes that stood in the file itself."""

OUTPUT = click.option(
    "-o", "--output", type=click.Path(path_type=Path), default=STDOUT, help="The file to write; - for stdout."
)
OVERWRITE = click.option("--force", is_flag=True, help="Write over a file that is there.")


@click.group("export", epilog="Example: buildorch export bake -o docker-bake.json")
def export() -> None:
    """Say the plan in another tool's words."""


@export.command("bake", epilog="Example: buildorch export bake -o docker-bake.json")
@click.argument("services", nargs=-1)
@click.option("--push", "destination", flag_value="push", help="Targets push their images to their registries.")
@click.option(
    "--load", "destination", flag_value="load", default=True, help="Targets load them into the engine (the default)."
)
@click.option("--no-cache", is_flag=True, help="Targets execute every step again.")
@click.option("--platform", "platforms", multiple=True, help="Build for this platform; may be repeated.")
@SET
@FILE
@OUTPUT
@OVERWRITE
def export_bake(output: Path, destination: str, *, force: bool, **options: Any) -> None:  # noqa: ANN401
    """Print a JSON bake file with which docker buildx bake builds what the plan builds."""
    from buildorch import preparing  # noqa: PLC0415 - what a build needs is not needed for `import`
    from buildorch.bases.base import LOCK_FILE  # noqa: PLC0415
    from buildorch.interop.exporting import bake  # noqa: PLC0415
    from buildorch.interop.told import Told  # noqa: PLC0415

    planned = preparing.plan(preparing.BuildRequest(output=destination, **options))  # type: ignore[arg-type]
    exported = bake(planned.plan, planned.project.file)
    _write({output: dumps(exported.document) + "\n"}, force=force)
    told = list(exported.told)
    if (planned.project.root / LOCK_FILE).exists():
        told.append(Told(LOCK_FILE, "bake takes base images as the builder finds them"))
    _tell(told)


@click.command("import", epilog="Example: buildorch import docker-bake.hcl -o services.yaml")
@click.argument("files", metavar="FILE...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--from",
    "kind",
    type=click.Choice(["bake", "compose"]),
    help="What the files are.  [default: compose for .yaml and .yml, bake for .hcl and .json]",
)
@click.option("--target", "targets", multiple=True, help="Import this target, group or service; may be repeated.")
@click.option("--project", help="The project's name.  [default: the Compose file's, else the folder's]")
@OUTPUT
@OVERWRITE
@click.option("--allow-lost", is_flag=True, help="Exit with 0 even if a services file cannot say all of it.")
def import_command(
    files: tuple[Path, ...],
    kind: str | None,
    targets: tuple[str, ...],
    project: str | None,
    output: Path,
    *,
    force: bool,
    allow_lost: bool,
) -> int:
    """Write a services file from bake files or a Compose file; exit with 1 if something of them is lost."""
    from buildorch.interop.assembling import drafted, services_file, unset  # noqa: PLC0415
    from buildorch.interop.importing import Folders, service_names  # noqa: PLC0415
    from buildorch.interop.told import Told  # noqa: PLC0415

    source = str(files[0])
    folder = _folder(files[0])
    root = folder if output == STDOUT else _folder(output)
    named, found, told = (_compose if _kind(files, kind) == "compose" else _bake)(files, targets, folder)
    drafts, facts = drafted(found, Folders(str(folder), str(root)))
    told += facts
    dockerfiles, inline = _inline(drafts, output, root, source, told)
    name = project or service_names([named or root.name])[named or root.name]
    written = services_file(drafts, project=name, source=source, variables=os.environ, dockerfiles=inline)
    told += written.told
    missing = unset(drafts, os.environ)
    if not missing:
        _require_whole(written, output)
    told += [Told(source, fact, lost=False) for fact in missing]
    _write({output: written.text, **dockerfiles}, force=force)
    _tell(told)
    return EXIT_BUILD_FAILED if any(one.lost for one in told) and not allow_lost else EXIT_OK


def _kind(files: Sequence[Path], kind: str | None) -> str:
    known = {".yaml": "compose", ".yml": "compose", ".hcl": "bake", ".json": "bake"}
    kinds = {kind or known.get(path.suffix.lower(), "") for path in files}
    if "bake" in kinds and any(known.get(path.suffix.lower()) == "compose" for path in files):
        fact = "bake passes over some attributes of a Compose file, so it is not asked to read one"
        raise UsageError(fact, hint="import the Compose file alone, and without --from")
    if kinds == {"compose"} and len(files) > 1:
        raise UsageError("only one Compose file can be imported", hint="merge them first with `docker compose config`")
    if len(kinds) != 1 or "" in kinds:
        raise UsageError(
            f"{', '.join(map(str, files))}: bake files or a Compose file were expected", hint="say which with --from"
        )
    return kinds.pop()


def _folder(path: Path) -> Path:
    return Path(os.path.realpath(path.parent))


def _read(path: Path) -> bytes:
    from buildorch.project import read_bounded  # noqa: PLC0415
    from buildorch.services.yaml_nodes import MAX_BYTES  # noqa: PLC0415

    return read_bounded(
        path, most_bytes=MAX_BYTES, hint="name a bake or Compose file of at most 4 MiB, or import its parts"
    )


def _bake(files: Sequence[Path], targets: Sequence[str], folder: Path) -> tuple[str, Sequence[Found], list[Told]]:
    from buildorch.buildx.bake import printed  # noqa: PLC0415
    from buildorch.buildx.client import find_buildx  # noqa: PLC0415
    from buildorch.interop.bake_files import passed_over, targets_found, variables  # noqa: PLC0415
    from buildorch.interop.told import Told  # noqa: PLC0415

    texts = {str(path): _read(path).decode("utf-8", "replace") for path in files}
    buildx, names = find_buildx(), [os.path.relpath(_folder(path) / path.name, folder) for path in files]
    found, told = targets_found(printed(buildx, names, targets, folder=folder), str(files[0]))
    told += [one for name, text in texts.items() for one in passed_over(text, name)]
    told += [
        Told(name, f"bake filled variables in from the environment as it is now: {', '.join(filled)}", lost=False)
        for name, text in texts.items()
        if (filled := [variable for variable in variables(text) if variable in os.environ])
    ]
    if not targets:
        told += _left_out(partial(printed, buildx, names, ["*"], folder=folder), found, str(files[0]))
    return "", found, told


def _left_out(every: Callable[[], Mapping[str, Any]], found: Sequence[Found], source: str) -> Iterator[Told]:
    """The targets that bake builds only if they are named."""
    from buildorch.interop.told import Told  # noqa: PLC0415

    try:
        others = sorted(every().get("target", {}).keys() - {one.name for one in found})
    except UsageError as error:
        yield Told(source, f"whether there are targets outside of `default` is not known: {error}", lost=False)
        return
    if others:
        fact = f"left out, as bake does where no target is named: {', '.join(others)} (--target NAME takes one)"
        yield Told(source, fact, lost=False)


def _compose(
    files: Sequence[Path],
    targets: Sequence[str],
    folder: Path,  # noqa: ARG001 - as _bake
) -> tuple[str, Sequence[Found], list[Told]]:
    from buildorch.errors import UnknownService  # noqa: PLC0415
    from buildorch.interop.compose import targets_found  # noqa: PLC0415
    from buildorch.services import decode  # noqa: PLC0415

    [path] = files
    composed = targets_found(decode(_read(path), str(path)), str(path))
    by_name = {one.name: one for one in composed.found}
    for name in targets:
        if name not in by_name:
            raise UnknownService(name, known=by_name)
    wanted, waiting = set[str](), list(targets or by_name)
    while waiting:
        name = waiting.pop()
        if name in by_name and name not in wanted:
            wanted.add(name)
            contexts = by_name[name].attributes.get("contexts", {}).values()
            waiting += [value.removeprefix("target:") for value in contexts]
    if not wanted:
        raise UsageError(f"{path}: no service has a build section", hint="there is nothing to build in it")
    return composed.project, [one for one in composed.found if one.name in wanted], list(composed.told)


def _inline(
    drafts: Iterable[Draft], output: Path, root: Path, source: str, told: list[Told]
) -> tuple[dict[Path, str], dict[str, str]]:
    """The Dockerfiles to write beside the services file, and what its services call them."""
    from buildorch.interop.told import Told  # noqa: PLC0415
    from buildorch.services.interpolation import InterpolationError, interpolate  # noqa: PLC0415

    files: dict[Path, str] = {}
    names: dict[str, str] = {}
    for draft in (draft for draft in drafts if draft.inline):
        where = f"{source}: {draft.name}.dockerfile-inline"
        context = str(draft.keys.get("context", "."))
        if output == STDOUT or "://" in context or "$" in context:
            told.append(Told(where, "a service's Dockerfile is a file: -o FILE writes it beside the services file"))
            continue
        file = output.parent / INLINE.format(name=draft.name)
        try:
            files[file] = interpolate(draft.inline, os.environ)
        except InterpolationError as error:
            told.append(Told(where, str(error)))
            continue
        names[draft.name] = os.path.relpath(root / file.name, root / context)
        told.append(Told(where, f"is written to {file}", lost=False))
    return files, names


def _require_whole(written: Written, output: Path) -> None:
    """Make sure that what is written can be used.

    Raises:
        ServicesFileError: it cannot: services in a circle, for one.
    """
    from buildorch.services import examine  # noqa: PLC0415

    source = "services.yaml" if output == STDOUT else str(output)
    if problems := examine(written.text, source, variables=os.environ).problems:
        raise ServicesFileError(problems, hint="nothing was written: these are problems of the file that was to be")


def _write(files: dict[Path, str], *, force: bool) -> None:
    """All of the files, or none where one would be written over."""
    from buildorch import project  # noqa: PLC0415

    for path in files:
        if path != STDOUT and not force and os.path.lexists(path):
            raise UsageError(
                f"{path} is there already", hint="name another file with -o, or write over it with --force"
            )
    for path, text in files.items():
        if path == STDOUT:
            click.echo(text, nl=False)
        else:
            project.write_atomically(path, text, unwritable=_unwritable)


def _unwritable(path: str, reason: str) -> UsageError:
    return UsageError(f"{path} cannot be written: {reason}", hint="name another file with -o")


def _tell(told: Iterable[Told]) -> None:
    from buildorch.interop.told import lines  # noqa: PLC0415
    from buildorch.report.text import printable  # noqa: PLC0415

    for line in lines(told):
        click.echo(printable(line), err=True)
