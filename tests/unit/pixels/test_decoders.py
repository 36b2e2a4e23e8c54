"""The table of decoders: who is asked, in which order, and who lets others run."""

import sys
import threading
import time

import imagecodecs
import numpy as np
import pytest
from pydicom import uid
from pydicom.encaps import encapsulate, generate_frames

from core.domain import NotAnalysedReason
from core.errors import UnsupportedImage
from tests.decoding import decoded_by_each, tolerance
from tests.pixels import colour_film, film, frames_of
from worker.phantom import to_dicom
from worker.phantom.encode import ENCODERS, NATIVE_SYNTAXES
from worker.pixels import decode, decoders
from worker.pixels.decode import iter_frames, open_frames
from worker.pixels.decoders import DECODERS, decoder

SEVERAL = sorted(s for s, choice in DECODERS.items() if len(choice.plugins) > 1)
SEVERAL = [syntax for syntax in SEVERAL if syntax in ENCODERS]
PARALLEL = sorted(s for s, choice in DECODERS.items() if choice.parallel)
PARALLEL = [syntax for syntax in PARALLEL if syntax in ENCODERS]


@pytest.fixture
def asked(monkeypatch):
    """Record which plug-in is asked for which frame; those in `broken` fail."""

    class Asked(list):
        broken: set[str] = set()

    record = Asked()
    original = decode.compressed_frame

    def recording(stream, *rest, plugin, **options):
        record.append((stream.number, plugin))
        if plugin in record.broken:
            raise RuntimeError("this library cannot read it")
        return original(stream, *rest, plugin=plugin, **options)

    monkeypatch.setattr(decode, "compressed_frame", recording)
    return record


@pytest.mark.parametrize("syntax", SEVERAL)
def test_the_next_decoder_is_asked_where_the_first_one_fails(asked, syntax):
    image, stored = frames_of(syntax, frames=2)
    plugins = DECODERS[syntax].plugins
    asked.broken = {plugins[0]}

    frames = list(iter_frames(image, threads=1))

    assert asked == [(n, name) for n in (1, 2) for name in plugins[:2]]
    assert _close(frames, stored, syntax)


@pytest.mark.parametrize("syntax", SEVERAL)
def test_the_next_decoder_is_asked_where_the_first_one_is_not_installed(
    asked, monkeypatch, syntax
):
    image, stored = frames_of(syntax)
    plugins = DECODERS[syntax].plugins
    present = set(decoder(syntax).available_plugins) - {plugins[0]}
    monkeypatch.setattr(
        decode,
        "installed_plugins",
        lambda _: tuple(name for name in plugins if name in present),
    )

    frames = list(iter_frames(image, threads=1))

    assert asked == [(1, plugins[1])]
    assert _close(frames, stored, syntax)


def test_a_frame_that_no_decoder_reads_is_refused_after_all_were_asked(asked):
    image, _ = frames_of(uid.RLELossless)
    asked.broken = set(DECODERS[uid.RLELossless].plugins)

    with pytest.raises(UnsupportedImage) as refusal:
        list(iter_frames(image))

    assert refusal.value.reason == NotAnalysedReason.PIXELS_UNREADABLE
    assert [name for _, name in asked] == list(DECODERS[uid.RLELossless].plugins)


def test_a_panic_in_a_decoder_is_one_more_unreadable_frame(monkeypatch):
    class Panic(BaseException):
        """What PyO3 raises for a Rust panic."""

    def panics(*_, **__):
        raise Panic

    monkeypatch.setattr(decode, "compressed_frame", panics)
    image, _ = frames_of(uid.RLELossless)

    with pytest.raises(UnsupportedImage) as refusal:
        list(iter_frames(image))

    assert refusal.value.reason == NotAnalysedReason.PIXELS_UNREADABLE


def test_a_syntax_whose_decoders_are_all_missing_is_refused_and_no_other_asked(
    monkeypatch,
):
    image, _ = frames_of(uid.JPEGLSLossless)
    monkeypatch.setattr(decoders, "decoder", lambda _: _Nobody())

    with pytest.raises(UnsupportedImage) as refusal:
        open_frames(image)

    assert refusal.value.reason == NotAnalysedReason.TRANSFER_SYNTAX_UNSUPPORTED


class _Nobody:
    available_plugins = ("gdcm",)


@pytest.mark.parametrize("syntax", PARALLEL)
def test_a_decoder_that_counts_as_parallel_lets_other_threads_run(syntax):
    # Nobody is made to hand over the interpreter's lock, so another thread can say stop
    # only if the decoder lets go of it.
    image = to_dicom(film(256, 256), bits_stored=8, transfer_syntax_uid=syntax)
    opened = open_frames(image)
    encoded = next(opened.encoded())
    opened.decode(encoded)
    begun, stop = threading.Event(), threading.Event()

    def decode_until_told():
        begun.set()
        patience = time.monotonic() + 5
        while not stop.is_set():
            if time.monotonic() > patience:
                return
            opened.decode(encoded)
        told.append(True)

    told: list[bool] = []
    interval = sys.getswitchinterval()
    sys.setswitchinterval(100)
    try:
        thread = threading.Thread(target=decode_until_told)
        thread.start()
        begun.wait()
        stop.set()
        thread.join()
    finally:
        sys.setswitchinterval(interval)

    assert told


@pytest.mark.parametrize("syntax", sorted(ENCODERS))
def test_frames_decoded_in_threads_are_the_same_in_the_same_order(syntax):
    image, _ = frames_of(syntax, frames=7)

    alone = list(iter_frames(image, threads=1))
    together = list(iter_frames(image, threads=3))

    assert np.array_equal(alone, together)


