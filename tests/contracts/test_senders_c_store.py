"""What C-STORE alone must do: contexts, rejections, echo, and sending any files."""

import gc
import socket
import threading
import time
import warnings
from io import BytesIO
from pathlib import Path

import pytest
from pydicom import dcmwrite
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
)
from pynetdicom import AE, StoragePresentationContexts, evt
from pynetdicom.service_class import StorageServiceClass
from pynetdicom.sop_class import uid_to_service_class
from sender_peers import EXPLICIT, SR_3D, DicomPeer, closed_port, data_set_of, seconds

from dicom_node.senders.c_echo import echo
from dicom_node.senders.c_store import CStoreSender, send_files
from dicom_node.senders.negotiation import Peer
from dicom_node.senders.sender import Outcome, OutgoingReport, answer_for_status

pytestmark = [
    pytest.mark.integration,
    # pynetdicom leaves a socket to the garbage collector when a connection fails.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),
]


@pytest.fixture(autouse=True)
def _sockets_that_pynetdicom_leaves():
    """Collect them here, so that no other test is blamed for them."""
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


DX = "1.2.840.10008.5.1.4.1.1.1.1"


def write(path: Path, sop_class: str, uid: str, syntax: str = EXPLICIT) -> Path:
    dataset = Dataset()
    dataset.SOPClassUID = sop_class
    dataset.SOPInstanceUID = uid
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.file_meta.MediaStorageSOPClassUID = sop_class
    dataset.file_meta.MediaStorageSOPInstanceUID = uid
    buffer = BytesIO()
    dcmwrite(buffer, dataset, enforce_file_format=True)
    path.write_bytes(buffer.getvalue())
    return path


def report(path: Path, sop_class: str = SR_3D) -> OutgoingReport:
    return OutgoingReport(write(path, sop_class, "1.2.3"), sop_class, "1.2.3", EXPLICIT)


@pytest.fixture
def peer():
    made = DicomPeer()
    yield made
    made.close()


@pytest.fixture
def any_peer():
    """An SCP of all storage classes, JPEG 2000 included."""
    received: list[tuple[str, bytes]] = []
    entity = AE(ae_title="PACS")
    for context in StoragePresentationContexts:
        entity.add_supported_context(
            context.abstract_syntax, [ExplicitVRLittleEndian, JPEG2000Lossless]
        )

    def store(event: evt.Event) -> int:
        syntax = str(event.context.transfer_syntax)
        received.append((syntax, event.request.DataSet.getvalue()))
        return 0x0000

    connections: list[int] = []
    server = entity.start_server(
        ("127.0.0.1", 0),
        block=False,
        evt_handlers=[
            (evt.EVT_C_STORE, store),
            (evt.EVT_CONN_OPEN, lambda _event: connections.append(1)),
        ],
    )
    yield server.server_address[1], received, connections
    server.shutdown()


def send(paths: list[Path], port: int, **arguments: object):
    return send_files(
        paths,
        host="127.0.0.1",
        port=port,
        called="PACS",
        calling="ME",
        timeout_s=5,
        **arguments,
    )


def test_a_class_that_the_archive_does_not_know_is_refused_by_name(peer, tmp_path):
    other = "1.2.840.10008.5.1.4.1.1.88.33"

    (answer,) = peer.sender().send([report(tmp_path / "a.dcm", other)])

    assert answer.outcome is Outcome.REFUSED
    assert other in answer.words


def test_a_refused_class_takes_no_other_with_it(peer, tmp_path):
    reports = [
        report(tmp_path / "a.dcm", "1.2.840.10008.5.1.4.1.1.88.33"),
        report(tmp_path / "b.dcm"),
    ]

    first, second = peer.sender().send(reports)

    assert first.outcome is Outcome.REFUSED
    assert second.outcome is Outcome.ACCEPTED


def test_a_rejected_association_comes_with_its_reason(peer, tmp_path):
    (answer,) = peer.sender(called="OTHER").send([report(tmp_path / "a.dcm")])

    assert answer.outcome is Outcome.UNAVAILABLE
    assert "1/7" in answer.words
    assert "called AE title" in answer.words


def test_a_host_that_does_not_resolve_is_an_answer(tmp_path):
    sender = CStoreSender(Peer("no such host.invalid", 104, "A", "B", 1))

    (answer,) = sender.send([report(tmp_path / "a.dcm")])

    assert answer.outcome is Outcome.UNAVAILABLE
    assert "no connection" in answer.words


def test_a_peer_that_stops_reading_holds_no_sender_for_ever(tmp_path):
    big = tmp_path / "big.dcm"
    item = report(big)
    with big.open("ab") as file:
        file.write(b"\0" * 30_000_000)
    peer = StubbornPeer()
    began = time.monotonic()

    answers = list(
        CStoreSender(Peer("127.0.0.1", peer.port, "A", "B", 0.5)).send([item])
    )
    took = seconds(began)
    peer.close()

    assert answers[0].outcome is Outcome.UNAVAILABLE
    assert took < 45


