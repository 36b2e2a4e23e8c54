"""Modality values to gray: VOI LUT, window, or, where there is neither, the range.

The result of each is 0 to 1 in the image's own polarity; MONOCHROME1 is turned later.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue

from worker.pixels.lookup import lookup_table

__all__ = ["Window", "WindowFunction", "apply_window", "first_window", "to_gray"]

FloatArray = npt.NDArray[np.float32]
BoolArray = npt.NDArray[np.bool_]


class WindowFunction(StrEnum):
    """VOI LUT Function (0028,1056), PS3.3 C.11.2.1.3."""

    LINEAR = "LINEAR"
    LINEAR_EXACT = "LINEAR_EXACT"
    SIGMOID = "SIGMOID"


@dataclass(frozen=True)
class Window:
    """Centre and width in modality units."""

    center: float
    width: float
    function: WindowFunction = WindowFunction.LINEAR

    @property
    def is_valid(self) -> bool:
        """Whether the standard allows the width (C.11.2.1.2: at least 1 for LINEAR)."""
        if not np.isfinite([self.center, self.width]).all():
            return False
        if self.function is WindowFunction.LINEAR:
            return self.width >= 1.0
        return self.width > 0.0


def to_gray(
    values: FloatArray,
    attributes: Dataset,
    *,
    image: Dataset,
    occurs: BoolArray | None = None,
    padding: BoolArray | None = None,
) -> tuple[FloatArray, tuple[str, ...]]:
    """Apply the first VOI LUT or window that the image brings.

    Parameters
    ----------
    values
        Any shape, modality units; is overwritten and must not be used afterwards.
    attributes
        Where the VOI stands: the data set, or a frame's macro.
    image
        The image, for a refusal's text.
    occurs
        Same shape, which of the values there are in the image; None: all.
    padding
        Same shape, values that are no image; None if there are none.

    Returns
    -------
    Same shape, 0 to 1, and a sentence for the reader where the image brought
    nothing that could be used.

    Raises
    ------
    UnsupportedImage
        `pixels-inconsistent` for a malformed VOI LUT.

    Source
    ------
    PS3.3 C.11.2.1.1 (VOI LUT), C.11.2.1.2 (window), C.7.5.1.1.2 (padding).
    """
    sequence = attributes.get("VOILUTSequence")
    if sequence:
        found = values if occurs is None else values[occurs]
        signed = bool(found.size and found.min() < 0)
        table = lookup_table(sequence[0], image=image, signed=signed)
        gray = table.apply(values)
        gray /= np.float32(table.maximum)
        return np.clip(gray, 0.0, 1.0, out=gray), ()
    window = first_window(attributes)
    if window is not None and window.is_valid:
        return apply_window(values, window), ()
    lacks = "no VOI LUT and no window" if window is None else "an invalid window"
    note = f"The image has {lacks}; the range of its values was used."
    return _stretched(values, occurs, padding), (note,)


def apply_window(values: FloatArray, window: Window) -> FloatArray:
    """Map values through a window.

    Parameters
    ----------
    values
        Any shape, modality units; overwritten with the result.
    window
        A valid one.

    Returns
    -------
    `values`, now 0 to 1.

    Source
    ------
    PS3.3 C.11.2.1.2.1 (LINEAR), C.11.2.1.3.1 (SIGMOID), C.11.2.1.3.2 (LINEAR_EXACT).
    """
    if window.function is WindowFunction.SIGMOID:
        values -= np.float32(window.center)
        values *= np.float32(-4.0 / window.width)
        # Beyond 60 the sigmoid is 0 or 1 in float32, and exp would overflow.
        np.clip(values, -60.0, 60.0, out=values)
        np.exp(values, out=values)
        values += np.float32(1.0)
        return np.reciprocal(values, out=values)
    center, width = window.center, window.width
    if window.function is WindowFunction.LINEAR:
        # C.11.2.1.2.1: LINEAR works on c - 0.5 and w - 1; with w = 1 it is a threshold.
        center, width = center - 0.5, width - 1.0
        if width == 0.0:
            return np.greater(values, np.float32(center)).astype(np.float32)
    values -= np.float32(center)
    values /= np.float32(width)
    values += np.float32(0.5)
    return np.clip(values, 0.0, 1.0, out=values)


def first_window(attributes: Dataset) -> Window | None:
    """Read the first window; None if there is none or it is no numbers.

    Source
    ------
    PS3.3 C.11.2.1.2: several windows are alternative views, the first is the default.
    """
    try:
        center = _first(attributes.get("WindowCenter"))
        width = _first(attributes.get("WindowWidth"))
    except (TypeError, ValueError):
        return None
    if center is None or width is None:
        return None
    name = str(attributes.get("VOILUTFunction") or "LINEAR").strip()
    known = {function.value for function in WindowFunction}
    # An unknown function is read as the standard's default, C.11.2.1.3.
    function = WindowFunction(name) if name in known else WindowFunction.LINEAR
    return Window(center, width, function)


def _first(value: Any) -> float | None:
    if isinstance(value, MultiValue):
        value = value[0] if len(value) else None
    return None if value is None or value == "" else float(value)


def _stretched(
    values: FloatArray, occurs: BoolArray | None, padding: BoolArray | None
) -> FloatArray:
    image = values[_chosen(values, occurs, padding)]
    if not image.size:
        image = values if occurs is None else values[occurs]
    least, most = image.min(), image.max()
    values -= least
    if most > least:
        values /= most - least
    return np.clip(values, 0.0, 1.0, out=values)


def _chosen(
    values: FloatArray, occurs: BoolArray | None, padding: BoolArray | None
) -> Any:
    if padding is None:
        return ... if occurs is None else occurs
    return ~padding if occurs is None else occurs & ~padding
