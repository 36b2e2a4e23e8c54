"""The files of the store as readers see them: header, pixel data, bytes on the disk.

What a peer sent may make a parser raise nearly anything; out of here comes
`InvalidInstance`. Nothing is read into memory that grows with the pixels.
"""

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from pydicom import dcmread
from pydicom.dataset import FileDataset

from core.database.catalogue import StoredObject
from core.errors import InvalidInstance, StoreUnavailable
from dicom_node.instance_store import InstanceStore

__all__ = [
    "CHUNK_BYTES",
    "PixelElement",
    "StoredHeader",
    "data_set_position",
    "object_path",
    "read_header",
    "read_range",
]

CHUNK_BYTES = 1 << 18
# Longer values stay on the disk until somebody asks for them.
_LONGEST_IN_MEMORY = 1 << 20
_UNDEFINED = 0xFFFFFFFF
_PIXEL_TAGS = frozenset({0x7FE00008, 0x7FE00009, 0x7FE00010})
_BIG_ENDIAN = "1.2.840.10008.1.2.2"
_IMPLICIT = "1.2.840.10008.1.2"
# PS3.10 7.1: preamble, prefix, and the group length as the first element.
_META_GROUP = struct.Struct("<128x4sHH2sHL")


@dataclass(frozen=True)
class PixelElement:
    """Where the pixel data of a file are."""

    tag: int
    vr: str
    position: int
    """Of the first byte of the value."""
    length: int | None
    """In bytes; None for encapsulated pixel data."""


@dataclass(frozen=True, eq=False)
class StoredHeader:
    """A data set up to its pixel data, and where these are."""

    path: Path
    dataset: FileDataset
    transfer_syntax_uid: str
    pixels: PixelElement | None


def object_path(store: InstanceStore, found: StoredObject) -> Path:
    """Return where an object's file lies."""
    if found.is_report:
        return store.report_path(found.sha256)
    return store.path_of(found.sha256)


def read_header(path: Path, tags: Sequence[int] | None = None) -> StoredHeader:
    """Read a file up to its pixel data.

    Parameters
    ----------
    path
        A Part 10 file.
    tags
        Only these attributes; None for all.

    Raises
    ------
    InvalidInstance
        If it is no DICOM file or its header cannot be read.
    StoreUnavailable
        If there is no such file.
    """
    try:
        with path.open("rb") as file:
            dataset = dcmread(
                file,
                stop_before_pixels=True,
                defer_size=_LONGEST_IN_MEMORY,
                specific_tags=None if tags is None else list(tags),
            )
            syntax = str(dataset.file_meta.TransferSyntaxUID)
            pixels = _pixel_element(file, syntax)
    except OSError as error:
        raise StoreUnavailable(
            f"a file of the store cannot be read ({error.strerror}); restore it from a "
            "backup"
        ) from error
    except Exception as error:
        raise InvalidInstance(
            f"the header of a kept file cannot be read ({type(error).__name__})"
        ) from error
    return StoredHeader(path, dataset, syntax, pixels)


def _pixel_element(file: BinaryIO, syntax: str) -> PixelElement | None:
    # pydicom leaves the file at the element before which it stopped.
    start = file.tell()
    head = file.read(12)
    order = ">" if syntax == _BIG_ENDIAN else "<"
    if len(head) < 8:
        return None
    group, number = struct.unpack_from(order + "HH", head)
    tag = group << 16 | number
    if tag not in _PIXEL_TAGS:
        return None
    if syntax == _IMPLICIT:
        (length,) = struct.unpack_from("<L", head, 4)
        return _placed(tag, "OW", start + 8, length)
    vr = head[4:6].decode("ascii", errors="replace")
    (length,) = struct.unpack_from(order + "L", head, 8)
    return _placed(tag, vr, start + 12, length)


def _placed(tag: int, vr: str, position: int, length: int) -> PixelElement:
    return PixelElement(tag, vr, position, None if length == _UNDEFINED else length)


def data_set_position(file: BinaryIO) -> int:
    """Return where the data set of a Part 10 file begins.

    Raises
    ------
    InvalidInstance
        If the file does not begin as PS3.10 7.1 says.
    """
    file.seek(0)
    head = file.read(_META_GROUP.size)
    if len(head) == _META_GROUP.size:
        prefix, group, number, vr, _, length = _META_GROUP.unpack(head)
        if (prefix, group, number, vr) == (b"DICM", 2, 0, b"UL"):
            return _META_GROUP.size + int(length)
    raise InvalidInstance("a kept file does not begin as a DICOM file")


def read_range(path: Path, position: int, length: int | None = None) -> Iterator[bytes]:
    """Read a part of a file in pieces; None is up to its end.

    Raises
    ------
    StoreUnavailable
        If the file is gone, or shorter than it was.
    """
    try:
        with path.open("rb") as file:
            file.seek(position)
            while length is None or length > 0:
                size = CHUNK_BYTES if length is None else min(CHUNK_BYTES, length)
                piece = file.read(size)
                if not piece:
                    break
                if length is not None:
                    length -= len(piece)
                yield piece
    except OSError as error:
        raise StoreUnavailable(
            f"a file of the store cannot be read ({error.strerror})"
        ) from error
    if length:
        raise StoreUnavailable("a file of the store is shorter than its index says")
