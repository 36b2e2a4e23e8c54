"""A made-up head goes in as slices, in any order, and comes out as a block in HU."""

import random

import numpy as np
import pytest
from pydicom import uid
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from core.domain import NotAnalysedReason
from core.errors import UnsupportedImage
from worker.phantom import ct_series
from worker.phantom.volume import head_hu
from worker.pixels.limits import PixelLimits
from worker.pixels.volume import read_volume


def _reason(series, limits: PixelLimits | None = None) -> str:
    with pytest.raises(UnsupportedImage) as refusal:
        read_volume(series, limits)
    return refusal.value.reason


def test_shuffled_slices_become_the_head_in_hounsfield_units():
    series = ct_series()
    random.Random(4).shuffle(series)

    volume = read_volume(series)

    assert np.array_equal(volume.values, head_hu(8, 32, 24))
    assert volume.spacing_mm == (2.5, 0.7, 0.7)
    assert volume.values.dtype == np.float32


def test_references_stand_in_the_order_of_the_slices():
    series = ct_series()

    volume = read_volume(series[::-1])

    uids = [reference.sop_instance_uid for reference in volume.references]
    assert uids == [image.SOPInstanceUID for image in series]


def test_files_are_read_like_data_sets(tmp_path):
    paths = []
    for number, image in enumerate(ct_series(transfer_syntax_uid=uid.RLELossless)):
        paths.append(tmp_path / str(number))
        image.save_as(paths[-1], enforce_file_format=True)

    volume = read_volume(paths)

    assert np.array_equal(volume.values, head_hu(8, 32, 24))


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        ({"tilt_degrees": 12.0}, NotAnalysedReason.GANTRY_TILT),
        ({"missing": [3]}, NotAnalysedReason.SLICES_MISSING),
        ({"duplicated": [2]}, NotAnalysedReason.SLICES_DUPLICATED),
        ({"localizer": True}, NotAnalysedReason.LOCALIZER),
    ],
)
def test_a_broken_series_is_refused_with_its_reason(broken, reason):
    assert _reason(ct_series(**broken)) == reason


def test_a_slice_without_position_is_refused():
    series = ct_series()
    del series[3].ImagePositionPatient

    assert _reason(series) == NotAnalysedReason.GEOMETRY_MISSING


def test_slices_of_two_matrices_are_refused():
    series = [*ct_series(shape=(4, 32, 24)), *ct_series(shape=(4, 16, 24))]

    assert _reason(series) == NotAnalysedReason.PIXELS_INCONSISTENT


def test_a_volume_above_the_limit_is_refused_before_it_is_made():
    limits = PixelLimits(maximum_bytes=8 * 32 * 24 * 4 - 1)

    assert _reason(ct_series(), limits) == NotAnalysedReason.PIXELS_TOO_LARGE


def test_no_slices_are_no_image():
    assert _reason([]) == NotAnalysedReason.NO_IMAGE


def test_an_enhanced_object_gives_the_same_volume_from_its_functional_groups():
    enhanced = _enhanced(ct_series())

    volume = read_volume([enhanced])

    assert np.array_equal(volume.values, head_hu(8, 32, 24))
    assert volume.spacing_mm == (2.5, 0.7, 0.7)
    assert [reference.frame_number for reference in volume.references] == [
        *range(8, 0, -1)
    ]


def _enhanced(series: list[Dataset]) -> Dataset:
    """Fold a series, last slice first, into one multi-frame object (PS3.3 A.38)."""
    frames = series[::-1]
    first = frames[0]
    enhanced = Dataset()
    for keyword in [
        "SOPInstanceUID",
        "SeriesInstanceUID",
        "Rows",
        "Columns",
        "BitsAllocated",
        "BitsStored",
        "HighBit",
        "PixelRepresentation",
        "SamplesPerPixel",
        "PhotometricInterpretation",
        "ImageType",
    ]:
        enhanced[keyword] = first[keyword]
    enhanced.SOPClassUID = uid.EnhancedCTImageStorage
    enhanced.NumberOfFrames = len(frames)
    enhanced.PixelData = b"".join(frame.PixelData for frame in frames)
    enhanced.SharedFunctionalGroupsSequence = Sequence(
        [
            _group(
                PixelMeasuresSequence=_item(first, "PixelSpacing", "SliceThickness"),
                PlaneOrientationSequence=_item(first, "ImageOrientationPatient"),
                PixelValueTransformationSequence=_item(
                    first, "RescaleSlope", "RescaleIntercept"
                ),
            )
        ]
    )
    enhanced.PerFrameFunctionalGroupsSequence = Sequence(
        [
            _group(PlanePositionSequence=_item(frame, "ImagePositionPatient"))
            for frame in frames
        ]
    )
    enhanced.file_meta = first.file_meta
    return enhanced


def _item(source: Dataset, *keywords: str) -> Sequence:
    item = Dataset()
    for keyword in keywords:
        item[keyword] = source[keyword]
    return Sequence([item])


def _group(**macros: Sequence) -> Dataset:
    group = Dataset()
    for keyword, items in macros.items():
        setattr(group, keyword, items)
    return group
