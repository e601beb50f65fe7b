"""`buildorch init`: what it understands of a project, what it writes, and what it leaves alone."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from subjects import judged

from buildorch.cli import main
from buildorch.errors import UsageError
from buildorch.scaffold import applications, reading, rendering
from buildorch.scaffold.applications import application_in
from buildorch.scaffold.discovery import project_in
from buildorch.scaffold.fastapi import fastapi_in
from buildorch.scaffold.found import FastApi, NextJs
from buildorch.scaffold.nextjs import nextjs_in
from buildorch.services import Policy, parse

HASHED = "fastapi==0.115.0 \\\n    --hash=sha256:00\nuvicorn==0.30.0 \\\n    --hash=sha256:00\n"
APP = 'from fastapi import FastAPI\n\napp = FastAPI()\n\n\n@app.get("/health")\ndef health():\n    return {}\n'
API = {"requirements.txt": HASHED, "main.py": APP}
PYPROJECT = '[project]\nname = "shop"\ndependencies = ["fastapi>=0.1", "uvicorn"]\n'
UV_LOCK = '[[package]]\nname = "uvicorn"\nsource = { registry = "x" }\n\n[[package]]\nname = "shop"\nsource = { virtual = "." }\n'
POETRY = '[tool.poetry]\nname = "shop"\ndescription = "Sells"\n[tool.poetry.dependencies]\nfastapi = "^0.1"\n'
POETRY_LOCK = '[[package]]\nname = "uvicorn"\n[package.source]\ntype = "legacy"\n'
NEXT_CONFIG = (
    'import type { NextConfig } from "next";\n\nconst nextConfig: NextConfig = {\n  /* config options here */\n};\n\n'
    "export default nextConfig;\n"
)
"""As create-next-app 15 and 16 write it."""
ASKED = NEXT_CONFIG.replace("*/\n", "*/\n  reactCompiler: true,\n")
"""The same where somebody asked for the React Compiler."""
OLD_CONFIG = "/** @type {import('next').NextConfig} */\nconst nextConfig = {};\n\nexport default nextConfig;\n"
"""As create-next-app 14 writes it."""
OFF = {"end_of_life": "docs/adr/0001 decides node:20"}
STRICT = Policy(min_stages=2, bases=(rendering.PYTHON_BASE, rendering.NODE_BASE), cache_mounts="error", off=OFF)


def package(**more: object) -> str:
    return json.dumps({"name": "web", "scripts": {"build": "next build"}, "dependencies": {"next": "^16"}, **more})


WEB = {"package.json": package(), "package-lock.json": "{}", "next.config.ts": NEXT_CONFIG, "app/page.tsx": ""}


def fill(folder: Path, files: dict[str, str]) -> Path:
    """A folder with these files."""
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode())
    return folder


def fast_api(folder: Path, files: dict[str, str]) -> FastApi:
    found = fastapi_in(fill(folder, files))
    assert found is not None
    return found


def next_js(folder: Path, files: dict[str, str]) -> NextJs:
    found = nextjs_in(fill(folder, files))
    assert found is not None
    return found


def dockerfile_of(found: FastApi | NextJs) -> str:
    base = rendering.PYTHON_BASE if isinstance(found, FastApi) else rendering.NODE_BASE
    return rendering.files(found, cache="shop-web", base=base)["Dockerfile"]


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with a FastAPI backend and a Next.js frontend, and the current folder."""
    root = tmp_path / "shop"
    fill(root / "services" / "api", API)
    fill(root / "apps" / "web", WEB)
    monkeypatch.chdir(root)
    return root


# The command


def test_projects_are_found_at_the_usual_places_and_get_all_that_builds_them(
    shop: Path, capsys: pytest.CaptureFixture[str]
):
    assert main(["init"]) == 0

    said = capsys.readouterr().out.splitlines()
    assert said == [
        "wrote apps/web/Dockerfile",
        "wrote apps/web/.dockerignore",
        "wrote apps/web/next.config.ts",
        "wrote services/api/Dockerfile",
        "wrote services/api/.dockerignore",
        "wrote services.yaml",
        "next: buildorch build-all",
    ]
    written = parse((shop / "services.yaml").read_text(), "services.yaml")
    assert {name: one.context for name, one in written.services.items()} == {"web": "apps/web", "api": "services/api"}
    assert written.project == "shop"
    assert written.defaults.policy.user == "non-root"
    assert "output: 'standalone'" in (shop / "apps/web/next.config.ts").read_text()


