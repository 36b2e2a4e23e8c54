"""One film, every encoding: the same stored values, or a refusal in words."""

import zlib

import numpy as np
import pytest
from pydicom import dcmread, uid
from pydicom.encaps import encapsulate, generate_frames
from pydicom.filereader import read_file_meta_info

from core.domain import NotAnalysedReason
from core.errors import UnsupportedImage
from worker.phantom import chest_radiograph, to_dicom
from worker.phantom.encode import ENCODERS, NATIVE_SYNTAXES
from worker.pixels.decode import iter_frames
from worker.pixels.decoders import DECODERS, decoder
from worker.pixels.limits import PixelLimits

ROWS, COLUMNS = 61, 47
LOSSY = {syntax for syntax, how in ENCODERS.items() if how.lossy_method is not None}
LOSSLESS = sorted({*NATIVE_SYNTAXES, *ENCODERS} - LOSSY)
COMPRESSED = sorted(set(ENCODERS))


@pytest.fixture(scope="module")
def film():
    return chest_radiograph(rows=ROWS, columns=COLUMNS)


def _one(source) -> np.ndarray:
    (frame,) = iter_frames(source)
    return frame


def _reason(source, limits: PixelLimits | None = None) -> str:
    with pytest.raises(UnsupportedImage) as refusal:
        list(iter_frames(source, limits))
    return refusal.value.reason


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("bits_stored", [8, 10, 12, 16])
@pytest.mark.parametrize("syntax", LOSSLESS)
def test_a_lossless_encoding_gives_the_stored_values_back(
    film, syntax, bits_stored, signed
):
    expected = np.rint(film.astype(np.float64) * (2**bits_stored - 1))
    expected -= 2 ** (bits_stored - 1) if signed else 0
    image = to_dicom(
        film,
        bits_stored=bits_stored,
        signed=signed,
        modality="CR",
        transfer_syntax_uid=syntax,
    )

    frame = _one(image)

    assert np.array_equal(frame, expected)


@pytest.mark.parametrize("syntax", sorted(LOSSY))
def test_a_lossy_encoding_comes_close(film, syntax):
    image = to_dicom(film, bits_stored=8, transfer_syntax_uid=syntax)

    frame = _one(image)

    assert np.abs(frame / 255.0 - film).mean() < 0.02


@pytest.mark.parametrize("syntax", COMPRESSED)
def test_all_decoders_of_a_syntax_agree(film, syntax):
    image = to_dicom(film, bits_stored=8, transfer_syntax_uid=syntax)
    plugins = decoder(syntax).available_plugins
    names = [name for name in DECODERS[syntax].plugins if name in plugins]

    decoded = [
        decoder(syntax).as_array(image, decoding_plugin=name)[0] for name in names
    ]

    assert decoded
    assert all(np.array_equal(decoded[0], other) for other in decoded)


def test_every_encoding_that_the_phantom_has_can_be_read():
    assert {*ENCODERS, *NATIVE_SYNTAXES} <= set(DECODERS)


def test_no_decoder_is_asked_that_has_open_flaws_or_another_licence():
    asked = {name for choice in DECODERS.values() for name in choice.plugins}

    assert asked == {"imagecodecs", "pyjpegls", "pylibjpeg", "pydicom"}


@pytest.mark.parametrize("syntax", sorted({*COMPRESSED} - {uid.RLELossless}))
@pytest.mark.parametrize("lost_bytes", [4, 100])
def test_a_truncated_stream_is_refused_with_its_reason(film, syntax, lost_bytes):
    image = to_dicom(film, bits_stored=8, transfer_syntax_uid=syntax)
    (stream,) = generate_frames(image.PixelData, number_of_frames=1)
    image.PixelData = encapsulate([stream[:-lost_bytes]])

    assert _reason(image) == NotAnalysedReason.PIXELS_UNREADABLE


@pytest.mark.parametrize("syntax", sorted({*COMPRESSED} - {uid.RLELossless}))
def test_a_stream_larger_than_its_header_is_refused_before_it_is_decoded(film, syntax):
    image = to_dicom(film, bits_stored=8, transfer_syntax_uid=syntax)
    image.Rows, image.Columns = 10, 10

    # Decoded and then found too large, it would be unreadable.
    assert _reason(image) == NotAnalysedReason.PIXELS_INCONSISTENT


def test_native_pixels_that_end_early_are_refused(film):
    image = to_dicom(film)
    image.PixelData = image.PixelData[:-2]

    assert _reason(image) == NotAnalysedReason.PIXELS_UNREADABLE


def test_random_bytes_are_refused_in_every_compressed_syntax(film):
    random = np.random.default_rng(0).bytes(4000)
    for syntax in COMPRESSED:
        image = to_dicom(film, bits_stored=8, transfer_syntax_uid=syntax)
        image.PixelData = encapsulate([random])

        assert _reason(image) == NotAnalysedReason.PIXELS_UNREADABLE


def test_overlays_in_unused_high_bits_are_cleared(film):
    image = to_dicom(film, bits_stored=12)
    clean = _one(image)
    words = np.frombuffer(image.PixelData, "<u2") | 0x8000
    image.PixelData = words.tobytes()

    assert np.array_equal(_one(image), clean)


def test_overlays_above_signed_values_do_not_change_their_sign(film):
    image = to_dicom(film, bits_stored=12, signed=True, modality="CR")
    clean = _one(image)
    words = np.frombuffer(image.PixelData, "<u2") ^ 0xF000
    image.PixelData = words.tobytes()

    assert np.array_equal(_one(image), clean)


