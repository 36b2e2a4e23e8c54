"""What a measurement says: a table on the terminal, a JSON file, a plot, the bars."""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.bars import BARS
from benchmarks.harness.machine import machine_facts, versions
from benchmarks.harness.summary import Summary

__all__ = ["Report", "add_output_options"]


def add_output_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that every measurement has for where its figures go."""
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument(
        "--plot", type=Path, help="draw the figures; the name ends in .png or .svg"
    )


@dataclass
class _Section:
    title: str
    rows: list[dict[str, Any]]
    plotted: str | None


@dataclass
class Report:
    """The figures of one command, as they come.

    Parameters
    ----------
    benchmark
        Name of the command: `receive` is `python -m benchmarks.receive`.
    folder
        Where it writes; the machine's facts name its file system.
    programs
        Peers whose versions belong to the figures.
    """

    benchmark: str
    folder: Path
    programs: Sequence[str] = ()
    notes: list[str] = field(default_factory=list)
    _sections: list[_Section] = field(default_factory=list)
    _bars: dict[str, Summary] = field(default_factory=dict)
    _raw: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._machine = machine_facts(self.folder)
        self._console = Console(width=None if sys.stdout.isatty() else 160)

    def table(
        self, title: str, rows: Sequence[Mapping[str, Any]], *, plot: str | None = None
    ) -> None:
        """Print a table now and keep it.

        Parameters
        ----------
        rows
            Cells by column; a cell is text, a number or a `Summary`. The first column
            names the row.
        plot
            The column that is drawn.
        """
        kept = [dict(row) for row in rows]
        self._sections.append(_Section(title, kept, plot))
        columns = list(dict.fromkeys(name for row in kept for name in row))
        table = Table(title=title, title_justify="left")
        for number, name in enumerate(columns):
            table.add_column(name, justify="right" if number else "left")
        for row in kept:
            table.add_row(*(_cell(row.get(name)) for name in columns))
        self._console.print(table)

    def bar(self, key: str, measured: Summary) -> None:
        """Say what was measured for one of the bars in `benchmarks.bars`.

        Raises
        ------
        KeyError
            If there is no such bar.
        """
        self._bars[BARS[key].key] = measured

    def keep(self, name: str, values: Any) -> None:
        """Keep something in the JSON file alone, such as every single run."""
        self._raw[name] = values

    def note(self, text: str) -> None:
        """Say something that a reader of the figures must know."""
        self.notes.append(text)
        self._console.print(text, markup=False)

    def finish(self, arguments: argparse.Namespace) -> None:
        """Print the bars; write JSON and plot where they were asked for."""
        self._print_bars()
        if arguments.json:
            write_json(arguments.json, self.as_json())
        if arguments.plot:
            from benchmarks.harness.plot import draw  # noqa: PLC0415 - slow, rare

            draw(arguments.plot, self.benchmark, self.plotted())

    def plotted(self) -> dict[str, dict[str, Summary]]:
        """Return what a plot shows: for each table its column, by row."""
        found: dict[str, dict[str, Summary]] = {}
        for section in self._sections:
            if section.plotted is None:
                continue
            rows = {
                str(next(iter(row.values()))): row[section.plotted]
                for row in section.rows
                if isinstance(row.get(section.plotted), Summary)
            }
            found[f"{section.title}: {section.plotted}"] = rows
        return found

    def as_json(self) -> dict[str, Any]:
        """Return everything, for a file."""
        return {
            "benchmark": self.benchmark,
            "machine": self._machine,
            "versions": versions(*self.programs),
            "bars": {key: one.as_json() for key, one in self._bars.items()},
            "tables": [
                {
                    "title": section.title,
                    "plot": section.plotted,
                    "rows": [
                        {name: _plain(cell) for name, cell in row.items()}
                        for row in section.rows
                    ],
                }
                for section in self._sections
            ],
            "notes": self.notes,
            "runs": self._raw,
        }

    def _print_bars(self) -> None:
        if not self._bars:
            return
        table = Table(title="Bars", title_justify="left")
        for number, name in enumerate(("bar", "floor", "goal", "measured", "met")):
            table.add_column(name, justify="right" if number else "left")
        for key, measured in self._bars.items():
            bar = BARS[key]
            table.add_row(
                bar.name,
                bar.text(bar.floor),
                bar.text(bar.goal),
                str(measured),
                bar.verdict(measured.median),
            )
        self._console.print(table)


def write_json(path: Path, figures: Mapping[str, Any]) -> None:
    """Write a file whole or not at all, so that a broken run leaves the last one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".unfinished")
    unfinished.write_text(json.dumps(figures, indent=2) + "\n")
    unfinished.replace(path)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"
    return str(value)


def _plain(value: Any) -> Any:
    return value.as_json() if isinstance(value, Summary) else value
