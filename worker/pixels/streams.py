"""Compressed frames held against their DICOM header before any codec sees them.

Two dangers lie in a compressed frame. A codec allocates what the stream announces, so
a few bytes may ask for gigabytes. And codecs differ in what they do with a stream that
was cut off: libjpeg-turbo and OpenJPH fill up the picture and say nothing, CharLS may
search for the end for many seconds. So size and end are checked here, for all of them;
and the offsets of an RLE frame, which imagecodecs and pylibjpeg-rle follow blindly.
"""

import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from pydicom import uid
from pydicom.dataset import Dataset
from pydicom.encaps import generate_frames, get_frame

from core.domain import NotAnalysedReason
from worker.pixels.bitstream import (
    FrameHeader,
    jpeg_2000_header,
    jpeg_header,
    rle_segments_are_sound,
)
from worker.pixels.limits import PixelLayout
from worker.pixels.pixel_element import FileWindow
from worker.pixels.quiet import quiet
from worker.pixels.refusal import refused

__all__ = ["Stream", "iter_streams"]

_HTJ2K = frozenset({uid.HTJ2KLossless, uid.HTJ2KLosslessRPCL, uid.HTJ2K})
_JPEG_2000 = frozenset({uid.JPEG2000Lossless, uid.JPEG2000})


@dataclass(frozen=True, eq=False)
class Stream:
    """One compressed frame that keeps what the header of the image promises."""

    number: int
    """Of the frame, from 1."""
    data: bytes
    header: FrameHeader | None
    """None for RLE, which has none of this kind."""


def iter_streams(
    dataset: Dataset, layout: PixelLayout, syntax: str, numbers: Sequence[int]
) -> Iterator[Stream]:
    """Take compressed frames out of their items, and look at head and end of each.

    Parameters
    ----------
    syntax
        Transfer Syntax UID; an RLE frame has another header, and no size in it.
    numbers
        Which frames, from 1, ascending; the bytes of others are not read if it is only
        one.

    Raises
    ------
    UnsupportedImage
        `pixels-unreadable` for a frame without header or end, `pixels-inconsistent` for
        one of another size than the header of the image says, or that is not there.

    Source
    ------
    PS3.5 8.2 and A.4; ITU-T T.81, T.87, T.800 as in `bitstream`.
    """
    # OpenJPEG itself refuses a stream that is cut off, and reads on where only the
    # lengths of tile-parts are wrong, as some old encoders wrote them.
    needs_end = syntax not in _JPEG_2000
    header_of = None if syntax == uid.RLELossless else _reader(syntax)
    frames = _frames(dataset, layout, numbers)
    for number in numbers:
        data = next(frames, None)
        if data is None:
            raise refused(
                dataset,
                NotAnalysedReason.PIXELS_INCONSISTENT,
                f"has fewer frames than Number of Frames says ({layout.frames})",
            )
        header = None if header_of is None else header_of(data)
        if header_of is None:
            _check_rle(dataset, layout, data)
        else:
            _check(dataset, layout, header, syntax=syntax, needs_end=needs_end)
        yield Stream(number, data, header)


def _check(
    dataset: Dataset,
    layout: PixelLayout,
    header: FrameHeader | None,
    *,
    syntax: str,
    needs_end: bool,
) -> None:
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


def _check_rle(dataset: Dataset, layout: PixelLayout, data: bytes) -> None:
    segments = layout.samples * layout.bits_allocated // 8
    if layout.bits_allocated == 1:
        raise refused(
            dataset,
            NotAnalysedReason.PIXELS_UNREADABLE,
            "single bits in RLE Lossless are not read",
        )
    if not rle_segments_are_sound(data, segments):
        raise refused(
            dataset,
            NotAnalysedReason.PIXELS_UNREADABLE,
            f"the header of an RLE frame does not lead to {segments} segments",
        )


def _reader(syntax: str) -> Callable[[bytes], FrameHeader | None]:
    return jpeg_2000_header if syntax in _HTJ2K | _JPEG_2000 else jpeg_header


def _frames(
    dataset: Dataset, layout: PixelLayout, numbers: Sequence[int]
) -> Iterator[bytes]:
    offsets = dataset.get("ExtendedOffsetTable")
    lengths = dataset.get("ExtendedOffsetTableLengths")
    tables = (offsets, lengths) if offsets and lengths else None
    pixels = dataset.PixelData
    if isinstance(pixels, FileWindow):
        pixels.seek(0)
    # pydicom raises by how the items are broken, and warns of what is refused here; in
    # each case there are no frames.
    try:
        if len(numbers) == 1:
            with quiet():
                only = get_frame(
                    pixels,
                    numbers[0] - 1,
                    number_of_frames=layout.frames,
                    extended_offsets=tables,
                )
            yield only
            return
        frames = generate_frames(
            pixels, number_of_frames=layout.frames, extended_offsets=tables
        )
        for number in range(1, layout.frames + 1):
            with quiet():
                data = next(frames, None)
            if data is None:
                return
            if number in numbers:
                yield data
    except (
        ValueError,
        TypeError,
        AttributeError,
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
