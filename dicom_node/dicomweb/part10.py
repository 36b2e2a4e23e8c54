"""Part 10 files as they come in over HTTP: the header is read, the rest passes through.

The data set goes to the receiver byte for byte, as it would from an association; of the
file around it only the three UIDs count that an association would have negotiated.
"""

import struct
from io import BytesIO

from pydicom import dcmread

from core.errors import InvalidInstance

__all__ = ["HeaderReader", "Part10Header"]

_PREAMBLE_BYTES = 128
# Preamble, prefix, and the element that says how long the group is (PS3.10 7.1).
_FIRST = struct.Struct("<128x4sHH2sHL")
_LONGEST_GROUP = 1 << 16


class Part10Header:
    """The UIDs of a file's header; empty where it has none.

    Parameters
    ----------
    head
        The file up to its data set.

    Raises
    ------
    InvalidInstance
        If it cannot be read.
    """

    def __init__(self, head: bytes) -> None:
        try:
            meta = dcmread(BytesIO(head)).file_meta
            self.sop_class_uid = str(meta.get("MediaStorageSOPClassUID", ""))
            self.sop_instance_uid = str(meta.get("MediaStorageSOPInstanceUID", ""))
            self.transfer_syntax_uid = str(meta.get("TransferSyntaxUID", ""))
        except Exception as error:
            raise InvalidInstance(
                "the File Meta Information of a part cannot be read "
                f"({type(error).__name__})"
            ) from error


class HeaderReader:
    """Takes the first bytes of a file until its header is whole."""

    def __init__(self) -> None:
        self._head = bytearray()
        self._needed = _FIRST.size

    def feed(self, data: memoryview) -> tuple[Part10Header, memoryview] | None:
        """Take bytes.

        Returns
        -------
        The header and what of `data` belongs to the data set, once it is whole.

        Raises
        ------
        InvalidInstance
            If this is no Part 10 file.
        """
        while data and len(self._head) < self._needed:
            taken = self._needed - len(self._head)
            self._head += data[:taken]
            data = data[taken:]
            if len(self._head) == _FIRST.size == self._needed:
                self._needed += self._group_length()
        if len(self._head) < self._needed or self._needed == _FIRST.size:
            return None
        return Part10Header(bytes(self._head)), data

    def _group_length(self) -> int:
        prefix, group, number, vr, _, length = _FIRST.unpack(self._head)
        if prefix != b"DICM":
            raise InvalidInstance("a part is no DICOM file: it lacks the prefix DICM")
        if (group, number, vr) != (2, 0, b"UL") or not 0 < length <= _LONGEST_GROUP:
            raise InvalidInstance(
                "a part does not begin with File Meta Information of a known length "
                "(0002,0000)"
            )
        return int(length)
