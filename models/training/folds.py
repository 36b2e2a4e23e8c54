"""Folds that never split a patient and keep the classes' shares."""

from collections import Counter, defaultdict
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from core.errors import InvalidSettings

__all__ = ["grouped_folds"]


def grouped_folds(
    labels: Sequence[str], groups: Sequence[str], *, count: int, seed: int
) -> npt.NDArray[np.int64]:
    """Deal images into folds, whole groups at a time.

    Groups are shuffled, then the largest go first, each to the fold that holds the
    fewest images of the group's commonest label.

    Parameters
    ----------
    labels, groups
        Of each image.
    count
        How many folds.
    seed
        Same seed, same folds.

    Returns
    -------
    (images,), the fold of each image from 0.

    Raises
    ------
    InvalidSettings
        If there are fewer groups than folds.
    """
    members: dict[str, list[int]] = defaultdict(list)
    for index, group in enumerate(groups):
        members[group].append(index)
    if len(members) < count or count < 2:
        raise InvalidSettings(
            f"{len(members)} patient groups cannot make {count} folds; at least two "
            "folds and one group for each are needed."
        )
    names = sorted(members)
    np.random.default_rng(seed).shuffle(names)
    names.sort(key=lambda name: -len(members[name]))  # stable: keeps the shuffle
    held: list[Counter[str]] = [Counter() for _ in range(count)]
    folds = np.empty(len(groups), np.int64)
    for name in names:
        counts = Counter(labels[index] for index in members[name])
        commonest = counts.most_common(1)[0][0]
        fold = min(range(count), key=lambda f: (held[f][commonest], held[f].total(), f))
        held[fold].update(counts)
        folds[members[name]] = fold
    return folds
