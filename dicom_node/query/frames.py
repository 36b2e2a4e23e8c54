"""Frames of a stored image, as the bytes that are in its file."""

import struct
from collections.abc import Iterator
from typing import Any

import numpy as np
from pydicom.encaps import generate_frames, get_frame

from core.errors import InvalidInstance
from dicom_node.query.stored_files import (
    PixelElement,
    StoredHeader,
    read_header,
    read_range,
)

__all__ = [
    "frame_count",
    "is_encapsulated",
    "native_frame",
    "stored_frame",
    "stored_frames",
]

_BIG_ENDIAN = "1.2.840.10008.1.2.2"
_FLOAT_BITS = {0x7FE00008: 32, 0x7FE00009: 64}
_MOST_FRAMES = 1 << 24
_OFFSETS, _LENGTHS = 0x7FE00001, 0x7FE00002


def frame_count(header: StoredHeader) -> int:
    """Return how many frames an image has; 0 if it has no pixel data.

    Raises
    ------
    InvalidInstance
        If Number of Frames is no such number.
    """
    if header.pixels is None:
        return 0
    return max(1, _number(header, "NumberOfFrames", 1))


def is_encapsulated(header: StoredHeader) -> bool:
    """Tell whether the pixel data are encapsulated (PS3.5 A.4)."""
    return header.pixels is not None and header.pixels.length is None


def stored_frame(header: StoredHeader, number: int) -> bytes:
    """Return one frame of encapsulated pixel data.

    Parameters
    ----------
    header
        Of an image with encapsulated pixel data.
    number
        From 1, within `frame_count`.

    Raises
    ------
    InvalidInstance
        If the frame cannot be found.
    """
    pixels = _pixels(header)
    offsets = _extended_offsets(header)
    try:
        with header.path.open("rb") as file:
            file.seek(pixels.position)
            return get_frame(
                file,
                number - 1,
                number_of_frames=frame_count(header),
                extended_offsets=offsets,
            )
    except Exception as error:
        raise InvalidInstance(
            f"frame {number} cannot be found in the pixel data ({type(error).__name__})"
        ) from error


def stored_frames(header: StoredHeader) -> Iterator[bytes]:
    """Return all frames of encapsulated pixel data, one after the other."""
    pixels = _pixels(header)
    offsets = _extended_offsets(header)
    try:
        with header.path.open("rb") as file:
            file.seek(pixels.position)
            yield from generate_frames(
                file,
                number_of_frames=frame_count(header),
                extended_offsets=offsets,
            )
    except (ValueError, struct.error, EOFError) as error:
        raise InvalidInstance(
            f"the pixel data cannot be taken apart ({type(error).__name__})"
        ) from error


def native_frame(header: StoredHeader, number: int) -> Iterator[bytes]:
    """Return one frame of native pixel data in little endian, in pieces.

    Parameters
    ----------
    header
        Of an image with native pixel data.
    number
        From 1, within `frame_count`.

    Raises
    ------
    InvalidInstance
        If the header does not tell its size, or the pixel data are too short for it.
    """
    pixels = _pixels(header)
    bits_allocated = _FLOAT_BITS.get(pixels.tag) or _number(header, "BitsAllocated")
    bits = (
        _number(header, "Rows")
        * _number(header, "Columns")
        * max(1, _number(header, "SamplesPerPixel", 1))
        * bits_allocated
    )
    if str(header.dataset.get("PhotometricInterpretation", "")) == "YBR_FULL_422":
        bits = bits // 3 * 2  # PS3.3 C.7.6.3.1.2: two pixels share their chroma
    first = (number - 1) * bits
    start, end = first // 8, -(-(first + bits) // 8)
    if not bits or end > (pixels.length or 0):
        raise InvalidInstance(f"frame {number} lies beyond the end of the pixel data")
    pieces = read_range(header.path, pixels.position + start, end - start)
    if first % 8:
        return iter((_shifted(b"".join(pieces), first % 8, bits),))
    if header.transfer_syntax_uid == _BIG_ENDIAN and bits_allocated > 8:
        return (_swapped(piece, bits_allocated // 8) for piece in pieces)
    return pieces


def _shifted(data: bytes, skip: int, bits: int) -> bytes:
    # PS3.5 8.1.1: frames of one bit a pixel follow each other without padding.
    unpacked = np.unpackbits(np.frombuffer(data, np.uint8), bitorder="little")
    return np.packbits(unpacked[skip : skip + bits], bitorder="little").tobytes()


def _swapped(piece: bytes, size: int) -> bytes:
    # Pieces are multiples of eight bytes except the last one.
    whole = len(piece) - len(piece) % size
    return (
        np.frombuffer(piece[:whole], f">u{size}").astype(f"<u{size}").tobytes()
        + piece[whole:]
    )


def _pixels(header: StoredHeader) -> PixelElement:
    if header.pixels is None:
        raise InvalidInstance("this instance has no pixel data")
    return header.pixels


def _extended_offsets(header: StoredHeader) -> tuple[bytes, bytes] | None:
    # PS3.3 C.7.6.3.1.8. Both come before the pixel data, so the header has them.
    dataset = header.dataset
    if _OFFSETS not in dataset:
        whole = read_header(header.path, [_OFFSETS, _LENGTHS]).dataset
        if _OFFSETS not in whole:
            return None
        dataset = whole
    try:
        return bytes(dataset[_OFFSETS].value), bytes(dataset[_LENGTHS].value)
    except Exception:  # noqa: BLE001 - the basic offset table or a search will do
        return None


def _number(header: StoredHeader, keyword: str, default: int = 0) -> int:
    try:
        value: Any = header.dataset.get(keyword)
        number = default if value is None or value == "" else int(value)
    except Exception as error:
        raise InvalidInstance(f"{keyword} is no number") from error
    if not 0 <= number <= _MOST_FRAMES:
        raise InvalidInstance(f"{keyword} is out of range")
    return number
