"""Images of several frames in every syntax that the phantom can write."""

from functools import cache

import numpy as np
import numpy.typing as npt
from pydicom import Dataset, uid
from pydicom.encaps import encapsulate, encapsulate_extended

from worker.phantom import chest_radiograph, to_dicom
from worker.phantom.encode import ENCODERS

__all__ = ["colour_film", "film", "frames_of"]


@cache
def film(rows: int, columns: int) -> npt.NDArray[np.float32]:
    """Draw a radiograph, once: it takes longer than most that is done with it."""
    drawn = chest_radiograph(rows=rows, columns=columns)
    drawn.setflags(write=False)
    return drawn


def colour_film(rows: int, columns: int) -> npt.NDArray[np.float32]:
    """Make three different colours of one radiograph, (rows, columns, 3)."""
    drawn = film(rows, columns)
    return np.stack([drawn, drawn[::-1], np.roll(drawn, 5, axis=0)], axis=-1)


def frames_of(
    syntax: str,
    *,
    frames: int = 1,
    rows: int = 40,
    columns: int = 36,
    bits_stored: int = 8,
    table: str = "basic",
) -> tuple[Dataset, npt.NDArray[np.int64]]:
    """Make an image and the stored values that must come out of it.

    Parameters
    ----------
    table
        `none`, `basic` or `extended`: which offsets compressed frames get.

    Returns
    -------
    Its frames differ; the values are (frames, rows, columns).
    """
    films = [
        chest_radiograph(rows=rows, columns=columns, seed=n) for n in range(frames)
    ]
    image = to_dicom(films[0], bits_stored=bits_stored, transfer_syntax_uid=syntax)
    dtype = np.dtype("u1" if bits_stored == 8 else "u2")
    white = 2**bits_stored - 1
    stored = np.stack([np.rint(film.astype("f8") * white) for film in films])
    image.NumberOfFrames = frames
    if syntax not in ENCODERS:
        order = ">" if syntax == uid.ExplicitVRBigEndian else "<"
        image.PixelData = stored.astype(dtype.newbyteorder(order)).tobytes()
        return image, stored.astype(np.int64)
    encode = ENCODERS[syntax].encode
    streams = [encode(frame.astype(dtype), bits_stored) for frame in stored]
    if table == "extended":
        pixels, offsets, lengths = encapsulate_extended(streams)
        image.PixelData = pixels
        image.ExtendedOffsetTable = offsets
        image.ExtendedOffsetTableLengths = lengths
    else:
        image.PixelData = encapsulate(streams, has_bot=table == "basic")
    image["PixelData"].VR = "OB"
    return image, stored.astype(np.int64)
