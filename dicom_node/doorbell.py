"""Wakes the index writer from any thread of any listener, and is never waited for."""

import os
import select
from contextlib import suppress

__all__ = ["Doorbell"]


class Doorbell:
    """A pipe that holds at most one ring worth waiting for; made before a fork."""

    def __init__(self) -> None:
        self._reader, self._writer = os.pipe()
        os.set_blocking(self._reader, False)
        os.set_blocking(self._writer, False)
        self._poll = select.poll()
        self._poll.register(self._reader, select.POLLIN)

    def ring(self) -> None:
        """Wake whoever waits. A full pipe means that the bell is heard already."""
        with suppress(BlockingIOError):
            os.write(self._writer, b"\0")

    def wait(self, timeout_s: float | None) -> bool:
        """Wait for a ring, and take all that came.

        Parameters
        ----------
        timeout_s
            Longest wait in seconds; None is for ever.

        Returns
        -------
        Whether it rang.
        """
        if not self._poll.poll(None if timeout_s is None else timeout_s * 1000):
            return False
        with suppress(BlockingIOError):
            while os.read(self._reader, 65536):
                pass
        return True

    def close(self) -> None:
        """Give the pipe back."""
        os.close(self._reader)
        os.close(self._writer)
