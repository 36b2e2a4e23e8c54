"""A frame's own attributes, from the data set or from its functional groups."""

from collections.abc import Iterator

from pydicom.dataset import Dataset

__all__ = ["frame_attributes"]


def frame_attributes(image: Dataset, frame_number: int) -> Dataset:
    """Gather what holds for one frame in one flat data set.

    Parameters
    ----------
    image
        Is not changed.
    frame_number
        From 1.

    Returns
    -------
    `image` itself where it has no functional groups; else a new data set of the top
    level attributes that matter, overlaid by the shared macros and then by the frame's.

    Source
    ------
    PS3.3 C.7.6.16 (Multi-frame Functional Groups), C.7.6.16.2 (macros of one item).
    """
    shared = image.get("SharedFunctionalGroupsSequence")
    by_frame = image.get("PerFrameFunctionalGroupsSequence")
    if not shared and not by_frame:
        return image
    groups = list(shared[:1]) if shared else []
    if by_frame and frame_number <= len(by_frame):
        groups.append(by_frame[frame_number - 1])
    flat = Dataset()
    for keyword in _TOP_LEVEL:
        if keyword in image:
            flat[keyword] = image[keyword]
    for macro in _macros(groups):
        flat.update({element.tag: element for element in macro})
    return flat


_TOP_LEVEL = (
    "FrameOfReferenceUID",
    "ImageType",
    "ImagerPixelSpacing",
    "ModalityLUTSequence",
    "RescaleIntercept",
    "RescaleSlope",
    "SOPInstanceUID",
    "VOILUTSequence",
    "WindowCenter",
    "WindowWidth",
)
"""What old-style attributes enhanced objects are seen to keep at the top level."""

_MACROS = (
    "PixelMeasuresSequence",
    "PlanePositionSequence",
    "PlaneOrientationSequence",
    "PixelValueTransformationSequence",
    "FrameVOILUTSequence",
    "CTImageFrameTypeSequence",
    "MRImageFrameTypeSequence",
    "CTAcquisitionDetailsSequence",
)


def _macros(groups: list[Dataset]) -> Iterator[Dataset]:
    for group in groups:
        for keyword in _MACROS:
            items = group.get(keyword)
            if items:
                yield items[0]
