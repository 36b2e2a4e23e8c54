"""PS3.3 C.11.1, numbers by hand."""

import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRBigEndian

from core.domain import NotAnalysedReason
from core.errors import UnsupportedImage
from worker.pixels.modality import to_modality_values


def _rescaled(stored: np.ndarray, **values) -> np.ndarray:
    attributes = Dataset()
    for keyword, value in values.items():
        setattr(attributes, keyword, value)
    return to_modality_values(stored, attributes, image=attributes)


def _lut_item(descriptor: list[int], data) -> Dataset:
    item = Dataset()
    item.LUTDescriptor = descriptor
    if isinstance(data, bytes):
        item.add_new("LUTData", "OW", data)
    else:
        item.LUTData = data
    return item


def test_slope_and_intercept_give_hounsfield_units():
    stored = np.array([0, 1024, 4095], np.uint16)

    values = _rescaled(stored, RescaleSlope="1", RescaleIntercept="-1024")

    assert values.tolist() == [-1024, 0, 3071]
    assert values.dtype == np.float32


def test_without_a_modality_lut_values_stay_as_stored():
    stored = np.array([-7, 9], np.int16)

    values = _rescaled(stored)

    assert values.tolist() == [-7, 9]


def test_stored_values_are_not_changed():
    stored = np.array([1, 2], np.uint16)

    _rescaled(stored, RescaleSlope="2", RescaleIntercept="5")

    assert stored.tolist() == [1, 2]


def test_large_integers_keep_their_small_differences_when_an_offset_is_taken():
    stored = np.array([2**30, 2**30 + 1], np.uint32)

    values = _rescaled(stored, RescaleIntercept=str(-(2**30)))

    assert values.tolist() == [0, 1]


@pytest.mark.parametrize("slope", ["0", "0.0"])
def test_a_slope_of_zero_is_refused(slope):
    with pytest.raises(UnsupportedImage) as refusal:
        _rescaled(np.array([1], np.uint16), RescaleSlope=slope)

    assert refusal.value.reason == NotAnalysedReason.PIXELS_INCONSISTENT


def test_a_modality_lut_comes_before_slope_and_intercept():
    item = _lut_item([3, 10, 16], [100, 200, 300])
    stored = np.array([5, 10, 11, 12, 90], np.uint16)

    values = _rescaled(stored, ModalityLUTSequence=[item], RescaleSlope="7")

    assert values.tolist() == [100, 100, 200, 300, 300]


def test_a_first_value_of_signed_pixels_written_unsigned_is_signed():
    # 65534 as SS is -2
    item = _lut_item([4, 65534, 16], [10, 20, 30, 40])
    stored = np.array([-2, -1, 0, 1], np.int16)

    values = _rescaled(stored, ModalityLUTSequence=[item])

    assert values.tolist() == [10, 20, 30, 40]


def test_zero_entries_stand_for_65536():
    item = _lut_item([0, 0, 16], list(range(65535, -1, -1)))

    values = _rescaled(np.array([0, 65535], np.uint16), ModalityLUTSequence=[item])

    assert values.tolist() == [65535, 0]


def test_a_table_as_bytes_is_read_in_the_file_s_byte_order():
    little = _lut_item([2, 0, 16], b"\x01\x00\x00\x02")
    image = Dataset()
    image.ModalityLUTSequence = [little]
    image.file_meta = Dataset()
    image.file_meta.TransferSyntaxUID = ExplicitVRBigEndian
    stored = np.array([0, 1], np.uint16)

    as_big = to_modality_values(stored, image, image=image)
    as_little = _rescaled(stored, ModalityLUTSequence=[little])

    assert as_little.tolist() == [1, 512]
    assert as_big.tolist() == [256, 2]


def test_a_table_shorter_than_it_says_is_refused():
    item = _lut_item([9, 0, 16], [1, 2])

    with pytest.raises(UnsupportedImage, match="announced 9"):
        _rescaled(np.array([0], np.uint16), ModalityLUTSequence=[item])
