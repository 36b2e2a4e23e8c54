"""Appending: the side of the log that listeners use."""

import os
import threading
from dataclasses import dataclass
from pathlib import Path

from core.faults import fault
from core.received import ReceivedInstance
from dicom_node.durable_files import make_folder, storage_errors
from dicom_node.segment_log.record import HEAD_BYTES, encode_head, record_bytes
from dicom_node.segment_log.segments import (
    FIRST_RECORD_AT,
    SegmentFiles,
    SegmentState,
    SegmentTable,
)
from dicom_node.shared_state import SharedLock

__all__ = ["LogFull", "SegmentLog"]


class LogFull(Exception):
    """No segment has room now; the instance goes to a file of its own."""


@dataclass(slots=True)
class _Open:
    """A segment of this process, and where its next record goes."""

    number: int
    generation: int
    end: int = FIRST_RECORD_AT
    sequence: int = 0


class SegmentLog:
    """The log of one data directory; made before listeners are forked.

    Each append has a segment to itself, so nothing is written behind a record before
    it is durable. A segment that is free again is taken first, so there are as many as
    there are appends at the same time.

    Parameters
    ----------
    root
        The data directory; segments lie in `log/`.
    lock
        Shared with every process of the node.
    segments
        The most there may be; 0 only reads what an earlier run left.
    segment_bytes
        Size of each.
    durable
        Sync before returning. Off only for measurements.
    """

    def __init__(
        self,
        root: Path,
        lock: SharedLock,
        *,
        segments: int,
        segment_bytes: int,
        durable: bool = True,
    ) -> None:
        self.folder = root / "log"
        with storage_errors():
            make_folder(self.folder, durable=durable)
        self.lock = lock
        self.segment_bytes = segment_bytes
        self.durable = durable
        self.files = SegmentFiles(self.folder, durable=durable)
        found = self.files.numbers()
        self.most = segments
        self.table = SegmentTable(max([segments, *[n + 1 for n in found]]))
        self._threads = threading.Lock()
        self._mine: list[_Open] = []

    def append(
        self,
        buffer: bytearray,
        instance: ReceivedInstance,
        *,
        body_bytes: int,
        data_set_at: int,
        owner: int,
    ) -> None:
        """Make an instance durable.

        Parameters
        ----------
        buffer
            Room for a head, then the body: a whole Part 10 file.
        instance
            What the index will keep of it.
        body_bytes, data_set_at
            Length of the body and where its data set begins.
        owner
            Which listener this is.

        Raises
        ------
        LogFull
            If no segment has room. Nothing was written.
        StoreFull, StoreUnavailable
            If it could not be written or synced.
        """
        size = record_bytes(body_bytes)
        segment = self._take(size, owner)
        try:
            encode_head(
                buffer,
                instance,
                generation=segment.generation,
                sequence=segment.sequence,
                body_bytes=body_bytes,
                data_set_at=data_set_at,
            )
            with storage_errors():
                self._write(segment, memoryview(buffer)[: HEAD_BYTES + body_bytes])
        except BaseException:
            # A sync that failed is not tried again on the same file: the segment takes
            # no more, and what was published in it is read as ever.
            self._close(segment.number)
            raise
        segment.end += size
        segment.sequence += 1
        self.table.publish(segment.number, segment.end)
        with self._threads:
            self._mine.append(segment)

    def abandon(self, owner: int) -> None:
        """Take no more into the segments of a dead listener."""
        with self.lock:
            for number in self.table.with_state(SegmentState.OPEN):
                if self.table.owner(number) == owner:
                    self.table.set_state(number, SegmentState.FULL)

    def _write(self, segment: _Open, record: memoryview) -> None:
        descriptor = self.files.descriptor(segment.number)
        at = segment.end
        while record:
            written = os.pwrite(descriptor, record, at)
            record, at = record[written:], at + written
        fault("scp.after_append")
        if self.durable:
            os.fdatasync(descriptor)
        fault("scp.after_log_sync")

    def _take(self, size: int, owner: int) -> _Open:
        with self._threads:
            segment = self._mine.pop() if self._mine else None
        if segment is not None:
            if segment.end + size <= self.segment_bytes:
                return segment
            self._close(segment.number)
        with self.lock:
            for number in range(self.most):
                if self.table.state(number) is SegmentState.FREE:
                    self.table.set_state(number, SegmentState.OPEN, owner)
                    return _Open(number, self.table.generation(number))
        raise LogFull("every segment of the log waits for the index")

    def _close(self, number: int) -> None:
        with self.lock:
            self.table.set_state(number, SegmentState.FULL)
