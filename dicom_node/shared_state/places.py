"""Places of associations, counted over all listeners of a node."""

import hashlib
import mmap

__all__ = ["Places"]


class Places:
    """Who holds a place; every method asks for the lock to be held by the caller.

    Parameters
    ----------
    maximum
        How many places there are.
    """

    def __init__(self, maximum: int) -> None:
        self._memory = mmap.mmap(-1, maximum * 16)
        # Two words a place: who has taken it (0: nobody, else listener + 1), and which
        # address it is for.
        self._words = memoryview(self._memory).cast("Q")
        self._maximum = maximum

    def taken(self) -> int:
        """Return how many places are taken."""
        return sum(1 for place in range(self._maximum) if self._words[2 * place])

    def taken_by(self, address: str) -> int:
        """Return how many places one address has."""
        key = _address_key(address)
        return sum(
            1
            for place in range(self._maximum)
            if self._words[2 * place] and self._words[2 * place + 1] == key
        )

    def take(self, address: str, owner: int) -> int | None:
        """Take a place.

        Returns
        -------
        Its number; None if all are taken.
        """
        for place in range(self._maximum):
            if not self._words[2 * place]:
                self._words[2 * place + 1] = _address_key(address)
                self._words[2 * place] = owner + 1
                return place
        return None

    def leave(self, place: int) -> None:
        """Give a place back."""
        self._words[2 * place] = 0

    def abandon(self, owner: int) -> None:
        """Give back the places of a dead listener."""
        for place in range(self._maximum):
            if self._words[2 * place] == owner + 1:
                self._words[2 * place] = 0


def _address_key(address: str) -> int:
    digest = hashlib.blake2b(address.encode("ascii", "replace"), digest_size=8)
    return int.from_bytes(digest.digest(), "little")
