"""Figures into the documentation: `python -m benchmarks.report FILES`.

Takes JSON files that the measurements wrote and rewrites the marked part of
docs/performance.md and a plot for each measurement in docs/img/. Of several files with
the same bar the last one counts.
"""

import argparse
import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.bars import BARS
from benchmarks.harness.parts import ROOT
from benchmarks.harness.summary import Summary

__all__ = ["main", "page_with"]

PAGE = ROOT / "docs" / "performance.md"
BEGIN, END = "<!-- figures -->", "<!-- end of figures -->"
Figures = Mapping[str, Any]


def main() -> None:
    """Rewrite page and plots."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.report", description=__doc__
    )
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--page", type=Path, default=PAGE)
    given = parser.parse_args()
    figures = [json.loads(path.read_text()) for path in given.files]
    drawn = _draw(figures, given.page.parent / "img")
    given.page.write_text(page_with(given.page.read_text(), figures, drawn))
    print(f"{given.page}: {_count(figures)} of {len(BARS)} bars measured")


def page_with(page: str, figures: Sequence[Figures], drawn: Iterable[str] = ()) -> str:
    """Return a page whose marked part shows these figures.

    Parameters
    ----------
    page
        Markdown with both marks.
    figures
        Contents of the JSON files, the later ones over the earlier ones.
    drawn
        Measurements that have a plot in `img/`.

    Raises
    ------
    ValueError
        If the marks are not there.
    """
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the page needs the marks {BEGIN} and {END}")
    shown = [_bars(figures), _machines(figures), *_measurements(figures, set(drawn))]
    return "\n\n".join((before + BEGIN, *shown, END + after))


def _bars(figures: Sequence[Figures]) -> str:
    measured = _measured(figures)
    rows = [
        {
            "what": bar.name,
            "floor": bar.text(bar.floor),
            "goal": bar.text(bar.goal),
            "measured": f"{measured[key]}" if key in measured else "–",
            "reached": bar.verdict(measured[key].median) if key in measured else "–",
            "command": f"`{bar.benchmark}`",
        }
        for key, bar in BARS.items()
    ]
    return _table(rows)


def _measured(figures: Sequence[Figures]) -> dict[str, Summary]:
    return {
        key: Summary(**values)
        for one in figures
        for key, values in one["bars"].items()
        # Some measure in passing what another command measures properly.
        if key in BARS and BARS[key].benchmark == one["benchmark"]
    }


def _count(figures: Sequence[Figures]) -> int:
    return len(_measured(figures))


def _machines(figures: Sequence[Figures]) -> str:
    """Say on what it was measured, once for each machine."""
    if not figures:
        return "Nothing is measured yet."
    found: dict[tuple[str, ...], set[str]] = defaultdict(set)
    facts = ("processor", "cores", "memory_gib", "system", "folder", "python")
    for one in figures:
        machine = one["machine"]
        key = tuple(str(machine.get(fact, "?")) for fact in facts)
        found[key].add(str(machine.get("time", ""))[:10])
    lines = [
        f"Measured {' and '.join(sorted(days))}: {processor}, {cores} cores, "
        f"{memory} GiB, {system}, {folder}, Python {python}."
        for (processor, cores, memory, system, folder, python), days in found.items()
    ]
    versions = {key: value for one in figures for key, value in one["versions"].items()}
    told = ", ".join(f"{name} {_short(value)}" for name, value in versions.items())
    return "\n".join([*lines, f"Versions: {told}."])


def _short(version: str) -> str:
    """`dcmsend v3.6.7 2022-04-22` to `v3.6.7`: other words say it twice."""
    words = version.replace("$", " ").split()
    return next((word for word in words if word.strip("v")[:1].isdigit()), version)


def _measurements(figures: Sequence[Figures], drawn: set[str]) -> list[str]:
    by_name: dict[str, list[Figures]] = defaultdict(list)
    for one in figures:
        by_name[one["benchmark"]].append(one)
    parts = []
    for name, files in by_name.items():
        parts.append(f"### `python -m benchmarks.{name}`")
        if name in drawn:
            parts.append(f"![{name}](img/{name}.svg)")
        for file in files:
            for table in file["tables"]:
                rows = [
                    {column: _cell(cell) for column, cell in row.items()}
                    for row in table["rows"]
                ]
                parts += [f"{table['title']}:", _table(rows)]
            parts += file["notes"]
    return parts


def _draw(figures: Sequence[Figures], folder: Path) -> list[str]:
    """Draw one plot for each measurement that has something to draw."""
    from benchmarks.harness.plot import draw  # noqa: PLC0415 - slow, and only here

    tables: dict[str, dict[str, dict[str, Summary]]] = defaultdict(dict)
    for one in figures:
        for table in one["tables"]:
            column, rows = table["plot"], table["rows"]
            shown = {
                str(next(iter(row.values()))): Summary(**row[column])
                for row in rows
                if column and isinstance(row.get(column), dict)
            }
            if shown:
                title = f"{table['title']}: {column}"
                tables[one["benchmark"]][title] = shown
    for name, shown_tables in tables.items():
        draw(folder / f"{name}.svg", f"benchmarks.{name}", shown_tables)
    return list(tables)


def _cell(value: Any) -> str:
    if isinstance(value, dict):
        return str(Summary(**value))
    if value is None:
        return ""
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _table(rows: Sequence[Mapping[str, str]]) -> str:
    columns = list(dict.fromkeys(name for row in rows for name in row))
    lines = [columns, ["---"] + ["---:"] * (len(columns) - 1)]
    lines += [
        [row.get(name, "").replace("|", "\\|") for name in columns] for row in rows
    ]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


if __name__ == "__main__":
    main()
