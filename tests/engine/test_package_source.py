"""Reading this machine's package source, from which the private engine and the stand-ins are made."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"

DEB822 = """\
Types: deb
# a remark inside
URIs: http://mirror.example/debian
Suites: bookworm bookworm-updates
Components: main contrib
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
"""
VENDOR = """\
Types: deb
URIs: http://vendor.example/debian
Suites: bookworm
Components: stable
"""


@pytest.fixture
def debian(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    from _engine import debian

    monkeypatch.setattr(debian, "codename", lambda: "bookworm")
    return debian


def write(apt: Path, **files: str) -> Path:
    """An /etc/apt with these files in sources.list.d; dots are written as underscores."""
    folder = apt / "sources.list.d"
    folder.mkdir()
    for name, text in files.items():
        (folder / name.replace("_", ".")).write_text(text)
    return apt


def test_a_later_suite_keeps_the_uri_and_the_key_of_the_machines_own(debian: ModuleType, tmp_path: Path) -> None:
    [source] = debian.own_sources(write(tmp_path, debian_sources=DEB822))

    assert source.deb822(["forky"]) == (
        "Types: deb\nURIs: http://mirror.example/debian\nSuites: forky\nComponents: main\n"
        "Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg\n"
    )


def test_a_one_line_source_is_read_with_its_options(debian: ModuleType, tmp_path: Path) -> None:
    line = "deb [arch=amd64 signed-by=/keys/a.gpg trusted=yes] http://mirror.example/debian bookworm main # ours\n"

    [source] = debian.own_sources(write(tmp_path, a_list=f"# deb http://old.example x main\n{line}"))

    assert source.deb822() == (
        "Types: deb\nURIs: http://mirror.example/debian\nSuites: bookworm\nComponents: main\n"
        "Signed-By: /keys/a.gpg\nTrusted: yes\n"
    )


def test_a_key_written_into_the_source_is_kept_whole(debian: ModuleType, tmp_path: Path) -> None:
    key = "Signed-By:\n -----BEGIN PGP PUBLIC KEY BLOCK-----\n# a remark: this\n .\n abc\n -----END PGP PUBLIC KEY BLOCK-----"
    text = DEB822.replace("Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg", key)

    [source] = debian.own_sources(write(tmp_path, debian_sources=text))

    assert "Signed-By: \n -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n abc\n -----END" in source.deb822()
    assert source.deb822().endswith(" -----END PGP PUBLIC KEY BLOCK-----\n")
    assert "\n\n" not in source.deb822()


def test_the_release_comes_before_its_updates(debian: ModuleType, tmp_path: Path) -> None:
    security = "deb http://mirror.example/debian-security bookworm-security main\n"

    sources = debian.own_sources(write(tmp_path, a_list=security, debian_sources=DEB822))

    assert [source.suites for source in sources] == [["bookworm", "bookworm-updates"], ["bookworm-security"]]


def test_what_is_said_in_a_remark_is_no_component(debian: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(debian.EngineError, match="no package source"):
        debian.own_sources(write(tmp_path, a_list="deb http://mirror.example/debian bookworm contrib # not main\n"))


@pytest.mark.parametrize(
    "text",
    [
        VENDOR,
        f"Enabled: no\n{DEB822}",
        DEB822.replace("Types: deb", "Types: deb-src"),
        DEB822.replace("bookworm", "sid"),
    ],
    ids=["a vendor's", "switched off", "of source code", "of another release"],
)
def test_a_source_that_is_not_of_this_releases_packages_is_not_used(
    debian: ModuleType, tmp_path: Path, text: str
) -> None:
    with pytest.raises(debian.EngineError, match="no package source"):
        debian.own_sources(write(tmp_path, other_sources=text))
