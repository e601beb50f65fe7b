"""Finding buildx and the engine's endpoint where docker would."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from buildorch.buildx import client
from buildorch.buildx.client import Buildx, find_buildx, find_endpoint, require_builders
from buildorch.errors import BuildxMissing, EngineUnreachable


def program(path: Path, script: str = "exit 0") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


@pytest.fixture(autouse=True)
def no_system_plugins(monkeypatch: pytest.MonkeyPatch):
    """The machine's own plugins are not what these tests are about."""
    monkeypatch.setattr(client, "_SYSTEM_FOLDERS", ())


def test_the_users_own_plugin_is_found_first(tmp_path: Path):
    plugin = program(tmp_path / "cli-plugins" / "docker-buildx")

    assert find_buildx({"DOCKER_CONFIG": str(tmp_path)}).command == (str(plugin),)


def test_a_plugin_in_the_home_folder_is_found(tmp_path: Path):
    plugin = program(tmp_path / ".docker" / "cli-plugins" / "docker-buildx")

    assert find_buildx({"HOME": str(tmp_path)}).command == (str(plugin),)


def test_a_folder_named_in_dockers_configuration_is_looked_into(tmp_path: Path):
    plugin = program(tmp_path / "elsewhere" / "docker-buildx")
    (tmp_path / "config.json").write_text(json.dumps({"cliPluginsExtraDirs": [str(plugin.parent)]}))

    assert find_buildx({"DOCKER_CONFIG": str(tmp_path)}).command == (str(plugin),)


def test_a_plugin_that_may_not_be_run_is_passed_over(tmp_path: Path):
    program(tmp_path / "cli-plugins" / "docker-buildx").chmod(0o644)

    with pytest.raises(BuildxMissing, match="there is no docker client on PATH"):
        find_buildx({"DOCKER_CONFIG": str(tmp_path), "PATH": "/nonexistent"})


def test_where_only_docker_knows_its_plugin_docker_is_asked(tmp_path: Path):
    docker = program(tmp_path / "bin" / "docker", "echo 'github.com/docker/buildx v0.17.1 abc'")

    found = find_buildx({"HOME": "/nonexistent", "PATH": str(docker.parent)})

    assert found.command == (str(docker), "buildx")
    assert found.version() == "0.17.1"


def test_a_docker_client_without_the_plugin_is_told_with_the_way_to_get_it(tmp_path: Path):
    docker = program(tmp_path / "bin" / "docker", "exit 1")

    with pytest.raises(BuildxMissing, match="docker buildx does not run") as caught:
        find_buildx({"HOME": "/nonexistent", "PATH": str(docker.parent)})

    assert "docker-buildx" in caught.value.hint
    assert caught.value.exit_code == 4


@pytest.mark.parametrize("config", ["", "[]", "{", '{"cliPluginsExtraDirs": 7}', '{"cliPluginsExtraDirs": null}'])
def test_a_broken_configuration_is_dockers_to_complain_about(tmp_path: Path, config: str):
    plugin = program(tmp_path / "cli-plugins" / "docker-buildx")
    (tmp_path / "config.json").write_text(config)

    assert find_buildx({"DOCKER_CONFIG": str(tmp_path)}).command == (str(plugin),)


@pytest.mark.parametrize(
    ("printed", "version"),
    [
        ("github.com/docker/buildx v0.29.1 28f6246", "0.29.1"),
        ("github.com/docker/buildx 0.20.0+dfsg", "0.20.0+dfsg"),
        ("odd", "odd"),
        ("", ""),
    ],
)
def test_a_version_is_the_second_word_without_its_v(tmp_path: Path, printed: str, version: str):
    assert Buildx((str(program(tmp_path / "x", f"echo '{printed}'")),)).version() == version


def test_another_program_at_the_same_place_has_another_stamp(tmp_path: Path):
    plugin = program(tmp_path / "x")
    before = Buildx((str(plugin),)).stamp

    program(plugin, "exit 1 # longer")

    assert Buildx((str(plugin),)).stamp != before