def test_a_dry_run_prints_every_file_and_writes_none(shop: Path, capsys: pytest.CaptureFixture[str]):
    before = snapshot(shop)

    assert main(["init", "--dry-run", "services/api"]) == 0

    said = capsys.readouterr().out
    assert said.startswith("--- services/api/Dockerfile\n# Written by")
    assert "--- services.yaml\nversion: 1\n" in said
    assert snapshot(shop) == before


def test_nothing_of_a_project_is_run(shop: Path):
    fill(shop / "services/api", {"main.py": f"{APP}\nopen('ran', 'w')\n", "conftest.py": "open('ran', 'w')"})

    assert main(["init", "services/api"]) == 0

    assert not list(shop.rglob("ran"))


@pytest.mark.parametrize("name", ["Dockerfile", ".dockerignore"])
def test_what_somebody_wrote_is_written_over_only_when_told_to(
    shop: Path, name: str, capsys: pytest.CaptureFixture[str]
):
    fill(shop / "services/api", {name: "mine"})
    before = snapshot(shop)

    assert main(["init"]) == 2
    assert snapshot(shop) == before
    assert f"services/api/{name} is there already\nhint: --force" in capsys.readouterr().err
    assert main(["init", "--force"]) == 0
    assert (shop / "services/api" / name).read_text() != "mine"


def test_where_one_file_cannot_be_written_none_is(shop: Path, capsys: pytest.CaptureFixture[str]):
    fill(shop / "apps/web", {"Dockerfile": "mine"})
    (shop / "services/api/.dockerignore").mkdir()
    before = snapshot(shop)

    assert main(["init", "--force"]) == 2

    assert snapshot(shop) == before
    assert "services/api/.dockerignore cannot be written: Is a directory" in capsys.readouterr().err


def test_nothing_is_written_through_a_link(shop: Path, capsys: pytest.CaptureFixture[str]):
    (shop / "services/api/Dockerfile").symlink_to(fill(shop.parent, {"outside": "theirs"}) / "outside")

    assert main(["init", "--force"]) == 2

    assert (shop.parent / "outside").read_text() == "theirs"
    assert "services/api/Dockerfile is a link" in capsys.readouterr().err


def test_a_service_that_is_there_is_written_for_again_only_when_it_is_named_and_forced(
    shop: Path, capsys: pytest.CaptureFixture[str]
):
    assert main(["init"]) == 0
    before = snapshot(shop)
    fill(shop / "services/api", {"Dockerfile": "mine"})

    assert main(["init"]) == 2
    assert main(["init", "services/api"]) == 2
    assert "services/api has a service already: api" in capsys.readouterr().err
    assert main(["init", "services/api", "--force"]) == 0
    assert snapshot(shop) == before


def test_everything_that_is_wrong_is_told_at_once(shop: Path, capsys: pytest.CaptureFixture[str]):
    (shop / "services/api/main.py").unlink()
    (shop / "apps/web/package-lock.json").unlink()

    assert main(["init"]) == 2

    said = capsys.readouterr().err
    assert "apps/web: it depends on next, and no lock says which packages to install (run `npm install" in said
    assert "services/api: no module has an application, such as `app = FastAPI()` (give a module one" in said
    assert "Traceback" not in said


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nowhere"], "there is no folder nowhere"),
        ([".."], ".. is not below"),
        (["apps"], "apps is no FastAPI or Next.js project"),
        (["-f", "none/services.yaml"], "there is no folder"),
        (["-f", "services/services.yaml", "apps/web"], "is not below"),
        (["--node-base", "a\nRUN b"], "is not an image reference"),
        (["-f", "apps"], "apps cannot be read: Is a directory"),
    ],
)
def test_a_request_that_cannot_be_carried_out_is_one_clear_error(
    shop: Path, arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
):
    before = snapshot(shop)

    assert main(["init", *arguments]) == 2

    assert said in capsys.readouterr().err
    assert snapshot(shop) == before


