"""A function over many items in threads: in order, bounded, with the first error first.

It pays only where the function lets go of the interpreter's lock, as the codecs of
imagecodecs, large NumPy operations and OpenCV do (`decoders` says which were measured).
"""

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

__all__ = ["ordered_map", "usable_cores"]

Item = TypeVar("Item")
Result = TypeVar("Result")


def usable_cores() -> int:
    """Count the processor cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def ordered_map(
    function: Callable[[Item], Result], items: Iterable[Item], *, threads: int
) -> Generator[Result, None, None]:
    """Apply a function to items in threads and yield the results in order.

    Parameters
    ----------
    function
        Called in a thread of its own pool; with one thread, in the caller's.
    items
        Asked for in the caller's thread, one at a time and no earlier than a thread is
        free for it.
    threads
        At most this many results exist or are being made while the caller holds one.

    Yields
    ------
    One result for each item. The first item, in their order, for which `items` or
    `function` raises ends the iteration with that very error, after the results of all
    items before it; what was begun behind it is waited for and dropped.

    No thread outlives the iteration. One that is left early must be closed (or dropped,
    which closes it); the calls that are under way are then waited for.
    """
    if threads <= 1:
        yield from map(function, items)
        return
    with ThreadPoolExecutor(threads, thread_name_prefix="pixels") as pool:
        pending: deque[Future[Result]] = deque()
        try:
            for item in _then_error(items, pending):
                pending.append(pool.submit(function, item))
                if len(pending) >= threads:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()


def _then_error(
    items: Iterable[Item], pending: deque[Future[Result]]
) -> Generator[Item, None, None]:
    """Yield the items; put an error of theirs in its place behind the results."""
    iterator = iter(items)
    while True:
        try:
            item = next(iterator)
        except StopIteration:
            return
        except Exception as error:  # noqa: BLE001 - raised again when its turn comes
            failed: Future[Result] = Future()
            failed.set_exception(error)
            pending.append(failed)
            return
        yield item
