"""C-STORE's own loop against peers that do things at the wrong time, or slowly."""

import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from scripted_scp import ScriptedScp, Visit, accept, answer_bytes
from sender_peers import data_set_of, seconds

from dicom_node.data_transfer.command_set import Request
from dicom_node.data_transfer.protocol import Abort
from dicom_node.file_meta import encode_file_meta
from dicom_node.senders.c_echo import echo
from dicom_node.senders.c_store import CStoreSender
from dicom_node.senders.negotiation import Peer
from dicom_node.senders.sender import Answer, Outcome, OutgoingReport
from tests.data_sets import Sample
from tests.receiving import eventually

pytestmark = pytest.mark.integration

Make = Callable[..., OutgoingReport]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    def made(name: str = "1", size: int = 100, **changes: str) -> OutgoingReport:
        sample = Sample(sop_instance_uid=f"1.2.3.{name}", pixels=bytes(size), **changes)
        path = tmp_path / f"{name}.dcm"
        path.write_bytes(encode_file_meta(sample.meta) + sample.data_set)
        return OutgoingReport(
            path,
            sample.sop_class_uid,
            sample.sop_instance_uid,
            sample.transfer_syntax_uid,
        )

    return made


def sender_to(
    scp: ScriptedScp, *, timeout_s: float = 5.0, keep_open_s: float = 0.0
) -> CStoreSender:
    peer = Peer("127.0.0.1", scp.port, "PACS", "SECONDREAD", timeout_s)
    return CStoreSender(peer, keep_open_s)


def send(
    scp: ScriptedScp, *reports: OutgoingReport, timeout_s: float = 5.0
) -> list[Answer]:
    return list(sender_to(scp, timeout_s=timeout_s).send(reports))


@pytest.mark.parametrize("maximum_length", [100, 8192, 131072, 0])
def test_no_pdu_is_longer_than_the_peer_takes(make, maximum_length):
    report = make(size=50_000)

    with ScriptedScp(maximum_length=maximum_length) as scp:
        (answer,) = send(scp, report)

    assert answer.outcome is Outcome.ACCEPTED
    assert scp.received == [data_set_of(report.path.read_bytes())]
    lengths = scp.visits[0].lengths
    assert not maximum_length or max(lengths) <= maximum_length


def test_the_largest_pdu_that_the_peer_takes_is_used(make):
    with ScriptedScp(maximum_length=131072) as scp:
        send(scp, make(size=500_000))

    assert max(scp.visits[0].lengths) == 131072


@pytest.mark.parametrize("size", [1, 3, 50])
def test_an_answer_in_pieces_is_an_answer(make, size):
    def in_pieces(visit: Visit, request: Request, context_id: int) -> None:
        visit.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        stream = answer_bytes(request, context_id, 0xB000)
        for at in range(0, len(stream), size):
            visit.send(stream[at : at + size])
            time.sleep(0.001)

    with ScriptedScp(in_pieces) as scp:
        first, second = send(scp, make("1"), make("2"))

    assert [first.outcome, second.outcome] == [Outcome.ACCEPTED] * 2
    assert "B000" in first.words


def test_a_peer_that_reads_slowly_is_waited_for(make):
    def slowly(_visit: Visit, _size: int) -> None:
        time.sleep(0.01)

    with ScriptedScp(middle=slowly, maximum_length=16384) as scp:
        began = time.monotonic()
        (answer,) = send(scp, make(size=6_000_000), timeout_s=1.0)
        took = seconds(began)

    assert answer.outcome is Outcome.ACCEPTED
    assert took > 2  # twice the longest silence


def test_a_peer_that_dies_in_the_middle_is_an_answer_and_the_next_one_is_sent(make):
    def die(visit: Visit, size: int) -> None:
        if visit.number == 0 and size > 100_000:
            visit.reset()

    with ScriptedScp(middle=die) as scp:
        first, second = send(scp, make("1", 8_000_000), make("2"))

    assert first.outcome is Outcome.UNAVAILABLE
    assert second.outcome is Outcome.ACCEPTED
    assert len(scp.received) == 1


