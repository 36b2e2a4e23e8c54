"""Dockerfile and docker-compose.yml fit the packages and the commands."""

import json
import re
import shlex
import subprocess
import sys
import tomllib
from importlib.util import find_spec
from typing import Any

import pytest
import typer

from cli.main import app
from core.settings import Settings
from tests.unit.docs.markdown_pages import ROOT

DOCKERFILE = (ROOT / "Dockerfile").read_text()
COMPOSE = (ROOT / "docker-compose.yml").read_text()


def test_every_package_is_copied_into_the_image() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    packages = project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]

    copied = re.findall(r"^COPY (\w+) (\w+)$", DOCKERFILE, re.MULTILINE)

    assert copied == [(name, name) for name in packages]
    ignored = (ROOT / ".dockerignore").read_text().split()
    assert not set(packages) & set(ignored)


def test_the_image_opens_the_port_that_is_the_default() -> None:
    assert f"EXPOSE {Settings().node.port}\n" in DOCKERFILE
    assert f'"{Settings().node.port}:{Settings().node.port}"' in COMPOSE


def test_the_compose_file_passes_its_schema() -> None:
    if find_spec("check_jsonschema") is None:
        pytest.skip("check-jsonschema is not installed")

    checked = subprocess.run(
        [sys.executable, "-m", "check_jsonschema", "--builtin-schema",
         "vendor.compose-spec", "docker-compose.yml"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert checked.returncode == 0, checked.stdout + checked.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        json.loads(found)
        for found in re.findall(r"(?:command|test): (\[.*\])$", COMPOSE, re.MULTILINE)
        if "redis" not in found
    ],
    ids=" ".join,
)
def test_each_command_of_the_containers_exists(arguments: list[str]) -> None:
    words = [word for word in arguments if word not in {"CMD", "secondread"}]
    program: Any = typer.main.get_command(app)
    command = program.commands[words[0]]
    if hasattr(command, "commands"):
        command = command.commands[words[1]]
    options = {name for one in command.params for name in one.opts}

    assert {word for word in words if word.startswith("-")} <= options, shlex.join(
        words
    )


def test_the_settings_of_the_containers_exist() -> None:
    names = re.findall(r"SECONDREAD_(\w+?)__(\w+):", COMPOSE)
    assert names

    for section, name in names:
        assert name.lower() in type(getattr(Settings(), section.lower())).model_fields
