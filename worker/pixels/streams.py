"""Compressed frames held against their DICOM header before any codec sees them.

Two dangers lie in a compressed frame. A codec allocates what the stream announces, so
a few bytes may ask for gigabytes. And codecs differ in what they do with a stream that
was cut off: libjpeg-turbo and OpenJPH fill up the picture and say nothing, CharLS may
search for the end for many seconds. So size and end are checked here, for all of them.
"""

import struct
from collections.abc import Callable, Iterator

from pydicom import uid
from pydicom.dataset import Dataset
from pydicom.encaps import generate_frames

from core.domain import NotAnalysedReason
from worker.pixels.bitstream import FrameHeader, jpeg_2000_header, jpeg_header
from worker.pixels.limits import PixelLayout
from worker.pixels.refusal import refused

__all__ = ["refuse_damaged_streams"]

_HTJ2K = frozenset({uid.HTJ2KLossless, uid.HTJ2KLosslessRPCL, uid.HTJ2K})
_JPEG_2000 = frozenset({uid.JPEG2000Lossless, uid.JPEG2000})


def refuse_damaged_streams(dataset: Dataset, layout: PixelLayout, syntax: str) -> None:
    """Look at the head and the end of every compressed frame.

    Parameters
    ----------
    syntax
        Transfer Syntax UID; native and RLE pixels have no such header and pass.

    Raises
    ------
    UnsupportedImage
        `pixels-unreadable` for a frame without header or end, `pixels-inconsistent` for
        one of another size than the header of the image says.

    Source
    ------
    PS3.5 8.2 and A.4; ITU-T T.81, T.87, T.800 as in `bitstream`.
    """
    header_of = _reader(syntax)
    if header_of is None:
        return
    # OpenJPEG itself refuses a stream that is cut off, and reads on where only the
    # lengths of tile-parts are wrong, as some old encoders wrote them.
    needs_end = syntax not in _JPEG_2000
    for stream in _streams(dataset, layout):
        header = header_of(stream)
        if header is None or (needs_end and not header.whole):
            raise refused(
                dataset,
                NotAnalysedReason.PIXELS_UNREADABLE,
                f"a compressed frame in transfer syntax {syntax} has no header or is "
                "cut off",
            )
        found = (header.rows, header.columns, header.components)
        expected = (layout.rows, layout.columns, layout.samples)
        if found != expected:
            raise refused(
                dataset,
                NotAnalysedReason.PIXELS_INCONSISTENT,
                f"a compressed frame has {found} rows, columns and samples, the header "
                f"says {expected}",
            )


def _reader(syntax: str) -> Callable[[bytes], FrameHeader | None] | None:
    if syntax in _HTJ2K | _JPEG_2000:
        return jpeg_2000_header
    native_or_rle = not uid.UID(syntax).is_encapsulated or syntax == uid.RLELossless
    return None if native_or_rle else jpeg_header


def _streams(dataset: Dataset, layout: PixelLayout) -> Iterator[bytes]:
    offsets = dataset.get("ExtendedOffsetTable")
    lengths = dataset.get("ExtendedOffsetTableLengths")
    # pydicom raises by how the items are broken; in each case there are no frames.
    try:
        yield from generate_frames(
            dataset.PixelData,
            number_of_frames=layout.frames,
            extended_offsets=(offsets, lengths) if offsets and lengths else None,
        )
    except (
        ValueError,
        TypeError,
        KeyError,
        IndexError,
        EOFError,
        OSError,
        struct.error,
    ) as error:
        raise refused(
            dataset,
            NotAnalysedReason.PIXELS_UNREADABLE,
            f"the items of the compressed pixel data are damaged "
            f"({type(error).__name__})",
        ) from error
