"""What the tests of the documentation read: pages, their links, tables and code."""

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
README = ROOT / "README.md"
DOCS = ROOT / "docs"

_HEADING = re.compile(r"^#{1,6} (?P<text>.+)$")
# A block within a list is indented.
_BLOCK = re.compile(r"^ *```.*?\n(.*?)^ *```$", re.DOTALL | re.MULTILINE)
_LINK = re.compile(r"\[[^\]]*\]\((?P<target>[^)\s]+)\)")


@dataclass(frozen=True)
class Table:
    """A table and the last heading before it."""

    heading: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def pages() -> list[Path]:
    return [README, *sorted(DOCS.rglob("*.md"))]


def links(page: Path) -> list[str]:
    """Return the targets of a page's links, those in code apart."""
    return [match["target"] for match in _LINK.finditer(without_code(page))]


def without_code(page: Path) -> str:
    return re.sub(r"`[^`]*`", "", _BLOCK.sub("", page.read_text()))


def code_of(page: Path) -> list[str]:
    """Return each line of the page's code blocks and each piece of code in its text."""
    text = page.read_text()
    lines = [line for block in _BLOCK.finditer(text) for line in block[1].splitlines()]
    return lines + re.findall(r"`([^`]+)`", _BLOCK.sub("", text))


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub and GitLab make them."""
    headings = (_HEADING.match(line) for line in page.read_text().splitlines())
    return {
        re.sub(r"[^\w\- ]", "", match["text"].lower()).strip().replace(" ", "-")
        for match in headings
        if match
    }


def tables(page: Path) -> list[Table]:
    found: list[Table] = []
    heading, block = "", list[str]()
    for line in [*page.read_text().splitlines(), ""]:
        if line.startswith("|"):
            block.append(line)
            continue
        if len(block) > 1:
            columns, _, *rows = (_cells(row) for row in block)
            found.append(Table(heading, columns, tuple(rows)))
        block = []
        match = _HEADING.match(line)
        heading = match["text"] if match else heading
    return found


def _cells(line: str) -> tuple[str, ...]:
    return tuple(cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1])
