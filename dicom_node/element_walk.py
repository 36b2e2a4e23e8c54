"""A walk over the raw element headers of a data set, before any parser sees it.

It answers two questions: does every length in here lead exactly to the last byte, and
what are the few attributes by which an instance is filed. It is a loop with a stack of
limited depth and touches only headers, so neither a deep nor a large data set costs
memory, and what it accepts holds no surprise for the parsers that come later.

An open container is one entry of the stack. It ends at a byte (defined length) or at a
delimiter (undefined length), and in both cases never behind the end of what holds it.
"""

import mmap
import struct
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from pydicom.datadict import dictionary_VR

from core.errors import InvalidInstance
from core.settings import Priority

__all__ = ["MAXIMUM_DEPTH", "Encoding", "InstanceFacts", "walk"]

MAXIMUM_DEPTH = 32

_UNDEFINED = 0xFFFFFFFF
_ITEM = 0xFFFEE000
_ITEM_END = 0xFFFEE00D
_SEQUENCE_END = 0xFFFEE0DD
# PS3.5 7.1.2: VRs whose length has 16 bits; every other one, also those that a later
# edition adds, has two reserved bytes and 32 bits.
_SHORT_LENGTH_VRS = frozenset(
    b"AE AS AT CS DA DS DT FL FD IS LO LT PN SH SL SS ST TM UI UL US".split()
)
_FRAGMENT_VRS = frozenset({b"OB", b"OW"})

_REQUEST_ATTRIBUTES_SEQUENCE = 0x00400275
_ROWS = 0x00280010
_PIXEL_DATA = frozenset({0x7FE00008, 0x7FE00009, 0x7FE00010})
# Attributes that file an instance, and the longest value worth reading.
_FILING = {
    0x00080016: "sop_class_uid",
    0x00080018: "sop_instance_uid",
    0x00080060: "modality",
    0x00080070: "manufacturer",
    0x0020000D: "study_instance_uid",
    0x0020000E: "series_instance_uid",
}
_PRIORITY = frozenset({0x00401003, 0x0032000C})
_LONGEST_VALUE = 256
# Requested Procedure Priority (0040,1003), retired Study Priority ID (0032,000C).
_PRIORITIES = {
    "STAT": Priority.STAT,
    "HIGH": Priority.HIGH,
    "ROUTINE": Priority.ROUTINE,
    "MEDIUM": Priority.ROUTINE,
    "MED": Priority.ROUTINE,
    "LOW": Priority.LOW,
}

_KIND_ITEM = 0
_KIND_SEQUENCE = 1

Buffer = bytes | bytearray | memoryview | mmap.mmap


@dataclass(frozen=True)
class Encoding:
    """How a data set's headers are written."""

    implicit_vr: bool
    big_endian: bool

    @classmethod
    def of(cls, transfer_syntax_uid: str) -> "Encoding":
        """Return the encoding that a transfer syntax prescribes.

        Source
        ------
        PS3.5 10.1 and Annex A: whatever is not named here is Explicit VR Little Endian.
        """
        return cls(
            implicit_vr=transfer_syntax_uid == "1.2.840.10008.1.2",
            big_endian=transfer_syntax_uid == "1.2.840.10008.1.2.2",
        )


@dataclass(frozen=True)
class InstanceFacts:
    """What files an instance; an absent attribute is an empty string."""

    sop_class_uid: str
    sop_instance_uid: str
    study_instance_uid: str
    series_instance_uid: str
    modality: str
    manufacturer: str
    is_image: bool
    order_priority: Priority


class _Container(NamedTuple):
    kind: int
    end: int
    by_delimiter: bool
    encoding: "_Headers"
    tag: int


class _Headers(NamedTuple):
    implicit_vr: bool
    tag: struct.Struct
    explicit: struct.Struct
    length: struct.Struct


