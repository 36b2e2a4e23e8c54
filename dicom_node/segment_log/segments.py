r"""The files of the log and the table that says who may do what with each.

    MISSING -> FREE -> OPEN -> FULL -> BUSY -> FREE
                                          \-> MISSING

One listener appends to an OPEN segment. FULL ones wait until everything in them is in
store and index; only then are they recycled under their next generation. What a restart
finds is FULL. Every change of state is made under the shared lock.
"""

import mmap
import os
import struct
import zlib
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

from dicom_node.durable_files import storage_errors, sync_folder

__all__ = ["FIRST_RECORD_AT", "Header", "SegmentFiles", "SegmentState", "SegmentTable"]

# Room for the header, one page of most disks.
FIRST_RECORD_AT = 4096
_MAGIC = b"SRSEG1\0\0"
_FIELDS = struct.Struct("<8sQQQ")
_CRC = struct.Struct("<I")
_CHUNK = bytes(1 << 20)
_OWNER_SHIFT = 8


class SegmentState(IntEnum):
    """What may be done with a segment."""

    MISSING = 0
    FREE = 1
    OPEN = 2
    FULL = 3
    BUSY = 4


class SegmentTable:
    """State, generation and published end of each segment, in shared memory.

    Parameters
    ----------
    segments
        How many there may be.
    """

    _WORDS = 4

    def __init__(self, segments: int) -> None:
        self.segments = segments
        self._memory = mmap.mmap(-1, max(1, segments) * self._WORDS * 8)
        self._words = memoryview(self._memory).cast("Q")

    def state(self, number: int) -> SegmentState:
        """Return the state."""
        return SegmentState(self._words[number * self._WORDS] & 0xFF)

    def owner(self, number: int) -> int:
        """Return which listener appends to an OPEN segment."""
        return self._words[number * self._WORDS] >> _OWNER_SHIFT

    def set_state(self, number: int, state: SegmentState, owner: int = 0) -> None:
        """Change the state."""
        self._words[number * self._WORDS] = state | owner << _OWNER_SHIFT

    def generation(self, number: int) -> int:
        """Return the generation of what is appended now."""
        return self._words[number * self._WORDS + 1]

    def begin(self, number: int, generation: int) -> None:
        """Set a generation that has no records yet."""
        word = number * self._WORDS
        self._words[word + 1] = generation
        self._words[word + 2] = FIRST_RECORD_AT

    def published(self, number: int) -> int:
        """Return where the durable records end."""
        return self._words[number * self._WORDS + 2]

    def publish(self, number: int, end: int) -> None:
        """Tell that everything before `end` is durable."""
        self._words[number * self._WORDS + 2] = end

    def with_state(self, state: SegmentState) -> list[int]:
        """List the segments in a state."""
        return [n for n in range(self.segments) if self.state(n) is state]


@dataclass(frozen=True)
class Header:
    """What a segment's file says of itself."""

    generation: int
    consumed_to: int
    """Everything before it is in store and index, durably."""
    consumed: int
    """Number of the record that begins there."""


class SegmentFiles:
    """Opens, makes and describes the files; each process opens its own descriptors.

    Parameters
    ----------
    folder
        Made by whoever makes the first segment.
    durable
        Sync what must be.
    """

    def __init__(self, folder: Path, *, durable: bool) -> None:
        self.folder = folder
        self.durable = durable
        self._descriptors: dict[int, int] = {}

    def path(self, number: int) -> Path:
        """Return the file of a segment."""
        return self.folder / f"{number:04d}.segment"

    def numbers(self) -> list[int]:
        """List the segments that are there."""
        return sorted(int(path.stem) for path in self.folder.glob("*.segment"))

    def descriptor(self, number: int) -> int:
        """Return an open descriptor of a segment."""
        descriptor = self._descriptors.get(number)
        if descriptor is None:
            descriptor = os.open(self.path(number), os.O_RDWR | os.O_CLOEXEC)
            # Two threads may come here at once; the first one's stays.
            kept = self._descriptors.setdefault(number, descriptor)
            if kept != descriptor:
                os.close(descriptor)
                descriptor = kept
        return descriptor

    def size(self, number: int) -> int:
        """Return a file's size in bytes."""
        return os.fstat(self.descriptor(number)).st_size

    def make(self, number: int, size: int) -> None:
        """Write a segment once from end to end, so that appends allocate nothing.

        Raises
        ------
        StoreFull, StoreUnavailable
            Then it is not there.
        """
        path = self.path(number)
        part = path.with_suffix(".part")
        with storage_errors():
            try:
                with part.open("wb", buffering=0) as file:
                    file.write(encode_header(Header(1, FIRST_RECORD_AT, 0)))
                    for start in range(FIRST_RECORD_AT, size, len(_CHUNK)):
                        file.write(_CHUNK[: min(len(_CHUNK), size - start)])
                    if self.durable:
                        os.fsync(file.fileno())
                part.chmod(0o600)
                part.rename(path)
                if self.durable:
                    sync_folder(self.folder)
            except OSError:
                part.unlink(missing_ok=True)
                raise

    def remove(self, number: int) -> None:
        """Delete a segment."""
        with storage_errors():
            self.path(number).unlink(missing_ok=True)
            if self.durable:
                sync_folder(self.folder)
        descriptor = self._descriptors.pop(number, None)
        if descriptor is not None:
            os.close(descriptor)

    def read_header(self, number: int) -> Header | None:
        """Read a header; None if it is damaged."""
        with storage_errors():
            data = os.pread(self.descriptor(number), _FIELDS.size + _CRC.size, 0)
        if len(data) < _FIELDS.size + _CRC.size:
            return None
        magic, generation, consumed_to, consumed = _FIELDS.unpack_from(data)
        (crc,) = _CRC.unpack_from(data, _FIELDS.size)
        if magic != _MAGIC or zlib.crc32(data[: _FIELDS.size]) != crc:
            return None
        return Header(generation, consumed_to, consumed)

    def write_header(self, number: int, header: Header) -> None:
        """Write a header, durably: it lies in one sector and is never half there."""
        descriptor = self.descriptor(number)
        with storage_errors():
            os.pwrite(descriptor, encode_header(header)[: _FIELDS.size + _CRC.size], 0)
            if self.durable:
                os.fdatasync(descriptor)

    def close(self) -> None:
        """Close every descriptor."""
        while self._descriptors:
            _, descriptor = self._descriptors.popitem()
            os.close(descriptor)


def encode_header(header: Header) -> bytes:
    """Encode the page at the beginning of a segment."""
    data = _FIELDS.pack(_MAGIC, header.generation, header.consumed_to, header.consumed)
    return (data + _CRC.pack(zlib.crc32(data))).ljust(FIRST_RECORD_AT, b"\0")
