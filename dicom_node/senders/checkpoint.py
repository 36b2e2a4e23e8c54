"""A repair of a race in pynetdicom's association thread, for whoever sends requests.

`send_c_store` pauses that thread so that the answer is not taken by it. It clears an
event and waits for the flag `_is_paused`; but the thread may have passed the event a
moment ago and not yet lowered the flag. Then it takes the answer, calls it unexpected,
and the request times out: seen once in 200 requests on a busy machine (3.0.4). Here the
flag is lowered in the same step that passes the event. What would remove this file: a
release of pynetdicom whose `_run_reactor` does so itself.
"""

import threading

from pynetdicom.association import Association

__all__ = ["ReactorCheckpoint"]


class ReactorCheckpoint(threading.Event):
    """The event that an association's thread waits for, without the race.

    Parameters
    ----------
    association
        Whose thread; it must not be running yet.
    """

    def __init__(self, association: Association) -> None:
        super().__init__()
        self._association = association
        self._passing = threading.Lock()
        self.set()

    def clear(self) -> None:
        """Close the checkpoint; whoever passed it before is known to be running."""
        with self._passing:
            super().clear()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it is open, then pass it and lower the flag as one step."""
        while super().wait(timeout):
            with self._passing:
                if self.is_set():
                    self._association._is_paused = False
                    return True
        return False
