"""The same film, however it is stored, looks the same to a model."""

import numpy as np
import pytest
from pydicom import uid

from core.domain import NotAnalysedReason
from core.errors import UnsupportedImage
from worker.phantom import chest_radiograph, to_dicom
from worker.pixels.display import display_image


@pytest.fixture(scope="module")
def film():
    return chest_radiograph(rows=72, columns=64, opacity=True)


def _reason(image) -> str:
    with pytest.raises(UnsupportedImage) as refusal:
        display_image(image)
    return refusal.value.reason


@pytest.mark.parametrize(
    "syntax",
    [
        uid.ExplicitVRLittleEndian,
        uid.RLELossless,
        uid.JPEGLSLossless,
        uid.JPEG2000Lossless,
    ],
)
@pytest.mark.parametrize("bits_stored", [8, 10, 12, 16])
@pytest.mark.parametrize("polarity", ["MONOCHROME1", "MONOCHROME2"])
def test_one_film_gives_one_display_image_however_it_is_stored(
    film, polarity, bits_stored, syntax
):
    image = to_dicom(
        film,
        bits_stored=bits_stored,
        photometric_interpretation=polarity,
        transfer_syntax_uid=syntax,
    )

    shown = display_image(image)

    # Half a step of the 8 bit film is the most that any rounding may cost.
    assert np.abs(shown.pixels - film).max() <= 0.5 / 255 + 1e-5
    assert shown.notes == ("Pixel size is that at the detector, not in the patient.",)


def test_signed_values_look_like_unsigned_ones(film):
    signed = display_image(to_dicom(film, signed=True, modality="CR"))
    unsigned = display_image(to_dicom(film, modality="CR"))

    assert np.abs(signed.pixels - unsigned.pixels).max() < 1e-6


def test_pixels_are_float32_of_the_stored_matrix(film):
    shown = display_image(to_dicom(film))

    assert shown.pixels.shape == film.shape
    assert shown.pixels.dtype == np.float32


def test_the_reference_names_the_whole_object(film):
    image = to_dicom(film)

    reference = display_image(image).reference

    assert reference.sop_instance_uid == image.SOPInstanceUID
    assert reference.series_instance_uid == image.SeriesInstanceUID
    assert reference.frame_number is None


def test_an_image_of_one_gray_is_empty(film):
    image = to_dicom(np.full_like(film, 0.5))

    assert _reason(image) == NotAnalysedReason.PIXELS_EMPTY


def test_a_window_that_shows_nothing_makes_an_empty_image(film):
    image = to_dicom(film)
    image.WindowCenter, image.WindowWidth = "100000", "2"

    assert _reason(image) == NotAnalysedReason.PIXELS_EMPTY


def test_padding_is_black_in_both_polarities(film):
    for polarity, padding in (("MONOCHROME1", 0), ("MONOCHROME2", 4095)):
        padded = np.clip(film, 0.1, 0.9)
        image = to_dicom(padded, photometric_interpretation=polarity)
        words = np.frombuffer(image.PixelData, "<u2").copy()
        words[:64] = padding
        image.PixelData = words.tobytes()
        image.PixelPaddingValue = padding

        shown = display_image(image)

        assert shown.pixels[0].max() == 0.0
        assert shown.pixels[1:].min() > 0.09


def test_a_polarity_that_contradicts_itself_is_refused(film):
    image = to_dicom(film)
    image.PresentationLUTShape = "INVERSE"

    assert _reason(image) == NotAnalysedReason.PHOTOMETRIC_UNSUPPORTED


def test_an_unknown_photometric_interpretation_is_refused(film):
    image = to_dicom(film)
    image.PhotometricInterpretation = "HSV"

    assert _reason(image) == NotAnalysedReason.PHOTOMETRIC_UNSUPPORTED


def test_colour_is_reduced_to_luminance_and_told():
    # 0.299 of red alone
    image = to_dicom(
        np.stack(
            [np.eye(4, dtype=np.float32)] + [np.zeros((4, 4), np.float32)] * 2, -1
        ),
        bits_stored=8,
        modality="CR",
        photometric_interpretation="RGB",
    )

    shown = display_image(image)

    assert shown.pixels[0, 0] == pytest.approx(0.299, abs=1e-3)
    assert shown.pixels[0, 1] == 0.0
    assert "colour" in shown.notes[0]


def test_a_palette_is_looked_up(film):
    image = to_dicom(film, bits_stored=8, modality="CR")
    image.PhotometricInterpretation = "PALETTE COLOR"
    ramp = (np.arange(256, dtype="<u2") * 257).tobytes()
    for colour in ("Red", "Green", "Blue"):
        setattr(image, f"{colour}PaletteColorLookupTableDescriptor", [256, 0, 16])
        setattr(image, f"{colour}PaletteColorLookupTableData", ramp)

    shown = display_image(image)

    assert np.abs(shown.pixels - film).max() < 1 / 255


def test_a_calibrated_spacing_comes_before_that_of_the_detector(film):
    image = to_dicom(film)
    image.PixelSpacing = ["0.3", "0.2"]

    shown = display_image(image)

    assert shown.pixel_spacing_mm == (0.3, 0.2)
    assert shown.notes == ()


def test_a_frame_that_is_not_there_is_refused(film):
    with pytest.raises(UnsupportedImage, match="frame 2"):
        display_image(to_dicom(film), frame_number=2)


def test_the_frame_asked_for_is_shown_and_named(film):
    image = to_dicom(film, bits_stored=8)
    image.NumberOfFrames = 2
    first = image.PixelData
    image.PixelData = first + first[::-1]

    shown = display_image(image, frame_number=2)

    assert shown.reference.frame_number == 2
    assert np.abs(shown.pixels[::-1, ::-1] - film).max() < 1 / 255
