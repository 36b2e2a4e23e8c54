"""Reading the log back: recovery, what is new, and recycling what is done with.

There is one reader a node. It sees records that were published, and after a restart
those whose checksums agree; both are read in the same way, so a kill needs no code of
its own.
"""

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from core.errors import InvalidInstance, SecondreadError
from core.faults import fault
from core.log import get_log
from core.received import ReceivedInstance
from dicom_node.durable_files import storage_errors, sync_file_system
from dicom_node.segment_log.log import SegmentLog
from dicom_node.segment_log.record import (
    HEAD_BYTES,
    Record,
    body_is_whole,
    decode_head,
    record_bytes,
)
from dicom_node.segment_log.segments import (
    FIRST_RECORD_AT,
    Header,
    SegmentState,
)

__all__ = ["WANTED_FREE", "LogReader", "Logged"]

# Fewer free segments than this, and one more is made if there may be more; in a pause,
# enough for the next study or two.
WANTED_FREE = 2
_IN_A_PAUSE = 8


@dataclass(frozen=True, slots=True)
class Logged:
    """A durable instance in the log."""

    instance: ReceivedInstance
    segment: int
    at: int
    record: Record


@dataclass(slots=True)
class _Reading:
    """How far one segment was read in its present generation, and what is not done."""

    generation: int
    at: int = FIRST_RECORD_AT
    sequence: int = 0
    to_check: bool = False
    open: dict[int, int] = field(default_factory=dict)
    """Where each record begins that was read and is not done: its number."""

    def consumed(self) -> Header:
        """Describe what may be forgotten once it is durable elsewhere."""
        at = min(self.open, default=self.at)
        return Header(self.generation, at, self.open.get(at, self.sequence))


