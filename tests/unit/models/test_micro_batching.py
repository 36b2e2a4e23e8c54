"""Images of several askers in one run: bounded, and nobody's answer depends on it."""

import threading
import time

import numpy as np
import pytest

from models.batching import MicroBatcher
from models.loaded import LoadedModel
from models.runtimes.tensorflow import TensorFlowRuntime


class Counted:
    """A function of a batch that notes the sizes of its runs."""

    def __init__(self, fails=lambda batch: False, seconds=0.0):
        self.sizes = []
        self.fails = fails
        self.seconds = seconds

    def __call__(self, batch):
        self.sizes.append(len(batch))
        time.sleep(self.seconds)
        if self.fails(batch):
            raise RuntimeError("out of memory")
        return [batch * 2, batch.sum(axis=1)]


def ask_all(batcher, batches):
    """Ask from as many threads at once; returns answers and errors, in order."""
    found = [None] * len(batches)
    start = threading.Barrier(len(batches))

    def ask(number):
        start.wait()
        try:
            found[number] = batcher(batches[number])
        except RuntimeError as error:
            found[number] = error

    threads = [threading.Thread(target=ask, args=(n,)) for n in range(len(batches))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    return found


def batch(value, count=1):
    return np.full((count, 3), value, np.float32)


def test_images_of_several_askers_run_together_and_each_gets_its_own():
    run = Counted()
    batcher = MicroBatcher(run, 8, wait_s=10, expected=lambda: 3)

    found = ask_all(batcher, [batch(1), batch(2, 2), batch(3)])

    assert run.sizes == [4]
    for value, count, (doubled, sums) in zip((1, 2, 3), (1, 2, 1), found, strict=True):
        assert np.array_equal(doubled, batch(2 * value, count))
        assert np.array_equal(sums, np.full(count, 3 * value))


def test_nobody_waits_when_nobody_else_is_expected():
    batcher = MicroBatcher(Counted(), 8, wait_s=30, expected=lambda: 1)
    began = time.monotonic()

    batcher(batch(1))

    assert time.monotonic() - began < 10


def test_the_wait_for_others_is_bounded():
    batcher = MicroBatcher(Counted(), 8, wait_s=0.1, expected=lambda: 5)
    began = time.monotonic()

    batcher(batch(1))

    assert 0.1 <= time.monotonic() - began < 10


def test_a_run_holds_no_more_images_than_it_gains_by():
    run = Counted(seconds=0.01)
    batcher = MicroBatcher(run, 4, wait_s=10, expected=lambda: 6)

    found = ask_all(batcher, [batch(n) for n in range(6)])

    assert max(run.sizes) <= 4
    assert sum(run.sizes) == 6
    assert all(one[0][0, 0] == 2 * n for n, one in enumerate(found))


def test_many_images_of_one_asker_wait_for_nobody():
    run = Counted()
    batcher = MicroBatcher(run, 4, wait_s=30, expected=lambda: 9)

    batcher(batch(1, 11))

    assert run.sizes == [11]


def test_one_bad_input_does_not_fail_its_neighbours():
    run = Counted(fails=lambda given: (given == 666).any())
    batcher = MicroBatcher(run, 8, wait_s=10, expected=lambda: 3)

    good, bad, other = ask_all(batcher, [batch(1), batch(666), batch(2)])

    assert isinstance(bad, RuntimeError)
    assert good[0][0, 0] == 2
    assert other[0][0, 0] == 4


def test_an_answer_that_is_not_finite_is_refused_to_its_own_asker_alone(tiny_bundle):
    from core.errors import ModelOutputInvalid

    class NaNForBlack:
        name, largest_batch = "test", 8

        def run(self, images):
            means = images.mean(axis=(1, 2))
            return [np.where(means == 0, np.nan, means).astype(np.float32)]

    model = LoadedModel(tiny_bundle, NaNForBlack())
    model.put_together(10, lambda: 2)
    found = {}

    def ask(name, value):
        try:
            image = np.full((1, 16, 16, 1), value, np.float32)
            found[name] = float(model.logits(image)[0, 0])
        except ModelOutputInvalid as error:
            found[name] = error

    threads = [
        threading.Thread(target=ask, args=("bad", 0.0)),
        threading.Thread(target=ask, args=("good", 0.5)),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)

    assert isinstance(found["bad"], ModelOutputInvalid)
    assert found["good"] == pytest.approx(0.5)


def test_in_tensorflow_an_answer_does_not_depend_on_the_company(tiny_bundle):
    model = LoadedModel(tiny_bundle, TensorFlowRuntime(tiny_bundle, 1))
    images = np.random.default_rng(0).random((5, 1, 16, 16, 1), "f4")
    alone = [model.logits(image) for image in images]
    model.put_together(10, lambda: len(images))
    found = {}
    threads = [
        threading.Thread(target=lambda n=n: found.update({n: model.logits(images[n])}))
        for n in range(len(images))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    for number, expected in enumerate(alone):
        assert np.abs(found[number] - expected).max() <= 1e-6
