"""One radiograph from file to the gray image a model sees, in the standard's order.

Modality LUT, VOI LUT, polarity (PS3.3 C.11, PS3.4 N.2). The stored matrix is kept.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset

from core.domain import ImageReference, NotAnalysedReason
from worker.pixels.decode import EncodedFrame, ImageFrames, open_frames
from worker.pixels.functional_groups import frame_attributes
from worker.pixels.gray import monochrome_to_gray
from worker.pixels.limits import PixelLayout, PixelLimits
from worker.pixels.parallel import usable_cores
from worker.pixels.photometric import (
    COLOUR,
    MONOCHROME,
    is_inverted,
    luminance,
    palette_to_rgb,
)
from worker.pixels.refusal import refused
from worker.pixels.spacing import pixel_spacing

__all__ = ["DisplayImage", "display_frame", "display_image"]

FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class DisplayImage:
    """A gray image as it is meant to be seen."""

    pixels: FloatArray
    """(rows, columns) of the stored matrix, 0 (black) to 1, MONOCHROME2 sense."""
    pixel_spacing_mm: tuple[float, float] | None
    """Between rows, between columns; None if the image does not say."""
    reference: ImageReference
    notes: tuple[str, ...] = ()
    """Sentences for the reader of a report."""


def display_image(
    source: Path | Dataset,
    limits: PixelLimits | None = None,
    *,
    frame_number: int = 1,
) -> DisplayImage:
    """Read one image as it is meant to be seen.

    Parameters
    ----------
    source
        File, or data set with file meta.
    limits
        None: the default ones.
    frame_number
        Which frame, from 1.

    Raises
    ------
    UnsupportedImage
        With the reason, for whatever keeps the image from being read.

    Source
    ------
    PS3.4 N.2 (pixel transformation sequence).
    """
    frames = open_frames(source, limits)
    if not 1 <= frame_number <= frames.layout.frames:
        raise refused(
            frames.image,
            NotAnalysedReason.NO_IMAGE,
            f"frame {frame_number} asked for, the image has {frames.layout.frames}",
        )
    encoded = next(frames.encoded([frame_number]))
    return display_frame(frames, encoded, codec_threads=usable_cores())


def display_frame(
    frames: ImageFrames, encoded: EncodedFrame, *, codec_threads: int = 1
) -> DisplayImage:
    """Decode one frame of an open image, and show it; for any thread.

    Parameters
    ----------
    frames, encoded
        As `open_frames` and `ImageFrames.encoded` give them.
    codec_threads
        As for `ImageFrames.decode`.

    Raises
    ------
    UnsupportedImage
        With the reason, for whatever keeps the frame from being read.
    """
    image, layout = frames.image, frames.layout
    frame_number = encoded if isinstance(encoded, int) else encoded.number
    stored = frames.decode(encoded, codec_threads=codec_threads)
    _require_contrast(stored, image)
    pixels, notes = _as_seen(stored, image, layout, frame_number)
    _require_contrast(pixels, image)
    spacing, spacing_notes = pixel_spacing(frame_attributes(image, frame_number))
    return DisplayImage(
        pixels=pixels,
        pixel_spacing_mm=spacing,
        reference=image_reference(image, frame_number if layout.frames > 1 else None),
        notes=(*notes, *spacing_notes),
    )


def image_reference(image: Dataset, frame_number: int | None) -> ImageReference:
    """Name an image as reports do; missing UIDs become empty."""
    return ImageReference(
        sop_class_uid=str(image.get("SOPClassUID", "")),
        sop_instance_uid=str(image.get("SOPInstanceUID", "")),
        series_instance_uid=str(image.get("SeriesInstanceUID", "")),
        frame_number=frame_number,
    )


def _as_seen(
    stored: npt.NDArray[Any], image: Dataset, layout: PixelLayout, frame_number: int
) -> tuple[FloatArray, tuple[str, ...]]:
    photometric = layout.photometric_interpretation
    if photometric == "PALETTE COLOR" and layout.samples == 1:
        colours = palette_to_rgb(stored, image)
        return luminance(colours, 1.0), (
            "The image is in colour; its luminance was used.",
        )
    if photometric in COLOUR and layout.samples == 3:
        white = float(2**layout.bits_stored - 1)
        return luminance(stored, white), (
            "The image is in colour; its luminance was used.",
        )
    if photometric not in MONOCHROME or layout.samples != 1:
        raise refused(
            image,
            NotAnalysedReason.PHOTOMETRIC_UNSUPPORTED,
            f"Photometric Interpretation with {layout.samples} samples is not one of "
            "MONOCHROME1, MONOCHROME2, PALETTE COLOR, RGB and YBR",
        )
    return monochrome_to_gray(
        stored,
        frame_attributes(image, frame_number),
        image=image,
        inverted=is_inverted(image, photometric),
    )


def _require_contrast(pixels: npt.NDArray[Any], image: Dataset) -> None:
    if pixels.min() == pixels.max():
        raise refused(
            image,
            NotAnalysedReason.PIXELS_EMPTY,
            "all pixels have the same value, there is nothing to read",
        )