@pytest.mark.parametrize("threads", [1, 3])
def test_the_first_frame_that_cannot_be_had_is_the_error(threads):
    image, stored = frames_of(uid.JPEGLosslessSV1, frames=6)
    streams = list(generate_frames(image.PixelData, number_of_frames=6))
    streams[3] = streams[3][: len(streams[3]) // 2]  # cut off: unreadable
    small, _ = frames_of(uid.JPEGLosslessSV1, rows=30)
    streams[4] = next(generate_frames(small.PixelData, number_of_frames=1))
    image.PixelData = encapsulate(streams)

    frames = iter_frames(image, threads=threads)

    assert np.array_equal([next(frames) for _ in range(3)], stored[:3])
    with pytest.raises(UnsupportedImage) as refusal:
        next(frames)
    assert refusal.value.reason == NotAnalysedReason.PIXELS_UNREADABLE
    assert not [t for t in threading.enumerate() if t.name.startswith("pixels")]


def test_frames_left_early_leave_no_thread():
    image, _ = frames_of(uid.JPEG2000Lossless, frames=8)

    frames = iter_frames(image, threads=3)
    next(frames)
    frames.close()

    assert not [t for t in threading.enumerate() if t.name.startswith("pixels")]


@pytest.mark.parametrize(
    "header",
    [
        b"",
        bytes(64),
        b"\x02\0\0\0\x40\0\0\0\xff\xff\xff\x7f" + bytes(52),
        b"\x02\0\0\0\x40\0\0\0\x10\0\0\0" + bytes(52),
        b"\x02\0\0\0\x41\0\0\0\x50\0\0\0" + bytes(52),
        b"\x01\0\0\0\x40\0\0\0\x50\0\0\0" + bytes(52),
        b"\xff\xff\xff\xff" + b"\x40\0\0\0" * 15,
    ],
)
def test_offsets_that_lead_out_of_an_rle_frame_are_not_followed(header):
    # imagecodecs follows them and takes the process with it, pylibjpeg-rle panics.
    image, _ = frames_of(uid.RLELossless, bits_stored=12)
    (stream,) = generate_frames(image.PixelData, number_of_frames=1)
    image.PixelData = encapsulate([header + stream[64:] if header else stream[:30]])

    with pytest.raises(UnsupportedImage) as refusal:
        list(iter_frames(image))

    assert refusal.value.reason == NotAnalysedReason.PIXELS_UNREADABLE


def test_rle_in_colour_is_read_by_plane():
    drawn = colour_film(40, 36)
    image = to_dicom(
        drawn,
        bits_stored=8,
        modality="CR",
        photometric_interpretation="RGB",
        transfer_syntax_uid=uid.RLELossless,
    )

    (frame,) = iter_frames(image)

    assert np.abs(frame / 255 - drawn).max() < 0.01


def test_bright_lossy_htj2k_does_not_wrap():
    # OpenJPH as built into imagecodecs 2026.3 turned samples beyond white to black, so
    # OpenJPEG reads this syntax.
    white = np.full((64, 64, 3), 255, np.uint8)
    white[20:40, 20:40] = 0
    stream = imagecodecs.htj2k_encode(white, level=0.01, reversible=False, rgb=True)
    image = to_dicom(
        white.astype("f4") / 255,
        bits_stored=8,
        modality="CR",
        photometric_interpretation="RGB",
    )
    image.PixelData = encapsulate([bytes(stream)])
    image.PhotometricInterpretation = "YBR_ICT"
    image.file_meta.TransferSyntaxUID = uid.HTJ2K

    (frame,) = iter_frames(image)

    assert frame[:10].min() > 200


def _close(frames, stored, syntax) -> bool:
    worst = np.abs(np.asarray(frames, "f8") - stored).max()
    return worst == 0 if ENCODERS[syntax].lossy_method is None else worst < 30


@pytest.mark.parametrize(
    ("bits_stored", "signed"), [(8, False), (12, True), (16, True)]
)
@pytest.mark.parametrize("syntax", sorted({*ENCODERS, *NATIVE_SYNTAXES}))
def test_decoders_agree_on_gray(syntax, bits_stored, signed):
    lossy = syntax in ENCODERS and ENCODERS[syntax].lossy_method is not None
    if lossy and bits_stored > ENCODERS[syntax].maximum_bits:
        pytest.skip("this encoding has no such values")
    image = to_dicom(
        film(61, 47),
        bits_stored=bits_stored,
        signed=signed and not lossy,
        modality="CR",
        transfer_syntax_uid=syntax,
    )

    _agree(image, syntax)


@pytest.mark.parametrize("syntax", sorted({*ENCODERS, *NATIVE_SYNTAXES}))
def test_decoders_agree_on_colour(syntax):
    if syntax == uid.JPEGExtended12Bit:
        pytest.skip("12 bits in colour are not written")
    image = to_dicom(
        colour_film(61, 47),
        bits_stored=8,
        modality="CR",
        photometric_interpretation="RGB",
        transfer_syntax_uid=syntax,
    )

    _agree(image, syntax)


def _agree(image, syntax) -> None:
    opened = open_frames(image)
    (_, ours), *others = decoded_by_each(opened, next(opened.encoded()))
    allowed = tolerance(syntax, colour=image.SamplesPerPixel > 1)
    assert others
    for name, frame in others:
        assert frame.shape == ours.shape, name
        assert np.abs(frame.astype("f8") - ours).max() <= allowed, name
