"""Ends this process when a network takes more memory than its package says.

A limit of the kernel cannot do it: TensorFlow maps many times what it uses. So a thread
looks at what is resident while a network works, and the process ends with a status that
tells its parent why. Its death costs one attempt of a job, as any other.
"""

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from core.log import get_log
from models.runtimes.seam import resident_bytes

__all__ = ["OUT_OF_MEMORY_STATUS", "MemoryWatch"]

OUT_OF_MEMORY_STATUS = 86
"""Exit status of a reading process that ended for this reason."""
_LOOK_EACH_S = 0.05


def _end() -> None:
    os._exit(OUT_OF_MEMORY_STATUS)


class MemoryWatch:
    """Looks at the memory of this process while somebody asks for it.

    Parameters
    ----------
    measure
        Resident memory, bytes.
    end
        What to do when it grew too far; called from the watching thread.
    """

    def __init__(
        self,
        measure: Callable[[], int] = resident_bytes,
        end: Callable[[], None] = _end,
    ) -> None:
        self._measure = measure
        self._end = end
        self._lock = threading.Lock()
        self._limits: dict[object, int] = {}
        self._watched = threading.Event()
        self._thread: threading.Thread | None = None

    @contextmanager
    def within(self, allowed_bytes: int) -> Iterator[None]:
        """Let the process grow by so much, and no further, until the block ends."""
        key = object()
        limit = self._measure() + allowed_bytes
        with self._lock:
            self._limits[key] = limit
            if self._thread is None:
                self._thread = threading.Thread(target=self._watch, daemon=True)
                self._thread.start()
            self._watched.set()
        try:
            yield
        finally:
            with self._lock:
                del self._limits[key]
                if not self._limits:
                    self._watched.clear()

    def _watch(self) -> None:
        while True:
            self._watched.wait()
            used = self._measure()
            with self._lock:
                over = any(used > limit for limit in self._limits.values())
            if over:
                get_log().error("memory_exceeded", bytes=used)
                self._end()
            time.sleep(_LOOK_EACH_S)
