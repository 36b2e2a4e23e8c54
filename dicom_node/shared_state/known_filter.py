"""A filter that proves, without the database, that a UID is not in the index.

It answers "certainly not" or "perhaps" (Bloom 1970). It only ever learns: a UID that
was forgotten stays a "perhaps", which costs one look-up.
"""

import hashlib
import mmap

__all__ = ["KnownFilter", "key_of"]

# 16 MiB: 5 million instances at 27 bits each, one in 10,000 answered "perhaps" without
# need. Memory is used only as far as bits are set.
_BITS = 1 << 27
_PROBES = 4
_HALF = 0xFFFFFFFF


def key_of(uid: str) -> int:
    """Return 64 bits that stand for a UID in shared memory."""
    return int.from_bytes(
        hashlib.blake2b(uid.encode("ascii", "replace"), digest_size=8).digest(),
        "little",
    )


class KnownFilter:
    """The filter; one process adds, every process asks, nobody needs a lock.

    Parameters
    ----------
    bits
        A power of two.
    """

    def __init__(self, bits: int = _BITS) -> None:
        self._memory = mmap.mmap(-1, bits // 8)
        self._mask = bits - 1
        self._state = mmap.mmap(-1, 1)

    @property
    def complete(self) -> bool:
        """Whether everything in the index has been added."""
        return self._state[0] == 1

    def completed(self) -> None:
        """Note that everything in the index has been added."""
        self._state[0] = 1

    def add(self, key: int) -> None:
        """Learn a key."""
        memory, mask = self._memory, self._mask
        # Kirsch and Mitzenmacher 2006: two hashes make as many as are wanted.
        first, step = key & _HALF, (key >> 32) | 1
        for _ in range(_PROBES):
            bit = first & mask
            memory[bit >> 3] |= 1 << (bit & 7)
            first += step

    def certainly_not(self, key: int) -> bool:
        """Tell whether a key is proven not to be in the index."""
        if not self._state[0]:
            return False
        memory, mask = self._memory, self._mask
        first, step = key & _HALF, (key >> 32) | 1
        for _ in range(_PROBES):
            bit = first & mask
            if not memory[bit >> 3] & 1 << (bit & 7):
                return True
            first += step
        return False
