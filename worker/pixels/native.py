"""Frames of uncompressed pixel data, as views of the bytes where that is possible."""

import math
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom import uid
from pydicom.dataset import Dataset

from core.domain import NotAnalysedReason
from worker.pixels.limits import PixelLayout
from worker.pixels.pixel_element import FileWindow
from worker.pixels.plugins import native_frame_by_pydicom
from worker.pixels.refusal import refused

__all__ = ["native_frame", "refuse_short_pixels"]

Frame = npt.NDArray[Any]


def refuse_short_pixels(dataset: Dataset, layout: PixelLayout) -> None:
    """Refuse pixel data that have fewer bytes than the header announces.

    Raises
    ------
    UnsupportedImage
        `pixels-unreadable` for too few, and for YBR_FULL_422 that is not 4:2:2.

    Source
    ------
    PS3.5 8.1.1, PS3.3 C.7.6.3.1.2 (4:2:2: two chroma samples for two pixels).
    """
    pixels = dataset[layout.keyword].value
    if not isinstance(pixels, bytes | bytearray | FileWindow):
        raise refused(
            dataset,
            NotAnalysedReason.PIXELS_UNREADABLE,
            "the pixel data element holds no bytes",
        )
    there = len(pixels)
    needed = math.ceil(_frame_bits(layout) * layout.frames / 8)
    if there < needed:
        raise refused(
            dataset,
            NotAnalysedReason.PIXELS_UNREADABLE,
            f"pixel data have {there} bytes, the header announces {needed}",
        )
    if _is_422(layout) and there >= needed // 2 * 3:
        raise refused(
            dataset,
            NotAnalysedReason.PIXELS_UNREADABLE,
            "Photometric Interpretation says YBR_FULL_422, but every pixel has a "
            "chroma of its own",
        )


def native_frame(
    dataset: Dataset, layout: PixelLayout, syntax: str, number: int
) -> Frame:
    """Take one frame out of native pixel data.

    Parameters
    ----------
    number
        From 1.

    Returns
    -------
    (rows, columns) or (rows, columns, samples); read-only where it is a view of the
    pixel data. YBR is RGB by now; unused high bits are cleared.

    Raises
    ------
    Exception
        Whatever pydicom raises for pixels that no one can read.

    Source
    ------
    PS3.5 8.1.1 and 8.1.2 (native encoding), PS3.3 C.7.6.3.1.3 (planar configuration).
    """
    if _whole_only(layout, syntax):
        whole = _in_memory(dataset, layout)
        return native_frame_by_pydicom(
            whole, dataset, layout, syntax=syntax, number=number
        )
    size = _frame_bits(layout) // 8
    data = _part(dataset[layout.keyword].value, (number - 1) * size, size)
    if "YBR" in layout.photometric_interpretation and layout.samples > 1:
        return native_frame_by_pydicom(
            bytes(data), dataset, layout, syntax=syntax, number=1
        )
    frame = np.frombuffer(data, _dtype(layout, syntax))
    return _used_bits(_shaped(frame, dataset, layout), layout)


def _is_422(layout: PixelLayout) -> bool:
    return layout.photometric_interpretation == "YBR_FULL_422"


def _frame_bits(layout: PixelLayout) -> int:
    bits = layout.rows * layout.columns * layout.samples * layout.bits_allocated
    return bits * 2 // 3 if _is_422(layout) else bits


def _whole_only(layout: PixelLayout, syntax: str) -> bool:
    """Tell whether a frame's bytes cannot be cut out by themselves.

    Single bits run on from frame to frame, and 8 bit samples in big endian words are
    swapped in pairs across them (PS3.5 8.1.1).
    """
    in_words = syntax == uid.ExplicitVRBigEndian and layout.bits_allocated == 8
    return layout.bits_allocated % 8 != 0 or in_words


def _in_memory(dataset: Dataset, layout: PixelLayout) -> Dataset:
    pixels = dataset[layout.keyword].value
    if isinstance(pixels, FileWindow):
        pixels.seek(0)
        dataset[layout.keyword].value = pixels.read()
    return dataset


def _part(pixels: Any, offset: int, size: int) -> memoryview:
    if isinstance(pixels, FileWindow):
        return pixels.view(offset, size)
    return memoryview(pixels)[offset : offset + size]


def _dtype(layout: PixelLayout, syntax: str) -> np.dtype[Any]:
    kind = "iu"[not layout.signed] if layout.keyword == "PixelData" else "f"
    order = ">" if syntax == uid.ExplicitVRBigEndian else "<"
    return np.dtype(f"{order}{kind}{layout.bits_allocated // 8}")


def _shaped(frame: Frame, dataset: Dataset, layout: PixelLayout) -> Frame:
    # Copies only where the file has the pixels at an odd place or in another order.
    frame = np.require(
        frame.astype(frame.dtype.newbyteorder("="), copy=False), None, ["A"]
    )
    by_plane = layout.samples > 1 and dataset.get("PlanarConfiguration") == 1
    if not by_plane:
        return frame.reshape(layout.frame_shape)
    planes = frame.reshape(layout.samples, layout.rows, layout.columns)
    return planes.transpose(1, 2, 0)


def _used_bits(frame: Frame, layout: PixelLayout) -> Frame:
    """Clear the bits above Bits Stored (old overlays), if there are any."""
    unused = layout.bits_allocated - layout.bits_stored
    if layout.keyword != "PixelData" or unused == 0:
        return frame
    least, most = int(frame.min()), int(frame.max())
    if layout.signed:
        fits = -(1 << (layout.bits_stored - 1)) <= least
        fits = fits and most < 1 << (layout.bits_stored - 1)
    else:
        fits = most < 1 << layout.bits_stored
    if fits:
        return frame
    shifted = np.left_shift(frame, unused)
    return np.right_shift(shifted, unused, out=shifted)
