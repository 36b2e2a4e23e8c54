"""What real senders wrote is read as what they were given, however it arrives.

The recordings are made by `python -m tests.recordings.record`.
"""

import random
from dataclasses import replace
from pathlib import Path

import pytest

from dicom_node.data_transfer.command_set import Command
from dicom_node.data_transfer.protocol import (
    AbortReceived,
    DataTransfer,
    Event,
    Fragment,
    Limits,
    MessageBegan,
    MessageEnded,
    ReleaseRequested,
)
from tests.data_sets import EXPLICIT
from tests.recordings.record import FOLDER, SAMPLES

RECORDINGS = sorted(FOLDER.glob("*.pdus"))
LIMITS = Limits(
    maximum_pdu_length=131072, maximum_command_bytes=65536, maximum_data_set_bytes=2**32
)


def read(stream: bytes, rng: random.Random) -> tuple[dict[str, bytes], list[Event]]:
    """Data sets by SOP Instance UID, and the other events."""
    protocol = DataTransfer(range(1, 256, 2), LIMITS)
    data_sets: dict[str, bytes] = {}
    others: list[Event] = []
    uid = ""
    while stream:
        count = rng.choice([1, 2, 5, 6, 7, 100, 4096, 1 << 20])
        piece, stream = stream[:count], stream[count:]
        for event in protocol.receive(memoryview(piece)):
            match event:
                case MessageBegan(_, request) if request.has_data_set:
                    uid = request.sop_instance_uid
                    data_sets[uid] = b""
                case Fragment(data):
                    data_sets[uid] += bytes(data)
                case MessageEnded():
                    pass
                case _:
                    others.append(event)
    return data_sets, others


@pytest.mark.parametrize("path", RECORDINGS, ids=lambda path: path.stem)
@pytest.mark.parametrize("seed", range(5))
def test_a_recorded_sender_is_read_byte_for_byte(path: Path, seed: int) -> None:
    samples = [] if "echoscu" in path.stem else SAMPLES
    if "dcmsend" in path.stem:  # it takes one transfer syntax for the class
        samples = [replace(sample, transfer_syntax_uid=EXPLICIT) for sample in samples]

    data_sets, others = read(path.read_bytes(), random.Random(seed))

    assert data_sets == {sample.sop_instance_uid: sample.data_set for sample in samples}
    if "echoscu" in path.stem:
        verification = others.pop(0)
        assert isinstance(verification, MessageBegan)
        assert verification.request.command is Command.C_ECHO_RQ
    ending = AbortReceived() if "abort" in path.stem else ReleaseRequested()
    assert others == [ending]


def test_every_kind_of_sender_is_recorded() -> None:
    assert {path.stem for path in RECORDINGS} == {
        "dcmtk-echoscu",
        "dcmtk-storescu",
        "dcmtk-storescu-4k",
        "dcmtk-storescu-abort",
        "dcmtk-dcmsend",
        "dcm4che-style",
        "orthanc",
        "pynetdicom-store",
    }
