"""One supervisor a data directory."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from core.errors import OperatorError, StoreUnavailable

__all__ = ["sole_supervisor"]

_FILE = "supervisor.lock"


@contextmanager
def sole_supervisor(data_dir: Path) -> Iterator[None]:
    """Hold the data directory for this process.

    The lock is the kernel's: it ends with the process, however that ends.

    Raises
    ------
    OperatorError
        If another supervisor holds it.
    StoreUnavailable
        If the directory cannot be made or written.
    """
    path = data_dir / _FILE
    try:
        data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StoreUnavailable(
            f"the data directory {data_dir} cannot be written ({error.strerror}); "
            "choose another one with --data-dir"
        ) from error
    try:
        _take(descriptor, data_dir)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode("ascii"), 0)
        yield
    finally:
        os.close(descriptor)


def _take(descriptor: int, data_dir: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        holder = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip()
        raise OperatorError(
            f"secondread runs on {data_dir} already (process {holder or 'unknown'}); "
            "stop that one first or choose another directory with --data-dir"
        ) from error
