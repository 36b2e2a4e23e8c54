"""What every sender promises, whatever it speaks."""

import gc
import time
import warnings
from io import BytesIO

import pytest
from pydicom import dcmwrite
from pydicom.dataset import Dataset, FileMetaDataset
from sender_peers import EXPLICIT, SR_3D, DicomPeer, StowPeer, data_set_of, seconds

from dicom_node.senders.sender import Outcome, OutgoingReport
from tests.certificates import Authority, needs_openssl

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


@pytest.fixture(
    params=[
        (DicomPeer, False),
        (StowPeer, False),
        pytest.param((DicomPeer, True), marks=needs_openssl),
        pytest.param((StowPeer, True), marks=needs_openssl),
    ],
    ids=["C-STORE", "STOW-RS", "C-STORE over TLS", "STOW-RS over TLS"],
)
def peer(request, tmp_path):
    kind, encrypted = request.param
    made = kind(authority=Authority(tmp_path) if encrypted else None)
    yield made
    made.close()


@pytest.fixture
def make_report(tmp_path):
    def make(name: str = "1", size: int = 100) -> OutgoingReport:
        dataset = Dataset()
        dataset.SOPClassUID = SR_3D
        dataset.SOPInstanceUID = f"1.2.3.{name}"
        dataset.PatientName = "Müller^Ä"
        dataset.SpecificCharacterSet = "ISO_IR 192"
        dataset.TextValue = "x" * size
        dataset.file_meta = FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = EXPLICIT
        dataset.file_meta.MediaStorageSOPClassUID = SR_3D
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
        buffer = BytesIO()
        dcmwrite(buffer, dataset, enforce_file_format=True)
        path = tmp_path / f"{name}.dcm"
        path.write_bytes(buffer.getvalue())
        return OutgoingReport(path, SR_3D, dataset.SOPInstanceUID, EXPLICIT)

    return make


def test_a_report_arrives_byte_for_byte(peer, make_report):
    report = make_report(size=300_000)

    (answer,) = peer.sender().send([report])

    assert answer.outcome is Outcome.ACCEPTED
    assert peer.received == [data_set_of(report.path.read_bytes())]


def test_a_resend_is_the_same_bytes_again(peer, make_report):
    report = make_report()

    list(peer.sender().send([report]))
    list(peer.sender().send([report]))

    assert peer.received[0] == peer.received[1]


def test_all_reports_of_a_round_go_over_one_connection(peer, make_report):
    reports = [make_report(str(number)) for number in range(1, 6)]

    answers = list(peer.sender().send(reports))

    assert [answer.outcome for answer in answers] == [Outcome.ACCEPTED] * 5
    assert (len(peer.received), peer.connections) == (5, 1)


def test_the_next_report_is_sent_when_the_next_answer_is_asked_for(peer, make_report):
    answers = peer.sender().send([make_report("1"), make_report("2")])

    next(answers)

    assert len(peer.received) == 1
    assert len(list(answers)) == 1


def test_nothing_to_send_opens_no_connection(peer):
    assert list(peer.sender().send([])) == []
    assert peer.connections == 0


@pytest.mark.parametrize(
    ("how", "outcome", "told"),
    [
        ("warn", Outcome.ACCEPTED, "warning"),
        ("refuse", Outcome.REFUSED, "0122"),
        ("later", Outcome.UNAVAILABLE, ""),
        ("abort", Outcome.UNAVAILABLE, ""),
        ("hang", Outcome.UNAVAILABLE, ""),
        ("reset after storing", Outcome.UNAVAILABLE, ""),
        ("closed", Outcome.UNAVAILABLE, "no "),
    ],
)
def test_each_misbehaviour_is_an_answer_and_no_error(
    peer, make_report, how, outcome, told
):
    peer.behave(how)
    began = time.monotonic()

    (answer,) = peer.sender().send([make_report()])

    assert answer.outcome is outcome
    assert told in answer.words
    assert seconds(began) < 10


def test_a_broken_connection_is_made_again_for_the_next_report(peer, make_report):
    peer.behave("abort once")

    first, second = peer.sender().send([make_report("1"), make_report("2")])

    assert first.outcome is Outcome.UNAVAILABLE
    assert second.outcome is Outcome.ACCEPTED


def test_a_dead_destination_does_not_cost_its_timeout_for_each_report(
    peer, make_report
):
    peer.behave("hang")
    reports = [make_report(str(number)) for number in range(1, 9)]
    began = time.monotonic()

    answers = list(peer.sender().send(reports))

    assert {answer.outcome for answer in answers} == {Outcome.UNAVAILABLE}
    assert len(peer.received) <= 2
    assert seconds(began) < 9


def test_a_file_that_is_gone_is_an_answer_and_no_error(peer, make_report):
    report = make_report()
    report.path.unlink()

    (answer,) = peer.sender().send([report])

    assert answer.outcome is not Outcome.ACCEPTED
