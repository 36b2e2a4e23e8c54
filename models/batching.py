"""Several askers, one network: their images run together where that gains anything.

Whoever comes first waits a bounded time for others, but only as long as others are
known to be on their way; then everything that waits runs as one batch. Each asker gets
the rows of its own images. If a common run fails, each runs alone, so that one bad
input costs its neighbours nothing but time.
"""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["MicroBatcher"]

Arrays = Sequence[npt.NDArray[Any]]


@dataclass(eq=False)
class _Asked:
    batch: npt.NDArray[np.float32]
    done: bool = False
    arrays: Arrays = ()
    error: Exception | None = field(default=None)


class MicroBatcher:
    """A function of a batch, called by several threads, run by one at a time.

    Parameters
    ----------
    run
        Takes (n, ...) and returns arrays of n rows each; any n from 1.
    largest
        Images that one run gains by; 1: nothing is ever put together.
    wait_s
        Longest wait for others.
    expected
        How many askers there may be now, whoever asks included; with one, nobody waits.
    """

    def __init__(
        self,
        run: Callable[[npt.NDArray[np.float32]], Arrays],
        largest: int,
        *,
        wait_s: float = 0.0,
        expected: Callable[[], int] = lambda: 1,
    ) -> None:
        self._run = run
        self._largest = largest
        self._wait_s = wait_s
        self._expected = expected
        self._turn = threading.Lock()
        self._changed = threading.Condition()
        self._waiting: list[_Asked] = []

    def __call__(self, batch: npt.NDArray[np.float32]) -> Arrays:
        """Run for these images, alone or in company; raises what `run` raises."""
        if len(batch) >= self._largest:
            with self._turn:
                return self._run(batch)
        asked = _Asked(batch)
        with self._changed:
            self._waiting.append(asked)
            self._changed.notify_all()
        with self._turn:
            if not asked.done:
                self._run_together(self._gather(asked))
        if asked.error is not None:
            raise asked.error
        return asked.arrays

    def _gather(self, first: _Asked) -> list[_Asked]:
        """Wait for others within the bounds, and take what fits into one run."""
        deadline = time.monotonic() + self._wait_s
        with self._changed:
            while (
                sum(len(one.batch) for one in self._waiting) < self._largest
                and len(self._waiting) < self._expected()
                and (left := deadline - time.monotonic()) > 0
            ):
                self._changed.wait(left)
            taken, room = [first], self._largest - len(first.batch)
            for one in self._waiting:
                if one is not first and len(one.batch) <= room:
                    taken.append(one)
                    room -= len(one.batch)
            self._waiting = [one for one in self._waiting if one not in taken]
        return taken

    def _run_together(self, group: list[_Asked]) -> None:
        try:
            if len(group) > 1:
                together = self._run(np.concatenate([one.batch for one in group]))
                start = 0
                for one in group:
                    end = start + len(one.batch)
                    one.arrays = [array[start:end] for array in together]
                    one.done, start = True, end
                return
        except Exception:  # noqa: BLE001, S110 - each gets its own, alone, just below
            pass
        for one in group:
            try:
                one.arrays = self._run(one.batch)
            except Exception as error:  # noqa: BLE001 - raised by whoever asked
                one.error = error
            one.done = True
