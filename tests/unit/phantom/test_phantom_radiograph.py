"""The phantom is what other tests are made of, so it is held to the standard first."""

import shutil
import subprocess
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydicom import dcmread, uid

from core.errors import InternalError, InvalidInstance
from core.uids import is_valid_uid
from worker.phantom import PhantomIdentity, chest_radiograph, from_picture, to_dicom
from worker.phantom.encode import ENCODERS


@pytest.fixture(scope="module")
def film():
    return chest_radiograph(rows=96, columns=80)


def test_equal_seeds_draw_equal_films(film):
    again = chest_radiograph(rows=96, columns=80)

    assert np.array_equal(film, again)


def test_another_seed_draws_another_patient(film):
    other = chest_radiograph(rows=96, columns=80, seed=1)

    assert np.abs(film - other).mean() > 0.005


def test_a_film_has_the_matrix_type_and_range_asked_for(film):
    assert film.shape == (96, 80)
    assert film.dtype == np.float32
    assert film.min() >= 0.0
    assert film.max() <= 1.0


def test_lungs_are_darker_than_heart_and_abdomen(film):
    right_lung = film[35:45, 18:28].mean()
    spine_and_heart = film[55:62, 38:44].mean()
    abdomen = film[85:93, 25:55].mean()

    assert right_lung < 0.5 * spine_and_heart
    assert right_lung < 0.5 * abdomen


def test_the_opacity_whitens_the_right_lower_zone_and_nothing_else(film):
    with_opacity = chest_radiograph(rows=96, columns=80, opacity=True)

    added = with_opacity - film

    assert added[50:62, 18:28].mean() > 0.1
    assert abs(added[:, 42:].mean()) < 0.001


def test_every_object_says_phantom(film):
    dataset = to_dicom(film)

    assert "PHANTOM" in str(dataset.PatientName)
    assert "PHANTOM" in dataset.SeriesDescription


def test_equal_arguments_make_the_same_instance_and_a_seed_makes_a_new_study(film):
    first, again = to_dicom(film), to_dicom(film)
    other = to_dicom(film, identity=PhantomIdentity(study_seed="another"))

    assert first == again
    assert is_valid_uid(first.SOPInstanceUID)
    assert other.StudyInstanceUID != first.StudyInstanceUID
    assert other.SOPInstanceUID != first.SOPInstanceUID


def test_another_encoding_of_one_film_is_another_instance_of_one_study(film):
    twelve, ten = to_dicom(film, bits_stored=12), to_dicom(film, bits_stored=10)

    assert twelve.StudyInstanceUID == ten.StudyInstanceUID
    assert twelve.SOPInstanceUID != ten.SOPInstanceUID


def test_stored_values_run_from_black_to_white_as_the_polarity_says():
    ramp = np.array([[0.0, 1.0]], np.float32)

    dark_is_low = to_dicom(ramp, bits_stored=10).pixel_array
    dark_is_high = to_dicom(
        ramp, bits_stored=10, photometric_interpretation="MONOCHROME1"
    ).pixel_array

    assert dark_is_low.tolist() == [[0, 1023]]
    assert dark_is_high.tolist() == [[1023, 0]]


def test_signed_values_come_back_by_the_rescale_intercept():
    ramp = np.array([[0.0, 1.0]], np.float32)

    dataset = to_dicom(ramp, bits_stored=12, signed=True, modality="CR")

    assert dataset.pixel_array.tolist() == [[-2048, 2047]]
    assert float(dataset.RescaleIntercept) == 2048.0


def test_a_signed_dx_image_is_refused_because_the_standard_has_none(film):
    with pytest.raises(InternalError, match="unsigned"):
        to_dicom(film, signed=True)


def test_big_endian_words_are_swapped():
    dataset = to_dicom(
        np.array([[1.0, 0.0]], np.float32),
        bits_stored=12,
        transfer_syntax_uid=uid.ExplicitVRBigEndian,
    )

    assert dataset.PixelData == b"\x0f\xff\x00\x00"


@pytest.mark.parametrize("modality", ["DX", "CR"])
@pytest.mark.parametrize("bits_stored", [8, 10, 12, 16])
@pytest.mark.parametrize("polarity", ["MONOCHROME1", "MONOCHROME2"])
def test_dciodvfy_finds_nothing_wrong(film, tmp_path, modality, bits_stored, polarity):
    _require_dciodvfy()
    dataset = to_dicom(
        film,
        bits_stored=bits_stored,
        photometric_interpretation=polarity,
        modality=modality,
    )

    assert _dciodvfy(dataset, tmp_path) == []


@pytest.mark.parametrize(
    "syntax",
    # dciodvfy does not know HTJ2K
    [syntax for syntax in ENCODERS if syntax != uid.HTJ2KLossless],
)
def test_dciodvfy_finds_nothing_wrong_in_an_encoded_object(film, tmp_path, syntax):
    _require_dciodvfy()
    bits_stored = min(12, ENCODERS[syntax].maximum_bits)
    dataset = to_dicom(film, bits_stored=bits_stored, transfer_syntax_uid=syntax)

    assert _dciodvfy(dataset, tmp_path) == []


def test_a_gray_picture_becomes_a_radiograph_of_its_pixels(tmp_path):
    path = tmp_path / "film.png"
    Image.fromarray(np.array([[0, 128], [255, 7]], np.uint8)).save(path)

    dataset = from_picture(path)

    assert dataset.pixel_array.tolist() == [[0, 128], [255, 7]]
    assert dataset.Modality == "DX"


def test_a_colour_picture_becomes_its_luminance(tmp_path):
    path = tmp_path / "film.png"
    Image.new("RGB", (2, 2), (100, 100, 100)).save(path)

    dataset = from_picture(path)

    assert dataset.PhotometricInterpretation == "MONOCHROME2"
    assert dataset.pixel_array.tolist() == [[100, 100], [100, 100]]


def test_a_file_that_is_no_picture_is_refused_with_what_to_give(tmp_path):
    path = tmp_path / "film.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\nno picture")

    with pytest.raises(InvalidInstance, match="JPEG or PNG"):
        from_picture(path)


def test_what_is_saved_is_read_back_the_same(film):
    dataset = to_dicom(film)
    file = BytesIO()

    dataset.save_as(file, enforce_file_format=True)

    file.seek(0)
    assert dcmread(file).PixelData == dataset.PixelData


def _require_dciodvfy() -> None:
    if shutil.which("dciodvfy") is None:
        pytest.skip("dciodvfy (dicom3tools) is not installed")


def _dciodvfy(dataset, folder: Path) -> list[str]:
    path = folder / "phantom.dcm"
    dataset.save_as(path, enforce_file_format=True)
    run = subprocess.run(
        ["dciodvfy", path], capture_output=True, text=True, check=False
    )
    lines = (run.stdout + run.stderr).splitlines()
    return [line for line in lines if line.startswith(("Error", "Warning"))]