def test_a_folder_that_leads_out_of_the_root_is_no_place_to_look(shop: Path, capsys: pytest.CaptureFixture[str]):
    fill(shop.parent / "elsewhere", API)
    (shop / "apps/theirs").symlink_to(shop.parent / "elsewhere")

    assert main(["init"]) == 0

    assert not (shop.parent / "elsewhere/Dockerfile").exists()


def test_a_project_in_a_project_stays_out_of_its_image(shop: Path):
    fill(shop, API)

    assert main(["init"]) == 0

    ignored = (shop / ".dockerignore").read_text().splitlines()
    assert ignored[-3:] == ["# Projects of their own.", "apps/web/", "services/api/"]
    assert parse((shop / "services.yaml").read_text(), "s").services["shop"].context == "."


def test_two_folders_of_one_name_are_two_services(shop: Path):
    fill(shop / "services/web", WEB)

    assert main(["init"]) == 0

    assert {*parse((shop / "services.yaml").read_text(), "s").services} == {"api", "web", "web-2"}


def test_a_folders_name_stands_in_the_services_file_as_it_is(shop: Path):
    fill(shop / "apps" / '1.0 "$x" #', WEB)
    fill(shop / "apps" / "null", WEB)

    assert main(["init"]) == 0

    services = parse((shop / "services.yaml").read_text(), "s").services
    assert (services["1-0-x"].context, services["null"].context) == ('apps/1.0 "$x" #', "apps/null")


def test_a_path_that_is_no_text_is_told(tmp_path: Path):
    with pytest.raises(UsageError, match="its path has characters that no services file can have"):
        project_in(fill(tmp_path / "a\x1bb", WEB))


def test_a_folder_that_is_both_kinds_is_refused(tmp_path: Path):
    with pytest.raises(UsageError, match=r"a Next\.js and a FastAPI project at once"):
        project_in(fill(tmp_path, {**API, **WEB}))


# The services file


OURS = """\
# ours
version: 1
project: shop   # sells

services:

    old:        # four spaces
        context: old
        labels: {note: "${NOTE:-none}"}
    # the end of the services

x-ours: {a: 1}
"""


@pytest.mark.parametrize(
    "text",
    [
        OURS,
        OURS.replace("\n", "\r\n"),
        "\ufeff" + OURS,
        OURS.partition("    # the end")[0],
        OURS.partition("\n    # the end")[0],
    ],
    ids=["as it is", "lines of Windows", "with a byte order mark", "services last", "without a last line end"],
)
def test_entries_are_added_and_every_byte_that_was_there_stays(shop: Path, text: str):
    fill(shop, {"services.yaml": text, "old/Dockerfile": "FROM scratch"})

    assert main(["init", "services/api"]) == 0

    after = (shop / "services.yaml").read_bytes().decode()
    end = "\r\n" if "\r\n" in text else "\n"
    added = f"    api:{end}        context: services/api{end}        size: {{max: 500MB, target: 450MB}}{end}"
    assert added in after
    assert after.replace(added, "").rstrip() == text.rstrip()
    assert {*parse(after.removeprefix("\ufeff"), "s").services} == {"old", "api"}


@pytest.mark.parametrize(
    "services",
    [
        "services: {old: {context: old}}",
        "services: &all\n  old: {context: old}",
        '"services":\n  old: {context: old}',
        "services:\n  {old: {context: old}}",
    ],
)
def test_a_services_file_that_nothing_can_be_added_to_is_left_alone_and_the_lines_are_told(
    shop: Path, services: str, capsys: pytest.CaptureFixture[str]
):
    fill(shop, {"services.yaml": f"version: 1\nproject: shop\n{services}\n"})
    before = snapshot(shop)

    assert main(["init", "services/api"]) == 2

    assert "nothing can be added to\nhint: add by hand:" in capsys.readouterr().err
    assert snapshot(shop) == before


def test_a_services_file_with_problems_is_told_before_anything_is_written(
    shop: Path, capsys: pytest.CaptureFixture[str]
):
    fill(shop, {"services.yaml": "version: 2\nproject: shop\nservices: {}\n"})
    before = snapshot(shop)

    assert main(["init"]) == 2

    assert "services.yaml:1:10" in capsys.readouterr().err
    assert snapshot(shop) == before


# FastAPI


