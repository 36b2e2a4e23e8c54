"""Synthetic images with the noise of real ones, in every syntax that has a coder."""

from dataclasses import dataclass
from functools import cache
from typing import Any

import imagecodecs
import numpy as np
import numpy.typing as npt
from pydicom import Dataset, uid
from pydicom.encaps import encapsulate

from worker.phantom import chest_radiograph, to_dicom
from worker.phantom.encode import ENCODERS

__all__ = ["KINDS", "SYNTAXES", "Kind", "image_of"]

# About that of a radiograph at usual dose, of white = 1; a noise-free phantom would
# compress, and so decode, as no image of a patient does.
_NOISE = 0.004


@dataclass(frozen=True)
class Kind:
    """What one kind of image is like."""

    label: str
    rows: int
    columns: int
    bits_stored: int
    colour: bool = False


KINDS = {
    "CT": Kind("CT 512 x 512, 12 bits", 512, 512, 12),
    "DX": Kind("DX 2800 x 2800, 12 bits", 2800, 2800, 12),
    "US": Kind("US 600 x 800, RGB of 8 bits", 600, 800, 8, colour=True),
}

SYNTAXES = {
    "Explicit VR LE": uid.ExplicitVRLittleEndian,
    "Deflated": uid.DeflatedExplicitVRLittleEndian,
    "RLE": uid.RLELossless,
    "JPEG baseline": uid.JPEGBaseline8Bit,
    "JPEG extended": uid.JPEGExtended12Bit,
    "JPEG lossless SV1": uid.JPEGLosslessSV1,
    "JPEG-LS lossless": uid.JPEGLSLossless,
    "JPEG-LS near-lossless": uid.JPEGLSNearLossless,
    "JPEG 2000 lossless": uid.JPEG2000Lossless,
    "JPEG 2000": uid.JPEG2000,
    "HTJ2K lossless": uid.HTJ2KLossless,
    "HTJ2K": uid.HTJ2K,
}


@cache
def _pixels(kind: Kind) -> npt.NDArray[np.float32]:
    shape = (kind.rows, kind.columns)
    planes = [
        chest_radiograph(rows=kind.rows, columns=kind.columns, seed=seed)
        for seed in range(3 if kind.colour else 1)
    ]
    image = np.stack(planes, axis=-1) if kind.colour else planes[0].reshape(shape)
    noise = np.random.default_rng(0).normal(0.0, _NOISE, image.shape)
    return np.clip(image + noise, 0.0, 1.0).astype(np.float32)


def image_of(kind: Kind, syntax: str) -> Dataset | None:
    """Make one image; None where the syntax cannot hold such a one.

    Parameters
    ----------
    syntax
        Transfer Syntax UID, of `SYNTAXES`.
    """
    # Baseline is for 8 bits, extended in practice for 12.
    bits = 8 if syntax == uid.JPEGBaseline8Bit else kind.bits_stored
    if kind.colour and syntax in {uid.JPEGExtended12Bit, uid.HTJ2K}:
        return None
    options: dict[str, Any] = {
        "bits_stored": bits,
        "modality": "CR" if kind.colour else "DX",
        "photometric_interpretation": "RGB" if kind.colour else "MONOCHROME2",
    }
    if syntax == uid.HTJ2K:
        return _htj2k(to_dicom(_pixels(kind), **options))
    image = to_dicom(_pixels(kind), transfer_syntax_uid=syntax, **options)
    if kind.colour and syntax == uid.JPEGBaseline8Bit:
        image.PhotometricInterpretation = "YBR_FULL"  # as libjpeg stores it
    return image


def _htj2k(image: Dataset) -> Dataset:
    dtype = "<u2" if image.BitsAllocated == 16 else "u1"
    pixels = np.frombuffer(image.PixelData, dtype).reshape(image.Rows, image.Columns)
    stream = imagecodecs.htj2k_encode(pixels, level=0.002, reversible=False, rgb=False)
    image.PixelData = encapsulate([bytes(stream)])
    image["PixelData"].VR = "OB"
    image.file_meta.TransferSyntaxUID = uid.HTJ2K
    return image


assert {*ENCODERS, uid.HTJ2K} >= {
    syntax for syntax in SYNTAXES.values() if uid.UID(syntax).is_encapsulated
}
