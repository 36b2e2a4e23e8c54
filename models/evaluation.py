"""Measure a bundle on labelled images, or a training run on its held-out folds.

`python -m models.evaluation BUNDLE DATA` and
`python -m models.evaluation --out-of-fold CSV` print the figures as JSON.
"""

import argparse
import csv
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from core.errors import InvalidSettings
from models.bundle import Bundle, read_bundle
from models.calibration import calibrate, calibrated
from models.films import Film, load_image, read_index
from models.metrics import Answers, measure
from models.preparation import prepare
from models.readout import probabilities
from models.runtime import LoadedModel, load

__all__ = ["evaluate", "evaluate_out_of_fold"]

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]
_BATCH = 64


def evaluate(bundle_path: Path, data_path: Path) -> dict[str, Any]:
    """Measure a bundle's first output on a folder of labelled images.

    The images go through the preparation, network, calibration and threshold that a
    study goes through. Duplicates stay in: the folder is taken as it is.

    Parameters
    ----------
    bundle_path
        The bundle; nothing in it is changed or fitted.
    data_path
        Folder with `index.csv` (`models.films`). Rows whose label is the output's
        tracking identifier are positive, all others negative.

    Returns
    -------
    `bundle`, `images`, `patients`, `positive_images`, `threshold`, `metrics` (each with
    `value`, `low`, `high`: 95 % bootstrap interval by patient), `confusion` and
    `seconds_per_image`; fit for JSON.

    Raises
    ------
    InvalidBundle
        If the bundle does not pass its checks.
    InvalidSettings
        If the data is unfit.
    UnsupportedImage
        If an image cannot be read.
    """
    bundle = read_bundle(bundle_path)
    films = read_index(data_path, drop_duplicates=False)
    output = bundle.outputs[0]
    truth = np.array([film.label == output.tracking_identifier for film in films])
    _both_classes(truth, output.tracking_identifier, data_path)
    model = load(bundle)
    began = time.monotonic()
    logits = _logits(model, films)
    seconds = time.monotonic() - began
    chance = probabilities(logits, output)
    answers = Answers(logits, chance, chance >= output.threshold, truth)
    return {
        "bundle": _identity(bundle),
        "data": str(data_path),
        "threshold": output.threshold,
        **_figures(answers, [film.group for film in films]),
        "seconds_per_image": seconds / len(films),
    }


def evaluate_out_of_fold(
    path: Path, positive_label: str = "pneumonia"
) -> dict[str, Any]:
    """Measure a training run on the predictions of its held-out folds.

    For each fold, calibration and threshold are taken from the other folds, so that no
    film has a say in how it is judged itself.

    Parameters
    ----------
    path
        `out-of-fold.csv` of `models.training.run.train`.
    positive_label
        The label that counts as positive.

    Returns
    -------
    As `evaluate`, and `folds` with the figures of each fold, and `shipped`: the
    temperature, bias and threshold from all folds together, which the bundle gets.
    """
    with path.open(newline="", encoding="utf-8") as lines:
        rows = list(csv.DictReader(lines))
    logits = np.array([float(row["logit"]) for row in rows])
    truth = np.array([row["label"] == positive_label for row in rows])
    folds = np.array([int(row["fold"]) for row in rows])
    groups = [row["group_id"] for row in rows]
    _both_classes(truth, positive_label, path)
    chance, called = np.empty(len(rows)), np.empty(len(rows), bool)
    for fold in np.unique(folds):
        held = folds == fold
        others = calibrate(logits[~held], truth[~held])
        chance[held] = calibrated(logits[held], others.temperature, others.bias)
        called[held] = chance[held] >= others.threshold
    answers = Answers(logits, chance, called, truth)
    return {
        **_figures(answers, groups),
        "folds": [
            _figures(_part(answers, folds == fold), np.array(groups)[folds == fold])
            for fold in np.unique(folds)
        ],
        "shipped": asdict(calibrate(logits, truth)),
    }


def _logits(model: LoadedModel, films: Sequence[Film]) -> FloatArray:
    parts = []
    for start in range(0, len(films), _BATCH):
        batch = [
            prepare(load_image(film.path), model.bundle.input)
            for film in films[start : start + _BATCH]
        ]
        parts.append(model.logits(np.stack(batch))[:, 0].astype(np.float64))
    return np.concatenate(parts)


def _figures(answers: Answers, groups: Sequence[str]) -> dict[str, Any]:
    called, truth = answers.called, answers.truth
    return {
        "images": len(truth),
        "patients": len(set(groups)),
        "positive_images": int(truth.sum()),
        "metrics": {
            name: asdict(figure) for name, figure in measure(answers, groups).items()
        },
        "confusion": {
            "true_positive": int((called & truth).sum()),
            "false_positive": int((called & ~truth).sum()),
            "false_negative": int((~called & truth).sum()),
            "true_negative": int((~called & ~truth).sum()),
        },
    }


def _part(answers: Answers, chosen: BoolArray) -> Answers:
    return Answers(
        answers.scores[chosen],
        answers.probabilities[chosen],
        answers.called[chosen],
        answers.truth[chosen],
    )


def _identity(bundle: Bundle) -> dict[str, str]:
    return {
        "name": bundle.name,
        "version": bundle.version,
        "bundle_sha256": bundle.bundle_sha256,
        "weights_sha256": bundle.weights_sha256,
    }


def _both_classes(truth: BoolArray, label: str, source: Path) -> None:
    if truth.all() or not truth.any():
        raise InvalidSettings(
            f"Of {len(truth)} images in {source}, {int(truth.sum())} have the label "
            f"{label!r}; both positive and other images are needed to measure a model."
        )


def main() -> None:
    """Print the figures of a bundle or of a training run as JSON."""
    parser = argparse.ArgumentParser(prog="python -m models.evaluation")
    parser.add_argument("bundle", type=Path, nargs="?")
    parser.add_argument("data", type=Path, nargs="?")
    parser.add_argument("--out-of-fold", type=Path, metavar="CSV")
    given = parser.parse_args()
    if given.out_of_fold:
        figures = evaluate_out_of_fold(given.out_of_fold)
    elif given.bundle and given.data:
        figures = evaluate(given.bundle, given.data)
    else:
        parser.error("give BUNDLE and DATA, or --out-of-fold CSV")
    sys.stdout.write(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