class LogReader:
    """The only reader of one log; its methods are for one thread at a time.

    Parameters
    ----------
    log
        Of the same node, not forked away.
    enough_space
        Tells whether there is room on the disk to make one more segment.
    """

    def __init__(self, log: SegmentLog, enough_space: Callable[[], bool]) -> None:
        self._log = log
        self._enough_space = enough_space
        self._table = log.table
        self._files = log.files
        self._readings: dict[int, _Reading] = {}
        self._making = threading.Lock()

    @property
    def staging(self) -> Path:
        """Folder for files that are not whole yet; a restart clears it."""
        return self._log.folder

    def was_recovered(self, logged: Logged) -> bool:
        """Tell whether a restart found this instance."""
        return self._readings[logged.segment].to_check

    def recover(self) -> Iterator[ReceivedInstance]:
        """Take up what an earlier run left; nobody may append yet.

        Yields
        ------
        Each instance that the index may not know.
        """
        for part in self._log.folder.glob("*.part"):
            with storage_errors():
                part.unlink(missing_ok=True)
        for number in self._files.numbers():
            header = self._files.read_header(number)
            if header is None:
                get_log().error(
                    "log_header_damaged", name=self._files.path(number).name
                )
            yield from self._recover_segment(number, header)
        self.prepare(WANTED_FREE)

    def arrived(self, limit: int) -> list[Logged]:
        """Return durable instances that were not returned before.

        Parameters
        ----------
        limit
            The most of them.
        """
        found: list[Logged] = []
        for number in range(self._table.segments):
            if len(found) >= limit:
                break
            if self._table.state(number) in (SegmentState.OPEN, SegmentState.FULL):
                self._read(number, found, limit)
        return found

    def waiting(self) -> bool:
        """Tell whether there is something that `arrived` did not return yet."""
        return any(
            self._table.published(number) > self._reading(number).at
            for number in range(self._table.segments)
            if self._table.state(number) in (SegmentState.OPEN, SegmentState.FULL)
        )

    def read_body(self, logged: Logged) -> bytes:
        """Return an instance as a whole Part 10 file.

        Raises
        ------
        InvalidInstance
            If a recovered record is not what was written.
        StoreUnavailable
            If it cannot be read.
        """
        record = logged.record
        with storage_errors():
            body = os.pread(
                self._files.descriptor(logged.segment),
                record.body_bytes,
                logged.at + HEAD_BYTES,
            )
        if self._readings[logged.segment].to_check and not body_is_whole(body, record):
            raise InvalidInstance(
                f"record {record.sequence} of {self._files.path(logged.segment).name} "
                "has changed on the disk"
            )
        return body

    def done(self, logged: Sequence[Logged]) -> None:
        """Note that instances are in store and index."""
        for one in logged:
            self._readings[one.segment].open.pop(one.at, None)

    def recycle(self) -> int:
        """Make room: segments that are done with begin their next generation.

        Returns
        -------
        How many were recycled.

        Raises
        ------
        StoreFull, StoreUnavailable
            Then they are tried again next time.
        """
        ready = [
            number
            for number in self._table.with_state(SegmentState.FULL)
            if not self._reading(number).open
            and self._reading(number).at >= self._table.published(number)
        ]
        if ready:
            self._sync()
        for number in ready:
            self._recycle(number)
        self.prepare(WANTED_FREE)
        return len(ready)

    def checkpoint(self) -> None:
        """Write down how far each segment is done with, so that a restart is quick.

        Raises
        ------
        StoreFull, StoreUnavailable
            Nothing is lost then; a restart only reads more.
        """
        self.recycle()
        self._sync()
        for number in self._table.with_state(SegmentState.OPEN):
            self._files.write_header(number, self._reading(number).consumed())
        self.prepare(_IN_A_PAUSE)

    def scrub(self) -> None:
        """Overwrite everything that is done with, so that nothing is left of it.

        Raises
        ------
        StoreFull, StoreUnavailable
            Something may be left then; ask again.
        """
        self.checkpoint()
        for number in self._table.with_state(SegmentState.OPEN):
            self._zero(number, self._reading(number).consumed().consumed_to)
        with self._log.lock:
            free = self._table.with_state(SegmentState.FREE)
            for number in free:
                self._table.set_state(number, SegmentState.BUSY)
        for number in free:
            try:
                self._zero(number, self._files.size(number))
            finally:
                self._set(number, SegmentState.FREE)

    def free_share(self) -> float:
        """Return how much of the log can take new instances at once, 0 to 1."""
        if not self._log.most:
            return 1.0
        used = sum(
            self._table.state(number) in (SegmentState.FULL, SegmentState.BUSY)
            for number in range(self._log.most)
        )
        return 1 - used / self._log.most

    def prepare(self, free: int) -> None:
        """See to it that so many segments are free, as far as there may be so many.

        What cannot be made now is logged; receiving goes on in files.
        """
        with self._making:
            while len(self._table.with_state(SegmentState.FREE)) < free:
                missing = [
                    number
                    for number in range(self._log.most)
                    if self._table.state(number) is SegmentState.MISSING
                ]
                if (
                    not missing
                    or not self._enough_space()
                    or not self._make(missing[0])
                ):
                    return

    def _make(self, number: int) -> bool:
        try:
            self._files.make(number, self._log.segment_bytes)
        except SecondreadError as error:
            get_log().warning("log_not_extended", error=str(error))
            return False
        self._free(number, 1)
        return True

    def _free(self, number: int, generation: int) -> None:
        self._readings[number] = _Reading(generation)
        with self._log.lock:
            self._table.begin(number, generation)
            self._table.set_state(number, SegmentState.FREE)

    def _recover_segment(
        self, number: int, header: Header | None
    ) -> Iterator[ReceivedInstance]:
        start = header or Header(0, FIRST_RECORD_AT, 0)
        reading = _Reading(
            start.generation, start.consumed_to, start.consumed, to_check=True
        )
        self._readings[number] = reading
        at, last = start.consumed_to, None
        sequence = start.consumed
        generation = start.generation if header else None
        while (record := self._head(number, at, generation, sequence)) is not None:
            if last is not None:
                yield last[1].instance
            last = at, record
            generation = reading.generation = record.generation
            at, sequence = at + record_bytes(record.body_bytes), sequence + 1
        # Only the last one can be half there: each was durable before the next began.
        if last is not None:
            if self._is_whole(number, *last):
                yield last[1].instance
            else:
                at = last[0]
        self._table.begin(number, reading.generation)
        self._table.publish(number, at)
        self._set(number, SegmentState.FULL)

    def _is_whole(self, number: int, at: int, record: Record) -> bool:
        with storage_errors():
            body = os.pread(
                self._files.descriptor(number), record.body_bytes, at + HEAD_BYTES
            )
        return body_is_whole(body, record)

    def _head(
        self, number: int, at: int, generation: int | None, sequence: int
    ) -> Record | None:
        with storage_errors():
            head = os.pread(self._files.descriptor(number), HEAD_BYTES, at)
        return decode_head(head, generation=generation, sequence=sequence)

    def _reading(self, number: int) -> _Reading:
        reading = self._readings.get(number)
        generation = self._table.generation(number)
        if reading is None or reading.generation != generation:
            reading = self._readings[number] = _Reading(generation)
        return reading

    def _read(self, number: int, found: list[Logged], limit: int) -> None:
        reading = self._reading(number)
        published = self._table.published(number)
        while reading.at < published and len(found) < limit:
            record = self._head(
                number, reading.at, reading.generation, reading.sequence
            )
            if record is None:
                # It was whole when it was published, so the disk has lost it.
                get_log().error(
                    "log_record_damaged",
                    name=self._files.path(number).name,
                    bytes=published - reading.at,
                )
                reading.open[reading.at] = reading.sequence
                reading.at = published
                return
            found.append(Logged(record.instance, number, reading.at, record))
            reading.open[reading.at] = reading.sequence
            reading.at += record_bytes(record.body_bytes)
            reading.sequence += 1

    def _recycle(self, number: int) -> None:
        if (
            number >= self._log.most
            or self._files.size(number) != self._log.segment_bytes
        ):
            # Another size, or fewer of them, since the settings were changed.
            self._files.remove(number)
            self._readings.pop(number, None)
            self._set(number, SegmentState.MISSING)
            return
        generation = self._reading(number).generation + 1
        fault("log.before_recycle")
        self._files.write_header(number, Header(generation, FIRST_RECORD_AT, 0))
        fault("log.after_recycle")
        self._free(number, generation)

    def _set(self, number: int, state: SegmentState) -> None:
        with self._log.lock:
            self._table.set_state(number, state)

    def _sync(self) -> None:
        if self._log.durable:
            with storage_errors():
                sync_file_system(self._log.folder)

    def _zero(self, number: int, end: int) -> None:
        descriptor = self._files.descriptor(number)
        zeros = bytes(1 << 20)
        with storage_errors():
            for start in range(FIRST_RECORD_AT, end, len(zeros)):
                os.pwrite(descriptor, zeros[: min(len(zeros), end - start)], start)
            if self._log.durable:
                os.fdatasync(descriptor)
