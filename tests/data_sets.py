"""Data sets as bytes, written by hand, so that tests control every length."""

import struct
from collections.abc import Sequence
from dataclasses import dataclass

from dicom_node.element_walk import Encoding
from dicom_node.file_meta import FileMeta

EXPLICIT = "1.2.840.10008.1.2.1"
IMPLICIT = "1.2.840.10008.1.2"
BIG_ENDIAN = "1.2.840.10008.1.2.2"
JPEG = "1.2.840.10008.1.2.4.50"
CT = "1.2.840.10008.5.1.4.1.1.2"
UNDEFINED = 0xFFFFFFFF
LONG = {"OB", "OW", "SQ", "UN", "UT"}

STUDY = "1.2.3.4"
SERIES = "1.2.3.4.5"
INSTANCE = "1.2.3.4.5.6"


def element(
    tag: int,
    vr: str,
    value: bytes | str = b"",
    *,
    encoding: Encoding | None = None,
    length: int | None = None,
) -> bytes:
    """One element; `length` may lie."""
    encoding = encoding or Encoding(implicit_vr=False, big_endian=False)
    order = ">" if encoding.big_endian else "<"
    raw = value.encode("ascii") if isinstance(value, str) else value
    if len(raw) % 2:
        raw += b"\0" if vr == "UI" else b" "
    size = len(raw) if length is None else length
    head = struct.pack(order + "HH", tag >> 16, tag & 0xFFFF)
    if encoding.implicit_vr or tag >> 16 == 0xFFFE:
        return head + struct.pack(order + "L", size) + raw
    if vr in LONG:
        return head + vr.encode() + b"\0\0" + struct.pack(order + "L", size) + raw
    return head + vr.encode() + struct.pack(order + "H", size) + raw


def item(content: bytes = b"", *, undefined: bool = False, **options: object) -> bytes:
    """One item of a sequence."""
    if undefined:
        return (
            element(0xFFFEE000, "", b"", length=UNDEFINED, **options)  # type: ignore[arg-type]
            + content
            + element(0xFFFEE00D, "", **options)  # type: ignore[arg-type]
        )
    return element(0xFFFEE000, "", content, **options)  # type: ignore[arg-type]


def sequence(
    tag: int,
    items: Sequence[bytes],
    *,
    undefined: bool = False,
    encoding: Encoding | None = None,
) -> bytes:
    """One sequence."""
    content = b"".join(items)
    if not undefined:
        return element(tag, "SQ", content, encoding=encoding)
    return (
        element(tag, "SQ", b"", encoding=encoding, length=UNDEFINED)
        + content
        + element(0xFFFEE0DD, "", encoding=encoding)
    )


@dataclass(frozen=True)
class Sample:
    """An instance to send."""

    sop_instance_uid: str = INSTANCE
    sop_class_uid: str = CT
    study_instance_uid: str = STUDY
    series_instance_uid: str = SERIES
    modality: str = "CT"
    manufacturer: str = "ACME"
    pixels: bytes = bytes(128)
    transfer_syntax_uid: str = EXPLICIT
    patient_id: str = "1"

    @property
    def encoding(self) -> Encoding:
        """Of its transfer syntax."""
        return Encoding.of(self.transfer_syntax_uid)

    @property
    def data_set(self) -> bytes:
        """Its bytes."""
        parts = [
            (0x00080016, "UI", self.sop_class_uid),
            (0x00080018, "UI", self.sop_instance_uid),
            (0x00080060, "CS", self.modality),
            (0x00080070, "LO", self.manufacturer),
            (0x00100020, "LO", self.patient_id),
            (0x0020000D, "UI", self.study_instance_uid),
            (0x0020000E, "UI", self.series_instance_uid),
            (0x00280010, "US", b"\x08\x00"),
            (0x7FE00010, "OW", self.pixels),
        ]
        return b"".join(
            element(tag, vr, value, encoding=self.encoding)
            for tag, vr, value in parts
            if value
        )

    @property
    def meta(self) -> FileMeta:
        """What its request says."""
        return FileMeta(
            sop_class_uid=self.sop_class_uid,
            sop_instance_uid=self.sop_instance_uid,
            transfer_syntax_uid=self.transfer_syntax_uid,
            calling_ae_title="SCANNER",
            called_ae_title="SECONDREAD",
            peer_address="127.0.0.1",
        )
