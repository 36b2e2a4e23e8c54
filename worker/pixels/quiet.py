"""Library calls that may warn, one at a time.

pydicom's warnings quote values, which would bring a patient's data into a log, and tell
what is checked here anyway. Python keeps its filters for the whole process, so two
threads that change and restore them would undo each other: only one may.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from threading import RLock

__all__ = ["quiet"]

_ONE_AT_A_TIME = RLock()


@contextmanager
def quiet() -> Iterator[None]:
    """Ignore warnings of the calls inside; other threads wait at their own `quiet`."""
    with _ONE_AT_A_TIME, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