_LITTLE_IMPLICIT, _LITTLE_EXPLICIT, _BIG_IMPLICIT, _BIG_EXPLICIT = (
    _Headers(
        implicit,
        struct.Struct(order + "HHL"),
        struct.Struct(order + "HH2sH"),
        struct.Struct(order + "L"),
    )
    for order in "<>"
    for implicit in (True, False)
)


def walk(
    buffer: Buffer, encoding: Encoding, *, start: int = 0, end: int | None = None
) -> InstanceFacts:
    """Walk a data set to its last byte.

    Parameters
    ----------
    buffer
        Holds the data set; a memory map of its file will do.
    encoding
        Of the presentation context by which it came.
    start, end
        First byte of the data set and the byte behind its last one.

    Raises
    ------
    InvalidInstance
        If a length leads beyond its container or past the end, an item or delimiter is
        out of place, sequences are nested deeper than `MAXIMUM_DEPTH`, or an attribute
        that files the instance is there twice.

    Source
    ------
    PS3.5 7.1 (elements), 7.5 (sequences), A.4 (encapsulated pixel data).
    """
    last = len(buffer) if end is None else end
    return _Walk(buffer, encoding, last).run(start)


class _Walk:
    """The state of one walk: where it is and which containers are open."""

    def __init__(self, buffer: Buffer, encoding: Encoding, end: int) -> None:
        self._buffer = buffer
        headers = {
            (True, False): _LITTLE_IMPLICIT,
            (False, False): _LITTLE_EXPLICIT,
            (True, True): _BIG_IMPLICIT,
            (False, True): _BIG_EXPLICIT,
        }[encoding.implicit_vr, encoding.big_endian]
        self._stack = [_Container(_KIND_ITEM, end, False, headers, 0)]
        self._values: dict[int, str] = {}
        self._priorities: list[Priority] = []
        self._is_image = False

    def run(self, position: int) -> InstanceFacts:
        stack = self._stack
        while stack:
            top = stack[-1]
            if position == top.end and not top.by_delimiter:
                stack.pop()
            elif position + 8 > top.end:
                raise _invalid(position, "ends within an element's header")
            elif top.kind == _KIND_ITEM:
                position = self._element(position, top)
            else:
                position = self._item(position, top)
        return self._facts()

    def _element(self, position: int, top: _Container) -> int:
        """Read one element's header; return where the next header is."""
        encoding = top.encoding
        group, number, vr, length = encoding.explicit.unpack_from(
            self._buffer, position
        )
        tag = group << 16 | number
        if group == 0xFFFE:
            return self._end_of_item(position, top, tag)
        if group <= 0x0002:
            # A parser would take such an element for the file's own header.
            raise _invalid(position, f"has an element of group {group:04X}")
        if encoding.implicit_vr:
            (length,) = encoding.length.unpack_from(self._buffer, position + 4)
            vr = b""
            value = position + 8
        elif vr in _SHORT_LENGTH_VRS:
            value = position + 8
        else:
            value = position + 12
            if not (vr.isalpha() and vr.isupper()):
                raise _invalid(position, "has a VR that is none")
            if value > top.end:
                raise _invalid(position, "ends within an element's header")
            (length,) = encoding.length.unpack_from(self._buffer, position + 8)
        if length == _UNDEFINED:
            return self._open_undefined(value, top, tag, vr)
        if length > top.end - value:
            raise _invalid(position, "has a length beyond its container")
        if vr == b"SQ" or (not vr and _is_sequence(tag)):
            self._push(_KIND_SEQUENCE, value + length, False, encoding, tag)
            return value
        self._note(tag, value, length)
        return value + int(length)

    def _end_of_item(self, position: int, top: _Container, tag: int) -> int:
        (length,) = top.encoding.length.unpack_from(self._buffer, position + 4)
        if tag != _ITEM_END or length or not top.by_delimiter:
            raise _invalid(position, "has an item or a delimiter out of place")
        self._stack.pop()
        return position + 8

    def _item(self, position: int, top: _Container) -> int:
        """Read the header of an item, or the end of a sequence."""
        encoding = top.encoding
        group, number, length = encoding.tag.unpack_from(self._buffer, position)
        tag = group << 16 | number
        value = position + 8
        if tag == _SEQUENCE_END and not length and top.by_delimiter:
            self._stack.pop()
            return value
        if tag != _ITEM:
            raise _invalid(position, "has no item where one must begin")
        if length == _UNDEFINED:
            self._push(_KIND_ITEM, top.end, True, encoding, top.tag)
        elif length > top.end - value:
            raise _invalid(position, "has an item beyond its sequence")
        else:
            self._push(_KIND_ITEM, value + length, False, encoding, top.tag)
        return value

    def _open_undefined(self, value: int, top: _Container, tag: int, vr: bytes) -> int:
        if vr in _FRAGMENT_VRS or (not vr and tag in _PIXEL_DATA):
            self._note(tag, value, 0)
            return self._skip_fragments(value, top)
        if vr not in (b"SQ", b"UN", b""):
            raise _invalid(value, "has a forbidden undefined length")
        encoding = top.encoding
        if vr == b"UN":
            # PS3.5 6.2.2: such content is Implicit VR Little Endian; some writers keep
            # the byte order of the data set.
            little = self._buffer[value : value + 2] == b"\xfe\xff"
            encoding = _LITTLE_IMPLICIT if little else _BIG_IMPLICIT
        self._push(_KIND_SEQUENCE, top.end, True, encoding, tag)
        return value

    def _skip_fragments(self, position: int, top: _Container) -> int:
        while position + 8 <= top.end:
            group, number, length = top.encoding.tag.unpack_from(self._buffer, position)
            position += 8
            tag = group << 16 | number
            if tag == _SEQUENCE_END and not length:
                return position
            if tag != _ITEM or length > top.end - position:
                raise _invalid(position, "has a broken fragment of pixel data")
            position += length
        raise _invalid(position, "ends within its encapsulated pixel data")

    def _push(
        self, kind: int, end: int, by_delimiter: bool, encoding: _Headers, tag: int
    ) -> None:
        # An item and its sequence are one level of nesting.
        if len(self._stack) > 2 * MAXIMUM_DEPTH:
            raise _invalid(end, f"nests deeper than {MAXIMUM_DEPTH} sequences")
        self._stack.append(_Container(kind, end, by_delimiter, encoding, tag))

    def _note(self, tag: int, value: int, length: int) -> None:
        depth = len(self._stack)
        if depth == 1:
            if tag in _FILING:
                if tag in self._values:
                    raise _invalid(value, f"has {_name(tag)} twice")
                self._values[tag] = self._text(value, length)
            elif tag == _ROWS or tag in _PIXEL_DATA:
                self._is_image = True
        if tag in _PRIORITY and (
            depth == 1
            or (depth == 3 and self._stack[-1].tag == _REQUEST_ATTRIBUTES_SEQUENCE)
        ):
            priority = _PRIORITIES.get(self._text(value, length).upper())
            if priority is not None:
                self._priorities.append(priority)

    def _text(self, value: int, length: int) -> str:
        raw = bytes(self._buffer[value : value + min(length, _LONGEST_VALUE)])
        return raw.decode("ascii", errors="replace").strip(" \x00")

    def _facts(self) -> InstanceFacts:
        return InstanceFacts(
            **{name: self._values.get(tag, "") for tag, name in _FILING.items()},
            is_image=self._is_image,
            order_priority=min(
                self._priorities, key=lambda p: p.rank, default=Priority.ROUTINE
            ),
        )


@lru_cache(maxsize=4096)
def _is_sequence(tag: int) -> bool:
    # Implicit VR does not say it, so the dictionary must; what it does not know
    # (private elements of defined length) is opaque to every parser, too.
    try:
        return dictionary_VR(tag) == "SQ"
    except KeyError:
        return False


def _name(tag: int) -> str:
    return f"({tag >> 16:04X},{tag & 0xFFFF:04X})"


def _invalid(position: int, what: str) -> InvalidInstance:
    return InvalidInstance(f"data set {what} (byte {position})")
