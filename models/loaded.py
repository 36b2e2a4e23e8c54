"""A network in memory that has proved itself on its golden cases, and what it answers.

Which runtime calculates is no matter here: `models.runtime` chooses one.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from core.errors import InternalError, InvalidBundle, ModelOutputInvalid
from models.batching import MicroBatcher
from models.bundle import Bundle
from models.preparation import prepare
from models.runtimes.seam import FloatArray, Runtime
from models.scope.guard import ScopeGuard, vectors

__all__ = ["Answer", "Considered", "LoadedModel"]

_PREPARATION_TOLERANCE = 1e-2
_TIMED_RUNS = 5


@dataclass(frozen=True)
class Considered:
    """A runtime that could serve a bundle, and whether it does."""

    name: str
    serves: bool
    why: str
    """Of the one that serves, what made it so; of the others, what is against them."""
    seconds: float | None = None
    """For one image, as measured at loading."""


@dataclass(frozen=True, eq=False)
class Answer:
    """What a network said of some images."""

    logits: FloatArray
    """(n, outputs), finite."""
    distances: npt.NDArray[np.float64] | None
    """(n,), from the training images; None if the bundle has no guard of scope."""


class LoadedModel:
    """A network in memory that has passed its golden cases.

    Parameters
    ----------
    bundle
        What it was loaded from.
    runtime
        The network, giving logits; logits and features if the bundle has a guard of
        scope.
    """

    def __init__(self, bundle: Bundle, runtime: Runtime) -> None:
        self.bundle = bundle
        self.runtime = runtime
        self._batcher = MicroBatcher(self._ask, runtime.largest_batch)
        self.seconds_to_load = 0.0
        """From reading the file to the last golden case."""
        self.bytes = 0
        """How much the process grew for it, or its file's size if that is more."""
        self.considered: tuple[Considered, ...] = ()
        """Every runtime that could serve it, and why it does or does not."""
        self._guard: ScopeGuard | None = bundle.scope_guard()

    def logits(self, batch: FloatArray) -> FloatArray:
        """Ask the network, whatever the image; parameters and errors as for `answer`.

        Returns
        -------
        (n, outputs), float32, finite.
        """
        return self.answer(batch).logits

    def answer(self, batch: FloatArray) -> Answer:
        """Ask the network, and how far each image lies from its training images.

        Parameters
        ----------
        batch
            (n, rows, columns, channels), float32, as `models.preparation.prepare`
            makes each; n from 1.

        Raises
        ------
        ModelOutputInvalid
            If an output is NaN or infinite.
        InternalError
            If the batch has another shape or type.
        """
        given = self.bundle.input
        expected = (given.rows, given.columns, given.channels)
        if batch.shape[1:] != expected or not len(batch) or batch.dtype != np.float32:
            raise InternalError(
                f"A batch for {self.bundle.name} is (n, {expected}) float32, not "
                f"{batch.shape} {batch.dtype}."
            )
        answers, *more = self._batcher(batch)
        features = more[0] if more else None
        if answers.shape != (len(batch), len(self.bundle.outputs)):
            raise ModelOutputInvalid(
                f"{self.bundle.name} {self.bundle.version} answered in shape "
                f"{answers.shape}; its manifest describes "
                f"{len(self.bundle.outputs)} output(s) an image. Pack it again."
            )
        if not np.isfinite(answers).all():
            raise ModelOutputInvalid(
                f"{self.bundle.name} {self.bundle.version} answered with values that "
                "are not finite. Check the bundle and the image; nothing is reported."
            )
        return Answer(answers, self._distances(features, batch))

    def _distances(
        self, features: FloatArray | None, batch: FloatArray
    ) -> npt.NDArray[np.float64] | None:
        if self._guard is None or self.bundle.scope is None or features is None:
            return None
        side = self.bundle.scope.picture_side
        expected = len(self._guard.mean) - side**2
        if features.shape != (len(batch), expected):
            raise InvalidBundle(
                f"Layer {self.bundle.scope.layer} of {self.bundle.name} "
                f"{self.bundle.version} gives {features.shape}; its guard of scope "
                f"was fitted to {expected} features an image. Pack it again."
            )
        distances = self._guard.distances(vectors(features, batch, side))
        if not np.isfinite(distances).all():
            raise ModelOutputInvalid(
                f"{self.bundle.name} {self.bundle.version} gave features that are not "
                "finite. Check the bundle and the image; nothing is reported."
            )
        return distances

    def put_together(self, wait_s: float, expected: Callable[[], int]) -> None:
        """Let images of several askers run together; see `MicroBatcher`.

        Parameters
        ----------
        wait_s
            Longest wait for others.
        expected
            How many askers there may be now, whoever asks included.
        """
        self._batcher = MicroBatcher(
            self._ask, self.runtime.largest_batch, wait_s=wait_s, expected=expected
        )

    def _ask(self, batch: FloatArray) -> list[FloatArray]:
        """Run the network in the shapes that it is compiled for."""
        if len(batch) == 1:
            return self._parts(batch)
        size = self.runtime.largest_batch
        parts: list[list[FloatArray]] = []
        for start in range(0, len(batch), size):
            part = batch[start : start + size]
            # Filled up, so that the runtime never meets another shape.
            filled = np.zeros((size, *batch.shape[1:]), np.float32)
            filled[: len(part)] = part
            parts.append([array[: len(part)] for array in self._parts(filled)])
        return [np.concatenate(arrays) for arrays in zip(*parts, strict=True)]

    def _parts(self, batch: FloatArray) -> list[FloatArray]:
        arrays = [np.asarray(one, np.float32) for one in self.runtime.run(batch)]
        return arrays[:1] if self._guard is None else arrays

    def prove(self, tolerance: float) -> None:
        """Hold the network against the golden cases, and so warm it up.

        Parameters
        ----------
        tolerance
            Largest accepted difference of a logit.

        Raises
        ------
        InvalidBundle
            If a case comes out otherwise than when the bundle was packed.
        """
        _prove(self, tolerance)

    def seconds_an_image(self) -> float:
        """Measure one image: the best of some runs, as other work only slows down."""
        one = self.bundle.golden_cases().inputs[:1]
        best = np.inf
        for _ in range(_TIMED_RUNS):
            began = time.perf_counter()
            self.runtime.run(one)
            best = min(best, time.perf_counter() - began)
        return float(best)


