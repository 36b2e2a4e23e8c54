"""imagecodecs as a decoding plug-in of pydicom: three names, as the contract asks.

`is_available`, `DECODER_DEPENDENCIES` and the decoding function. Streams come here
after `streams` has looked at them: these codecs do not tell when one was cut off.
All of its codecs let go of the interpreter's lock while they work.
"""

from typing import Any

import imagecodecs
import numpy as np
import numpy.typing as npt
from pydicom import uid
from pydicom.pixels.common import PhotometricInterpretation
from pydicom.pixels.decoders.base import DecodeRunner

from worker.pixels.bitstream import jpeg_header, rle_segments_are_sound

__all__ = ["DECODER_DEPENDENCIES", "THREADS_OPTION", "decode_frame", "is_available"]

# Retired, but archives still hold them (PS3.5 A.4.1, 2004).
JPEG_SPECTRAL_SELECTION = "1.2.840.10008.1.2.4.53"
JPEG_FULL_PROGRESSION = "1.2.840.10008.1.2.4.55"

_JPEG = (
    uid.JPEGBaseline8Bit,
    uid.JPEGExtended12Bit,
    uid.UID(JPEG_SPECTRAL_SELECTION),
    uid.UID(JPEG_FULL_PROGRESSION),
    uid.JPEGLossless,
    uid.JPEGLosslessSV1,
)
_JPEG_LS = (uid.JPEGLSLossless, uid.JPEGLSNearLossless)
_JPEG_2000 = (uid.JPEG2000Lossless, uid.JPEG2000)
_HTJ2K = (uid.HTJ2KLossless, uid.HTJ2KLosslessRPCL)
_RLE = (uid.RLELossless,)
# OpenJPEG reads it, too. OpenJPH as built in here must not: where lossy samples pass
# 255, its first component wraps to 0.
_HTJ2K_LOSSY = (uid.HTJ2K,)

THREADS_OPTION = "codec_threads"
"""Option of the runner: threads that OpenJPEG may use for one frame; 1 if not given."""

DECODER_DEPENDENCIES = dict.fromkeys(
    (*_JPEG, *_JPEG_LS, *_JPEG_2000, *_HTJ2K, *_HTJ2K_LOSSY, *_RLE), ("imagecodecs",)
)


def is_available(transfer_syntax_uid: str) -> bool:
    """Tell whether the codec for a transfer syntax was built into imagecodecs."""
    codecs = (
        (_JPEG, "JPEG8"),
        (_JPEG_LS, "JPEGLS"),
        (_JPEG_2000, "JPEG2K"),
        (_HTJ2K, "HTJ2K"),
        (_HTJ2K_LOSSY, "JPEG2K"),
        (_RLE, "DICOMRLE"),
    )
    return any(
        transfer_syntax_uid in syntaxes and getattr(imagecodecs, name).available
        for syntaxes, name in codecs
    )


def decode_frame(stream: bytes, runner: DecodeRunner) -> memoryview:
    """Decode one frame.

    Parameters
    ----------
    stream
        The frame's code stream.
    runner
        Tells what the DICOM header says, and is told what the samples are.

    Returns
    -------
    Samples as `bits_allocated` and `planar_configuration` of the runner now say. It is
    the codec's own memory: pydicom takes it as it is, and would copy `bytes`.

    Raises
    ------
    RuntimeError, ValueError
        For a stream that cannot be read.
    """
    syntax = runner.transfer_syntax
    if syntax in _RLE:
        return _decode_rle(stream, runner)
    if syntax in _JPEG:
        samples = _decode_jpeg(stream, runner)
    elif syntax in _JPEG_LS:
        samples = imagecodecs.jpegls_decode(stream)
    elif syntax in _HTJ2K:
        # Without a colour transform it would come by plane, if not told otherwise.
        samples = imagecodecs.htj2k_decode(stream, planar=False)
    else:
        threads = runner.get_option(THREADS_OPTION, 1)
        samples = imagecodecs.jpeg2k_decode(stream, numthreads=threads)
    if runner.photometric_interpretation in _TRANSFORMED:
        # The code stream's own colour transform was undone with it (PS3.5 8.2.4).
        runner.set_option("photometric_interpretation", PhotometricInterpretation.RGB)
    return _as_bytes(samples, runner)


_TRANSFORMED = (PhotometricInterpretation.YBR_RCT, PhotometricInterpretation.YBR_ICT)


def _decode_jpeg(stream: bytes, runner: DecodeRunner) -> npt.NDArray[Any]:
    if runner.samples_per_pixel != 3:
        return np.asarray(imagecodecs.jpeg8_decode(stream))
    header = jpeg_header(stream)
    stated = None if header is None else header.ycbcr
    photometric = str(runner.photometric_interpretation)
    ycbcr = stated if stated is not None else "YBR" in photometric
    # Left as it is stored, so that one place, pydicom's, converts colours.
    same = "YCBCR" if ycbcr else "RGB"
    samples = imagecodecs.jpeg8_decode(stream, colorspace=same, outcolorspace=same)
    runner.set_option(
        "photometric_interpretation",
        PhotometricInterpretation.YBR_FULL if ycbcr else PhotometricInterpretation.RGB,
    )
    return np.asarray(samples)


def _decode_rle(stream: bytes, runner: DecodeRunner) -> memoryview:
    """Decode the segments of one frame.

    Source
    ------
    PS3.5 G.2 (byte planes), G.3 (segments).
    """
    sample_bytes, rest = divmod(runner.bits_allocated, 8)
    samples = runner.rows * runner.columns * runner.samples_per_pixel
    if rest:
        raise ValueError("RLE with single bits is not read")
    if not rle_segments_are_sound(stream, runner.samples_per_pixel * sample_bytes):
        # imagecodecs 2026.3 reads from wherever an offset points to, and dies of it.
        raise ValueError("RLE header whose offsets are no segments")
    decoded = np.empty(samples * sample_bytes, np.uint8)
    written = imagecodecs.dicomrle_decode(
        stream, np.dtype(f"<u{sample_bytes}"), out=decoded.data
    )
    if len(written) != len(decoded):
        raise ValueError(f"RLE segments hold {len(written)} of {len(decoded)} bytes")
    if runner.samples_per_pixel > 1:
        runner.set_option("planar_configuration", 1)
    return decoded.data


def _as_bytes(samples: npt.NDArray[Any], runner: DecodeRunner) -> memoryview:
    runner.set_option("bits_allocated", 8 * samples.dtype.itemsize)
    if runner.samples_per_pixel > 1:
        if samples.shape[-1] != runner.samples_per_pixel:
            raise ValueError(f"{samples.shape} is not colour by pixel")
        runner.set_option("planar_configuration", 0)
    return np.ascontiguousarray(samples).data.cast("B")