@pytest.mark.parametrize(
    ("keyword", "dtype"), [("FloatPixelData", "<f4"), ("DoubleFloatPixelData", "<f8")]
)
def test_floating_point_pixels_are_read_as_they_are(film, keyword, dtype):
    image = _floating(film.astype(dtype), keyword)

    frame = _one(image)

    assert frame.dtype == np.dtype(dtype)
    assert np.array_equal(frame, film.astype(dtype))


def test_a_floating_point_pixel_that_is_no_number_is_refused(film):
    pixels = film.astype("<f4")
    pixels[3, 3] = np.nan

    reason = _reason(_floating(pixels, "FloatPixelData"))

    assert reason == NotAnalysedReason.PIXELS_INCONSISTENT


def _floating(pixels: np.ndarray, keyword: str):
    image = to_dicom(np.zeros(pixels.shape, np.float32))
    for unused in ("PixelData", "BitsStored", "HighBit", "PixelRepresentation"):
        delattr(image, unused)
    image.BitsAllocated = 8 * pixels.dtype.itemsize
    setattr(image, keyword, pixels.tobytes())
    return image


def test_ybr_becomes_rgb():
    # PS3.3 C.7.6.3.1.2: red is Y 76, Cb 85, Cr 255
    image = to_dicom(
        np.zeros((2, 2, 3), np.float32),
        bits_stored=8,
        modality="CR",
        photometric_interpretation="RGB",
    )
    image.PhotometricInterpretation = "YBR_FULL"
    image.PixelData = bytes([76, 85, 255] * 4)

    frame = _one(image)

    assert np.abs(frame[0, 0].astype(int) - [254, 0, 0]).max() <= 1


def test_colour_by_plane_is_turned_to_colour_by_pixel():
    image = to_dicom(
        np.zeros((1, 2, 3), np.float32),
        bits_stored=8,
        modality="CR",
        photometric_interpretation="RGB",
    )
    image.PlanarConfiguration = 1
    image.PixelData = bytes([1, 2, 3, 4, 5, 6])

    assert _one(image).tolist() == [[[1, 3, 5], [2, 4, 6]]]


def test_frames_come_one_by_one(film):
    image = to_dicom(film, bits_stored=8)
    image.NumberOfFrames = 3
    image.PixelData = (bytes(ROWS * COLUMNS) + bytes([9]) * ROWS * COLUMNS) * 2

    frames = iter_frames(image)

    assert [int(frame.max()) for frame in frames] == [0, 9, 0]


def test_fewer_frames_than_announced_are_refused(film):
    image = to_dicom(film, bits_stored=8, transfer_syntax_uid=uid.JPEGLSLossless)
    image.NumberOfFrames = 2

    reason = _reason(image)

    assert reason in {
        NotAnalysedReason.PIXELS_UNREADABLE,
        NotAnalysedReason.PIXELS_INCONSISTENT,
    }


def test_bits_that_do_not_sit_low_are_refused(film):
    image = to_dicom(film, bits_stored=12)
    image.HighBit = 15

    assert _reason(image) == NotAnalysedReason.PIXELS_INCONSISTENT


def test_an_unknown_transfer_syntax_is_refused_by_name(film):
    image = to_dicom(film)
    image.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.4.100"

    assert _reason(image) == NotAnalysedReason.TRANSFER_SYNTAX_UNSUPPORTED


def test_a_data_set_without_file_meta_is_refused(film):
    image = to_dicom(film)
    del image.file_meta

    assert _reason(image) == NotAnalysedReason.TRANSFER_SYNTAX_UNSUPPORTED


def test_a_file_that_is_no_dicom_file_is_refused(tmp_path):
    path = tmp_path / "letter.dcm"
    path.write_bytes(b"Dear colleague, " * 50)

    assert _reason(path) in {
        NotAnalysedReason.PIXELS_UNREADABLE,
        NotAnalysedReason.TRANSFER_SYNTAX_UNSUPPORTED,
    }


def test_a_file_larger_than_the_limit_is_not_even_opened(film, tmp_path):
    path = tmp_path / "film.dcm"
    to_dicom(film).save_as(path, enforce_file_format=True)

    reason = _reason(path, PixelLimits(maximum_bytes=100))

    assert reason == NotAnalysedReason.PIXELS_TOO_LARGE


def test_a_deflated_file_is_read(film, tmp_path):
    path = tmp_path / "film.dcm"
    image = to_dicom(
        film, transfer_syntax_uid=uid.DeflatedExplicitVRLittleEndian, bits_stored=12
    )
    image.save_as(path, enforce_file_format=True)

    frame = _one(path)

    assert np.array_equal(frame, np.rint(film.astype(np.float64) * 4095))


def test_a_deflated_file_inflates_no_further_than_the_limit(film, tmp_path):
    path = tmp_path / "bomb.dcm"
    image = to_dicom(film, transfer_syntax_uid=uid.DeflatedExplicitVRLittleEndian)
    image.save_as(path, enforce_file_format=True)
    meta_length = 144 + read_file_meta_info(path).FileMetaInformationGroupLength
    deflate = zlib.compressobj(wbits=-15)
    bomb = deflate.compress(bytes(2_000_000)) + deflate.flush()
    path.write_bytes(path.read_bytes()[:meta_length] + bomb)

    reason = _reason(path, PixelLimits(maximum_bytes=1_000_000))

    assert reason == NotAnalysedReason.PIXELS_TOO_LARGE


def test_a_file_read_back_decodes_like_the_data_set(film, tmp_path):
    path = tmp_path / "film.dcm"
    image = to_dicom(film, transfer_syntax_uid=uid.ExplicitVRBigEndian)
    image.save_as(path, enforce_file_format=True)

    frame = _one(path)

    assert frame.dtype.isnative
    assert np.array_equal(frame, dcmread(path).pixel_array)
