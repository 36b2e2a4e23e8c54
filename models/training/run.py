"""A whole training run: folds for honest figures, then the network that is shipped.

Imports Keras through `models.training.fit`.
"""

import csv
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from core.errors import InvalidSettings
from models.films import Film, load_image, read_index
from models.preparation import resize
from models.training.fit import EpochReport, fit, predict_logits, strip_training
from models.training.folds import grouped_folds
from models.training.plan import TrainingPlan

__all__ = ["OUT_OF_FOLD_NAME", "TrainingResult", "train"]

OUT_OF_FOLD_NAME = "out-of-fold.csv"

FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True)
class TrainingResult:
    """Where a run's results lie."""

    model: Path
    """`.keras` file of the network fitted to all films, without its optimizer."""
    out_of_fold: Path
    """CSV: file, label, group_id, fold, and the logit of the network that did not see
    the patient."""


def train(
    data: Path,
    work: Path,
    plan: TrainingPlan | None = None,
    *,
    report: Callable[[EpochReport], None] = lambda _: None,
) -> TrainingResult:
    """Cross-validate, then fit on every film; go on where a stopped run ended.

    Parameters
    ----------
    data
        Folder of films with an `index.csv` (see `models.films`).
    work
        Where checkpoints and results go. Finished parts found there are kept.
    plan
        The run; by default that of the shipped lung model.
    report
        Called after each epoch.

    Raises
    ------
    InvalidSettings
        If the data is unfit, or `work` holds a run of another plan.
    """
    plan = plan or TrainingPlan()
    _claim(work, plan)
    films = read_index(data)
    positive = [film.label == plan.positive_label for film in films]
    targets = np.array(positive, np.float32)
    if targets.min() == targets.max():
        raise InvalidSettings(
            f"All films in {data} are of one class; both the label "
            f"{plan.positive_label!r} and another are needed."
        )
    images = np.stack([resize(load_image(film.path), plan.input) for film in films])
    folds = grouped_folds(
        [film.label for film in films],
        [film.group for film in films],
        count=plan.folds,
        seed=plan.seed,
    )
    logits = np.empty(len(films))
    for fold in range(plan.folds):
        held = folds == fold
        logits[held] = _held_out_logits(
            images, targets, plan, held=held, folder=work / f"fold-{fold + 1}",
            report=report,
        )  # fmt: skip
    out_of_fold = work / OUT_OF_FOLD_NAME
    _write_out_of_fold(out_of_fold, data, films, folds, logits)
    final = fit(images, targets, plan, folder=work / "final", report=report)
    model_path = work / "model.keras"
    strip_training(final, plan).save(model_path)
    return TrainingResult(model_path, out_of_fold)


def _held_out_logits(
    images: FloatArray,
    targets: FloatArray,
    plan: TrainingPlan,
    *,
    held: npt.NDArray[np.bool_],
    folder: Path,
    report: Callable[[EpochReport], None],
) -> npt.NDArray[np.float64]:
    kept = folder / "logits.npy"
    if kept.exists():
        return np.asarray(np.load(kept, allow_pickle=False), np.float64)
    model = fit(images[~held], targets[~held], plan, folder=folder, report=report)
    logits = predict_logits(model, images[held], plan)
    np.save(kept, logits)
    return logits


def _claim(work: Path, plan: TrainingPlan) -> None:
    work.mkdir(parents=True, exist_ok=True)
    kept = work / "plan.json"
    if kept.exists() and kept.read_text() != plan.to_json():
        raise InvalidSettings(
            f"{kept} describes another run than the one asked for; take another folder "
            "or the same plan."
        )
    kept.write_text(plan.to_json())


def _write_out_of_fold(
    path: Path,
    data: Path,
    films: Sequence[Film],
    folds: npt.NDArray[np.int64],
    logits: npt.NDArray[np.float64],
) -> None:
    with path.open("w", newline="", encoding="utf-8") as lines:
        writer = csv.writer(lines)
        writer.writerow(["file", "label", "group_id", "fold", "logit"])
        for film, fold, logit in zip(films, folds, logits, strict=True):
            name = film.path.relative_to(data).as_posix()
            writer.writerow(
                [name, film.label, film.group, fold + 1, repr(float(logit))]
            )
