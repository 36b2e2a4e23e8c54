"""Which UIDs are certainly new: a filter in memory that spares asking the index.

A Bloom filter in blocks of one machine word. It may take a new UID for a known one, and
then the index is asked; never the other way round, because bits are set before the row
is committed and are never cleared. The memory is shared by processes that are forked
after it was made: one of them adds, all may ask.
"""

import mmap
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from core.database.engine import Database
    from core.database.shelves import Shelf

__all__ = ["UidFilter"]

_WORDS_OF_SLAB = 1 << 19
_UIDS_OF_SLAB = 1 << 20
"""32 bits a UID: one new UID in about a thousand is asked for in vain."""
_SLABS = 32
"""Reserved, not used: memory is taken as UIDs come, 4 MB for each million."""
_HEADER_WORDS = mmap.PAGESIZE // 8
_COUNT, _COMPLETE = 0, 1
# Two bits of a word by twelve bits of a hash.
_PAIRS = [1 << (bits & 63) | 1 << (bits >> 6) for bits in range(4096)]


class UidFilter:
    """The SOP Instance UIDs that the index may know."""

    def __init__(self) -> None:
        size = 8 * (_HEADER_WORDS + _SLABS * _WORDS_OF_SLAB)
        self._words = memoryview(mmap.mmap(-1, size)).cast("Q")
        self._lock = threading.Lock()
        self._seen: Shelf | None = None
        """Up to here every row is in the filter, whoever wrote it."""

    def may_hold(self, value: int) -> bool:
        """Tell whether the index has to be asked for a UID with this `uid_hash`."""
        return not self._words[_COMPLETE] or self._holds(value)

    def load(
        self, database: "Database", given_up: Callable[[], bool] = lambda: False
    ) -> None:
        """Take in what the index knows; may run while instances are recorded.

        Until the end of it every UID may be known.

        Parameters
        ----------
        database
            The index.
        given_up
            Asked now and then; if it says so, the load ends with nothing known.

        Raises
        ------
        StoreUnavailable
            If the index cannot be read; then nothing has changed.
        """
        from core.database import shelves  # noqa: PLC0415 - listeners only ask

        with database.read() as connection:
            found = shelves.shelves_from(connection, 0)
        for shelf in found:
            if given_up():
                return
            with database.read() as connection:
                hashes = list(shelves.hashes_on_shelf(connection, shelf.id))
            self._add(hashes)
        self._seen = found[-1]
        self._words[_COMPLETE] = 1

    def follow(self, connection: "Connection", shelf: "Shelf") -> None:
        """Take in what others have recorded; within the transaction that took `shelf`.

        Another process may write to the same index. It shows by a shelf that is fuller
        than this filter's process left it.
        """
        from core.database import shelves  # noqa: PLC0415 - listeners only ask

        seen = self._seen
        if seen is None or seen == shelf:
            return
        for other in shelves.shelves_from(connection, seen.id):
            hashes = list(shelves.hashes_on_shelf(connection, other.id))
            self._add(value for value in hashes if not self._holds(value))
        self._seen = shelf

    def added(self, shelf: "Shelf", hashes: Sequence[int]) -> None:
        """Take in rows that the caller is about to commit on `shelf`."""
        self._add(hashes)
        from core.database.shelves import ROWS_OF_SHELF, Shelf  # noqa: PLC0415

        # Otherwise `load` has ended since `follow`, which will catch up.
        if self._seen == shelf:
            filled = shelf.filled + len(hashes)
            full = filled >= ROWS_OF_SHELF
            self._seen = Shelf(shelf.id + 1, 0) if full else Shelf(shelf.id, filled)

    def __len__(self) -> int:
        return self._words[_COUNT]

    def _holds(self, value: int) -> bool:
        words = self._words
        bits = _PAIRS[value >> 20 & 4095] | _PAIRS[value >> 32 & 4095]
        at = _HEADER_WORDS + (value & _WORDS_OF_SLAB - 1)
        for _ in range(_slab(words[_COUNT]) + 1):
            if words[at] & bits == bits:
                return True
            at += _WORDS_OF_SLAB
        return False

    def _add(self, hashes: Iterable[int]) -> None:
        words, pairs = self._words, _PAIRS
        with self._lock:
            hashes = list(hashes)
            while hashes:
                count = words[_COUNT]
                slab, room = _slab(count), _UIDS_OF_SLAB - count % _UIDS_OF_SLAB
                at = _HEADER_WORDS + slab * _WORDS_OF_SLAB
                for value in hashes[:room]:
                    words[at + (value & _WORDS_OF_SLAB - 1)] |= (
                        pairs[value >> 20 & 4095] | pairs[value >> 32 & 4095]
                    )
                words[_COUNT] = count + len(hashes[:room])
                hashes = hashes[room:]


def _slab(count: int) -> int:
    """Return where the next UID goes; beyond the last slab the last one fills up."""
    return min(count // _UIDS_OF_SLAB, _SLABS - 1)
