"""Broker, node and worker as they run in service, beside the demonstration itself."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

from cli.demonstration.place import Place
from cli.service import supervisor_of
from cli.supervision.merged_log import MergedLog, component_stream
from cli.supervision.supervisor import Supervisor
from core.errors import InternalError, SecondreadError
from core.log import configure_logging

__all__ = ["Installation", "running_installation"]

_NODE_START_S = 60.0
_TOO_MANY_RESTARTS = 4


class Installation:
    """The supervisor in a thread of its own.

    Parameters
    ----------
    place
        Where it runs.
    log
        Open file that the parts' lines go to.
    """

    def __init__(self, place: Place, log: TextIO) -> None:
        self._place = place
        merged = MergedLog("text", log)
        configure_logging(place.settings.log, "demo", component_stream(merged, "demo"))
        self._supervisor: Supervisor = supervisor_of(place.settings, merged)
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="supervisor")

    def _run(self) -> None:
        try:
            self._supervisor.run()
        except SecondreadError as error:
            self._error = error

    def start(self) -> None:
        """Start the parts; returns at once."""
        self._thread.start()

    def stop(self) -> None:
        """Stop all of them, the broker last."""
        self._supervisor.ask_to_stop()
        self._thread.join()

    def check(self) -> None:
        """Look whether it runs as it should.

        Raises
        ------
        SecondreadError
            If it has ended, or a part cannot live; the message quotes the log.
        """
        if self._error is not None:
            raise self._error
        gone = not self._thread.is_alive()
        if gone or self._supervisor.restarts() >= _TOO_MANY_RESTARTS:
            raise InternalError(
                f"a part of the demonstration does not keep running. The end of "
                f"{self._place.log}:\n{self.last_words()}"
            )

    def last_words(self, lines: int = 15) -> str:
        """Return the end of the log."""
        text = self._place.log.read_text(encoding="utf-8", errors="replace")
        return "\n".join(text.splitlines()[-lines:])

    def wait_until_node_accepts(self) -> None:
        """Wait for the node's port.

        Raises
        ------
        SecondreadError
            If it does not come.
        """
        port = self._place.settings.node.port
        deadline = time.monotonic() + _NODE_START_S
        while time.monotonic() < deadline:
            self.check()
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
            except OSError:
                time.sleep(0.05)
            else:
                return
        raise InternalError(
            f"the node does not accept within {_NODE_START_S:g} s. The end of "
            f"{self._place.log}:\n{self.last_words()}"
        )


@contextmanager
def running_installation(place: Place) -> Iterator[Installation]:
    """Run broker, node and worker until the end of the block."""
    with place.log.open("w", encoding="utf-8", buffering=1) as log:
        installation = Installation(place, log)
        installation.start()
        try:
            yield installation
        finally:
            installation.stop()
