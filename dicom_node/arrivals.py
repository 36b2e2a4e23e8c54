"""What is durable and not in the index yet, from wherever it became durable.

Two sources, one contract: files of the inbox and records of the segment log. Looking
finds what is there, so nothing has to be announced, and a restart looks as ever.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from core.received import ReceivedInstance
from dicom_node.inbox import Inbox, InboxEntry, NotedConflict
from dicom_node.instance_store import InstanceStore
from dicom_node.segment_log import (
    WANTED_FREE,
    Logged,
    LogReader,
    scrubbing_is_wanted,
)

__all__ = ["Arrival", "ArrivalSource", "InboxSource", "LogSource"]


@dataclass(frozen=True, slots=True)
class Arrival:
    """One instance that the index does not know yet, or one that was refused."""

    source: "ArrivalSource"
    entry: InboxEntry | Logged | NotedConflict
    instance: ReceivedInstance
    kept_sha256: str = ""
    """Of a refused one: the content that stays. Empty: this is the one to keep."""


class ArrivalSource(Protocol):
    """Where arrivals are found. Its methods are for one thread at a time."""

    def recover(self) -> Iterator[ReceivedInstance]:
        """Clear up what an earlier run left half done, and tell what it left whole."""

    def arrived(self, limit: int) -> list[Arrival]:
        """Return arrivals that were not returned before."""

    def waiting(self) -> bool:
        """Tell whether there is something that `arrived` did not return yet."""

    def adopt(self, arrivals: Sequence[Arrival], store: InstanceStore) -> None:
        """Give instances their place among the objects of the store.

        Raises
        ------
        InvalidInstance, StoreFull, StoreUnavailable
            Some may have been adopted; adopting again is harmless.
        """

    def done(self, arrivals: Sequence[Arrival]) -> None:
        """Forget arrivals, because the index knows them.

        Raises
        ------
        StoreFull, StoreUnavailable
            They are found again at the next start and change nothing.
        """

    def pressing(self) -> bool:
        """Tell whether room runs out, so that there is no time to wait for a pause."""

    def make_room(self) -> None:
        """See to it that receiving can go on while arrivals wait to be written."""

    def rest(self) -> None:
        """Use a pause in which nothing arrives.

        Raises
        ------
        StoreFull, StoreUnavailable
            It is tried again in the next pause.
        """


class InboxSource:
    """Arrivals that are files of the inbox.

    Parameters
    ----------
    inbox
        Of the same data directory as the store.
    """

    def __init__(self, inbox: Inbox) -> None:
        self._inbox = inbox
        self._taken: set[str] = set()

    def recover(self) -> Iterator[ReceivedInstance]:
        """Remove half-written files and read the others."""
        self._inbox.sweep()
        for entry in self._inbox.entries():
            yield entry.instance

    def arrived(self, limit: int) -> list[Arrival]:
        """Look into the folder."""
        found: list[Arrival] = []
        for entry in self._inbox.entries(self._taken):
            found.append(Arrival(self, entry, entry.instance))
            if len(found) == limit:
                break
        for noted in self._inbox.conflicts(self._taken):
            found.append(Arrival(self, noted, noted.refused, noted.kept_sha256))
        self._taken.update(_file_of(one).path.name for one in found)
        return found

    def waiting(self) -> bool:
        """Tell whether there are files that were not taken yet."""
        return self._inbox.has_more_than(self._taken)

    def adopt(self, arrivals: Sequence[Arrival], store: InstanceStore) -> None:
        """Link the files into the store."""
        store.adopt({one.instance.sha256: _file_of(one).path for one in arrivals})

    def done(self, arrivals: Sequence[Arrival]) -> None:
        """Remove the files."""
        self._inbox.remove([_file_of(one).path for one in arrivals])
        self._taken.difference_update(_file_of(one).path.name for one in arrivals)

    def pressing(self) -> bool:
        """Files have as much room as the disk."""
        return False

    def make_room(self) -> None:
        """There is nothing to prepare for a file."""

    def rest(self) -> None:
        """Nothing is left over."""


class LogSource:
    """Arrivals that are records of the segment log.

    Parameters
    ----------
    reader
        The only one of its log.
    """

    def __init__(self, reader: LogReader) -> None:
        self._reader = reader
        self._since_checkpoint = 1

    def recover(self) -> Iterator[ReceivedInstance]:
        """Read what the segments hold."""
        yield from self._reader.recover()

    def arrived(self, limit: int) -> list[Arrival]:
        """Read on in the segments."""
        return [Arrival(self, e, e.instance) for e in self._reader.arrived(limit)]

    def waiting(self) -> bool:
        """Tell whether there are records that were not read yet."""
        return self._reader.waiting()

    def adopt(self, arrivals: Sequence[Arrival], store: InstanceStore) -> None:
        """Write the records as files of the store; the log keeps them durable."""
        for one in arrivals:
            entry = _logged_of(one)
            store.unpack(
                one.instance.sha256,
                self._reader.read_body(entry),
                staging=self._reader.staging,
                again=self._reader.was_recovered(entry),
            )

    def done(self, arrivals: Sequence[Arrival]) -> None:
        """Let the log use their room again."""
        self._reader.done([_logged_of(one) for one in arrivals])
        self._since_checkpoint += len(arrivals)
        if self._reader.recycle():
            self._since_checkpoint = 0

    def pressing(self) -> bool:
        """Tell whether a third of the log is all that is left."""
        return self._reader.free_share() < 1 / 3

    def make_room(self) -> None:
        """Make another segment before the last free one is taken."""
        self._reader.prepare(WANTED_FREE)

    def rest(self) -> None:
        """Note how far the log is done with, so that a restart need not read it.

        What was forgotten meanwhile is overwritten.
        """
        if scrubbing_is_wanted(self._reader.staging):
            self._reader.scrub()
        elif self._since_checkpoint:
            self._reader.checkpoint()
        self._since_checkpoint = 0


def _file_of(arrival: Arrival) -> InboxEntry | NotedConflict:
    assert not isinstance(arrival.entry, Logged)
    return arrival.entry


def _logged_of(arrival: Arrival) -> Logged:
    assert isinstance(arrival.entry, Logged)
    return arrival.entry
