"""The header of one series as rules see it: text values by tag, and who sent it.

A header comes from a peer and may hold anything, so values are taken from the raw
element and decoded here: whatever the bytes are, the result is text and never an error.
"""

import struct
from dataclasses import dataclass
from pathlib import Path

from pydicom import dcmread
from pydicom.charset import python_encoding
from pydicom.datadict import dictionary_has_tag, dictionary_VR, tag_for_keyword
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.tag import Tag

from core.errors import InvalidInstance

__all__ = ["OPAQUE_VRS", "SeriesHeader", "read_series_header"]

_SPECIFIC_CHARACTER_SET = 0x00080005
# PS3.5 6.2: a backslash is a character of these and separates no values.
_SINGLE_VALUE_VRS = frozenset({"LT", "ST", "UT", "UR"})
# Values of these are no text: only their presence can be asked for.
OPAQUE_VRS = frozenset({"SQ", "OB", "OD", "OF", "OL", "OV", "OW"})
_BINARY_NUMBERS = {
    "US": "H", "SS": "h", "UL": "I", "SL": "i", "UV": "Q", "SV": "q",
    "FL": "f", "FD": "d",
}  # fmt: skip


@dataclass(frozen=True)
class SeriesHeader:
    """One representative instance of a series, and the association it came by."""

    dataset: Dataset
    calling_ae_title: str = ""
    called_ae_title: str = ""

    def values(self, tag: int) -> tuple[str, ...]:
        """Return an attribute's values as text, without padding and empty values.

        Returns
        -------
        Empty if the attribute is absent, has no value or a value that is no text.
        """
        element = self._element(tag)
        if element is None:
            return ()
        if not isinstance(element, RawDataElement):
            return _split(str(element.VR), _joined(element.value))
        raw = element.value
        if not isinstance(raw, bytes):
            return ()
        vr = _vr(tag, element.VR)
        if vr in OPAQUE_VRS:
            return ()
        if vr in _BINARY_NUMBERS:
            return _numbers(raw, vr, little_endian=element.is_little_endian)
        return _split(vr, raw.decode(self._encoding(), errors="replace"))

    def values_of(self, keyword: str) -> tuple[str, ...]:
        """Return the values of the attribute with this keyword of PS3.6."""
        tag = tag_for_keyword(keyword)
        return () if tag is None else self.values(tag)

    def has_value(self, tag: int) -> bool:
        """Tell whether an attribute is there and has a value, of whatever kind."""
        element = self._element(tag)
        if element is None:
            return False
        if isinstance(element, RawDataElement) and isinstance(element.value, bytes):
            return bool(element.value.strip(b" \0"))
        return bool(element.value) or element.value == 0

    def _element(self, tag: int) -> DataElement | RawDataElement | None:
        # `get_item` leaves the element raw: nothing of the peer's is parsed here.
        return self.dataset.get_item(tag) if tag in self.dataset else None

    def _encoding(self) -> str:
        element = self._element(_SPECIFIC_CHARACTER_SET)
        value = getattr(element, "value", None)
        text = value.decode("ascii", "replace") if isinstance(value, bytes) else value
        terms = [term.strip() for term in _joined(text).split("\\") if term.strip()]
        # The last one named has the ASCII characters as well (PS3.3 C.12.1.1.2).
        encoding = python_encoding.get(terms[-1]) if terms else None
        return encoding or "latin-1"


def read_series_header(
    path: Path, *, calling_ae_title: str = "", called_ae_title: str = ""
) -> SeriesHeader:
    """Read a Part 10 file up to its pixel data.

    Raises
    ------
    InvalidInstance
        If the file is no DICOM file or its header cannot be read.
    """
    try:
        dataset = dcmread(path, stop_before_pixels=True)
    except (InvalidDicomError, OSError, ValueError, TypeError, LookupError) as error:
        raise InvalidInstance(
            f"{path.name} cannot be read as a DICOM file ({type(error).__name__}); "
            "a Part 10 file was expected"
        ) from error
    except (AttributeError, NotImplementedError, OverflowError, struct.error) as error:
        raise InvalidInstance(
            f"the header of {path.name} is damaged ({type(error).__name__})"
        ) from error
    return SeriesHeader(dataset, calling_ae_title.strip(), called_ae_title.strip())


def _vr(tag: int, written: str | None) -> str:
    if written in (None, "UN") and dictionary_has_tag(Tag(tag)):
        return dictionary_VR(Tag(tag)).split(" ")[0]
    return written or "UN"


def _joined(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, str | bytes | int | float):
        return str(value)
    try:
        return "\\".join(str(item) for item in value)  # type: ignore[attr-defined]
    except TypeError:
        return str(value)


def _split(vr: str, text: str) -> tuple[str, ...]:
    parts = [text] if vr in _SINGLE_VALUE_VRS else text.split("\\")
    stripped = (part.strip(" \0\r\n\t") for part in parts)
    return tuple(part for part in stripped if part)


def _numbers(raw: bytes, vr: str, *, little_endian: bool) -> tuple[str, ...]:
    layout = struct.Struct(("<" if little_endian else ">") + _BINARY_NUMBERS[vr])
    whole = len(raw) - len(raw) % layout.size
    return tuple(
        repr(number) for (number,) in layout.iter_unpack(raw[:whole] if whole else b"")
    )
