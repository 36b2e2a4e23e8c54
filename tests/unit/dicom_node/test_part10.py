"""Files as they come: what they are, and where their data set begins."""

import os
import struct
from pathlib import Path

import pytest

from dicom_node.senders.part10 import NoDicomFile, open_instance

CT = "1.2.840.10008.5.1.4.1.1.2"
EXPLICIT = "1.2.840.10008.1.2.1"
DATA_SET = struct.pack("<HH2sH", 8, 0x16, b"UI", 26) + CT.encode() + b"\0"


def element(number: int, vr: bytes, value: bytes) -> bytes:
    if vr in (b"OB", b"UN"):
        return struct.pack("<HH2sHL", 2, number, vr, 0, len(value)) + value
    return struct.pack("<HH2sH", 2, number, vr, len(value)) + value


def uid(text: str) -> bytes:
    return text.encode() + b"\0" * (len(text) % 2)


USUAL = (
    element(1, b"OB", b"\0\1")
    + element(2, b"UI", uid(CT))
    + element(3, b"UI", uid("1.2.3"))
    + element(0x10, b"UI", uid(EXPLICIT))
)


def write(path: Path, meta: bytes, data_set: bytes = DATA_SET) -> Path:
    path.write_bytes(bytes(128) + b"DICM" + meta + data_set)
    return path


def group_length(meta: bytes, length: int | None = None) -> bytes:
    size = len(meta) if length is None else length
    return element(0, b"UL", struct.pack("<L", size)) + meta


@pytest.mark.parametrize(
    "meta",
    [
        group_length(USUAL),
        USUAL,
        group_length(USUAL, 2**31),
        group_length(USUAL + element(0x102, b"OB", bytes(100_000))),
    ],
    ids=["as it should be", "no group length", "wrong group length", "private, long"],
)
def test_a_file_says_what_it_is_whatever_its_group_length_says(tmp_path, meta):
    with open_instance(write(tmp_path / "a.dcm", meta), read_ahead=True) as found:
        source = found.data_set
        read = os.pread(source.descriptor, source.size, source.offset)

    assert (found.sop_class_uid, found.sop_instance_uid) == (CT, "1.2.3")
    assert found.transfer_syntax_uid == EXPLICIT
    assert read == DATA_SET


def test_a_file_without_a_data_set_has_an_empty_one(tmp_path):
    with open_instance(write(tmp_path / "a.dcm", USUAL, b"")) as found:
        assert found.data_set.size == 0


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "no DICOM file"),
        (b"some text", "no DICOM file"),
        (bytes(128) + b"DICM", "incomplete"),
        (bytes(128) + b"DICM" + USUAL[:-2], "cut"),
        (bytes(128) + b"DICM" + USUAL[:40] + DATA_SET, "incomplete"),
        (
            bytes(128) + b"DICM" + struct.pack("<HH2sHL", 2, 1, b"OB", 0, 2**32 - 1),
            "cut",
        ),
        (bytes(128) + b"DICM" + struct.pack("<HH2sH", 2, 1, b"OB", 0), "cut"),
    ],
)
def test_what_is_no_dicom_file_says_so_and_is_closed(tmp_path, content, words):
    path = tmp_path / "a.dcm"
    path.write_bytes(content)

    with pytest.raises(NoDicomFile, match=words):
        open_instance(path)


def test_a_closed_file_stays_closed(tmp_path):
    with open_instance(write(tmp_path / "a.dcm", USUAL)) as found:
        pass

    assert found.file.closed
