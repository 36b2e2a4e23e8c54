"""Where the pixels lie in a file, so that they are read when asked for, frame by frame.

pydicom reads an element as a whole. A data set that came through here holds, in place
of its pixel data, a window onto the file, which pydicom takes as a buffer, too.
"""

import mmap
import os
import struct
from io import SEEK_CUR, SEEK_END, SEEK_SET, BufferedIOBase
from pathlib import Path
from typing import BinaryIO

from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.tag import Tag

__all__ = ["FileWindow", "attach_pixels"]

PIXEL_TAGS = {
    0x7FE00008: "OF",  # Float Pixel Data
    0x7FE00009: "OD",  # Double Float Pixel Data
    0x7FE00010: "OW",  # Pixel Data
}
"""With the VR of the implicit syntax (PS3.5 A.1)."""
_LONG_VRS = frozenset({"OB", "OW", "OF", "OD", "OL", "OV", "UN"})
_UNDEFINED = 0xFFFFFFFF


class FileWindow(BufferedIOBase):
    """Bytes of a file from one place to another; none is read before it is asked for.

    Parameters
    ----------
    path
        The file; it is opened here and stays open until `close`, or until nobody has
        the window any more, so that it may be deleted meanwhile.
    start
        Offset of the first byte.
    length
        Bytes that the window should have; None: up to the end of the file.
    """

    def __init__(self, path: Path, start: int, length: int | None) -> None:
        self._descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
        self._start = start
        self._length = max(0, os.fstat(self._descriptor).st_size - start)
        if length is not None:
            self._length = min(self._length, length)
        self._position = 0

    def __len__(self) -> int:
        """Count the bytes that are there, which may be fewer than announced."""
        return self._length

    def view(self, offset: int, length: int) -> memoryview:
        """Map a part into memory; it costs none but the system's own cache.

        Any thread may ask. The mapping lives as long as the view.
        """
        first = self._start + offset
        aligned = first - first % mmap.ALLOCATIONGRANULARITY
        mapped = mmap.mmap(
            self._descriptor,
            first - aligned + length,
            access=mmap.ACCESS_READ,
            offset=aligned,
        )
        return memoryview(mapped)[first - aligned :]

    def read(self, size: int | None = -1, /) -> bytes:
        """Read on.

        Raises
        ------
        EOFError
            If the file ends within what was asked for; a frame that is cut off must not
            pass for a short one.
        """
        rest = self._length - self._position
        wanted = rest if size is None or size < 0 else size
        data = os.pread(
            self._descriptor, min(wanted, rest), self._start + self._position
        )
        self._position += len(data)
        if 0 < len(data) < wanted:
            raise EOFError("the file ends within an item of its pixel data")
        return data

    def seek(self, offset: int, whence: int = SEEK_SET, /) -> int:
        """Move to where the next `read` begins; not beyond the ends."""
        base = {SEEK_SET: 0, SEEK_CUR: self._position, SEEK_END: self._length}[whence]
        self._position = min(max(0, base + offset), self._length)
        return self._position

    def tell(self) -> int:
        """Return where the next `read` begins."""
        return self._position

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def close(self) -> None:
        """Close the file; views stay."""
        if not self.closed and hasattr(self, "_descriptor"):
            os.close(self._descriptor)
        super().close()


def attach_pixels(dataset: Dataset, file: BinaryIO, path: Path) -> bool:
    """Give a data set its pixel data as a window onto the file.

    Parameters
    ----------
    dataset
        Read from `file` up to its pixels, not deflated; gets the element.
    file
        Stands where the pixel data element begins, or at the end if there is none.
    path
        Of the same file.

    Returns
    -------
    False where the element is not written as the standard says; the data set is
    unchanged then.

    Source
    ------
    PS3.5 7.1 (data element), 8.1.1 and A.4 (pixel data, native and encapsulated).
    """
    implicit, little_endian = dataset.original_encoding
    order = "<" if little_endian else ">"
    place = file.tell()
    head = file.read(12)
    if len(head) < 8:
        return True
    group, number = struct.unpack_from(f"{order}HH", head)
    tag = group << 16 | number
    if tag not in PIXEL_TAGS or implicit is None:
        return False
    vr, size = PIXEL_TAGS[tag], 8
    if not implicit:
        vr, size = head[4:6].decode("latin-1"), 12
        if vr not in _LONG_VRS or len(head) < size:
            return False
    (length,) = struct.unpack_from(f"{order}L", head, size - 4)
    window = FileWindow(
        path, place + size, None if length == _UNDEFINED else int(length)
    )
    element = DataElement(Tag(tag), vr, window)
    element.is_undefined_length = length == _UNDEFINED
    dataset[tag] = element
    if length != _UNDEFINED:
        _note_second(dataset, file, place + size + length, order)
    return True


def _note_second(dataset: Dataset, file: BinaryIO, place: int, order: str) -> None:
    """Show a further pixel data element, empty: `limits` refuses an image with two."""
    file.seek(place)
    head = file.read(4)
    if len(head) == 4:
        group, number = struct.unpack(f"{order}HH", head)
        tag = group << 16 | number
        if tag in PIXEL_TAGS and tag not in dataset:
            dataset.add_new(tag, PIXEL_TAGS[tag], b"")
