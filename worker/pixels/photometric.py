"""What a stored value means on a screen: polarity, palette, colour to gray."""

from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset
from pydicom.pixels.processing import apply_color_lut

from core.domain import NotAnalysedReason
from worker.pixels.refusal import refused
from worker.pixels.source import is_big_endian

__all__ = ["COLOUR", "MONOCHROME", "is_inverted", "luminance", "palette_to_rgb"]

MONOCHROME = frozenset({"MONOCHROME1", "MONOCHROME2"})
COLOUR = frozenset(
    {
        "RGB",
        "YBR_FULL",
        "YBR_FULL_422",
        "YBR_PARTIAL_420",
        "YBR_ICT",
        "YBR_RCT",
    }
)
"""Those that decoding turns into RGB."""

# PS3.3 C.7.6.3.1.2, the Y of YBR_FULL (ITU-R BT.601).
_LUMINANCE = np.array([0.2990, 0.5870, 0.1140], np.float32)


def is_inverted(image: Dataset, photometric_interpretation: str) -> bool:
    """Tell whether low values are to be shown white.

    Raises
    ------
    UnsupportedImage
        `photometric-unsupported` if the two attributes that say so contradict each
        other: a radiograph read as its own negative is worse than one not read.

    Source
    ------
    PS3.3 C.7.6.3.1.2 (MONOCHROME1), C.8.11.3.1.2 (Presentation LUT Shape: INVERSE with
    MONOCHROME1, IDENTITY with MONOCHROME2).
    """
    inverted = photometric_interpretation == "MONOCHROME1"
    shape = str(image.get("PresentationLUTShape") or "").strip()
    if shape == "INVERSE" and not inverted:
        raise refused(
            image,
            NotAnalysedReason.PHOTOMETRIC_UNSUPPORTED,
            "MONOCHROME2 with Presentation LUT Shape INVERSE contradicts PS3.3 "
            "C.8.11.3.1.2, so its polarity is not known",
        )
    return inverted


def palette_to_rgb(
    indices: npt.NDArray[Any], image: Dataset
) -> npt.NDArray[np.float32]:
    """Look palette indices up, in plain or segmented tables.

    Parameters
    ----------
    indices
        (rows, columns), stored values.

    Returns
    -------
    (rows, columns, 3), 0 to 1.

    Raises
    ------
    UnsupportedImage
        `pixels-inconsistent` without usable tables.

    Source
    ------
    PS3.3 C.7.6.3.1.5 and C.7.6.3.1.6, C.7.9.2 (segmented).
    """
    # pydicom reads the tables as they come from the peer, and raises as they fail it.
    try:
        colours = apply_color_lut(indices, image)
    except Exception as error:
        raise refused(
            image,
            NotAnalysedReason.PIXELS_INCONSISTENT,
            f"the palette colour tables cannot be used ({type(error).__name__})",
        ) from error
    if is_big_endian(image) and "RedPaletteColorLookupTableData" in image:
        # pydicom 3.0.2 reads the bytes of plain tables as little endian, always.
        colours = colours.byteswap()
    # The type is as wide as the tables' entries; 8 bit entries in 16 bit words fill it.
    white = np.float32(np.iinfo(colours.dtype).max)
    return colours[..., :3].astype(np.float32) / white


def luminance(rgb: npt.NDArray[Any], maximum: float) -> npt.NDArray[np.float32]:
    """Reduce colour to gray.

    Parameters
    ----------
    rgb
        (rows, columns, 3).
    maximum
        Value of white.

    Returns
    -------
    (rows, columns), 0 to 1.

    Source
    ------
    PS3.3 C.7.6.3.1.2 (YBR_FULL).
    """
    gray = rgb.astype(np.float32) @ _LUMINANCE
    gray /= np.float32(maximum)
    return np.clip(gray, 0.0, 1.0, out=gray)
