"""Nothing is allocated for an image that its header says is too large."""

import pytest
from pydicom import DataElement, config
from pydicom.dataset import Dataset

from core.domain import NotAnalysedReason
from core.errors import UnsupportedImage
from worker.pixels.limits import PixelLimits, checked_layout


def _image(**values) -> Dataset:
    image = Dataset()
    image.Rows = image.Columns = 10
    image.SamplesPerPixel = 1
    image.BitsAllocated, image.BitsStored = 16, 12
    image.PixelRepresentation = 0
    image.PhotometricInterpretation = "MONOCHROME2"
    image.PixelData = b""
    for keyword, value in values.items():
        setattr(image, keyword, value)
    return image


def _reason(image: Dataset, limits: PixelLimits | None = None) -> str:
    with pytest.raises(UnsupportedImage) as refusal:
        checked_layout(image, limits or PixelLimits())
    return refusal.value.reason


def test_the_product_of_all_dimensions_counts():
    image = _image(NumberOfFrames=3, SamplesPerPixel=3)

    layout = checked_layout(image, PixelLimits())

    assert layout.decoded_bytes == 10 * 10 * 3 * 3 * 2


def test_a_product_beyond_32_bits_does_not_wrap_around():
    image = _image(Rows=65535, Columns=65535, NumberOfFrames=4)

    assert _reason(image) == NotAnalysedReason.PIXELS_TOO_LARGE


def test_one_byte_above_the_limit_is_too_large():
    image = _image()

    checked_layout(image, PixelLimits(maximum_bytes=200))
    reason = _reason(image, PixelLimits(maximum_bytes=199))

    assert reason == NotAnalysedReason.PIXELS_TOO_LARGE


def test_too_many_frames_are_too_large():
    image = _image(NumberOfFrames=6)

    reason = _reason(image, PixelLimits(maximum_frames=5))

    assert reason == NotAnalysedReason.PIXELS_TOO_LARGE


def test_single_bits_count_as_the_bytes_they_become():
    image = _image(BitsAllocated=1, BitsStored=1)

    assert checked_layout(image, PixelLimits()).decoded_bytes == 100


def test_an_object_without_pixels_is_told_from_an_image():
    image = _image()
    del image.PixelData

    assert _reason(image) == NotAnalysedReason.PIXELS_MISSING


def test_two_kinds_of_pixel_data_are_inconsistent():
    image = _image(FloatPixelData=b"")

    assert _reason(image) == NotAnalysedReason.PIXELS_INCONSISTENT


@pytest.mark.parametrize(
    ("keyword", "value"),
    [("Rows", 0), ("Columns", None), ("BitsStored", 17), ("NumberOfFrames", "0")],
)
def test_a_header_that_describes_no_image_is_inconsistent(keyword, value):
    image = _image(**{keyword: value})

    assert _reason(image) == NotAnalysedReason.PIXELS_INCONSISTENT


def test_a_missing_photometric_interpretation_has_its_own_reason():
    image = _image(PhotometricInterpretation="")

    assert _reason(image) == NotAnalysedReason.PHOTOMETRIC_UNSUPPORTED


def test_a_refusal_names_the_instance_but_no_text_that_is_no_uid():
    named = _image(SOPInstanceUID="1.2.3", Rows=0)
    marked = _image(Rows=0)
    marked[0x00080018] = DataElement(
        0x00080018, "UI", "DOE^JANE", validation_mode=config.IGNORE
    )

    with pytest.raises(UnsupportedImage, match=r"image 1\.2\.3"):
        checked_layout(named, PixelLimits())
    with pytest.raises(UnsupportedImage, match="without a valid UID") as refusal:
        checked_layout(marked, PixelLimits())

    assert "DOE" not in str(refusal.value)
