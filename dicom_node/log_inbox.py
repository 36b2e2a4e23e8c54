"""Receiving into the segment log: small instances are gathered, large ones spill.

A slice is gathered in memory, appended to the log in one write and synced once. What
grows beyond `LARGEST_BODY` goes on in a file of the inbox, so memory stays bounded at
any size, and a large object is written to the disk only once.
"""

import hashlib

from core.received import ReceivedInstance
from dicom_node.element_walk import Encoding, InstanceFacts, walk
from dicom_node.file_meta import FileMeta, encode_file_meta
from dicom_node.inbox import Inbox, PartFile
from dicom_node.segment_log import HEAD_BYTES, LARGEST_BODY, LogFull, SegmentLog

__all__ = ["LogInbox", "LogPart"]

_SPARE_BUFFERS = 16


class LogInbox:
    """Where the instances of one listener become durable.

    Parameters
    ----------
    log
        Takes small instances.
    files
        Takes large ones, and all while the log is full.
    owner
        Which listener this is.
    """

    def __init__(self, log: SegmentLog, files: Inbox, owner: int = 0) -> None:
        self.log = log
        self.files = files
        self.owner = owner
        self._spare: list[bytearray] = []

    def open(self, meta: FileMeta) -> "LogPart":
        """Begin an instance."""
        return LogPart(self, meta)

    def note_conflict(self, refused: ReceivedInstance, kept_sha256: str) -> None:
        """Leave word for the index that an instance was refused.

        Raises
        ------
        StoreFull, StoreUnavailable
            Then nobody will know.
        """
        self.files.note_conflict(refused, kept_sha256)

    def take_buffer(self) -> bytearray:
        """Return room for one record; its content is of no meaning."""
        try:
            return self._spare.pop()
        except IndexError:
            return bytearray(HEAD_BYTES + LARGEST_BODY)

    def give_back(self, buffer: bytearray) -> None:
        """Keep a buffer for the next instance."""
        if len(self._spare) < _SPARE_BUFFERS:
            self._spare.append(buffer)


class LogPart:
    """One instance on its way into the log."""

    def __init__(self, inbox: LogInbox, meta: FileMeta) -> None:
        self._inbox = inbox
        self._meta = meta
        self._digest = hashlib.sha256()
        self._file: PartFile | None = None
        self._buffer = inbox.take_buffer()
        self._view = memoryview(self._buffer)
        head = encode_file_meta(meta)
        self._data_set_at = HEAD_BYTES + len(head)
        self._end = self._data_set_at
        self._view[HEAD_BYTES : self._end] = head

    @property
    def sha256(self) -> str:
        """Of the data set's bytes written so far."""
        return self._digest.hexdigest() if self._file is None else self._file.sha256

    @property
    def size(self) -> int:
        """Bytes of the data set so far."""
        if self._file is not None:
            return self._file.size
        return self._end - self._data_set_at

    def write(self, fragment: bytes | memoryview) -> None:
        """Append bytes of the data set.

        Raises
        ------
        StoreFull, StoreUnavailable
            The part is of no use any more; discard it.
        """
        if self._file is None:
            end = self._end + len(fragment)
            if end <= len(self._view):
                self._digest.update(fragment)
                self._view[self._end : end] = fragment
                self._end = end
                return
            self._spill()
        assert self._file is not None
        self._file.write(fragment)

    def walk(self, transfer_syntax_uid: str) -> InstanceFacts:
        """Walk what was written.

        Raises
        ------
        InvalidInstance
            If it is no data set of this transfer syntax.
        """
        if self._file is not None:
            return self._file.walk(transfer_syntax_uid)
        return walk(
            self._view,
            Encoding.of(transfer_syntax_uid),
            start=self._data_set_at,
            end=self._end,
        )

    def keep(self, instance: ReceivedInstance) -> None:
        """Make the instance durable.

        Raises
        ------
        StoreFull, StoreUnavailable
            Then nothing of it is there.
        """
        if self._file is None:
            try:
                self._inbox.log.append(
                    self._buffer,
                    instance,
                    body_bytes=self._end - HEAD_BYTES,
                    data_set_at=self._data_set_at - HEAD_BYTES,
                    owner=self._inbox.owner,
                )
            except LogFull:
                self._spill()
            else:
                self._end_gathering()
                return
        assert self._file is not None
        self._file.keep()

    def discard(self) -> None:
        """Forget the instance."""
        if self._file is not None:
            self._file.discard()
        else:
            self._end_gathering()

    def _spill(self) -> None:
        self._file = PartFile(
            self._inbox.files.path, self._meta, durable=self._inbox.files.durable
        )
        self._file.write(self._view[self._data_set_at : self._end])
        self._end_gathering()

    def _end_gathering(self) -> None:
        if self._view:
            self._view.release()
            self._inbox.give_back(self._buffer)
