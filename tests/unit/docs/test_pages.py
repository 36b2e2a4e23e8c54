"""What README and docs name is there: pages, headings, commands, the test command."""

import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
import typer

from cli.main import app
from tests.unit.docs.markdown_pages import (
    DOCS,
    README,
    ROOT,
    anchors,
    code_of,
    links,
    pages,
)

COMMAND_LINE = re.compile(r"(?:^|[\s/(])secondread((?: +[^\s#|;&)]+)+)")
# What stands after `secondread` in these is no command.
_NOT_A_COMMAND = re.compile(r"^[A-Z\-@.:]|^(?:on|answers|runs)$")


def _command_lines() -> list[str]:
    """Return everything that is written as `secondread COMMAND …`, with its page."""
    found = []
    for page in pages():
        for text in code_of(page):
            if re.match(r"\s*(?:image|name|User|Description|Environment|user)", text):
                continue
            for match in COMMAND_LINE.finditer(" ".join(["", *text.split()])):
                if not _NOT_A_COMMAND.match(match[1].split()[0]):
                    found.append(f"{page.relative_to(ROOT)}: {match[1].strip()}")
    return sorted(set(found))


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_each_relative_link_leads_to_a_file_and_to_its_heading(page: Path) -> None:
    broken = []
    for link in links(page):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)

    assert not broken


def test_every_page_is_reached_by_links_from_the_readme() -> None:
    reached, waiting = set(), [README]
    while waiting:
        page = waiting.pop()
        if page in reached or not page.exists() or page.suffix != ".md":
            continue
        reached.add(page)
        waiting += [
            (page.parent / link.partition("#")[0]).resolve()
            for link in links(page)
            if not re.match(r"[a-z]+:|#", link)
        ]

    assert not set(DOCS.rglob("*.md")) - reached


def test_the_search_for_commands_finds_them() -> None:
    assert len(_command_lines()) > 40
    assert any("rules test FILE" in line for line in _command_lines())


@pytest.mark.parametrize("line", _command_lines())
def test_each_command_that_is_named_exists_with_its_options(line: str) -> None:
    words = shlex.split(line.partition(": ")[2], comments=True)
    command: Any = typer.main.get_command(app)

    while words and hasattr(command, "commands"):
        word = words.pop(0)
        if word.startswith("-") or word in {"COMMAND", "…"}:
            return  # the program's own option, or any command
        assert word in command.commands, f"no command {word!r}"
        command = command.commands[word]
    options = {name for one in command.params for name in one.opts} | {"--help", "-h"}

    assert {word.partition("=")[0] for word in words if word.startswith("--")} <= {
        *options
    }
    assert callable(command.callback)


def test_the_changelog_tells_what_is_not_released_yet() -> None:
    lines = (ROOT / "CHANGELOG.md").read_text().splitlines()

    assert next(line for line in lines if line.startswith("## ")) == "## Unreleased"


def test_ci_runs_the_test_command_of_the_readme() -> None:
    script = (ROOT / ".ci" / "run").read_text()
    (extraction,) = re.findall(r"^test_command=\$\((.*)\)$", script, re.MULTILINE)
    between = README.read_text().split("<!-- test command -->")[1].split("<!-- end -->")

    taken = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", extraction],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout.strip()  # fmt: skip

    assert taken == between[0].strip().removeprefix("```sh").removesuffix("```").strip()
    assert 'bash -euo pipefail -c "$test_command"' in script
    assert taken.endswith("-m pytest")
    assert "\n" not in taken
