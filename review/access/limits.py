"""Slows down whoever guesses passwords, by account and by address."""

import threading
import time
from collections import deque
from collections.abc import Callable

__all__ = ["AttemptLimit"]

WINDOW_S = 300.0
_REMEMBERED = 10_000


class AttemptLimit:
    """Counts failed attempts of the last five minutes by whatever names them.

    In memory: a restart forgets them, which costs an attacker more than it gives.

    Parameters
    ----------
    maximum
        Failures after which a name has to wait.
    clock
        Monotonic seconds.
    """

    def __init__(
        self, maximum: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._maximum = maximum
        self._clock = clock
        self._failures: dict[str, deque[float]] = {}
        self._lock = threading.Lock()

    def waits(self, *names: str) -> bool:
        """Tell whether one of these names has failed too often."""
        with self._lock:
            return any(self._recent(name) >= self._maximum for name in names)

    def failed(self, *names: str) -> None:
        """Count a failure for each of these names."""
        with self._lock:
            for name in names:
                if len(self._failures) >= _REMEMBERED:
                    self._failures.pop(next(iter(self._failures)))
                self._failures.setdefault(name, deque(maxlen=self._maximum)).append(
                    self._clock()
                )

    def succeeded(self, name: str) -> None:
        """Forget the failures of an account whose owner is in."""
        with self._lock:
            self._failures.pop(name, None)

    def _recent(self, name: str) -> int:
        found = self._failures.get(name, ())
        return sum(1 for at in found if at > self._clock() - WINDOW_S)
