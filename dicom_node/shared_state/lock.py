"""A lock between threads and processes that a killed holder cannot keep."""

import fcntl
import os
import tempfile
import threading
from types import TracebackType

__all__ = ["SharedLock"]


class SharedLock:
    """Mutual exclusion between all threads of all processes that inherit it.

    A record lock of the kernel (fcntl(2)) excludes processes and is given back when its
    holder dies, at whatever instruction; within a process a thread lock does the rest.
    A semaphore in shared memory would be faster by a microsecond and stay locked for
    good after a kill.
    """

    def __init__(self) -> None:
        self._descriptor, name = tempfile.mkstemp()
        os.unlink(name)  # noqa: PTH108 - a name without a path of ours
        self._threads = threading.Lock()

    def __enter__(self) -> None:
        self._threads.acquire()
        try:
            fcntl.lockf(self._descriptor, fcntl.LOCK_EX)
        except BaseException:
            self._threads.release()
            raise

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            fcntl.lockf(self._descriptor, fcntl.LOCK_UN)
        finally:
            self._threads.release()

    def close(self) -> None:
        """Give the descriptor back; nobody may hold or want the lock any more."""
        os.close(self._descriptor)
