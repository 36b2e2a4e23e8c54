"""The same frame by every decoder there is, and how far they may lie apart."""

from collections.abc import Iterator
from typing import Any

import imagecodecs
import numpy as np
import numpy.typing as npt
from pydicom import Dataset, uid

from worker.pixels.decode import ImageFrames
from worker.pixels.decoders import decoder, installed_plugins
from worker.pixels.plugins import compressed_frame, native_frame_by_pydicom
from worker.pixels.streams import Stream

__all__ = ["decoded_by_each", "tolerance"]

Frame = npt.NDArray[Any]

# Never used to read a study, but independent of those that are.
_ORACLES = ("pillow",)
_JPEG_LOSSLESS = {uid.JPEGLossless, uid.JPEGLosslessSV1}
_LOSSY_JPEG = {uid.JPEGBaseline8Bit, uid.JPEGExtended12Bit}


def decoded_by_each(
    frames: ImageFrames, encoded: Stream | int
) -> Iterator[tuple[str, Frame]]:
    """Decode one frame by every plug-in of the table, then by those that are not in it.

    Yields
    ------
    Name and frame; who cannot read it is left out, but not the first.
    """
    image, layout, syntax = frames.image, frames.layout, frames.transfer_syntax_uid
    yield "ours", frames.decode(encoded)
    if isinstance(encoded, int):
        yield "pydicom", _by_pydicom(image, frames, encoded)
        return
    available = decoder(syntax).available_plugins
    # Pillow is not told of the sign in a JPEG 2000 stream.
    signed = encoded.header is not None and encoded.header.signed
    oracles = [name for name in _ORACLES if name in available and not signed]
    names = (*installed_plugins(syntax), *oracles)
    for name in names:
        try:
            frame = compressed_frame(
                encoded, image, layout, syntax=syntax, plugin=name, codec_threads=2
            )
        except Exception:  # noqa: BLE001 - codecs raise what they like
            continue
        yield name, frame
    if syntax in _JPEG_LOSSLESS and layout.samples == 1:
        sof3 = imagecodecs.jpegsof3_decode(encoded.data)
        # JPEG has no sign, and this codec is not told of one.
        yield "jpegsof3", _as_stored(sof3, layout.signed, layout.bits_stored)


def tolerance(syntax: str, *, colour: bool) -> int:
    """Levels of gray by which decoders of one stream may differ.

    Of reversible coding, none. T.81's inverse cosine transform may be off by one level
    (ITU-T T.83, as 10918-2), and a conversion to RGB doubles that. Other lossy kinds
    are exact arithmetic in all implementations at hand.
    """
    if syntax in _LOSSY_JPEG:
        return 2 if colour else 1
    return 0


def _by_pydicom(image: Dataset, frames: ImageFrames, number: int) -> Frame:
    pixels = image[frames.layout.keyword].value
    whole = Dataset()
    whole.update(image)
    whole.file_meta = image.file_meta
    if not isinstance(pixels, bytes):
        pixels.seek(0)
        whole[frames.layout.keyword].value = pixels.read()
    return native_frame_by_pydicom(
        whole,
        whole,
        frames.layout,
        syntax=frames.transfer_syntax_uid,
        number=number,
    )


def _as_stored(unsigned: Frame, signed: bool, bits_stored: int) -> Frame:
    values = unsigned.astype(np.int64)
    if signed:
        values = np.where(values >> (bits_stored - 1), values - 2**bits_stored, values)
    return values
