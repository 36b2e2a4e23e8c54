"""A JPEG or PNG file as a radiograph object, for people who have no DICOM file."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError
from pydicom.dataset import Dataset

from core.errors import InvalidInstance
from worker.phantom.objects import to_dicom

__all__ = ["from_picture", "read_picture"]

MAXIMUM_PIXELS = 100_000_000
"""More than any radiograph has, and less than a hostile file can announce."""


def from_picture(path: Path, **options: Any) -> Dataset:
    """Make a radiograph object of a picture file.

    Parameters
    ----------
    path
        JPEG or PNG, gray (8 or 16 bits) or colour; taken as MONOCHROME2.
    options
        As for `to_dicom`; 8 bits are stored unless asked otherwise.

    Raises
    ------
    InvalidInstance
        If the file is no picture that can be read.
    """
    return to_dicom(read_picture(path), **{"bits_stored": 8, **options})


def read_picture(path: Path) -> npt.NDArray[np.float32]:
    """Read a picture file as a display image.

    Returns
    -------
    (rows, columns), 0 to 1; colour becomes luminance.

    Raises
    ------
    InvalidInstance
        If the file is no picture that can be read.
    """
    try:
        with Image.open(path, formats=("JPEG", "PNG")) as picture:
            if picture.width * picture.height > MAXIMUM_PIXELS:
                raise InvalidInstance(
                    f"the picture has {picture.width} x {picture.height} pixels; "
                    f"at most {MAXIMUM_PIXELS} are read"
                )
            deep = picture.mode.startswith("I")
            pixels = np.asarray(picture if deep else picture.convert("L"))
    except (OSError, UnidentifiedImageError, ValueError, SyntaxError) as error:
        raise InvalidInstance(
            "the file is no JPEG or PNG picture that can be read; "
            "give a DICOM, JPEG or PNG file"
        ) from error
    return (pixels / np.float32(65535 if deep else 255)).astype(np.float32)
