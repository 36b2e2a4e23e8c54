"""Stored values to the bytes of Pixel Data, in every syntax there is an encoder for.

One table, `ENCODERS`, from transfer syntax to the function that encodes one frame.
Native syntaxes are not in it: their frames are written one behind the other (PS3.5
8.1).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import imagecodecs
import numpy as np
import numpy.typing as npt
from pydicom import uid
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.pixels.encoders.base import get_encoder

from core.errors import InternalError

__all__ = ["ENCODERS", "NATIVE_SYNTAXES", "FrameEncoding", "write_pixel_data"]

Stored = npt.NDArray[np.integer[Any]]

NATIVE_SYNTAXES = frozenset(
    {
        uid.ImplicitVRLittleEndian,
        uid.ExplicitVRLittleEndian,
        uid.ExplicitVRBigEndian,
        uid.DeflatedExplicitVRLittleEndian,
    }
)


@dataclass(frozen=True)
class FrameEncoding:
    """How one transfer syntax is written."""

    encode: Callable[[Stored, int], bytes]
    """Frame (rows, columns) or (rows, columns, 3) and Bits Stored to one bit stream."""
    lossy_method: str | None = None
    """Lossy Image Compression Method (0028,2114), for those that lose anything."""
    maximum_bits: int = 16


def _by_pydicom(syntax: uid.UID, **options: Any) -> Callable[[Stored, int], bytes]:
    encoder = get_encoder(syntax)

    def encode(frame: Stored, bits_stored: int) -> bytes:
        colour = frame.ndim == 3
        return encoder.encode(
            frame,
            rows=frame.shape[0],
            columns=frame.shape[1],
            samples_per_pixel=3 if colour else 1,
            planar_configuration=0,
            bits_allocated=8 * frame.dtype.itemsize,
            bits_stored=bits_stored,
            pixel_representation=int(frame.dtype.kind == "i"),
            photometric_interpretation="RGB" if colour else "MONOCHROME2",
            number_of_frames=1,
            **options,
        )

    return encode


def _jpeg_lossy(frame: Stored, bits_stored: int) -> bytes:
    precision = 8 if bits_stored <= 8 else 12
    return bytes(imagecodecs.jpeg8_encode(frame, level=95, bitspersample=precision))


def _jpeg_lossless(frame: Stored, bits_stored: int) -> bytes:
    # JPEG has no sign: the bits of a negative value are sent as they are, and the
    # receiver applies Pixel Representation (PS3.5 8.2.1).
    unsigned = frame.view(f"u{frame.dtype.itemsize}") & np.array(
        (1 << bits_stored) - 1, f"u{frame.dtype.itemsize}"
    )
    return bytes(
        imagecodecs.jpeg8_encode(
            unsigned, lossless=True, predictor=1, bitspersample=bits_stored
        )
    )


def _htj2k(frame: Stored, bits_stored: int) -> bytes:
    del bits_stored  # the codec writes the precision of the array's type
    return bytes(imagecodecs.htj2k_encode(frame, reversible=True, rgb=False))


ENCODERS: dict[str, FrameEncoding] = {
    uid.RLELossless: FrameEncoding(_by_pydicom(uid.RLELossless)),
    uid.JPEGBaseline8Bit: FrameEncoding(_jpeg_lossy, "ISO_10918_1", maximum_bits=8),
    uid.JPEGExtended12Bit: FrameEncoding(_jpeg_lossy, "ISO_10918_1", maximum_bits=12),
    uid.JPEGLossless: FrameEncoding(_jpeg_lossless),
    uid.JPEGLosslessSV1: FrameEncoding(_jpeg_lossless),
    uid.JPEGLSLossless: FrameEncoding(_by_pydicom(uid.JPEGLSLossless)),
    uid.JPEGLSNearLossless: FrameEncoding(
        _by_pydicom(uid.JPEGLSNearLossless, jls_error=2), "ISO_14495_1"
    ),
    uid.JPEG2000Lossless: FrameEncoding(
        _by_pydicom(uid.JPEG2000Lossless, use_mct=False)
    ),
    uid.JPEG2000: FrameEncoding(
        _by_pydicom(uid.JPEG2000, use_mct=False, j2k_psnr=[45]), "ISO_15444_1"
    ),
    uid.HTJ2KLossless: FrameEncoding(_htj2k),
}


def write_pixel_data(
    dataset: Dataset, frames: Stored, *, transfer_syntax_uid: str
) -> None:
    """Put frames into a data set that describes them already.

    Parameters
    ----------
    dataset
        Gets Pixel Data and, after lossy compression, the attributes that say so; its
        Bits Stored is used.
    frames
        (frames, rows, columns) or (frames, rows, columns, 3), stored values.
    transfer_syntax_uid
        A native syntax or one of `ENCODERS`.

    Raises
    ------
    InternalError
        If there is no encoder for the syntax, or it cannot hold Bits Stored.

    Source
    ------
    PS3.5 8.1 and 8.2, A.1 to A.4; PS3.3 C.7.6.1.1.5 (lossy image compression).
    """
    if transfer_syntax_uid in NATIVE_SYNTAXES:
        _write_native(dataset, frames, transfer_syntax_uid)
        return
    encoding = ENCODERS.get(transfer_syntax_uid)
    bits_stored = int(dataset.BitsStored)
    if encoding is None or bits_stored > encoding.maximum_bits:
        raise InternalError(
            f"no phantom in transfer syntax {transfer_syntax_uid} with {bits_stored} "
            "bits stored; `worker.phantom.encode.ENCODERS` lists what there is"
        )
    if encoding.lossy_method is not None and frames.dtype.kind == "i":
        raise InternalError("signed phantoms are written without loss only")
    streams = [encoding.encode(frame, bits_stored) for frame in frames]
    dataset.PixelData = encapsulate(streams)
    dataset["PixelData"].VR = "OB"
    if encoding.lossy_method is not None:
        ratio = frames.nbytes / max(1, sum(len(stream) for stream in streams))
        dataset.LossyImageCompression = "01"
        dataset.LossyImageCompressionRatio = f"{ratio:.4g}"
        dataset.LossyImageCompressionMethod = encoding.lossy_method


def _write_native(dataset: Dataset, frames: Stored, syntax: str) -> None:
    big = syntax == uid.ExplicitVRBigEndian
    stored = frames.astype(frames.dtype.newbyteorder(">" if big else "<"))
    data = stored.tobytes()
    dataset.PixelData = data + b"\0" * (len(data) % 2)
    # PS3.5 A.1: OW always in the implicit syntax; A.2 and A.3: OW above 8 bits.
    wide = frames.dtype.itemsize > 1 or syntax == uid.ImplicitVRLittleEndian
    dataset["PixelData"].VR = "OW" if wide else "OB"
