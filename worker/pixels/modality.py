"""Stored values to modality units: Modality LUT, or Rescale Slope and Intercept."""

from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset

from core.domain import NotAnalysedReason
from worker.pixels.lookup import lookup_table
from worker.pixels.refusal import refused

__all__ = ["to_modality_values"]


def to_modality_values(
    stored: npt.NDArray[Any],
    attributes: Dataset,
    *,
    image: Dataset,
    out: npt.NDArray[np.float32] | None = None,
) -> npt.NDArray[np.float32]:
    """Map stored values to what they measure.

    Parameters
    ----------
    stored
        Any shape, stored values, sign already applied.
    attributes
        Where the transformation stands: the data set, or a frame's macro.
    image
        The image, for the refusal's text.
    out
        Same shape, where the result goes; None: a new array.

    Returns
    -------
    Same shape, modality units (HU for CT): `out`, or a new array. `stored` is not
    changed.

    Raises
    ------
    UnsupportedImage
        `pixels-inconsistent` if the slope is zero or no number.

    Source
    ------
    PS3.3 C.11.1 (Modality LUT), C.7.6.16.2.9 (Pixel Value Transformation).
    """
    result = np.empty(stored.shape, np.float32) if out is None else out
    sequence = attributes.get("ModalityLUTSequence")
    if sequence:
        signed = np.issubdtype(stored.dtype, np.signedinteger)
        result[...] = lookup_table(sequence[0], image=image, signed=signed).apply(
            stored
        )
        return result
    slope, intercept = _rescale(attributes, image)
    # Above 24 bits float32 alone would lose the low ones before the offset is taken.
    wide = stored.dtype.itemsize > 2
    values: npt.NDArray[np.floating[Any]] = result
    if wide:
        values = stored.astype(np.float64)
    else:
        values[...] = stored
    if slope != 1.0:
        values *= slope
    if intercept != 0.0:
        values += intercept
    if wide:
        result[...] = values
    return result


def _rescale(attributes: Dataset, image: Dataset) -> tuple[float, float]:
    slope = attributes.get("RescaleSlope")
    intercept = attributes.get("RescaleIntercept")
    try:
        numbers = (
            1.0 if slope is None else float(slope),
            0.0 if intercept is None else float(intercept),
        )
    except (TypeError, ValueError) as error:
        raise refused(
            image,
            NotAnalysedReason.PIXELS_INCONSISTENT,
            "Rescale Slope or Rescale Intercept is no number",
        ) from error
    if numbers[0] == 0.0 or not np.isfinite(numbers).all():
        raise refused(
            image,
            NotAnalysedReason.PIXELS_INCONSISTENT,
            f"Rescale Slope is {numbers[0]}, expected a finite number other than zero",
        )
    return numbers