@pytest.mark.parametrize(
    ("files", "manager", "lock"),
    [
        ({"requirements.txt": HASHED}, "pip", "requirements.txt"),
        ({"requirements.lock": HASHED, "requirements.txt": "fastapi\n"}, "pip", "requirements.lock"),
        ({"requirements-prod.txt": HASHED, "requirements-dev.txt": "fastapi\n"}, "pip", "requirements-prod.txt"),
        ({"requirements.txt": "fastapi[standard]\n"}, "pip", "requirements.txt"),
        ({"pyproject.toml": PYPROJECT, "uv.lock": UV_LOCK, "requirements.txt": HASHED}, "uv", "uv.lock"),
        ({"pyproject.toml": POETRY, "poetry.lock": POETRY_LOCK}, "poetry", "poetry.lock"),
        ({"pyproject.toml": PYPROJECT, "requirements.txt": HASHED}, "pip", "requirements.txt"),
    ],
)
def test_packages_come_from_the_lock_that_is_there(tmp_path: Path, files: dict[str, str], manager: str, lock: str):
    found = fast_api(tmp_path, {"main.py": APP, **files})

    assert (found.manager, found.lock) == (manager, lock)
    assert judged(STRICT, dockerfile=dockerfile_of(found)) == ()


@pytest.mark.parametrize(
    "files",
    [{}, {"requirements.txt": "fastapi-users\nuvicorn\n"}, {"requirements.txt": "# fastapi\n"}, {"pyproject.toml": ""}],
)
def test_a_folder_that_does_not_depend_on_fastapi_is_none_of_its_projects(tmp_path: Path, files: dict[str, str]):
    assert fastapi_in(fill(tmp_path, {"main.py": APP, **files})) is None


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"pyproject.toml": "[project"}, "pyproject.toml is not TOML"),
        ({"pyproject.toml": "a = " + "[" * 5000}, "pyproject.toml is not TOML"),
        ({"pyproject.toml": PYPROJECT}, "no lock says which packages"),
        ({"pyproject.toml": PYPROJECT, "pdm.lock": ""}, "locked by pdm.lock, which init does not know"),
        ({"Pipfile": "fastapi = '*'\n", "Pipfile.lock": "{}"}, "locked by Pipfile.lock"),
        ({"pyproject.toml": PYPROJECT, "uv.lock": UV_LOCK, "poetry.lock": ""}, "several locks: uv.lock and poetry.lock"),
        ({"requirements-a.txt": HASHED, "requirements-b.txt": HASHED}, "several files name fastapi"),
        ({"requirements.txt": "fastapi\n"}, "requirements.txt has no uvicorn"),
        ({"requirements.txt": HASHED + "-r base.txt\n"}, "another file in it, base.txt"),
        ({"requirements.txt": HASHED + "-e .\n"}, "a package that is in no index: -e ."),
        ({"requirements.txt": HASHED + "lib @ git+https://x.example/lib\n"}, "a package that is in no index: lib"),
        (
            {"pyproject.toml": PYPROJECT, "uv.lock": UV_LOCK + '[[package]]\nname = "l"\nsource = { editable = "l" }\n'},
            "a package that is in no index: l",
        ),
        (
            {"pyproject.toml": POETRY, "poetry.lock": POETRY_LOCK + '[[package]]\nname="l"\nsource={type="git"}\n'},
            "a package that is in no index: l",
        ),
        ({"pyproject.toml": PYPROJECT, "uv.lock": 'name = "uvicorn"\n[['}, "uv.lock is not TOML"),
        ({"requirements.txt": HASHED, "a.py": "app = FastAPI()", "b.py": "app = FastAPI()"}, "a.py:app and b.py:app"),
        ({"requirements.txt": HASHED, "main.py": "app = FastAPI("}, "no module has an application"),
        ({"requirements.txt": HASHED, "main.py": "def create_app(settings): return FastAPI()"}, "no module has"),
        ({"requirements.txt": HASHED, "tests/test_a.py": APP, ".venv/main.py": APP, "a.b.py": APP}, "no module has"),
        ({"requirements.txt": HASHED, "main.py": "x = " + "-" * 100_000 + "FastAPI"}, "no module has an application"),
    ],
)  # fmt: skip
def test_what_a_fastapi_image_lacks_is_told(tmp_path: Path, files: dict[str, str], said: str):
    with pytest.raises(UsageError, match=said) as told:
        fastapi_in(fill(tmp_path, files))

    assert told.value.hint


