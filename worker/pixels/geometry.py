"""Slices in space: their order along the normal, their spacing, what breaks a stack.

Coordinates are the patient's, in mm: x to the left, y to the back, z to the head (PS3.3
C.7.6.2.1.1). Nothing here knows of files.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from core.domain import NotAnalysedReason
from core.errors import UnsupportedImage

__all__ = ["SlicePlane", "Stack", "stack_slices"]

Vector = npt.NDArray[np.float64]

ANGLE_TOLERANCE = 1e-3
"""Of direction cosines; they are written with about four digits."""
DUPLICATE_MM = 1e-3
TILT_DEGREES = 0.5
"""A shear below this moves the last of 200 slices of 1 mm by less than 2 mm."""
SPACING_TOLERANCE = 0.1
"""Share of the median distance by which one may differ; positions are rounded."""


@dataclass(frozen=True)
class SlicePlane:
    """Where one slice lies."""

    position_mm: tuple[float, float, float]
    """Image Position (Patient): centre of the first pixel."""
    orientation: tuple[float, float, float, float, float, float]
    """Image Orientation (Patient): directions of a row, then of a column."""
    pixel_spacing_mm: tuple[float, float]
    """Between rows, between columns."""


@dataclass(frozen=True, eq=False)
class Stack:
    """Slices that form a right-angled, gapless block."""

    order: tuple[int, ...]
    """Indices of the slices as given, ascending along the normal."""
    spacing_mm: tuple[float, float, float]
    """Between slices, between rows, between columns."""
    affine: Vector
    """(4, 4): from (slice, row, column, 1) to patient coordinates in mm."""


def stack_slices(planes: Sequence[SlicePlane]) -> Stack:
    """Put slices in order and prove that they form a block.

    Parameters
    ----------
    planes
        At least two, in any order.

    Returns
    -------
    The stack; the normal is the row direction crossed with the column direction.

    Raises
    ------
    UnsupportedImage
        `geometry-missing`, `orientation-mixed`, `pixels-inconsistent`,
        `slices-duplicated`, `gantry-tilt` or `slices-missing`, in this order of checks.

    Source
    ------
    PS3.3 C.7.6.2.1.1 (Image Position and Image Orientation), 10.7.1.3 (Pixel Spacing).
    """
    if len(planes) < 2:
        raise _refused(
            NotAnalysedReason.GEOMETRY_MISSING,
            f"{len(planes)} slices; a volume has at least two",
        )
    normal = _common_normal(planes)
    _require_one_spacing(planes)
    positions = np.array([plane.position_mm for plane in planes], np.float64)
    along = positions @ normal
    order = np.argsort(along, kind="stable")
    distances = np.diff(along[order])
    _refuse_duplicates(distances)
    _refuse_tilt(positions[order], normal)
    step = _regular_distance(distances)
    rows_mm, columns_mm = planes[0].pixel_spacing_mm
    row_direction, column_direction = _directions(planes[0])
    affine = np.eye(4)
    affine[:3, 0] = normal * step
    affine[:3, 1] = column_direction * rows_mm
    affine[:3, 2] = row_direction * columns_mm
    affine[:3, 3] = positions[order[0]]
    return Stack(tuple(int(i) for i in order), (step, rows_mm, columns_mm), affine)


def _directions(plane: SlicePlane) -> tuple[Vector, Vector]:
    cosines = np.array(plane.orientation, np.float64)
    return cosines[:3], cosines[3:]


def _common_normal(planes: Sequence[SlicePlane]) -> Vector:
    row_direction, column_direction = _directions(planes[0])
    lengths = np.linalg.norm([row_direction, column_direction], axis=1)
    skew = abs(float(row_direction @ column_direction))
    # NaN fails every comparison, so the sound case is the one spelled out.
    if not (np.allclose(lengths, 1.0, atol=ANGLE_TOLERANCE) and skew < ANGLE_TOLERANCE):
        raise _refused(
            NotAnalysedReason.GEOMETRY_MISSING,
            "Image Orientation (Patient) is no pair of perpendicular unit vectors",
        )
    orientations = np.array([plane.orientation for plane in planes], np.float64)
    if not np.allclose(orientations, orientations[0], atol=ANGLE_TOLERANCE):
        raise _refused(
            NotAnalysedReason.ORIENTATION_MIXED,
            "the slices lie in planes of different orientation",
        )
    normal = np.cross(row_direction, column_direction)
    return np.asarray(normal / np.linalg.norm(normal), np.float64)


def _require_one_spacing(planes: Sequence[SlicePlane]) -> None:
    spacings = np.array([plane.pixel_spacing_mm for plane in planes], np.float64)
    if not (np.allclose(spacings, spacings[0], rtol=1e-3) and (spacings > 0.0).all()):
        raise _refused(
            NotAnalysedReason.PIXELS_INCONSISTENT,
            "Pixel Spacing differs between the slices or is not positive",
        )


def _refuse_duplicates(distances: Vector) -> None:
    twice = int((distances < DUPLICATE_MM).sum())
    if twice:
        raise _refused(
            NotAnalysedReason.SLICES_DUPLICATED,
            f"{twice} of {len(distances) + 1} slices lie where another one lies",
        )


def _refuse_tilt(positions: Vector, normal: Vector) -> None:
    path = positions[-1] - positions[0]
    along = float(path @ normal)
    aside = float(np.linalg.norm(path - along * normal))
    degrees = float(np.degrees(np.arctan2(aside, along)))
    if degrees > TILT_DEGREES:
        raise _refused(
            NotAnalysedReason.GANTRY_TILT,
            f"the slices are shifted against each other by {degrees:.1f} degrees",
        )


def _regular_distance(distances: Vector) -> float:
    median = float(np.median(distances))
    gaps = int((distances > 1.5 * median).sum())
    if gaps or (distances < median / 1.5).any():
        raise _refused(
            NotAnalysedReason.SLICES_MISSING,
            f"{max(gaps, 1)} gaps between slices of about {median:.3g} mm distance",
        )
    if not np.allclose(distances, median, rtol=SPACING_TOLERANCE, atol=0.0):
        raise _refused(
            NotAnalysedReason.SLICES_MISSING,
            f"distances of {distances.min():.3g} to {distances.max():.3g} mm between "
            "slices, expected one",
        )
    return float(distances.mean())


def _refused(reason: NotAnalysedReason, explanation: str) -> UnsupportedImage:
    return UnsupportedImage(reason.value, f"series: {explanation}")
