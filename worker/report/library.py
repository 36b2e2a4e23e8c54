"""The image library: which images were analysed, and enough to tell them apart.

Built item by item rather than with highdicom's template class, which demands spacing,
orientation and position of every source and knows no SOP class but its own list.

Source
------
PS3.16 TID 1600 (Image Library), TID 1601, TID 1602, TID 1603 (projection radiography),
TID 1604 (cross-sectional modalities).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from highdicom.sr import (
    CodeContentItem,
    ContainerContentItem,
    ContentItem,
    ContentSequence,
    ImageContentItem,
    NumContentItem,
    RelationshipTypeValues,
    TextContentItem,
    UIDRefContentItem,
)
from pydicom import Dataset
from pydicom.sr.coding import Code

from worker.report import codes
from worker.report.sources import text_of

__all__ = ["image_library"]

_ACQUISITION = RelationshipTypeValues.HAS_ACQ_CONTEXT
_CONTAINS = RelationshipTypeValues.CONTAINS

PROJECTION = {"CR", "DX", "IO", "MG", "PX", "RF", "RG", "XA"}
CROSS_SECTIONAL = {"CT", "MR", "PT"}


@dataclass(frozen=True)
class _Number:
    """A descriptor that is one value of one attribute."""

    name: Code
    keyword: str
    index: int
    unit: Code


_ROWS_AND_COLUMNS = (
    _Number(codes.PIXEL_DATA_ROWS, "Rows", 0, codes.PIXELS),
    _Number(codes.PIXEL_DATA_COLUMNS, "Columns", 0, codes.PIXELS),
)
# PS3.3 10.7.1.3: the first value of a spacing is the distance between rows: vertical.
_PROJECTION_SPACING = (
    _Number(codes.HORIZONTAL_PIXEL_SPACING, "ImagerPixelSpacing", 1, codes.MILLIMETER),
    _Number(codes.VERTICAL_PIXEL_SPACING, "ImagerPixelSpacing", 0, codes.MILLIMETER),
)
_SLICE_GEOMETRY = (
    _Number(codes.HORIZONTAL_PIXEL_SPACING, "PixelSpacing", 1, codes.MILLIMETER),
    _Number(codes.VERTICAL_PIXEL_SPACING, "PixelSpacing", 0, codes.MILLIMETER),
    _Number(codes.SLICE_THICKNESS, "SliceThickness", 0, codes.MILLIMETER),
    *(
        _Number(name, "ImagePositionPatient", index, codes.MILLIMETER)
        for index, name in enumerate(codes.IMAGE_POSITION)
    ),
    *(
        _Number(name, "ImageOrientationPatient", index, codes.COSINE)
        for index, name in enumerate(codes.IMAGE_ORIENTATION)
    ),
)
_SLICE_SPACING = _Number(
    codes.SPACING_BETWEEN_SLICES, "SpacingBetweenSlices", 0, codes.MILLIMETER
)


def image_library(sources: Sequence[Dataset]) -> ContainerContentItem:
    """List the analysed images, grouped by modality and frame of reference.

    Parameters
    ----------
    sources
        Headers of the images, possibly none: viewers look for the library all the
        same. Descriptors are left out where a header does not give all that their
        template demands.
    """
    groups: dict[tuple[str, str], list[Dataset]] = {}
    for source in sources:
        key = (text_of(source, "Modality"), text_of(source, "FrameOfReferenceUID"))
        groups.setdefault(key, []).append(source)
    library = ContainerContentItem(codes.IMAGE_LIBRARY, relationship_type=_CONTAINS)
    if groups:
        library.ContentSequence = ContentSequence(
            [_group(members) for members in groups.values()]
        )
    return library


def _group(sources: Sequence[Dataset]) -> ContainerContentItem:
    group = ContainerContentItem(codes.IMAGE_LIBRARY_GROUP, relationship_type=_CONTAINS)
    group.ContentSequence = ContentSequence([_entry(source) for source in sources])
    return group


def _entry(source: Dataset) -> ImageContentItem:
    entry = ImageContentItem(
        codes.LIBRARY_SOURCE,
        referenced_sop_class_uid=source.SOPClassUID,
        referenced_sop_instance_uid=source.SOPInstanceUID,
        relationship_type=_CONTAINS,
    )
    descriptors = _descriptors(source)
    if descriptors:
        entry.ContentSequence = ContentSequence(descriptors)
    return entry


def _descriptors(source: Dataset) -> list[ContentItem]:
    modality = text_of(source, "Modality")
    if modality not in codes.MODALITY:
        # TID 1602 begins with a modality of CID 29, which has no "other".
        return []
    items: list[ContentItem] = [
        CodeContentItem(codes.LIBRARY_MODALITY, codes.MODALITY[modality], _ACQUISITION)
    ]
    frame_of_reference_uid = text_of(source, "FrameOfReferenceUID")
    if frame_of_reference_uid:
        name = codes.FRAME_OF_REFERENCE_UID
        items.append(UIDRefContentItem(name, frame_of_reference_uid, _ACQUISITION))
    items += _numbers(source, _ROWS_AND_COLUMNS)
    if modality in PROJECTION:
        items += _projection(source)
    elif modality in CROSS_SECTIONAL:
        geometry = _numbers(source, _SLICE_GEOMETRY)
        items += geometry
        if geometry:
            items += _numbers(source, (_SLICE_SPACING,))
    return items


def _projection(source: Dataset) -> list[ContentItem]:
    spacing = _numbers(source, _PROJECTION_SPACING)
    orientation = [str(v) for v in _values(source, "PatientOrientation") if v]
    if not spacing or len(orientation) != 2:
        return []
    names = (codes.PATIENT_ORIENTATION_ROW, codes.PATIENT_ORIENTATION_COLUMN)
    directions = [
        TextContentItem(name, direction, _ACQUISITION)
        for name, direction in zip(names, orientation, strict=True)
    ]
    return [*directions, *spacing]


def _numbers(source: Dataset, wanted: Sequence[_Number]) -> list[NumContentItem]:
    """Give all the wanted numbers, or none: TID 1603 and 1604 hold mandatory rows."""
    items = []
    for number in wanted:
        values = _values(source, number.keyword)
        try:
            value = float(values[number.index])
        except (IndexError, TypeError, ValueError):
            return []
        if not math.isfinite(value):
            return []
        whole = int(value) if value.is_integer() else value
        items.append(
            NumContentItem(number.name, whole, number.unit, None, _ACQUISITION)
        )
    return items


def _values(source: Dataset, keyword: str) -> list[Any]:
    value = source.get(keyword)
    if value is None or isinstance(value, bytes):
        return []
    return [value] if isinstance(value, str | int | float) else list(value)
