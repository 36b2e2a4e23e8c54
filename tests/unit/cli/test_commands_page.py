import re
from pathlib import Path

import pytest

from tests.unit.cli.test_help import ALL

PAGE = Path(__file__).resolve().parents[3] / "docs" / "commands.md"
SHARED = {"--data-dir", "--json", "--help", "-h"}


def sections() -> dict[str, str]:
    """Command to its part of the page."""
    parts = re.split(r"^### `secondread (.+?)`$", PAGE.read_text("utf-8"), flags=re.M)
    names = [re.sub(r"( [A-Z.]+)+$", "", heading) for heading in parts[1::2]]
    texts = [text.split("\n## ")[0] for text in parts[2::2]]
    return dict(zip(names, texts, strict=True))


def test_the_page_has_every_command_and_no_other():
    assert set(sections()) == set(ALL)


@pytest.mark.parametrize("name", ALL)
def test_the_page_names_every_option_and_no_other(name):
    text = sections()[name]
    options = {
        option
        for one in ALL[name].params
        for option in [*one.opts, *one.secondary_opts]
    }

    there = {option for option in options if option.startswith("--")} - SHARED
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", text)) - SHARED

    assert named == there
