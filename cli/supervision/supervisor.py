"""Keeps broker, node and worker running until it is asked to stop.

One thread does everything: it passes the parts' lines on, starts again what died, and
stops node and worker before the broker. Nothing outlives it: each part is tied to the
thread that started it.
"""

import contextlib
import os
import selectors
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from cli.exit_codes import SUCCESS, USAGE
from cli.supervision.broker import answers
from cli.supervision.part import Command, Part
from core.errors import BrokerUnavailable
from core.log import get_log

__all__ = ["EmbeddedBroker", "Supervisor"]

_GLANCE_S = 0.2
_STOP_S = 22.0
"""For node and worker, out of the 30 s that a stop may take in all."""
_BROKER_STOP_S = 5.0
_BROKER_START_S = 10.0

Line = Callable[[str, str], None]


@dataclass(frozen=True)
class EmbeddedBroker:
    """The broker of one's own, and what to do when it cannot read its queue."""

    command: Command
    socket: Path
    set_queue_aside: Callable[[], Path]


class Supervisor:
    """Runs parts as child processes.

    Parameters
    ----------
    commands
        Node and worker, in the order in which they are started.
    broker
        The embedded broker, started before and stopped after them; None when a
        configured one is used.
    line
        Takes each line of a part with the part's name.
    """

    def __init__(
        self,
        commands: Sequence[Command],
        *,
        broker: EmbeddedBroker | None,
        line: Line,
    ) -> None:
        self._broker = broker
        self._broker_part = Part(broker.command) if broker else None
        self._parts = [Part(command) for command in commands]
        self._line = line
        self._selector = selectors.DefaultSelector()
        self._rests: dict[int, bytes] = {}
        self._stop_asked = 0
        self._wake_reader, self._wake_writer = os.pipe()
        os.set_blocking(self._wake_writer, False)
        self._selector.register(self._wake_reader, selectors.EVENT_READ, None)

    def ask_to_stop(self) -> None:
        """Stop soon; asked twice, stop at once. Fit for signal handlers and threads."""
        self._stop_asked += 1
        with contextlib.suppress(OSError):
            os.write(self._wake_writer, b"x")

    def pids(self) -> dict[str, int]:
        """Return the process ids of the parts that live."""
        return {part.name: part.pid for part in self._all() if part.pid is not None}

    def restarts(self) -> int:
        """Return how often any part had to be started again."""
        return sum(part.restarts for part in self._all())

    def run(self) -> int:
        """Run until asked to stop, or until a part says that its settings are wrong.

        Returns
        -------
        The exit status.

        Raises
        ------
        BrokerUnavailable
            If the embedded broker does not start.
        """
        try:
            self._start_broker()
            for part in self._parts:
                if not self._stop_asked:
                    self._start(part)
            status = self._watch()
            self._stop_all()
            return status
        finally:
            for part in reversed(self._all()):
                part.kill()
            self._pump(0)
            self._close()

    def _all(self) -> list[Part]:
        return [*([self._broker_part] if self._broker_part else []), *self._parts]

    def _start_broker(self) -> None:
        if self._broker is None or self._broker_part is None:
            return
        if self._broker_starts(self._broker_part, self._broker.socket):
            return
        aside = self._broker.set_queue_aside()
        get_log().warning(
            "queue_set_aside", path=str(aside),
            reason="the broker could not read it; open jobs are announced again",
        )  # fmt: skip
        if not self._broker_starts(self._broker_part, self._broker.socket):
            raise BrokerUnavailable(
                "the embedded broker does not start; its last lines are above. Install "
                "another server (valkey-server or redis-server on PATH), or set "
                "queue.broker_url"
            )

    def _broker_starts(self, part: Part, socket: Path) -> bool:
        self._start(part)
        deadline = time.monotonic() + _BROKER_START_S
        while time.monotonic() < deadline and part.ended() is None:
            if answers(socket):
                return True
            self._pump(0.02)
        part.kill()
        self._pump(0)
        return False

    def _start(self, part: Part) -> None:
        pipe = part.start()
        os.set_blocking(pipe.fileno(), False)
        self._selector.register(pipe, selectors.EVENT_READ, part)
        get_log().info("part_started", name=part.name, pid=part.pid)

    def _watch(self) -> int:
        while not self._stop_asked:
            self._pump(_GLANCE_S)
            for part in self._all():
                status = part.ended()
                if status == USAGE:
                    get_log().error(
                        "part_cannot_run", name=part.name, exit_status=status,
                        action="correct the settings named above",
                    )  # fmt: skip
                    return USAGE
                if status is not None:
                    self._plan_restart(part, status)
                elif part.due_at is not None and time.monotonic() >= part.due_at:
                    self._start(part)
        return SUCCESS

    def _plan_restart(self, part: Part, status: int) -> None:
        delay_s = part.schedule_restart()
        get_log().warning(
            "part_ended", name=part.name, exit_status=status, delay_s=delay_s,
            action="started again after the delay",
        )  # fmt: skip

    def _stop_all(self) -> None:
        get_log().info("stopping")
        asked = self._stop_asked
        deadline = time.monotonic() + _STOP_S
        for part in self._parts:
            part.ask_to_stop()
        while any(part.pid for part in self._parts) and time.monotonic() < deadline:
            if self._stop_asked > max(asked, 1):
                get_log().warning("stopping_at_once")
                break
            self._pump(0.05)
        for part in self._parts:
            if not part.stop(within_s=0):
                get_log().warning("part_killed", name=part.name)
        self._pump(0)
        if self._broker_part is not None:
            self._broker_part.ask_to_stop()
            self._broker_part.stop(within_s=_BROKER_STOP_S)
        get_log().info("stopped")

    def _pump(self, wait_s: float) -> None:
        """Pass on what the parts have said; wait for it up to `wait_s`."""
        for key, _ in self._selector.select(wait_s):
            if key.data is None:
                os.read(self._wake_reader, 64)
                continue
            self._read(key.fileobj, key.data)  # type: ignore[arg-type]

    def _read(self, pipe: IO[bytes], part: Part) -> None:
        descriptor = pipe.fileno()
        try:
            chunk = os.read(descriptor, 65536)
        except BlockingIOError:
            return
        rest = self._rests.pop(descriptor, b"")
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            self._line(part.name, line.decode("utf-8", "replace").rstrip())
        if chunk:
            self._rests[descriptor] = rest
            return
        if rest:
            self._line(part.name, rest.decode("utf-8", "replace"))
        self._selector.unregister(pipe)
        pipe.close()

    def _close(self) -> None:
        for key in list(self._selector.get_map().values()):
            self._selector.unregister(key.fileobj)
            if key.data is not None:
                key.fileobj.close()  # type: ignore[union-attr]
        self._selector.close()
        os.close(self._wake_reader)
        # A late signal must not write into a descriptor that is somebody else's now.
        writer, self._wake_writer = self._wake_writer, -1
        os.close(writer)
