"""Records what real peers write, byte by byte, for tests of the protocol.

    python -m tests.recordings.record

Senders: a node takes the associations, a relay in front of it keeps what the sender
writes after its A-ASSOCIATE-RQ. Receivers: our sender calls them through the relay, and
what they answer after their A-ASSOCIATE-AC is kept (`*.answers`). Needs DCMTK and
Orthanc. The instances are `SAMPLES` below and nobody's.
"""

import socket
import struct
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from dicom_node.file_meta import encode_file_meta
from tests.data_sets import IMPLICIT, Sample

__all__ = ["FOLDER", "SAMPLES"]

FOLDER = Path(__file__).parent
# Empty pixel data, one fragment, and more than two PDUs of 4096 bytes.
SAMPLES = [
    Sample(sop_instance_uid="1.2.3.4.5.1", pixels=b""),
    Sample(sop_instance_uid="1.2.3.4.5.2"),
    Sample(sop_instance_uid="1.2.3.4.5.3", pixels=bytes(range(256)) * 40),
    Sample(sop_instance_uid="1.2.3.4.5.4", transfer_syntax_uid=IMPLICIT),
]


def main() -> None:
    """Record every sender."""
    from tests.integration.receiving_node import node_on
    from tests.receiving import settings_for

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "study").mkdir()
        for number, sample in enumerate(SAMPLES):
            data = encode_file_meta(sample.meta) + sample.data_set
            (folder / "study" / f"{number}.dcm").write_bytes(data)
        with node_on(settings_for(folder / "node")) as node:
            for sender, send in _senders(folder / "study").items():
                with _relay(node.port) as (port, written, _):
                    send(port)
                (FOLDER / f"{sender}.pdus").write_bytes(_after_first_pdu(written))
            _record_orthanc(folder, node.port)
        (FOLDER / "dcm4che-style.pdus").write_bytes(_as_dcm4che(SAMPLES))
        record_answers(folder)


def record_answers(folder: Path) -> None:
    """Record every receiver."""
    from dicom_node.archive import Archive
    from dicom_node.senders.c_store import send_files
    from tests.peers import DcmtkArchive, Orthanc

    with (
        DcmtkArchive(folder / "dcmtk") as dcmtk,
        Orthanc(folder / "orthanc") as orthanc,
        Archive(folder / "archive", "ARCHIVE") as archive,
    ):
        for name, title, target in (
            ("dcmtk-storescp", "STORESCP", dcmtk.port),
            ("orthanc", "ORTHANC", orthanc.port),
            ("pynetdicom-archive", "ARCHIVE", archive.port),
        ):
            with _relay(target) as (port, _, answered):
                results = send_files(
                    sorted((folder / "study").iterdir()),
                    host="127.0.0.1", port=port, called=title, calling="SECONDREAD",
                )  # fmt: skip
            assert all(result.ok for result in results), name
            (FOLDER / f"{name}.answers").write_bytes(_after_first_pdu(answered))


def _senders(study: Path) -> dict[str, Callable[[int], object]]:
    def dcmtk(program: str, *options: str) -> Callable[[int], object]:
        return lambda port: subprocess.run(
            [program, "-aec", "SECONDREAD", *options[:2], "127.0.0.1", str(port)]
            + list(options[2:]),
            check=True,
            capture_output=True,
        )

    return {
        "dcmtk-echoscu": dcmtk("echoscu", "-pdu", "16384"),
        "dcmtk-storescu": dcmtk("storescu", "-pdu", "16384", "+sd", str(study)),
        "dcmtk-storescu-4k": dcmtk(
            "storescu", "--max-send-pdu", "4096", "+sd", str(study)
        ),
        "dcmtk-dcmsend": dcmtk("dcmsend", "-pdu", "16384", "+sd", str(study)),
        "dcmtk-storescu-abort": dcmtk(
            "storescu", "-pdu", "16384", "--abort", "+sd", str(study)
        ),
        "pynetdicom-store": _pynetdicom,
    }


def _pynetdicom(port: int) -> None:
    from tests.integration.receiving_node import send_all

    send_all(port, *SAMPLES)


def _record_orthanc(folder: Path, target: int) -> None:
    """Record Orthanc as a sender: it keeps what it is given and sends it on."""
    from tests.peers import Orthanc

    with Orthanc(folder / "orthanc-sender") as orthanc:
        stored = [
            orthanc.post("/instances", path.read_bytes())["ID"]
            for path in sorted((folder / "study").iterdir())
        ]
        with _relay(target) as (port, written, _):
            orthanc.know("node", port)
            orthanc.post("/modalities/node/store", {"Resources": stored})
    (FOLDER / "orthanc.pdus").write_bytes(_after_first_pdu(written))


def _as_dcm4che(samples: list[Sample]) -> bytes:
    """Write what dcm4che would: PDVs are packed, each PDU is filled to its end.

    There is no dcm4che at hand, so this is made after the description of its
    `PDUEncoder` and not recorded: a command and the beginning of its data set share a
    PDU of 16378 bytes, the rest follows in full ones, and each message begins another.
    """
    longest, stream = 16378, b""
    for number, sample in enumerate(samples):
        room, body = longest, b""
        for header, content in ((1, _command(sample, number)), (0, sample.data_set)):
            rest = content
            while rest or not content:
                size = min(len(rest), room - 6)
                piece, rest = rest[:size], rest[size:]
                last = 0 if rest else 2
                body += struct.pack(">LBB", size + 2, 1, header | last) + piece
                room -= size + 6
                if rest or room <= 6:
                    stream += struct.pack(">BBL", 4, 0, len(body)) + body
                    room, body = longest, b""
                if not content:
                    break
        if body:
            stream += struct.pack(">BBL", 4, 0, len(body)) + body
    return stream + struct.pack(">BBL", 5, 0, 4) + bytes(4)


def _command(sample: Sample, number: int) -> bytes:
    def element(tag: int, value: bytes) -> bytes:
        return struct.pack("<HHL", 0, tag, len(value)) + value

    def uid(text: str) -> bytes:
        return text.encode() + b"\0" * (len(text) % 2)

    content = (
        element(0x0002, uid(sample.sop_class_uid))
        + element(0x0100, struct.pack("<H", 0x0001))
        + element(0x0110, struct.pack("<H", number + 1))
        + element(0x0700, bytes(2))
        + element(0x0800, bytes(2))
        + element(0x1000, uid(sample.sop_instance_uid))
    )
    return element(0x0000, struct.pack("<L", len(content))) + content


@contextmanager
def _relay(target: int) -> Iterator[tuple[int, bytearray, bytearray]]:
    """Yield a port, what the caller writes to it, and what it is answered."""
    written, answered = bytearray(), bytearray()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(
            target=_pass_on, args=(listener, target, written, answered)
        )
        thread.start()
        yield listener.getsockname()[1], written, answered
        thread.join(30)


def _pass_on(
    listener: socket.socket, target: int, written: bytearray, answered: bytearray
) -> None:
    sender, _ = listener.accept()
    with sender, socket.create_connection(("127.0.0.1", target)) as node:
        back = threading.Thread(target=_copy, args=(node, sender, answered))
        back.start()
        _copy(sender, node, written)
        back.join(30)


def _copy(source: socket.socket, target: socket.socket, seen: bytearray) -> None:
    try:
        while data := source.recv(65536):
            seen += data
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        pass  # the other side was quicker to close


def _after_first_pdu(written: bytearray) -> bytes:
    return bytes(written[6 + int.from_bytes(written[2:6], "big") :])


if __name__ == "__main__":
    main()