def test_an_abort_in_the_middle_is_told_with_its_reason(make):
    def abort(visit: Visit, size: int) -> None:
        if size > 100_000:
            visit.abort(Abort.INVALID_PARAMETER_VALUE)

    with ScriptedScp(middle=abort) as scp:
        (answer,) = send(scp, make(size=8_000_000))

    assert answer.outcome is Outcome.UNAVAILABLE
    assert "aborted" in answer.words


def test_an_abort_while_the_peer_stays_connected_ends_the_sending(make):
    def abort(visit: Visit, size: int) -> None:
        if size > 100_000 and not visit.lengths.count(-1):
            visit.lengths.append(-1)
            visit.send(bytes((7, 0, 0, 0, 0, 4, 0, 0, 2, 6)))

    with ScriptedScp(middle=abort, keep=False) as scp:
        (answer,) = send(scp, make(size=30_000_000))
        assert eventually(lambda: scp.visits[0].has_ended)

    assert "invalid PDU parameter value" in answer.words
    assert scp.sizes == []  # it was not sent to its end


def test_a_release_in_the_middle_is_answered_and_the_next_one_is_sent(make):
    released: list[bytes] = []

    def release(visit: Visit, request: Request, context_id: int) -> None:
        if visit.number == 0:
            visit.send(bytes((5, 0, 0, 0, 0, 4, 0, 0, 0, 0)))
            released.append(visit.connection.recv(10))
        else:
            accept(visit, request, context_id)

    with ScriptedScp(release) as scp:
        first, second = send(scp, make("1"), make("2"))

    assert first.outcome is Outcome.UNAVAILABLE
    assert "released" in first.words
    assert second.outcome is Outcome.ACCEPTED
    assert released == [bytes((6, 0, 0, 0, 0, 4, 0, 0, 0, 0))]


def test_a_release_behind_an_answer_does_not_take_the_answer_with_it(make):
    def last(visit: Visit, request: Request, context_id: int) -> None:
        release = bytes((5, 0, 0, 0, 0, 4, 0, 0, 0, 0))
        visit.send(answer_bytes(request, context_id) + release)

    with ScriptedScp(last) as scp:
        answers = send(scp, make("1"), make("2"))

    assert [answer.outcome for answer in answers] == [Outcome.ACCEPTED] * 2
    assert len(scp.visits) == 2


@pytest.mark.parametrize("wrong", ["message id", "command", "context", "twice"])
def test_an_answer_to_something_else_ends_the_association(make, wrong):
    def answer(visit: Visit, request: Request, context_id: int) -> None:
        stream = bytearray(answer_bytes(request, context_id))
        if wrong == "message id":
            at = stream.index(b"\0\0\x20\x01") + 8
            stream[at : at + 2] = b"\x99\x09"
        elif wrong == "command":
            at = stream.index(b"\0\0\0\x01") + 8
            stream[at : at + 2] = b"\x30\x80"
        elif wrong == "context":
            stream[10] = 99
        else:
            stream *= 2
        visit.send(bytes(stream))

    with ScriptedScp(answer) as scp:
        (answered,) = send(scp, make())
        assert eventually(lambda: len(scp.aborts) == 1)

    assert answered.outcome is Outcome.UNAVAILABLE
    assert "broke the protocol" in answered.words


def test_a_silent_peer_is_aborted_after_the_longest_silence(make):
    with ScriptedScp(lambda *_: None) as scp:
        began = time.monotonic()
        (answer,) = send(scp, make(), timeout_s=0.8)
        took = seconds(began)
        assert eventually(lambda: scp.aborts == [(2, 0)])

    assert "no answer in time" in answer.words
    assert 0.7 < took < 10


