"""Temperature and operating threshold, both from films that the network did not see."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["Calibration", "calibrate"]

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Calibration:
    """How one logit is read."""

    temperature: float
    threshold: float
    """Probability, after the temperature."""


def calibrate(logits: FloatArray, truth: BoolArray) -> Calibration:
    """Fit the temperature, then choose the threshold of highest balanced accuracy.

    Parameters
    ----------
    logits
        (n,), each by a network that was not trained on the image's patient.
    truth
        (n,); both classes must occur.

    Source
    ------
    Guo et al. 2017, On calibration of modern neural networks (temperature scaling);
    Youden 1950 (the threshold).
    """
    temperature = round(_temperature(logits, truth), 4)
    threshold = round(_threshold(_sigmoid(logits / temperature), truth), 4)
    return Calibration(temperature, min(max(threshold, 0.001), 0.999))


def _temperature(logits: FloatArray, truth: BoolArray) -> float:
    signs = np.where(truth, 1.0, -1.0)

    def loss(logarithm: float) -> float:
        return float(np.logaddexp(0, -signs * logits / np.exp(logarithm)).mean())

    # The loss is convex in 1/T, so it has one valley in log T: golden section finds it.
    low, high, golden = np.log(0.05), np.log(50.0), (np.sqrt(5) - 1) / 2
    while high - low > 1e-5:
        left, right = high - golden * (high - low), low + golden * (high - low)
        low, high = (low, right) if loss(left) < loss(right) else (left, high)
    return float(np.exp((low + high) / 2))


def _threshold(probabilities: FloatArray, truth: BoolArray) -> float:
    order = np.argsort(probabilities)
    ranked, positive = probabilities[order], truth[order]
    # Cut k lies below the k-th value: everything from k on is called positive.
    missed = np.r_[0, np.cumsum(positive)] / positive.sum()
    spared = np.r_[0, np.cumsum(~positive)] / (~positive).sum()
    cuts = np.r_[0.0, (ranked[1:] + ranked[:-1]) / 2, 1.0]
    gain = spared - missed
    best = np.flatnonzero(gain >= gain.max() - 1e-12)
    return float(np.median(cuts[best]))


def _sigmoid(values: FloatArray) -> FloatArray:
    return 0.5 * (1.0 + np.tanh(values / 2.0))