FACTORY = (
    'def create_app(debug=False):\n    web = FastAPI()\n    @web.get("/healthz")\n    async def healthz(): ...\n'
    "    return web\n"
)
IMPORTING = f"import db\n{APP}"


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"main.py": APP}, ("main", "app", False, "", "/health")),
        ({"main.py": "api = FastAPI()\napp: FastAPI = fastapi.FastAPI()"}, ("main", "app", False, "", "")),
        ({"main.py": "app = FastAPI()", "admin/main.py": "admin = FastAPI()"}, ("main", "app", False, "", "")),
        ({"app/main.py": APP, "app/__init__.py": ""}, ("app.main", "app", False, "", "/health")),
        ({"shop/__init__.py": APP}, ("shop", "app", False, "", "/health")),
        ({"src/shop/web.py": APP, "src/shop/__init__.py": ""}, ("shop.web", "app", False, "src", "/health")),
        ({"src/a/b.py": APP, "src/__init__.py": ""}, ("src.a.b", "app", False, "", "/health")),
        ({"src/main.py": IMPORTING, "src/db.py": ""}, ("main", "app", False, "src", "/health")),
        ({"src/main.py": f"from .db import x\n{APP}"}, ("src.main", "app", False, "", "/health")),
        ({"src/main.py": f"import src.db\n{APP}", "src/db.py": ""}, ("src.main", "app", False, "", "/health")),
        ({"back/web.py": f"from back.db import x\n{APP}"}, ("back.web", "app", False, "", "/health")),
        ({"main.py": FACTORY}, ("main", "create_app", True, "", "/healthz")),
        ({"main.py": f"{FACTORY}\napp = create_app()"}, ("main", "app", False, "", "")),
        ({"main.py": "from x import get_app\napp = get_app()", "x.py": FACTORY}, ("main", "app", False, "", "")),
        ({"main.py": 'app = FastAPI()\nx = "\\d"'}, ("main", "app", False, "", "")),
    ],
)
def test_the_application_is_found_by_the_syntax_of_its_modules(
    tmp_path: Path, files: dict[str, str], expected: tuple[object, ...]
):
    found = application_in(fill(tmp_path, files))

    assert found[:5] == expected


@pytest.mark.parametrize(
    "route",
    [
        'router = APIRouter(prefix="/v1")\n@router.get("/health")\ndef f(): ...',
        'client.get("/health")',
        '@app.post("/health")\ndef f(): ...',
        '@app.get("/users/health")\ndef f(): ...',
    ],
)
def test_a_route_that_may_be_elsewhere_is_no_health_check(tmp_path: Path, route: str):
    found = fast_api(tmp_path, {"requirements.txt": HASHED, "main.py": f"app = FastAPI()\n{route}\n"})

    assert found.health == ""
    assert "socket.create_connection(('127.0.0.1', 8000)" in dockerfile_of(found)
    assert any("HEALTHCHECK only sees that something listens" in note for note in found.notes)


def test_what_is_no_file_of_the_project_is_not_looked_into(tmp_path: Path):
    root = fill(tmp_path / "api", API)
    (root / "a.py").symlink_to(fill(tmp_path, {"outside.py": APP}) / "outside.py")
    (root / "b.py").symlink_to(root / "b.py")
    os.mkfifo(root / "c.py")

    assert application_in(root).others == ()


def test_packages_without_hashes_and_applications_that_are_passed_over_are_noted(
    shop: Path, capsys: pytest.CaptureFixture[str]
):
    fill(shop / "services/api", {"requirements.txt": "fastapi\nuvicorn\n", "admin.py": "admin = FastAPI()"})

    assert main(["init", "services/api"]) == 0

    said = capsys.readouterr().err.splitlines()
    assert said[0].startswith("note: api: requirements.txt has no hashes")
    assert said[1:] == ["note: api: it serves main:app, and there is also admin.py:admin"]
    assert "--require-hashes" not in (shop / "services/api/Dockerfile").read_text()


def test_what_a_project_says_of_itself_cannot_leave_its_label(tmp_path: Path):
    hostile = json.dumps('a" b\n$HOME \\ \ud800 RUN c', ensure_ascii=True)
    found = next_js(tmp_path, {**WEB, "package.json": package(description=json.loads(hostile))})

    [line] = [line for line in dockerfile_of(found).splitlines() if "image.description" in line]

    assert line.strip() == 'org.opencontainers.image.description="a\\" b \\$HOME \\\\ RUN c"'


