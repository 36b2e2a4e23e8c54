"""From raw logits to probabilities and a decision, fitted on films not trained on."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["Calibration", "calibrate", "calibrated"]

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

# Slopes outside belong to networks that know nothing, or to too few films.
_SLOPES = (0.01, 100.0)


@dataclass(frozen=True)
class Calibration:
    """How one logit is read: probability = sigmoid(logit / temperature + bias)."""

    temperature: float
    bias: float
    threshold: float
    """Probability at and above which the finding is present."""


def calibrate(logits: FloatArray, truth: BoolArray) -> Calibration:
    """Fit temperature and bias, then the threshold of highest balanced accuracy.

    A bias is needed beside the temperature because training gives both classes the same
    weight, so that raw logits speak of a world in which half the films are positive.

    Parameters
    ----------
    logits
        (n,), each by a network that was not trained on the image's patient.
    truth
        (n,); both classes must occur.

    Source
    ------
    Platt 1999, Probabilistic outputs for support vector machines; Guo et al. 2017, On
    calibration of modern neural networks; Youden 1950 (the threshold).
    """
    slope, bias = _logistic_fit(logits, truth)
    temperature, bias = round(1 / slope, 4), round(bias, 4)
    threshold = _threshold(calibrated(logits, temperature, bias), truth)
    return Calibration(temperature, bias, round(min(max(threshold, 0.001), 0.999), 4))


def calibrated(
    logits: npt.ArrayLike, temperature: float, bias: float
) -> npt.NDArray[np.float64]:
    """Return the probabilities of logits, 0 to 1."""
    scaled: FloatArray = np.asarray(logits, np.float64) / temperature + bias
    # tanh does not overflow where exp would.
    return 0.5 * (1.0 + np.tanh(scaled / 2.0))


def _logistic_fit(logits: FloatArray, truth: BoolArray) -> tuple[float, float]:
    # Platt's targets, a little inside 0 and 1, keep the fit finite where the classes
    # are separated completely.
    positives, negatives = int(truth.sum()), int((~truth).sum())
    targets = np.where(truth, (positives + 1) / (positives + 2), 1 / (negatives + 2))
    features = np.column_stack([logits, np.ones(len(logits))])

    def loss(parameters: FloatArray) -> float:
        values = features @ parameters
        return float((np.logaddexp(0, values) - targets * values).sum())

    parameters = np.zeros(2)
    for _ in range(100):
        chance = 0.5 * (1.0 + np.tanh(features @ parameters / 2.0))
        gradient = features.T @ (chance - targets)
        curvature = (features * (chance * (1 - chance))[:, np.newaxis]).T @ features
        step = np.linalg.solve(curvature + 1e-9 * np.eye(2), gradient)
        size = 1.0
        while loss(parameters - size * step) > loss(parameters) and size > 1e-6:
            size /= 2  # Newton's step may overshoot; the loss is convex
        parameters = parameters - size * step
        if np.abs(size * step).max() < 1e-9:
            break
    return float(np.clip(parameters[0], *_SLOPES)), float(parameters[1])


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
