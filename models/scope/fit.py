"""Fit a guard of scope to a training run, and measure it on films it has not seen.

For each fold of the run, the guard is fitted to that fold's training films alone, on
the features of that fold's network, and its limit is set among them; the films held out
have a part in neither. The guard that is shipped is made by the same steps of the
network that is shipped and all films.
"""

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from core.errors import InvalidSettings
from models.films import load_image, read_index
from models.preparation import prepare
from models.runtimes.tensorflow import with_features
from models.scope.guard import ScopeGuard, vectors
from models.training.folds import grouped_folds
from models.training.plan import TrainingPlan

__all__ = ["QUANTILE", "FittedScope", "PassRate", "fit_guard", "fit_run", "set_limit"]

QUANTILE = 0.99
"""Share of training films, each judged by a guard that did not see it, that is to pass.
Fixed beforehand: one percent above the goal of 98."""
PICTURE_SIDE = 16
_INNER_FOLDS = 5
_BATCH = 128
_RESAMPLES = 1000

FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True)
class PassRate:
    """How many held-out films pass, with a 95 % interval by patient."""

    images: int
    passed: int
    value: float
    low: float
    high: float


@dataclass(frozen=True, eq=False)
class FittedScope:
    """A guard for the network that is shipped, and what it may be trusted with."""

    guard: ScopeGuard
    layer: str
    picture_side: int
    limit: float
    folds: tuple[PassRate, ...]
    """Of each held-out fold, by its own network, guard and limit."""
    together: PassRate
    """Of all held-out folds."""


def fit_guard(given: FloatArray) -> ScopeGuard:
    """Fit one Gaussian to training vectors.

    Parameters
    ----------
    given
        (n, d).

    Source
    ------
    Ledoit and Wolf 2004, A well-conditioned estimator for large-dimensional covariance
    matrices (shrinkage towards a multiple of the identity, on standardised vectors).
    """
    exact = given.astype(np.float64)
    mean = exact.mean(axis=0)
    # A feature that never varies in training must not weigh infinitely.
    deviation = np.maximum(exact.std(axis=0), 1e-6)
    standard = (exact - mean) / deviation
    count, length = standard.shape
    sample = standard.T @ standard / count
    scale = np.trace(sample) / length
    spread = np.square(sample - scale * np.eye(length)).sum()
    fourth = np.square(np.square(standard).sum(axis=1)).sum() / count
    error = min((fourth - np.square(sample).sum()) / count, spread)
    shrinkage = error / spread if spread > 0 else 0.0
    covariance = (1 - shrinkage) * sample + shrinkage * scale * np.eye(length)
    # W' W = inverse of the covariance, with W upper triangular.
    upper = np.linalg.cholesky(np.linalg.inv(covariance)).T
    return ScopeGuard(mean.astype(np.float32), (upper / deviation).astype(np.float32))


def set_limit(given: FloatArray, groups: Sequence[str]) -> float:
    """Find the distance within which `QUANTILE` of unseen films would lie.

    Each film is judged by a guard fitted to other patients: its own guard finds every
    film too near.

    Parameters
    ----------
    given
        (n, d) training vectors.
    groups
        The patient of each.
    """
    parts = np.array([zlib.crc32(group.encode()) % _INNER_FOLDS for group in groups])
    distances = np.empty(len(given))
    for part in np.unique(parts):
        held = parts == part
        distances[held] = fit_guard(given[~held]).distances(given[held])
    return float(np.quantile(distances, QUANTILE))


def fit_run(
    data: Path, work: Path, *, report: Callable[[str], None] = lambda _: None
) -> FittedScope:
    """Fit the guard of a finished training run.

    Parameters
    ----------
    data
        The films of the run.
    work
        Its folder, with `fold-N/epoch-*.keras` and `model.keras`.
    report
        Called with a line of text after each network.

    Raises
    ------
    InvalidSettings
        If the run is not finished.
    """
    plan = TrainingPlan()
    films = read_index(data)
    groups = np.array([film.group for film in films])
    folds = grouped_folds(
        [film.label for film in films], list(groups), count=plan.folds, seed=plan.seed
    )
    inputs = np.stack([prepare(load_image(film.path), plan.input) for film in films])
    rates, all_passed = [], np.empty(len(films), bool)
    for fold in range(plan.folds):
        held = folds == fold
        network = _last_checkpoint(work / f"fold-{fold + 1}")
        given, _ = _run_vectors(network, inputs)
        limit = set_limit(given[~held], list(groups[~held]))
        distances = fit_guard(given[~held]).distances(given[held])
        all_passed[held] = distances <= limit
        rates.append(pass_rate(all_passed[held], groups[held]))
        report(f"fold {fold + 1}: {rates[-1]}")
    given, layer = _run_vectors(work / "model.keras", inputs)
    return FittedScope(
        guard=fit_guard(given),
        layer=layer,
        picture_side=PICTURE_SIDE,
        limit=set_limit(given, list(groups)),
        folds=tuple(rates),
        together=pass_rate(all_passed, groups),
    )


def pass_rate(passed: npt.NDArray[np.bool_], groups: npt.NDArray[np.str_]) -> PassRate:
    """Give the share that passes, with a bootstrap interval by patient."""
    _, of_film = np.unique(groups, return_inverse=True)
    counts = np.bincount(of_film)
    sums = np.bincount(of_film, weights=passed)
    random = np.random.default_rng(0)
    drawn = random.integers(0, len(counts), (_RESAMPLES, len(counts)))
    shares = sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1)
    low, high = np.quantile(shares, [0.025, 0.975])
    return PassRate(
        images=len(passed),
        passed=int(passed.sum()),
        value=float(passed.mean()),
        low=float(low),
        high=float(high),
    )


def _last_checkpoint(folder: Path) -> Path:
    checkpoints = sorted(folder.glob("epoch-*.keras"))
    if not checkpoints:
        raise InvalidSettings(
            f"{folder} holds no network; finish the run with "
            "`python -m models.training DATA WORK` first."
        )
    return checkpoints[-1]


def _run_vectors(path: Path, inputs: FloatArray) -> tuple[FloatArray, str]:
    # Only fitting and serving need Keras, not the reading of a bundle.
    from keras.layers import GlobalAveragePooling2D  # noqa: PLC0415
    from keras.saving import load_model  # noqa: PLC0415

    network: Any = load_model(path, compile=False, safe_mode=True)
    pooled = [one for one in network.layers if isinstance(one, GlobalAveragePooling2D)]
    layer = str(pooled[-1].name)
    both = with_features(network, layer)
    parts = []
    for start in range(0, len(inputs), _BATCH):
        batch = inputs[start : start + _BATCH]
        _, features = both(batch, training=False)
        parts.append(vectors(np.asarray(features), batch, PICTURE_SIDE))
    return np.concatenate(parts), layer
