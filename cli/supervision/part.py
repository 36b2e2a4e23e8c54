"""One part of a running installation: its command, its process, its restarts."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

__all__ = ["FIRST_DELAY_S", "LONGEST_DELAY_S", "Command", "Part"]

FIRST_DELAY_S = 0.5
LONGEST_DELAY_S = 10.0
STEADY_S = 30.0
"""A part that lived so long starts its next back-off from the beginning."""

_TETHER = Path(__file__).with_name("tether.py")


@dataclass(frozen=True)
class Command:
    """How to start a part."""

    name: str
    """`broker`, `node`, `worker`: the component column of the log."""
    arguments: tuple[str, ...]
    """Absolute path of the program, then its arguments; no shell is involved."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """Added to the supervisor's own."""


class Part:
    """A process that is started again when it dies.

    Start it from a thread that lives as long as the part should: the kernel watches the
    thread that forked, not the whole process (prctl(2)).
    """

    def __init__(self, command: Command) -> None:
        self.command = command
        self.restarts = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._started = 0.0
        self._delay_s = FIRST_DELAY_S
        self.due_at: float | None = None
        """On the monotonic clock: when to start it again."""

    @property
    def name(self) -> str:
        """Name of the part."""
        return self.command.name

    @property
    def pid(self) -> int | None:
        """Process id while it lives."""
        alive = self._process is not None and self._process.poll() is None
        return self._process.pid if alive and self._process else None

    def start(self) -> IO[bytes]:
        """Start the process in a session of its own.

        Returns
        -------
        The pipe with its standard output and error.
        """
        arguments = [sys.executable, "-I", "-S", str(_TETHER), str(os.getpid())]
        self._process = subprocess.Popen(  # noqa: S603 - our own parts only
            [*arguments, *self.command.arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**os.environ, **self.command.environment},
            # Ctrl-C in the terminal must reach the supervisor alone.
            start_new_session=True,
        )
        self._started = time.monotonic()
        self.due_at = None
        if self._process.stdout is None:
            raise AssertionError("a pipe was asked for")
        return self._process.stdout

    def ended(self) -> int | None:
        """Return the exit status once the process has ended (negative: a signal)."""
        return None if self._process is None else self._process.poll()

    def schedule_restart(self) -> float:
        """Decide when the ended part is started again.

        Returns
        -------
        Seconds until then; doubled with each quick death.
        """
        now = time.monotonic()
        if now - self._started >= STEADY_S:
            self._delay_s = FIRST_DELAY_S
        delay_s = self._delay_s
        self._delay_s = min(2 * delay_s, LONGEST_DELAY_S)
        self.due_at = now + delay_s
        self.restarts += 1
        self._process = None
        return delay_s

    def ask_to_stop(self) -> None:
        """Send SIGTERM, and never start it again by itself."""
        self.due_at = None
        self._send(signal.SIGTERM)

    def stop(self, *, within_s: float) -> bool:
        """Wait for the end after `ask_to_stop`; kill it when the time is over.

        Returns
        -------
        Whether it ended by itself.
        """
        if self._process is None:
            return True
        try:
            self._process.wait(timeout=max(within_s, 0.05))
        except subprocess.TimeoutExpired:
            self.kill()
            return False
        return True

    def kill(self) -> None:
        """End the process and its process group at once."""
        if self._process is None:
            return
        if self._process.poll() is None:
            try:
                os.killpg(self._process.pid, signal.SIGKILL)
            except (ProcessLookupError, PermissionError):
                self._process.kill()
        self._process.wait()

    def _send(self, number: signal.Signals) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(number)
