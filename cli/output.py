"""What commands print: data as tables for people or as JSON for programs.

Data goes to standard output, everything that talks about the work to standard error, so
that a pipe gets data alone.
"""

import json
import re
import sys
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

__all__ = [
    "STYLES",
    "age",
    "clock_time",
    "duration",
    "messages",
    "plain",
    "print_json",
    "print_table",
    "size",
    "standard_output",
    "styled",
    "table",
    "without_password",
]

STYLES: Mapping[str, str] = {
    "receiving": "cyan",
    "waiting": "cyan",
    "queued": "cyan",
    "running": "cyan",
    "sending": "cyan",
    "inferred": "cyan",
    "reported": "green",
    "delivered": "green",
    "analysed": "green",
    "ok": "green",
    "valid": "green",
    "not analysed": "yellow",
    "not-analysed": "yellow",
    "dismissed": "yellow",
    "given up": "yellow",
    "warn": "yellow",
    "present": "bold yellow",
    "failed": "bold red",
    "fail": "bold red",
}
"""Colour of each state; nothing is told by colour alone."""


def standard_output() -> Console:
    """Return where data goes; wide when it goes to a file, so that nothing is cut."""
    return Console(width=None if sys.stdout.isatty() else 240, highlight=False)


def messages() -> Console:
    """Return where progress, hints and errors go."""
    return Console(stderr=True, highlight=False, soft_wrap=not sys.stderr.isatty())


def print_json(value: object) -> None:
    """Print one JSON document."""
    text = json.dumps(value, indent=2, default=_plain, ensure_ascii=False)
    sys.stdout.write(text + "\n")


def _plain(value: object) -> Any:
    if isinstance(value, (Path, StrEnum)):
        return str(value)
    if isinstance(value, (set, frozenset)):
        return sorted(value)
    raise TypeError(f"{type(value).__name__} has no JSON form")


def table(
    *columns: str, title: str | None = None, numbers: Sequence[str] = ()
) -> Table:
    """Start a table; columns named in `numbers` are set flush right."""
    made = Table(
        title=title, title_justify="left", box=None, pad_edge=False, header_style="bold"
    )
    for name in columns:
        made.add_column(
            name, justify="right" if name in numbers else "left", overflow="fold"
        )
    return made


def print_table(made: Table) -> None:
    """Print a table on standard output."""
    standard_output().print(made)


def without_password(url: str) -> str:
    """Hide the password of a URL."""
    return re.sub(r"(://[^/@:]*):[^/@]*@", r"\1:***@", url)


def plain(text: str) -> Text:
    """Return somebody else's text: no markup, and nothing that steers a terminal."""
    return Text("".join(c if c.isprintable() else " " for c in text))


def styled(state: str) -> Text:
    """Return a state's word in its colour."""
    return Text(state, style=STYLES.get(state.lower(), ""))


def duration(seconds: float | None) -> str:
    """Write a duration as a person would: `85 ms`, `4.2 s`, `3 h 5 min`."""
    if seconds is None:
        return ""
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min"
    return f"{hours // 24} d {hours % 24} h"


def age(at: float | None) -> str:
    """Write how long ago something was."""
    return "" if at is None else duration(max(0.0, time.time() - at))


def clock_time(at: float) -> str:
    """Write a time of the index in this machine's zone, to the millisecond."""
    local = datetime.fromtimestamp(at, tz=UTC).astimezone()
    return local.strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]


def size(count: int) -> str:
    """Write a number of bytes in decimal units: `16.8 MB`."""
    value = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.0f} B" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"