def test_no_more_modules_are_looked_into_than_a_project_may_have(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(applications, "MOST_FILES", 1)

    assert application_in(fill(tmp_path, {"a.py": APP, "main.py": APP})).module == "a"


# Next.js


@pytest.mark.parametrize(
    ("files", "lines"),
    [
        ({"package-lock.json": "{}"}, ["COPY package.json package-lock.json ./", "npm ci --no-audit --no-fund"]),
        ({"package-lock.json": "", ".npmrc": "legacy-peer-deps=true"}, ["COPY package.json package-lock.json .npmrc ./"]),
        ({"pnpm-lock.yaml": "lockfileVersion: '9.0'"}, ["pnpm@9\n", "pnpm install --frozen-lockfile"]),
        ({"pnpm-lock.yaml": "lockfileVersion: '6.0'"}, ["pnpm@8\n"]),
        ({"pnpm-lock.yaml": "lockfileVersion: '9.0'", "pnpm-workspace.yaml": ""}, ["pnpm@10\n", "pnpm-workspace.yaml ./"]),
        ({"pnpm-lock.yaml": "", "package.json": package(packageManager="pnpm@10.4.1+sha512.0a")}, ["pnpm@10.4.1\n"]),
        ({"pnpm-lock.yaml": "", "package.json": package(packageManager="pnpm@1; rm -rf /")}, ["pnpm@9\n"]),
        ({"yarn.lock": "# yarn lockfile v1"}, ["npx --yes yarn@1 install --frozen-lockfile"]),
        ({"package-lock.json": "", "package.json": package(scripts={"build": "b", "postinstall": "x"})}, ["COPY . .\n"]),
        ({"package-lock.json": "", "package.json": package(devDependencies={"a": "file:a"})}, ["COPY . .\n"]),
    ],
)  # fmt: skip
def test_packages_are_installed_by_who_wrote_the_lock(tmp_path: Path, files: dict[str, str], lines: list[str]):
    dockerfile = dockerfile_of(next_js(tmp_path, {"package.json": package(), **files}))

    deps = dockerfile.partition("AS builder")[0]
    assert all(line in deps for line in lines)
    assert judged(STRICT, dockerfile=dockerfile) == ()


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"package.json": "{"}, "package.json is not JSON"),
        ({"package.json": "[" * 100_000}, "package.json is not JSON"),
        ({"package.json": "[]"}, "package.json is not a JSON object"),
        ({"package.json": package(scripts={})}, "no script `build`"),
        ({"package.json": package(dependencies={"next": "12.3.4"})}, "of Next.js 12"),
        ({"package.json": package(dependencies={"next": "16", "ui": "workspace:*"})}, "ui, a package of the workspace"),
        ({"package-lock.json": "{}", "yarn.lock": ""}, "several locks: package-lock.json and yarn.lock"),
        ({"bun.lock": ""}, "locked by bun.lock, which init does not know"),
        ({"yarn.lock": "__metadata:\n  version: 8\n"}, "that of Yarn 2 or later"),
        ({".npmrc": "//r.example/:_authToken=abc"}, ".npmrc holds a credential"),
        ({"next.config.js": "module.exports = { distDir: 'out', output: 'standalone' }"}, "next.config.js has a distDir"),
        ({"next.config.mjs": "export default { reactStrictMode: true }"}, "does not give standalone output"),
        ({"next.config.mjs": "export default { /* output: 'standalone' */ a: 1 }"}, "does not give standalone output"),
        ({"next.config.mjs": NEXT_CONFIG.replace("*/", "*/ output: 'export',")}, "does not give standalone output"),
    ],
)  # fmt: skip
def test_what_a_nextjs_image_lacks_is_told(tmp_path: Path, files: dict[str, str], said: str):
    lock = {} if {"bun.lock", "yarn.lock"} & files.keys() else {"package-lock.json": "{}"}

    with pytest.raises(UsageError, match=said) as told:
        nextjs_in(fill(tmp_path, {"package.json": package(), **lock, **files}))

    assert told.value.hint


