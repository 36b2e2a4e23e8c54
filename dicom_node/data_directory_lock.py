"""One node a data directory: a lock that the kernel keeps and a kill releases."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from core.errors import StoreUnavailable

__all__ = ["only_node"]

LOCK_FILE_NAME = "node.lock"


@contextmanager
def only_node(data_dir: Path) -> Iterator[None]:
    """Hold the data directory for this process.

    Raises
    ------
    StoreUnavailable
        If another node holds it, or the directory cannot be written.
    """
    path = data_dir / LOCK_FILE_NAME
    try:
        data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        # Not inherited by children: a lock must not outlive its node in a worker.
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StoreUnavailable(
            f"the data directory {data_dir} cannot be used ({error.strerror}); "
            "choose another with --data-dir or change its rights"
        ) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        owner = os.pread(descriptor, 20, 0).decode("ascii", "replace").strip()
        os.close(descriptor)
        raise StoreUnavailable(
            f"another node (process {owner or 'unknown'}) runs on {data_dir}; stop it "
            "first or choose another data directory with --data-dir"
        ) from error
    try:
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, str(os.getpid()).encode("ascii"), 0)
        yield
    finally:
        os.close(descriptor)
