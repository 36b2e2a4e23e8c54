"""Writes that are on the disk when they return, and what their failures mean.

A file is durable after fdatasync; its name after fsync of the folder that holds it. A
sync that failed is not tried again on the same descriptor: the kernel may have dropped
the pages and would then answer success for data that is gone.
"""

import ctypes
import errno
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from core.errors import StoreFull, StoreUnavailable

__all__ = [
    "begin_writing_out",
    "make_folder",
    "storage_errors",
    "sync_file_system",
    "sync_folder",
    "write_file",
]

_SYNC_FILE_RANGE_WRITE = 2  # sync_file_range(2)
_NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


@contextmanager
def storage_errors() -> Iterator[None]:
    """Turn what the operating system says into who must act.

    Raises
    ------
    StoreFull
        No space, no quota, or a file larger than allowed.
    StoreUnavailable
        Anything else.
    """
    try:
        yield
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else type(error).__name__
        if error.errno in _NO_SPACE:
            raise StoreFull(
                f"the store has no space left ({reason}); free space in the data "
                "directory"
            ) from error
        raise StoreUnavailable(
            f"the store cannot be used now ({reason}); check the disk of the data "
            "directory"
        ) from error


def sync_folder(path: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_file_system(path: Path) -> None:
    """Make everything durable that was written on the file system of a folder."""
    syncfs = getattr(ctypes.CDLL(None, use_errno=True), "syncfs", None)
    if syncfs is None:
        # Not Linux. It waits as well on the systems that we know of.
        os.sync()
        return
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        if syncfs(descriptor):
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
    finally:
        os.close(descriptor)


def begin_writing_out(descriptor: int, start: int, length: int) -> None:
    """Let the disk begin with bytes that were written, and do not wait for it.

    The sync at the end then has little left to do. Only Linux has it; it promises
    nothing, so what it answers does not matter.
    """
    begin = getattr(ctypes.CDLL(None), "sync_file_range", None)
    if begin is not None:
        begin(
            ctypes.c_int(descriptor),
            ctypes.c_int64(start),
            ctypes.c_int64(length),
            ctypes.c_uint(_SYNC_FILE_RANGE_WRITE),
        )


def make_folder(path: Path, *, durable: bool) -> None:
    """Make a folder that only its owner may enter, once, with the folders above it."""
    if path.is_dir():
        return
    make_folder(path.parent, durable=durable)
    path.mkdir(mode=0o700, exist_ok=True)
    if durable:
        sync_folder(path.parent)


def write_file(path: Path, data: bytes, *, durable: bool) -> None:
    """Write a whole file in one step: it is there complete, or it is not there."""
    make_folder(path.parent, durable=durable)
    part = path.with_name(f"{path.name}.{secrets.token_hex(4)}.part")
    try:
        with part.open("xb", buffering=0) as file:
            view = memoryview(data)
            while view:
                view = view[file.write(view) :]
            if durable:
                os.fdatasync(file.fileno())
        part.rename(path)
    except OSError:
        part.unlink(missing_ok=True)
        raise
    if durable:
        sync_folder(path.parent)
