"""From a display image to the network's input: one function for training and serving.

A preparation that differs between the two is the quietest way to lose a model's
accuracy, so there is no second one. It comes in two steps because training varies its
films between them: `resize` (any matrix to the network's), then `normalise`.
"""

import math
from functools import lru_cache

import cv2
import numpy as np
import numpy.typing as npt

from core.domain import NotAnalysedReason
from core.errors import InternalError, UnsupportedImage
from models.specification import Aspect, InputSpecification, Normalisation

__all__ = ["normalise", "prepare", "resize"]

FloatArray = npt.NDArray[np.float32]

# Where averaging rows before OpenCV does pays.
_LARGE_IMAGE = 2**19
_LEAST_SHRINK = 2
_ROWS_AT_A_TIME = 2

# Below this spread (of black = 0, white = 1) there is no picture to stretch: dividing
# by it would blow up rounding noise.
_LEAST_DEVIATION = 1e-3


def prepare(image: FloatArray, specification: InputSpecification) -> FloatArray:
    """Make the network's input from a display image.

    Parameters
    ----------
    image
        (rows, columns), float32, 0 (black, air) to 1 (white), any matrix. Not changed.
    specification
        The bundle's input.

    Returns
    -------
    (rows, columns, channels) of the specification, float32; a new array.

    Raises
    ------
    UnsupportedImage
        If the image has no pixels or a value that is not finite.
    InternalError
        If `image` is not a two-dimensional float32 array.
    """
    return normalise(resize(image, specification), specification)


def resize(image: FloatArray, specification: InputSpecification) -> FloatArray:
    """Bring an image to the network's matrix.

    Parameters
    ----------
    image
        As for `prepare`.
    specification
        Its rows, columns and aspect count here.

    Returns
    -------
    (rows, columns) of the specification, float32, 0 to 1; a new array.

    Raises
    ------
    UnsupportedImage, InternalError
        As for `prepare`.
    """
    _check(image)
    rows, columns = specification.rows, specification.columns
    if specification.aspect is Aspect.STRETCH:
        stretched = _scale(image, rows, columns)
        _require_finite(stretched)
        return stretched
    factor = min(rows / image.shape[0], columns / image.shape[1])
    inner_rows = min(rows, max(1, round(image.shape[0] * factor)))
    inner_columns = min(columns, max(1, round(image.shape[1] * factor)))
    top, left = (rows - inner_rows) // 2, (columns - inner_columns) // 2
    padded = np.zeros((rows, columns), np.float32)
    padded[top : top + inner_rows, left : left + inner_columns] = _scale(
        image, inner_rows, inner_columns
    )
    _require_finite(padded)
    return padded


def normalise(resized: FloatArray, specification: InputSpecification) -> FloatArray:
    """Turn grey values into the network's numbers.

    Parameters
    ----------
    resized
        (rows, columns), float32, 0 to 1. Not changed.
    specification
        Its value range, normalisation and channels count here.

    Returns
    -------
    (rows, columns, channels), float32; a new array.
    """
    if specification.normalisation is Normalisation.IMAGE:
        deviation = max(float(resized.std(dtype=np.float64)), _LEAST_DEVIATION)
        mean = float(resized.mean(dtype=np.float64))
        values = (resized - np.float32(mean)) / np.float32(deviation)
    else:
        low, high = specification.value_range
        values = resized * np.float32(high - low) + np.float32(low)
    return np.repeat(values[:, :, np.newaxis], specification.channels, axis=2)


def _scale(image: FloatArray, rows: int, columns: int) -> FloatArray:
    # Each axis for itself: area averaging keeps a shrunk axis free of aliasing, but on
    # an axis that grows it would only repeat pixels.
    shrunk_rows = min(rows, image.shape[0])
    shrunk_columns = min(columns, image.shape[1])
    shrunk = cv2.resize(
        _average_rows(image, shrunk_rows),
        (shrunk_columns, shrunk_rows),
        interpolation=cv2.INTER_AREA,
    )
    if (shrunk_rows, shrunk_columns) == (rows, columns):
        return np.array(shrunk, np.float32)
    enlarged = cv2.resize(shrunk, (columns, rows), interpolation=cv2.INTER_LINEAR)
    return np.array(enlarged, np.float32)


def _average_rows(image: FloatArray, rows: int) -> FloatArray:
    """Average the area along the columns, of large images only.

    OpenCV's area resize goes through each pixel of a row one by one. Rows summed first,
    as small matrix products, leave it little to do: a radiograph takes a third of the
    time, and differs by rounding (1e-7).
    """
    if image.shape[0] < _LEAST_SHRINK * rows or image.size < _LARGE_IMAGE:
        return image
    averaged = np.empty((rows, image.shape[1]), np.float32)
    # What is not finite stays so, and is refused behind the resize.
    with np.errstate(invalid="ignore", over="ignore"):
        for first, above, weights in _row_weights(image.shape[0], rows):
            np.matmul(
                weights,
                image[above : above + weights.shape[1]],
                out=averaged[first : first + len(weights)],
            )
    return averaged


@lru_cache(maxsize=16)
def _row_weights(height: int, rows: int) -> tuple[tuple[int, int, FloatArray], ...]:
    """Share out `height` rows of an image among fewer ones.

    Returns
    -------
    A few rows at a time: the first of them, the first row of the image that counts for
    them, and (their number, rows of the image) how much each counts.
    """
    edges = np.arange(rows + 1) * (height / rows)
    edges[-1] = height
    groups = []
    for first in range(0, rows, _ROWS_AT_A_TIME):
        last = min(first + _ROWS_AT_A_TIME, rows)
        above, below = int(edges[first]), min(height, math.ceil(edges[last]))
        upper = np.arange(above, below)
        covered = np.minimum(upper + 1, edges[first + 1 : last + 1, np.newaxis])
        covered = covered - np.maximum(upper, edges[first:last, np.newaxis])
        weights = np.clip(covered, 0.0, 1.0) * (rows / height)
        groups.append((first, above, weights.astype(np.float32)))
    return tuple(groups)


def _check(image: FloatArray) -> None:
    if image.ndim != 2 or image.dtype != np.float32:
        raise InternalError(
            f"A display image is (rows, columns) float32, not {image.shape} "
            f"{image.dtype}."
        )
    if image.size == 0:
        raise UnsupportedImage(
            NotAnalysedReason.PIXELS_EMPTY,
            f"The image has {image.shape[0]} rows and {image.shape[1]} columns; a "
            "model needs at least one pixel.",
        )


def _require_finite(resized: FloatArray) -> None:
    # Each pixel has its share in one of these few, and a sum hides none.
    if not np.isfinite(resized).all():
        raise UnsupportedImage(
            NotAnalysedReason.PIXELS_INCONSISTENT,
            "The image holds values that are not finite; display values from 0 to 1 "
            "were expected.",
        )