class StubbornPeer:
    """Accepts a connection and never reads from it."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._connections: list[socket.socket] = []
        self._thread = threading.Thread(target=self._accept)
        self._thread.start()

    def _accept(self) -> None:
        try:
            while True:
                self._connections.append(self._listener.accept()[0])
        except OSError:
            return

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()
        for connection in self._connections:
            connection.close()


def test_files_of_any_class_and_syntax_are_sent_as_they_are(any_peer, tmp_path):
    port, received, _ = any_peer
    paths = [
        write(tmp_path / "a.dcm", DX, "1.2.1"),
        write(tmp_path / "b.dcm", DX, "1.2.2", JPEG2000Lossless),
        write(tmp_path / "c.dcm", SR_3D, "1.2.3"),
    ]

    results = send(paths, port)

    assert [result.ok for result in results] == [True] * 3
    assert received == [
        (EXPLICIT, data_set_of(paths[0].read_bytes())),
        (str(JPEG2000Lossless), data_set_of(paths[1].read_bytes())),
        (EXPLICIT, data_set_of(paths[2].read_bytes())),
    ]


def test_more_classes_than_contexts_go_over_several_associations(any_peer, tmp_path):
    port, received, connections = any_peer
    # For some retired classes pynetdicom's own SCP knows no service and aborts.
    known = [str(c.abstract_syntax) for c in StoragePresentationContexts]
    classes = [
        uid for uid in known if uid_to_service_class(uid) is StorageServiceClass
    ][:100]
    paths = [
        write(tmp_path / f"{number}{syntax[-2:]}.dcm", uid, f"1.2.{number}", syntax)
        for number, uid in enumerate(classes)
        for syntax in (EXPLICIT, JPEG2000Lossless)
    ]

    results = send(paths, port)

    assert [result for result in results if not result.ok] == []
    # Uncompressed classes take two contexts each: their own syntax and the default one.
    assert (len(received), len(connections)) == (200, 3)


def test_what_is_no_dicom_file_is_told_and_the_rest_is_sent(any_peer, tmp_path):
    port, received, _ = any_peer
    text = tmp_path / "notes.txt"
    text.write_text("no image")
    paths = [text, write(tmp_path / "a.dcm", DX, "1.2.1"), tmp_path / "absent.dcm"]
    told: list[Path] = []

    results = send(paths, port, progress=lambda result: told.append(result.path))

    assert [result.ok for result in results] == [False, True, False]
    assert "no DICOM file" in results[0].answer.words
    assert sorted(told) == sorted(paths)
    assert len(received) == 1


def test_echo_tells_that_a_peer_is_there():
    entity = AE(ae_title="PACS")
    entity.add_supported_context("1.2.840.10008.1.1")
    server = entity.start_server(("127.0.0.1", 0), block=False)

    result = echo("127.0.0.1", server.server_address[1], called="PACS", calling="ME")
    server.shutdown()

    assert result.ok
    assert result.words == "success"
    assert 0 < result.seconds < 5


def test_echo_tells_why_it_failed(peer):
    nobody = echo("127.0.0.1", closed_port(), called="PACS", calling="ME")
    no_echo = echo("127.0.0.1", peer.port, called="PACS", calling="ME")

    assert (nobody.ok, no_echo.ok) == (False, False)
    assert "no connection" in nobody.words
    assert "1.2.840.10008.1.1" in no_echo.words


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        (0x0000, Outcome.ACCEPTED),
        (0xB000, Outcome.ACCEPTED),
        (0xB007, Outcome.ACCEPTED),
        (0xB123, Outcome.ACCEPTED),
        (0x0111, Outcome.ACCEPTED),
        (0xA700, Outcome.UNAVAILABLE),
        (0xA7FF, Outcome.UNAVAILABLE),
        (0x0110, Outcome.UNAVAILABLE),
        (0x0213, Outcome.UNAVAILABLE),
        (0x0122, Outcome.REFUSED),
        (0x0124, Outcome.REFUSED),
        (0xA900, Outcome.REFUSED),
        (0xC000, Outcome.REFUSED),
        (0xCFFF, Outcome.REFUSED),
        (0x9999, Outcome.REFUSED),
    ],
)
def test_a_status_means_what_the_standard_says(status, outcome):
    assert answer_for_status(status).outcome is outcome


def test_a_peers_words_bring_no_control_characters_and_have_an_end():
    answer = answer_for_status(0xC000, "\x1b[31mred\r\nforged line" + "x" * 500)

    assert answer.words.isprintable()
    assert len(answer.words) < 300


def test_a_peer_of_the_default_transfer_syntax_only_gets_the_report_in_that(tmp_path):
    received: list[tuple[str, str]] = []
    entity = AE(ae_title="OLD")
    entity.add_supported_context(SR_3D, [ImplicitVRLittleEndian])

    def store(event: evt.Event) -> int:
        received.append(
            (event.context.transfer_syntax, str(event.dataset.SOPInstanceUID))
        )
        return 0x0000

    server = entity.start_server(
        ("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, store)]
    )
    try:
        port = server.server_address[1]
        sender = CStoreSender(Peer("127.0.0.1", port, "OLD", "SECONDREAD", 5.0))
        (answer,) = sender.send([report(tmp_path / "r.dcm")])
    finally:
        server.shutdown()
        server.server_close()

    assert answer.outcome is Outcome.ACCEPTED
    assert received == [(ImplicitVRLittleEndian, "1.2.3")]
