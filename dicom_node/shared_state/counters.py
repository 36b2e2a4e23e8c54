"""Totals that each listener counts by itself and anybody may add up."""

import mmap
from collections.abc import Sequence

__all__ = ["Counters"]


class Counters:
    """Named numbers, one set an owner: counting needs no lock between processes.

    Parameters
    ----------
    names
        What is counted.
    owners
        How many processes count.
    """

    def __init__(self, names: Sequence[str], owners: int) -> None:
        self._places = {name: place for place, name in enumerate(names)}
        self._owners = owners
        self._memory = mmap.mmap(-1, max(1, len(names) * owners) * 8)
        self._words = memoryview(self._memory).cast("Q")

    def add(self, owner: int, name: str, count: int = 1) -> None:
        """Count; the threads of one owner must not do so at the same time."""
        self._words[owner * len(self._places) + self._places[name]] += count

    def of(self, owner: int, name: str) -> int:
        """Return what one owner has counted."""
        return self._words[owner * len(self._places) + self._places[name]]

    def total(self, name: str) -> int:
        """Return the sum over all owners."""
        place = self._places[name]
        return sum(
            self._words[owner * len(self._places) + place]
            for owner in range(self._owners)
        )