def test_a_lock_above_the_project_is_that_of_a_workspace(tmp_path: Path):
    fill(tmp_path, {"pnpm-lock.yaml": ""})

    with pytest.raises(UsageError, match="it has no lock of its own, but there is one in"):
        nextjs_in(fill(tmp_path / "apps" / "web", {"package.json": package()}))


def test_a_file_that_leads_out_of_the_project_is_not_read(tmp_path: Path):
    (root := tmp_path / "web").mkdir()
    (root / "package.json").symlink_to(fill(tmp_path, {"theirs.json": package()}) / "theirs.json")

    with pytest.raises(UsageError, match=r"package\.json leads out of the project's folder"):
        nextjs_in(root)


@pytest.mark.parametrize("data", ["{}".encode("utf-16"), b" " * 200], ids=["UTF-16", "too large"])
def test_a_package_json_that_is_no_text_is_told(tmp_path: Path, data: bytes, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(reading, "MOST_BYTES", 100)
    (tmp_path / "package.json").write_bytes(data)

    with pytest.raises(UsageError, match=r"package\.json is no UTF-8 text"):
        nextjs_in(tmp_path)


@pytest.mark.parametrize(
    ("name", "before", "after"),
    [
        ("next.config.ts", NEXT_CONFIG, NEXT_CONFIG.replace("*/", "*/\n  output: 'standalone',")),
        ("next.config.mjs", OLD_CONFIG, OLD_CONFIG.replace("{}", "{\n  output: 'standalone',\n}")),
        ("next.config.ts", ASKED, ASKED.replace("*/", "*/\n  output: 'standalone',")),
        (
            "next.config.mjs",
            OLD_CONFIG.replace("{}", "{\n  reactStrictMode: true,\n}"),
            OLD_CONFIG.replace("{}", "{\n  output: 'standalone',\n  reactStrictMode: true,\n}"),
        ),
        ("next.config.mjs", OLD_CONFIG.replace("\n", "\r\n"), OLD_CONFIG.replace("{}", "{\n  output: 'standalone',\n}").replace("\n", "\r\n")),
        ("next.config.js", "module.exports = { output: 'standalone' }", ""),
        ("next.config.mjs", 'export default { "output": "standalone", a: 1 }', ""),
    ],
)  # fmt: skip
def test_standalone_output_is_put_into_a_configuration_that_nobody_touched(
    tmp_path: Path, name: str, before: str, after: str
):
    found = next_js(tmp_path, {"package.json": package(), "package-lock.json": "{}", name: before})

    assert (found.config, found.config_text) == (name, after)


def test_of_several_configurations_the_one_that_nextjs_reads_counts(tmp_path: Path):
    found = next_js(tmp_path, {**WEB, "next.config.js": "module.exports = { output: 'standalone' }"})

    assert (found.config, found.config_text) == ("next.config.js", "")


def test_a_project_without_a_configuration_gets_one(tmp_path: Path):
    found = next_js(tmp_path, {"package.json": package(), "package-lock.json": "{}"})

    assert found.config == "next.config.mjs"
    assert "export default { output: 'standalone' }" in found.config_text


@pytest.mark.parametrize(
    ("files", "health"),
    [
        ({"app/page.tsx": ""}, "/"),
        ({"app/api/health/route.ts": ""}, "/api/health"),
        ({"src/app/(site)/health/route.js": ""}, "/health"),
        ({"app/api/(ops)/healthz/route.ts": ""}, "/api/healthz"),
        ({"app/shop/health/route.ts": ""}, "/"),
        ({"pages/api/health.ts": ""}, "/api/health"),
        ({"app/health/route.ts": "", "next.config.ts": "{ output: 'standalone', basePath: '/shop' }"}, "/"),
    ],
)
def test_the_health_check_asks_a_route_for_it_or_the_first_page(tmp_path: Path, files: dict[str, str], health: str):
    found = next_js(tmp_path, {"package.json": package(), "package-lock.json": "{}", **files})

    assert found.health == health
    assert f"process.env.PORT + '{health}'" in dockerfile_of(found)


@pytest.mark.parametrize("has_public", [False, True])
def test_public_files_are_copied_where_there_are_any(tmp_path: Path, *, has_public: bool):
    dockerfile = dockerfile_of(next_js(tmp_path, {**WEB, **({"public/a.svg": ""} if has_public else {})}))

    assert ("COPY --from=builder /app/public ./public\n" in dockerfile) == has_public
