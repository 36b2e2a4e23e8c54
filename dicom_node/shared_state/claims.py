"""Instances on their way: in hand of a listener, or durable and not in the index yet.

A hash table with open addressing in shared memory. A slot is never moved, so that a
listener may mark its own without the lock; what is deleted leaves a tombstone until the
slots behind it are free.
"""

import mmap
from typing import NamedTuple

__all__ = ["Claims", "Found"]

_SLOT_BYTES = 64
_SLOT_WORDS = _SLOT_BYTES // 8
_EMPTY, _TOMBSTONE = 0, 1
_FIRST_KEY = 2
# Words of a slot; the hash has the last four, the key stands at 0.
_SYNTAX, _STATE, _IN_HAND, _SHA256 = 1, 2, 3, 4
_KEPT = 1
_OWNER_SHIFT = 8


class Found(NamedTuple):
    """What is known of a SOP Instance UID that is on its way."""

    sha256: bytes
    """32 bytes."""
    syntax: int
    kept: bool
    """Durable already."""


class Claims:
    """The table; everything but `keep` asks for the lock to be held by the caller.

    Parameters
    ----------
    slots
        A power of two. Memory is used only as far as slots are.
    """

    def __init__(self, slots: int = 1 << 20) -> None:
        self._memory = mmap.mmap(-1, slots * _SLOT_BYTES)
        self._words = memoryview(self._memory).cast("Q")
        self._used = mmap.mmap(-1, 8)
        self._count = memoryview(self._used).cast("Q")
        self._mask = slots - 1
        self._most = slots * 3 // 4

    def __len__(self) -> int:
        return self._count[0]

    def full(self) -> bool:
        """Tell whether there is no room for one more."""
        return self._count[0] >= self._most

    def find(self, key: int) -> tuple[int, Found] | None:
        """Look a key up.

        Returns
        -------
        The slot and what stands in it; None if nothing is known.
        """
        slot = self._slot_of(key)
        if slot is None:
            return None
        word = slot * _SLOT_WORDS
        at = slot * _SLOT_BYTES + _SHA256 * 8
        return slot, Found(
            self._memory[at : at + 32],
            self._words[word + _SYNTAX],
            bool(self._words[word + _STATE] & _KEPT),
        )

    def add(self, key: int, sha256: bytes, syntax: int, owner: int) -> int:
        """Claim a key that is not there, for content in hand of `owner`.

        Returns
        -------
        Its slot.
        """
        slot = self._free_slot(key)
        word = slot * _SLOT_WORDS
        at = slot * _SLOT_BYTES + _SHA256 * 8
        self._memory[at : at + 32] = sha256
        self._words[word + _SYNTAX] = syntax
        self._words[word + _STATE] = owner << _OWNER_SHIFT
        self._words[word + _IN_HAND] = 1
        # Last, because a kill in between must leave no half-written claim.
        self._words[word] = max(key, _FIRST_KEY)
        self._count[0] += 1
        return slot

    def take_in_hand(self, slot: int) -> None:
        """Count one more copy of the same content in hand."""
        self._words[slot * _SLOT_WORDS + _IN_HAND] += 1

    def keep(self, slot: int, key: int) -> None:
        """Mark a claim as durable. It needs no lock: only the index deletes it.

        The index may have been quicker; then the slot is another's or empty.
        """
        word = slot * _SLOT_WORDS
        if self._words[word] == max(key, _FIRST_KEY):
            self._words[word + _STATE] |= _KEPT

    def release(self, slot: int, key: int) -> None:
        """Forget one copy in hand that was not kept."""
        word = slot * _SLOT_WORDS
        if self._words[word] != max(key, _FIRST_KEY):
            return
        self._words[word + _IN_HAND] -= 1
        if not self._words[word + _IN_HAND] and not self._words[word + _STATE] & _KEPT:
            self._delete(slot)

    def remove(self, key: int) -> None:
        """Forget a claim because the index has it now."""
        slot = self._slot_of(key)
        if slot is not None:
            self._delete(slot)

    def abandon(self, owner: int) -> int:
        """Forget what a dead listener had in hand.

        Returns
        -------
        How many claims that were.
        """
        gone = 0
        for slot in range(self._mask + 1):
            word = slot * _SLOT_WORDS
            if self._words[word] >= _FIRST_KEY and self._words[word + _STATE] == (
                owner << _OWNER_SHIFT
            ):
                self._delete(slot)
                gone += 1
        return gone

    def _slot_of(self, key: int) -> int | None:
        key = max(key, _FIRST_KEY)
        slot = key & self._mask
        words = self._words
        while (found := words[slot * _SLOT_WORDS]) != _EMPTY:
            if found == key:
                return slot
            slot = (slot + 1) & self._mask
        return None

    def _free_slot(self, key: int) -> int:
        slot = max(key, _FIRST_KEY) & self._mask
        while self._words[slot * _SLOT_WORDS] >= _FIRST_KEY:
            slot = (slot + 1) & self._mask
        return slot

    def _delete(self, slot: int) -> None:
        words, mask = self._words, self._mask
        self._count[0] -= 1
        if words[((slot + 1) & mask) * _SLOT_WORDS] != _EMPTY:
            words[slot * _SLOT_WORDS] = _TOMBSTONE
            return
        words[slot * _SLOT_WORDS] = _EMPTY
        # Tombstones before a free slot stand in nobody's way any more.
        slot = (slot - 1) & mask
        while words[slot * _SLOT_WORDS] == _TOMBSTONE:
            words[slot * _SLOT_WORDS] = _EMPTY
            slot = (slot - 1) & mask
