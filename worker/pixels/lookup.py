"""Look-up tables as the standard writes them: one descriptor, one list of numbers."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset

from core.domain import NotAnalysedReason
from worker.pixels.refusal import refused
from worker.pixels.source import is_big_endian

__all__ = ["LookupTable", "lookup_table"]


@dataclass(frozen=True, eq=False)
class LookupTable:
    """A table for consecutive input values; beyond its ends the end values hold."""

    first: int
    """Input value of the first entry."""
    entries: npt.NDArray[np.float32]
    maximum: float
    """Largest output that the table's bits allow."""

    def apply(self, values: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """Look up each value; a new array of the same shape, float32.

        Source
        ------
        PS3.3 C.11.1.1.1, C.11.2.1.1.
        """
        position = np.rint(values).astype(np.int64) - self.first
        last = len(self.entries) - 1
        found: npt.NDArray[np.float32] = self.entries[np.clip(position, 0, last)]
        return found


def lookup_table(item: Dataset, *, image: Dataset, signed: bool) -> LookupTable:
    """Read the table of one item.

    Parameters
    ----------
    item
        Of a Modality LUT Sequence or VOI LUT Sequence.
    image
        The image, for the refusal's text.
    signed
        The input values may be negative, so the first input value is signed, too.

    Raises
    ------
    UnsupportedImage
        `pixels-inconsistent` if the table is missing or shorter than it says.

    Source
    ------
    PS3.3 C.11.1.1.1 (LUT Descriptor).
    """
    try:
        count, first, bits = (int(x) for x in item["LUTDescriptor"].value)
        numbers = _numbers(item["LUTData"].value, big_endian=is_big_endian(image))
    except (KeyError, TypeError, ValueError) as error:
        raise refused(
            image,
            NotAnalysedReason.PIXELS_INCONSISTENT,
            "LUT Descriptor or LUT Data is missing or malformed",
        ) from error
    count = count & 0xFFFF or 2**16  # C.11.1.1.1: 0 stands for 65536
    if signed and first > 0x7FFF:
        first -= 2**16  # written as US though the pixels are signed
    if len(numbers) < count:
        # C.11.1.1.1 (as once allowed): two 8 bit entries in one word.
        numbers = numbers.view(np.uint8)
    if len(numbers) < count or not 1 <= bits <= 16:
        raise refused(
            image,
            NotAnalysedReason.PIXELS_INCONSISTENT,
            f"LUT Data has {len(numbers)} entries of {bits} bits, announced {count}",
        )
    return LookupTable(first, numbers[:count].astype(np.float32), float(2**bits - 1))


def _numbers(value: Any, *, big_endian: bool) -> npt.NDArray[np.uint16]:
    if isinstance(value, bytes):
        words = np.frombuffer(
            value[: len(value) // 2 * 2], ">u2" if big_endian else "<u2"
        )
        return words.astype(np.uint16)
    return np.atleast_1d(np.asarray(value, dtype=np.int64)).astype(np.uint16)
