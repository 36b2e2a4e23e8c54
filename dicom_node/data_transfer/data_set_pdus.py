"""A data set on its way from a file into P-DATA-TF PDUs, in constant memory.

The heads of PDUs and presentation data values are written into a buffer once. Reading
fills the gaps between them, many with one call of the system, and the buffer is what is
sent: the bytes are copied once between file and socket, whatever the size.
"""

import os
import struct
from dataclasses import dataclass

from dicom_node.data_transfer.protocol import PduType, largest_fragment

__all__ = ["DataSetPdus", "Source", "UnreadableSource"]

_HEAD = struct.Struct(">BxLLBB")
_PDV_HEAD_BYTES = 6
_PDV_OVERHEAD = 2
_LAST_FRAGMENT = 0x02
# What is read and sent at once. Larger made no difference that could be measured.
_BUFFER_BYTES = 1 << 18
# More memory than this for one PDU is not worth it, even if a peer takes longer ones.
_LONGEST_FRAGMENT = 1 << 20
# One read fills so many gaps at most; the system's own limit is 1024.
_MOST_GAPS = 512


class UnreadableSource(Exception):
    """A data set whose bytes cannot be read to the end; its text fits an answer."""


@dataclass(frozen=True, slots=True)
class Source:
    """Where the bytes of a data set lie."""

    descriptor: int
    """Of an open file; its position is not used."""
    offset: int
    size: int


class DataSetPdus:
    """The buffer of one association.

    Parameters
    ----------
    peer_maximum
        Longest PDU that the peer takes; 0 is no limit.
    """

    def __init__(self, peer_maximum: int) -> None:
        fragment = largest_fragment(peer_maximum) if peer_maximum else _BUFFER_BYTES
        self._fragment = min(fragment, _LONGEST_FRAGMENT)
        step = _HEAD.size + self._fragment
        count = min(max(round(_BUFFER_BYTES / step), 1), _MOST_GAPS)
        buffer = memoryview(bytearray(count * step))
        self._buffer = buffer
        self._heads = [number * step for number in range(count)]
        self._gaps = [buffer[at + _HEAD.size : at + step] for at in self._heads]
        self._context_id = 0
        self._marked = 0
        """Which head says that it is the last of a data set, or a short one."""
        self._source = Source(-1, 0, 0)
        self._position = 0
        self._ended = True

    def begin(self, source: Source, context_id: int) -> None:
        """Take a data set; `next` gives its PDUs."""
        stale = [self._heads[self._marked]]
        if context_id != self._context_id:
            self._context_id = context_id
            stale = self._heads
        for at in stale:
            self._write_head(at, self._fragment, last=False)
        self._source = source
        self._position = 0
        self._ended = False

    def next(self) -> memoryview:
        """Return the next whole PDUs, valid until the next call; empty at the end.

        Raises
        ------
        UnreadableSource
            If the file cannot be read, or is shorter than it was.
        """
        if self._ended:
            return self._buffer[:0]
        left = self._source.size - self._position
        gaps = self._gaps[: max(-(-left // self._fragment), 1)]
        wanted = min(left, len(gaps) * self._fragment)
        self._read(gaps, wanted)
        self._position += wanted
        self._ended = self._position == self._source.size
        whole = len(gaps) * (_HEAD.size + self._fragment)
        if not self._ended:
            return self._buffer[:whole]
        self._marked = len(gaps) - 1
        tail = wanted - self._marked * self._fragment
        self._write_head(self._heads[self._marked], tail, last=True)
        return self._buffer[: whole - self._fragment + tail]

    def _read(self, gaps: list[memoryview], wanted: int) -> None:
        offset = self._source.offset + self._position
        rest, got = gaps, 0
        while got < wanted:
            try:
                more = os.preadv(self._source.descriptor, rest, offset + got)
            except OSError as error:
                raise UnreadableSource(f"cannot be read: {error.strerror}") from error
            if not more:
                raise UnreadableSource("the file became shorter while it was sent")
            got += more
            if got < wanted:  # a file system may give less than it was asked for
                at, within = divmod(got, self._fragment)
                rest = [gaps[at][within:], *gaps[at + 1 :]]

    def _write_head(self, at: int, size: int, *, last: bool) -> None:
        _HEAD.pack_into(
            self._buffer,
            at,
            PduType.P_DATA_TF,
            size + _PDV_HEAD_BYTES,
            size + _PDV_OVERHEAD,
            self._context_id,
            _LAST_FRAGMENT if last else 0,
        )