def test_message_ids_are_never_zero_and_each_is_new(make):
    ids: list[int] = []

    def note(visit: Visit, request: Request, context_id: int) -> None:
        ids.append(request.message_id)
        accept(visit, request, context_id)

    with ScriptedScp(note) as scp:
        sender = sender_to(scp, keep_open_s=60)
        list(sender.send([make("1"), make("2")]))
        list(sender.send([make("3")]))
        sender.close()

    assert ids == [1, 2, 3]


def test_a_file_that_becomes_shorter_while_it_is_sent_is_no_instance_there(make):
    report = make(size=8_000_000)

    def cut(_visit: Visit, size: int) -> None:
        if size:
            with report.path.open("r+b") as file:
                file.truncate(1000)

    with ScriptedScp(middle=cut) as scp:
        (answer,) = send(scp, report)
        assert eventually(lambda: len(scp.aborts) == 1)

    assert "shorter" in answer.words
    assert scp.received == []


def test_the_next_file_is_opened_while_the_answer_is_awaited(make, monkeypatch):
    from dicom_node.senders import c_store

    opened: list[str] = []
    real = c_store.open_instance

    def note(path: Path, **options: bool) -> object:
        opened.append(path.name)
        return real(path, **options)

    monkeypatch.setattr(c_store, "open_instance", note)
    at_answer: list[list[str]] = []

    def answer(visit: Visit, request: Request, context_id: int) -> None:
        assert eventually(lambda: len(opened) >= min(len(at_answer) + 2, 3), 2)
        at_answer.append(list(opened))
        accept(visit, request, context_id)

    with ScriptedScp(answer) as scp:
        answers = list(
            sender_to(scp, timeout_s=5).send([make("1"), make("2"), make("3")])
        )

    assert [one.outcome for one in answers] == [Outcome.ACCEPTED] * 3
    assert at_answer[0] == ["1.dcm", "2.dcm"]
    assert opened == ["1.dcm", "2.dcm", "3.dcm"]


def test_one_association_serves_the_rounds_of_a_courier(make):
    with ScriptedScp() as scp:
        sender = sender_to(scp, keep_open_s=60)
        for name in "123":
            list(sender.send([make(name)]))
            sender.rest()
        open_then = scp.released
        sender.close()
        assert eventually(lambda: scp.released == 1)

    assert (len(scp.visits), open_then) == (1, 0)


def test_an_association_without_work_is_released_after_its_time(make):
    with ScriptedScp() as scp:
        sender = sender_to(scp, keep_open_s=1.5)
        list(sender.send([make()]))
        sender.rest()
        assert scp.released == 0
        time.sleep(1.6)
        sender.rest()
        assert eventually(lambda: scp.released == 1)


def test_another_class_than_was_proposed_needs_a_new_association(make):
    with ScriptedScp() as scp:
        sender = sender_to(scp, keep_open_s=60)
        list(sender.send([make("1")]))
        other = make("2", sop_class_uid="1.2.840.10008.5.1.4.1.1.4")
        (answer,) = sender.send([other])
        sender.close()

    assert answer.outcome is Outcome.ACCEPTED
    assert (len(scp.visits), scp.released) == (2, 2)


@pytest.mark.parametrize("end", ["reset", "abort", "release", "silent"])
def test_a_kept_association_that_died_costs_no_attempt(make, end):
    def answer(visit: Visit, request: Request, context_id: int) -> None:
        if visit.number == 0 and len(scp.received) > 1:
            return  # it hears and says nothing any more
        accept(visit, request, context_id)
        if visit.number:
            return
        if end == "reset":
            visit.connection.close()
        elif end == "abort":
            visit.abort()
        elif end == "release":
            visit.send(bytes((5, 0, 0, 0, 0, 4, 0, 0, 0, 0)))

    with ScriptedScp(answer) as scp:
        patience_s = 2.0 if end == "silent" else 10.0
        sender = sender_to(scp, timeout_s=patience_s, keep_open_s=60)
        list(sender.send([make("1")]))
        time.sleep(0.05)
        (second,) = sender.send([make("2")])
        sender.close()

    assert second.outcome is Outcome.ACCEPTED
    assert len(scp.visits) == 2


