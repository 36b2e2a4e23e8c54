"""Threads over items: order, bound, errors and an end are exact."""

import threading
import time

import pytest

from worker.pixels.parallel import ordered_map


def _pool_threads() -> list[threading.Thread]:
    return [t for t in threading.enumerate() if t.name.startswith("pixels")]


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_results_come_in_the_order_of_their_items(threads):
    def slow_first(number: int) -> int:
        time.sleep(0.02 if number % 3 == 0 else 0)
        return number * number

    results = list(ordered_map(slow_first, range(12), threads=threads))

    assert results == [n * n for n in range(12)]


def test_calls_run_at_the_same_time():
    both = threading.Barrier(2, timeout=20)

    results = list(ordered_map(lambda _: both.wait() >= 0, range(4), threads=2))

    assert results == [True] * 4


def test_no_more_results_exist_than_threads():
    asked = []

    def items():
        for number in range(20):
            asked.append(number)
            yield number

    results = ordered_map(lambda number: number, items(), threads=3)
    for seen, _ in enumerate(results, start=1):
        # The one that the caller holds, and one for each thread.
        assert len(asked) <= seen + 3


@pytest.mark.parametrize("threads", [1, 3])
def test_the_first_error_in_order_is_the_error_though_a_later_one_comes_sooner(threads):
    def fails(number: int) -> int:
        if number == 4:
            time.sleep(0.05)
            raise ValueError("fourth")
        if number == 5:
            raise KeyError("fifth")
        return number

    results = []
    with pytest.raises(ValueError, match="fourth"):
        results.extend(ordered_map(fails, range(9), threads=threads))

    assert _pool_threads() == []


@pytest.mark.parametrize("threads", [1, 3])
def test_an_error_of_the_items_comes_behind_the_results_before_it(threads):
    def items():
        yield 1
        yield 2
        raise OSError("the third is gone")

    results = ordered_map(lambda number: number, items(), threads=threads)

    assert [next(results), next(results)] == [1, 2]
    with pytest.raises(OSError, match="third"):
        next(results)


def test_an_iteration_left_early_leaves_no_thread_and_asks_for_no_more():
    asked = []

    def items():
        for number in range(100):
            asked.append(number)
            yield number

    results = ordered_map(lambda number: number, items(), threads=3)
    next(results)
    results.close()

    assert _pool_threads() == []
    assert len(asked) <= 4