def _prove(model: LoadedModel, tolerance: float) -> None:
    bundle = model.bundle
    cases = bundle.golden_cases()
    prepared = np.stack([prepare(i, bundle.input) for i in cases.display_images()])
    _compare(bundle, "prepared input", prepared, cases.inputs, _PREPARATION_TOLERANCE)
    try:
        singly = [model.answer(one[np.newaxis]) for one in cases.inputs]
        together = model.answer(cases.inputs)
    except ModelOutputInvalid as error:
        raise InvalidBundle(f"A golden case gave no valid answer: {error}") from error
    alone = np.concatenate([answer.logits for answer in singly])
    for logits in (alone, together.logits):
        _compare(bundle, "logit", logits, cases.logits, tolerance)
    if cases.distances is None or together.distances is None:
        return
    # Far from the training images a distance is large, and so is its rounding.
    unit = np.maximum(cases.distances, 1)
    kept = cases.distances / unit
    apart = np.array([answer.distances for answer in singly])[:, 0]
    for distances in (apart, together.distances):
        _compare(bundle, "distance", distances / unit, kept, tolerance)


def _compare(
    bundle: Bundle,
    what: str,
    found: npt.NDArray[np.floating],
    expected: npt.NDArray[np.floating],
    tolerance: float,
) -> None:
    difference = float(np.abs(found - expected).max())
    if not difference <= tolerance:
        raise InvalidBundle(
            f"{bundle.name} {bundle.version}: a golden case's {what} differs by "
            f"{difference:.3g} from the kept one; {tolerance:g} is allowed. This "
            "machine computes otherwise than the one that packed the bundle: check "
            "the versions of TensorFlow, Keras and OpenCV; the model is not served."
        )
