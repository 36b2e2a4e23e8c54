"""The header of the files that secondread keeps: preamble and File Meta Information.

The data set behind it stays what the peer sent, byte for byte. The header says where it
came from, so that a file alone is enough to index its instance again.
"""

import struct
from dataclasses import dataclass
from functools import lru_cache
from typing import BinaryIO

from core.errors import InvalidInstance
from core.uids import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME

__all__ = ["FileMeta", "encode_file_meta", "read_file_meta"]

# PS3.10 7.1. Zeros: a peer's preamble may be a program (CVE-2019-11687).
_PREAMBLE = bytes(128) + b"DICM"
_GROUP_LENGTH_BYTES = 12
# Far above what `encode_file_meta` can write.
_LONGEST_GROUP = 8192
_LONG_LENGTH_VRS = frozenset({b"OB", b"UR"})
_URL_SCHEME = "dicom://"


@dataclass(frozen=True)
class FileMeta:
    """What the header of a kept file says."""

    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    calling_ae_title: str
    called_ae_title: str
    peer_address: str


def encode_file_meta(meta: FileMeta) -> bytes:
    """Write the preamble, the prefix and the File Meta Information.

    Source
    ------
    PS3.10 7.1 and Table 7.1-1; PS3.5 A.2 (Explicit VR Little Endian).
    """
    elements = (
        _before_the_uid(meta.sop_class_uid)
        + _element(0x0003, b"UI", meta.sop_instance_uid.encode("ascii"))
        + _behind_the_uid(
            meta.transfer_syntax_uid,
            meta.calling_ae_title,
            meta.called_ae_title,
            meta.peer_address,
        )
    )
    length = _element(0x0000, b"UL", struct.pack("<L", len(elements)))
    return _PREAMBLE + length + elements


# Within an association all but the UID is the same.
@lru_cache(maxsize=256)
def _before_the_uid(sop_class_uid: str) -> bytes:
    return _element(0x0001, b"OB", b"\x00\x01") + _element(
        0x0002, b"UI", sop_class_uid.encode("ascii")
    )


@lru_cache(maxsize=256)
def _behind_the_uid(
    transfer_syntax_uid: str, calling: str, called: str, address: str
) -> bytes:
    return b"".join(
        (
            _element(0x0010, b"UI", transfer_syntax_uid.encode("ascii")),
            _element(0x0012, b"UI", IMPLEMENTATION_CLASS_UID.encode("ascii")),
            _element(0x0013, b"SH", IMPLEMENTATION_VERSION_NAME.encode("ascii")),
            _element(0x0016, b"AE", _ascii(calling)),
            _element(0x0017, b"AE", _ascii(calling)),
            _element(0x0018, b"AE", _ascii(called)),
            _element(0x0026, b"UR", _ascii(_URL_SCHEME + _host(address))),
        )
    )


def read_file_meta(file: BinaryIO) -> tuple[FileMeta, int]:
    """Read the header of a kept file.

    Parameters
    ----------
    file
        Open at its first byte; read up to the data set.

    Returns
    -------
    The header and the position of the data set's first byte.

    Raises
    ------
    InvalidInstance
        If this is no file that `encode_file_meta` began.
    """
    start = len(_PREAMBLE) + _GROUP_LENGTH_BYTES
    head = file.read(start)
    if len(head) < start or not head.startswith(_PREAMBLE):
        raise InvalidInstance("a kept file does not begin with our preamble")
    (length,) = struct.unpack_from("<L", head, start - 4)
    if length > _LONGEST_GROUP:
        raise InvalidInstance(f"a kept file has a header of {length} bytes")
    values = _elements(file.read(length))
    try:
        meta = FileMeta(
            sop_class_uid=values[0x0002],
            sop_instance_uid=values[0x0003],
            transfer_syntax_uid=values[0x0010],
            calling_ae_title=values[0x0016],
            called_ae_title=values[0x0018],
            peer_address=values[0x0026].removeprefix(_URL_SCHEME).strip("[]"),
        )
    except KeyError as error:
        raise InvalidInstance(
            f"the header of a kept file lacks (0002,{error.args[0]:04X})"
        ) from error
    return meta, start + length


def _element(number: int, vr: bytes, value: bytes) -> bytes:
    if len(value) % 2:
        value += b"\x00" if vr == b"UI" else b" "
    if vr in _LONG_LENGTH_VRS:
        return struct.pack("<HH2sHL", 2, number, vr, 0, len(value)) + value
    return struct.pack("<HH2sH", 2, number, vr, len(value)) + value


def _elements(group: bytes) -> dict[int, str]:
    values = {}
    position = 0
    try:
        while position < len(group):
            _, number, vr, length = struct.unpack_from("<HH2sH", group, position)
            position += 8
            if vr in _LONG_LENGTH_VRS:
                (length,) = struct.unpack_from("<L", group, position)
                position += 4
            value = group[position : position + length]
            values[number] = value.decode("ascii").rstrip(" \x00")
            position += length
    except (struct.error, UnicodeDecodeError) as error:
        raise InvalidInstance("the header of a kept file cannot be read") from error
    return values


def _ascii(text: str) -> bytes:
    return text.encode("ascii", errors="replace")


def _host(address: str) -> str:
    return f"[{address}]" if ":" in address else address