def test_a_refusal_over_a_kept_association_is_not_sent_again(make):
    def answer(visit: Visit, request: Request, context_id: int) -> None:
        visit.send(answer_bytes(request, context_id, 0xA700))

    with ScriptedScp(answer) as scp:
        sender = sender_to(scp, keep_open_s=60)
        list(sender.send([make("1")]))
        (second,) = sender.send([make("2")])
        sender.close()

    assert second.outcome is Outcome.UNAVAILABLE
    assert len(scp.received) == 2


def test_a_class_that_one_peer_refuses_takes_no_other_with_it(make):
    with ScriptedScp() as scp:
        scp.refused.add("1.2.840.10008.5.1.4.1.1.4")
        refused = make("1", sop_class_uid="1.2.840.10008.5.1.4.1.1.4")
        first, second = send(scp, refused, make("2"))

    assert first.outcome is Outcome.REFUSED
    assert second.outcome is Outcome.ACCEPTED


def test_an_echo_without_an_answer_says_so():
    with ScriptedScp(lambda visit, *_: visit.abort()) as scp:
        result = echo("127.0.0.1", scp.port, called="A", calling="B", timeout_s=5)

    assert not result.ok
    assert "no answer to C-ECHO: it aborted the association" in result.words


SEND_ONE = """
import sys
from pathlib import Path
{preparation}
before = peak()
(answer,) = {sender}.send([OutgoingReport(Path(sys.argv[2]), CT, UID, EXPLICIT)])
print(answer.outcome.value, peak() - before)
"""
PREPARATION = """
from dicom_node.senders.c_store import CStoreSender
from dicom_node.senders.negotiation import Peer
from dicom_node.senders.sender import OutgoingReport
from dicom_node.senders.stow_rs import StowSender
CT, UID = "1.2.840.10008.5.1.4.1.1.2", "1.2.3.1"
EXPLICIT = "1.2.840.10008.1.2.1"
def peak():
    status = Path("/proc/self/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024
"""
SENDERS = {
    "C-STORE": "CStoreSender(Peer('127.0.0.1', int(sys.argv[1]), 'A', 'B', 20))",
    "STOW-RS": "StowSender(f'http://127.0.0.1:{sys.argv[1]}/', timeout_s=20)",
}


@pytest.mark.skipif(
    not Path("/proc/self/status").exists(), reason="peak memory is read from /proc"
)
@pytest.mark.parametrize("kind", ["C-STORE", "STOW-RS"])
def test_an_object_of_any_size_is_sent_in_the_same_memory(make, kind):
    size = 300_000_000
    report = make(size=0)
    with report.path.open("r+b") as file:
        file.truncate(size)  # zeros that take no place on the disk
    with (
        DiscardingHttp()
        if kind == "STOW-RS"
        else ScriptedScp(maximum_length=131072, keep=False) as peer
    ):
        code = SEND_ONE.format(preparation=PREPARATION, sender=SENDERS[kind])
        run = subprocess.run(
            [sys.executable, "-c", code, str(peer.port), str(report.path)],
            check=True,
            capture_output=True,
            text=True,
            timeout=60,
        )
    outcome, grown = run.stdout.split()

    assert outcome == "accepted"
    assert sum(peer.sizes) > size - 1000
    assert int(grown) < 16_000_000


class DiscardingHttp:
    """An HTTP server that counts the body of one request and says 200."""

    def __init__(self) -> None:
        import threading

        self.sizes: list[int] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def __enter__(self) -> "DiscardingHttp":
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.join(20)
        self._listener.close()

    def _serve(self) -> None:
        connection, _ = self._listener.accept()
        with connection:
            size, tail = 0, b""
            while not tail.endswith(b"0\r\n\r\n"):
                data = connection.recv(1 << 18)
                size += len(data)
                tail = (tail + data)[-8:]
            self.sizes.append(size)
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
