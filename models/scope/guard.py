"""How far an image lies from the training images, when its tags say nothing or lie.

What is compared is one vector an image: the features that the network itself computes
in a layer before its last, and a small picture of the network's input. The features see
texture and shape, but a network throws away what its own question does not need (which
way is up, where the heart lies); the small picture keeps that. The distance is
Mahalanobis', in units of the training images' own spread.
"""

import io
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from core.domain import NotAnalysedReason
from core.errors import InvalidBundle
from models.specification import ScopeSpecification

__all__ = [
    "SCOPE_NAME",
    "ScopeGuard",
    "image_note",
    "image_refusal",
    "read_guard",
    "vectors",
]

SCOPE_NAME = "scope.npz"
_KEYS = ("mean", "whitener")
_LARGEST_VECTOR = 4096
_LARGEST_BYTES = 4 * (_LARGEST_VECTOR + 1) * _LARGEST_VECTOR + 65536

FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class ScopeGuard:
    """Where the training images lie."""

    mean: FloatArray
    """(d,), of the training images' vectors."""
    whitener: FloatArray
    """(d, d), upper triangular, positive diagonal: W' W is the inverse covariance."""

    def distances(self, given: FloatArray) -> npt.NDArray[np.float64]:
        """Return how far each image lies from the training images.

        Parameters
        ----------
        given
            (n, d), as `vectors` makes them.

        Returns
        -------
        (n,), 0 or more; Mahalanobis' distance divided by the root of d, so that about 1
        is usual.

        Source
        ------
        Lee et al. 2018, A simple unified framework for detecting out-of-distribution
        samples and adversarial attacks; here one Gaussian for all classes.
        """
        whitened = (given.astype(np.float64) - self.mean) @ self.whitener.T
        return np.asarray(np.sqrt(np.square(whitened).mean(axis=1)), np.float64)

    def to_bytes(self) -> bytes:
        """Write the guard as the `.npz` that a bundle holds."""
        target = io.BytesIO()
        np.savez_compressed(target, mean=self.mean, whitener=self.whitener)
        return target.getvalue()


def vectors(features: FloatArray, inputs: FloatArray, picture_side: int) -> FloatArray:
    """Join the network's features and a small picture of its input.

    Parameters
    ----------
    features
        (n, k) of the layer.
    inputs
        (n, rows, columns, channels) of the network; `picture_side` divides rows and
        columns.

    Returns
    -------
    (n, k + picture_side ** 2), float32.
    """
    count, rows, columns, _ = inputs.shape
    side = picture_side
    blocks = inputs[..., 0].reshape(count, side, rows // side, side, columns // side)
    small = blocks.mean(axis=(2, 4), dtype=np.float64).reshape(count, side * side)
    return np.concatenate([features, small], axis=1, dtype=np.float32)


def image_refusal(
    specification: ScopeSpecification, distance: float
) -> tuple[NotAnalysedReason, str] | None:
    """Say why an image at this distance must not be answered; None if it may be."""
    # Negated, so that a distance that is no number is refused as well.
    if not distance > specification.limit and np.isfinite(distance):
        return None
    return NotAnalysedReason.OUT_OF_SCOPE, (
        f"{specification.reason} Its distance from the training images is "
        f"{distance:.2f}; up to {specification.limit:.2f} is read."
    )


def image_note(specification: ScopeSpecification, distance: float) -> str:
    """Say in a report where an image that was read stands."""
    return (
        "Image-based check of scope passed: distance from the training images "
        f"{distance:.2f}, limit {specification.limit:.2f}."
    )


def read_guard(path: Path, picture_side: int) -> ScopeGuard:
    """Read and check the arrays of a guard.

    Parameters
    ----------
    path
        The `.npz`.
    picture_side
        Of the manifest: the vector must be longer than the small picture.

    Raises
    ------
    InvalidBundle
        If they are missing, damaged, too large, not finite or no guard: one that would
        ignore a direction lets anything pass.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            inflated = sum(entry.file_size for entry in archive.infolist())
        if inflated > _LARGEST_BYTES:
            raise InvalidBundle(
                f"{path.name} would inflate to {inflated} bytes; a guard of scope "
                f"needs at most {_LARGEST_BYTES}."
            )
        # allow_pickle=False: an object array would run code while it is read.
        with np.load(path, allow_pickle=False) as arrays:
            mean, whitener = (arrays[key] for key in _KEYS)
    except (OSError, KeyError, ValueError, MemoryError, zipfile.BadZipFile) as error:
        raise InvalidBundle(
            f"{path.name} holds no readable guard of scope ({error}); the arrays "
            f"{', '.join(_KEYS)} are expected. Pack the bundle again."
        ) from error
    length = len(mean) if mean.ndim == 1 else 0
    if (
        not picture_side**2 < length <= _LARGEST_VECTOR
        or whitener.shape != (length, length)
        or (mean.dtype, whitener.dtype) != (np.float32, np.float32)
        or not np.isfinite(mean).all()
        or not np.isfinite(whitener).all()
        or np.tril(whitener, -1).any()
        or not (np.diag(whitener) > 0).all()
    ):
        raise InvalidBundle(
            f"{path.name} holds mean {mean.shape} {mean.dtype} and whitener "
            f"{whitener.shape} {whitener.dtype}; expected were float32 arrays (d,) and "
            f"(d, d), d above {picture_side**2} and at most {_LARGEST_VECTOR}, all "
            "finite, the second upper triangular with a positive diagonal. Pack the "
            "bundle again."
        )
    return ScopeGuard(mean, whitener)
