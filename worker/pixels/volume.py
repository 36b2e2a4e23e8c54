"""A series of slices, or an enhanced object, as a block of modality values in space."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset

from core.domain import ImageReference, NotAnalysedReason
from core.errors import UnsupportedImage
from worker.pixels.decode import EncodedFrame, ImageFrames, open_frames
from worker.pixels.display import image_reference
from worker.pixels.functional_groups import frame_attributes
from worker.pixels.geometry import SlicePlane, Stack, stack_slices
from worker.pixels.limits import PixelLayout, PixelLimits, checked_layout
from worker.pixels.modality import to_modality_values
from worker.pixels.parallel import ordered_map, usable_cores
from worker.pixels.photometric import MONOCHROME
from worker.pixels.refusal import refused
from worker.pixels.source import open_image
from worker.pixels.spacing import pixel_spacing

__all__ = ["Volume", "read_volume"]

Source = Path | Dataset


@dataclass(frozen=True, eq=False)
class Volume:
    """Modality values on a regular grid."""

    values: npt.NDArray[np.float32]
    """(slices, rows, columns), modality units (HU for CT)."""
    spacing_mm: tuple[float, float, float]
    """Between slices, between rows, between columns."""
    affine: npt.NDArray[np.float64]
    """(4, 4): from (slice, row, column, 1) to patient coordinates in mm (LPS)."""
    references: tuple[ImageReference, ...]
    """One a slice, in the order of `values`."""


@dataclass(frozen=True)
class _Slice:
    """One frame of one source, known by its header only."""

    source: Source
    frame_number: int
    plane: SlicePlane
    reference: ImageReference


def read_volume(sources: Sequence[Source], limits: PixelLimits | None = None) -> Volume:
    """Read the images of one series as a volume.

    Parameters
    ----------
    sources
        Files or data sets in any order: many single slices, or one or more enhanced
        objects.
    limits
        For the whole volume, as float32; None: the default ones.

    Raises
    ------
    UnsupportedImage
        With the reason why these images are no block that a model could read.

    Source
    ------
    PS3.3 C.7.6.2 (Image Plane), C.7.6.16 (functional groups), C.11.1 (Modality LUT).
    """
    limits = limits or PixelLimits()
    slices: list[_Slice] = []
    shapes: set[tuple[int, int]] = set()
    for source in sources:
        image = open_image(source, limits, header_only=True)
        layout = _volume_layout(image, limits)
        shapes.add((layout.rows, layout.columns))
        slices.extend(_slices(source, image, layout))
    shape = _one_shape(shapes, len(slices), limits)
    stack = stack_slices([entry.plane for entry in slices])
    values = np.empty((len(slices), *shape), np.float32)
    _fill(values, slices, stack, limits)
    return Volume(
        values=values,
        spacing_mm=stack.spacing_mm,
        affine=stack.affine,
        references=tuple(slices[index].reference for index in stack.order),
    )


def _volume_layout(image: Dataset, limits: PixelLimits) -> PixelLayout:
    if "Rows" not in image:
        raise refused(image, NotAnalysedReason.PIXELS_MISSING, "is no image")
    layout = checked_layout(image, limits, header_only=True)
    if layout.samples != 1 or layout.photometric_interpretation not in MONOCHROME:
        raise refused(
            image,
            NotAnalysedReason.PHOTOMETRIC_UNSUPPORTED,
            "a volume is made of monochrome images",
        )
    return layout


def _one_shape(
    shapes: set[tuple[int, int]], slices: int, limits: PixelLimits
) -> tuple[int, int]:
    if not shapes:
        raise UnsupportedImage(NotAnalysedReason.NO_IMAGE.value, "series: no image")
    if len(shapes) > 1:
        raise UnsupportedImage(
            NotAnalysedReason.PIXELS_INCONSISTENT.value,
            f"series: slices of {len(shapes)} different matrices",
        )
    rows, columns = shapes.pop()
    needed = rows * columns * slices * 4
    if needed > limits.maximum_bytes:
        raise UnsupportedImage(
            NotAnalysedReason.PIXELS_TOO_LARGE.value,
            f"series: {slices} slices of {rows} x {columns} would need {needed} bytes, "
            f"at most {limits.maximum_bytes} are given",
        )
    return rows, columns


def _slices(source: Source, image: Dataset, layout: PixelLayout) -> Iterator[_Slice]:
    for frame_number in range(1, layout.frames + 1):
        attributes = frame_attributes(image, frame_number)
        _refuse_what_is_no_slice(image, attributes)
        reference = image_reference(image, frame_number if layout.frames > 1 else None)
        yield _Slice(source, frame_number, _plane(image, attributes), reference)


def _refuse_what_is_no_slice(image: Dataset, attributes: Dataset) -> None:
    kinds = {
        str(value).strip().upper()
        for keyword in ("ImageType", "FrameType")
        for value in attributes.get(keyword) or ()
    }
    # PS3.3 C.8.2.1.1.1 (CT) and C.8.3.1.1.1 (MR): value 3.
    if "LOCALIZER" in kinds:
        raise refused(
            image,
            NotAnalysedReason.LOCALIZER,
            "Image Type says LOCALIZER, a series of slices was expected",
        )
    if "MOSAIC" in kinds:
        raise refused(
            image,
            NotAnalysedReason.GEOMETRY_MISSING,
            "is a mosaic: many slices in one matrix with one position",
        )


def _plane(image: Dataset, attributes: Dataset) -> SlicePlane:
    position = _floats(attributes.get("ImagePositionPatient"))
    orientation = _floats(attributes.get("ImageOrientationPatient"))
    spacing, _ = pixel_spacing(attributes)
    if len(position) != 3 or len(orientation) != 6 or spacing is None:
        raise refused(
            image,
            NotAnalysedReason.GEOMETRY_MISSING,
            "has no usable Image Position (Patient), Image Orientation (Patient) or "
            "Pixel Spacing",
        )
    x, y, z = position
    a, b, c, d, e, f = orientation
    return SlicePlane((x, y, z), (a, b, c, d, e, f), spacing)


def _floats(value: Any) -> tuple[float, ...]:
    try:
        numbers = tuple(float(part) for part in value)
    except (TypeError, ValueError):
        return ()
    return numbers if np.isfinite(numbers).all() else ()


def _fill(
    values: npt.NDArray[np.float32],
    slices: Sequence[_Slice],
    stack: Stack,
    limits: PixelLimits,
) -> None:
    """Decode every source once, and put each frame where the stack has it."""
    place = {index: position for position, index in enumerate(stack.order)}

    def fill_one(task: tuple[int, ImageFrames, EncodedFrame]) -> None:
        index, frames, encoded = task
        attributes = frame_attributes(frames.image, slices[index].frame_number)
        to_modality_values(
            frames.decode(encoded),
            attributes,
            image=frames.image,
            out=values[place[index]],
        )

    tasks = _encoded_slices(slices, limits)
    for _ in ordered_map(fill_one, tasks, threads=usable_cores()):
        pass


def _encoded_slices(
    slices: Sequence[_Slice], limits: PixelLimits
) -> Iterator[tuple[int, ImageFrames, EncodedFrame]]:
    index = 0
    while index < len(slices):
        frames = open_frames(slices[index].source, limits)
        for encoded in frames.encoded():
            yield index, frames, encoded
            index += 1
