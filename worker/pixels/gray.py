"""Stored values of a monochrome image to gray, through one table where that is exact.

A pixel's gray depends on its stored value only. So of 8 and 16 bit images every value
from the least to the greatest is mapped, once, by the very steps that would map the
pixels; then each pixel is looked up. What the steps ask of the image as a whole, which
values occur, is measured before.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset

from worker.pixels.modality import to_modality_values
from worker.pixels.voi import first_window, to_gray

__all__ = ["monochrome_to_gray"]

FloatArray = npt.NDArray[np.float32]
BoolArray = npt.NDArray[np.bool_]
Stored = npt.NDArray[Any]


@dataclass(frozen=True)
class _Padding:
    """Stored values that are no image, both ends included (PS3.3 C.7.5.1.1.2)."""

    least: int
    most: int

    def mask(self, stored: Stored) -> BoolArray:
        found: BoolArray = (stored >= self.least) & (stored <= self.most)
        return found


def monochrome_to_gray(
    stored: Stored, attributes: Dataset, *, image: Dataset, inverted: bool
) -> tuple[FloatArray, tuple[str, ...]]:
    """Apply Modality LUT, VOI LUT, polarity and padding to one frame.

    Parameters
    ----------
    stored
        (rows, columns), not all of one value. Not changed.
    attributes
        Where the transformations stand: the data set, or a frame's macro.
    image
        The image: its padding, and its name for a refusal's text.
    inverted
        MONOCHROME1: the lowest value is white.

    Returns
    -------
    (rows, columns), 0 (black) to 1, a new array; sentences for the reader.

    Raises
    ------
    UnsupportedImage
        `pixels-inconsistent` for malformed transformations.

    Source
    ------
    PS3.4 N.2 (pixel transformation sequence), PS3.3 C.11, C.7.5.1.1.2 (padding).
    """
    padding = _padding(stored, image)

    def mapped(values: Stored, occurs: BoolArray | None) -> Mapped:
        return _mapped(
            values, occurs, attributes, image=image, inverted=inverted, padding=padding
        )

    if not _table_pays(stored):
        return mapped(stored, None)
    return _through_table(stored, attributes, mapped, padding=padding)


def _table_pays(stored: Stored) -> bool:
    narrow = stored.dtype.kind in "iu" and stored.dtype.itemsize <= 2
    return narrow and int(stored.max()) - int(stored.min()) < stored.size // 2


Mapped = tuple[FloatArray, tuple[str, ...]]


def _mapped(
    values: Stored,
    occurs: BoolArray | None,
    attributes: Dataset,
    *,
    image: Dataset,
    inverted: bool,
    padding: _Padding | None,
) -> Mapped:
    """Map stored values: pixels, or, with `occurs`, all those that there could be."""
    black = None if padding is None else padding.mask(values)
    gray, notes = to_gray(
        to_modality_values(values, attributes, image=image),
        attributes,
        image=image,
        occurs=occurs,
        padding=black,
    )
    if inverted:
        np.subtract(np.float32(1.0), gray, out=gray)
    if black is not None:
        gray[black] = 0.0
    return gray, notes


def _through_table(
    stored: Stored,
    attributes: Dataset,
    mapped: Callable[[Stored, BoolArray | None], Mapped],
    *,
    padding: _Padding | None,
) -> Mapped:
    least, most = int(stored.min()), int(stored.max())
    levels = np.arange(least, most + 1).astype(stored.dtype)
    # A signed value is found by its unsigned twin.
    unsigned = np.dtype(f"u{stored.dtype.itemsize}")
    places = levels.view(unsigned)
    occurs = np.zeros(levels.size, np.bool_)
    if _asks_for_values(attributes) and not _is_monotonic(attributes, padding):
        there = np.zeros(2 ** (8 * unsigned.itemsize), np.bool_)
        there[stored.view(unsigned)] = True
        occurs = there[places]
    else:
        occurs[[0, -1]] = True
    table = np.zeros(2 ** (8 * unsigned.itemsize), np.float32)
    table[places], notes = mapped(levels, occurs)
    gray: FloatArray = np.asarray(cv2.LUT(stored.view(unsigned), table), np.float32)
    return gray.reshape(stored.shape), notes


def _asks_for_values(attributes: Dataset) -> bool:
    """Tell whether gray depends on which values there are, not on one alone."""
    window = first_window(attributes)
    by_window = window is not None and window.is_valid
    return bool(attributes.get("VOILUTSequence")) or not by_window


def _is_monotonic(attributes: Dataset, padding: _Padding | None) -> bool:
    """Tell whether the ends of the stored values are those of the modality values."""
    return not attributes.get("ModalityLUTSequence") and padding is None


def _padding(stored: Stored, image: Dataset) -> _Padding | None:
    """Find which stored values are no image; None if there are none, or only those."""
    value = image.get("PixelPaddingValue")
    if value is None:
        return None
    limit = image.get("PixelPaddingRangeLimit")
    least, most = sorted(
        _as_stored(x, stored) for x in (value, value if limit is None else limit)
    )
    # Padding everywhere would be an empty image, and is known to be a wrong header.
    everywhere = least <= stored.min() and stored.max() <= most
    return None if everywhere else _Padding(least, most)


def _as_stored(value: Any, stored: Stored) -> int:
    # The VR is US or SS by Pixel Representation, but is often written the other way.
    number = int(value)
    if np.issubdtype(stored.dtype, np.unsignedinteger) and number < 0:
        return number & 0xFFFF
    if np.issubdtype(stored.dtype, np.signedinteger) and number > 0x7FFF:
        return number - 2**16
    return number
