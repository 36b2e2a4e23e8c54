"""Files as they are sent: what they are, and where their data set begins.

Only the file meta information is read; files come from anywhere, so what it says of its
own length is not believed.
"""

import os
import struct
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

from dicom_node.data_transfer.data_set_pdus import Source

__all__ = ["Instance", "NoDicomFile", "open_instance"]

_PREAMBLE_BYTES = 128
_PREFIX = b"DICM"
_START = _PREAMBLE_BYTES + len(_PREFIX)
_ELEMENT = struct.Struct("<HH2sH")
_LONG_LENGTH = struct.Struct("<L")
# VRs whose length has 32 bits after two reserved bytes, PS3.5 7.1.2.
_LONG_VRS = frozenset(
    {b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR"}
    | {b"UT", b"UV"}
)
_SOP_CLASS, _SOP_INSTANCE, _TRANSFER_SYNTAX = 0x0002, 0x0003, 0x0010
_READ_BYTES = 4096
# Of private information (0002,0102) at most; a header that is longer is none.
_LONGEST_HEADER = 1 << 20
# How much the system is asked to read in advance, while an answer is waited for.
_AHEAD_BYTES = 1 << 23


class NoDicomFile(Exception):
    """A file that cannot be sent; its text fits an answer."""


@dataclass(frozen=True, slots=True)
class Instance:
    """An open file: closed when its `with` block ends."""

    file: BinaryIO
    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    data_set: Source

    def __enter__(self) -> "Instance":
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        self.file.close()


def open_instance(path: Path, *, read_ahead: bool = False) -> Instance:
    """Open a Part 10 file for sending.

    Parameters
    ----------
    path
        Of the file.
    read_ahead
        Ask the system to read its first 8 MiB now, without waiting for them.

    Raises
    ------
    NoDicomFile
        If it is none, or its file meta information lacks what sending needs.
    OSError
        If it cannot be read.

    Source
    ------
    PS3.10 7.1.
    """
    file = path.open("rb", buffering=0)
    try:
        values, offset = _file_meta(file.fileno())
        size = os.fstat(file.fileno()).st_size - offset
        if read_ahead and hasattr(os, "posix_fadvise"):
            ahead = min(size, _AHEAD_BYTES)
            os.posix_fadvise(file.fileno(), offset, ahead, os.POSIX_FADV_WILLNEED)
        return Instance(
            file,
            _uid(values, _SOP_CLASS),
            _uid(values, _SOP_INSTANCE),
            _uid(values, _TRANSFER_SYNTAX),
            Source(file.fileno(), offset, size),
        )
    except BaseException:
        file.close()
        raise


def _file_meta(descriptor: int) -> tuple[dict[int, bytes], int]:
    """Read the elements of group 0002 and the position behind the last of them."""
    head = os.pread(descriptor, _READ_BYTES, 0)
    if head[_PREAMBLE_BYTES:_START] != _PREFIX:
        raise NoDicomFile("no DICOM file (PS3.10); it was not sent")
    values: dict[int, bytes] = {}
    at = _START
    while True:
        if at + 12 > len(head) and (more := _more(descriptor, head)):
            head = more
        if at + _ELEMENT.size > len(head):
            break
        group, number, vr, length = _ELEMENT.unpack_from(head, at)
        if group != 0x0002:
            break
        begin = at + _ELEMENT.size
        if vr in _LONG_VRS:
            if begin + _LONG_LENGTH.size > len(head):
                raise NoDicomFile("file meta information is cut; it was not sent")
            (length,) = _LONG_LENGTH.unpack_from(head, begin)
            begin += _LONG_LENGTH.size
        while begin + length > len(head):
            longer = _more(descriptor, head)
            if not longer:
                raise NoDicomFile("file meta information is cut; it was not sent")
            head = longer
        values[number] = head[begin : begin + length]
        at = begin + length
    return values, at


def _more(descriptor: int, head: bytes) -> bytes:
    """Read twice as much; nothing if that is all there is, or too much."""
    if len(head) >= _LONGEST_HEADER:
        return b""
    longer = os.pread(descriptor, 2 * len(head), 0)
    return longer if len(longer) > len(head) else b""


def _uid(values: dict[int, bytes], number: int) -> str:
    uid = values.get(number, b"").decode("ascii", errors="replace").strip("\0 ")
    if not uid:
        raise NoDicomFile("file meta information is incomplete; it was not sent")
    return uid
