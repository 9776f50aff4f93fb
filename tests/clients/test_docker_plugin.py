"""imgfs as a plugin of docker's command line."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """Return docker's configuration directory, which has the plugin."""
    plugins = tmp_path / "docker" / "cli-plugins"
    plugins.mkdir(parents=True)
    plugin = plugins / "docker-imgfs"
    plugin.write_text(f'#!/bin/sh\nPYTHONPATH={PROJECT} exec {sys.executable} -m imgfs "$@"\n')
    plugin.chmod(0o755)
    return tmp_path / "docker"


def docker(config: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    if not (program := shutil.which("docker")):
        pytest.skip("docker is not installed")
    environment = {**os.environ, "IMGFS_STORE": str(config / "store")}
    command = [program, "--config", str(config), *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_docker_calls_it_as_its_own_command(config: Path) -> None:
    root = config / "root"
    root.mkdir()
    digest = docker(config, "imgfs", "commit", str(root), "app:1").stdout.strip()
    done = docker(config, "imgfs", "inspect", "app:1")
    assert done.stderr == ""
    (found,) = json.loads(done.stdout)
    assert digest in json.dumps(found)


def test_errors_and_statuses_are_those_of_imgfs(config: Path) -> None:
    done = docker(config, "imgfs", "tag", "nothing:1", "x:1")
    assert done.returncode == 1
    assert done.stderr.startswith("imgfs: ")


def test_docker_lists_it_with_its_description(config: Path) -> None:
    assert "imgfs" in docker(config, "--help").stdout
    plugins = json.loads(docker(config, "info", "--format", "{{json .ClientInfo.Plugins}}").stdout)
    (ours,) = [plugin for plugin in plugins if plugin["Name"] == "imgfs"]
    assert ours["ShortDescription"] == "A container image store that you use as a folder"
    assert not ours.get("Err")
