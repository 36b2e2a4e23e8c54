"""How good a binary classifier is, each figure with its uncertainty.

Patients, not images, are drawn anew for the intervals: several films of one child say
less than as many films of several children.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["METRICS", "Answers", "Figure", "measure"]

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

_CALIBRATION_BINS = 10


@dataclass(frozen=True)
class Answers:
    """What a classifier said of some images, and what is true."""

    scores: FloatArray
    """(n,), higher means more likely positive; what the area under the curve ranks."""
    probabilities: FloatArray
    """(n,), 0 to 1, calibrated."""
    called: BoolArray
    """(n,), whether the image was called positive at the operating threshold."""
    truth: BoolArray
    """(n,)."""


@dataclass(frozen=True)
class Figure:
    """One figure with its 95 % interval (percentile bootstrap)."""

    value: float
    low: float
    high: float


def measure(
    answers: Answers, groups: Sequence[str], *, resamples: int = 1000, seed: int = 0
) -> dict[str, Figure]:
    """Measure every metric, with 95 % intervals by resampling patients.

    Parameters
    ----------
    answers
        At least one positive and one negative.
    groups
        The patient of each image.
    resamples
        How many times patients are drawn with replacement.
    seed
        Same seed, same intervals.

    Source
    ------
    Efron and Tibshirani 1993, An introduction to the bootstrap, 13.3 (percentiles).
    """
    _, group_of = np.unique(np.asarray(groups), return_inverse=True)
    count = int(group_of.max()) + 1
    random = np.random.default_rng(seed)
    drawn: dict[str, list[float]] = {name: [] for name in METRICS}
    for _ in range(resamples):
        times = np.bincount(random.integers(0, count, count), minlength=count)
        weights = times[group_of].astype(np.float64)
        for name, metric in METRICS.items():
            drawn[name].append(metric(answers, weights))
    ones = np.ones(len(answers.truth))
    return {
        name: Figure(metric(answers, ones), *_interval(drawn[name]))
        for name, metric in METRICS.items()
    }


def _interval(values: list[float]) -> tuple[float, float]:
    # A draw without one of the classes has no such figure and is left out.
    finite = np.array(values)[np.isfinite(values)]
    if not len(finite):
        return float("nan"), float("nan")
    low, high = np.percentile(finite, [2.5, 97.5])
    return float(low), float(high)


def _auc(answers: Answers, weights: FloatArray) -> float:
    # Mann and Whitney: the weight of pairs ranked rightly, equal scores counting half.
    order = np.argsort(answers.scores, kind="stable")
    scores = answers.scores[order]
    starts = np.flatnonzero(np.r_[True, scores[1:] != scores[:-1]])
    positive = np.add.reduceat((weights * answers.truth)[order], starts)
    negative = np.add.reduceat((weights * ~answers.truth)[order], starts)
    below = np.cumsum(negative) - negative
    return _ratio(
        float(np.sum(positive * (below + negative / 2))),
        float(positive.sum() * negative.sum()),
    )


def _share(chosen: BoolArray, among: BoolArray, weights: FloatArray) -> float:
    return _ratio(float(weights[chosen & among].sum()), float(weights[among].sum()))


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else float("nan")


def _sensitivity(answers: Answers, weights: FloatArray) -> float:
    return _share(answers.called, answers.truth, weights)


def _specificity(answers: Answers, weights: FloatArray) -> float:
    return _share(~answers.called, ~answers.truth, weights)


def _balanced_accuracy(answers: Answers, weights: FloatArray) -> float:
    return (_sensitivity(answers, weights) + _specificity(answers, weights)) / 2


def _accuracy(answers: Answers, weights: FloatArray) -> float:
    right = answers.called == answers.truth
    return _share(right, np.ones_like(right), weights)


def _calibration_error(answers: Answers, weights: FloatArray) -> float:
    # Guo et al. 2017, equation 5: ten bins of equal width over the probability.
    bins = np.minimum((answers.probabilities * _CALIBRATION_BINS).astype(int), 9)
    gaps = weights * (answers.probabilities - answers.truth)
    summed = np.bincount(bins, gaps, minlength=_CALIBRATION_BINS)
    return _ratio(float(np.abs(summed).sum()), float(weights.sum()))


def _brier(answers: Answers, weights: FloatArray) -> float:
    squares = (answers.probabilities - answers.truth) ** 2
    return _ratio(float((weights * squares).sum()), float(weights.sum()))


METRICS: dict[str, Callable[[Answers, FloatArray], float]] = {
    "auc": _auc,
    "accuracy": _accuracy,
    "balanced_accuracy": _balanced_accuracy,
    "sensitivity": _sensitivity,
    "specificity": _specificity,
    "ece": _calibration_error,
    "brier": _brier,
}
"""Name to function of answers and (n,) weights."""
