"""Fit one network to one set of films, epoch by epoch, with a checkpoint after each.

Imports Keras: only training does that, never the reading of a bundle.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from models.preparation import normalise
from models.training.augmentation import augment
from models.training.network import residual_network
from models.training.plan import TrainingPlan

__all__ = ["EpochReport", "fit", "predict_logits", "strip_training"]

FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True)
class EpochReport:
    """How far a fit has come."""

    part: str
    """`fold-1`, ..., `final`."""
    epoch: int
    """From 1."""
    epochs: int
    loss: float
    duration_s: float


def fit(
    images: FloatArray,
    targets: FloatArray,
    plan: TrainingPlan,
    *,
    folder: Path,
    report: Callable[[EpochReport], None],
) -> Any:
    """Train a network from random weights, or from its last checkpoint.

    Parameters
    ----------
    images
        (n, rows, columns), resized but not normalised, 0 to 1.
    targets
        (n,), 1 for the positive label and 0 for the others.
    plan
        The run.
    folder
        Where checkpoints are kept; its name names the part in reports.
    report
        Called after each epoch.

    Returns
    -------
    keras.Model after the last epoch.
    """
    folder.mkdir(parents=True, exist_ok=True)
    steps = len(images) // plan.batch_size
    model, done = _resume(folder, plan, steps)
    # Each class weighs as much as the other, however many films it has.
    share = float(targets.mean())
    weights = np.where(targets == 1, 0.5 / share, 0.5 / (1 - share)).astype(np.float32)
    part = sum(folder.name.encode())
    for epoch in range(done, plan.epochs):
        began = time.monotonic()
        random = np.random.default_rng([plan.seed, part, epoch])
        losses = [
            model.train_on_batch(
                _batch(images[chosen], plan, random),
                targets[chosen, np.newaxis],
                sample_weight=weights[chosen],
            )
            for chosen in _batches(len(images), plan.batch_size, random)
        ]
        _checkpoint(model, folder, epoch + 1)
        report(
            EpochReport(
                part=folder.name,
                epoch=epoch + 1,
                epochs=plan.epochs,
                # Keras returns the running mean since the model was compiled.
                loss=float(losses[-1]),
                duration_s=time.monotonic() - began,
            )
        )
        model.reset_metrics()
    return model


def predict_logits(
    model: Any, images: FloatArray, plan: TrainingPlan, *, batch_size: int = 128
) -> npt.NDArray[np.float64]:
    """Return (n,) logits of resized images, normalised as in serving."""
    parts = []
    for start in range(0, len(images), batch_size):
        batch = images[start : start + batch_size]
        prepared = np.stack([normalise(image, plan.input) for image in batch])
        parts.append(np.asarray(model(prepared, training=False), np.float64)[:, 0])
    return np.concatenate(parts)


def strip_training(model: Any, plan: TrainingPlan) -> Any:
    """Copy a network without its optimizer: what a bundle ships."""
    bare = residual_network(plan.input, stages=plan.stages)
    bare.set_weights(model.get_weights())
    return bare


def _resume(folder: Path, plan: TrainingPlan, steps: int) -> tuple[Any, int]:
    checkpoints = sorted(folder.glob("epoch-*.keras"))
    if checkpoints:
        last = checkpoints[-1]
        return keras.models.load_model(last), int(last.stem.removeprefix("epoch-"))
    keras.utils.set_random_seed(plan.seed + sum(folder.name.encode()))
    model = residual_network(plan.input, stages=plan.stages)
    rate = keras.optimizers.schedules.CosineDecay(
        initial_learning_rate=plan.learning_rate / 20,
        warmup_target=plan.learning_rate,
        warmup_steps=steps,
        decay_steps=max(1, steps * (plan.epochs - 1)),
    )
    model.compile(
        optimizer=keras.optimizers.AdamW(rate, weight_decay=plan.weight_decay),
        loss=keras.losses.BinaryCrossentropy(from_logits=True),
    )
    return model, 0


def _checkpoint(model: Any, folder: Path, epoch: int) -> None:
    # Whole under a temporary name first: a kill while writing leaves the one before.
    partial = folder / "partial.keras"
    model.save(partial)
    older = list(folder.glob("epoch-*.keras"))
    partial.rename(folder / f"epoch-{epoch:03d}.keras")
    for path in older:
        path.unlink()


def _batches(
    count: int, size: int, random: np.random.Generator
) -> Iterator[npt.NDArray[np.int64]]:
    # The last few of the shuffled films sit an epoch out: one shape, one traced graph.
    size = min(size, count)
    order = random.permutation(count)
    for start in range(0, count - size + 1, size):
        yield order[start : start + size]


def _batch(
    images: FloatArray, plan: TrainingPlan, random: np.random.Generator
) -> FloatArray:
    changed = (augment(image, plan.augmentation, random) for image in images)
    return np.stack([normalise(image, plan.input) for image in changed])
