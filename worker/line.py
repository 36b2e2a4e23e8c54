"""The line to a reading process: requests by number, answers as they come.

Several jobs may be in one process at a time, each with requests of its own; a thread
here hands each answer to the request that waits for it. When the process ends, every
request that was open learns how.
"""

import io
import json
import os
import signal
import subprocess
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast

__all__ = ["Death", "Line", "OpenRequest", "kill_group"]

_LONGEST_END_S = 5.0


@dataclass(frozen=True)
class Death:
    """How a process ended."""

    how: str
    """For people: by which signal, or with which status."""
    status: int | None
    in_company: bool
    """Whether it had several requests in hand: nobody knows whose fault it was."""


@dataclass
class OpenRequest:
    """A request that waits for its answer."""

    answered: threading.Event = field(default_factory=threading.Event)
    answer: dict[str, Any] | None = None
    death: Death | None = None


class Line:
    """One process's standard input and output, for as long as it lives.

    Parameters
    ----------
    process
        Started with pipes for both.
    """

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        self._process = process
        self._lock = threading.Lock()
        self._open: dict[int, OpenRequest] = {}
        self._last_number = 0
        self._ended = False
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    def send(self, message: Mapping[str, Any]) -> OpenRequest:
        """Send a request; its death is already known if the process has ended."""
        request = OpenRequest()
        with self._lock:
            self._last_number += 1
            number = self._last_number
            self._open[number] = request
            line = json.dumps({"number": number, **message}).encode() + b"\n"
            try:
                if self._ended or self._process.stdin is None:
                    raise BrokenPipeError
                self._process.stdin.write(line)
            except (BrokenPipeError, ValueError):
                del self._open[number]
                self._tell(request, self._death(company=len(self._open)))
        return request

    def close(self) -> None:
        """Let go of a process that has ended; open requests have learnt of it then."""
        self._listener.join(2 * _LONGEST_END_S)
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()

    def _listen(self) -> None:
        # `subprocess` says IO[bytes]; without a buffer of its own it is a raw file.
        output = cast(io.RawIOBase, self._process.stdout)
        try:
            with io.BufferedReader(output) as lines:
                for line in lines:
                    message = json.loads(line)
                    with self._lock:
                        request = self._open.pop(message["number"], None)
                    if request is not None:
                        request.answer = message
                        request.answered.set()
        except (ValueError, KeyError, OSError):
            pass  # a line that is none of ours: the process is not to be trusted
        self._end()

    def _end(self) -> None:
        with self._lock:
            self._ended = True
            waiting, self._open = list(self._open.values()), {}
        try:
            self._process.wait(timeout=_LONGEST_END_S)  # its own status tells most
        except subprocess.TimeoutExpired:
            kill_group(self._process)
        for request in waiting:
            self._tell(request, self._death(company=len(waiting) - 1))

    def _death(self, *, company: int) -> Death:
        try:
            status: int | None = self._process.wait(timeout=_LONGEST_END_S)
        except subprocess.TimeoutExpired:
            status = None
        if status is not None and status < 0:
            how = f"was ended by signal {signal.Signals(-status).name}"
        else:
            how = f"ended with status {status}"
        return Death(how, status, in_company=company > 0)

    @staticmethod
    def _tell(request: OpenRequest, death: Death) -> None:
        request.death = death
        request.answered.set()


def kill_group(process: "subprocess.Popen[bytes]") -> None:
    """End a process and whatever it started, now."""
    if process.poll() is None:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            process.kill()
