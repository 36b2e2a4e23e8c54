"""What a runtime is: something that turns a batch into the arrays of a network."""

import os
import resource
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

__all__ = ["FloatArray", "Runtime", "resident_bytes", "usable_cores"]

FloatArray = npt.NDArray[np.float32]


class Runtime(Protocol):
    """A network in memory, compiled for fixed shapes.

    Used by one thread at a time.
    """

    @property
    def name(self) -> str:
        """Name that settings, logs and lists use."""
        ...

    @property
    def largest_batch(self) -> int:
        """Images that it gains by taking at once; compiled for 1 and this many."""
        ...

    def run(self, batch: FloatArray) -> Sequence[npt.NDArray[Any]]:
        """Calculate.

        Parameters
        ----------
        batch
            (1 or `largest_batch`, rows, columns, channels), float32, contiguous.

        Returns
        -------
        One array for each output of the network, (n, numbers), of the caller's own.
        """
        ...


def usable_cores() -> int:
    """Return how many cores this process may use: a container may have fewer."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on every system
        return os.cpu_count() or 1


def resident_bytes() -> int:
    """Return the resident memory of this process (proc(5), `statm`); 0 if unknown."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except (OSError, IndexError, ValueError):
        return 0
    return pages * resource.getpagesize()
