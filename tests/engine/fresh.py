"""Projects as their own tools make them: FastAPI with pip, uv and Poetry, and what create-next-app writes, without its
fonts, which come from a network of their own. Their locks are made in the base images, and are real.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from sandbox import Sandbox, docker

PIP_CACHE = "RUN --mount=type=cache,id=pip,target=/root/.cache/pip"
NPM_CACHE = "RUN --mount=type=cache,id=npm,target=/root/.npm"
MAIN = """\
from fastapi import FastAPI

app = FastAPI()


@app.get("/")
def read_root():
    return {"Hello": "World"}


@app.get("/health")
def health():
    return {}
"""
PYPROJECT = """\
[project]
name = "{name}"
version = "0.1.0"
description = "A small API"
requires-python = ">=3.12"
dependencies = ["fastapi", "uvicorn"]
"""
ASK_INDEX = "from pip._internal.models.index import PyPI; print(PyPI.simple_url)"
"""Poetry resolves by an interface of PyPI's own, which not every mirror has; an index by name has the standard one. And requests has authorities of its own."""
CONFIG = {
    "next.config.mjs": (
        "/** @type {import('next').NextConfig} */\nconst nextConfig = {};\n\nexport default nextConfig;\n"
    ),
    "next.config.ts": (
        'import type { NextConfig } from "next";\n\nconst nextConfig: NextConfig = {\n'
        "  /* config options here */\n};\n\nexport default nextConfig;\n"
    ),
}
LAYOUT = """\
export default function RootLayout({ children }: Readonly<{ children: React.ReactNode }>) {
  return (
    <html lang="en">
      <body>{children}</body>
    </html>
  );
}
"""
TSCONFIG = {
    "compilerOptions": {
        "lib": ["dom", "dom.iterable", "esnext"],
        "strict": True,
        "noEmit": True,
        "esModuleInterop": True,
        "module": "esnext",
        "moduleResolution": "bundler",
        "isolatedModules": True,
        "jsx": "preserve",
        "plugins": [{"name": "next"}],
    },
    "include": ["next-env.d.ts", "**/*.ts", "**/*.tsx", ".next/types/**/*.ts"],
    "exclude": ["node_modules"],
}


@dataclass(frozen=True)
class Fresh:
    """A project's files, and how its lock is made."""

    files: Mapping[str, str]
    base: str
    lock: tuple[str, ...]
    """Files that the last of the instructions leaves."""
    instructions: str
    port: int
    answer: str
    """What its first page holds."""

    def write(self, sandbox: Sandbox, name: str) -> None:
        """Put it below `apps`, its lock made."""
        for file, text in self.files.items():
            sandbox.write(f"apps/{name}/{file}", text)
        folder = sandbox.root / "apps" / name
        copies = "".join(f"COPY --from=made /app/{file} /\n" for file in self.lock)
        made = sandbox.write(
            f"locks/{name}.Dockerfile",
            f"FROM {self.base} AS made\nWORKDIR /app\nCOPY . .\n{self.instructions}\nFROM scratch\n{copies}",
        )
        docker("buildx", "build", "--quiet", f"--file={made}", f"--output=type=local,dest={folder}", "--", str(folder))


def _fastapi(lock: tuple[str, ...], tool: str, command: str, **files: str) -> Fresh:
    instructions = f"{PIP_CACHE} pip install {tool} && {command}"
    return Fresh({"main.py": MAIN, **files}, "python:3.13-slim", lock, instructions, 8000, '{"Hello":"World"}')


def _nextjs(version: str, *, react: str, lock: str, command: str, config: str = "next.config.ts") -> Fresh:
    about = {
        "name": "web",
        "version": "0.1.0",
        "private": True,
        "scripts": {"dev": "next dev", "build": "next build", "start": "next start"},
        "dependencies": {"next": version, "react": react, "react-dom": react},
        "devDependencies": {"typescript": "^5", "@types/node": "^20", "@types/react": react, "@types/react-dom": react},
    }
    files = {
        "package.json": json.dumps(about, indent=2),
        "tsconfig.json": json.dumps(TSCONFIG, indent=2),
        config: CONFIG[config],
        "app/layout.tsx": LAYOUT,
        "app/page.tsx": "export default function Home() {\n  return <main>To get started</main>;\n}\n",
        "public/next.svg": "<svg xmlns='http://www.w3.org/2000/svg'/>",
    }
    return Fresh(files, "node:20-alpine", (lock,), f"{NPM_CACHE} {command}", 3000, "To get started")


NPM = "npm install --package-lock-only --no-audit --no-fund"
FRESH: Mapping[str, Fresh] = {
    "pip": _fastapi(
        ("requirements.txt",),
        "uv",
        "uv pip compile --quiet --generate-hashes --python-version 3.13 requirements.in --output-file requirements.txt",
        **{"requirements.in": "fastapi\nuvicorn\n"},
    ),
    "uv": _fastapi(("uv.lock",), "uv", "uv lock --quiet", **{"pyproject.toml": PYPROJECT.format(name="uv-api")}),
    "poetry": _fastapi(
        ("poetry.lock", "pyproject.toml"),
        "'poetry>=2,<3'",
        'printf \'\\n[[tool.poetry.source]]\\nname = "simple"\\nurl = "%s"\\npriority = "primary"\\n\' '
        f"\"$(python -c '{ASK_INDEX}')\" >> pyproject.toml && REQUESTS_CA_BUNDLE=$SSL_CERT_FILE poetry lock",
        **{"pyproject.toml": PYPROJECT.format(name="poetry-api")},
    ),
    "next14": _nextjs("^14", react="^18", lock="package-lock.json", command=NPM, config="next.config.mjs"),
    "next15": _nextjs("^15", react="^19", lock="package-lock.json", command=NPM),
    "next16": _nextjs("^16", react="^19", lock="package-lock.json", command=NPM),
    "pnpm": _nextjs("^16", react="^19", lock="pnpm-lock.yaml", command="npx --yes pnpm@9 install --lockfile-only"),
    "yarn": _nextjs("^16", react="^19", lock="yarn.lock", command="npx --yes yarn@1 install --ignore-scripts"),
}
