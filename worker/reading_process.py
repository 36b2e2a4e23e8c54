"""The process in which pixels are decoded and networks run, and the line to it.

Decoders and TensorFlow are large C libraries fed with whatever a scanner sent. They run
in a process of their own, in a session of its own, under limits; its death costs one
attempt of one job and nothing else. It is started fresh (never forked from a process
that has used TensorFlow: a forked copy hangs for ever) and stays, with its models
loaded.

Several jobs may be in it at a time: while a network runs for one, another is decoded.
If it ends then, nobody knows whose fault that was, and whoever asked is told so.

The line is a pair of pipes with one JSON object a line each way (`worker.line`). When
the parent dies, the end of its input ends this process; a request that never returns is
ended by an alarm that the kernel keeps.
"""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from core.errors import InternalError
from core.settings import DATA_DIRECTORY_VARIABLE, Settings
from worker.line import Death, Line, OpenRequest, kill_group
from worker.memory_watch import OUT_OF_MEMORY_STATUS

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
    in_company
        Whether another job was in the process when it ended, and may have ended it.
    """

    def __init__(
        self,
        reason: str,
        explanation: str,
        *,
        final: bool = False,
        in_company: bool = False,
    ) -> None:
        super().__init__(f"{reason}: {explanation}")
        self.reason = reason
        self.explanation = explanation
        self.final = final
        self.in_company = in_company


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
    """The parent's end, for any number of threads.

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
        self._changed = threading.Condition()
        self._process: subprocess.Popen[bytes] | None = None
        self._line: Line | None = None
        self._jobs_begun = 0
        self._jobs_inside = 0

    @property
    def pid(self) -> int | None:
        """Process id while it lives."""
        process = self._process
        return process.pid if process and process.poll() is None else None

    @contextmanager
    def job(self) -> Iterator[None]:
        """Do one job's requests within; the process is replaced only between jobs."""
        with self._changed:
            while self._worn_out() and self._jobs_inside:
                self._changed.wait()
            if self._worn_out():
                self._end()
            self._jobs_begun += 1
            self._jobs_inside += 1
        try:
            yield
        finally:
            with self._changed:
                self._jobs_inside -= 1
                self._changed.notify_all()

    def start(self) -> int:
        """Start the process unless it lives; returns its id at once."""
        with self._changed:
            self._living_line()
            if self._process is None:
                raise AssertionError("it was just started")
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
        with self._changed:
            line = self._living_line()
        open_request = line.send({"operation": operation, **payload})
        self._wait(line, open_request, time_limit_s, ticker)
        if open_request.death is not None:
            raise _failed(open_request.death)
        return _result(open_request.answer or {})

    def kill(self) -> None:
        """End the process now, whatever it does."""
        with self._changed:
            self._end()

    def _worn_out(self) -> bool:
        return self._jobs_begun >= self._settings.worker.maximum_jobs_per_process

    def _living_line(self) -> Line:
        if self._line is None or self.pid is None:
            self._end()
            self._start()
        if self._line is None:
            raise AssertionError("it was just started")
        return self._line

    def _start(self) -> None:
        environment = {
            **os.environ,
            DATA_DIRECTORY_VARIABLE: str(self._settings.data_dir),
            # Its log is ours; TensorFlow's greeting is nobody's.
            "TF_CPP_MIN_LOG_LEVEL": os.environ.get("TF_CPP_MIN_LOG_LEVEL", "3"),
        }
        self._process = subprocess.Popen(  # noqa: S603 - a command of our own
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            start_new_session=True,
            bufsize=0,
        )
        self._line = Line(self._process)

    def _end(self) -> None:
        process, line = self._process, self._line
        self._process = self._line = None
        if process is None or line is None:
            return
        self._jobs_begun = 0
        kill_group(process)
        process.wait()
        line.close()

    def _wait(
        self, line: Line, request: OpenRequest, time_limit_s: float, ticker: Ticker
    ) -> None:
        deadline = time.monotonic() + time_limit_s
        while True:
            left = deadline - time.monotonic()
            if request.answered.wait(max(0.0, min(ticker.interval_s, left))):
                return
            if not ticker.still_ours():
                self._kill_if(line)
                raise LeaseLost("the lease was taken back; the reading was abandoned")
            if ticker.must_stop():
                self._kill_if(line)
                raise AttemptFailed("stopped", "the worker was asked to stop")
            if time.monotonic() >= deadline:
                self._kill_if(line)
                raise AttemptFailed(
                    "time limit", f"no result within {time_limit_s:g} s; process killed"
                )

    def _kill_if(self, line: Line) -> None:
        """Kill the process, unless it is another one by now."""
        with self._changed:
            if self._line is line:
                self._end()


def _failed(death: Death) -> AttemptFailed:
    if death.status == OUT_OF_MEMORY_STATUS:
        return AttemptFailed(
            "memory",
            "the network needed more memory than its package says (memory_mib)",
            in_company=death.in_company,
        )
    return AttemptFailed(
        "worker died",
        f"the reading process {death.how}",
        in_company=death.in_company,
    )


def _result(message: Mapping[str, Any]) -> dict[str, Any]:
    error = message.get("error")
    if error is not None:
        raise AttemptFailed(
            error["reason"], error["explanation"], final=bool(error["final"])
        )
    result: dict[str, Any] = message["result"]
    return result
