"""Which decoder reads which transfer syntax, in one table, with the reason.

GDCM (open CVEs) and pylibjpeg-libjpeg (GPL-3) are never asked, installed or not.
"""

from dataclasses import dataclass

from pydicom import uid
from pydicom.pixels.decoders.base import Decoder, get_decoder

from worker.pixels import imagecodecs_plugin

__all__ = ["DECODERS", "PLUGIN_NAME", "DecoderChoice", "decoder", "installed_plugins"]

PLUGIN_NAME = "imagecodecs"


@dataclass(frozen=True)
class DecoderChoice:
    """What reads one transfer syntax."""

    plugins: tuple[str, ...]
    """Names known to pydicom; the next is asked where the one before is not installed
    or does not read a frame. Empty: native, no plug-in."""
    reason: str
    parallel: bool = True
    """The first one lets go of the interpreter's lock while it decodes (measured, see
    `benchmarks.decode`, and held by a test): two threads decode more than one."""


_NATIVE = DecoderChoice(
    (), "no codec; frames are views of the file, which threads do not speed up", False
)
_JPEG = DecoderChoice(
    ("imagecodecs",),
    "libjpeg-turbo: 8, 12 and 16 bits, all processes in use; as fast as Pillow, and "
    "no other permissive decoder reads more than 8 bits",
)
_JPEG_LS = DecoderChoice(
    ("imagecodecs", "pyjpegls"),
    "CharLS both and level alone, but pyjpegls holds the lock; both refuse a damaged "
    "stream",
)
_JPEG_2000 = DecoderChoice(
    ("imagecodecs", "pylibjpeg"),
    "OpenJPEG both; imagecodecs uses several threads for one frame and lets go of the "
    "lock; both refuse a stream that is cut off",
)
_HTJ2K_LOSSLESS = DecoderChoice(
    ("imagecodecs", "pylibjpeg"),
    "OpenJPH is 1.8 times as fast as OpenJPEG; a stream that is cut off is refused "
    "before, as it would not tell",
)
_HTJ2K = DecoderChoice(
    ("imagecodecs", "pylibjpeg"),
    "OpenJPEG both, imagecodecs without the lock; never OpenJPH as built into it: "
    "that wraps bright lossy samples to black",
)
_RLE = DecoderChoice(
    ("imagecodecs", "pylibjpeg", "pydicom"),
    "imagecodecs is 1.2 times as fast as pylibjpeg-rle, which holds the lock; the "
    "header is checked before, as it reads beyond the frame for a bad one; pydicom is "
    "always there",
)

DECODERS: dict[str, DecoderChoice] = {
    uid.ImplicitVRLittleEndian: _NATIVE,
    uid.ExplicitVRLittleEndian: _NATIVE,
    uid.DeflatedExplicitVRLittleEndian: _NATIVE,
    uid.ExplicitVRBigEndian: _NATIVE,
    uid.JPEGBaseline8Bit: _JPEG,
    uid.JPEGExtended12Bit: _JPEG,
    imagecodecs_plugin.JPEG_SPECTRAL_SELECTION: _JPEG,
    imagecodecs_plugin.JPEG_FULL_PROGRESSION: _JPEG,
    uid.JPEGLossless: _JPEG,
    uid.JPEGLosslessSV1: _JPEG,
    uid.JPEGLSLossless: _JPEG_LS,
    uid.JPEGLSNearLossless: _JPEG_LS,
    uid.JPEG2000Lossless: _JPEG_2000,
    uid.JPEG2000: _JPEG_2000,
    uid.HTJ2KLossless: _HTJ2K_LOSSLESS,
    uid.HTJ2KLosslessRPCL: _HTJ2K_LOSSLESS,
    uid.HTJ2K: _HTJ2K,
    uid.RLELossless: _RLE,
}


def decoder(transfer_syntax_uid: str) -> Decoder:
    """Find pydicom's decoder for a syntax of `DECODERS`, our plug-in included."""
    own = _OWN.get(transfer_syntax_uid)
    return own if own is not None else get_decoder(transfer_syntax_uid)


def installed_plugins(transfer_syntax_uid: str) -> tuple[str, ...]:
    """Name those of a syntax's plug-ins that are installed, in the table's order."""
    available = decoder(transfer_syntax_uid).available_plugins
    choice = DECODERS[transfer_syntax_uid]
    return tuple(name for name in choice.plugins if name in available)


def _register() -> dict[str, Decoder]:
    """Add the plug-in to pydicom's decoders, once, as this module is imported."""
    own: dict[str, Decoder] = {}
    where = (imagecodecs_plugin.__name__, imagecodecs_plugin.decode_frame.__name__)
    for syntax in imagecodecs_plugin.DECODER_DEPENDENCIES:
        try:
            found = get_decoder(syntax)
        except NotImplementedError:
            # pydicom has none for the retired processes, but its class makes one.
            found = own[syntax] = Decoder(syntax)
        if PLUGIN_NAME not in found.available_plugins:
            found.add_plugin(PLUGIN_NAME, where)
    return own


_OWN = _register()
