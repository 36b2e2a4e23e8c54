"""One process of a kind a data directory: a lock that the kernel keeps."""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from core.errors import StoreUnavailable

__all__ = ["only_one"]


@contextmanager
def only_one(data_dir: Path, kind: str, *, wait_s: float = 0.0) -> Iterator[None]:
    """Hold the data directory for this process.

    Parameters
    ----------
    data_dir
        Made if it is not there.
    kind
        What this process is, e.g. `node`: one of each kind may hold the directory.
    wait_s
        How long to wait for children of a killed process of this kind, which hold the
        directory until they have noticed.

    Raises
    ------
    StoreUnavailable
        If another process of this kind holds it, or it cannot be written.
    """
    try:
        data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        # Not inherited by programs that we start; but what is forked from us holds it,
        # because it may still write.
        descriptor = os.open(
            data_dir / f"{kind}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600
        )
    except OSError as error:
        raise StoreUnavailable(
            f"the data directory {data_dir} cannot be used ({error.strerror}); "
            "choose another with --data-dir or change its rights"
        ) from error
    try:
        deadline = time.monotonic() + wait_s
        while not _taken(descriptor):
            if time.monotonic() >= deadline:
                raise _held(descriptor, data_dir, kind)
            time.sleep(0.02)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, str(os.getpid()).encode("ascii"), 0)
        yield
    finally:
        os.close(descriptor)


def _taken(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _held(descriptor: int, data_dir: Path, kind: str) -> StoreUnavailable:
    holder = os.pread(descriptor, 20, 0).decode("ascii", "replace").strip()
    return StoreUnavailable(
        f"another {kind} (process {holder or 'unknown'}) runs on {data_dir}; stop "
        "it first or choose another data directory with --data-dir"
    )
