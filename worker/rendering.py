"""Pictures and decoded frames of stored images, for those who look at them.

Runs in a process of its own (`worker.rendering_main`): it decodes what a peer sent.
An image is cut down to the frame that is asked for before anything is decoded, so a
frame costs the same in an image of one and of ten thousand.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import UID, ExplicitVRLittleEndian

from core.domain import NotAnalysedReason
from dicom_node.query.frames import (
    frame_count,
    is_encapsulated,
    native_frame,
    stored_frame,
)
from dicom_node.query.stored_files import StoredHeader, read_header
from worker.pixels.decode import iter_frames
from worker.pixels.functional_groups import frame_attributes
from worker.pixels.limits import PixelLimits, checked_layout
from worker.pixels.modality import to_modality_values
from worker.pixels.photometric import COLOUR, MONOCHROME, is_inverted, palette_to_rgb
from worker.pixels.refusal import refused
from worker.pixels.voi import Window, WindowFunction, apply_window, to_gray

__all__ = ["Look", "decoded_frame", "picture"]

_LIMITS = PixelLimits(maximum_bytes=2**30)
_KEYWORDS = {
    0x7FE00008: "FloatPixelData",
    0x7FE00009: "DoubleFloatPixelData",
    0x7FE00010: "PixelData",
}


@dataclass(frozen=True)
class Look:
    """How a picture is wanted."""

    media_type: str = "image/jpeg"
    window: tuple[float, float, str] | None = None
    """Centre, width and function instead of the image's own VOI."""
    size: tuple[int, int] | None = None
    """Columns and rows that it must fit into; None is its own size."""
    quality: int = 90


def picture(path: Path, frame_number: int, look: Look) -> bytes:
    """Render one frame.

    Parameters
    ----------
    path
        A Part 10 file.
    frame_number
        From 1.
    look
        As what.

    Raises
    ------
    UnsupportedImage, InvalidInstance
        If it cannot be shown.

    Source
    ------
    PS3.4 N.2 (pixel transformation sequence); PS3.18 10.4.5.
    """
    image = _one_frame(read_header(path), frame_number)
    stored = next(iter(iter_frames(image, _LIMITS)))
    shown = _fitted(Image.fromarray(_as_seen(stored, image, look)), look.size)
    buffer = BytesIO()
    if look.media_type == "image/png":
        shown.save(buffer, "PNG")
    else:
        shown.save(buffer, "JPEG", quality=look.quality)
    return buffer.getvalue()


def decoded_frame(path: Path, frame_number: int) -> bytes:
    """Decode one frame to native pixel data in little endian; YBR becomes RGB.

    Raises
    ------
    UnsupportedImage, InvalidInstance
        If it cannot be decoded.
    """
    image = _one_frame(read_header(path), frame_number)
    stored = next(iter(iter_frames(image, _LIMITS)))
    bits_allocated = checked_layout(image, _LIMITS).bits_allocated
    kind = "i" if stored.dtype.kind == "i" else "u"
    if stored.dtype.kind == "f":
        kind = "f"
    return stored.astype(f"<{kind}{max(1, bits_allocated // 8)}").tobytes()


def _one_frame(header: StoredHeader, number: int) -> Dataset:
    """Cut an image down to one of its frames."""
    pixels = header.pixels
    image = copy.copy(header.dataset)
    if pixels is None or not 1 <= number <= frame_count(header):
        raise refused(
            image, NotAnalysedReason.NO_IMAGE, f"there is no frame {number} in it"
        )
    encapsulated = is_encapsulated(header)
    content = (
        encapsulate([stored_frame(header, number)])
        if encapsulated
        else _even(b"".join(native_frame(header, number)))
    )
    frames_before = image.get("PerFrameFunctionalGroupsSequence")
    if frames_before is not None and number <= len(frames_before):
        image.PerFrameFunctionalGroupsSequence = [frames_before[number - 1]]
    image.NumberOfFrames = 1
    setattr(image, _KEYWORDS[pixels.tag], content)
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = UID(
        header.transfer_syntax_uid if encapsulated else ExplicitVRLittleEndian
    )
    image.file_meta = meta
    return image


def _even(data: bytes) -> bytes:
    return data + b"\0" * (len(data) % 2)


def _as_seen(
    stored: npt.NDArray[Any], image: Dataset, look: Look
) -> npt.NDArray[np.uint8]:
    layout = checked_layout(image, _LIMITS)
    photometric = layout.photometric_interpretation
    if photometric == "PALETTE COLOR" and layout.samples == 1:
        return _bytes(palette_to_rgb(stored, image))
    if photometric in COLOUR and layout.samples == 3:
        return _bytes(stored.astype(np.float32) / (2**layout.bits_stored - 1))
    if photometric not in MONOCHROME or layout.samples != 1:
        raise refused(
            image,
            NotAnalysedReason.PHOTOMETRIC_UNSUPPORTED,
            f"Photometric Interpretation with {layout.samples} samples cannot be shown",
        )
    attributes = frame_attributes(image, 1)
    values = to_modality_values(stored, attributes, image=image)
    if look.window is not None:
        center, width, function = look.window
        window = Window(center, width, WindowFunction(function))
        gray = apply_window(values, window)
    else:
        gray, _ = to_gray(values, attributes, image=image)
    if is_inverted(image, photometric):
        gray = 1 - gray
    return _bytes(gray)


def _bytes(shown: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    # Rounded, not cut: 1.0 is 255 and the rest lies between evenly.
    levels: npt.NDArray[np.uint8] = np.clip(np.rint(shown * 255), 0, 255).astype(
        np.uint8
    )
    return levels


def _fitted(shown: Image.Image, size: Sequence[int] | None) -> Image.Image:
    if size is None:
        return shown
    scale = min(size[0] / shown.width, size[1] / shown.height)
    fitted = (
        max(1, round(shown.width * scale)),
        max(1, round(shown.height * scale)),
    )
    return shown.resize(fitted, Image.Resampling.LANCZOS)
