"""Pixels stay in the file until a frame is asked for, and mean the same as before."""

import numpy as np
import pytest
from pydicom import dcmread, uid

from core.domain import NotAnalysedReason
from core.errors import UnsupportedImage
from tests.pixels import frames_of
from worker.pixels.decode import iter_frames, open_frames
from worker.pixels.limits import PixelLimits
from worker.pixels.pixel_element import FileWindow
from worker.pixels.source import open_image

FRAMES = 5
SYNTAXES = [
    uid.ImplicitVRLittleEndian,
    uid.ExplicitVRLittleEndian,
    uid.ExplicitVRBigEndian,
    uid.RLELossless,
    uid.JPEGLSLossless,
    uid.JPEG2000Lossless,
]


def multi_frame(syntax: str, **options):
    return frames_of(syntax, frames=FRAMES, bits_stored=12, **options)


@pytest.fixture
def saved(tmp_path):
    def save(image):
        path = tmp_path / "image.dcm"
        image.save_as(path, enforce_file_format=True)
        return path

    return save


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_frames_of_a_file_are_those_of_the_data_set(saved, syntax):
    image, stored = multi_frame(syntax)

    frames = list(iter_frames(saved(image), threads=2))

    assert np.array_equal(frames, stored)


@pytest.mark.parametrize("table", ["none", "basic", "extended"])
def test_any_table_of_offsets_leads_to_the_same_frames(saved, table):
    image, stored = multi_frame(uid.JPEGLSLossless, table=table)
    path = saved(image)

    opened = open_frames(path)
    fourth = opened.decode(next(opened.encoded([4])))

    assert np.array_equal(list(iter_frames(path)), stored)
    assert np.array_equal(fourth, stored[3])


def test_no_pixel_is_read_with_the_header(saved):
    image, _ = multi_frame(uid.ExplicitVRLittleEndian)

    opened = open_image(saved(image), PixelLimits())

    assert isinstance(opened.PixelData, FileWindow)
    assert opened.PixelData.tell() == 0
    assert len(opened.PixelData) == FRAMES * 40 * 36 * 2


def test_a_native_frame_is_a_view_of_the_file_that_outlives_it(saved):
    image, stored = multi_frame(uid.ExplicitVRLittleEndian)
    path = saved(image)

    frames = list(iter_frames(path))
    path.unlink()

    assert not frames[0].flags.owndata
    assert not frames[0].flags["W"]
    assert np.array_equal(frames, stored)


def test_elements_behind_the_pixels_do_no_harm(saved):
    image, stored = multi_frame(uid.ExplicitVRLittleEndian)
    image.add_new(0xFFFCFFFC, "OB", bytes(100))

    assert np.array_equal(list(iter_frames(saved(image))), stored)


def test_two_pixel_data_elements_are_refused(saved):
    image, _ = multi_frame(uid.ExplicitVRLittleEndian)
    image.FloatPixelData = bytes(8)
    path = saved(image)

    with pytest.raises(UnsupportedImage) as refusal:
        list(iter_frames(path))

    assert refusal.value.reason == NotAnalysedReason.PIXELS_INCONSISTENT


@pytest.mark.parametrize("syntax", [uid.ExplicitVRLittleEndian, uid.RLELossless])
def test_a_file_that_is_cut_off_within_a_frame_is_refused(saved, syntax):
    image, _ = multi_frame(syntax)
    path = saved(image)
    path.write_bytes(path.read_bytes()[:-40])

    with pytest.raises(UnsupportedImage) as refusal:
        list(iter_frames(path))

    assert refusal.value.reason == NotAnalysedReason.PIXELS_UNREADABLE


def test_a_file_that_lacks_only_the_end_of_its_items_is_read(saved):
    image, stored = multi_frame(uid.RLELossless)
    path = saved(image)
    data = path.read_bytes()
    assert data.endswith(b"\xfe\xff\xdd\xe0\0\0\0\0")
    path.write_bytes(data[:-8])

    assert np.array_equal(list(iter_frames(path)), stored)


def test_pixels_of_an_odd_vr_are_left_to_pydicom(saved):
    image, _ = multi_frame(uid.ExplicitVRLittleEndian)
    path = saved(image)
    data = path.read_bytes()
    place = data.index(b"\xe0\x7f\x10\x00OW")
    path.write_bytes(data[: place + 4] + b"US" + data[place + 6 :])

    with pytest.raises(UnsupportedImage) as refusal:
        list(iter_frames(path))

    assert refusal.value.reason in set(NotAnalysedReason)


def test_a_window_stays_within_its_bytes(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(bytes(range(200)))

    with FileWindow(path, 50, 20) as window:
        assert len(window) == 20
        assert window.read(4) == bytes([50, 51, 52, 53])
        assert window.seek(-2, 2) == 18
        assert window.read() == bytes([68, 69])
        assert window.read(4) == b""
        assert window.seek(1000) == 20
        assert bytes(window.view(3, 5)) == bytes(range(53, 58))
        window.seek(15)
        with pytest.raises(EOFError):
            window.read(6)


def test_a_data_set_of_a_file_can_be_decoded_by_pydicom_itself(saved):
    image, stored = multi_frame(uid.JPEG2000Lossless)

    opened = open_image(saved(image), PixelLimits())

    assert np.array_equal(opened.pixel_array, stored)
    assert np.array_equal(dcmread(saved(image)).pixel_array, stored)
