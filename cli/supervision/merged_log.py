"""One readable log of several processes: a column says who speaks."""

import io
import json
import re
import sys
import threading
from typing import Literal, TextIO, cast

__all__ = ["MergedLog", "component_stream"]

_COMPONENT = re.compile(r"\s+component=(\w+)")
_COLOURS = {
    "up": "\x1b[1m",
    "broker": "\x1b[35m",
    "node": "\x1b[36m",
    "worker": "\x1b[32m",
    "reading": "\x1b[33m",
}
_RESET = "\x1b[0m"
_WIDTH = 7
# The server wishes for it because of snapshots of large memories; ours has a few kB.
_IRRELEVANT = ("Memory overcommit must be enabled", "lua-enable-insecure-api")


class MergedLog:
    """Writes whole lines, each with the component that it comes from.

    Parameters
    ----------
    format_
        `text` for a column in front of each line, `json` for one object a line.
    stream
        Where to write; standard error by default.
    """

    def __init__(
        self, format_: Literal["text", "json"], stream: TextIO | None = None
    ) -> None:
        self._json = format_ == "json"
        self._stream = stream or sys.stderr
        self._coloured = self._stream.isatty()
        self._lock = threading.Lock()

    def line(self, component: str, text: str) -> None:
        """Write one line that `component` said."""
        if not text.strip() or any(words in text for words in _IRRELEVANT):
            return
        written = (
            self._object(component, text)
            if self._json
            else self._column(component, text)
        )
        with self._lock:
            self._stream.write(written + "\n")
            self._stream.flush()

    def _object(self, component: str, text: str) -> str:
        if text.startswith("{") and text.endswith("}"):
            return text
        return json.dumps({"component": component, "event": "output", "text": text})

    def _column(self, component: str, text: str) -> str:
        # A worker's reading process writes into its worker's line, under its own name.
        named = _COMPONENT.search(text)
        if named:
            component = named[1]
            text = _COMPONENT.sub("", text, count=1)
        column = f"{component:<{_WIDTH}}"
        if self._coloured:
            column = f"{_COLOURS.get(component, '')}{column}{_RESET}"
        return f"{column} | {text}"


def component_stream(log: "MergedLog", component: str) -> TextIO:
    """Return a stream whose lines go into the merged log, for one's own log."""
    # typeshed keeps the class of text streams apart from their protocol.
    return cast(TextIO, _ComponentStream(log, component))


class _ComponentStream(io.TextIOBase):
    def __init__(self, log: MergedLog, component: str) -> None:
        self._log = log
        self._component = component

    def write(self, text: str) -> int:
        """Pass on the lines of `text`; the log writes whole ones."""
        for line in text.splitlines():
            self._log.line(self._component, line)
        return len(text)

    def writable(self) -> bool:
        """Return True: that is what it is for."""
        return True