def test_docker_host_comes_before_everything(tmp_path: Path):
    (tmp_path / "config.json").write_text('{"currentContext": "other"}')
    environ = {"DOCKER_HOST": "tcp://1.2.3.4:5", "DOCKER_CONTEXT": "x", "DOCKER_CONFIG": str(tmp_path)}

    assert find_endpoint(environ) == "tcp://1.2.3.4:5"


@pytest.mark.parametrize("environ", [{"HOME": "/nonexistent"}, {"HOME": "/nonexistent", "DOCKER_CONTEXT": "default"}])
def test_without_a_context_it_is_the_default_socket(environ: dict[str, str]):
    assert find_endpoint(environ) == "unix:///var/run/docker.sock"


@pytest.mark.proof
def test_a_context_that_does_not_exist_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    monkeypatch.delenv("DOCKER_HOST")
    (tmp_path / "config.json").write_text('{"currentContext": "gone"}')

    with pytest.raises(EngineUnreachable, match="no Docker engine answers at the docker context 'gone'"):
        find_endpoint()


@pytest.mark.parametrize(
    ("kept", "builder"),
    [
        ('{"Key": "unix:///var/run/docker.sock", "Name": "mine", "Global": false}', "mine"),
        ('{"Key": "unix:///var/run/docker.sock", "Name": "", "Global": false}', ""),
        ('{"Key": "unix:///var/run/docker.sock", "Name": "default"}', ""),
        ('{"Name": null}', ""),
        ("[]", ""),
        ("{", ""),
        ("\udc80", ""),
    ],
)
def test_the_builder_in_use_is_the_one_that_buildx_keeps(tmp_path: Path, kept: str, builder: str):
    (tmp_path / "buildx").mkdir()
    (tmp_path / "buildx" / "current").write_text(kept, errors="surrogateescape")

    assert client.current_builder({"DOCKER_CONFIG": str(tmp_path)}) == builder


@pytest.mark.parametrize(("variable", "builder"), [("ci", "ci"), ("default", ""), ("", "mine")])
def test_the_environment_names_the_builder_before_buildxs_own_file(tmp_path: Path, variable: str, builder: str):
    (tmp_path / "current").write_text('{"Name": "mine"}')

    assert client.current_builder({"BUILDX_BUILDER": variable, "BUILDX_CONFIG": str(tmp_path)}) == builder


def test_without_a_file_of_buildx_the_builder_is_the_engines_own(tmp_path: Path):
    assert client.current_builder({"HOME": str(tmp_path)}) == ""


def test_proxy_settings_are_one_text_whatever_their_order(tmp_path: Path):
    one = {"default": {"httpProxy": "http://a", "noProxy": "b"}, "tcp://x": {}}
    texts = []
    for proxies in (one, dict(reversed(one.items())), {"default": {"httpProxy": "http://other"}}):
        (tmp_path / "config.json").write_text(json.dumps({"proxies": proxies}))
        texts.append(client.proxies({"DOCKER_CONFIG": str(tmp_path)}))

    assert texts[0] == texts[1] != texts[2]
    assert "http://a" in texts[0]


@pytest.mark.parametrize("config", ["{}", '{"proxies": {}}', '{"proxies": null}', "[]", ""])
def test_without_proxy_settings_there_is_no_text(tmp_path: Path, config: str):
    (tmp_path / "config.json").write_text(config)

    assert client.proxies({"DOCKER_CONFIG": str(tmp_path)}) == ""


def test_without_a_wanted_builder_nobody_is_asked(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PATH", "/nonexistent")

    require_builders(set())


def test_a_wanted_builder_without_a_docker_client_is_told(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PATH", "/nonexistent")

    with pytest.raises(BuildxMissing, match="there is no docker client on PATH"):
        require_builders({"ci"})
