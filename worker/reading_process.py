"""The process in which pixels are decoded and networks run, and the line to it.

Decoders and TensorFlow are large C libraries fed with whatever a scanner sent. They run
in a process of their own, in a session of its own, under limits; its death costs one
attempt of one job and nothing else. It is started fresh (never forked from a process
that has used TensorFlow: a forked copy hangs for ever) and stays, with its models
loaded.

The line is a pair of pipes with one JSON object a line each way. When the parent dies,
the end of its input ends this process; a request that never returns is ended by an
alarm that the kernel keeps.
"""

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from core.errors import InternalError
from core.settings import DATA_DIRECTORY_VARIABLE, Settings

__all__ = [
    "AttemptFailed",
    "LeaseLost",
    "ReadingProcess",
    "Ticker",
]


READING_COMMAND = (sys.executable, "-m", "worker.reading_process_main")


class AttemptFailed(InternalError):
    """A request to the reading process brought no result.

    Parameters
    ----------
    reason
        Short and stable: `worker died`, `memory`, `time limit`, `stopped`, or the name
        of an error class.
    explanation
        For the operator; no patient data.
    final
        Whether trying again cannot help.
    """

    def __init__(self, reason: str, explanation: str, *, final: bool = False) -> None:
        super().__init__(f"{reason}: {explanation}")
        self.reason = reason
        self.explanation = explanation
        self.final = final


class LeaseLost(InternalError):
    """The job was given to another worker; nothing more may be written for it."""


@dataclass(frozen=True)
class Ticker:
    """What the parent does while it waits, and how often."""

    interval_s: float
    still_ours: Callable[[], bool]
    """Shows a heartbeat; False means the lease is lost."""
    must_stop: Callable[[], bool]
    """Whether this worker is to end now, without a result."""


class ReadingProcess:
    """The parent's end: one process, one request at a time.

    Parameters
    ----------
    settings
        `worker.maximum_jobs_per_process` and the data directory.
    command
        What to run at the far end of the line.
    """

    def __init__(
        self, settings: Settings, command: Sequence[str] = READING_COMMAND
    ) -> None:
        self._settings = settings
        self._command = list(command)
        self._process: subprocess.Popen[bytes] | None = None
        self._buffer = bytearray()
        self._requests = 0

    @property
    def pid(self) -> int | None:
        """Process id while it lives."""
        if self._process is None or self._process.poll() is not None:
            return None
        return self._process.pid

    def start(self) -> int:
        """Start the process unless it lives; returns its id at once."""
        if self._requests >= self._settings.worker.maximum_jobs_per_process:
            self.kill()
        if self.pid is not None and self._process is not None:
            return self._process.pid
        self.kill()
        environment = {
            **os.environ,
            DATA_DIRECTORY_VARIABLE: str(self._settings.data_dir),
            # Its log is ours; TensorFlow's greeting is nobody's.
            "TF_CPP_MIN_LOG_LEVEL": os.environ.get("TF_CPP_MIN_LOG_LEVEL", "3"),
        }
        self._buffer.clear()
        self._requests = 0
        self._process = subprocess.Popen(  # noqa: S603 - a command of our own
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            start_new_session=True,
            bufsize=0,
        )
        return self._process.pid

    def request(
        self,
        operation: str,
        payload: Mapping[str, Any],
        *,
        time_limit_s: float,
        ticker: Ticker,
    ) -> dict[str, Any]:
        """Ask for one piece of work and wait for it, showing heartbeats meanwhile.

        Raises
        ------
        AttemptFailed
            If the process died, reported an error, or exceeded `time_limit_s`; in the
            last case it has been killed.
        LeaseLost
            If the job is no longer ours; the process has been killed.
        """
        self.start()
        process = self._process
        if process is None or process.stdin is None:
            raise AttemptFailed("worker died", "the reading process did not start")
        self._requests += 1
        message = json.dumps({"operation": operation, **payload}).encode() + b"\n"
        try:
            process.stdin.write(message)
        except BrokenPipeError:
            raise self._death() from None
        return self._answer(time_limit_s, ticker)

    def kill(self) -> None:
        """End the process now, whatever it does."""
        process, self._process = self._process, None
        if process is None:
            return
        if process.poll() is None:
            try:
                os.killpg(process.pid, signal.SIGKILL)
            except ProcessLookupError:
                process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()

    def _answer(self, time_limit_s: float, ticker: Ticker) -> dict[str, Any]:
        deadline = time.monotonic() + time_limit_s
        while True:
            line = self._next_line(ticker.interval_s, deadline)
            if line is not None:
                return _result(line)
            if not ticker.still_ours():
                self.kill()
                raise LeaseLost("the lease was taken back; the reading was abandoned")
            if ticker.must_stop():
                self.kill()
                raise AttemptFailed("stopped", "the worker was asked to stop")
            if time.monotonic() >= deadline:
                self.kill()
                raise AttemptFailed(
                    "time limit", f"no result within {time_limit_s:g} s; process killed"
                )

    def _next_line(self, interval_s: float, deadline: float) -> bytes | None:
        """Return a whole line, or None after one interval without one."""
        process = self._process
        if process is None or process.stdout is None:
            raise self._death()
        interval_end = min(time.monotonic() + interval_s, deadline)
        while b"\n" not in self._buffer:
            left = interval_end - time.monotonic()
            readable, _, _ = select.select([process.stdout], [], [], max(left, 0))
            if not readable:
                return None
            chunk = os.read(process.stdout.fileno(), 65536)
            if not chunk:
                raise self._death()
            self._buffer += chunk
        line, _, rest = bytes(self._buffer).partition(b"\n")
        self._buffer = bytearray(rest)
        return line

    def _death(self) -> AttemptFailed:
        status: int | None = None
        if self._process is not None:
            try:
                status = self._process.wait(timeout=5)
            except subprocess.TimeoutExpired:
                status = None
        self.kill()
        if status is not None and status < 0:
            how = f"was ended by signal {signal.Signals(-status).name}"
        else:
            how = f"ended with status {status}"
        return AttemptFailed("worker died", f"the reading process {how}")


def _result(line: bytes) -> dict[str, Any]:
    message = json.loads(line)
    error = message.get("error")
    if error is not None:
        raise AttemptFailed(
            error["reason"], error["explanation"], final=bool(error["final"])
        )
    result: dict[str, Any] = message["result"]
    return result
