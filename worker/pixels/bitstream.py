"""What a compressed frame says of itself, read before a codec is let loose on it.

A codec allocates what the *stream* announces, not what the DICOM header says, and some
codecs return a partly gray image for a stream that was cut off. Both are checked here.
"""

import struct
from dataclasses import dataclass

__all__ = [
    "FrameHeader",
    "jpeg_2000_header",
    "jpeg_header",
    "rle_segments_are_sound",
]

_SOF = frozenset({*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}) | {0xF7}
"""Start of frame: ITU-T T.81 Table B.1; 0xF7 is JPEG-LS (T.87 C.1.1)."""
_ALONE = frozenset({0x01, *range(0xD0, 0xD9)})
"""Markers without a length."""


@dataclass(frozen=True)
class FrameHeader:
    """Size and kind of one compressed frame."""

    rows: int
    columns: int
    components: int
    precision: int
    signed: bool
    ycbcr: bool | None
    """Colour transform that the stream itself states; None if it states none."""
    rgb_components: bool
    """Its components are named R, G and B."""
    whole: bool
    """The stream ends where its format says that it ends."""


def jpeg_header(stream: bytes) -> FrameHeader | None:
    """Read the frame header of a JPEG or JPEG-LS stream.

    Returns
    -------
    None if there is none.

    Source
    ------
    ITU-T T.81 B.1.1, B.2.2; T.87 C.2.2; T.871 (JFIF); Adobe TN 5116 (APP14).
    """
    ycbcr: bool | None = None
    position = 2
    while position + 4 <= len(stream):
        if stream[position] != 0xFF:
            return None
        marker = stream[position + 1]
        if marker == 0xFF or marker in _ALONE:
            position += 1 if marker == 0xFF else 2
            continue
        (length,) = struct.unpack_from(">H", stream, position + 2)
        body = stream[position + 4 : position + 2 + length]
        if marker == 0xE0 and body.startswith(b"JFIF") and ycbcr is None:
            ycbcr = True
        if marker == 0xEE and body.startswith(b"Adobe") and len(body) >= 12:
            ycbcr = body[11] == 1
        if marker in _SOF:
            return _start_of_frame(body, ycbcr, stream)
        position += 2 + length
    return None


def _start_of_frame(
    body: bytes, ycbcr: bool | None, stream: bytes
) -> FrameHeader | None:
    if len(body) < 6:
        return None
    precision, rows, columns, components = struct.unpack_from(">BHHB", body)
    names = body[6 : 6 + 3 * components : 3]
    rgb_components = names in (b"RGB", b"rgb")
    if rgb_components:
        ycbcr = False
    return FrameHeader(
        rows=rows,
        columns=columns,
        components=components,
        precision=precision,
        signed=False,
        ycbcr=ycbcr,
        rgb_components=rgb_components,
        # PS3.5 A.4: padded to even length with 0x00, or with fill bytes 0xFF.
        whole=b"\xff\xd9" in stream[-64:],
    )


def jpeg_2000_header(stream: bytes) -> FrameHeader | None:
    """Read the SIZ marker of a JPEG 2000 or HTJ2K code stream (or of one within JP2).

    Returns
    -------
    None if there is none.

    Source
    ------
    ITU-T T.800 A.4.1 (SOC), A.5.1 (SIZ), A.4.4 (EOC); I.5.4 (JP2 code stream box).
    """
    start = stream.find(b"\xff\x4f\xff\x51", 0, 4096)
    if start < 0 or len(stream) < start + 43:
        return None
    right, bottom, left, top = struct.unpack_from(">4I", stream, start + 8)
    (components,) = struct.unpack_from(">H", stream, start + 40)
    depth = stream[start + 42]
    return FrameHeader(
        rows=bottom - top,
        columns=right - left,
        components=components,
        precision=(depth & 0x7F) + 1,
        signed=bool(depth & 0x80),
        ycbcr=None,
        rgb_components=False,
        whole=_tile_parts_are_whole(stream, start),
    )


def _tile_parts_are_whole(stream: bytes, start: int) -> bool:
    """Walk from tile-part to tile-part to the end of code stream (T.800 A.4.2)."""
    position = stream.find(b"\xff\x90", start)
    while position >= 0 and position + 12 <= len(stream):
        if stream[position : position + 2] != b"\xff\x90":
            break
        (length,) = struct.unpack_from(">I", stream, position + 6)
        if length == 0:  # the last one, up to the end of code stream
            return b"\xff\xd9" in stream[-8:]
        position += length
    return stream[position : position + 2] == b"\xff\xd9"


def rle_segments_are_sound(stream: bytes, segments: int) -> bool:
    """Tell whether an RLE frame's header leads to so many segments within the frame.

    Parameters
    ----------
    segments
        One for each byte of a sample, times the samples of a pixel.

    Source
    ------
    PS3.5 G.5 (RLE header: number of segments and offsets of 15).
    """
    if len(stream) <= 64 or not 1 <= segments <= 15:
        return False
    count, *offsets = struct.unpack_from("<16L", stream)
    ends = [*offsets[1:segments], len(stream)]
    in_order = all(a < b for a, b in zip(offsets[:segments], ends, strict=True))
    return bool(count == segments and offsets[0] == 64 and in_order)
